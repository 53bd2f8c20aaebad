//! What has failed, of writing and of syncing the log. Either ends only when the very same has worked.

use crate::util::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Write,
    Sync,
}

/// The failures that have not ended.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    kinds: Mutex<[Option<Failure>; 2]>,
    /// Whether there is one.
    any: AtomicBool,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    /// The last attempt.
    at: Instant,
    /// When it was logged last.
    logged: Instant,
}

/// Time between two log lines about the same trouble.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(30);

impl Troubles {
    /// An attempt has failed; whether that should be logged.
    pub(super) fn failed(&self, kind: Trouble, reason: String) -> bool {
        let mut kinds = self.kinds.lock();
        let at = Instant::now();
        let known = kinds[kind as usize].as_ref().map(|failure| failure.logged);
        let logged = known.filter(|logged| at.duration_since(*logged) < COMPLAINT_PERIOD);
        kinds[kind as usize] = Some(Failure { reason, at, logged: logged.unwrap_or(at) });
        self.any.store(true, Ordering::Release);
        logged.is_none()
    }

    /// An attempt has worked. False if there was no such trouble.
    pub(super) fn worked(&self, kind: Trouble) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut kinds = self.kinds.lock();
        let had_failed = kinds[kind as usize].take().is_some();
        self.any.store(kinds.iter().any(Option::is_some), Ordering::Release);
        had_failed
    }

    /// When the last attempt has failed, if none has worked since.
    pub(super) fn failed_at(&self, kind: Trouble) -> Option<Instant> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.kinds.lock()[kind as usize].as_ref().map(|failure| failure.at)
    }

    /// What to tell those who want to write.
    #[inline]
    pub(super) fn reason(&self) -> Option<String> {
        if self.any.load(Ordering::Relaxed) { self.first_reason() } else { None }
    }

    #[cold]
    fn first_reason(&self) -> Option<String> {
        self.kinds.lock().iter().flatten().next().map(|failure| failure.reason.clone())
    }

    /// The log is switched off, or begins anew.
    pub(super) fn forget(&self) {
        *self.kinds.lock() = [None, None];
        self.any.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_ends_by_a_success_of_the_same_kind_only() {
        let troubles = Troubles::default();
        assert!(!troubles.worked(Trouble::Sync));
        assert!(troubles.failed(Trouble::Sync, "EIO".to_owned()), "the first is logged");
        assert!(!troubles.failed(Trouble::Sync, "EIO".to_owned()), "not each of them");
        assert!(!troubles.worked(Trouble::Write));
        assert_eq!(troubles.reason().as_deref(), Some("EIO"));
        assert!(troubles.failed(Trouble::Write, "ENOSPC".to_owned()));
        assert!(troubles.worked(Trouble::Sync));
        assert_eq!(troubles.reason().as_deref(), Some("ENOSPC"));
        assert!(troubles.worked(Trouble::Write) && troubles.reason().is_none());
    }
}
