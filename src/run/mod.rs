//! A server's life: start, loading, periodic work, changes of its configuration, restart and end.

pub mod client_eviction;
pub mod config_set;
pub mod crash;
pub mod cron;
pub mod load;
pub mod main_loop;
pub mod restart;
pub mod shutdown;
pub mod start;
pub mod watchdog;
