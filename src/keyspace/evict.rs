//! Which keys go when memory is short: sampling a shard, and a pool of the best candidates so far.
//!
//! As in Redis, a few keys are looked at and the best of them goes; good candidates that did not go are remembered,
//! so that the choice comes close to a true LRU (LFU) order. Scores: the greater, the sooner a key goes.

use crate::config::MaxmemoryPolicy;
use crate::keyspace::db::{lfu_decayed, lfu_minutes, lru_idle_seconds};
use crate::keyspace::shard::ShardDb;
use crate::keyspace::value::Entry;
use rand::RngCore;
use redstart_types::table::Keyed;

/// How keys are chosen.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    pub policy: MaxmemoryPolicy,
    /// `maxmemory-samples`: how many keys of a database to look at.
    pub samples: usize,
    /// `lfu-decay-time`.
    pub lfu_decay_minutes: u32,
    /// Unix time.
    pub now_ms: i64,
}

/// A key that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    score: u64,
    /// The database it is in.
    pub db: usize,
    pub key: Box<[u8]>,
}

/// The best candidates seen, the best last.
#[derive(Debug, Default)]
pub struct Pool {
    candidates: Vec<Candidate>,
}

/// Source: Redis 7.2 EVPOOL_SIZE.
const POOL_SIZE: usize = 16;

/// Buckets looked at for one sample, before giving up: keys that expire may be few.
const BUCKETS_A_SAMPLE: usize = 16;

impl Pool {
    /// Takes the best candidate out. Its key may have changed or gone meanwhile.
    pub fn pop(&mut self) -> Option<Candidate> {
        self.candidates.pop()
    }

    /// Forgets all (the policy has changed: scores do not compare).
    pub fn clear(&mut self) {
        self.candidates.clear();
    }

    /// Looks at some keys of one shard's part of database `db`; whether there was any that may go.
    pub fn fill(&mut self, db: usize, shard_db: &ShardDb, choice: &Choice, rng: &mut impl RngCore) -> bool {
        let is_volatile = choice.policy.is_volatile();
        if shard_db.keys.is_empty() || (is_volatile && shard_db.expires_len() == 0) {
            return false;
        }
        if choice.policy == MaxmemoryPolicy::VolatileTtl {
            // Ordered by expiry anyway: no need to guess.
            shard_db.expiring_first(choice.samples).for_each(|entry| self.offer(db, entry, choice, rng));
            return true;
        }
        let mut seen = 0;
        for _ in 0..choice.samples * BUCKETS_A_SAMPLE {
            shard_db.keys.sample([rng.next_u64(), rng.next_u64()], |entry| {
                if !is_volatile || entry.expire_at_ms().is_some() {
                    seen += 1;
                    self.offer(db, entry, choice, rng);
                }
            });
            if seen >= choice.samples {
                return true;
            }
        }
        if seen == 0 && is_volatile {
            // One key in very many expires: take those whose time comes first.
            shard_db.expiring_first(choice.samples).for_each(|entry| self.offer(db, entry, choice, rng));
        } else if seen == 0
            && let Some(entry) = shard_db.keys.random(rng)
        {
            self.offer(db, entry, choice, rng);
        }
        true
    }

    fn offer(&mut self, db: usize, entry: &Entry, choice: &Choice, rng: &mut impl RngCore) {
        let score = choice.score(entry, rng);
        if self.candidates.len() == POOL_SIZE && self.candidates[0].score >= score {
            return;
        }
        if self.candidates.iter().any(|other| other.db == db && *other.key == *entry.key()) {
            return;
        }
        if self.candidates.len() == POOL_SIZE {
            self.candidates.remove(0);
        }
        let at = self.candidates.partition_point(|other| other.score < score);
        self.candidates.insert(at, Candidate { score, db, key: entry.key().into() });
    }
}

impl Choice {
    fn score(&self, entry: &Entry, rng: &mut impl RngCore) -> u64 {
        use MaxmemoryPolicy::*;
        match self.policy {
            AllkeysLru | VolatileLru => u64::from(lru_idle_seconds(entry.lru(), self.now_ms)),
            AllkeysLfu | VolatileLfu => {
                let counter = lfu_decayed(entry.lru(), lfu_minutes(self.now_ms), self.lfu_decay_minutes);
                u64::from(u8::MAX - counter)
            }
            VolatileTtl => u64::MAX - entry.expire_at_ms().unwrap_or_default().unsigned_abs(),
            AllkeysRandom | VolatileRandom | NoEviction => rng.next_u64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::shard::Shard;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use redstart_types::entry::NewContent;
    use redstart_types::seed::HashSeed;
    use redstart_types::table::hash_key;

    const SEED: HashSeed = HashSeed::new([7, 8]);
    const NOW_MS: i64 = 1_700_000_000_000;

    fn choice(policy: MaxmemoryPolicy) -> Choice {
        Choice { policy, samples: 5, lfu_decay_minutes: 1, now_ms: NOW_MS }
    }

    /// 1000 keys: key n was used n seconds ago, and every tenth expires in n seconds.
    fn shard() -> Shard {
        let mut shard = Shard::new(1, &SEED);
        for n in 0..1000_i64 {
            let key = n.to_string();
            let expires = (n % 10 == 0).then_some(NOW_MS + n * 1000);
            let mut entry = Entry::new(key.as_bytes(), NewContent::Str(b"x"), expires);
            entry.set_lru(crate::keyspace::db::lru_clock(NOW_MS - n * 1000));
            shard.dbs[0].insert(hash_key(&SEED, key.as_bytes()), entry);
        }
        shard
    }

    fn picks(policy: MaxmemoryPolicy, rounds: usize) -> Vec<i64> {
        let (mut shard, mut pool) = (shard(), Pool::default());
        let mut rng = SmallRng::seed_from_u64(1);
        let mut pick = || {
            assert!(pool.fill(0, &shard.dbs[0], &choice(policy), &mut rng));
            let best = pool.pop().unwrap();
            shard.dbs[0].take(hash_key(&SEED, &best.key), &best.key).expect("the pool has each key once");
            std::str::from_utf8(&best.key).unwrap().parse().unwrap()
        };
        (0..rounds).map(|_| pick()).collect()
    }

    fn mean(picks: &[i64]) -> i64 {
        picks.iter().sum::<i64>() / picks.len() as i64
    }

    #[test]
    fn the_least_recently_used_go() {
        let lru = picks(MaxmemoryPolicy::AllkeysLru, 200);
        assert!(mean(&lru) > 800, "{lru:?}");
        let random = picks(MaxmemoryPolicy::AllkeysRandom, 200);
        assert!((400..600).contains(&mean(&random)), "{random:?}");
    }

    #[test]
    fn volatile_policies_take_only_keys_that_expire() {
        for policy in [MaxmemoryPolicy::VolatileLru, MaxmemoryPolicy::VolatileLfu, MaxmemoryPolicy::VolatileRandom] {
            let picks = picks(policy, 100);
            assert!(picks.iter().all(|n| n % 10 == 0), "{policy}: {picks:?}");
        }
        assert_eq!(picks(MaxmemoryPolicy::VolatileTtl, 4), [0, 10, 20, 30]);
    }

    #[test]
    fn there_may_be_nothing_to_take() {
        let mut pool = Pool::default();
        let empty = Shard::new(1, &SEED);
        let mut rng = SmallRng::seed_from_u64(1);
        assert!(!pool.fill(0, &empty.dbs[0], &choice(MaxmemoryPolicy::AllkeysLru), &mut rng));
        assert_eq!(pool.pop(), None);
    }
}
