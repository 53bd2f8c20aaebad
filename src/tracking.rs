//! Client-side caching: which clients must hear that a key has changed (CLIENT TRACKING).
//!
//! In the default mode the server remembers, by key name over all databases, who has read a key; the next change tells
//! them and forgets them. In broadcast mode a client names prefixes and hears of every change under them. Messages go
//! to mailboxes, so they reach a client behind the replies under way. One lock; nothing is taken under it but mailboxes.

use crate::clients::{Client, Clients};
use crate::keyspace::effects::StaleRead;
use crate::resp::reply::Reply;
use crate::util::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a client asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Send invalidations to this client instead.
    pub redirect: Option<u64>,
    pub bcast: bool,
    pub optin: bool,
    pub optout: bool,
    /// Not about the client's own changes.
    pub noloop: bool,
    /// With `bcast`; none means every key.
    pub prefixes: Vec<Box<[u8]>>,
}

/// The tracking table of one server.
#[derive(Debug, Default)]
pub struct Tracking {
    clients_len: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clients: HashMap<u64, Tracker>,
    readers: HashMap<Box<[u8]>, HashSet<u64>>,
    /// Client ids by prefix; a client without prefixes has the empty one.
    prefixes: BTreeMap<Box<[u8]>, HashSet<u64>>,
}

#[derive(Debug)]
struct Tracker {
    client: Arc<Client>,
    options: Options,
    /// The client redirected to has gone, and this one has been told.
    is_broken: bool,
}

impl Tracking {
    /// Whether any client tracks keys.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.clients_len.load(Ordering::Relaxed) > 0
    }

    /// How many clients track, how many keys and prefixes are remembered, and how many (key, client) pairs.
    pub fn counts(&self) -> [usize; 4] {
        let inner = self.inner.lock();
        let pairs = inner.readers.values().map(HashSet::len).sum();
        [inner.clients.len(), inner.readers.len(), inner.prefixes.len(), pairs]
    }

    /// Starts or changes a client's tracking; prefixes are added to those it has.
    pub fn enable(&self, client: &Arc<Client>, mut options: Options) {
        let mut inner = self.inner.lock();
        let id = client.id;
        if options.bcast {
            let had = inner.clients.remove(&id).map(|tracker| tracker.options.prefixes).unwrap_or_default();
            let mut new = std::mem::replace(&mut options.prefixes, had);
            if new.is_empty() && options.prefixes.is_empty() {
                new.push(Box::default());
            }
            for prefix in new {
                if inner.prefixes.entry(prefix.clone()).or_default().insert(id) {
                    client.keep(&prefix);
                    options.prefixes.push(prefix);
                }
            }
        }
        inner.clients.insert(id, Tracker { client: client.clone(), options, is_broken: false });
        self.clients_len.store(inner.clients.len(), Ordering::Relaxed);
        client.set(Client::TRACKING, true);
    }

    /// Ends a client's tracking. The keys it has read are forgotten as they change.
    pub fn disable(&self, client: &Client) {
        let mut inner = self.inner.lock();
        let Some(tracker) = inner.clients.remove(&client.id) else { return };
        for prefix in &tracker.options.prefixes {
            client.forget(prefix);
            if let Some(ids) = inner.prefixes.get_mut(prefix) {
                ids.remove(&client.id);
                if ids.is_empty() {
                    inner.prefixes.remove(prefix);
                }
            }
        }
        if inner.clients.is_empty() {
            inner.readers.clear();
        }
        self.clients_len.store(inner.clients.len(), Ordering::Relaxed);
        client.set(Client::TRACKING, false);
    }

    /// What a client asked for, and whether its redirection is broken; None when it does not track.
    pub fn options(&self, client_id: u64) -> Option<(Options, bool)> {
        let inner = self.inner.lock();
        inner.clients.get(&client_id).map(|tracker| (tracker.options.clone(), tracker.is_broken))
    }

    /// Remembers that a client has read keys. `caching`: what CLIENT CACHING said for this command.
    pub fn remember<'k>(&self, client: &Client, caching: Option<bool>, keys: impl Iterator<Item = &'k [u8]>) {
        let mut inner = self.inner.lock();
        let Some(tracker) = inner.clients.get(&client.id) else { return };
        let options = &tracker.options;
        let is_left_out = options.optin && caching != Some(true) || options.optout && caching == Some(false);
        if options.bcast || is_left_out {
            return;
        }
        for key in keys {
            inner.readers.entry(key.into()).or_default().insert(client.id);
        }
    }

    /// Takes out who has read these keys, which `by` has changed. They are told later: behind the replies that the change
    /// brings about, though what they read after it stays valid.
    pub fn take_readers(&self, keys: &[Box<[u8]>], by: u64, into: &mut Vec<StaleRead>) {
        let mut inner = self.inner.lock();
        for key in keys {
            if let Some(readers) = inner.readers.remove(key) {
                into.push(StaleRead { key: key.clone(), readers: readers.into_iter().collect(), by });
            }
        }
    }

    /// Tells readers of keys that these have changed, and who tracks prefixes that `keys` have, which `by` has changed.
    pub fn invalidate(&self, stale: &[StaleRead], keys: &[Box<[u8]>], by: u64, clients: &Clients) {
        let mut inner = self.inner.lock();
        for StaleRead { key, readers, by } in stale {
            for id in readers {
                // Whoever broadcasts now hears of its prefixes, whatever it read before.
                if inner.clients.get(id).is_some_and(|tracker| !tracker.options.bcast) {
                    inner.tell(*id, &[&**key], *by, clients);
                }
            }
        }
        // One message for each prefix, as Redis sends them: its keys once each, and in order.
        let broadcasts: Vec<(Vec<u64>, BTreeSet<&[u8]>)> = inner
            .prefixes
            .iter()
            .map(|(prefix, ids)| {
                let under = keys.iter().map(|key| &**key).filter(|key| key.starts_with(prefix));
                (ids.iter().copied().collect(), under.collect())
            })
            .collect();
        for (ids, keys) in broadcasts.into_iter().filter(|(_, keys)| !keys.is_empty()) {
            let keys: Vec<&[u8]> = keys.into_iter().collect();
            ids.into_iter().for_each(|id| inner.broadcast(id, &keys, by, clients));
        }
    }

    /// Tells every tracking client that all keys are gone.
    pub fn flushed(&self, clients: &Clients) {
        let mut inner = self.inner.lock();
        inner.readers.clear();
        let ids: Vec<u64> = inner.clients.keys().copied().collect();
        for id in ids {
            inner.send(id, None, clients);
        }
    }

    /// Forgets keys, telling their readers, until at most `max_keys` are remembered (`tracking-table-max-keys`;
    /// 0: no limit).
    pub fn shrink(&self, max_keys: usize, clients: &Clients) {
        if !self.is_on() {
            return;
        }
        loop {
            let mut inner = self.inner.lock();
            if max_keys == 0 || inner.readers.len() <= max_keys {
                return;
            }
            let Some(key) = inner.readers.keys().next().cloned() else { return };
            for id in inner.readers.remove(&key).unwrap_or_default() {
                inner.send(id, Some(&[&*key]), clients);
            }
        }
    }
}

impl Inner {
    /// Tells a client of changes under a prefix: of the keys that it may read, since a name can say enough.
    fn broadcast(&mut self, id: u64, keys: &[&[u8]], by: u64, clients: &Clients) {
        let Some(account) = self.clients.get(&id).map(|tracker| tracker.client.account.lock().clone()) else { return };
        if account.is_free() {
            return self.tell(id, keys, by, clients);
        }
        let user = account.user();
        let keys: Vec<&[u8]> = keys.iter().copied().filter(|key| user.reads_key(key)).collect();
        if !keys.is_empty() {
            self.tell(id, &keys, by, clients);
        }
    }

    /// Sends an invalidation unless it is about the client's own change and the client does not want those.
    fn tell(&mut self, id: u64, keys: &[&[u8]], by: u64, clients: &Clients) {
        let is_own = self.clients.get(&id).is_some_and(|tracker| tracker.options.noloop && id == by);
        if !is_own {
            self.send(id, Some(keys), clients);
        }
    }

    /// `keys` None: all of them.
    fn send(&mut self, id: u64, keys: Option<&[&[u8]]>, clients: &Clients) {
        let Some(tracker) = self.clients.get_mut(&id) else { return };
        let target = match tracker.options.redirect {
            None => Some(tracker.client.clone()),
            Some(other) => clients.find(other),
        };
        let Some(target) = target else {
            if !std::mem::replace(&mut tracker.is_broken, true) && tracker.client.resp3.load(Ordering::Relaxed) {
                let mut reply = Reply::new(true);
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.integer(tracker.options.redirect.unwrap_or_default() as i64);
                tracker.client.mailbox.send(&reply.buf);
            }
            return;
        };
        let resp3 = target.resp3.load(Ordering::Relaxed);
        let mut reply = Reply::new(resp3);
        if resp3 {
            reply.push(2);
            reply.bulk(b"invalidate");
        } else if tracker.options.redirect.is_some() && target.subscriptions[0].load(Ordering::Relaxed) > 0 {
            // A RESP2 client hears of it as of a message on this channel.
            reply.array(3);
            reply.bulk(b"message");
            reply.bulk(b"__redis__:invalidate");
        } else {
            return;
        }
        match keys {
            Some(keys) => {
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
            }
            None => reply.null_array(),
        }
        clients.send_invalidation(&target, &reply.buf);
    }
}
