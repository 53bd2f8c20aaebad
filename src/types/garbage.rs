//! Freeing what is large elsewhere than where it is dropped.
//!
//! A value goes in many ways: it is deleted, overwritten, expires, is evicted, loses a part, or is a result that nobody
//! wanted. Whichever way it is, large collections and long strings end in their own `Drop`, and that leaves what they are
//! made of to the [`Collector`] of the thread. A thread without one frees at once.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who frees what a thread leaves behind.
pub trait Collector {
    /// Takes it over.
    fn take(&self, garbage: Garbage);
    /// How many bytes wait to be freed.
    fn pending_bytes(&self) -> Arc<AtomicU64>;
}

/// What is left of a large value: parts to be freed one after the other.
pub struct Garbage {
    parts: Box<dyn Iterator<Item = ()> + Send>,
    bytes: usize,
}

/// Bytes that still hang on a value though nobody can see them any more. They count as waiting for the collector of the
/// thread that has left them there.
#[derive(Debug)]
pub(crate) struct Pending {
    bytes: u64,
    all: Option<Arc<AtomicU64>>,
}

/// More allocations than these are left to the collector: the others are freed within some 50 microseconds.
pub const LARGE_LEN: usize = 512;
/// So is a single block from this size on: its pages may go back to the system at once.
pub const LARGE_BYTES: usize = 1 << 20;
/// Small elements that are freed as one part.
const BATCH: usize = 64;

thread_local! {
    static COLLECTOR: RefCell<Option<Rc<dyn Collector>>> = const { RefCell::new(None) };
}

/// Who frees what this thread leaves behind from now on; who did so far.
pub fn set_collector(collector: Option<Rc<dyn Collector>>) -> Option<Rc<dyn Collector>> {
    COLLECTOR.with(|current| current.replace(collector))
}

impl Garbage {
    /// Any value, to be dropped as one part; what it holds that is large is left to the collector once more then.
    pub fn whole(value: impl Send + 'static, bytes: usize) -> Self {
        let mut value = Some(value);
        Garbage { parts: Box::new(std::iter::from_fn(move || value.take().map(drop))), bytes }
    }

    /// Bytes that freeing it gives back, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frees the next part, within some 50 microseconds; false when there was none.
    pub fn free_part(&mut self) -> bool {
        self.parts.next().is_some()
    }
}

impl fmt::Debug for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Garbage({} bytes)", self.bytes)
    }
}

impl Pending {
    /// None yet.
    pub(crate) fn new() -> Self {
        Pending { bytes: 0, all: collector().map(|collector| collector.pending_bytes()) }
    }

    /// How many they are.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many more.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(all) = &self.all {
            all.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// So many have been freed.
    pub(crate) fn sub(&mut self, bytes: usize) {
        let bytes = self.bytes.min(bytes as u64);
        self.bytes -= bytes;
        if let Some(all) = &self.all {
            all.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.sub(usize::MAX);
    }
}

/// The thread's collector; a thread that is ending has none any more.
fn collector() -> Option<Rc<dyn Collector>> {
    COLLECTOR.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Leaves these parts, each of which is freed quickly, to the collector; without one they are freed here.
pub(crate) fn leave<T: 'static>(parts: impl Iterator<Item = T> + Send + 'static, bytes: usize) {
    match collector() {
        Some(collector) => collector.take(Garbage { parts: Box::new(parts.map(drop)), bytes }),
        None => parts.for_each(drop),
    }
}

/// Frees values that a command has collected, by the collector if they are many.
pub fn free_many<T: Send + 'static>(values: Vec<T>) {
    if values.len() > LARGE_LEN {
        let bytes = values.len() * size_of::<T>();
        leave_small(values.into_iter(), bytes);
    }
}

/// The same as [`leave`] for elements that are small each.
pub(crate) fn leave_small<T: 'static>(mut elements: impl Iterator<Item = T> + Send + 'static, bytes: usize) {
    let batch = move || (elements.by_ref().take(BATCH).map(drop).count() > 0).then_some(());
    leave(std::iter::from_fn(batch), bytes);
}

/// A collection whose elements the collector frees when there are many. The elements themselves are small.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bulk<C: Collection>(C);

/// What a [`Bulk`] may be of.
pub(crate) trait Collection:
    Default + IntoIterator<Item: 'static, IntoIter: ExactSizeIterator + Send + 'static>
{
}

impl<C: Default + IntoIterator<Item: 'static, IntoIter: ExactSizeIterator + Send + 'static>> Collection for C {}

impl<C: Collection> Deref for Bulk<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Collection> DerefMut for Bulk<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<C: Collection> Drop for Bulk<C> {
    fn drop(&mut self) {
        let elements = mem::take(&mut self.0).into_iter();
        if elements.len() > LARGE_LEN {
            let bytes = elements.len() * size_of::<C::Item>();
            leave_small(elements, bytes);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Keeps everything.
    #[derive(Default)]
    struct Heap(RefCell<Vec<Garbage>>, Arc<AtomicU64>);

    impl Collector for Heap {
        fn take(&self, garbage: Garbage) {
            self.0.borrow_mut().push(garbage);
        }

        fn pending_bytes(&self) -> Arc<AtomicU64> {
            self.1.clone()
        }
    }

    /// What `work` leaves behind.
    pub(crate) fn left_by(work: impl FnOnce()) -> Vec<Garbage> {
        let heap = Rc::new(Heap::default());
        let before = set_collector(Some(heap.clone()));
        work();
        set_collector(before);
        heap.0.take()
    }

    #[test]
    fn what_hangs_on_a_value_counts_until_it_is_freed_or_the_value_goes() {
        let heap = Rc::new(Heap::default());
        let count = || heap.1.load(Ordering::Relaxed);
        let before = set_collector(Some(heap.clone()));
        let mut pending = Pending::new();
        set_collector(before);
        pending.add(100);
        let mut other = Pending::new();
        other.add(1000);
        pending.sub(30);
        assert_eq!(count(), 70, "the other's thread has no collector");
        pending.sub(500);
        assert_eq!(count(), 0, "no more than there was");
        pending.add(1);
        drop((pending, other));
        assert_eq!(count(), 0);
    }

    fn map(len: usize, shared: &Arc<()>) -> Bulk<BTreeMap<usize, Arc<()>>> {
        Bulk((0..len).map(|n| (n, shared.clone())).collect())
    }

    #[test]
    fn what_is_large_is_freed_in_parts_and_what_is_small_at_once() {
        let shared = Arc::new(());
        let count = || Arc::strong_count(&shared) - 1;
        assert!(left_by(|| drop(map(LARGE_LEN, &shared))).is_empty());
        assert_eq!(count(), 0);
        let mut left = left_by(|| drop(map(1000, &shared)));
        assert_eq!((left.len(), count()), (1, 1000));
        assert!(left[0].free_part());
        assert_eq!(count(), 1000 - BATCH);
        let parts = 1 + std::iter::from_fn(|| left[0].free_part().then_some(())).count();
        assert_eq!((parts, count()), (1000_usize.div_ceil(BATCH), 0));
        // What nobody goes on with is freed as well; so is what a thread without a collector drops.
        drop(left_by(|| drop(map(1000, &shared))));
        drop(map(1000, &shared));
        assert_eq!(count(), 0);
    }
}
