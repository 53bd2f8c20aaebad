//! The data set at the start: brought from disk while clients are told LOADING.

use crate::aof;
use crate::check;
use crate::command::replay::Replayer;
use crate::command::table::Registry;
use crate::config::Config;
use crate::keyspace::lock::MayWait;
use crate::server::Server;
use crate::snapshot::load::{self, LoadError, Purpose, Target};
use crate::snapshot::save;
use redstart_persistence::aof::Manifest;
use redstart_persistence::rdb::RdbErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Begins to load what is on disk, on a thread of its own, while `server.loading` is set; `ready` is called when the data set is complete. With
/// nothing to load that is at once. When loading fails, the server ends.
pub fn begin(
    server: &Arc<Server>,
    registry: Arc<Registry>,
    may_wait: MayWait,
    ready: impl FnOnce(&Server) + Send + 'static,
) -> Result<(), String> {
    let config = server.config.load();
    if config.appendonly {
        // Loading may already change the files: it cuts torn tails off.
        server.aof.hold_dir(&config)?;
    }
    save::remove_leftovers(server, &config);
    let path = config.dir.join(&config.dbfilename);
    let is_there =
        if config.appendonly { aof::exists(&config) } else { !config.dbfilename.is_empty() && path.exists() };
    if !is_there {
        open_log(server, may_wait, &config, Manifest::default())?;
        server.loading.store(false, Ordering::Release);
        ready(server);
        return Ok(());
    }
    let loading = &server.persistence.loading;
    loading.start_s.store((server.clock.now_ms() / 1000).unsigned_abs(), Ordering::Relaxed);
    let own = server.clone();
    let load = move |may_wait| {
        let is_loaded = if config.appendonly {
            log(&own, registry, may_wait, &config)
        } else {
            rdb(&own, may_wait, &config, &path)
        };
        if is_loaded {
            own.loading.store(false, Ordering::Release);
            ready(&own);
        } else if !own.stop.is_requested() {
            own.stop.fail();
        }
    };
    let thread = server.background.spawn("loader", load);
    thread.map_err(|error| format!("Fatal: can't start the loading thread: {error}"))
}

/// Loads the append-only file and opens it to go on; false if that failed, which has been logged.
fn log(server: &Arc<Server>, registry: Arc<Registry>, may_wait: MayWait, config: &Config) -> bool {
    let start = Instant::now();
    let Ok(manifest) = aof::load::all(&server.aof, config, may_wait, &mut Replayer::new(server, registry)) else {
        return false;
    };
    let took = start.elapsed().as_secs_f64();
    server.log.notice(format_args!("DB loaded from append only file: {took:.3} seconds"));
    open_log(server, may_wait, config, manifest).map_err(|error| server.log.warning(error)).is_ok()
}

/// Opens the append-only file if it is switched on.
fn open_log(server: &Arc<Server>, may_wait: MayWait, config: &Config, manifest: Manifest) -> Result<(), String> {
    if config.appendonly { server.aof.open(may_wait, config, manifest) } else { server.aof.know(config) }
}

/// Loads the RDB file; false if that failed, which has been logged.
fn rdb(server: &Server, may_wait: MayWait, config: &Config, path: &Path) -> bool {
    let start = Instant::now();
    let len = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    server.persistence.loading.total_bytes.store(len, Ordering::Relaxed);
    let mut target = Target::Shards(&server.shards, may_wait);
    let loaded = load::file(server, &server.persistence, config, path, &mut target, Purpose::default());
    match loaded {
        Ok(_) => {
            server.log.notice(format_args!("DB loaded from disk: {:.3} seconds", start.elapsed().as_secs_f64()));
            return server.aof.know(config).map_err(|error| server.log.warning(error)).is_ok();
        }
        Err(LoadError::ServerEnds) => return false,
        Err(LoadError::Rdb(error)) if is_told_briefly(&error.kind) => server.log.warning(error.kind),
        Err(error @ LoadError::Rdb(_)) => {
            server.log.warning(error);
            if server.process.is_some() {
                // Which key it was, and how far the file is sound.
                check::show_rdb(path);
            }
            server.log.warning("Terminating server after rdb file reading failure.");
            return false;
        }
        Err(error) => server.log.warning(error),
    }
    server.log.warning("Fatal error loading the DB, check server logs. Exiting.");
    false
}

/// What is wrong with the first bytes needs no offset.
fn is_told_briefly(kind: &RdbErrorKind) -> bool {
    matches!(kind, RdbErrorKind::WrongSignature | RdbErrorKind::Version(_))
}
