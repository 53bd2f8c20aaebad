//! Redstart: a Redis-protocol server.

pub mod util;
