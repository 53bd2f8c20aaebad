//! `redis-check-rdb` and `redis-check-aof`: the same questions, answers and exit codes as those of Redis 7.2.
//!
//! Differences: versions of RDB up to 12 are accepted, as the server does; no line of `rdb.c` is named; the AOF check
//! also verifies the checksum lines of our own logs.

mod aof;
mod rdb;

pub use aof::{AofCheck, aof_main, check_aof};
pub use rdb::{RdbCheck, check_rdb, rdb_main};
