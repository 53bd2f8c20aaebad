//! Redstart: a Redis-protocol server.

pub mod banner;
pub mod config;
pub mod log;
pub mod selftest;
pub mod util;
