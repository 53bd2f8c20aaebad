//! Snapshots of the keyspace: to RDB files and DUMP payloads and back.
//!
//! [`convert`] turns values into the parts that `redstart_persistence` writes, and parts into values; [`save`] writes a
//! file, [`load`] reads one, [`commands`] writes the data set as commands, [`state`] remembers how that went, [`digest`] sums a data set up for DEBUG DIGEST.

pub mod commands;
pub mod convert;
pub mod digest;
pub mod load;
pub mod save;
pub mod state;
