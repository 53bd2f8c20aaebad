//! Randomness: one seeded source a server hands its parts their seeds from.

use crate::util::sync::Mutex;
use rand::rngs::{SmallRng, StdRng};
use rand::{RngCore, SeedableRng, TryRngCore};

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

fn os_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut seed).expect("the operating system gives random bytes");
    seed
}
