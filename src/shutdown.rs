//! The orderly end: SHUTDOWN, SIGTERM and SIGINT.

use crate::config::ShutdownFlags;
use crate::server::Server;

impl Server {
    /// Ends the server as SHUTDOWN does with these options. The error says why it goes on; only `force` ends it then.
    pub fn shut_down(&self, flags: ShutdownFlags) -> Result<(), String> {
        self.log.notice("User requested shutdown...");
        if let Err(reason) = self.save_before_end(flags) {
            if !flags.force {
                self.log.warning(format_args!("Error trying to save the DB, can't exit: {reason}"));
                return Err(reason);
            }
            self.log.warning(format_args!("Error trying to save the DB, but asked to exit anyway: {reason}"));
        }
        self.log.warning("Redis is now ready to exit, bye bye...");
        self.stop.request();
        Ok(())
    }

    /// Saves the data set if the options or the save points ask for it.
    fn save_before_end(&self, flags: ShutdownFlags) -> Result<(), String> {
        let wanted = flags.save || (!flags.nosave && !self.config.load().save.is_empty());
        if wanted { Err("saving is not part of this server yet".to_owned()) } else { Ok(()) }
    }
}
