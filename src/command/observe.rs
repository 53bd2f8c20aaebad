//! What is noted of every command that has ended, in whichever way: the counters behind INFO and LATENCY HISTOGRAM, the
//! slow log and the latency monitor. MONITOR's lines are made in `monitor.rs`.
//!
//! | how it ends | who notes it |
//! |---|---|
//! | its handler returns: for a client, in EXEC, in a script, for a waiter that is served | `call::run_handler` |
//! | its wait ends otherwise: timeout, CLIENT UNBLOCK, WAIT's acknowledgement, another thread's answer, disconnection | [`Server::note_wait`] |
//! | it is refused before it runs | [`Server::note_rejected`] |

use crate::clients::Client;
use crate::command::redact;
use crate::command::spec::{ADMIN, FAST, SKIP_SLOWLOG};
use crate::command::table::{CommandRef, Registry};
use crate::config::Config;
use crate::keyspace::waiters::{Wait, Waiter};
use crate::server::Server;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A command that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub command: CommandRef,
    /// As it was sent.
    pub argv: &'a [&'a [u8]],
    /// Who sent it; none for a script's command.
    pub client: Option<&'a Client>,
    /// How long it ran, without the time it only waited; none if that was not measured.
    pub nanos: Option<u64>,
}

impl Config {
    /// Whether anything is done with how long a command runs beyond adding it up. If not, a script's commands are not
    /// timed: reading the clock twice is a good part of what a small one takes.
    #[inline]
    pub fn wants_durations(&self) -> bool {
        self.latency_tracking || self.slowlog_log_slower_than >= 0 || self.latency_monitor_threshold > 0
    }
}

impl Server {
    /// Notes a command that has run, whatever it has answered.
    #[inline]
    pub fn note_ended(&self, config: &Config, worker: usize, now_ms: i64, ended: &Ended<'_>) {
        let stats = self.stats.worker(worker);
        let counters = &stats.commands[usize::from(ended.command.id)];
        counters.calls.add(1);
        stats.commands_processed.add(1);
        let Some(nanos) = ended.nanos else { return };
        counters.nanos.add(nanos);
        let changed;
        let config = if ended.command.command.has(ADMIN) {
            // What CONFIG SET has just changed holds for CONFIG SET itself.
            changed = self.config.load();
            &*changed
        } else {
            config
        };
        if config.latency_tracking {
            counters.latency.record(nanos);
        }
        let limit_us = config.slowlog_log_slower_than;
        let is_slow = limit_us >= 0 && nanos >= limit_us.unsigned_abs().saturating_mul(1000);
        if is_slow || config.latency_monitor_threshold > 0 {
            self.note_slow(config, now_ms, ended, nanos);
        }
    }

    /// Enters a command into the slow log and the latency monitor, if it took long enough.
    #[cold]
    fn note_slow(&self, config: &Config, now_ms: i64, ended: &Ended<'_>, nanos: u64) {
        let micros = i64::try_from(nanos / 1000).unwrap_or(i64::MAX);
        if (0..=micros).contains(&config.slowlog_log_slower_than) {
            self.enter_slow(config, now_ms, ended, micros);
        }
        if config.latency_monitor_threshold > 0 {
            let event = if ended.command.command.has(FAST) { "fast-command" } else { "command" };
            self.note_latency(event, Duration::from_nanos(nanos), config, now_ms);
        }
    }

    fn enter_slow(&self, config: &Config, now_ms: i64, ended: &Ended<'_>, micros: i64) {
        if ended.command.command.has(SKIP_SLOWLOG) {
            return;
        }
        let argv = redact::shown(ended.command.command, ended.argv);
        let addr = ended.client.map(|client| client.addr.clone()).unwrap_or_default();
        let name = ended.client.map(|client| client.names().name).unwrap_or_default();
        self.slowlog.push(config.slowlog_max_len, now_ms / 1000, micros, &argv, addr, &name);
    }

    /// Notes a command that was answered with an error; `line` is the error's text.
    pub fn note_failed(&self, worker: usize, command: CommandRef, line: &[u8]) {
        self.stats.worker(worker).commands[usize::from(command.id)].failed.add(1);
        self.note_error(worker, line);
    }

    /// Notes a command that was refused before it ran; there may be no command of that name.
    pub fn note_rejected(&self, worker: usize, command: Option<CommandRef>, line: &[u8]) {
        if let Some(command) = command {
            self.stats.worker(worker).commands[usize::from(command.id)].rejected.add(1);
        }
        self.note_error(worker, line);
    }

    /// Notes an error reply that is no command's own.
    pub fn note_error(&self, worker: usize, line: &[u8]) {
        self.stats.worker(worker).error_replies.add(1);
        self.errors.count(line);
    }

    /// Notes a command whose wait has ended without its being run again, on the worker of its connection.
    pub fn note_wait(&self, registry: &Registry, worker: usize, waiter: &Waiter, error: Option<&[u8]>) {
        let command = registry.command(waiter.command);
        if let Some(line) = error {
            self.note_failed(worker, command, line);
        }
        let argv: Vec<&[u8]> = waiter.sent().iter().map(|arg| &**arg).collect();
        let ran = waiter.ran_nanos.load(Ordering::Relaxed);
        // What another thread did for it is work, not waiting.
        let apart = if let Wait::Thread(since) = waiter.wait { since.elapsed().as_nanos() as u64 } else { 0 };
        let ended = Ended { command, argv: &argv, client: Some(&waiter.client), nanos: Some(ran + apart) };
        self.note_ended(&self.config.load(), worker, self.clock.now_ms(), &ended);
    }
}
