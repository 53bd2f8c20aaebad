//! Redstart: a Redis-protocol server. [`Server::start`] runs one in this process; several may live side by side.
//!
//! ```no_run
//! use redstart::{Clock, Options, Server};
//!
//! let clock = Clock::stopped_at(1_700_000_000_000);
//! let running = Server::start(Options { clock: clock.clone(), ..Options::default() })?;
//! clock.advance_ms(24 * 3600 * 1000);
//! running.shutdown();
//! # Ok::<(), String>(())
//! ```
//!
//! # Layers
//!
//! A module uses those above it in this table, and no other (`tests/tidy.rs`).
//!
//! | module | what |
//! |---|---|
//! | `util`, `resp`, `config` | clock, random numbers, text, globs; the wire; the directives |
//! | `memory`, `os`, `metrics` | where bytes come from and how they are freed; the process and its log; what is counted |
//! | `acl`, `clients`, `socket` | rights; the register of connected clients and their mailboxes; bytes in and out, plain or under TLS |
//! | `feed`, `keyspace` | the ordered log of effects; the only owner of the shards' locks |
//! | `scripts` | the Lua engines |
//! | `core` | what everything in a server works with |
//! | `snapshot`, `aof`, `check`, `replication`, `cluster` | walkers of the keyspace and readers of the feed |
//! | `server` | one server: a field a register |
//! | `command`, `commands` | one command, from its gate to its effects; the families, one file each |
//! | `net` | connections, workers, listeners |
//! | `run`, `program` | the life of a server; the `redis-server` binary |
//!
//! Values (`redstart-types`), Lua (`redstart-script`) and file formats (`redstart-persistence`) are crates of their own.
//!
//! # Threads
//!
//! `io-threads` workers, on which connections live; the main loop, which waits for nothing that a script can hold; the
//! periodic work (`run/cron.rs`); the log's two threads; the reclaimer, which frees large values; and one for each load, save,
//! rewrite, full sync or migration (`core/background.rs`).
//!
//! # Locks
//!
//! A connection, then shards in ascending order and all at once (`keyspace/lock.rs`), then the registers, each held for one
//! look or change, and the feed's readers last. No lock is held over an `.await`, for handlers are plain functions.
//!
//! # Where do I change ...
//!
//! | what | where |
//! |---|---|
//! | a command | its family in `commands/`: handler, row, tests |
//! | what is checked before a command | `command/gate.rs` |
//! | what follows from a write | `command/ctx.rs` (`changed`), `command/serve.rs` |
//! | a directive | `config/directive.rs`; what it does when it is changed, `run/config_set.rs` |
//! | INFO | `commands/info.rs` |
//! | an RDB or AOF format | `persistence/`; how values become one, `snapshot/` |
//! | how a type is kept in memory | `types/` |
//! | what Lua sees | `script/`; `redis.call`, `commands/script_host.rs` |
//! | start and end | `run/start.rs`, `run/shutdown.rs`; the command line, `program/` and `config/cli.rs` |
//!
//! The modules are public for tests, fuzzers and benches; what is documented here is the interface.

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: memory::allocator::Allocator = memory::allocator::Allocator;

#[doc(hidden)]
pub mod acl;
#[doc(hidden)]
pub mod aof;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod clients;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod command;
#[doc(hidden)]
pub mod commands;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod core;
#[doc(hidden)]
pub mod feed;
#[doc(hidden)]
pub mod keyspace;
#[doc(hidden)]
pub mod memory;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod os;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod replication;
#[doc(hidden)]
pub mod resp;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod scripts;
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod snapshot;
#[doc(hidden)]
pub mod socket;
#[doc(hidden)]
pub mod util;

pub use config::Config;
pub use os::log::Log;
pub use run::start::{Options, Running};
pub use server::Server;
pub use util::clock::Clock;
