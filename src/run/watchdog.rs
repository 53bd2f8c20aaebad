//! The watchdog (`watchdog-period`): tells in the log when the data set has been held for too long, and by what.
//!
//! Redis looks at its one thread from a signal handler. Here a thread of its own asks for each shard in turn, as a
//! command would; whoever waits for longer than the period tells which commands were begun last. It runs only while the
//! period is not 0.

use crate::clients::Client;
use crate::core::background;
use crate::keyspace::lock::{MayWait, ShardSet};
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Commands named in a report.
const NAMED: usize = 3;

/// Time between two looks: long enough for a change to be in force, and short enough to end soon after the server.
const NAP: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(100);

impl Server {
    /// Starts the watchdog if the configuration in force, or about to be, wants one and there is none.
    pub fn start_watchdog(self: &Arc<Self>, period_ms: u32) {
        if period_ms == 0 || self.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let server = self.clone();
        let thread = background::spawn("watchdog", move |may_wait| server.watch(may_wait, period_ms));
        if let Err(error) = thread {
            self.is_watched.store(false, Ordering::Release);
            self.log.warning(format_args!("Can't start the watchdog: {error}"));
        }
    }

    fn watch(self: &Arc<Self>, may_wait: MayWait, first_period_ms: u32) {
        let mut period_ms = first_period_ms;
        while period_ms > 0 && !self.stop.is_requested() {
            let period = Duration::from_millis(period_ms.into());
            (0..self.shards.count()).for_each(|idx| self.look_at_shard(may_wait, idx, period));
            std::thread::sleep((period / 4).clamp(*NAP.start(), *NAP.end()));
            period_ms = self.config.load().watchdog_period;
        }
        self.is_watched.store(false, Ordering::Release);
        if !self.stop.is_requested() {
            // It may have been switched on again meanwhile.
            self.start_watchdog(self.config.load().watchdog_period);
        }
    }

    /// Waits for a shard. A hang is reported once, however long it is.
    fn look_at_shard(&self, may_wait: MayWait, idx: usize, period: Duration) {
        let mut set = ShardSet::NONE;
        set.add(idx);
        let began = Instant::now();
        if self.shards.lock_unless(set, may_wait, || began.elapsed() > period || self.stop.is_requested()).is_some() {
            return;
        }
        if !self.stop.is_requested() {
            self.report_hang(began.elapsed());
            drop(self.shards.lock_unless(set, may_wait, || self.stop.is_requested()));
        }
    }

    fn report_hang(&self, waited: Duration) {
        let mut clients = self.clients.all();
        clients.sort_by_key(|client| std::cmp::Reverse(client.last_interaction_ms.load(Ordering::Relaxed)));
        let named: Vec<String> = clients.iter().take(NAMED).map(|client| self.describe(client)).collect();
        self.log.warning(format_args!(
            "\n--- WATCHDOG TIMER EXPIRED ---\nKeys have been out of reach for {} milliseconds. Commands begun last: {}\n\
             --------",
            waited.as_millis(),
            named.join(", "),
        ));
    }

    fn describe(&self, client: &Client) -> String {
        let command = self.acl.catalog().entries().get(usize::from(client.last_command.load(Ordering::Relaxed)));
        format!("{} by client {} ({})", command.map_or("none", |command| command.name), client.id, client.addr)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, LogLevel};
    use crate::keyspace::lock::MayWait;
    use crate::os::log::Log;
    use crate::run::start::Options;
    use crate::server::Server;
    use crate::util::sync::Mutex;
    use std::io::{self, Write};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_holds_the_shards_for_long_is_told_once() {
        let lines = Lines::default();
        let config = Config { watchdog_period: 400, ..Options::default().config };
        let log = Log::to_writer(lines.clone(), LogLevel::Warning);
        let running = Server::start(Options { config, log, ..Options::default() }).unwrap();
        let reports = || String::from_utf8_lossy(&lines.0.lock()).matches("WATCHDOG TIMER EXPIRED").count();
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(reports(), 0, "nobody holds anything");
        let end = Instant::now() + Duration::from_secs(60);
        let locked = running.server.shards.lock(running.server.shards.all(), MayWait::of_thread());
        while reports() == 0 {
            assert!(Instant::now() < end, "no report");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(reports(), 1);
        drop(locked);
        running.shutdown();
    }
}
