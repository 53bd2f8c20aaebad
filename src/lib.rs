//! Redstart: a Redis-protocol server.

pub mod config;
pub mod util;
