//! The orderly end: SHUTDOWN, SIGTERM and SIGINT save what is to be saved, then the server stops.

use crate::aof::Mode;
use crate::config::ShutdownFlags;
use crate::keyspace::lock::Locked;
use crate::server::Server;
use crate::snapshot::save;
use std::sync::atomic::Ordering;

impl Server {
    /// Ends the server as SHUTDOWN does with these options. The error says why it goes on; only `force` ends it then.
    pub fn shut_down(&self, flags: ShutdownFlags) -> Result<(), String> {
        let locked = self.shards.lock(self.shards.all());
        self.shut_down_locked(&locked, flags)
    }

    /// The same, for whoever has locked all shards already.
    pub fn shut_down_locked(&self, locked: &Locked<'_>, flags: ShutdownFlags) -> Result<(), String> {
        self.log.notice("User requested shutdown...");
        if self.persistence.is_saving() {
            self.log.warning("There is a child saving an .rdb. Killing it!");
            self.persistence.cancel();
        }
        self.end_log(flags)?;
        if let Err(reason) = self.save_before_end(locked, flags) {
            self.log.warning(&reason);
            if !flags.force {
                self.log.warning("Error trying to save the DB, can't exit.");
                self.log.warning("Errors trying to shut down the server. Check the logs for more information.");
                return Err(reason);
            }
            self.log.warning("Error trying to save the DB. Exit anyway.");
        }
        self.log.warning("Redis is now ready to exit, bye bye...");
        self.stop.request();
        Ok(())
    }

    /// Brings the log to disk. A log that has no base yet would lose the data set.
    fn end_log(&self, flags: ShutdownFlags) -> Result<(), String> {
        match self.aof.mode() {
            Mode::Off => return Ok(()),
            Mode::Waiting if !flags.force => {
                self.log.warning("Writing initial AOF, can't exit.");
                self.log.warning("Errors trying to shut down the server. Check the logs for more information.");
                return Err("Writing initial AOF, can't exit.".to_owned());
            }
            Mode::Waiting => self.log.warning("Writing initial AOF. Exit anyway."),
            Mode::On => {}
        }
        self.log.notice("Calling fsync() on the AOF file.");
        if let Err(error) = self.aof.queue.flush() {
            self.log.warning(format_args!("Fail to fsync the AOF file: {error}."));
        }
        Ok(())
    }

    /// Saves the data set if the options or the save points ask for it. Half a data set, while it is being loaded,
    /// must not take the place of a whole one.
    fn save_before_end(&self, locked: &Locked<'_>, flags: ShutdownFlags) -> Result<(), String> {
        let config = self.config.load();
        let wanted = flags.save || !flags.nosave && !config.save.is_empty();
        if !wanted || self.loading.load(Ordering::Acquire) {
            return Ok(());
        }
        self.log.notice("Saving the final RDB snapshot before exiting.");
        save::in_foreground(self, &config, locked).map_err(|error| error.to_string())
    }
}
