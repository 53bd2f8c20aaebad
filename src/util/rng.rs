//! Randomness: one seeded source a server hands its parts their seeds from.

use crate::util::sync::Mutex;
use rand::rngs::{SmallRng, StdRng};
use rand::{RngCore, SeedableRng, TryRngCore};
use redstart_types::seed::HashSeed;

/// A server's random source. With a seed, everything drawn from it repeats.
#[derive(Debug)]
pub struct Random {
    secure: Mutex<StdRng>,
}

impl Random {
    /// Seeded by `seed`, or by the operating system.
    pub fn new(seed: Option<u64>) -> Self {
        let secure = match seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_seed(os_seed()),
        };
        Random { secure: Mutex::new(secure) }
    }

    /// 64 unpredictable bits.
    pub fn next_u64(&self) -> u64 {
        self.secure.lock().next_u64()
    }

    /// A secret key for hashing.
    pub fn hash_seed(&self) -> HashSeed {
        HashSeed::random(&mut *self.secure.lock())
    }

    /// A small fast generator for sampling; not for secrets.
    pub fn small(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.next_u64())
    }

    /// `len` random lower-case hexadecimal digits (run ids, replication ids, ACL GENPASS).
    pub fn hex(&self, len: usize) -> String {
        let mut secure = self.secure.lock();
        (0..len).map(|_| char::from_digit(secure.next_u32() & 15, 16).unwrap_or('0')).collect()
    }
}

/// Picks `count` of the `len` elements of an iterator, each with the same chance, in their order.
pub fn sample<T>(
    elements: impl Iterator<Item = T>,
    len: usize,
    count: usize,
    random: &mut impl RngCore,
) -> impl Iterator<Item = T> {
    let (mut left, mut wanted) = (len, count);
    elements.filter(move |_| {
        let is_picked = ((u128::from(random.next_u64()) * left as u128) >> 64) < wanted as u128;
        left = left.saturating_sub(1);
        wanted -= usize::from(is_picked);
        is_picked
    })
}

fn os_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut seed).expect("the operating system gives random bytes");
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_size_and_reaches_all() {
        let mut random = Random::new(Some(1)).small();
        let mut times = [0; 10];
        for _ in 0..1000 {
            let picked: Vec<usize> = sample(0..10, 10, 3, &mut random).collect();
            assert_eq!(picked.len(), 3);
            picked.into_iter().for_each(|idx| times[idx] += 1);
        }
        assert!(times.iter().all(|times| (230..370).contains(times)), "{times:?}");
        assert_eq!(sample(0..10, 10, 10, &mut random).count(), 10);
        assert_eq!(sample(0..10, 10, 0, &mut random).count(), 0);
    }
}
