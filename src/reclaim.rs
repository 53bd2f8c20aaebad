//! Freeing of large values in the background (UNLINK, FLUSHALL ASYNC, the `lazyfree-` directives).
//!
//! One thread a server, started with the first value given to it; it ends with the server.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};

use crate::util::sync::Mutex;

/// The background freeing of one server.
#[derive(Debug, Default)]
pub struct Reclaimer {
    /// `None` when there is no thread to be had.
    queue: OnceLock<Option<Mutex<Sender<Job>>>>,
    counts: Arc<Counts>,
}

/// What is to be freed, and how many objects INFO counts it as.
type Job = (Box<dyn Any + Send>, u64);

#[derive(Debug, Default)]
struct Counts {
    pending: AtomicU64,
    freed: AtomicU64,
}

impl Reclaimer {
    /// Frees `value`, which counts as `objects` (keys, mostly), soon and elsewhere. Without a thread, here and now.
    pub fn free(&self, value: impl Any + Send, objects: u64) {
        let queue = self.queue.get_or_init(|| start(self.counts.clone()).map(Mutex::new));
        self.counts.pending.fetch_add(objects, Ordering::Relaxed);
        let job: Job = (Box::new(value), objects);
        let refused = match queue {
            Some(queue) => queue.lock().send(job).err().map(|error| error.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            self.counts.finish(job);
        }
    }

    /// Objects that wait to be freed.
    pub fn pending(&self) -> u64 {
        self.counts.pending.load(Ordering::Relaxed)
    }

    /// Objects freed since the start or the last [`Reclaimer::reset`].
    pub fn freed(&self) -> u64 {
        self.counts.freed.load(Ordering::Relaxed)
    }

    /// Counts from 0 again (CONFIG RESETSTAT).
    pub fn reset(&self) {
        self.counts.freed.store(0, Ordering::Relaxed);
    }
}

impl Counts {
    fn finish(&self, (value, objects): Job) {
        drop(value);
        self.freed.fetch_add(objects, Ordering::Relaxed);
        self.pending.fetch_sub(objects, Ordering::Relaxed);
    }
}

fn start(counts: Arc<Counts>) -> Option<Sender<Job>> {
    let (sender, jobs) = mpsc::channel();
    let work = move || jobs.into_iter().for_each(|job| counts.finish(job));
    std::thread::Builder::new().name("lazy_free".to_owned()).spawn(work).ok().map(|_| sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn what_is_given_away_is_freed_elsewhere() {
        struct Tell(mpsc::Sender<std::thread::ThreadId>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.send(std::thread::current().id()).unwrap();
            }
        }
        let reclaimer = Reclaimer::default();
        let (tell, told) = mpsc::channel();
        reclaimer.free(Tell(tell), 3);
        assert_ne!(told.recv().unwrap(), std::thread::current().id());
        let until = Instant::now() + Duration::from_secs(10);
        while reclaimer.freed() < 3 && Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!((reclaimer.freed(), reclaimer.pending()), (3, 0));
        reclaimer.reset();
        assert_eq!(reclaimer.freed(), 0);
    }
}
