//! CONFIG SET on a running server: a checked change is put into force, with all its side effects or none.

use crate::aof::Mode;
use crate::config::{self, Access, Change, Config, Directive, LogLevel, SetError};
use crate::memory;
use crate::os::process;
use crate::server::{Doors, Rebind, Server};
use crate::socket::tls;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// How long the main loop may take to change its listeners.
const REBIND_PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// `CONFIG SET`: the whole of `pairs` is in force afterwards, or nothing has changed. No shard may be locked by the
    /// caller's own doing, since the main loop is waited for.
    pub fn reconfigure(self: &Arc<Self>, pairs: &[(&[u8], &[u8])], access: Access) -> Result<(), SetError> {
        let _one_at_a_time = self.reconfiguring.lock();
        let old = self.config.load();
        let Change { mut config, changed } = config::set(&old, pairs, access)?;
        config.raise_watchdog_period();
        let new = Arc::new(config);
        for (count, (directive, name)) in changed.iter().enumerate() {
            // What a group of directives needs is done for the first of them.
            let is_repeated = changed[..count].iter().any(|(before, _)| group(before) == group(directive));
            if is_repeated && group(directive) != Group::None {
                continue;
            }
            if let Err(reason) = self.apply(directive, &old, &new, access) {
                self.log.warning(format_args!(
                    "Failed applying new configuration. Possibly related to new {name} setting. Restoring previous settings."
                ));
                self.restore(&changed[..count], &new, &old, access);
                return Err(SetError::refused(*name, reason));
            }
        }
        let kept: Result<(), std::convert::Infallible> = self.config.update(|_| Ok(Config::clone(&new)));
        let Ok(()) = kept;
        self.clients.set_output_limits(&new);
        if changed.iter().any(|(directive, _)| directive.name.starts_with("maxmemory")) {
            self.limit_client_memory(&new);
        }
        Ok(())
    }

    fn restore(
        self: &Arc<Self>,
        applied: &[(&'static Directive, &'static str)],
        new: &Arc<Config>,
        old: &Arc<Config>,
        access: Access,
    ) {
        for (directive, name) in applied {
            if group(directive) == Group::Dir && self.aof.mode() != Mode::Off {
                self.aof.unclaim(&new.dir);
                continue;
            }
            if let Err(reason) = self.apply(directive, new, old, access) {
                self.log.warning(format_args!("Failed applying restored {name}: {reason}"));
            }
        }
    }

    /// The side effect of one directive's change from `old` to `new`. What is only read from the configuration needs
    /// none. Errors are Redis's texts.
    fn apply(
        self: &Arc<Self>,
        directive: &Directive,
        old: &Arc<Config>,
        new: &Arc<Config>,
        access: Access,
    ) -> Result<(), String> {
        match group(directive) {
            Group::None => Ok(()),
            Group::LogLevel => {
                self.log.set_level(new.loglevel);
                Ok(())
            }
            Group::Bind | Group::Port => self.rebind(directive, new),
            Group::Tls => self.reload_tls(new),
            Group::TlsPort => {
                self.reload_tls(new)?;
                self.rebind(directive, new)
            }
            Group::MaxClients => make_room(old, new),
            Group::Password => {
                self.acl.set_default_password(new.requirepass.as_deref());
                Ok(())
            }
            Group::Watchdog => {
                self.start_watchdog(new.watchdog_period);
                Ok(())
            }
            Group::BackgroundThread => {
                memory::purge_in_background(new.jemalloc_bg_thread).map_err(|error| error.to_string())
            }
            Group::OomScore => self.apply_oom_score(new),
            Group::Title => self.apply_title(new),
            Group::Maxmemory => {
                self.warn_of_small_maxmemory(new);
                Ok(())
            }
            Group::AutoGc if new.aof_disable_auto_gc => Ok(()),
            Group::AutoGc => self.aof.remove_log_history(new).map_err(|error| error.to_string()),
            Group::Log => {
                // From the next command on, not when the log's thread looks at the configuration next.
                if self.aof.mode() == Mode::On {
                    self.aof.obey_now(new);
                }
                Ok(())
            }
            Group::Dir if self.aof.mode() != Mode::Off => self.aof.claim(&new.dir),
            Group::Dir => Ok(()),
            Group::AppendOnly if new.appendonly => self.aof.start_logging(access.in_exec),
            Group::AppendOnly => {
                self.aof.end_logging();
                Ok(())
            }
        }
    }

    fn rebind(&self, directive: &Directive, new: &Arc<Config>) -> Result<(), String> {
        let doors = match directive.name {
            "port" => Doors::Plain,
            "tls-port" => Doors::Tls,
            _ => Doors::All,
        };
        let refused = || match doors {
            Doors::All => "Failed to bind to specified addresses.".to_owned(),
            _ => "Unable to listen on this port. Check server logs.".to_owned(),
        };
        let Some(main_loop) = self.main_loop.get() else { return Ok(()) };
        let (answer, answered) = mpsc::sync_channel(1);
        main_loop.send(Rebind { config: new.clone(), doors, answer }).map_err(|_| refused())?;
        match answered.recv_timeout(REBIND_PATIENCE) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => {
                self.log.warning(reason);
                Err(refused())
            }
            Err(_) => Err(refused()),
        }
    }

    /// Reads certificates and keys again, where TLS is used at all. After an error the old ones stay in force.
    fn reload_tls(&self, new: &Config) -> Result<(), String> {
        if !tls::is_wanted(new) {
            return Ok(());
        }
        self.tls.configure(new).map_err(|reason| {
            self.log.warning(reason);
            "Unable to update TLS configuration. Check server logs.".to_owned()
        })
    }

    fn apply_oom_score(&self, new: &Config) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        process.oom_score.lock().apply(new, new.replicaof.is_some()).map_err(|error| {
            self.log.warning(format_args!("Unable to write oom_score_adj: {error}"));
            "Failed to set current oom_score_adj. Check server logs.".to_owned()
        })
    }

    fn apply_title(&self, new: &Config) -> Result<(), String> {
        let Some(process) = self.process.as_ref().filter(|_| new.set_proc_title) else { return Ok(()) };
        process.show_title(new).map_err(|_| "failed to set process title".to_owned())
    }

    fn warn_of_small_maxmemory(&self, new: &Config) {
        let used = self.used_memory.bytes().saturating_sub(self.uncounted_bytes());
        if new.maxmemory > 0 && new.maxmemory < used {
            self.log.line(
                LogLevel::Warning,
                format_args!(
                    "WARNING: the new maxmemory value set via CONFIG SET ({}) is smaller than the memory in use \
                     ({used}): keys will be evicted or writes refused, depending on maxmemory-policy.",
                    new.maxmemory
                ),
            );
        }
    }
}

/// Directives that share a side effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    None,
    LogLevel,
    Bind,
    Port,
    Tls,
    TlsPort,
    MaxClients,
    Password,
    OomScore,
    Title,
    Maxmemory,
    AppendOnly,
    Dir,
    /// How the log is written.
    Log,
    AutoGc,
    Watchdog,
    BackgroundThread,
}

fn group(directive: &Directive) -> Group {
    match directive.name {
        "loglevel" => Group::LogLevel,
        "bind" => Group::Bind,
        "port" => Group::Port,
        "requirepass" => Group::Password,
        "maxclients" => Group::MaxClients,
        "oom-score-adj" | "oom-score-adj-values" => Group::OomScore,
        "proc-title-template" => Group::Title,
        "maxmemory" => Group::Maxmemory,
        "appendonly" => Group::AppendOnly,
        "dir" => Group::Dir,
        "appendfsync" | "aof-checksum" | "aof-timestamp-enabled" => Group::Log,
        "aof-disable-auto-gc" => Group::AutoGc,
        "watchdog-period" => Group::Watchdog,
        "jemalloc-bg-thread" => Group::BackgroundThread,
        "tls-port" => Group::TlsPort,
        name if name.starts_with("tls-") => Group::Tls,
        _ => Group::None,
    }
}

fn make_room(old: &Config, new: &Config) -> Result<(), String> {
    if new.maxclients <= old.maxclients {
        return Ok(());
    }
    match process::raise_open_files(new.maxclients) {
        Ok(process::OpenFiles::Short { limit, .. }) => Err(format!(
            "The operating system is not able to handle the specified number of clients, try with {}",
            limit.saturating_sub(process::RESERVED_FILES.into())
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("The limit of open files cannot be raised: {error}")),
    }
}
