//! Records on their way to the log: workers add; the output takes.

use crate::aof::Aof;
use crate::clients::Client;
use crate::config::{AppendFsync, Config};
use crate::feed::records::Record;
use crate::feed::{Offset, Reader};
use crate::util::clock::Clock;
use crate::util::sync::{Condvar, Mutex};
use redstart_persistence::aof::LogBuffer;
use redstart_persistence::file::File;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Records collected at which the log's thread begins to write them although their commands have not ended,
const WAKE_BYTES: usize = 1 << 20;
/// and under `appendfsync always`.
const ALWAYS_WAKE_BYTES: usize = 32 << 10;
/// Records collected at which writers wait for the disk rather than for memory to run out.
const FULL_BYTES: usize = 256 << 20;

/// Records on their way to the log.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    room: Condvar,
    /// Bytes ever added.
    pushed: AtomicU64,
    /// Bytes of these that are in the file.
    written: AtomicU64,
    /// Bytes of these that are on disk.
    synced: AtomicU64,
    /// What replies wait for: a [`Holds`].
    holds: AtomicU8,
    /// They do not wait for a while, because the disk is busy.
    lets_replies_go: AtomicBool,
    /// Clients to wake when the log has got to the position that their replies wait for, by id: each has one entry, however often it
    /// comes to look meanwhile.
    waiting: Mutex<BTreeMap<u64, (u64, Arc<Client>)>>,
}

/// What replies wait for, once their records are in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Holds {
    /// The log is off, or cannot be written.
    Nothing,
    /// `appendfsync everysec` and `no`.
    UntilWritten,
    /// `appendfsync always`.
    UntilSynced,
}

#[derive(Debug)]
struct Inner {
    buffer: LogBuffer,
    /// What comes before the buffer.
    jobs: VecDeque<Job>,
    /// Bytes ever given to `jobs`.
    taken: u64,
    always: bool,
    /// Somebody waits for what the log's thread is to do.
    is_called: bool,
    /// The log's thread is to end, or has ended.
    is_over: bool,
}

/// When to look whether the log's thread has written what replies wait for.
#[derive(Debug)]
pub struct Look {
    pub at: Instant,
    /// Bytes ever added by then.
    position: u64,
}

/// How long replies wait for a write, done by the log's thread, before it is looked what keeps the disk busy.
const WRITE_PATIENCE: Duration = Duration::from_millis(20);

impl Look {
    /// In a moment, if replies wait for a write.
    pub fn at_what_was_added(queue: &Queue) -> Option<Look> {
        let waits = queue.holds() == Holds::UntilWritten && queue.is_behind();
        waits.then(|| Look { at: Instant::now() + WRITE_PATIENCE, position: queue.pushed() })
    }

    /// The same, later.
    pub fn again(&self, after: Duration) -> Look {
        Look { at: Instant::now() + after, position: self.position }
    }

    /// Whether it has been written.
    pub fn is_over(&self, queue: &Queue) -> bool {
        queue.holds() != Holds::UntilWritten || queue.written.load(Ordering::Acquire) >= self.position
    }
}

/// What is to be done with the log, in order.
pub enum Job {
    /// Write these batches.
    Batches(Vec<u8>),
    /// Finish the file and go on with this one, which has so many bytes.
    Switch(Box<dyn File>, u64),
    /// Write and sync all there is, and say how it went.
    Flush(mpsc::SyncSender<Result<(), String>>),
    /// Finish the file and have none.
    Close,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Job::Batches(_) => "Batches",
            Job::Switch(..) => "Switch",
            Job::Flush(_) => "Flush",
            Job::Close => "Close",
        })
    }
}

impl Default for Queue {
    fn default() -> Self {
        let inner = Inner {
            buffer: LogBuffer::new(true, false),
            jobs: VecDeque::new(),
            taken: 0,
            always: false,
            is_called: false,
            is_over: false,
        };
        Queue {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            room: Condvar::new(),
            pushed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            holds: AtomicU8::new(Holds::Nothing as u8),
            lets_replies_go: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }
}

impl Queue {
    /// Bytes waiting to be written, those that a slow disk has yet to take included.
    pub fn len(&self) -> usize {
        let waiting = self.pushed().saturating_sub(self.written.load(Ordering::Acquire));
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything added is on disk.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire) >= self.pushed.load(Ordering::Acquire)
    }

    /// Bytes ever added.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Acquire)
    }

    /// Bytes of these that are on disk.
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Whether something has not got as far as replies wait for, if they do.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.reached().is_some_and(|reached| reached < self.pushed.load(Ordering::Acquire))
    }

    /// Bytes ever added, if replies made now have to wait for these.
    #[inline]
    pub fn reply_position(&self) -> Option<u64> {
        let waits = self.holds() != Holds::Nothing && !self.lets_replies_go.load(Ordering::Acquire);
        waits.then(|| self.pushed.load(Ordering::Acquire))
    }

    /// Whether replies need not wait, or so many bytes have got as far as they wait for; if not, `client` is woken then.
    pub fn may_reply(&self, position: u64, client: &Arc<Client>) -> bool {
        let may = || self.lets_replies_go.load(Ordering::Acquire) || self.reached().is_none_or(|at| at >= position);
        if may() {
            return true;
        }
        self.waiting.lock().insert(client.id, (position, client.clone()));
        // It may have got there between the first look and the entry.
        may()
    }

    /// How far the log has got in what replies wait for, if they do.
    #[inline]
    fn reached(&self) -> Option<u64> {
        match self.holds() {
            Holds::Nothing => None,
            Holds::UntilWritten => Some(self.written.load(Ordering::Acquire)),
            Holds::UntilSynced => Some(self.synced.load(Ordering::Acquire)),
        }
    }

    /// What replies wait for.
    #[inline]
    pub fn holds(&self) -> Holds {
        match self.holds.load(Ordering::Acquire) {
            0 => Holds::Nothing,
            1 => Holds::UntilWritten,
            _ => Holds::UntilSynced,
        }
    }

    /// Replies wait for what the log's thread is to do.
    pub fn call(&self) {
        self.inner.lock().is_called = true;
        self.work.notify_one();
    }

    /// Adds a job behind everything added so far. The next record selects its database again.
    pub fn add(&self, job: Job) {
        let mut inner = self.inner.lock();
        if inner.is_over {
            return;
        }
        inner.close_batch(Vec::new());
        inner.buffer.forget_db();
        inner.jobs.push_back(job);
        drop(inner);
        self.work.notify_one();
    }

    /// Writes and syncs everything added so far; waits for it.
    pub fn flush(&self) -> Result<(), String> {
        let (done, told) = mpsc::sync_channel(1);
        self.add(Job::Flush(done));
        told.recv_timeout(FLUSH_PATIENCE).unwrap_or_else(|error| {
            Err(match error {
                mpsc::RecvTimeoutError::Timeout => "the log's thread does not answer".to_owned(),
                mpsc::RecvTimeoutError::Disconnected => "the log has ended".to_owned(),
            })
        })
    }

    /// The log's thread is to end, once all that has been added is done.
    pub fn end(&self) {
        self.inner.lock().is_over = true;
        self.work.notify_one();
    }

    /// Whether the log's thread is to end.
    pub fn is_over(&self) -> bool {
        self.inner.lock().is_over
    }

    /// The log's thread ends: nobody is to wait for it any more.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.is_over = true;
        // Who asked for a flush hears of it in this way.
        inner.jobs.clear();
        self.room.notify_all();
    }

    /// Waits until there is something to do for the log's thread, at most `patience`.
    pub fn wait(&self, patience: Duration) {
        let mut inner = self.inner.lock();
        if !inner.is_called && inner.jobs.is_empty() && !inner.is_over {
            self.work.wait_for(&mut inner, patience);
        }
        inner.is_called = false;
    }

    /// All there is to do. `spare` is memory to be used again.
    pub fn take(&self, spare: Vec<u8>) -> VecDeque<Job> {
        let mut inner = self.inner.lock();
        inner.close_batch(spare);
        let jobs = std::mem::take(&mut inner.jobs);
        self.room.notify_all();
        jobs
    }

    /// The records that have been added, if there is nothing else to do.
    pub fn take_records(&self, spare: Vec<u8>) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        if !inner.jobs.is_empty() {
            return None;
        }
        self.room.notify_all();
        let records = inner.buffer.take(spare);
        inner.taken += records.len() as u64;
        Some(records)
    }

    /// Puts the directives into force for the records to come.
    pub fn obey(&self, config: &Config) {
        let mut inner = self.inner.lock();
        inner.buffer.set_options(config.aof_checksum, config.aof_timestamp_enabled);
        inner.always = config.appendfsync == AppendFsync::Always;
    }

    /// The same while the log is on: replies wait from now on.
    pub fn obey_now(&self, config: &Config) {
        self.obey(config);
        self.hold_replies(match config.appendfsync {
            AppendFsync::Always => Holds::UntilSynced,
            AppendFsync::EverySec | AppendFsync::No => Holds::UntilWritten,
        });
    }

    /// Says what replies wait for from now on.
    pub fn hold_replies(&self, holds: Holds) {
        if self.holds.swap(holds as u8, Ordering::AcqRel) != holds as u8 {
            self.wake_waiting();
        }
    }

    /// Replies do not wait until everything is written, or do so again.
    pub fn let_replies_go(&self, go: bool) {
        if self.lets_replies_go.swap(go, Ordering::AcqRel) != go {
            self.wake_waiting();
        }
    }

    /// So many bytes of all ever added are in the file, and on disk.
    pub fn set_progress(&self, written: u64, synced: u64) {
        self.synced.fetch_max(synced, Ordering::AcqRel);
        self.written.store(written, Ordering::Release);
        if self.lets_replies_go.load(Ordering::Relaxed) && !self.is_behind() {
            self.lets_replies_go.store(false, Ordering::Release);
        }
        self.wake_waiting();
    }

    /// So many bytes are on disk.
    pub fn set_synced(&self, synced: u64) {
        self.synced.fetch_max(synced, Ordering::AcqRel);
        self.wake_waiting();
    }

    fn wake_waiting(&self) {
        let all = self.lets_replies_go.load(Ordering::Acquire);
        let reached = self.reached().filter(|_| !all).unwrap_or(u64::MAX);
        self.waiting.lock().retain(|_, (position, client)| {
            let waits = *position > reached;
            if !waits {
                client.mailbox.wake();
            }
            waits
        });
    }
}

/// How long a flush may take before it counts as failed.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

impl Inner {
    fn close_batch(&mut self, spare: Vec<u8>) {
        if !self.buffer.is_empty() {
            let batches = self.buffer.take(spare);
            self.taken += batches.len() as u64;
            self.jobs.push_back(Job::Batches(batches));
        }
    }
}

/// The queue as a reader of the feed.
#[derive(Debug)]
pub struct QueueReader {
    queue: Arc<Queue>,
    clock: Clock,
    offset: Arc<Offset>,
}

impl QueueReader {
    /// The reader of this log's queue.
    pub fn new(aof: &Aof) -> Self {
        QueueReader { queue: aof.queue.clone(), clock: aof.core.clock.clone(), offset: aof.core.feed.offset.clone() }
    }
}

impl Reader for QueueReader {
    fn append(&self, records: &[Record<'_>]) {
        self.offset.count_commands(records.len());
        let mut inner = self.queue.inner.lock();
        // Reading the clock takes as long as all the rest.
        let now_s = if inner.buffer.has_timestamps() { self.clock.now_ms() / 1000 } else { 0 };
        for record in records {
            inner.buffer.encoded(record.db.map(|db| db as u64), now_s, record.command);
        }
        self.queue.pushed.store(inner.taken + inner.buffer.len() as u64, Ordering::Release);
        // Who waits for the log calls.
        if inner.buffer.len() > if inner.always { ALWAYS_WAKE_BYTES } else { WAKE_BYTES } && !inner.is_called {
            inner.is_called = true;
            self.queue.work.notify_one();
        }
        while inner.buffer.len() > FULL_BYTES && !inner.is_over {
            self.queue.room.wait(&mut inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::Acl;
    use crate::clients::{Clients, Origin};
    use crate::commands;

    #[test]
    fn a_client_that_looks_again_waits_once() {
        let (queue, clients) = (Queue::default(), Clients::new(Clock::System));
        let acl = Acl::new(commands::registry().catalog(), None);
        let account = acl.default_account();
        let origin = || Origin { addr: String::new(), laddr: String::new(), fd: 0, unix_socket: false };
        let [first, second] = [(), ()].map(|()| clients.add(origin(), 0, 0, account.clone()));
        queue.hold_replies(Holds::UntilWritten);
        for position in 10..20 {
            assert!(!queue.may_reply(position, &first));
        }
        assert!(!queue.may_reply(10, &second));
        assert_eq!(queue.waiting.lock().len(), 2);
        queue.set_progress(18, 0);
        assert_eq!(queue.waiting.lock().keys().collect::<Vec<_>>(), [&first.id]);
        queue.set_progress(19, 0);
        assert!(queue.waiting.lock().is_empty());
    }

    /// A disk that is lost ends the log's thread: a save or SHUTDOWN that asks it for a flush then hears so.
    #[test]
    fn nobody_waits_for_a_log_that_has_ended() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.flush());
            while queue.inner.lock().jobs.is_empty() {
                std::thread::yield_now();
            }
            queue.close();
            assert_eq!(waiting.join().unwrap(), Err("the log has ended".to_owned()));
        });
        assert_eq!(queue.flush(), Err("the log has ended".to_owned()));
    }
}
