//! Snapshots of the keyspace: to RDB files and DUMP payloads and back.
//!
//! [`convert`] turns values into the parts that `redstart_persistence` writes, and parts into values; [`save`] writes a
//! file, [`load`] reads one, [`commands`] writes the data set as commands, [`walker`] takes a snapshot while clients
//! write, [`state`] remembers how that went, [`digest`] sums a data set up for DEBUG DIGEST.

pub mod commands;
pub mod convert;
pub mod digest;
pub mod load;
pub mod save;
pub mod state;
pub mod walker;

use crate::util::rng::Random;
use std::time::Duration;

/// Sleeps between two keys, so that tests can look at a load under way: for `micros`, or, if that is negative,
/// for a microsecond in one of `-micros` calls. Source: Redis 7.2 `key-load-delay`.
pub fn dawdle(micros: i32, random: &Random) {
    let micros = match micros {
        0.. => micros.unsigned_abs().into(),
        _ => u64::from(random.next_u64().is_multiple_of(micros.unsigned_abs().into())),
    };
    if micros > 0 {
        std::thread::sleep(Duration::from_micros(micros));
    }
}
