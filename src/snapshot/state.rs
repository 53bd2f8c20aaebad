//! What a server remembers of its saves and loads, for INFO, LASTSAVE, the save points and the refusal of writes.

use crate::config::Config;
use crate::snapshot::walker::Progress;
use crate::util::sync::Mutex;
use redstart_types::frozen::Kept;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The persistence of one server.
#[derive(Debug)]
pub struct Persistence {
    inner: Mutex<Saves>,
    /// The last save in the background failed: writes may have to be refused.
    failed: AtomicBool,
    /// A save in the background is to end at its next look.
    cancelled: AtomicBool,
    /// Held while a file that has been written takes the place of the one before.
    pub installing: Mutex<()>,
    /// A snapshot is being copied into another server of this process.
    is_copying: AtomicBool,
    /// A snapshot for replicas is being written.
    is_syncing: AtomicBool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: RDB files are loaded whatever their checksum is.
    skips_checksum: AtomicBool,
    /// The data set being loaded.
    pub loading: Loading,
    /// The snapshot being taken.
    pub progress: Arc<Progress>,
    /// Old values that it keeps.
    pub kept: Arc<Kept>,
    /// The most that the last save in the background, and the last rewrite, kept, in bytes.
    pub last_save_kept: AtomicUsize,
    pub last_rewrite_kept: AtomicUsize,
}

/// How saving has gone so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saves {
    /// Unix time in seconds of the last save that worked, or of the start.
    pub last_save_s: i64,
    /// Unix time in seconds of the last attempt in the background.
    pub last_try_s: i64,
    /// Whether the last attempt in the background worked.
    pub last_ok: bool,
    /// How long it took.
    pub last_took_s: Option<i64>,
    /// Since when one is under way, Unix time in seconds.
    pub since_s: Option<i64>,
    /// How many there have been.
    pub count: u64,
    /// How many of those were begun in the background.
    pub begun: u64,
    /// One is to begin as soon as possible.
    pub scheduled: bool,
}

/// Progress and result of loading the data set.
#[derive(Debug, Default)]
pub struct Loading {
    /// Unix time in seconds when it began.
    pub start_s: AtomicU64,
    /// Bytes of the file or files.
    pub total_bytes: AtomicU64,
    /// Bytes read so far.
    pub loaded_bytes: AtomicU64,
    /// Unix time in seconds when the log last told how far it is; 0 before that.
    told_s: AtomicU64,
    /// Memory in use when the file was written, as it says.
    pub saved_used_memory: AtomicU64,
    /// Keys of the last load.
    pub keys_loaded: AtomicU64,
    /// Keys whose time was over in the last load.
    pub keys_expired: AtomicU64,
}

/// How long to wait after a failed save before the save points count again.
const RETRY_S: i64 = 5;

/// Seconds between two lines about a data set being loaded.
const LOADING_REPORT_S: u64 = 5;

impl Loading {
    /// Per cent of the bytes that have been read.
    pub fn percent(&self) -> f64 {
        let (loaded, total) = (self.loaded_bytes.load(Ordering::Relaxed), self.total_bytes.load(Ordering::Relaxed));
        loaded as f64 / total.max(1) as f64 * 100.0
    }

    /// Seconds that the rest will take, if it goes on like this.
    pub fn eta_s(&self, now_s: u64) -> u64 {
        let (loaded, total) = (self.loaded_bytes.load(Ordering::Relaxed), self.total_bytes.load(Ordering::Relaxed));
        let elapsed_s = now_s.saturating_sub(self.start_s.load(Ordering::Relaxed));
        match loaded {
            0 => 1,
            _ => elapsed_s.saturating_mul(total.saturating_sub(loaded)) / loaded,
        }
    }

    /// What to log now, if it is time to log something; asked while a data set is being loaded.
    pub fn report(&self, now_s: u64) -> Option<String> {
        let since_s = self.told_s.load(Ordering::Relaxed).max(self.start_s.load(Ordering::Relaxed));
        if now_s.saturating_sub(since_s) < LOADING_REPORT_S {
            return None;
        }
        self.told_s.store(now_s, Ordering::Relaxed);
        let (percent, total_mb) = (self.percent(), self.total_bytes.load(Ordering::Relaxed) >> 20);
        Some(format!("Loading: {percent:.0}% of {total_mb} MB, about {} seconds to go", self.eta_s(now_s)))
    }
}

impl Persistence {
    /// Nothing saved yet; `now_s` is Unix time in seconds.
    pub fn new(now_s: i64) -> Self {
        let saves = Saves {
            last_save_s: now_s,
            last_try_s: 0,
            last_ok: true,
            last_took_s: None,
            since_s: None,
            count: 0,
            begun: 0,
            scheduled: false,
        };
        Persistence {
            inner: Mutex::new(saves),
            failed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            installing: Mutex::new(()),
            skips_checksum: AtomicBool::new(false),
            is_copying: AtomicBool::new(false),
            is_syncing: AtomicBool::new(false),
            loading: Loading::default(),
            progress: Arc::default(),
            kept: Arc::default(),
            last_save_kept: AtomicUsize::new(0),
            last_rewrite_kept: AtomicUsize::new(0),
        }
    }

    /// Whether a snapshot is being copied into another server of this process.
    pub fn is_copying(&self) -> bool {
        self.is_copying.load(Ordering::Acquire)
    }

    /// The copying begins or has ended.
    pub fn set_copying(&self, is_copying: bool) {
        self.is_copying.store(is_copying, Ordering::Release);
    }

    /// A snapshot for replicas begins to be written, or has been.
    pub fn set_syncing(&self, is_syncing: bool) {
        self.is_syncing.store(is_syncing, Ordering::Release);
    }

    /// Whether a snapshot is being written, for the RDB file, for replicas, or for a script that is to be debugged.
    pub fn has_snapshot_under_way(&self) -> bool {
        self.is_saving() || self.is_copying() || self.is_syncing.load(Ordering::Acquire)
    }

    /// How saving has gone so far.
    pub fn saves(&self) -> Saves {
        *self.inner.lock()
    }

    /// Whether a save in the background is under way.
    pub fn is_saving(&self) -> bool {
        self.inner.lock().since_s.is_some()
    }

    /// Begins a save in the background; false if there is one already.
    pub fn begin(&self, now_s: i64) -> bool {
        let mut saves = self.inner.lock();
        if saves.since_s.is_some() {
            return false;
        }
        saves.since_s = Some(now_s);
        saves.last_try_s = now_s;
        saves.scheduled = false;
        saves.count += 1;
        saves.begun += 1;
        self.cancelled.store(false, Ordering::Release);
        true
    }

    /// The save in the background has ended.
    pub fn end(&self, now_s: i64, worked: bool) {
        let mut saves = self.inner.lock();
        saves.last_took_s = saves.since_s.take().map(|since_s| now_s - since_s);
        saves.last_ok = worked;
        if worked {
            saves.last_save_s = now_s;
        }
        self.failed.store(!worked, Ordering::Release);
    }

    /// The save in the background was called off: it counts neither as success nor as failure.
    pub fn end_cancelled(&self) {
        self.inner.lock().since_s = None;
    }

    /// A save in the foreground has begun.
    pub fn count_save(&self) {
        self.inner.lock().count += 1;
    }

    /// A save in the foreground has worked.
    pub fn saved(&self, now_s: i64) {
        let mut saves = self.inner.lock();
        saves.last_save_s = now_s;
        saves.last_ok = true;
        self.failed.store(false, Ordering::Release);
    }

    /// A save is to begin as soon as possible.
    pub fn schedule(&self) {
        self.inner.lock().scheduled = true;
    }

    /// Whether a save is to begin as soon as possible, and can.
    pub fn is_scheduled(&self) -> bool {
        let saves = self.inner.lock();
        saves.scheduled && saves.since_s.is_none()
    }

    /// Asks the save in the background to end.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether the save in the background is to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// The save point that is reached: (changes, seconds) as the log tells them.
    pub fn save_point(&self, config: &Config, dirty: i64, now_s: i64) -> Option<(u64, u64)> {
        if config.save.is_empty() || dirty <= 0 {
            return None;
        }
        let saves = self.inner.lock();
        if saves.since_s.is_some() || !saves.last_ok && now_s - saves.last_try_s <= RETRY_S {
            return None;
        }
        let since_s = now_s - saves.last_save_s;
        let reached = |point: &&crate::config::SavePoint| {
            dirty as u64 >= point.changes && since_s > i64::try_from(point.seconds).unwrap_or(i64::MAX)
        };
        config.save.iter().find(reached).map(|point| (point.changes, point.seconds))
    }

    /// Why writes are refused now, if they are.
    #[inline]
    pub fn refuses_writes(&self, config: &Config) -> bool {
        self.failed.load(Ordering::Relaxed) && config.stop_writes_on_bgsave_error && !config.save.is_empty()
    }

    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION.
    pub fn skip_checksum(&self, skip: bool) {
        self.skips_checksum.store(skip, Ordering::Relaxed);
    }

    /// Whether checksums of RESTORE and files are not looked at.
    pub fn skips_checksum(&self) -> bool {
        self.skips_checksum.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SavePoint;

    #[test]
    fn save_points_need_both_time_and_changes() {
        let state = Persistence::new(1000);
        let save = vec![SavePoint { seconds: 3600, changes: 1 }, SavePoint { seconds: 60, changes: 100 }];
        let config = Config { save, ..Config::default() };
        assert_eq!(state.save_point(&config, 100, 1060), None, "not yet more than 60 seconds");
        assert_eq!(state.save_point(&config, 100, 1061), Some((100, 60)));
        assert_eq!(state.save_point(&config, 99, 1061), None);
        assert_eq!(state.save_point(&config, 1, 4601), Some((1, 3600)));
        assert_eq!(state.save_point(&config, 0, 9999), None);
    }

    #[test]
    fn a_long_load_is_reported() {
        let loading = Loading::default();
        loading.start_s.store(1000, Ordering::Relaxed);
        loading.total_bytes.store(1 << 30, Ordering::Relaxed);
        loading.loaded_bytes.store(1 << 28, Ordering::Relaxed);
        assert_eq!(loading.report(1004), None);
        let told = loading.report(1005);
        assert_eq!(told.as_deref(), Some("Loading: 25% of 1024 MB, about 15 seconds to go"));
        assert_eq!(loading.report(1009), None);
        assert!(loading.report(1010).is_some());
    }

    #[test]
    fn a_failure_refuses_writes_and_waits() {
        let state = Persistence::new(1000);
        let config = Config { save: vec![SavePoint { seconds: 1, changes: 1 }], ..Config::default() };
        assert!(state.begin(1010) && !state.begin(1010));
        assert_eq!(state.save_point(&config, 5, 1020), None, "one is under way");
        state.end(1015, false);
        assert!(state.refuses_writes(&config));
        assert_eq!(state.save_point(&config, 5, 1015), None, "too soon after the failure");
        assert_eq!(state.save_point(&config, 5, 1016), Some((1, 1)));
        assert!(state.begin(1016));
        state.end(1018, true);
        assert!(!state.refuses_writes(&config));
        let saves = state.saves();
        assert_eq!((saves.last_save_s, saves.last_took_s, saves.count), (1018, Some(2), 2));
    }
}
