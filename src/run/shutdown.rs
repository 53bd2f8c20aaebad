//! The orderly end: SHUTDOWN, SIGTERM and SIGINT save what is to be saved, then the server stops.

use crate::aof::Mode;
use crate::config::ShutdownFlags;
use crate::core::stop::{CalledOff, NotEnded};
use crate::keyspace::lock::{Locked, MayWait, ShardSet};
use crate::server::Server;
use crate::snapshot::save;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often it is looked whether replicas have caught up.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Server {
    /// Ends the server as SHUTDOWN does with these options. The caller has locked no shard.
    pub fn shut_down(&self, may_wait: MayWait, flags: ShutdownFlags) -> Result<(), NotEnded> {
        let id = self.begin_end(flags).map_err(NotEnded::UnderWay)?;
        self.end(may_wait, id, flags)
    }

    /// Begins an attempt to end the server, and gives its number for [`Server::end`]; the number of the one under way if
    /// there is one.
    pub fn begin_end(&self, flags: ShutdownFlags) -> Result<u64, u64> {
        // From now on it can be called off.
        let waits = !flags.now && self.has_lagging_replicas();
        self.stop.begin(waits.then(|| self.wait_until_ms()))
    }

    /// Goes on with an attempt that has begun. The caller has locked no shard.
    pub fn end(&self, may_wait: MayWait, id: u64, flags: ShutdownFlags) -> Result<(), NotEnded> {
        self.log.notice("User requested shutdown...");
        self.tell_supervisor("STOPPING=1");
        if !flags.now && !self.wait_for_replicas(id) {
            return Err(NotEnded::Failed);
        }
        // A script that runs for long has the shards: they are needed for a save only.
        let is_not_worth_waiting = || self.busy.is_busy() && !self.saves_at_end(flags);
        let locked = self.shards.lock_unless(self.shards.all(), may_wait, is_not_worth_waiting);
        let locked = locked.unwrap_or_else(|| self.shards.lock(ShardSet::NONE, may_wait));
        let ended = self.shut_down_locked(&locked, flags);
        if ended.is_err() {
            self.stop.give_up(id);
            self.let_writers_go_on();
        }
        ended.map_err(|_| NotEnded::Failed)
    }

    /// The same, at once, for who has locked all shards.
    pub fn shut_down_holding(&self, locked: &Locked<'_>, flags: ShutdownFlags) -> Result<(), NotEnded> {
        let id = self.stop.begin(None).map_err(NotEnded::UnderWay)?;
        self.log.notice("User requested shutdown...");
        self.tell_supervisor("STOPPING=1");
        self.shut_down_locked(locked, flags).map_err(|_| {
            self.stop.give_up(id);
            NotEnded::Failed
        })
    }

    /// Waits until the server has ended (true), or this attempt to end it is over.
    pub fn ends_by_attempt(&self, id: u64) -> bool {
        while !self.stop.is_requested() && self.stop.is_under_way(id) {
            std::thread::sleep(LOOK_AGAIN);
        }
        self.stop.is_requested()
    }

    /// Does what SHUTDOWN ABORT says.
    pub fn call_off_end(&self) -> CalledOff {
        let called_off = self.stop.call_off();
        if called_off == CalledOff::Yes {
            self.log.notice("Shutdown manually aborted.");
            self.let_writers_go_on();
        }
        called_off
    }

    fn let_writers_go_on(&self) {
        self.pause.set_ending(false);
        self.clients.iter().for_each(|client| client.mailbox.wake());
    }

    fn shut_down_locked(&self, locked: &Locked<'_>, flags: ShutdownFlags) -> Result<(), String> {
        if self.persistence.is_saving() {
            self.log.warning("There is a child saving an .rdb. Killing it!");
            self.persistence.cancel();
        }
        self.end_log(flags)?;
        if let Err(reason) = self.save_before_end(locked, flags) {
            self.log.warning(&reason);
            if !flags.force {
                self.log.warning("Error trying to save the DB, can't exit.");
                self.tell_supervisor("STATUS=Error trying to save the DB, can't exit.");
                self.log.warning("Errors trying to shut down the server. Check the logs for more information.");
                return Err(reason);
            }
            self.log.warning("Error trying to save the DB. Exit anyway.");
        }
        self.log.warning("Redis is now ready to exit, bye bye...");
        self.stop.request();
        Ok(())
    }

    /// Whether ending the server would have to wait for replicas that lag behind.
    pub fn has_lagging_replicas(&self) -> bool {
        self.config.load().shutdown_timeout > 0 && self.replication.lagging().next().is_some()
    }

    /// Until when an attempt that begins now waits for replicas, Unix ms.
    fn wait_until_ms(&self) -> i64 {
        self.clock.now_ms().saturating_add(i64::from(self.config.load().shutdown_timeout) * 1000)
    }

    /// Waits until every replica has acknowledged everything, at most `shutdown-timeout`; writers wait meanwhile. False
    /// when that was called off. Source: Redis 7.2 SHUTDOWN.
    fn wait_for_replicas(&self, id: u64) -> bool {
        if !self.has_lagging_replicas() {
            return self.stop.set_waits(id, None);
        }
        self.log.notice("Waiting for replicas before shutting down.");
        let deadline = Instant::now() + Duration::from_secs(u64::from(self.config.load().shutdown_timeout));
        self.pause.set_ending(true);
        if !self.stop.set_waits(id, Some(self.wait_until_ms())) {
            self.let_writers_go_on();
            return false;
        }
        while self.has_lagging_replicas() && Instant::now() < deadline && self.stop.is_under_way(id) {
            std::thread::sleep(LOOK_AGAIN);
        }
        if !self.stop.set_waits(id, None) {
            return false;
        }
        let (end, count) = (self.replication.stream.end(), self.replication.count());
        let mut lagging = 0;
        for replica in self.replication.lagging() {
            lagging += 1;
            let behind = end.saturating_sub(replica.acknowledged());
            self.log.notice(format_args!("Lagging replica {replica} reported offset {behind} behind master."));
        }
        let in_sync = count.saturating_sub(lagging);
        self.log.notice(format_args!("{in_sync} of {count} replicas are in sync when shutting down."));
        true
    }

    /// Brings the log to disk. A log that has no base yet would lose the data set.
    fn end_log(&self, flags: ShutdownFlags) -> Result<(), String> {
        match self.aof.mode() {
            Mode::Off => return Ok(()),
            Mode::Waiting if !flags.force => {
                self.log.warning("Writing initial AOF, can't exit.");
                self.tell_supervisor("STATUS=Writing initial AOF, can't exit.");
                self.log.warning("Errors trying to shut down the server. Check the logs for more information.");
                return Err("Writing initial AOF, can't exit.".to_owned());
            }
            Mode::Waiting => self.log.warning("Writing initial AOF. Exit anyway."),
            Mode::On if self.aof.is_rewriting() => {
                self.log.warning("There is a child rewriting the AOF. Killing it!");
            }
            Mode::On => {}
        }
        self.log.notice("Calling fsync() on the AOF file.");
        if let Err(error) = self.aof.queue.flush() {
            self.log.warning(format_args!("Fail to fsync the AOF file: {error}."));
        }
        Ok(())
    }

    /// Whether the options or the save points ask for a save. Half a data set, while it is being loaded, must not take
    /// the place of a whole one.
    fn saves_at_end(&self, flags: ShutdownFlags) -> bool {
        let wanted = flags.save || !flags.nosave && !self.config.load().save.is_empty();
        wanted && !self.loading.load(Ordering::Acquire)
    }

    fn save_before_end(&self, locked: &Locked<'_>, flags: ShutdownFlags) -> Result<(), String> {
        if !self.saves_at_end(flags) {
            return Ok(());
        }
        self.log.notice("Saving the final RDB snapshot before exiting.");
        self.tell_supervisor("STATUS=Saving the final RDB snapshot");
        save::in_foreground(self, &self.persistence, &self.config.load(), locked).map_err(|error| error.to_string())
    }
}
