//! Redstart: a Redis-protocol server.

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: memory::allocator::Allocator = memory::allocator::Allocator;

pub mod acl;
pub mod aof;
pub mod check;
pub mod clients;
pub mod cluster;
pub mod command;
pub mod commands;
pub mod config;
pub mod core;
pub mod feed;
pub mod keyspace;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod os;
pub mod program;
pub mod replication;
pub mod resp;
pub mod run;
pub mod scripts;
pub mod server;
pub mod snapshot;
pub mod socket;
pub mod util;
