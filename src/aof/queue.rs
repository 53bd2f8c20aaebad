//! Records on their way to the log: workers add, the appender takes.

use crate::clients::Client;
use crate::config::{AppendFsync, Config};
use crate::feed::Reader;
use crate::feed::records::Record;
use crate::util::clock::Clock;
use crate::util::sync::{Condvar, Mutex};
use redstart_persistence::aof::LogBuffer;
use redstart_persistence::file::File;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Records collected at which the appender is woken early,
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
    /// Bytes of these that are on disk.
    synced: AtomicU64,
    /// Replies wait for the disk (`appendfsync always`, while the log is on).
    holds_replies: AtomicBool,
    /// Clients to wake when so many bytes are on disk.
    waiting: Mutex<Vec<(u64, Arc<Client>)>>,
}

#[derive(Debug)]
struct Inner {
    buffer: LogBuffer,
    /// What comes before the buffer.
    jobs: VecDeque<Job>,
    /// Memory for the next buffer.
    spare: Vec<u8>,
    /// Bytes ever given to `jobs`.
    taken: u64,
    always: bool,
    /// The appender sleeps until somebody adds something.
    is_idle: bool,
    /// There is no appender any more.
    is_over: bool,
}

/// What the appender is to do, in order.
pub enum Job {
    /// Write these batches.
    Batches(Vec<u8>),
    /// Finish the file and go on with this one, which has so many bytes.
    Switch(Box<dyn File>, u64),
    /// Write and sync all there is, and say how it went.
    Flush(mpsc::SyncSender<Result<(), String>>),
    /// Finish the file and have none.
    Close,
    /// Finish the file and end.
    End,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Job::Batches(_) => "Batches",
            Job::Switch(..) => "Switch",
            Job::Flush(_) => "Flush",
            Job::Close => "Close",
            Job::End => "End",
        })
    }
}

impl Default for Queue {
    fn default() -> Self {
        let inner = Inner {
            buffer: LogBuffer::new(true, false),
            jobs: VecDeque::new(),
            spare: Vec::new(),
            taken: 0,
            always: false,
            is_idle: false,
            is_over: false,
        };
        Queue {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            room: Condvar::new(),
            pushed: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            holds_replies: AtomicBool::new(false),
            waiting: Mutex::new(Vec::new()),
        }
    }
}

impl Queue {
    /// Bytes waiting to be written.
    pub fn len(&self) -> usize {
        self.inner.lock().buffer.len()
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

    /// Bytes ever added, if replies made now have to wait until these are on disk.
    #[inline]
    pub fn reply_position(&self) -> Option<u64> {
        self.holds_replies.load(Ordering::Acquire).then(|| self.pushed.load(Ordering::Acquire))
    }

    /// Whether so many bytes are on disk; if not, `client` is woken when they are.
    pub fn is_durable(&self, position: u64, client: &Arc<Client>) -> bool {
        if self.synced.load(Ordering::Acquire) >= position || !self.holds_replies.load(Ordering::Acquire) {
            return true;
        }
        self.waiting.lock().push((position, client.clone()));
        // It may have been synced between the first look and the entry.
        self.synced.load(Ordering::Acquire) >= position
    }

    /// Replies wait for what has been added.
    pub fn call(&self) {
        self.work.notify_one();
    }

    /// Adds a job behind everything added so far. The next record selects its database again.
    pub fn add(&self, job: Job) {
        let mut inner = self.inner.lock();
        if inner.is_over {
            return;
        }
        inner.close_batch();
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

    /// The appender ends: nobody is to wait for it any more.
    pub fn end(&self) {
        let mut inner = self.inner.lock();
        inner.is_over = true;
        // Who asked for a flush hears of it in this way.
        inner.jobs.clear();
        self.room.notify_all();
    }

    /// What there is to do; waits at most `patience` for something. With `gather`, waits that long even if there is
    /// something, unless it is urgent. `spare` is memory to be used again.
    pub fn take(&self, patience: Duration, gather: bool, spare: Vec<u8>) -> VecDeque<Job> {
        let mut inner = self.inner.lock();
        if spare.capacity() <= FULL_BYTES / 16 {
            inner.spare = spare;
        }
        let is_urgent = !inner.jobs.is_empty() || inner.always && !inner.buffer.is_empty();
        if !is_urgent && (gather || inner.buffer.is_empty()) {
            inner.is_idle = !gather;
            self.work.wait_for(&mut inner, patience);
            inner.is_idle = false;
        }
        inner.close_batch();
        let jobs = std::mem::take(&mut inner.jobs);
        self.room.notify_all();
        jobs
    }

    /// Puts the directives into force for the records to come.
    pub fn obey(&self, config: &Config) {
        let mut inner = self.inner.lock();
        inner.buffer.set_options(config.aof_checksum, config.aof_timestamp_enabled);
        inner.always = config.appendfsync == AppendFsync::Always;
    }

    /// The same while the log is on: `always` holds from now on.
    pub fn obey_now(&self, config: &Config) {
        self.obey(config);
        self.hold_replies(config.appendfsync == AppendFsync::Always);
    }

    /// Says whether replies wait for the disk from now on.
    pub fn hold_replies(&self, hold: bool) {
        if self.holds_replies.swap(hold, Ordering::AcqRel) && !hold {
            self.wake_waiting(u64::MAX);
        }
    }

    /// So many bytes of all ever added are on disk.
    pub fn set_synced(&self, synced: u64) {
        self.synced.store(synced, Ordering::Release);
        self.wake_waiting(synced);
    }

    fn wake_waiting(&self, synced: u64) {
        self.waiting.lock().retain(|(position, client)| {
            let waits = *position > synced;
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
    fn close_batch(&mut self) {
        if !self.buffer.is_empty() {
            let batches = self.buffer.take(std::mem::take(&mut self.spare));
            self.taken += batches.len() as u64;
            self.jobs.push_back(Job::Batches(batches));
        }
    }
}

/// The queue as a reader of the feed.
#[derive(Debug)]
pub struct QueueReader {
    pub queue: Arc<Queue>,
    pub clock: Clock,
}

impl Reader for QueueReader {
    fn append(&self, records: &[Record<'_>]) {
        let mut inner = self.queue.inner.lock();
        // Reading the clock takes as long as all the rest.
        let now_s = if inner.buffer.has_timestamps() { self.clock.now_ms() / 1000 } else { 0 };
        for record in records {
            inner.buffer.encoded(record.db.map(|db| db as u64), now_s, record.command);
        }
        self.queue.pushed.store(inner.taken + inner.buffer.len() as u64, Ordering::Release);
        let wakes = match inner.always {
            // Who waits for the disk calls.
            true => inner.buffer.len() > ALWAYS_WAKE_BYTES,
            false => std::mem::take(&mut inner.is_idle) || inner.buffer.len() > WAKE_BYTES,
        };
        if wakes {
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

    /// A disk that is lost ends the log's thread: a save or SHUTDOWN that asks it for a flush then hears so.
    #[test]
    fn nobody_waits_for_a_log_that_has_ended() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.flush());
            while queue.inner.lock().jobs.is_empty() {
                std::thread::yield_now();
            }
            queue.end();
            assert_eq!(waiting.join().unwrap(), Err("the log has ended".to_owned()));
        });
        assert_eq!(queue.flush(), Err("the log has ended".to_owned()));
    }
}
