//! The last words of a server that cannot go on: a report in the log, then the end.

use crate::banner;
use crate::server::Server;

impl Server {
    /// Reports that `signal` ended the process, and ends it so.
    pub fn crash(&self, signal: i32) -> ! {
        self.report(&format!("Redis {} crashed by signal: {signal}, si_code: 0", banner::REDIS_VERSION));
        std::process::abort()
    }

    /// Reports a broken invariant and ends the process: with a signal, or with exit code 1 (`use-exit-on-panic`).
    pub fn fail_assertion(&self, what: &str) -> ! {
        self.report(&format!("=== ASSERTION FAILED ===\n==> {what}"));
        if self.config.load().use_exit_on_panic {
            std::process::exit(1);
        }
        std::process::abort()
    }

    fn report(&self, cause: &str) {
        if !self.config.load().crash_log_enabled {
            return;
        }
        self.log.warning(format_args!(
            "\n\n=== REDIS BUG REPORT START: Cut & paste starting from here ===\n{cause}\n\
             Redstart {}, run id {}\n\n------ STACK TRACE ------\n{}\n\n=== REDIS BUG REPORT END ===",
            banner::VERSION,
            self.run_id,
            std::backtrace::Backtrace::force_capture(),
        ));
    }
}
