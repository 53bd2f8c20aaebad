//! What DEBUG turns, for tests.

use redstart_types::list::ListLimits;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// The switches of one server.
#[derive(Debug)]
pub struct Switches {
    active_expire: AtomicBool,
    cron_paused: AtomicBool,
    deny_scripts_ignored: AtomicBool,
    aof_flush_sleep_us: AtomicU64,
    plain_bytes: AtomicUsize,
    reply_peak_ms: AtomicI64,
    buffers_kept: AtomicBool,
}

/// How long a client's largest reply is remembered. Source: Redis 7.2.
const REPLY_PEAK_MS: i64 = 5000;

impl Default for Switches {
    fn default() -> Self {
        Switches {
            active_expire: AtomicBool::new(true),
            cron_paused: AtomicBool::new(false),
            deny_scripts_ignored: AtomicBool::new(false),
            aof_flush_sleep_us: AtomicU64::new(0),
            plain_bytes: AtomicUsize::new(ListLimits::default().plain_bytes),
            reply_peak_ms: AtomicI64::new(REPLY_PEAK_MS),
            buffers_kept: AtomicBool::new(false),
        }
    }
}

impl Switches {
    /// Whether keys whose time is over are looked for (SET-ACTIVE-EXPIRE).
    pub fn active_expire(&self) -> bool {
        self.active_expire.load(Ordering::Relaxed)
    }

    /// Turns that on or off.
    pub fn set_active_expire(&self, on: bool) {
        self.active_expire.store(on, Ordering::Relaxed);
    }

    /// Whether the periodic work rests (PAUSE-CRON).
    pub fn cron_paused(&self) -> bool {
        self.cron_paused.load(Ordering::Relaxed)
    }

    /// Makes it rest or work.
    pub fn set_cron_paused(&self, paused: bool) {
        self.cron_paused.store(paused, Ordering::Relaxed);
    }

    /// Whether scripts may run commands that scripts may not run (SET-DISABLE-DENY-SCRIPTS).
    pub fn deny_scripts_ignored(&self) -> bool {
        self.deny_scripts_ignored.load(Ordering::Relaxed)
    }

    /// Turns that on or off.
    pub fn set_deny_scripts_ignored(&self, ignored: bool) {
        self.deny_scripts_ignored.store(ignored, Ordering::Relaxed);
    }

    /// Microseconds to wait before the append-only file is written (AOF-FLUSH-SLEEP).
    pub fn aof_flush_sleep_us(&self) -> u64 {
        self.aof_flush_sleep_us.load(Ordering::Relaxed)
    }

    /// Sets them.
    pub fn set_aof_flush_sleep_us(&self, micros: u64) {
        self.aof_flush_sleep_us.store(micros, Ordering::Relaxed);
    }

    /// How long a client's largest reply is remembered, in ms; None: for ever (REPLYBUFFER PEAK-RESET-TIME).
    pub fn reply_peak_ms(&self) -> Option<i64> {
        Some(self.reply_peak_ms.load(Ordering::Relaxed)).filter(|ms| *ms >= 0)
    }

    /// Sets it: None for what it was at the start; negative for ever.
    pub fn set_reply_peak_ms(&self, ms: Option<i64>) {
        self.reply_peak_ms.store(ms.unwrap_or(REPLY_PEAK_MS), Ordering::Relaxed);
    }

    /// Whether clients keep buffers that are larger than they need to be (REPLYBUFFER RESIZING 0).
    pub fn buffers_kept(&self) -> bool {
        self.buffers_kept.load(Ordering::Relaxed)
    }

    /// Turns that on or off.
    pub fn set_buffers_kept(&self, kept: bool) {
        self.buffers_kept.store(kept, Ordering::Relaxed);
    }

    /// From which size on an element of a list has a chunk of its own (QUICKLIST-PACKED-THRESHOLD).
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes.load(Ordering::Relaxed)
    }

    /// Sets it; 0 for what it was at the start.
    pub fn set_plain_bytes(&self, bytes: usize) {
        let bytes = if bytes == 0 { ListLimits::default().plain_bytes } else { bytes };
        self.plain_bytes.store(bytes, Ordering::Relaxed);
    }
}
