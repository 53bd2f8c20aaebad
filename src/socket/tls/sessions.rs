//! Sessions that clients may resume: `tls-session-caching`, bounded in number and time.

use crate::util::sync::Mutex;
use rustls::server::StoresServerSessions;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// The sessions of one server, oldest first.
pub(super) struct Sessions {
    kept: Mutex<Kept>,
    most: usize,
    lifetime: Duration,
}

#[derive(Default)]
struct Kept {
    /// By their key: until when each is good, and its secrets.
    by_key: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// Keys in the order they came; some may be gone from `by_key`.
    order: VecDeque<Vec<u8>>,
}

impl Sessions {
    /// Keeps at most `most` sessions (0: any number), each for `lifetime`.
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Sessions { kept: Mutex::default(), most: if most == 0 { usize::MAX } else { most }, lifetime }
    }
}

impl Kept {
    /// Forgets what is too old, or one too many.
    fn make_room(&mut self, most: usize, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let is_good = self.by_key.get(oldest).is_some_and(|(until, _)| *until > now);
            if is_good && self.order.len() < most {
                return;
            }
            self.by_key.remove(oldest);
            self.order.pop_front();
        }
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        kept.make_room(self.most, now);
        if kept.by_key.insert(key.clone(), (now + self.lifetime, value)).is_none() {
            kept.order.push_back(key);
        }
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let kept = self.kept.lock();
        kept.by_key.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let taken = self.kept.lock().by_key.remove(key);
        taken.filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Secrets stay out of it.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({} at most, for {:?})", self.most, self.lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let sessions = Sessions::new(2, Duration::from_secs(60));
        for key in 1..=3_u8 {
            assert!(sessions.put(vec![key], vec![key, 0]));
        }
        assert_eq!([1, 2, 3].map(|key| sessions.get(&[key]).is_some()), [false, true, true]);
        // A ticket is used once.
        assert_eq!((sessions.take(&[2]), sessions.take(&[2])), (Some(vec![2, 0]), None));
        sessions.put(vec![4], vec![]);
        sessions.put(vec![5], vec![]);
        let kept = sessions.kept.lock();
        assert_eq!((kept.by_key.len(), kept.order.len()), (2, 2));
    }

    #[test]
    fn none_outlives_its_time() {
        let sessions = Sessions::new(0, Duration::ZERO);
        sessions.put(vec![1], vec![]);
        assert_eq!((sessions.get(&[1]), sessions.take(&[1])), (None, None));
        sessions.put(vec![2], vec![]);
        sessions.put(vec![3], vec![]);
        assert_eq!(sessions.kept.lock().order.len(), 1);
    }
}
