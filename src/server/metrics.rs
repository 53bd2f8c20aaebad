//! What the server measures of itself, for INFO and LATENCY.

use crate::config::Config;
use crate::memory::AllocatorStats;
use crate::metrics::histogram::Distribution;
use crate::metrics::sampler::Metric;
use crate::server::Server;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Server {
    /// Reads the allocator's counts and remembers the highest.
    pub fn read_memory(&self) -> AllocatorStats {
        let memory = AllocatorStats::read();
        self.used_memory.set(memory.allocated, self.clock.now_ms());
        self.peak_memory.fetch_max(memory.allocated.saturating_sub(self.lua_bytes() as u64), Ordering::Relaxed);
        memory
    }

    /// Bytes in use that are no reason to evict keys or to refuse writes: memory that comes back by itself, or that
    /// evicting would only make more of. That is what waits for a slow replica (beyond the backlog) or for a slow log, as
    /// in Redis; what a snapshot keeps of old values, invalidations on their way to clients, and large values that wait to be
    /// freed; and Lua's states, which have a limit of their own: else who may only run scripts would have the keys of others evicted.
    pub fn uncounted_bytes(&self) -> u64 {
        let passing = self.persistence.kept.bytes() + self.clients.undelivered_bytes();
        self.queued_bytes() + self.reclaimer.pending_bytes() + (passing + self.lua_bytes()) as u64
    }

    /// Bytes that wait for slow replicas and for a slow log: INFO's `mem_not_counted_for_evict`.
    pub fn queued_bytes(&self) -> u64 {
        self.replication.stream.beyond_backlog() + self.aof.queue.len() as u64
    }

    /// Bytes of the Lua states of scripts and functions, which are not part of `used_memory`.
    pub fn lua_bytes(&self) -> usize {
        self.scripts.lua_bytes() + self.functions.lua_bytes()
    }

    /// Notes one round of the cron, and takes the samples of the rates.
    pub fn note_cron(&self, took: Duration, now_ms: i64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.stats.cron_ticks.fetch_add(1, Ordering::Relaxed);
        self.stats.cron_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.stats.longest_cron_us.fetch_max(micros.max(1), Ordering::Relaxed);
        let mut counts = [0; 5];
        counts[Metric::Commands as usize] = self.stats.sum(|worker| &worker.commands_processed);
        counts[Metric::NetInput as usize] = self.stats.sum(|worker| &worker.net_input_bytes);
        counts[Metric::NetOutput as usize] = self.stats.sum(|worker| &worker.net_output_bytes);
        counts[Metric::Cycles as usize] = self.cycles();
        counts[Metric::CycleMicros as usize] = self.command_micros() + self.cron_micros();
        self.sampler.sample(now_ms, counts);
    }

    /// Enters an event into the latency monitor if it took long enough.
    pub fn note_latency(&self, event: &'static str, took: Duration, config: &Config, now_ms: i64) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let threshold_ms = config.latency_monitor_threshold;
        if threshold_ms > 0 && took_ms >= threshold_ms {
            self.latency.add(event, took_ms, now_ms / 1000);
        }
    }

    /// Rounds of work so far: batches of commands, and ticks of the cron.
    pub fn cycles(&self) -> u64 {
        self.stats.cron_ticks.load(Ordering::Relaxed) + self.stats.sum(|worker| &worker.reads)
    }

    /// Microseconds spent in commands.
    pub fn command_micros(&self) -> u64 {
        let nanos = |worker: &crate::metrics::stats::WorkerStats| -> u64 {
            worker.commands.iter().map(|command| command.nanos.value()).sum()
        };
        self.stats.workers().iter().map(nanos).sum::<u64>() / 1000
    }

    /// Microseconds spent in the cron.
    pub fn cron_micros(&self) -> u64 {
        self.stats.cron_nanos.load(Ordering::Relaxed) / 1000
    }

    /// Run times of a command, by its id, on all workers.
    pub fn latency_of(&self, command_id: usize) -> Distribution {
        let mut distribution = Distribution::default();
        self.stats.workers().iter().for_each(|worker| distribution.add(&worker.commands[command_id].latency));
        distribution
    }
}
