//! The data set at the start: brought from disk while clients are told LOADING.

use crate::server::Server;
use crate::snapshot::load::{self, LoadError, Purpose, Target};
use redstart_persistence::rdb::RdbErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Begins to load what is on disk, on a thread of its own; `ready` is called when the data set is complete. With
/// nothing to load that is at once. When loading fails, the server ends.
pub fn begin(server: &Arc<Server>, ready: impl FnOnce(&Server) + Send + 'static) -> Result<(), String> {
    let config = server.config.load();
    let path = config.dir.join(&config.dbfilename);
    let Ok(metadata) = std::fs::metadata(&path) else {
        ready(server);
        return Ok(());
    };
    let loading = &server.persistence.loading;
    loading.start_s.store((server.clock.now_ms() / 1000).unsigned_abs(), Ordering::Relaxed);
    loading.total_bytes.store(metadata.len(), Ordering::Relaxed);
    server.loading.store(true, Ordering::Release);
    let own = server.clone();
    let load = move || {
        if rdb(&own, path) {
            own.loading.store(false, Ordering::Release);
            ready(&own);
        } else {
            own.stop.fail();
        }
    };
    let thread = std::thread::Builder::new().name("loader".to_owned()).spawn(load);
    thread.map(drop).map_err(|error| format!("Fatal: can't start the loading thread: {error}"))
}

/// Loads the RDB file; false if that failed, which has been logged.
fn rdb(server: &Server, path: PathBuf) -> bool {
    let config = server.config.load();
    let start = Instant::now();
    let loaded = load::file(server, &config, &path, &mut Target::Shards(&server.shards), Purpose::default());
    match loaded {
        Ok(_) => {
            server.log.notice(format_args!("DB loaded from disk: {:.3} seconds", start.elapsed().as_secs_f64()));
            return true;
        }
        Err(LoadError::Rdb(error)) if is_told_briefly(&error.kind) => server.log.warning(error.kind),
        Err(error) => server.log.warning(error),
    }
    server.log.warning("Fatal error loading the DB, check server logs. Exiting.");
    false
}

/// What is wrong with the first bytes needs no offset.
fn is_told_briefly(kind: &RdbErrorKind) -> bool {
    matches!(kind, RdbErrorKind::WrongSignature | RdbErrorKind::Version(_))
}
