//! Threads that do a server's long work beside it: loading, saving, rewriting, sending the data set. The end of a server
//! waits for them, so that none of them touches its files, or those of a server started after it, any more.

use crate::keyspace::lock::MayWait;
use crate::util::sync::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The threads of one server.
#[derive(Debug, Default)]
pub struct Background {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// None begins any more.
    is_over: bool,
}

/// Counts one thread while it runs, whichever way it ends.
struct Place(Arc<Background>);

impl Background {
    /// Runs `work` on a thread of this name. Fails when there is no thread, or the server has ended.
    pub fn spawn(self: &Arc<Self>, name: &str, work: impl FnOnce(MayWait) + Send + 'static) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.is_over {
            return Err(io::Error::other("the server ends"));
        }
        state.running += 1;
        drop(state);
        let place = Place(self.clone());
        let run = move |may_wait| {
            let _place = place;
            work(may_wait);
        };
        spawn(name, run).map(drop)
    }

    /// Waits for all threads; they have been told that the server ends. None begins any more.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        while state.running > 0 {
            self.ended.wait(&mut state);
        }
    }
}

/// Runs `work` on a thread of this name, which the end of a server does not wait for.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(MayWait) -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(|| work(MayWait::of_thread()))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn the_end_waits_for_all_and_lets_none_begin() {
        let background = Arc::new(Background::default());
        let done = Arc::new(AtomicUsize::new(0));
        for n in 0..4 {
            let done = done.clone();
            let work = move |_| {
                std::thread::sleep(Duration::from_millis(20 * n));
                done.fetch_add(1, Ordering::Relaxed);
            };
            background.spawn("work", work).unwrap();
        }
        background.end();
        assert_eq!(done.load(Ordering::Relaxed), 4);
        assert!(background.spawn("late", |_| unreachable!()).is_err());
    }
}
