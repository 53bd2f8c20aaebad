//! Freeing of large values in the background.
//!
//! Whichever thread of a server drops a large value, and for whatever reason, the value's own `Drop` leaves it to the
//! thread's collector ([`redstart_types::garbage`]): this. One thread, started with the first value and ended with the
//! server, frees part after part. It rests after each slice of its time, so that a core is free for who serves clients; when
//! much waits it only lets others go first. What waits is used memory still, but no key is evicted and no write refused for
//! it; should memory grow faster than it is freed, those who write wait ([`Reclaimer::is_outrun`]).
//!
//! The `lazyfree-` directives do not decide what is freed here, for that is everything large. They decide what INFO counts
//! as freed lazily, and what the log says (UNLINK or DEL).

use redstart_types::garbage::{Collector, Garbage, set_collector};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::memory::{UsedMemory, balance_of_thread};
use crate::util::sync::{Condvar, Mutex};

/// The background freeing of one server.
#[derive(Debug)]
pub struct Reclaimer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    counts: Counts,
    used_memory: Arc<UsedMemory>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    thread: Thread,
    /// The server has ended: the thread ends, too, once nothing waits.
    is_over: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Thread {
    #[default]
    NotStarted,
    Running,
    /// There is none to be had.
    Missing,
}

/// What is to be freed, and how many objects INFO counts it as.
#[derive(Debug)]
struct Job {
    pieces: Vec<Garbage>,
    objects: u64,
}

#[derive(Debug, Default)]
struct Counts {
    pending_objects: AtomicU64,
    freed_objects: AtomicU64,
    pending_bytes: Arc<AtomicU64>,
    given_bytes: AtomicU64,
    /// Memory in use when what waits became too much; 0 while it is not.
    used_before: AtomicU64,
}

/// After so much time the thread lets others go on.
const SLICE: Duration = Duration::from_micros(250);
/// With more bytes than these waiting it does not rest any more.
const MUCH: u64 = 256 << 20;

impl Reclaimer {
    /// Tells `used_memory` what it frees.
    pub fn new(used_memory: Arc<UsedMemory>) -> Self {
        Reclaimer(Arc::new(Shared {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            counts: Counts::default(),
            used_memory,
        }))
    }

    /// From now on the large values that this thread drops are freed here.
    pub fn collect_here(&self) {
        set_collector(Some(self.collector()));
    }

    /// Does `work`, the large values that it drops being freed here.
    pub fn collect<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = set_collector(Some(self.collector()));
        let result = work();
        set_collector(before);
        result
    }

    /// Frees a value as one that INFO counts as `objects` (keys, mostly) freed lazily.
    pub fn free(&self, value: impl Send + 'static, objects: u64) {
        let heap = Rc::new(Heap::default());
        let before = set_collector(Some(heap.clone()));
        drop(value);
        set_collector(before);
        self.0.push(Job { pieces: heap.pieces.take(), objects });
    }

    /// The same for a value whose own parts are not known here (a Lua state).
    pub fn free_whole(&self, value: impl Send + 'static, bytes: usize, objects: u64) {
        self.0.push(Job { pieces: vec![Garbage::whole(value, bytes)], objects });
    }

    /// Objects that wait to be freed, of those counted as freed lazily.
    pub fn pending(&self) -> u64 {
        self.0.counts.pending_objects.load(Ordering::Relaxed)
    }

    /// Objects freed lazily since the start or the last [`Reclaimer::reset`].
    pub fn freed(&self) -> u64 {
        self.0.counts.freed_objects.load(Ordering::Relaxed)
    }

    /// Counts from 0 again (CONFIG RESETSTAT).
    pub fn reset(&self) {
        self.0.counts.freed_objects.store(0, Ordering::Relaxed);
    }

    /// Bytes that wait to be freed, about.
    #[inline]
    pub fn pending_bytes(&self) -> u64 {
        self.0.counts.pending_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that have ever been left to be freed, about.
    pub fn given_bytes(&self) -> u64 {
        self.0.counts.given_bytes.load(Ordering::Relaxed)
    }

    /// Whether those who write must wait: much waits to be freed, and since that is so memory has grown by a quarter and
    /// `slack_bytes` more, because new garbage is made faster than it is freed. Deleting something huge is not that.
    #[inline]
    pub fn is_outrun(&self, slack_bytes: u64) -> bool {
        let slack_bytes = slack_bytes.min(MUCH);
        self.pending_bytes() > slack_bytes && self.0.has_grown(slack_bytes)
    }

    fn collector(&self) -> Rc<dyn Collector> {
        Rc::new(ToQueue(self.0.clone()))
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.0.queue.lock().is_over = true;
        self.0.arrived.notify_all();
    }
}

/// The collector of a server's threads.
struct ToQueue(Arc<Shared>);

impl Collector for ToQueue {
    fn take(&self, garbage: Garbage) {
        self.0.push(Job { pieces: vec![garbage], objects: 0 });
    }

    fn pending_bytes(&self) -> Arc<AtomicU64> {
        self.0.counts.pending_bytes.clone()
    }
}

/// The collector of the freeing thread itself: what comes out of what it frees.
#[derive(Default)]
struct Heap {
    pieces: RefCell<Vec<Garbage>>,
    /// Of the job under way, what is still counted as pending.
    bytes: Cell<u64>,
    /// What has come out of it and is not counted yet.
    found_bytes: Cell<u64>,
}

impl Collector for Heap {
    fn take(&self, garbage: Garbage) {
        self.found_bytes.update(|bytes| bytes + garbage.bytes() as u64);
        self.pieces.borrow_mut().push(garbage);
    }

    /// Nothing is left hanging on a value that is being freed.
    fn pending_bytes(&self) -> Arc<AtomicU64> {
        Arc::default()
    }
}

impl Shared {
    fn push(self: &Arc<Self>, job: Job) {
        if job.pieces.is_empty() {
            self.counts.freed_objects.fetch_add(job.objects, Ordering::Relaxed);
            return;
        }
        let bytes = job.bytes();
        self.counts.pending_objects.fetch_add(job.objects, Ordering::Relaxed);
        self.counts.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counts.given_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        if queue.thread == Thread::NotStarted {
            queue.thread = start(self.clone());
        }
        if queue.thread == Thread::Running {
            queue.jobs.push_back(job);
            self.arrived.notify_one();
        } else {
            drop(queue);
            self.free(job, &Heap::default());
        }
    }

    /// The next job; None once the server has ended and nothing waits.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            self.counts.used_before.store(0, Ordering::Relaxed);
            if queue.is_over {
                return None;
            }
            self.arrived.wait(&mut queue);
        }
    }

    /// Frees a job, and what comes out of it into `heap`, resting after each slice.
    fn free(&self, job: Job, heap: &Heap) {
        heap.bytes.set(job.bytes());
        heap.pieces.replace(job.pieces);
        let (mut balance, mut began) = (balance_of_thread(), Instant::now());
        loop {
            let Some(mut garbage) = heap.pieces.borrow_mut().pop() else { break };
            while garbage.free_part() {
                if began.elapsed() >= SLICE {
                    self.note_freed(heap, &mut balance);
                    self.rest();
                    began = Instant::now();
                }
            }
        }
        self.note_freed(heap, &mut balance);
        self.counts.pending_bytes.fetch_sub(heap.bytes.take(), Ordering::Relaxed);
        self.counts.freed_objects.fetch_add(job.objects, Ordering::Relaxed);
        self.counts.pending_objects.fetch_sub(job.objects, Ordering::Relaxed);
    }

    /// Counts what has been freed since `balance` was this thread's.
    fn note_freed(&self, heap: &Heap, balance: &mut i64) {
        let found = heap.found_bytes.take();
        heap.bytes.update(|bytes| bytes + found);
        self.counts.pending_bytes.fetch_add(found, Ordering::Relaxed);
        // First less is used, then less waits: in between no key may seem to be too much.
        self.used_memory.update();
        let now = balance_of_thread();
        let freed = (std::mem::replace(balance, now) - now).max(0).unsigned_abs().min(heap.bytes.get());
        heap.bytes.set(heap.bytes.get() - freed);
        self.counts.pending_bytes.fetch_sub(freed, Ordering::Relaxed);
    }

    fn rest(&self) {
        if self.counts.pending_bytes.load(Ordering::Relaxed) > MUCH {
            std::thread::yield_now();
        } else {
            std::thread::sleep(SLICE);
        }
    }

    #[cold]
    fn has_grown(&self, slack_bytes: u64) -> bool {
        let used = self.used_memory.bytes();
        let before = self.counts.used_before.compare_exchange(0, used, Ordering::Relaxed, Ordering::Relaxed);
        let before = before.unwrap_or_else(|before| before);
        before > 0 && used > before + before / 4 + slack_bytes
    }
}

impl Job {
    fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes() as u64).sum()
    }
}

fn start(shared: Arc<Shared>) -> Thread {
    let work = move || {
        let heap = Rc::new(Heap::default());
        set_collector(Some(heap.clone()));
        while let Some(job) = shared.next() {
            shared.free(job, &heap);
        }
    };
    match std::thread::Builder::new().name("lazy_free".to_owned()).spawn(work) {
        Ok(_) => Thread::Running,
        Err(_) => Thread::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::until;
    use crate::keyspace::value::{Entry, Value};
    use rand::{SeedableRng, rngs::SmallRng};
    use redstart_types::entry::NewContent;
    use redstart_types::hash::{Hash, HashLimits};
    use redstart_types::seed::HashSeed;
    use redstart_types::table::{Table, hash_key};
    use std::sync::mpsc;
    use std::thread::ThreadId;

    /// Tells which thread drops it.
    struct Tell(mpsc::Sender<ThreadId>);

    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.send(std::thread::current().id()).unwrap();
        }
    }

    fn reclaimer() -> Reclaimer {
        Reclaimer::new(Arc::default())
    }

    fn seed() -> HashSeed {
        HashSeed::random(&mut SmallRng::seed_from_u64(1))
    }

    fn big_hash() -> Hash {
        let limits = HashLimits { max_listpack_entries: 1, max_listpack_value: 64, hash_seed: seed() };
        let mut hash = Hash::new();
        for n in 0..2000_u32 {
            hash.insert(n.to_string().as_bytes(), b"v", &limits);
        }
        hash
    }

    #[test]
    fn what_is_given_away_is_freed_elsewhere() {
        let reclaimer = reclaimer();
        let (tell, told) = mpsc::channel();
        reclaimer.free_whole(Tell(tell), 0, 3);
        assert_ne!(told.recv().unwrap(), std::thread::current().id());
        until("it is counted", || reclaimer.freed() == 3);
        assert_eq!((reclaimer.pending(), reclaimer.pending_bytes()), (0, 0));
        reclaimer.reset();
        assert_eq!(reclaimer.freed(), 0);
    }

    #[test]
    fn large_values_come_here_whoever_drops_them_and_small_ones_do_not() {
        let reclaimer = reclaimer();
        reclaimer.collect(|| {
            drop(big_hash());
            drop(Hash::new());
        });
        let given = reclaimer.given_bytes();
        assert!((2000 * 8..200_000).contains(&given), "{given}");
        drop(big_hash());
        assert_eq!(reclaimer.given_bytes(), given, "this thread has no collector any more");
        reclaimer.free(big_hash(), 1);
        reclaimer.free(Hash::new(), 1);
        until("both are counted", || reclaimer.freed() == 2);
        assert_eq!((reclaimer.pending(), reclaimer.pending_bytes()), (0, 0));
    }

    /// The large values of a flushed database are freed part by part as well, and count until they are.
    #[test]
    fn large_values_within_large_ones_are_freed() {
        let (reclaimer, mut keys) = (reclaimer(), Table::new(&seed()));
        for n in 0..1000_u32 {
            let key = n.to_string().into_bytes();
            let content = if n % 100 == 0 { NewContent::Object(Value::Hash(big_hash())) } else { NewContent::Int(1) };
            keys.insert(hash_key(&seed(), &key), Entry::new(&key, content, None));
        }
        reclaimer.free(keys, 1000);
        until("all are counted", || reclaimer.freed() == 1000);
        assert_eq!((reclaimer.pending(), reclaimer.pending_bytes()), (0, 0));
    }

    #[test]
    fn the_end_of_a_server_leaves_nothing_and_does_not_wait() {
        let (tell, told) = mpsc::channel();
        let reclaimer = reclaimer();
        let shared = Arc::downgrade(&reclaimer.0);
        (0..3).for_each(|_| reclaimer.free_whole((big_hash(), Tell(tell.clone())), 0, 1));
        drop(reclaimer);
        drop(tell);
        assert_eq!(told.iter().count(), 3);
        until("the thread has ended", || shared.strong_count() == 0);
    }

    #[test]
    fn writers_wait_only_while_memory_grows_beside_much_garbage() {
        let used = Arc::new(UsedMemory::default());
        let reclaimer = Reclaimer::new(used.clone());
        used.set(1000 << 20, 1);
        assert!(!reclaimer.is_outrun(100));
        reclaimer.0.counts.pending_bytes.store(800 << 20, Ordering::Relaxed);
        assert!(!reclaimer.is_outrun(MUCH), "a huge value has been deleted");
        used.set((1250 << 20) + MUCH - 1, 2);
        assert!(!reclaimer.is_outrun(MUCH));
        used.set((1251 << 20) + MUCH, 3);
        assert!(reclaimer.is_outrun(u64::MAX));
        reclaimer.0.counts.pending_bytes.store(MUCH, Ordering::Relaxed);
        assert!(!reclaimer.is_outrun(u64::MAX));
    }
}
