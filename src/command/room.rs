//! Making room when more memory is used than `maxmemory` allows: eviction, before a command runs and in the cron.

use crate::command::call::Engine;
use crate::config::{KeyspaceEvents, MaxmemoryPolicy};
use crate::keyspace::Key;
use crate::keyspace::evict::{Candidate, Choice, Pool};
use crate::keyspace::lock::ShardSet;
use crate::keyspace::value::{MEMORY_SAMPLES, memory_bytes};
use crate::memory;
use crate::metrics::stats::Stats;
use crate::server::Server;
use rand::RngCore;
use rand::rngs::SmallRng;
use redstart_types::table::hash_key;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What one thread keeps from eviction to eviction.
#[derive(Debug)]
pub struct Evictor {
    pool: Pool,
    /// The policy that the pool was filled under.
    policy: MaxmemoryPolicy,
    rng: SmallRng,
    next_db: usize,
}

/// How an eviction went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A key went; so many bytes came back at once.
    Evicted(u64),
    /// No key may go.
    Nothing,
    /// A script holds the shards.
    Busy,
}

/// After so many evictions the allocator and the clock are asked. Source: Redis 7.2.
const BETWEEN_CHECKS: usize = 16;

/// What threads have added up is believed for so long: memory that other threads free is not in it.
const TRUSTED_MS: i64 = 10;

impl Evictor {
    /// Has not seen a key yet.
    pub fn new(rng: SmallRng) -> Self {
        Evictor { pool: Pool::default(), policy: MaxmemoryPolicy::NoEviction, rng, next_db: 0 }
    }
}

impl Engine {
    /// Evicts keys until no more memory is used than `maxmemory`, or the time for that is over. Whether commands that
    /// need memory may run. No lock may be held.
    pub fn make_room(&mut self) -> bool {
        // Nothing may change during a pause.
        if self.server.pause.until_ms(self.now_ms).is_some() {
            return true;
        }
        let limit = self.config.maxmemory;
        if limit == 0 {
            self.note_room(true);
            return true;
        }
        if self.server.used_memory.update() <= limit {
            self.note_room(true);
            return true;
        }
        let limit = limit.saturating_add(self.server.uncounted_bytes());
        let is_doubtful = self.now_ms - self.server.used_memory.set_at_ms() >= TRUSTED_MS;
        let is_within =
            self.server.used_memory.bytes() <= limit || is_doubtful && self.server.read_memory().allocated <= limit;
        if is_within {
            self.note_room(true);
            return true;
        }
        let has_room = self.config.maxmemory_policy != MaxmemoryPolicy::NoEviction && self.evict(limit);
        self.note_room(has_room && self.server.used_memory.bytes() <= limit);
        has_room
    }

    /// Evicts until as many bytes have come back as are used above `limit`. False when nothing is left to evict. What
    /// evicting itself allocates (invalidation messages, records of the feed) is not looked at: that would never end.
    fn evict(&mut self, limit: u64) -> bool {
        let server = self.server.clone();
        let start = Instant::now();
        let time_limit = time_limit(self.config.maxmemory_eviction_tenacity);
        let is_over_time = || time_limit.is_some_and(|limit| start.elapsed() > limit);
        let too_much = server.used_memory.update().saturating_sub(limit);
        let (mut evicted, mut freed) = (0, 0);
        while freed < too_much {
            match self.evict_one(&server) {
                Outcome::Evicted(bytes) => {
                    evicted += 1;
                    freed += bytes;
                }
                Outcome::Busy => return true,
                Outcome::Nothing => return self.wait_for_memory(&server, limit, &is_over_time),
            }
            if evicted % BETWEEN_CHECKS == 0 {
                if self.config.lazyfree_lazy_eviction && server.read_memory().allocated <= limit {
                    break;
                }
                if is_over_time() {
                    break;
                }
            }
        }
        self.count();
        server.note_latency("eviction-cycle", start.elapsed(), &self.config, self.now_ms);
        true
    }

    fn evict_one(&mut self, server: &Server) -> Outcome {
        loop {
            match self.find_candidates(server) {
                Some(true) => {}
                Some(false) => return Outcome::Nothing,
                None => return Outcome::Busy,
            }
            while let Some(candidate) = self.evictor.pool.pop() {
                match self.evict_candidate(server, &candidate) {
                    // A ghost: deleted or changed since it was seen.
                    Outcome::Nothing => {}
                    other => return other,
                }
            }
        }
    }

    /// Looks at keys of one shard, the first from a random one on that has any that may go; whether there is one. None
    /// when a script holds a shard.
    fn find_candidates(&mut self, server: &Server) -> Option<bool> {
        let policy = self.config.maxmemory_policy;
        let is_random = matches!(policy, MaxmemoryPolicy::AllkeysRandom | MaxmemoryPolicy::VolatileRandom);
        let evictor = &mut self.evictor;
        if evictor.policy != policy || is_random {
            evictor.pool.clear();
            evictor.policy = policy;
        }
        let choice = Choice {
            policy,
            samples: if is_random { 1 } else { self.config.maxmemory_samples as usize },
            lfu_decay_minutes: self.config.lfu_decay_time,
            now_ms: self.now_ms,
        };
        let (shards, databases) = (server.shards.count(), self.config.databases as usize);
        let first = self.evictor.rng.next_u32() as usize;
        for idx in (0..shards).map(|step| (first + step) % shards) {
            let locked = self.shards(server, ShardSet::of(idx))?;
            let Some(shard) = locked.numbered(idx) else { continue };
            let evictor = &mut self.evictor;
            let mut found = false;
            for _ in 0..databases {
                evictor.next_db = (evictor.next_db + 1) % databases;
                found |= evictor.pool.fill(evictor.next_db, &shard.dbs[evictor.next_db], &choice, &mut evictor.rng);
                if found && is_random {
                    break;
                }
            }
            if found {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Deletes a key if it is still there and may go.
    fn evict_candidate(&mut self, server: &Server, candidate: &Candidate) -> Outcome {
        let key = Key { bytes: &candidate.key, hash: hash_key(server.shards.seed(), &candidate.key) };
        let shard = ShardSet::of(server.shards.shard_of(key.hash));
        let Some(mut locked) = self.lock_with_waiters(server, shard) else { return Outcome::Busy };
        let is_volatile = self.config.maxmemory_policy.is_volatile();
        let lazily = self.config.lazyfree_lazy_eviction;
        let mut outcome = Outcome::Nothing;
        let start = Instant::now();
        self.with_db(&mut locked, candidate.db, |ctx| {
            let part = ctx.db.shard_db(key);
            let Some(entry) = part.keys.get(key.hash, key.bytes) else { return };
            if is_volatile && entry.expire_at_ms().is_none() {
                return;
            }
            // A snapshot may take it; then it is freed a little later.
            let later = if part.walked_db().is_some() { memory_bytes(entry, MEMORY_SAMPLES) as u64 } else { 0 };
            ctx.db.effects.lazy_delete = lazily;
            // What is large is freed soon by another thread.
            let before = (memory::balance_of_thread(), server.reclaimer.given_bytes());
            ctx.db.discard_any(key, lazily);
            let given = (server.reclaimer.given_bytes() - before.1) as i64;
            let freed = before.0 - memory::balance_of_thread() + given;
            ctx.db.deleted_by_server(key, KeyspaceEvents::EVICTED, "evicted");
            outcome = Outcome::Evicted(freed.max(0).unsigned_abs().max(later));
        });
        if outcome != Outcome::Nothing {
            server.stats.worker(self.worker).evicted_keys.add(1);
            server.note_latency("eviction-del", start.elapsed(), &self.config, self.now_ms);
        }
        outcome
    }

    /// Nothing is left to evict, but memory may be on its way back: waits for that a moment, and helps.
    fn wait_for_memory(&self, server: &Server, limit: u64, is_over_time: &impl Fn() -> bool) -> bool {
        while server.reclaimer.pending_bytes() > 0 && !is_over_time() {
            if server.read_memory().allocated <= limit {
                return true;
            }
            if !(0..server.shards.count()).any(|idx| self.sweep(idx)) {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        false
    }

    /// Frees, in some 100 microseconds, a part of what range removals have left in sorted sets of one shard; false when
    /// nothing can be freed now.
    pub fn sweep(&self, idx: usize) -> bool {
        const BUCKETS: usize = 128;
        let Some(mut locked) = self.shards(&self.server, ShardSet::of(idx)) else { return false };
        let has_swept = locked.iter_mut().flat_map(|(_, shard)| &mut shard.dbs).any(|db| db.sweep(BUCKETS));
        locked.yield_to_waiters();
        has_swept
    }

    /// Notes since when there has been no room, for INFO's `eviction_exceeded_time`.
    fn note_room(&self, has_room: bool) {
        note_exceeded(&self.server.stats, has_room, self.server.clock.now_us());
    }
}

fn note_exceeded(stats: &Stats, has_room: bool, now_us: i64) {
    let since = &stats.memory_exceeded_since_us;
    if !has_room {
        // Whoever is first sets it.
        let _ = since.compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
    } else if since.load(Ordering::Relaxed) != 0 {
        let began = since.swap(0, Ordering::Relaxed);
        let took = if began == 0 { 0 } else { now_us - began };
        stats.memory_exceeded_us.fetch_add(took.max(0).unsigned_abs(), Ordering::Relaxed);
    }
}

/// How long an eviction may hold up a command; None without limit. Source: Redis 7.2 `maxmemory-eviction-tenacity`.
fn time_limit(tenacity: u32) -> Option<Duration> {
    match tenacity {
        0..=10 => Some(Duration::from_micros(50 * u64::from(tenacity))),
        11..=99 => Some(Duration::from_secs_f64(500e-6 * 1.15_f64.powi(tenacity as i32 - 10))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Checker;

    #[test]
    fn without_room_writes_are_refused() {
        let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
        let mut c = Checker::new();
        c.check("SET k v", "OK");
        c.check("MULTI", "OK");
        c.check("SET k w", "QUEUED");
        c.other("CONFIG SET maxmemory 1", "OK");
        c.check(
            "EXEC",
            "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
        );
        c.check("EXEC", "-ERR EXEC without MULTI");
        c.check("SET k w", oom);
        c.check("GET k", "\"v\"");
        c.check("MULTI", "OK");
        c.check("GET k", oom);
        c.check("DISCARD", "OK");
        c.check("CONFIG SET maxmemory-policy volatile-lru", "OK");
        c.check("SET k w", oom);
        c.check("CONFIG SET maxmemory 0 maxmemory-policy noeviction", "OK");
        c.check("SET k w", "OK");
    }

    #[test]
    fn tenacity() {
        assert_eq!(time_limit(0), Some(Duration::ZERO));
        assert_eq!(time_limit(10), Some(Duration::from_micros(500)));
        assert!(time_limit(99).is_some_and(|limit| limit > Duration::from_secs(100)));
        assert_eq!(time_limit(100), None);
    }

    #[test]
    fn time_without_room_adds_up() {
        let stats = Stats::new(1, 1);
        for (has_room, now_us) in [(true, 1), (false, 10), (false, 20), (true, 30), (true, 40), (false, 50), (true, 55)]
        {
            note_exceeded(&stats, has_room, now_us);
        }
        assert_eq!(stats.memory_exceeded_us.load(Ordering::Relaxed), 25);
    }
}
