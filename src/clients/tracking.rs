//! Client-side caching: which clients must hear that a key has changed (CLIENT TRACKING).
//!
//! In the default mode the server remembers, by key name over all databases, who has read a key; the next change tells
//! them and forgets them. In broadcast mode a client names prefixes and hears of every change under them. Messages go
//! to mailboxes, so they reach a client behind the replies under way. One lock; nothing is taken under it but mailboxes.
//!
//! What is remembered lies in B-trees, so that each key or prefix costs O(log n) whatever there is, and memory comes back.
//! `tracking-table-max-keys` bounds the keys; prefixes are bounded by what clients name, which counts as their memory. A
//! changed key looks up the prefixes it begins with, not all there are.

use crate::clients::{Client, Clients};
use crate::resp::reply::Reply;
use crate::util::id_map::IdMap;
use crate::util::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A key that clients had read when it changed, and that they are to be told of.
#[derive(Debug)]
pub struct StaleRead {
    pub key: Box<[u8]>,
    /// Client ids.
    pub readers: Vec<u64>,
    /// The client that changed it.
    pub by: u64,
}

/// What a client asked for, but for its prefixes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Send invalidations to this client instead.
    pub redirect: Option<u64>,
    pub bcast: bool,
    pub optin: bool,
    pub optout: bool,
    /// Not about the client's own changes.
    pub noloop: bool,
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
    /// By id.
    clients: BTreeMap<u64, Tracker>,
    readers: BTreeMap<Box<[u8]>, Readers>,
    /// How many (key, client) pairs there are in `readers`.
    pairs: usize,
    /// The key that was forgotten last for the limit: the next one to go is the one behind it, so that each has its turn.
    hand: Box<[u8]>,
    /// The prefixes that clients in broadcast mode have named, with these. A client without prefixes has the empty one.
    prefixes: BTreeMap<Box<[u8]>, IdMap<()>>,
    /// What has changed under which of them since the last message.
    changed: BTreeMap<Box<[u8]>, Changed>,
}

/// The clients that have read a key.
type Readers = IdMap<()>;

/// Keys that have changed, and who was the first to change each.
type Changed = BTreeMap<Box<[u8]>, u64>;

#[derive(Debug)]
struct Tracker {
    client: Arc<Client>,
    options: Options,
    /// With `bcast`; no two of them overlap.
    prefixes: BTreeSet<Box<[u8]>>,
    /// The client redirected to has gone, and this one has been told.
    is_broken: bool,
}

/// Keys forgotten at once for the limit, before others get the lock.
const SHRINK_AT_ONCE: usize = 1000;

/// How two prefixes that one client must not have overlap.
#[derive(Debug, PartialEq, Eq)]
pub enum Overlap {
    /// A new one with one that the client has already.
    Known(Box<[u8]>, Box<[u8]>),
    /// Two new ones.
    New(Box<[u8]>, Box<[u8]>),
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
        [inner.clients.len(), inner.readers.len(), inner.prefixes.len(), inner.pairs]
    }

    /// Starts or changes a client's tracking; prefixes are added to those it has.
    pub fn enable(&self, client: &Arc<Client>, options: Options, new: Vec<Box<[u8]>>) {
        let mut inner = self.inner.lock();
        let mut prefixes = inner.clients.remove(&client.id).map(|tracker| tracker.prefixes).unwrap_or_default();
        if options.bcast {
            let every_key = (new.is_empty() && prefixes.is_empty()).then(Box::default);
            for prefix in new.into_iter().chain(every_key) {
                client.keep(&prefix);
                inner.prefixes.entry(prefix.clone()).or_default().insert(client.id, ());
                prefixes.insert(prefix);
            }
        }
        inner.clients.insert(client.id, Tracker { client: client.clone(), options, prefixes, is_broken: false });
        self.note_use(&inner);
        client.set(Client::TRACKING, true);
    }

    /// Ends a client's tracking. The keys it has read are forgotten as they change.
    pub fn disable(&self, client: &Client) {
        if !client.has(Client::TRACKING) {
            return;
        }
        let mut inner = self.inner.lock();
        let Some(tracker) = inner.clients.remove(&client.id) else { return };
        for prefix in &tracker.prefixes {
            client.forget(prefix);
            if let Some(clients) = inner.prefixes.get_mut(prefix) {
                clients.remove(client.id);
                if clients.is_empty() {
                    inner.prefixes.remove(prefix);
                    inner.changed.remove(prefix);
                }
            }
        }
        self.note_use(&inner);
        client.set(Client::TRACKING, false);
    }

    /// What a client asked for, and whether its redirection is broken; None when it does not track.
    pub fn options(&self, client_id: u64) -> Option<(Options, bool)> {
        let inner = self.inner.lock();
        inner.clients.get(&client_id).map(|tracker| (tracker.options, tracker.is_broken))
    }

    /// The prefixes of a client in broadcast mode, in order.
    pub fn prefixes(&self, client_id: u64) -> Vec<Box<[u8]>> {
        let inner = self.inner.lock();
        inner.clients.get(&client_id).map(|tracker| tracker.prefixes.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether `new` prefixes overlap with each other, or with those the client has: one begins with the other. Which do is
    /// told as Redis finds them: the first of the new ones that does, and the first of what it overlaps with.
    pub fn overlap(&self, client_id: u64, new: &[Box<[u8]>]) -> Option<Overlap> {
        let inner = self.inner.lock();
        let known = inner.clients.get(&client_id).map(|tracker| &tracker.prefixes);
        let first = first_overlapping(new);
        for (idx, prefix) in new.iter().enumerate() {
            if let Some(other) = known.and_then(|known| overlapping(known, prefix)) {
                return Some(Overlap::Known(prefix.clone(), other.into()));
            }
            if first == Some(idx) {
                let other = new[idx + 1..].iter().find(|other| overlap(prefix, other))?;
                return Some(Overlap::New(prefix.clone(), other.clone()));
            }
        }
        None
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
        let inner = &mut *inner;
        for key in keys {
            inner.pairs += usize::from(inner.readers.entry(key.into()).or_default().insert(client.id, ()));
        }
    }

    /// Takes out who has read these keys, which `by` has changed. They are told later: behind the replies that the change
    /// brings about, though what they read after it stays valid. Notes the keys for [`Tracking::broadcast`].
    pub fn take_readers(&self, keys: &[Box<[u8]>], by: u64, into: &mut Vec<StaleRead>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for key in keys {
            if let Some(readers) = inner.forget_key(key) {
                into.push(StaleRead { key: key.clone(), readers: readers.iter().map(|(id, ())| id).collect(), by });
            }
        }
        self.note_use(inner);
        for key in keys {
            let Inner { prefixes, changed, .. } = &mut *inner;
            for_each_prefix(prefixes, key, |prefix| {
                changed.entry(prefix.into()).or_default().entry(key.clone()).or_insert(by);
                self.has_changed.store(true, Ordering::Relaxed);
            });
        }
    }

    /// Tells readers of keys, but those who have changed them, that these have changed. What these have read goes to `own`.
    pub fn tell_others(&self, stale: &mut Vec<StaleRead>, own: &mut Vec<StaleRead>, clients: &Clients) {
        if stale.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for StaleRead { key, mut readers, by } in stale.drain(..) {
            for id in readers.extract_if(.., |id| *id != by) {
                inner.tell_reader(id, &key, by, clients);
            }
            if !readers.is_empty() {
                own.push(StaleRead { key, readers, by });
            }
        }
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
        for (prefix, keys) in std::mem::take(&mut inner.changed) {
            let hearers = inner.prefixes.get(&prefix);
            let ids: Vec<u64> = hearers.into_iter().flat_map(IdMap::iter).map(|(id, ())| id).collect();
            ids.into_iter().for_each(|id| inner.tell_of_prefix(id, &keys, clients));
        }
    }

    /// Tells every tracking client that all keys are gone. What was remembered, if anything, for the caller to free.
    pub fn flushed(&self, clients: &Clients) -> Option<impl Send + use<>> {
        let mut inner = self.inner.lock();
        let gone = std::mem::take(&mut inner.readers);
        inner.pairs = 0;
        self.note_use(&inner);
        // Who came first hears of it first: several may redirect to one client.
        let ids: Vec<u64> = inner.clients.keys().copied().collect();
        for id in ids {
            inner.send(id, None, clients);
        }
        (!gone.is_empty()).then_some(gone)
    }

    /// Forgets keys, telling their readers, while more than `max_keys` are remembered (`tracking-table-max-keys`; 0: no
    /// limit), but not too many at once; whether more have to go.
    pub fn shrink(&self, max_keys: usize, clients: &Clients) -> bool {
        if !self.is_on() || max_keys == 0 {
            return false;
        }
        let mut inner = self.inner.lock();
        let too_many = inner.readers.len().saturating_sub(max_keys);
        for _ in 0..too_many.min(SHRINK_AT_ONCE) {
            inner.forget_next(clients);
        }
        self.note_use(&inner);
        too_many > SHRINK_AT_ONCE
    }
}

/// Whether one of two prefixes begins with the other.
fn overlap(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The first of `known`, no two of which overlap, that `prefix` overlaps with. O(log n).
fn overlapping<'k>(known: &'k BTreeSet<Box<[u8]>>, prefix: &[u8]) -> Option<&'k [u8]> {
    // What `prefix` begins with would stand right before it, and what begins with it right behind.
    let before = known.range::<[u8], _>((Bound::Unbounded, Bound::Included(prefix))).next_back();
    let behind = known.range::<[u8], _>((Bound::Excluded(prefix), Bound::Unbounded)).next();
    before.into_iter().chain(behind).map(|known| &**known).find(|known| overlap(known, prefix))
}

/// The index of the first of `prefixes` that overlaps with another of them. O(n log n).
fn first_overlapping(prefixes: &[Box<[u8]>]) -> Option<usize> {
    let mut order: Vec<usize> = (0..prefixes.len()).collect();
    order.sort_by(|one, other| prefixes[*one].cmp(&prefixes[*other]));
    let mut first: Option<usize> = None;
    // Those that the prefix under way begins with, each of which the next one begins with.
    let mut ancestors: Vec<usize> = Vec::new();
    for idx in order {
        while ancestors.last().is_some_and(|last| !prefixes[idx].starts_with(&prefixes[*last])) {
            ancestors.pop();
        }
        if let Some(ancestor) = ancestors.last() {
            first = first.into_iter().chain([idx, *ancestor]).min();
        }
        ancestors.push(idx);
    }
    first
}

/// Shows those of `prefixes` that `key` begins with, the longest first. Each step goes on with a shorter beginning of the
/// key, and with another prefix.
fn for_each_prefix<V>(prefixes: &BTreeMap<Box<[u8]>, V>, key: &[u8], mut each: impl FnMut(&[u8])) {
    let mut begin = Some(key);
    while let Some(most) = begin {
        let Some((prefix, _)) = prefixes.range::<[u8], _>((Bound::Unbounded, Bound::Included(most))).next_back() else {
            return;
        };
        let shared = prefix.iter().zip(most).take_while(|(one, other)| one == other).count();
        begin = if shared == prefix.len() {
            each(prefix);
            shared.checked_sub(1).map(|len| &key[..len])
        } else {
            Some(&key[..shared])
        };
    }
}

impl Inner {
    /// Takes out who has read a key.
    fn forget_key(&mut self, key: &[u8]) -> Option<Readers> {
        let readers = self.readers.remove(key)?;
        self.pairs -= readers.len();
        Some(readers)
    }

    /// Forgets the key whose turn it is, and tells its readers.
    fn forget_next(&mut self, clients: &Clients) {
        let behind = (Bound::Excluded(&*self.hand), Bound::Unbounded);
        let next = self.readers.range::<[u8], _>(behind).next().or_else(|| self.readers.first_key_value());
        let Some(key) = next.map(|(key, _)| key.clone()) else { return };
        for (id, ()) in self.forget_key(&key).iter().flat_map(IdMap::iter) {
            self.send(id, Some(&[&*key]), clients);
        }
        self.hand = key;
    }

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
                clients.send(&tracker.client, &reply.buf);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words of few letters, so that many begin with others.
    fn words() -> impl Strategy<Value = Vec<Box<[u8]>>> {
        proptest::collection::vec("[ab]{0,5}".prop_map(|word| word.into_bytes().into()), 0..12)
    }

    proptest! {
        #[test]
        fn a_key_finds_the_prefixes_it_begins_with(prefixes in words(), key in "[ab]{0,8}") {
            let prefixes: BTreeMap<Box<[u8]>, ()> = prefixes.into_iter().map(|prefix| (prefix, ())).collect();
            let mut found: Vec<Box<[u8]>> = Vec::new();
            for_each_prefix(&prefixes, key.as_bytes(), |prefix| found.push(prefix.into()));
            found.reverse();
            let expected: Vec<_> = prefixes.into_keys().filter(|prefix| key.as_bytes().starts_with(prefix)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn overlapping_prefixes_are_found_as_by_comparing_all(prefixes in words(), prefix in "[ab]{0,5}") {
            let overlaps = |idx: usize| (0..prefixes.len()).any(|other| other != idx && overlap(&prefixes[idx], &prefixes[other]));
            prop_assert_eq!(first_overlapping(&prefixes), (0..prefixes.len()).find(|idx| overlaps(*idx)));
            let mut known = BTreeSet::new();
            for word in prefixes {
                if overlapping(&known, &word).is_none() {
                    known.insert(word);
                }
            }
            let expected = known.iter().find(|known| overlap(known, prefix.as_bytes())).map(|known| &**known);
            prop_assert_eq!(overlapping(&known, prefix.as_bytes()), expected);
        }
    }
}
