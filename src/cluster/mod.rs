//! Keys on their way to other servers.

pub mod migration;
