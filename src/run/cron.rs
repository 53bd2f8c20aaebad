//! The periodic work of a server, on a thread of its own: expiry, eviction, save points, idle clients, statistics.
//!
//! It may wait for shards, and so for a script that never ends. Nobody waits for it: who ends such a script is the main
//! loop. What could not be done is done at a later tick, because what is due is a state: a save point stays reached.

use crate::clients::Client;
use crate::command::call::Engine;
use crate::command::table::Registry;
use crate::config::Config;
use crate::core::background;
use crate::keyspace::Key;
use crate::keyspace::lock::ShardSet;
use crate::server::Server;
use redstart_types::table::{Keyed, hash_key};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The periodic work of one server.
#[derive(Debug)]
pub struct Cron {
    server: Arc<Server>,
    engine: Engine,
    /// Since when clients' largest replies have been noted, Unix ms.
    peaks_since_ms: i64,
}

/// More unused room than this in a buffer of requests is given back.
const LARGE_ROOM: usize = 32 * 1024;

/// Starts the thread, which counts on `worker`'s counters and ends with the server.
pub fn start(server: Arc<Server>, registry: Arc<Registry>, worker: usize) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    background::spawn("cron", move |may_wait| {
        server.reclaimer.collect_here();
        let engine = Engine::new(server.clone(), registry, worker, Some(may_wait));
        let peaks_since_ms = engine.now_ms;
        runtime.block_on(Cron { server, engine, peaks_since_ms }.run());
    })
}

/// Time between two ticks: `hz` a second, and at least 10.
pub fn period(config: &Config) -> Duration {
    Duration::from_millis(1000 / u64::from(config.hz.clamp(10, 500)))
}

/// Ticks from one period on.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

impl Cron {
    async fn run(mut self) {
        let server = self.server.clone();
        let mut tick = ticks(period(&self.engine.config));
        loop {
            tokio::select! {
                () = server.stop.requested() => return,
                _ = tick.tick() => self.tick(),
            }
            let period = period(&self.engine.config);
            if tick.period() != period {
                tick = ticks(period);
            }
        }
    }

    /// One round.
    fn tick(&mut self) {
        let began = Instant::now();
        self.engine.begin_batch();
        if !self.server.switches.cron_paused() {
            self.work();
        }
        self.server.note_cron(began.elapsed(), self.engine.now_ms);
    }

    fn work(&mut self) {
        self.server.read_memory();
        if self.server.busy.is_debugged() || self.server.busy.is_busy() {
            return;
        }
        self.server.watches.leave_ended(&self.server.shards, |set| self.engine.shards(&self.server, set));
        let may_expire =
            self.server.switches.active_expire() && self.server.pause.until_ms(self.engine.now_ms).is_none();
        if may_expire && !self.server.loading.load(Ordering::Acquire) {
            let began = Instant::now();
            self.expire();
            self.server.stats.expire_nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
            self.server.note_latency("expire-cycle", began.elapsed(), &self.engine.config, self.engine.now_ms);
        }
        self.sweep();
        self.engine.make_room();
        // In steps, so that others get at the table meanwhile.
        while self.server.tracking.shrink(self.engine.config.tracking_table_max_keys, &self.server.clients) {}
        self.close_idle_clients();
        self.look_at_buffers();
        self.server.evict_clients();
        self.save();
        self.server.migrations.close_unused();
        crate::replication::tick(&self.server.replication, &self.engine.config, self.engine.now_ms);
        let now_s = self.engine.now_ms / 1000;
        if self.server.loading.load(Ordering::Acquire) {
            if let Some(report) = self.server.persistence.loading.report(now_s.unsigned_abs()) {
                self.server.log.notice(report);
            }
        } else {
            self.server.aof.tick(&self.engine.config, now_s);
        }
    }

    /// Deletes keys whose time is over, shard by shard, for at most a quarter of the time between two ticks.
    fn expire(&mut self) {
        let server = self.server.clone();
        let until = Instant::now() + period(&self.engine.config) / 4;
        for idx in 0..server.shards.count() {
            while self.expire_some(&server, idx) {
                if Instant::now() > until {
                    server.stats.expire_cut_short.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// Deletes a few keys of one shard; whether more are due.
    fn expire_some(&mut self, server: &Arc<Server>, idx: usize) -> bool {
        const AT_ONCE: usize = 64;
        let Some(mut locked) = self.engine.lock_with_waiters(server, ShardSet::of(idx)) else { return false };
        let now_ms = self.engine.now_ms;
        let mut left = AT_ONCE;
        let databases = server.config.load().databases as usize;
        for index in 0..databases {
            while left > 0 {
                let shard = locked.numbered(idx);
                let due = shard.and_then(|shard| shard.dbs[index].first_to_expire());
                let Some(name) = due.filter(|(at, _)| *at <= now_ms).map(|(_, entry)| entry.key().to_vec()) else {
                    break;
                };
                let key = Key { bytes: &name, hash: hash_key(server.shards.seed(), &name) };
                self.engine.with_db(&mut locked, index, |ctx| ctx.db.expire(key));
                left -= 1;
            }
        }
        self.engine.count();
        left == 0
    }

    /// Frees what range removals have left in sorted sets, shard by shard, for at most half of the time between two ticks,
    /// resting as long as it works.
    fn sweep(&self) {
        let server = &self.server;
        let until = Instant::now() + period(&self.engine.config) / 2;
        for idx in 0..server.shards.count() {
            loop {
                let began = Instant::now();
                if began > until || !self.engine.sweep(idx) {
                    break;
                }
                std::thread::sleep(began.elapsed());
            }
        }
    }

    /// Starts a save in the background if one is scheduled or a save point is reached.
    fn save(&mut self) {
        let server = &self.server;
        let now_s = self.engine.now_ms / 1000;
        let dirty = server.stats.dirty.load(Ordering::Relaxed);
        if server.loading.load(Ordering::Acquire)
            || server.aof.is_rewriting()
            || server.persistence.has_snapshot_under_way()
        {
            return;
        }
        let reached = server.persistence.save_point(&self.engine.config, dirty, now_s);
        if reached.is_none() && !server.persistence.is_scheduled() {
            return;
        }
        let Some(mut locked) = self.engine.shards(server, server.shards.all()) else { return };
        if let Some((changes, seconds)) = reached {
            server.log.notice(format_args!("{changes} changes in {seconds} seconds. Saving..."));
        }
        crate::snapshot::save::start(&server.core, &server.persistence, &mut locked);
    }

    /// Closes clients that have said nothing for `timeout` seconds.
    fn close_idle_clients(&mut self) {
        let timeout_ms = i64::from(self.engine.config.timeout) * 1000;
        if timeout_ms == 0 {
            return;
        }
        for client in self.server.clients.all() {
            let idle_ms = self.engine.now_ms - client.last_interaction_ms.load(Ordering::Relaxed);
            let is_exempt = client.has(Client::BLOCKED | Client::MONITOR | Client::REPLICA)
                || client.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0);
            if idle_ms > timeout_ms && !is_exempt {
                client.mailbox.put(|letters| letters.kill = true);
            }
        }
    }

    /// Notes how large clients' buffers are, has those given back that are too large, and closes who has
    /// been over a soft limit for too long, though nothing is sent any more.
    fn look_at_buffers(&mut self) {
        let now_ms = self.engine.now_ms;
        let switches = &self.server.switches;
        let forgets_peaks = switches.reply_peak_ms().is_some_and(|ms| now_ms - self.peaks_since_ms >= ms);
        if forgets_peaks {
            self.peaks_since_ms = now_ms;
        }
        let mut most = [0; 2];
        for client in self.server.clients.iter() {
            let [query, room] = [0, 1].map(|part| client.query_buffer[part].load(Ordering::Relaxed));
            let output = client.output_bytes();
            most = [most[0].max(query + room), most[1].max(output)];
            if room > LARGE_ROOM && !switches.buffers_kept() {
                client.mailbox.put(|letters| letters.give_back = true);
            }
            if output > 0 {
                self.server.clients.check_output_limit(&client);
            }
            if forgets_peaks {
                client.output_peak.store(output, Ordering::Relaxed);
            }
        }
        self.server.clients.recent.note(now_ms / 1000, most);
    }
}
