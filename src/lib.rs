//! Redstart: a Redis-protocol server.

pub mod banner;
pub mod config;
pub mod histogram;
pub mod latency;
pub mod log;
pub mod process;
pub mod selftest;
pub mod slowlog;
pub mod util;
