//! `maxmemory-clients`: connections that take most are closed when all of them take too much. Each costs O(log n).

use crate::command::client_line::describe;
use crate::config::{Config, LogLevel};
use crate::server::Server;
use std::sync::atomic::Ordering;

/// When nobody who may go is left, the next look is so much later: each of them says so in the log.
const LOOK_AGAIN_MS: i64 = 100;

impl Server {
    /// Puts `maxmemory-clients` into force: a size or, where negative, a percentage of `maxmemory`.
    pub fn limit_client_memory(&self, config: &Config) {
        let share = |percent: u64| u128::from(config.maxmemory) * u128::from(percent) / 100;
        let limit = match config.maxmemory_clients {
            bytes @ 0.. => bytes.unsigned_abs().into(),
            percent => share(percent.unsigned_abs()),
        };
        self.clients.set_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX));
        // Whoever set the limit finds it kept: another thread that closes clients just now is waited for.
        let mut next_ms = self.next_client_eviction_ms.lock();
        *next_ms = 0;
        self.evict_largest_clients(&mut next_ms);
    }

    /// Closes connections, those first that take most (by powers of two), until all of them take no more than they may.
    /// Those that asked for it (CLIENT NO-EVICT) are spared. Source: Redis 7.2 client eviction.
    #[inline]
    pub fn evict_clients(&self) {
        if self.clients.is_over_memory_limit() {
            // Whoever holds it is closing clients just now.
            if let Some(mut next_ms) = self.next_client_eviction_ms.try_lock() {
                self.evict_largest_clients(&mut next_ms);
            }
        }
    }

    #[cold]
    fn evict_largest_clients(&self, next_ms: &mut i64) {
        let now_ms = self.clock.now_ms();
        if now_ms < *next_ms || !self.clients.is_over_memory_limit() {
            return;
        }
        while self.clients.is_over_memory_limit() {
            let Some(client) = self.clients.largest() else {
                self.log.warning("Over client maxmemory after evicting all evictable clients");
                *next_ms = now_ms + LOOK_AGAIN_MS;
                return;
            };
            self.log.bytes(LogLevel::Notice, &[b"Evicting client: ", describe(self, &client).as_slice()].concat());
            // Whoever finds it gone finds it counted.
            self.stats.evicted_clients.fetch_add(1, Ordering::Relaxed);
            self.clients.evict(&client);
        }
    }
}
