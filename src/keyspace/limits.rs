//! When collections change their encoding: the directives, as each type takes them.

use crate::config::Config;
use redstart_types::hash::HashLimits;
use redstart_types::list::ListLimits;
use redstart_types::seed::HashSeed;
use redstart_types::set::SetLimits;
use redstart_types::zset;

/// `list-max-listpack-size`.
pub fn list(config: &Config) -> ListLimits {
    ListLimits { max_listpack_size: config.list_max_listpack_size, ..ListLimits::default() }
}

/// `hash-max-listpack-*`; `hash_seed` is the server's.
pub fn hash(config: &Config, hash_seed: &HashSeed) -> HashLimits {
    HashLimits {
        max_listpack_entries: config.hash_max_listpack_entries,
        max_listpack_value: config.hash_max_listpack_value,
        hash_seed: *hash_seed,
    }
}

/// `set-max-*`; `hash_seed` is the server's.
pub fn set(config: &Config, hash_seed: &HashSeed) -> SetLimits {
    SetLimits {
        max_intset_entries: config.set_max_intset_entries,
        max_listpack_entries: config.set_max_listpack_entries,
        max_listpack_value: config.set_max_listpack_value,
        hash_seed: *hash_seed,
    }
}

/// `zset-max-listpack-*`; `hash_seed` is the server's.
pub fn zset(config: &Config, hash_seed: &HashSeed) -> zset::Limits {
    zset::Limits {
        max_listpack_entries: config.zset_max_listpack_entries,
        max_listpack_value: config.zset_max_listpack_value,
        hash_seed: *hash_seed,
    }
}
