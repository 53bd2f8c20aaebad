//! One replica of this server: what it asked for, how far it is, and what is on its way to it.
//!
//! Its connection pulls bytes: first whatever other threads put into the outbox (the answer to PSYNC, the data set),
//! then the stream. The outbox is bounded: who fills it waits for the connection.

use crate::clients::Client;
use crate::replication::stream::Stream;
use crate::util::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a client has told by REPLCONF, before it becomes a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The port it listens on.
    pub port: u16,
    /// The address others reach it by, if it is not the one it connects from.
    pub ip: Option<String>,
    /// It knows a data set whose end is a mark rather than a length.
    pub eof: bool,
    /// It knows that a history can change its name.
    pub psync2: bool,
    /// It wants the data set and no stream.
    pub rdb_only: bool,
    /// Leave the keys out.
    pub without_data: bool,
    /// Leave the functions out.
    pub without_functions: bool,
}

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The data set is to be written for it.
    Waiting,
    /// The data set is being written.
    Saving,
    /// The data set is on its way.
    Sending,
    /// It has the data set; the stream follows.
    Online,
    /// It has what it wanted: close the connection.
    Done,
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    pub client: Arc<Client>,
    pub wishes: Wishes,
    /// It came by SYNC: it does not acknowledge anything.
    pub is_old: bool,
    /// When it asked, Unix ms.
    pub asked_at_ms: i64,
    state: Mutex<State>,
    room: Condvar,
    /// The offset up to which the connection has taken the stream.
    position: AtomicU64,
    /// Bytes of the stream beyond that.
    waiting: AtomicUsize,
    /// The connection sleeps until there is more of the stream.
    idle: AtomicBool,
    /// What it says it has processed, and has on disk.
    acknowledged: [AtomicU64; 2],
    /// When it last said so, Unix seconds.
    acknowledged_at_s: AtomicI64,
    /// It is among the good ones, as of when these were last counted.
    good: AtomicBool,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    outbox: VecDeque<Arc<[u8]>>,
    outbox_bytes: usize,
    /// The stream begins when it acknowledges something: it looks for the data set's end mark in what it reads.
    awaits_ack: bool,
    gone: bool,
}

/// Bytes in the outbox from which on whoever fills it waits.
const OUTBOX_BYTES: usize = 1 << 20;

impl fmt::Display for Replica {
    /// Its name in the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ip(), self.wishes.port)
    }
}

impl Replica {
    /// A client that becomes a replica.
    pub fn new(client: Arc<Client>, wishes: Wishes, is_old: bool, now_ms: i64) -> Self {
        let state =
            State { phase: Phase::Waiting, outbox: VecDeque::new(), outbox_bytes: 0, awaits_ack: false, gone: false };
        Replica {
            client,
            wishes,
            is_old,
            asked_at_ms: now_ms,
            state: Mutex::new(state),
            room: Condvar::new(),
            position: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            acknowledged: Default::default(),
            acknowledged_at_s: AtomicI64::new(0),
            good: AtomicBool::new(false),
        }
    }

    /// The address others reach it by.
    pub fn ip(&self) -> &str {
        let own = self.client.addr.rsplit_once(':').map_or(self.client.addr.as_str(), |(ip, _)| ip);
        self.wishes.ip.as_deref().unwrap_or_else(|| own.trim_start_matches('[').trim_end_matches(']'))
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// It goes on to the next phase.
    pub fn enter(&self, phase: Phase) {
        self.state.lock().phase = phase;
        self.client.mailbox.wake();
    }

    /// It has the data set: the stream follows, for some only once they have acknowledged something.
    pub fn put_online(&self, awaits_ack: bool, now_s: i64) {
        let mut state = self.state.lock();
        state.phase = if self.wishes.rdb_only { Phase::Done } else { Phase::Online };
        state.awaits_ack = awaits_ack;
        self.acknowledged_at_s.store(now_s, Ordering::Relaxed);
        drop(state);
        self.client.mailbox.wake();
    }

    /// Puts bytes into the outbox, whatever there is in it.
    pub fn put(&self, bytes: Arc<[u8]>) {
        let mut state = self.state.lock();
        state.outbox_bytes += bytes.len();
        state.outbox.push_back(bytes);
        drop(state);
        self.client.mailbox.wake();
    }

    /// Puts bytes into the outbox once there is room; false when the replica is gone, or takes nothing for `patience`.
    pub fn put_in_turn(&self, bytes: Arc<[u8]>, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.outbox_bytes >= OUTBOX_BYTES && !state.gone {
            let before = state.outbox_bytes;
            let late = self.room.wait_until(&mut state, deadline).timed_out();
            if late && state.outbox_bytes == before {
                return false;
            }
        }
        if state.gone {
            return false;
        }
        drop(state);
        self.put(bytes);
        true
    }

    /// A sign of life for a replica that waits for its data set.
    pub fn put_newline_if_waiting(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Waiting | Phase::Saving) && state.outbox.is_empty() {
            state.outbox_bytes += 1;
            state.outbox.push_back(Arc::from(&b"\n"[..]));
            drop(state);
            self.client.mailbox.wake();
        }
    }

    /// Moves what is to be sent next into `out`; false when there is nothing now. The connection is woken when there
    /// is.
    pub fn pull(&self, stream: &Stream, out: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if let Some(bytes) = state.outbox.pop_front() {
            state.outbox_bytes -= bytes.len();
            self.room.notify_one();
            out.extend_from_slice(&bytes);
            return true;
        }
        if state.phase != Phase::Online || state.awaits_ack {
            return false;
        }
        drop(state);
        stream.read(self, out)
    }

    /// Whether it has got all it wanted.
    pub fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Done && state.outbox.is_empty()
    }

    /// Its connection is gone: nobody is to wait for it.
    pub fn leave(&self) {
        self.state.lock().gone = true;
        self.room.notify_all();
    }

    /// Whether its connection is gone.
    pub fn is_gone(&self) -> bool {
        self.state.lock().gone
    }

    /// REPLCONF ACK: it has processed the stream up to `offset`, and has it on disk up to `on_disk`.
    pub fn acknowledge(&self, offset: u64, on_disk: Option<u64>, now_s: i64) {
        self.acknowledged[0].fetch_max(offset, Ordering::Release);
        self.acknowledged[1].fetch_max(on_disk.unwrap_or(0), Ordering::Release);
        self.acknowledged_at_s.store(now_s, Ordering::Relaxed);
        let mut state = self.state.lock();
        if state.phase == Phase::Online && std::mem::take(&mut state.awaits_ack) {
            drop(state);
            self.client.mailbox.wake();
        }
    }

    /// The offset up to which it has processed the stream.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged[0].load(Ordering::Acquire)
    }

    /// The offset up to which it has the stream on disk.
    pub fn acknowledged_on_disk(&self) -> u64 {
        self.acknowledged[1].load(Ordering::Acquire)
    }

    /// Seconds since it was heard of.
    pub fn lag_s(&self, now_s: i64) -> i64 {
        now_s - self.acknowledged_at_s.load(Ordering::Relaxed)
    }

    /// Whether it was good when that was last counted: an acknowledgement changes nothing then.
    pub fn is_good(&self) -> bool {
        self.good.load(Ordering::Relaxed)
    }

    pub(super) fn set_good(&self, good: bool) {
        self.good.store(good, Ordering::Relaxed);
    }

    /// The offset up to which its connection has taken the stream.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Bytes of the stream that wait for it, as of its last growth or reading.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Release);
    }

    pub(super) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Release);
    }

    /// The stream has got longer: how many bytes wait for it now.
    pub(super) fn note_waiting(&self, end: u64) -> u64 {
        let waiting = end.saturating_sub(self.position());
        let bytes = usize::try_from(waiting).unwrap_or(usize::MAX);
        self.waiting.store(bytes, Ordering::Relaxed);
        self.client.output_buffer.store(bytes, Ordering::Relaxed);
        if self.idle.swap(false, Ordering::AcqRel) {
            self.client.mailbox.wake();
        }
        waiting
    }

    /// More waits for it than it may: its connection is closed.
    pub(super) fn overrun(&self) {
        self.client.mailbox.put(|letters| letters.overrun = true);
    }
}
