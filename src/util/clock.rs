//! The clock every part of a server reads: the machine's, or one that a test turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a server takes the time of day from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that stands still until [`Clock::advance_ms`] turns it. Unix time in microseconds.
    Virtual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that shows `now_ms` (Unix time) until it is advanced.
    pub fn stopped_at(now_ms: i64) -> Self {
        Clock::Virtual(Arc::new(AtomicI64::new(now_ms * 1000)))
    }

    /// Unix time in milliseconds.
    #[inline]
    pub fn now_ms(&self) -> i64 {
        self.now_us() / 1000
    }

    /// Unix time in microseconds.
    #[inline]
    pub fn now_us(&self) -> i64 {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
            }
            Clock::Virtual(now_us) => now_us.load(Ordering::Acquire),
        }
    }

    /// Turns a virtual clock on; the machine's clock stays as it is.
    pub fn advance_ms(&self, by_ms: i64) {
        if let Clock::Virtual(now_us) = self {
            now_us.fetch_add(by_ms * 1000, Ordering::AcqRel);
        }
    }
}
