//! Counters. Each worker counts on its own lines; readers add them up.

use crate::metrics::histogram::Histogram;
use crate::util::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The counters of one server.
#[derive(Debug)]
pub struct Stats {
    workers: Box<[WorkerStats]>,
    pub connections_received: AtomicU64,
    pub rejected_connections: AtomicU64,
    /// Changes since the last save.
    pub dirty: AtomicI64,
    pub pubsub_messages: AtomicU64,
    pub query_buffer_disconnections: AtomicU64,
    pub output_buffer_disconnections: AtomicU64,
    pub evicted_clients: AtomicU64,
    /// Since when more memory has been used than `maxmemory` (Unix time in microseconds), 0 when less is used.
    pub memory_exceeded_since_us: AtomicI64,
    /// How long that was so before, in microseconds.
    pub memory_exceeded_us: AtomicU64,
    pub cron_ticks: AtomicU64,
    pub cron_nanos: AtomicU64,
    pub longest_cron_us: AtomicU64,
    /// How long the periodic deletion of keys whose time was over has taken, and how often it had to leave some.
    pub expire_nanos: AtomicU64,
    pub expire_cut_short: AtomicU64,
    /// Packed parts of RESTORE payloads that were checked element by element.
    pub sanitized_payloads: AtomicU64,
}

/// One worker's counters; the last three slots belong to the main loop, the periodic work and MIGRATE's threads.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    pub commands_processed: Counter,
    pub net_input_bytes: Counter,
    pub net_output_bytes: Counter,
    pub reads: Counter,
    pub writes: Counter,
    pub keyspace_hits: Counter,
    pub keyspace_misses: Counter,
    pub expired_keys: Counter,
    pub evicted_keys: Counter,
    pub error_replies: Counter,
    /// The most commands that were run of one read.
    pub most_commands_a_batch: Counter,
    pub commands: Box<[CommandStats]>,
}

/// What happened to one command on one worker.
#[derive(Debug, Default)]
pub struct CommandStats {
    pub calls: Counter,
    /// Run time in nanoseconds.
    pub nanos: Counter,
    /// Refused before running (arity, ACL, OOM).
    pub rejected: Counter,
    /// Answered with an error.
    pub failed: Counter,
    /// Run times, with `latency-tracking`.
    pub latency: Histogram,
}

/// A counter that one thread at a time adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; cheaper than an atomic addition because no other thread adds to this counter.
    #[inline]
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }

    /// Raises the count to `to` if it is lower.
    #[inline]
    pub fn raise(&self, to: u64) {
        if to > self.value() {
            self.0.store(to, Ordering::Relaxed);
        }
    }

    /// The count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Back to 0 (CONFIG RESETSTAT).
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Stats {
    /// Counters for `workers` workers, the main loop, the periodic work and MIGRATE's threads, and for `commands` commands.
    pub fn new(workers: usize, commands: usize) -> Self {
        Stats {
            workers: (0..workers + 3).map(|_| WorkerStats::new(commands)).collect(),
            connections_received: AtomicU64::new(0),
            rejected_connections: AtomicU64::new(0),
            dirty: AtomicI64::new(0),
            pubsub_messages: AtomicU64::new(0),
            query_buffer_disconnections: AtomicU64::new(0),
            output_buffer_disconnections: AtomicU64::new(0),
            evicted_clients: AtomicU64::new(0),
            memory_exceeded_since_us: AtomicI64::new(0),
            memory_exceeded_us: AtomicU64::new(0),
            cron_ticks: AtomicU64::new(0),
            cron_nanos: AtomicU64::new(0),
            longest_cron_us: AtomicU64::new(0),
            expire_nanos: AtomicU64::new(0),
            expire_cut_short: AtomicU64::new(0),
            sanitized_payloads: AtomicU64::new(0),
        }
    }

    /// One worker's counters.
    #[inline]
    pub fn worker(&self, worker: usize) -> &WorkerStats {
        &self.workers[worker]
    }

    /// The counters of the periodic work.
    pub fn own(&self) -> &WorkerStats {
        &self.workers[self.workers.len() - 2]
    }

    /// A counter's sum over all workers.
    pub fn sum(&self, counter: impl Fn(&WorkerStats) -> &Counter) -> u64 {
        self.workers.iter().map(|worker| counter(worker).value()).sum()
    }

    /// Counts from 0 again (CONFIG RESETSTAT). What a worker adds just now may survive.
    pub fn reset(&self) {
        let totals = [
            &self.connections_received,
            &self.rejected_connections,
            &self.pubsub_messages,
            &self.query_buffer_disconnections,
            &self.output_buffer_disconnections,
            &self.evicted_clients,
            &self.cron_ticks,
            &self.cron_nanos,
            &self.longest_cron_us,
            &self.expire_cut_short,
            &self.sanitized_payloads,
        ];
        totals.into_iter().for_each(|total| total.store(0, Ordering::Relaxed));
        self.workers.iter().for_each(WorkerStats::reset);
    }

    /// Which counters are those of MIGRATE's threads.
    pub fn migration_worker(&self) -> usize {
        self.workers.len() - 1
    }

    /// Every worker's counters.
    pub fn workers(&self) -> &[WorkerStats] {
        &self.workers
    }
}

impl WorkerStats {
    fn new(commands: usize) -> Self {
        let counter = Counter::default;
        WorkerStats {
            commands_processed: counter(),
            net_input_bytes: counter(),
            net_output_bytes: counter(),
            reads: counter(),
            writes: counter(),
            keyspace_hits: counter(),
            keyspace_misses: counter(),
            expired_keys: counter(),
            evicted_keys: counter(),
            error_replies: counter(),
            most_commands_a_batch: counter(),
            commands: (0..commands).map(|_| CommandStats::default()).collect(),
        }
    }

    fn reset(&self) {
        let counters = [
            &self.commands_processed,
            &self.net_input_bytes,
            &self.net_output_bytes,
            &self.reads,
            &self.writes,
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.expired_keys,
            &self.evicted_keys,
            &self.error_replies,
            &self.most_commands_a_batch,
        ];
        counters.into_iter().for_each(Counter::reset);
        for CommandStats { calls, nanos, rejected, failed, latency } in &self.commands {
            [calls, nanos, rejected, failed].into_iter().for_each(Counter::reset);
            latency.reset();
        }
    }
}

/// How often each error code was answered (INFO errorstats).
#[derive(Debug, Default)]
pub struct ErrorStats {
    counts: Mutex<BTreeMap<Vec<u8>, u64>>,
}

impl ErrorStats {
    /// Counts an error by its code, the first word of `text`; one that has none is an `ERR`.
    pub fn count(&self, text: &[u8]) {
        let begin = &text[..text.len().min(CODE_BYTES + 1)];
        let code = begin.iter().position(|byte| *byte == b' ').map_or(&b"ERR"[..], |end| &begin[..end]);
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(code) {
            *count += 1;
        } else if counts.len() < ERROR_CODES_MAX {
            counts.insert(code.to_owned(), 1);
        }
    }

    /// All codes with their counts.
    pub fn all(&self) -> BTreeMap<Vec<u8>, u64> {
        self.counts.lock().clone()
    }

    /// Forgets all (CONFIG RESETSTAT).
    pub fn reset(&self) {
        self.counts.lock().clear();
    }
}

/// Codes counted apart: scripts can make up any number of them.
const ERROR_CODES_MAX: usize = 128;

/// A word longer than this is no code.
const CODE_BYTES: usize = 30;
