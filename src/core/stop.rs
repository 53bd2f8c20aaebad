//! The wish to end, how far it has come, and who hears of it.

use crate::util::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The end of one server.
#[derive(Debug, Default)]
pub struct Stop {
    requested: AtomicBool,
    failed: AtomicBool,
    ending: Mutex<Ending>,
    notify: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Ending {
    /// A signal has asked for the end; the attempt may not have begun yet.
    by_signal: bool,
    /// The attempt to end that is under way.
    attempt: Option<Attempt>,
    last_id: u64,
}

/// An attempt to end the server: it may fail, or be called off while it waits for replicas.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    id: u64,
    /// While it waits for replicas: until when, Unix ms.
    waits_until_ms: Option<i64>,
}

/// Why the server goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotEnded {
    /// Another attempt with this number is under way; its outcome is to be waited for.
    UnderWay(u64),
    /// It has failed, which has been logged, or was called off.
    Failed,
}

/// What SHUTDOWN ABORT has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalledOff {
    /// An end that had not begun to save yet.
    Yes,
    /// It is too late: the attempt with this number is saving.
    Saving(u64),
    Nothing,
}

impl Stop {
    /// Ends the server; its threads leave their loops soon.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Ends the server because it cannot do its work; why has been logged.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.request();
    }

    /// Whether the end is a failure.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether the end has been asked for.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Waits for it.
    pub async fn requested(&self) {
        let notified = self.notify.notified();
        if !self.is_requested() {
            notified.await;
        }
    }

    /// A signal asks for the end; false if one has asked already.
    pub fn signal(&self) -> bool {
        !std::mem::replace(&mut self.ending.lock().by_signal, true)
    }

    /// Whether a signal has asked for an end that has neither failed nor been called off.
    pub fn is_signalled(&self) -> bool {
        self.ending.lock().by_signal
    }

    /// Begins an attempt, which waits for replicas until `waits_until_ms` (Unix ms) if it does, and gives its number; the
    /// number of the one under way if there is one.
    pub fn begin(&self, waits_until_ms: Option<i64>) -> Result<u64, u64> {
        let mut ending = self.ending.lock();
        if let Some(attempt) = ending.attempt {
            return Err(attempt.id);
        }
        ending.last_id += 1;
        let id = ending.last_id;
        ending.attempt = Some(Attempt { id, waits_until_ms });
        Ok(id)
    }

    /// The attempt waits for replicas until then (Unix ms), or does not any more. False if it has been called off.
    pub fn set_waits(&self, id: u64, until_ms: Option<i64>) -> bool {
        let mut ending = self.ending.lock();
        let attempt = ending.attempt.as_mut().filter(|attempt| attempt.id == id);
        attempt.map(|attempt| attempt.waits_until_ms = until_ms).is_some()
    }

    /// Until when the attempt under way waits for replicas, if it does: Unix ms.
    pub fn waits_until_ms(&self) -> Option<i64> {
        self.ending.lock().attempt.and_then(|attempt| attempt.waits_until_ms)
    }

    /// Whether this attempt is still under way.
    pub fn is_under_way(&self, id: u64) -> bool {
        self.ending.lock().attempt.is_some_and(|attempt| attempt.id == id)
    }

    /// The attempt has failed.
    pub fn give_up(&self, id: u64) {
        let mut ending = self.ending.lock();
        if ending.attempt.is_some_and(|attempt| attempt.id == id) {
            ending.attempt = None;
            ending.by_signal = false;
        }
    }

    /// Calls the end off, if there is one that has not begun to save.
    pub fn call_off(&self) -> CalledOff {
        let mut ending = self.ending.lock();
        match ending.attempt {
            Some(Attempt { id, waits_until_ms: None }) => return CalledOff::Saving(id),
            None if !ending.by_signal => return CalledOff::Nothing,
            Some(_) | None => {}
        }
        ending.attempt = None;
        ending.by_signal = false;
        CalledOff::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_called_off_until_it_saves() {
        let stop = Stop::default();
        assert_eq!(stop.call_off(), CalledOff::Nothing);
        assert!(stop.signal() && !stop.signal());
        assert_eq!(stop.call_off(), CalledOff::Yes);
        assert!(!stop.is_signalled());
        assert!(stop.signal());
        let id = stop.begin(None).unwrap();
        assert_eq!(stop.begin(None), Err(id));
        assert!(stop.set_waits(id, Some(5)));
        assert_eq!((stop.waits_until_ms(), stop.call_off()), (Some(5), CalledOff::Yes));
        assert!(!stop.set_waits(id, None) && !stop.is_under_way(id) && !stop.is_signalled());
        let next = stop.begin(None).unwrap();
        assert_ne!(next, id);
        stop.give_up(id);
        assert!(stop.is_under_way(next), "another one's failure is not its own");
        assert_eq!(stop.call_off(), CalledOff::Saving(next));
        stop.give_up(next);
        assert_eq!(stop.call_off(), CalledOff::Nothing);
    }
}
