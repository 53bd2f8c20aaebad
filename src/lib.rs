//! Redstart: a Redis-protocol server.

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

pub mod acl;
pub mod allocator;
pub mod aof;
pub mod background;
pub mod banner;
pub mod check;
pub mod client_eviction;
pub mod clients;
pub mod command;
pub mod commands;
pub mod config;
pub mod core;
pub mod crash;
pub mod cron;
pub mod dataset;
pub mod feed;
pub mod histogram;
pub mod keyspace;
pub mod latency;
pub mod log;
pub mod main_loop;
pub mod memory;
pub mod metrics;
pub mod migration;
pub mod monitors;
pub mod net;
pub mod process;
pub mod pubsub;
pub mod reclaim;
pub mod reconfigure;
pub mod replication;
pub mod resp;
pub mod restart;
pub mod sampler;
pub mod scripts;
pub mod selftest;
pub mod server;
pub mod shutdown;
pub mod slowlog;
pub mod snapshot;
pub mod socket;
pub mod standalone;
pub mod startup;
pub mod stats;
pub mod stop;
pub mod switches;
pub mod tls;
pub mod tracking;
pub mod util;
pub mod watchdog;
