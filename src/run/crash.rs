//! The last words of a server that cannot go on: a report in the log, then the end.
//!
//! Reported are panics, SIGABRT, and what DEBUG SEGFAULT, ASSERT and PANIC stand in for. A fault of the processor
//! (SIGSEGV, SIGBUS, SIGILL, SIGFPE) ends the process as the kernel does, with a core file where the system keeps them: a
//! handler that writes a log from within a broken process could break more than it tells, and would need `unsafe`.

use crate::os::banner;
use crate::server::Server;
use std::fmt::Display;
use std::panic::PanicHookInfo;
use std::sync::Arc;

impl Server {
    /// Reports that `signal` ended the process, and ends it so.
    pub fn crash(&self, signal: i32) -> ! {
        self.report(&format!("Redis {} crashed by signal: {signal}, si_code: 0", banner::REDIS_VERSION));
        std::process::abort()
    }

    /// Reports a broken invariant and ends the process: with a signal, or with exit code 1 (`use-exit-on-panic`).
    pub fn fail_assertion(&self, what: &str) -> ! {
        self.report(&format!("=== ASSERTION FAILED ===\n==> {what}"));
        self.end_after_panic()
    }

    /// From now on a panic of any thread ends the process with a report. For a server that has the process to itself.
    pub fn report_panics(self: &Arc<Self>) {
        let server = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            server.report(&format!("=== ASSERTION FAILED ===\n==> {}", Panic(panic)));
            server.end_after_panic()
        }));
    }

    fn end_after_panic(&self) -> ! {
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

/// What a thread panicked about, and where.
struct Panic<'a>(&'a PanicHookInfo<'a>);

impl Display for Panic<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let thread = std::thread::current();
        write!(f, "{} in thread {}", self.0.payload_as_str().unwrap_or("panic"), thread.name().unwrap_or("?"))?;
        match self.0.location() {
            Some(place) => write!(f, " at {place}"),
            None => Ok(()),
        }
    }
}
