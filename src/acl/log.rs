//! ACL LOG: who was refused what, newest first, at most `acllog-max-len`; and how often, for INFO.

use crate::acl::selector::Reason;
use crate::util::sync::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why an entry is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A wrong password, or no such user.
    Auth,
    Denied(Reason),
}

impl Cause {
    /// Its name in ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Auth => "auth",
            Cause::Denied(Reason::Command) => "command",
            Cause::Denied(Reason::Key) => "key",
            Cause::Denied(Reason::Channel) => "channel",
        }
    }
}

/// Where the command stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    TopLevel,
    /// In a transaction.
    Multi,
    /// In a script or function.
    Lua,
}

impl Place {
    /// Its name in ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Place::TopLevel => "toplevel",
            Place::Multi => "multi",
            Place::Lua => "lua",
        }
    }
}

/// One refusal, or several alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub count: u64,
    pub cause: Cause,
    pub place: Place,
    /// The command, key or channel; for a failed login the command that asked for it.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    /// Unix time in ms of the last one.
    pub updated_ms: i64,
    /// Unix time in ms of the first one.
    pub created_ms: i64,
    /// The line of CLIENT LIST of who asked last.
    pub client: Vec<u8>,
    pub id: u64,
}

/// The log of one server.
#[derive(Debug, Default)]
pub struct AclLog {
    inner: Mutex<Entries>,
    /// By [`Cause`]: auth, command, key, channel.
    denied: [AtomicU64; 4],
}

#[derive(Debug, Default)]
struct Entries {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// How many there ever were.
    ids: u64,
}

/// Refusals alike are one entry if no more time than this lies between two of them.
const SAME_WITHIN_MS: i64 = 60_000;

/// So many of the newest entries are looked at for one that is alike.
const LOOK_AT: usize = 10;

impl AclLog {
    /// Enters a refusal; of `entry`, count and id are given here. No more than `max_len` are kept.
    pub fn add(&self, entry: Entry, max_len: u64) {
        self.denied[slot(entry.cause)].fetch_add(1, Ordering::Relaxed);
        let mut log = self.inner.lock();
        let is_alike = |known: &Entry| {
            known.cause == entry.cause
                && known.place == entry.place
                && known.updated_ms.abs_diff(entry.updated_ms) <= SAME_WITHIN_MS as u64
                && known.object == entry.object
                && known.user == entry.user
        };
        let place = log.entries.iter().take(LOOK_AT).position(is_alike);
        if let Some(mut known) = place.and_then(|place| log.entries.remove(place)) {
            known.count += 1;
            known.updated_ms = entry.updated_ms;
            known.client = entry.client;
            log.entries.push_front(known);
            return;
        }
        let id = log.ids;
        log.ids += 1;
        log.entries.push_front(Entry { count: 1, id, ..entry });
        log.entries.truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
        if log.entries.len() < log.entries.capacity() / 4 {
            log.entries.shrink_to_fit();
        }
    }

    /// The newest entries, newest first.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.inner.lock().entries.iter().take(count).cloned().collect()
    }

    /// Forgets the entries.
    pub fn reset(&self) {
        self.inner.lock().entries = VecDeque::new();
    }

    /// How often something was refused: logins, commands, keys, channels.
    pub fn counts(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|slot: usize| self.denied[slot].load(Ordering::Relaxed))
    }
}

fn slot(cause: Cause) -> usize {
    match cause {
        Cause::Auth => 0,
        Cause::Denied(Reason::Command) => 1,
        Cause::Denied(Reason::Key) => 2,
        Cause::Denied(Reason::Channel) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &str, at_ms: i64) -> Entry {
        Entry {
            count: 0,
            cause: Cause::Denied(Reason::Key),
            place: Place::TopLevel,
            object: object.into(),
            user: b"u".to_vec(),
            updated_ms: at_ms,
            created_ms: at_ms,
            client: format!("at={at_ms}").into(),
            id: 0,
        }
    }

    #[test]
    fn refusals_alike_are_one_entry() {
        let log = AclLog::default();
        log.add(entry("a", 0), 5);
        log.add(entry("b", 10), 5);
        log.add(entry("a", 60_000), 5);
        log.add(Entry { place: Place::Lua, ..entry("a", 60_000) }, 5);
        let all = log.newest(10);
        assert_eq!(all.iter().map(|entry| (entry.count, entry.id)).collect::<Vec<_>>(), [(1, 2), (2, 0), (1, 1)]);
        assert_eq!((all[1].created_ms, all[1].updated_ms, all[1].client.as_slice()), (0, 60_000, &b"at=60000"[..]));
        log.add(entry("a", 120_001), 5);
        assert_eq!(log.newest(1)[0].count, 1);
        assert_eq!(log.counts(), [0, 0, 5, 0]);
    }

    #[test]
    fn the_log_keeps_the_newest() {
        let log = AclLog::default();
        (0..10).for_each(|n| log.add(entry(&n.to_string(), 0), 3));
        assert_eq!(log.newest(10).iter().map(|entry| entry.id).collect::<Vec<_>>(), [9, 8, 7]);
        log.reset();
        log.add(entry("x", 0), 3);
        assert_eq!(log.newest(10)[0].id, 10);
        log.add(entry("y", 0), 0);
        assert!(log.newest(10).is_empty());
    }
}
