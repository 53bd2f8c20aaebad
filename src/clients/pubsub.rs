//! Who listens to which channel. Messages go to the listeners' mailboxes.
//!
//! Three registers, each behind a lock of its own: a B-tree of names, and under each its listeners by client id. Entering
//! and leaving is O(log n) whatever there is, and memory comes back with the names. A message costs one look-up, a match
//! with each pattern, and the listeners it reaches. How many names there are is bounded by nothing but memory, which counts
//! as their clients' (`maxmemory-clients`).

use crate::clients::{Client, Clients};
use crate::resp::reply::Reply;
use crate::util::glob;
use crate::util::id_map::IdMap;
use crate::util::sync::RwLock;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Those who listen to one name.
type Listeners = IdMap<Arc<Client>>;

/// Who listens to which name.
type Names = BTreeMap<Box<[u8]>, Listeners>;

/// The three kinds of subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Channel,
    Pattern,
    Shard,
}

/// The subscriptions of one server.
#[derive(Debug, Default)]
pub struct PubSub {
    /// By [`Topic`].
    names: [RwLock<Names>; 3],
}

impl PubSub {
    fn of(&self, topic: Topic) -> &RwLock<Names> {
        &self.names[topic as usize]
    }

    /// Adds a listener. O(log n).
    pub fn subscribe(&self, topic: Topic, name: &[u8], client: &Arc<Client>) {
        self.of(topic).write().entry(name.into()).or_default().insert(client.id, client.clone());
    }

    /// Takes a listener away. O(log n).
    pub fn unsubscribe(&self, topic: Topic, name: &[u8], client: &Client) {
        let mut names = self.of(topic).write();
        let Some(listeners) = names.get_mut(name) else { return };
        listeners.remove(client.id);
        if listeners.is_empty() {
            names.remove(name);
        }
    }

    /// Sends a message to a channel and the patterns that match it; how many received it.
    pub fn publish(&self, clients: &Clients, channel: &[u8], message: &[u8]) -> usize {
        let mut receivers = 0;
        if let Some(listeners) = self.of(Topic::Channel).read().get(channel) {
            receivers += deliver(clients, listeners, &[b"message", channel, message]);
        }
        for (pattern, listeners) in self.of(Topic::Pattern).read().iter() {
            if glob::matches(pattern, channel) {
                receivers += deliver(clients, listeners, &[b"pmessage", pattern, channel, message]);
            }
        }
        receivers
    }

    /// Sends a message to a shard channel; how many received it.
    pub fn publish_shard(&self, clients: &Clients, channel: &[u8], message: &[u8]) -> usize {
        let names = self.of(Topic::Shard).read();
        names.get(channel).map_or(0, |listeners| deliver(clients, listeners, &[b"smessage", channel, message]))
    }

    /// The channels with listeners, those that match a pattern if one is given.
    pub fn channels(&self, topic: Topic, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let fits = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        let is_heard = |listeners: &Listeners| living(listeners).next().is_some();
        let names = self.of(topic).read();
        let heard = names.iter().filter(|(name, listeners)| fits(name) && is_heard(listeners));
        heard.map(|(name, _)| name.clone()).collect()
    }

    /// How many listen to a channel. O(listeners).
    pub fn listeners(&self, topic: Topic, name: &[u8]) -> usize {
        self.of(topic).read().get(name).map_or(0, |listeners| living(listeners).count())
    }

    /// Who listens to what `fits`; somebody may be named several times.
    pub fn listeners_where(&self, fits: impl Fn(Topic, &[u8]) -> bool) -> Vec<Arc<Client>> {
        let mut found = Vec::new();
        for topic in [Topic::Channel, Topic::Shard, Topic::Pattern] {
            let names = self.of(topic).read();
            let fitting = names.iter().filter(|(name, _)| fits(topic, name));
            fitting.for_each(|(_, listeners)| found.extend(listeners.values().cloned()));
        }
        found
    }

    /// How many channels, patterns and shard channels have listeners.
    pub fn counts(&self) -> [usize; 3] {
        [Topic::Channel, Topic::Pattern, Topic::Shard].map(|topic| self.of(topic).read().len())
    }
}

/// What a string takes in a message beside its bytes, at most; the message's own head is shorter.
const HEAD_BYTES: usize = 32;

fn deliver(clients: &Clients, listeners: &Listeners, parts: &[&[u8]]) -> usize {
    // One encoding a protocol serves all listeners.
    let mut encoded: [Option<Bytes>; 2] = [None, None];
    let mut count = 0;
    for client in living(listeners) {
        let resp3 = client.resp3.load(Ordering::Relaxed);
        let bytes = encoded[usize::from(resp3)].get_or_insert_with(|| {
            let mut reply = Reply::new(resp3);
            // A long message is kept as it is made: without room to grow.
            reply.buf.reserve_exact(parts.iter().map(|part| part.len() + HEAD_BYTES).sum());
            reply.push(parts.len());
            parts.iter().for_each(|part| reply.bulk(part));
            Bytes::from(reply.buf)
        });
        clients.send_shared(client, bytes);
        count += 1;
    }
    count
}

/// Those whom nobody has killed: who is killed listens no more, though its worker has yet to take its connection down.
fn living(listeners: &Listeners) -> impl Iterator<Item = &Arc<Client>> {
    listeners.values().filter(|client| !client.has(Client::KILLED))
}
