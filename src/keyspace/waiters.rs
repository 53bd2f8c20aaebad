//! Clients blocked on keys: queues in arrival order, in the shard that holds the key.
//!
//! A waiter hangs in the queue of each key it waits for. It is served, timed out or abandoned only by a thread that
//! holds the locks of every shard its command needs, so the two flags here need no order among themselves.
//!
//! A shard's queues are a B-tree of keys, and under each its waiters by ticket, so that waiting for a key and ceasing to is
//! O(log n) whatever there is, and memory comes back. The queues hold one entry for each key that a command has named,
//! which is what bounds them; the keys' bytes count as their clients'.

use crate::clients::Client;
use crate::command::session::{Acknowledgement, TimeoutReply};
use crate::command::table::CommandRef;
use crate::keyspace::lock::ShardSet;
use crate::keyspace::value::Kind;
use crate::util::id_map::IdMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A blocked client and the command it waits to finish.
#[derive(Debug)]
pub struct Waiter {
    /// Its place among all waiters: who came first has the lowest.
    pub ticket: u64,
    pub client: Arc<Client>,
    pub command: CommandRef,
    /// The whole command, to be run again when a key is ready.
    pub argv: Vec<Box<[u8]>>,
    /// The same as it was sent, if that was otherwise.
    pub sent_argv: Option<Vec<Box<[u8]>>>,
    pub db: usize,
    pub resp3: bool,
    /// CLIENT REPLY: nobody hears how it ends.
    pub is_muted: bool,
    /// The keys waited for.
    pub keys: Vec<Box<[u8]>>,
    /// The shards that running the command takes.
    pub shards: ShardSet,
    /// The type of value waited for.
    pub wants: Kind,
    /// When to give up, Unix time in ms; None waits for ever.
    pub deadline_ms: Option<i64>,
    pub on_timeout: TimeoutReply,
    /// WAIT and WAITAOF: what is waited for in the place of keys.
    pub acknowledgement: Option<Acknowledgement>,
    /// Also run the command again when the key is deleted or becomes another type (XREADGROUP).
    pub wakes_on_deletion: bool,
    /// Answered, timed out or gone: to be skipped.
    pub done: AtomicBool,
    /// How long the command has run so far.
    pub ran_nanos: AtomicU64,
    /// Since when another thread does the command's work.
    pub deferred_since: Option<Instant>,
    /// The error that it was answered with from elsewhere, without the `-`.
    pub error: OnceLock<Box<[u8]>>,
}

impl Waiter {
    /// The whole command as it was sent.
    pub fn sent(&self) -> &[Box<[u8]>] {
        self.sent_argv.as_ref().unwrap_or(&self.argv)
    }

    /// Whether it waits for something else than a key.
    pub fn waits_for_no_key(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether it still waits.
    pub fn is_waiting(&self) -> bool {
        !self.done.load(Ordering::Acquire)
    }

    /// What it takes: the command, and its places in the queues of its keys.
    pub fn memory_bytes(&self) -> usize {
        let args = self.argv.len() * Client::ARG_BYTES + 2 * self.client.argv_bytes.load(Ordering::Relaxed);
        size_of::<Waiter>() + args + self.keys.len() * Client::KEPT_BYTES
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
        let wants_deletion = waiter.wakes_on_deletion;
        if queue.waiters.insert(waiter.ticket, waiter) && wants_deletion {
            queue.want_deletion += 1;
            self.awaiting_deletion += usize::from(queue.want_deletion == 1);
        }
    }

    /// Takes a waiter out of a key's queue.
    pub fn remove(&mut self, key: &[u8], waiter: &Waiter) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        if queue.waiters.remove(waiter.ticket).is_some() && waiter.wakes_on_deletion {
            queue.want_deletion -= 1;
            self.awaiting_deletion -= usize::from(queue.want_deletion == 0);
        }
        if queue.waiters.is_empty() {
            self.queues.remove(key);
        }
    }
}
