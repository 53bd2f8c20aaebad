//! Syncs of the log under `everysec` and `no`: one after the other, on a thread of their own, for each takes as long as the
//! disk likes, and writing goes on meanwhile.

use crate::aof::output::Told;
use crate::util::sync::{Condvar, Mutex};
use redstart_persistence::aof::FileSync;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A sync to be done.
#[derive(Debug)]
pub(super) struct Sync {
    pub sync: FileSync,
    /// Which file of the log it is about.
    pub file_number: u64,
    /// Bytes ever added to the log that are on disk once it has worked.
    pub position: u64,
    /// Who waits for it.
    pub told: Option<Told>,
}

/// The syncs that wait, and the one under way.
#[derive(Debug, Default)]
pub struct Syncer {
    inner: Mutex<Inner>,
    added: Condvar,
    /// How many they are.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Sync>,
    /// Since when one is under way.
    since: Option<Instant>,
    /// Since when it has not been counted as late.
    counted: Option<Instant>,
    is_over: bool,
}

impl Syncer {
    /// Whether a sync is under way, or waits for another one.
    pub fn is_busy(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// For how long the sync under way has been so.
    pub(super) fn age(&self) -> Option<Duration> {
        if !self.is_busy() {
            return None;
        }
        self.inner.lock().since.map(|since| since.elapsed())
    }

    /// Whether the sync under way has taken longer than `patience` since it began, or since this was true last.
    pub(super) fn is_late_again(&self, patience: Duration) -> bool {
        if !self.is_busy() {
            return false;
        }
        let mut inner = self.inner.lock();
        let is_late = inner.counted.or(inner.since).is_some_and(|since| since.elapsed() > patience);
        if is_late {
            inner.counted = Some(Instant::now());
        }
        is_late
    }

    /// Adds a sync behind the others.
    pub(super) fn add(&self, sync: Sync) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.inner.lock().waiting.push_back(sync);
        self.added.notify_one();
    }

    /// The next sync, which is under way from now on; waits for one. None at the end.
    pub(super) fn next(&self) -> Option<Sync> {
        let mut inner = self.inner.lock();
        loop {
            if let Some(sync) = inner.waiting.pop_front() {
                inner.since = Some(Instant::now());
                inner.counted = None;
                return Some(sync);
            }
            if inner.is_over {
                return None;
            }
            self.added.wait(&mut inner);
        }
    }

    /// The sync under way is over.
    pub(super) fn done(&self) {
        self.inner.lock().since = None;
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    /// There may be something to come.
    pub(super) fn begin(&self) {
        self.inner.lock().is_over = false;
    }

    /// There is nothing more to come.
    pub(super) fn end(&self) {
        self.inner.lock().is_over = true;
        self.added.notify_one();
    }
}
