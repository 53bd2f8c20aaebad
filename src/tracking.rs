//! Client-side caching: which clients must hear that a key has changed (CLIENT TRACKING).
//!
//! In the default mode the server remembers, by key name over all databases, who has read a key; the next change tells
//! them and forgets them. In broadcast mode a client names prefixes and hears of every change under them. Messages go
//! to mailboxes, so they reach a client behind the replies under way. One lock; nothing is taken under it but mailboxes.

use crate::clients::{Client, Clients};
use crate::keyspace::effects::StaleRead;
use crate::resp::reply::Reply;
use crate::util::sync::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Some client tracks keys, or has done so and some of them are still remembered.
    is_on: AtomicBool,
    /// Some prefix has changed keys.
    has_changed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clients: HashMap<u64, Tracker>,
    readers: HashMap<Box<[u8]>, HashSet<u64>>,
    /// A client without prefixes has the empty one.
    prefixes: BTreeMap<Box<[u8]>, Prefix>,
}

/// A prefix that clients in broadcast mode have named.
#[derive(Debug, Default)]
struct Prefix {
    /// Client ids.
    clients: HashSet<u64>,
    /// Since the last message.
    changed: Changed,
}

/// Keys that have changed, and who was the first to change each.
type Changed = BTreeMap<Box<[u8]>, u64>;

#[derive(Debug)]
struct Tracker {
    client: Arc<Client>,
    options: Options,
    /// The client redirected to has gone, and this one has been told.
    is_broken: bool,
}

impl Tracking {
    /// Whether changes of keys need to be looked at.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    fn note_use(&self, inner: &Inner) {
        self.is_on.store(!inner.clients.is_empty() || !inner.readers.is_empty(), Ordering::Relaxed);
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
                if inner.prefixes.entry(prefix.clone()).or_default().clients.insert(id) {
                    client.keep(&prefix);
                    options.prefixes.push(prefix);
                }
            }
        }
        inner.clients.insert(id, Tracker { client: client.clone(), options, is_broken: false });
        self.note_use(&inner);
        client.set(Client::TRACKING, true);
    }

    /// Ends a client's tracking. The keys it has read are forgotten as they change.
    pub fn disable(&self, client: &Client) {
        let mut inner = self.inner.lock();
        let Some(tracker) = inner.clients.remove(&client.id) else { return };
        for prefix in &tracker.options.prefixes {
            client.forget(prefix);
            if let Some(known) = inner.prefixes.get_mut(prefix) {
                known.clients.remove(&client.id);
                if known.clients.is_empty() {
                    inner.prefixes.remove(prefix);
                }
            }
        }
        self.note_use(&inner);
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
    /// brings about, though what they read after it stays valid. Notes the keys for [`Tracking::broadcast`].
    pub fn take_readers(&self, keys: &[Box<[u8]>], by: u64, into: &mut Vec<StaleRead>) {
        let mut inner = self.inner.lock();
        for key in keys {
            if let Some(readers) = inner.readers.remove(key) {
                into.push(StaleRead { key: key.clone(), readers: readers.into_iter().collect(), by });
            }
        }
        self.note_use(&inner);
        for (prefix, known) in &mut inner.prefixes {
            for key in keys.iter().filter(|key| key.starts_with(prefix)) {
                known.changed.entry(key.clone()).or_insert(by);
                self.has_changed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Tells readers of keys, but those who have changed them, that these have changed; takes out who is told.
    pub fn tell_others(&self, stale: &mut Vec<StaleRead>, clients: &Clients) {
        if stale.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for StaleRead { key, readers, by } in &mut *stale {
            for id in readers.extract_if(.., |id| *id != *by) {
                inner.tell_reader(id, key, *by, clients);
            }
        }
        stale.retain(|read| !read.readers.is_empty());
    }

    /// Tells readers of keys that these have changed.
    pub fn invalidate(&self, stale: &[StaleRead], clients: &Clients) {
        if stale.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for StaleRead { key, readers, by } in stale {
            for id in readers {
                inner.tell_reader(*id, key, *by, clients);
            }
        }
    }

    /// Tells who tracks prefixes of the keys that have changed under them: one message for each prefix, with each key once
    /// and in order. Called at the end of a turn, as Redis does, so that a row of commands makes one message.
    #[inline]
    pub fn broadcast(&self, clients: &Clients) {
        if self.has_changed.load(Ordering::Relaxed) {
            self.broadcast_now(clients);
        }
    }

    #[cold]
    fn broadcast_now(&self, clients: &Clients) {
        let mut inner = self.inner.lock();
        self.has_changed.store(false, Ordering::Relaxed);
        let changed = inner.prefixes.values_mut().filter(|prefix| !prefix.changed.is_empty());
        let messages: Vec<(Vec<u64>, Changed)> = changed
            .map(|prefix| (prefix.clients.iter().copied().collect(), std::mem::take(&mut prefix.changed)))
            .collect();
        for (ids, keys) in messages {
            ids.into_iter().for_each(|id| inner.tell_of_prefix(id, &keys, clients));
        }
    }

    /// Tells every tracking client that all keys are gone.
    pub fn flushed(&self, clients: &Clients) {
        let mut inner = self.inner.lock();
        inner.readers.clear();
        self.note_use(&inner);
        // Who came first hears of it first: several may redirect to one client.
        let mut ids: Vec<u64> = inner.clients.keys().copied().collect();
        ids.sort_unstable();
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
            self.note_use(&inner);
        }
    }
}

impl Inner {
    /// Tells a client of changes under a prefix: of the keys that it may read, since a name can say enough, and not of its
    /// own changes if it does not want those.
    fn tell_of_prefix(&mut self, id: u64, changed: &Changed, clients: &Clients) {
        let Some(tracker) = self.clients.get(&id) else { return };
        let account = tracker.client.account.lock().clone();
        let user = (!account.is_free()).then(|| account.user());
        let is_told = |key: &[u8], by: u64| {
            !(tracker.options.noloop && by == id) && user.as_ref().is_none_or(|user| user.reads_key(key))
        };
        let keys: Vec<&[u8]> = changed.iter().filter(|(key, by)| is_told(key, **by)).map(|(key, _)| &**key).collect();
        if !keys.is_empty() {
            self.send(id, Some(&keys), clients);
        }
    }

    /// Tells a client of a key that it has read. Whoever broadcasts now hears of its prefixes, whatever it read before.
    fn tell_reader(&mut self, id: u64, key: &[u8], by: u64, clients: &Clients) {
        if self.clients.get(&id).is_some_and(|tracker| !tracker.options.bcast) {
            self.tell(id, &[key], by, clients);
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
            tracker.is_broken = true;
            if tracker.client.resp3.load(Ordering::Relaxed) {
                let mut reply = Reply::new(true);
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.integer(tracker.options.redirect.unwrap_or_default() as i64);
                tracker.client.mailbox.send(&reply.buf);
            }
            return;
        };
        let tracks_in_resp3 = tracker.client.resp3.load(Ordering::Relaxed);
        let is_subscriber = target.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0);
        let resp3 = target.resp3.load(Ordering::Relaxed);
        let mut reply = Reply::new(resp3);
        if resp3 {
            reply.push(2);
            reply.bulk(b"invalidate");
        } else if tracker.options.redirect.is_some() && is_subscriber {
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
            // Whoever hears of it, it is the null of the protocol that the tracking client speaks, in Redis too.
            None => reply.raw(if tracks_in_resp3 { b"_\r\n" } else { b"$-1\r\n" }),
        }
        clients.send_invalidation(&target, &reply.buf);
    }
}
