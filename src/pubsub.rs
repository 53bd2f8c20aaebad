//! Who listens to which channel. Messages go to the listeners' mailboxes.

use crate::clients::Client;
use crate::resp::reply::Reply;
use crate::util::glob;
use crate::util::sync::RwLock;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Those who listen to one name.
pub type Listeners = Vec<Arc<Client>>;

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
    channels: DashMap<Box<[u8]>, Listeners>,
    shard_channels: DashMap<Box<[u8]>, Listeners>,
    /// In order of first subscription.
    patterns: RwLock<Vec<(Box<[u8]>, Listeners)>>,
}

impl PubSub {
    /// Adds a listener.
    pub fn subscribe(&self, topic: Topic, name: &[u8], client: &Arc<Client>) {
        match topic {
            Topic::Channel => self.channels.entry(name.into()).or_default().push(client.clone()),
            Topic::Shard => self.shard_channels.entry(name.into()).or_default().push(client.clone()),
            Topic::Pattern => {
                let mut patterns = self.patterns.write();
                match patterns.iter_mut().find(|(pattern, _)| **pattern == *name) {
                    Some((_, listeners)) => listeners.push(client.clone()),
                    None => patterns.push((name.into(), vec![client.clone()])),
                }
            }
        }
    }

    /// Takes a listener away.
    pub fn unsubscribe(&self, topic: Topic, name: &[u8], client: &Client) {
        let without = |listeners: &mut Listeners| listeners.retain(|other| other.id != client.id);
        let map = match topic {
            Topic::Channel => &self.channels,
            Topic::Shard => &self.shard_channels,
            Topic::Pattern => {
                let mut patterns = self.patterns.write();
                patterns.iter_mut().filter(|(pattern, _)| **pattern == *name).for_each(|(_, all)| without(all));
                patterns.retain(|(_, listeners)| !listeners.is_empty());
                return;
            }
        };
        if let Some(mut listeners) = map.get_mut(name) {
            without(&mut listeners);
        }
        map.remove_if(name, |_, listeners| listeners.is_empty());
    }

    /// Sends a message to a channel and the patterns that match it; how many received it.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let mut receivers = 0;
        if let Some(listeners) = self.channels.get(channel) {
            receivers += deliver(&listeners, &[b"message", channel, message]);
        }
        for (pattern, listeners) in self.patterns.read().iter() {
            if glob::matches(pattern, channel) {
                receivers += deliver(listeners, &[b"pmessage", pattern, channel, message]);
            }
        }
        receivers
    }

    /// Sends a message to a shard channel; how many received it.
    pub fn publish_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        self.shard_channels.get(channel).map_or(0, |listeners| deliver(&listeners, &[b"smessage", channel, message]))
    }

    /// The channels with listeners, those that match a pattern if one is given.
    pub fn channels(&self, topic: Topic, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let map = if topic == Topic::Shard { &self.shard_channels } else { &self.channels };
        let fits = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        let is_heard = |listeners: &Listeners| living(listeners).next().is_some();
        map.iter()
            .filter(|entry| fits(entry.key()) && is_heard(entry.value()))
            .map(|entry| entry.key().clone())
            .collect()
    }

    /// How many listen to a channel.
    pub fn listeners(&self, topic: Topic, name: &[u8]) -> usize {
        let map = if topic == Topic::Shard { &self.shard_channels } else { &self.channels };
        map.get(name).map_or(0, |listeners| living(&listeners).count())
    }

    /// Who listens to what `fits`; somebody may be named several times.
    pub fn listeners_where(&self, fits: impl Fn(Topic, &[u8]) -> bool) -> Listeners {
        let mut found = Vec::new();
        for (topic, map) in [(Topic::Channel, &self.channels), (Topic::Shard, &self.shard_channels)] {
            let fitting = map.iter().filter(|entry| fits(topic, entry.key()));
            fitting.for_each(|entry| found.extend(entry.value().iter().cloned()));
        }
        let patterns = self.patterns.read();
        let fitting = patterns.iter().filter(|(pattern, _)| fits(Topic::Pattern, pattern));
        fitting.for_each(|(_, listeners)| found.extend(listeners.iter().cloned()));
        found
    }

    /// How many channels, patterns and shard channels have listeners.
    pub fn counts(&self) -> [usize; 3] {
        [self.channels.len(), self.patterns.read().len(), self.shard_channels.len()]
    }

    /// Whether anybody listens to anything: notifications need not be made otherwise.
    pub fn is_idle(&self) -> bool {
        self.channels.is_empty() && self.patterns.read().is_empty()
    }
}

fn deliver(listeners: &Listeners, parts: &[&[u8]]) -> usize {
    // One encoding a protocol serves all listeners.
    let mut encoded: [Option<Vec<u8>>; 2] = [None, None];
    let mut count = 0;
    for client in living(listeners) {
        let resp3 = client.resp3.load(Ordering::Relaxed);
        let bytes = encoded[usize::from(resp3)].get_or_insert_with(|| {
            let mut reply = Reply::new(resp3);
            reply.push(parts.len());
            parts.iter().for_each(|part| reply.bulk(part));
            reply.buf
        });
        client.mailbox.send(bytes);
        count += 1;
    }
    count
}

/// Those whom nobody has killed: who is killed listens no more, though its worker has yet to take its connection down.
fn living(listeners: &Listeners) -> impl Iterator<Item = &Arc<Client>> {
    listeners.iter().filter(|client| !client.has(Client::KILLED))
}
