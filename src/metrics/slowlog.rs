//! SLOWLOG's register: the latest commands that took long, at most `slowlog-max-len`.
//!
//! Its lock is its own; nothing is locked while it is held.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// One slow command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts on over the life of the server.
    pub id: i64,
    /// When it ended, Unix time.
    pub time_s: i64,
    /// How long it ran.
    pub duration_us: i64,
    /// The command as logged: long arguments and many arguments are cut.
    pub argv: Vec<Vec<u8>>,
    /// The client's address.
    pub addr: String,
    /// The client's name, empty if none.
    pub client_name: Vec<u8>,
}

/// The slow log of one server.
#[derive(Default)]
pub struct Slowlog(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    next_id: i64,
    /// Latest first.
    entries: VecDeque<Entry>,
}

/// Arguments kept of a command; the last tells how many are not.
const MAX_ARGUMENTS: usize = 32;

/// Bytes kept of an argument.
const MAX_ARGUMENT_BYTES: usize = 128;

impl Slowlog {
    /// Adds a command and forgets the oldest ones above `max_len`. O(1) but for what is forgotten.
    pub fn push<A: AsRef<[u8]>>(
        &self,
        max_len: u64,
        time_s: i64,
        duration_us: i64,
        argv: &[A],
        addr: String,
        client_name: &[u8],
    ) {
        let argv = shortened(argv);
        let mut ring = self.0.lock();
        let entry = Entry { id: ring.next_id, time_s, duration_us, argv, addr, client_name: client_name.into() };
        ring.next_id += 1;
        ring.entries.push_front(entry);
        ring.entries.truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
        if ring.entries.len() < ring.entries.capacity() / 4 {
            ring.entries.shrink_to_fit();
        }
    }

    /// The latest `count` entries, latest first.
    pub fn latest(&self, count: usize) -> Vec<Entry> {
        self.0.lock().entries.iter().take(count).cloned().collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries; ids count on.
    pub fn reset(&self) {
        self.0.lock().entries = VecDeque::new();
    }
}

fn shortened<A: AsRef<[u8]>>(argv: &[A]) -> Vec<Vec<u8>> {
    let kept = if argv.len() > MAX_ARGUMENTS { MAX_ARGUMENTS - 1 } else { argv.len() };
    let mut out: Vec<Vec<u8>> = argv[..kept].iter().map(|argument| shortened_argument(argument.as_ref())).collect();
    if kept < argv.len() {
        out.push(format!("... ({} more arguments)", argv.len() - kept).into());
    }
    out
}

fn shortened_argument(argument: &[u8]) -> Vec<u8> {
    match argument.split_at_checked(MAX_ARGUMENT_BYTES) {
        Some((kept, rest)) if !rest.is_empty() => {
            [kept, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => argument.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(log: &Slowlog, max_len: u64, argv: &[&str]) {
        log.push(max_len, 7, 8, argv, "1.2.3.4:5".into(), b"me");
    }

    #[test]
    fn latest_first_and_oldest_forgotten() {
        let log = Slowlog::default();
        for name in ["a", "b", "c"] {
            push(&log, 2, &[name]);
        }
        let ids: Vec<_> = log.latest(10).into_iter().map(|entry| (entry.id, entry.argv[0].clone())).collect();
        assert_eq!(ids, [(2, b"c".to_vec()), (1, b"b".to_vec())]);
        assert_eq!(log.latest(1).len(), 1);
        push(&log, 0, &["d"]);
        assert!(log.is_empty());
        log.reset();
        push(&log, 10, &["e"]);
        assert_eq!(log.latest(1)[0].id, 4);
    }

    #[test]
    fn long_commands_are_cut() {
        let log = Slowlog::default();
        let long = "x".repeat(130);
        let argv: Vec<&str> = std::iter::once(long.as_str()).chain(std::iter::repeat_n("y", 33)).collect();
        push(&log, 10, &argv);
        push(&log, 10, &argv[..32]);
        let entries = log.latest(2);
        assert_eq!(entries[0].argv.len(), 32);
        assert_eq!(entries[0].argv[31], b"y");
        assert_eq!(entries[1].argv.len(), 32);
        assert_eq!(entries[1].argv[31], b"... (3 more arguments)");
        assert_eq!(entries[1].argv[0], ("x".repeat(128) + "... (2 more bytes)").into_bytes());
    }
}
