//! The init system that has started the process and is told how far it has come: systemd by messages, Upstart by a stop.

use crate::config::Supervised;
use crate::os::log::Log;
use nix::sys::signal::{Signal, raise};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// An init system that waits for this process.
#[derive(Debug)]
pub enum Supervisor {
    /// Listens at this address for lines as sd_notify(3) has them.
    Systemd(SocketAddr),
    Upstart,
}

/// Where systemd listens; a name that begins with `@` is an abstract one.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// That Upstart waits until the process stops itself. It is not for programs that this one becomes.
const JOB_VARIABLE: &str = "UPSTART_JOB";

impl Supervisor {
    /// The one that `supervised` names, if it is there. systemd is told that the server loads; for Upstart the process
    /// stops until it is continued. Source: Redis 7.2 `supervised`.
    pub fn find(supervised: Supervised, log: &Log) -> Option<Supervisor> {
        let is_there = |name| std::env::var_os(name).is_some();
        match supervised {
            Supervised::Auto if is_there(JOB_VARIABLE) => {
                log.verbose("Upstart supervision detected.");
                Self::upstart(log)
            }
            Supervised::Auto if is_there(SOCKET_VARIABLE) => {
                log.verbose("Systemd supervision detected.");
                Self::systemd(log)
            }
            Supervised::Upstart => Self::upstart(log),
            Supervised::Systemd => Self::systemd(log),
            Supervised::Auto | Supervised::No => None,
        }
    }

    fn upstart(log: &Log) -> Option<Supervisor> {
        if std::env::var_os(JOB_VARIABLE).is_none() {
            log.warning(format_args!("upstart supervision requested, but {JOB_VARIABLE} not found!"));
            return None;
        }
        log.notice("supervised by upstart, will stop to signal readiness.");
        if let Err(error) = raise(Signal::SIGSTOP) {
            log.warning(format_args!("Can't stop for upstart: {error}"));
        }
        Some(Supervisor::Upstart)
    }

    fn systemd(log: &Log) -> Option<Supervisor> {
        let Some(name) = std::env::var_os(SOCKET_VARIABLE) else {
            log.warning(format_args!("systemd supervision error: {SOCKET_VARIABLE} not found!"));
            return None;
        };
        let told = address(&name).and_then(|address| {
            send(&address, "STATUS=Redis is loading...\n")?;
            Ok(address)
        });
        let told = told.map_err(|error| complain(log, &error)).ok()?;
        log.notice(
            "Supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and TimeoutStopSec in your service unit.",
        );
        Some(Supervisor::Systemd(told))
    }

    /// Tells systemd that something has happened (`READY=1`, `STATUS=...`); another supervisor hears nothing.
    pub fn tell(&self, line: &str, log: &Log) {
        if let Supervisor::Systemd(address) = self
            && let Err(error) = send(address, &format!("{line}\n"))
        {
            complain(log, &error);
        }
    }

    /// As `supervised` and INFO name it.
    pub fn kind(&self) -> Supervised {
        match self {
            Supervisor::Systemd(_) => Supervised::Systemd,
            Supervisor::Upstart => Supervised::Upstart,
        }
    }
}

/// Whether a variable of the environment was for the start alone.
pub fn is_for_start(name: &OsStr) -> bool {
    name == JOB_VARIABLE
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

fn send(address: &SocketAddr, text: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), address).map(drop)
}

fn complain(log: &Log, error: &io::Error) {
    log.warning(format_args!("systemd supervision error: sd_notify: {error}"));
}
