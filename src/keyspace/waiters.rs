//! Clients blocked on keys: queues in arrival order, in the shard that holds the key.
//!
//! A waiter hangs in the queue of each key it waits for. It is served, timed out or abandoned only by a thread that
//! holds the locks of every shard its command needs, so the two flags here need no order among themselves.

use crate::clients::Client;
use crate::command::session::{Acknowledgement, TimeoutReply};
use crate::command::table::CommandRef;
use crate::keyspace::lock::ShardSet;
use crate::keyspace::value::Kind;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A blocked client and the command it waits to finish.
#[derive(Debug)]
pub struct Waiter {
    pub client: Arc<Client>,
    pub command: CommandRef,
    /// The whole command, to be run again when a key is ready.
    pub argv: Vec<Box<[u8]>>,
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
}

impl Waiter {
    /// Whether it still waits.
    pub fn is_waiting(&self) -> bool {
        !self.done.load(Ordering::Acquire)
    }
}

/// The queues of one shard's part of a database.
#[derive(Debug, Default)]
pub struct Waiters {
    queues: HashMap<Box<[u8]>, VecDeque<Arc<Waiter>>>,
}

impl Waiters {
    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether somebody waits for this key.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.queues.contains_key(key)
    }

    /// The keys waited for.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.queues.keys().map(|key| &**key)
    }

    /// The waiters of a key in arrival order.
    pub fn queue(&self, key: &[u8]) -> Vec<Arc<Waiter>> {
        self.queues.get(key).map(|queue| queue.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether somebody waits for this key's deletion.
    pub fn want_deletion(&self, key: &[u8]) -> bool {
        self.queues.get(key).is_some_and(|queue| queue.iter().any(|waiter| waiter.wakes_on_deletion))
    }

    /// Appends a waiter to a key's queue.
    pub fn push(&mut self, key: &[u8], waiter: Arc<Waiter>) {
        let queue = self.queues.entry(key.into()).or_default();
        // `BLPOP k k 0` waits once.
        if !queue.iter().any(|other| Arc::ptr_eq(other, &waiter)) {
            queue.push_back(waiter);
        }
    }

    /// Takes a waiter out of a key's queue.
    pub fn remove(&mut self, key: &[u8], waiter: &Arc<Waiter>) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.retain(|other| !Arc::ptr_eq(other, waiter));
            if queue.is_empty() {
                self.queues.remove(key);
            }
        }
    }
}
