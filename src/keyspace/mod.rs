//! The keyspace: shards of databases behind locks, what a handler sees of them, and who waits for a key.
//!
//! A key's hash says its shard; a shard holds its part of every database. Shards are locked in ascending order, all
//! at once, by [`lock::Shards`] only.
pub mod db;
pub mod effects;
pub mod evict;
pub mod flush;
pub mod limits;
pub mod lock;
pub mod shard;
pub mod value;
pub mod waiters;
pub mod walk;
pub mod watches;

use redstart_types::seed::HashSeed;
use redstart_types::table::hash_key;

/// A key and its hash, computed once.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    pub bytes: &'a [u8],
    pub hash: u64,
}

impl<'a> Key<'a> {
    /// Hashes `bytes` under the server's seed.
    pub fn new(seed: &HashSeed, bytes: &'a [u8]) -> Self {
        Key { bytes, hash: hash_key(seed, bytes) }
    }
}
