//! Redstart: a Redis-protocol server.

pub mod banner;
pub mod clients;
pub mod command;
pub mod commands;
pub mod config;
pub mod cron;
pub mod feed;
pub mod histogram;
pub mod keyspace;
pub mod latency;
pub mod log;
pub mod net;
pub mod process;
pub mod pubsub;
pub mod reclaim;
pub mod reconfigure;
pub mod resp;
pub mod selftest;
pub mod server;
pub mod shutdown;
pub mod slowlog;
pub mod standalone;
pub mod startup;
pub mod stats;
pub mod tracking;
pub mod util;
