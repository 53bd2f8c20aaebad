//! The same program anew in the same process: DEBUG RESTART and DEBUG CRASH-AND-RECOVER.
//!
//! `exec` keeps the process's number and its standard streams; every other descriptor is closed by it, and threads are gone.
//! How long to wait before the server starts is handed over in a variable of the environment, so that it is the new program
//! that waits: nobody is served meanwhile.

use crate::config::ShutdownFlags;
use crate::keyspace::lock::Locked;
use crate::os::process::OwnProcess;
use crate::server::Server;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Milliseconds that a program begun anew waits.
const DELAY_VARIABLE: &str = "REDSTART_RESTART_DELAY_MS";

/// To be called when the program begins.
pub fn wait_as_told() {
    let delay = std::env::var(DELAY_VARIABLE).ok().and_then(|text| text.parse().ok());
    std::thread::sleep(Duration::from_millis(delay.unwrap_or(0)));
}

/// Whether a variable of the environment is only meant for [`wait_as_told`].
pub fn is_delay(name: &OsStr) -> bool {
    name == DELAY_VARIABLE
}

impl OwnProcess {
    /// Begins the program anew as it was begun; comes back only if that fails.
    fn begin_anew(&self, delay: Duration) -> io::Error {
        let (program, arguments) = match self.arguments.split_first() {
            Some((program, arguments)) => (program.as_os_str(), arguments),
            None => (self.executable.as_os_str(), &[][..]),
        };
        let mut command = Command::new(&self.executable);
        command.arg0(program).args(arguments).env_clear().envs(self.environment.iter().cloned());
        if !delay.is_zero() {
            command.env(DELAY_VARIABLE, delay.as_millis().to_string());
        }
        command.exec()
    }

    /// Begins the program anew if the server has been ended for that. As in Redis, there is nothing left to do if it fails.
    pub fn begin_anew_if_asked(&self) {
        if let Some(delay) = self.restart_delay.lock().take() {
            let error = self.begin_anew(delay);
            eprintln!("{}: {error}", self.executable.display());
            std::process::exit(1);
        }
    }
}

impl Server {
    /// Begins the program anew at once, as after a crash. Comes back only if that cannot be.
    pub fn crash_and_recover(&self, delay: Duration) {
        if let Some(process) = self.process_to_restart() {
            let error = process.begin_anew(delay);
            self.log.warning(format_args!("Can't restart: {error}"));
            std::process::exit(1);
        }
    }

    /// Ends the server in good order, without waiting for replicas; then the program begins anew. False when that cannot be.
    /// All shards are locked.
    pub fn restart(&self, delay: Duration, locked: &Locked<'_>) -> bool {
        let Some(process) = self.process_to_restart() else { return false };
        *process.restart_delay.lock() = Some(delay);
        let flags = ShutdownFlags { now: true, ..ShutdownFlags::default() };
        let ends = self.shut_down_holding(locked, flags).is_ok();
        if !ends {
            *process.restart_delay.lock() = None;
            self.log.warning("Can't restart: error preparing for shutdown");
        }
        ends
    }

    /// The process, if the server has one to itself whose program may be executed.
    fn process_to_restart(&self) -> Option<&OwnProcess> {
        const EXECUTABLE: u32 = 0o111;
        let Some(process) = &self.process else {
            self.log.warning("Can't restart: the server is part of another program");
            return None;
        };
        let program = &process.executable;
        let metadata = std::fs::metadata(program);
        let may_run = metadata.is_ok_and(|metadata| metadata.permissions().mode() & EXECUTABLE != 0);
        if !may_run {
            let program = program.display();
            self.log.warning(format_args!("Can't restart: this process has no permissions to execute {program}"));
        }
        may_run.then_some(process)
    }
}
