//! Clients blocked on keys: queues in arrival order, in the shard that holds the key.
//!
//! A waiter hangs in the queue of each key it waits for. It is served, timed out or abandoned only by a thread that
//! holds the locks of every shard its command needs, so the two flags here need no order among themselves.
//!
//! A shard's queues are a B-tree of keys, and under each its waiters by ticket, so that waiting for a key and ceasing to is
//! O(log n) whatever there is, and memory comes back. The queues hold one entry for each key that a command has named,
//! which is what bounds them; the keys' bytes count as their clients'.

use crate::clients::{Client, Clients, Written};
use crate::keyspace::Key;
use crate::keyspace::lock::{Locked, MayWait, ShardSet, Shards};
use crate::keyspace::value::Kind;
use crate::resp::reply::Reply;
use crate::util::id_map::IdMap;
use crate::util::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A blocked client and the command it waits to finish.
#[derive(Debug)]
pub struct Waiter {
    /// Its place among all waiters: who came first has the lowest.
    pub ticket: u64,
    pub client: Arc<Client>,
    /// The number of its command.
    pub command: u16,
    /// The whole command, to be run again when a key is ready.
    pub argv: Vec<Box<[u8]>>,
    /// The same as it was sent, if that was otherwise.
    pub sent_argv: Option<Vec<Box<[u8]>>>,
    pub db: usize,
    pub resp3: bool,
    /// CLIENT REPLY: nobody hears how it ends.
    pub is_muted: bool,
    pub wait: Wait,
    /// The shards that running the command takes.
    pub shards: ShardSet,
    /// When to give up, Unix time in ms; None waits for ever.
    pub deadline_ms: Option<i64>,
    pub on_timeout: TimeoutReply,
    /// Answered, timed out or gone: to be skipped.
    pub done: AtomicBool,
    /// How long the command has run so far.
    pub ran_nanos: AtomicU64,
    /// The error that it was answered with from elsewhere, without the `-`.
    pub error: OnceLock<Box<[u8]>>,
}

/// The reply when the time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutReply {
    Null,
    NullArray,
    Integer(i64),
}

impl TimeoutReply {
    /// Appends it to `reply`.
    pub fn write(self, reply: &mut Reply) {
        match self {
            TimeoutReply::Null => reply.null(),
            TimeoutReply::NullArray => reply.null_array(),
            TimeoutReply::Integer(value) => reply.integer(value),
        }
    }
}

/// What WAIT and WAITAOF wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    pub written: Written,
    /// So many replicas have it.
    pub replicas: usize,
    /// WAITAOF: they have it on disk; and whether this server must have it on disk, too.
    pub on_disk: Option<bool>,
}

impl Acknowledgement {
    /// Whether that is enough.
    pub fn is_enough(&self, (local, replicas): (bool, usize)) -> bool {
        replicas >= self.replicas && (local || self.on_disk != Some(true))
    }

    /// The reply that tells it.
    pub fn write(&self, (local, replicas): (bool, usize), reply: &mut Reply) {
        if self.on_disk.is_some() {
            reply.array(2);
            reply.integer(i64::from(local));
        }
        reply.len(replicas);
    }
}

/// What ends a wait, beside its deadline.
#[derive(Debug)]
pub enum Wait {
    /// One of the keys comes to hold a `kind`; with `or_deletion` also that one goes or becomes another type (XREADGROUP).
    Keys { keys: Vec<Box<[u8]>>, kind: Kind, or_deletion: bool },
    /// Replicas, or the disk, have come far enough (WAIT, WAITAOF).
    Replicas(Acknowledgement),
    /// Another thread has done the command's work, at which it has been since then.
    Thread(Instant),
}

impl Wait {
    /// The keys waited for.
    pub fn keys(&self) -> &[Box<[u8]>] {
        if let Wait::Keys { keys, .. } = self { keys } else { &[] }
    }

    /// What is to be acknowledged.
    pub fn acknowledgement(&self) -> Option<Acknowledgement> {
        if let Wait::Replicas(wanted) = self { Some(*wanted) } else { None }
    }

    /// Whether the deletion of a key ends it, too.
    pub fn ends_by_deletion(&self) -> bool {
        matches!(self, Wait::Keys { or_deletion: true, .. })
    }

    /// Whether the command is to be run again now that one of its keys holds this, or is not there.
    pub fn is_due(&self, holds: Option<Kind>) -> bool {
        matches!(self, Wait::Keys { kind, or_deletion, .. } if *or_deletion || holds == Some(*kind))
    }
}

impl Waiter {
    /// The whole command as it was sent.
    pub fn sent(&self) -> &[Box<[u8]>] {
        self.sent_argv.as_ref().unwrap_or(&self.argv)
    }

    /// Whether it waits for something else than a key.
    pub fn waits_for_no_key(&self) -> bool {
        self.wait.keys().is_empty()
    }

    /// Whether it still waits.
    pub fn is_waiting(&self) -> bool {
        !self.done.load(Ordering::Acquire)
    }

    /// Enters it into the queues of its keys, whose shards are locked.
    pub fn enter(self: &Arc<Self>, locked: &mut Locked<'_>, shards: &Shards) {
        for key in self.wait.keys() {
            let shard = locked.shard_mut(Key::new(shards.seed(), key).hash);
            shard.dbs[self.db].waiters.push(key, self.clone());
        }
        self.count_cross_shard(locked, 1);
    }

    /// Counts a waiter of several shards in every locked shard that it needs.
    fn count_cross_shard(&self, locked: &mut Locked<'_>, by: isize) {
        if !self.shards.is_many() {
            return;
        }
        for (idx, shard) in locked.iter_mut() {
            if self.shards.has(idx) {
                shard.cross_shard_waiters = shard.cross_shard_waiters.saturating_add_signed(by);
            }
        }
    }

    /// Sends the reply, if it is wanted, and lets the client go on.
    pub fn release(&self, clients: &Clients, reply: &[u8]) {
        clients.answer(&self.client, if self.is_muted { &[] } else { reply });
    }

    /// What it takes: the command, and its places in the queues of its keys.
    pub fn memory_bytes(&self) -> usize {
        let args = self.argv.len() * Client::ARG_BYTES + 2 * self.client.argv_bytes.load(Ordering::Relaxed);
        size_of::<Waiter>() + args + self.wait.keys().len() * Client::KEPT_BYTES
    }
}

/// The waits of one server: how many there are, and those that WAIT and WAITAOF have begun.
#[derive(Debug, Default)]
pub struct Waits {
    /// Waits ever begun: the ticket of the next waiter.
    begun: AtomicU64,
    /// Clients that wait, in a command or for the end of a pause.
    pub blocked_clients: AtomicI64,
    /// Those of them that wait in a command and will give up some time.
    with_deadline: AtomicI64,
    /// Those that wait for an acknowledgement, by ticket: no more than there are clients.
    for_acknowledgement: Mutex<BTreeMap<u64, Arc<Waiter>>>,
    acknowledgements: AtomicUsize,
}

impl Waits {
    /// The next waiter's ticket. Taken under the locks of its keys: their queues are in order of arrival.
    pub fn ticket(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }

    /// How many clients wait in a command that will give up some time.
    pub fn with_deadline(&self) -> i64 {
        self.with_deadline.load(Ordering::Relaxed)
    }

    /// A client's wait begins.
    pub fn begin(&self, waiter: &Arc<Waiter>) {
        waiter.client.argv_bytes.store(waiter.argv.iter().map(|arg| arg.len()).sum(), Ordering::Relaxed);
        waiter.client.set(Client::BLOCKED, true);
        self.blocked_clients.fetch_add(1, Ordering::Relaxed);
        self.with_deadline.fetch_add(i64::from(waiter.deadline_ms.is_some()), Ordering::Relaxed);
        if waiter.wait.acknowledgement().is_some() {
            let mut waiting = self.for_acknowledgement.lock();
            waiting.insert(waiter.ticket, waiter.clone());
            self.acknowledgements.store(waiting.len(), Ordering::Release);
        }
    }

    /// Whether somebody waits for an acknowledgement.
    pub fn has_acknowledgements(&self) -> bool {
        self.acknowledgements.load(Ordering::Acquire) > 0
    }

    /// Those that wait for an acknowledgement, in order of arrival.
    pub fn for_acknowledgement(&self) -> Vec<Arc<Waiter>> {
        self.for_acknowledgement.lock().values().cloned().collect()
    }

    /// Ends a wait; false when it has ended already. Under the locks of its shards, if it is for keys.
    fn end(&self, waiter: &Waiter) -> bool {
        let is_first = !waiter.done.swap(true, Ordering::AcqRel);
        if is_first {
            waiter.client.argv_bytes.store(0, Ordering::Relaxed);
            waiter.client.set(Client::BLOCKED, false);
            self.blocked_clients.fetch_sub(1, Ordering::Relaxed);
            self.with_deadline.fetch_sub(i64::from(waiter.deadline_ms.is_some()), Ordering::Relaxed);
        }
        if is_first && waiter.wait.acknowledgement().is_some() {
            let mut waiting = self.for_acknowledgement.lock();
            waiting.remove(&waiter.ticket);
            self.acknowledgements.store(waiting.len(), Ordering::Release);
        }
        is_first
    }

    /// Ends a wait that is not for keys with this reply. False when it has ended already.
    pub fn answer(&self, clients: &Clients, waiter: &Waiter, reply: &[u8]) -> bool {
        debug_assert!(waiter.waits_for_no_key(), "who waits for keys is in queues, and is served there");
        let is_first = self.end(waiter);
        if is_first {
            if let Some(line) = reply.strip_prefix(b"-") {
                // It is answered once.
                let _ = waiter.error.set(line.into());
            }
            waiter.release(clients, reply);
        }
        is_first
    }

    /// Takes a waiter out of all its queues: it has timed out, was unblocked or its client is gone. False when it was
    /// answered meanwhile: the reply is in its mailbox.
    pub fn abandon(&self, shards: &Shards, waiter: &Waiter, may_wait: MayWait) -> bool {
        let mut locked = shards.lock(waiter.shards, may_wait);
        self.leave(&mut locked, shards, waiter)
    }

    /// Ends a wait whose shards are locked, and takes the waiter out of its queues. False when it has ended already.
    pub fn leave(&self, locked: &mut Locked<'_>, shards: &Shards, waiter: &Waiter) -> bool {
        let is_first = self.end(waiter);
        if is_first {
            for key in waiter.wait.keys() {
                let shard = locked.shard_mut(Key::new(shards.seed(), key).hash);
                shard.dbs[waiter.db].waiters.remove(key, waiter);
            }
            waiter.count_cross_shard(locked, -1);
        }
        is_first
    }
}

/// The queues of one shard's part of a database.
#[derive(Debug, Default)]
pub struct Waiters {
    queues: BTreeMap<Box<[u8]>, Queue>,
    /// Queues in which somebody waits for the key's deletion.
    awaiting_deletion: usize,
}

/// Who waits for one key.
#[derive(Debug, Default)]
struct Queue {
    /// By ticket.
    waiters: IdMap<Arc<Waiter>>,
    /// How many of them want to know of the key's deletion.
    want_deletion: usize,
    /// The key is among those that the command under way has made ready.
    is_ready: bool,
}

impl Waiters {
    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The keys waited for.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.queues.keys().map(|key| &**key)
    }

    /// How many keys are waited for, and of how many the deletion.
    pub fn counts(&self) -> (usize, usize) {
        (self.queues.len(), self.awaiting_deletion)
    }

    /// Marks a key as ready; false when nobody waits for it, or it is marked already. It is the caller's to have it served.
    pub fn mark_ready(&mut self, key: &[u8]) -> bool {
        self.queues.get_mut(key).is_some_and(|queue| !std::mem::replace(&mut queue.is_ready, true))
    }

    /// Marks a key whose waiters are about to be served; the ticket of the last of them.
    pub fn begin_serving(&mut self, key: &[u8]) -> Option<u64> {
        let queue = self.queues.get_mut(key)?;
        queue.is_ready = false;
        queue.waiters.last_id()
    }

    /// The first waiter of a key behind this ticket.
    pub fn after(&self, key: &[u8], ticket: Option<u64>) -> Option<&Arc<Waiter>> {
        self.queues.get(key)?.waiters.after(ticket).map(|(_, waiter)| waiter)
    }

    /// Whether somebody waits for this key's deletion.
    pub fn want_deletion(&self, key: &[u8]) -> bool {
        self.queues.get(key).is_some_and(|queue| queue.want_deletion > 0)
    }

    /// Adds a waiter to a key's queue. `BLPOP k k 0` waits once.
    pub fn push(&mut self, key: &[u8], waiter: Arc<Waiter>) {
        let queue = self.queues.entry(key.into()).or_default();
        let wants_deletion = waiter.wait.ends_by_deletion();
        if queue.waiters.insert(waiter.ticket, waiter) && wants_deletion {
            queue.want_deletion += 1;
            self.awaiting_deletion += usize::from(queue.want_deletion == 1);
        }
    }

    /// Takes a waiter out of a key's queue.
    pub fn remove(&mut self, key: &[u8], waiter: &Waiter) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        if queue.waiters.remove(waiter.ticket).is_some() && waiter.wait.ends_by_deletion() {
            queue.want_deletion -= 1;
            self.awaiting_deletion -= usize::from(queue.want_deletion == 0);
        }
        if queue.waiters.is_empty() {
            self.queues.remove(key);
        }
    }
}
