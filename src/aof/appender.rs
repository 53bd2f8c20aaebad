//! The threads of the log: one that writes what no worker has written, and does what may take long; one that syncs.

use crate::aof::syncer::Sync;
use crate::aof::{Aof, Trouble};
use crate::config::AppendFsync;
use redstart_persistence::aof::AppendError;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the log's thread sleeps when nobody calls it: there may be records that no reply tells of, or a sync to begin.
const TICK: Duration = Duration::from_millis(100);

/// The threads, once they have been started.
#[derive(Debug)]
pub struct Threads {
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
}

/// Starts the threads, unless they run already; see [`end`].
pub fn start(aof: &Arc<Aof>) -> io::Result<()> {
    let mut threads = aof.threads.lock();
    if threads.is_some() {
        return Ok(());
    }
    aof.syncer.begin();
    let own = aof.clone();
    let syncer = std::thread::Builder::new().name("aof_sync".to_owned()).spawn(move || sync(&own))?;
    let own = aof.clone();
    match std::thread::Builder::new().name("aof".to_owned()).spawn(move || write(&own)) {
        Ok(writer) => *threads = Some(Threads { writer, syncer }),
        Err(error) => {
            aof.syncer.end();
            return Err(error);
        }
    }
    Ok(())
}

/// Ends the threads once everything added is written and synced. Nobody adds any more: the workers have ended.
pub fn end(aof: &Aof) {
    let Some(threads) = aof.threads.lock().take() else { return };
    aof.queue.end();
    // A panic has been printed where it happened.
    drop(threads.writer.join());
    aof.syncer.end();
    drop(threads.syncer.join());
}

fn write(aof: &Aof) {
    let mut config = aof.core.config.load();
    aof.output.lock().obey(aof, &config);
    while !aof.queue.is_over() && !aof.core.stop.has_failed() {
        aof.queue.wait(TICK);
        let known = Arc::as_ptr(&config);
        aof.core.config.refresh(&mut config);
        let mut output = aof.output.lock();
        if !std::ptr::eq(known, Arc::as_ptr(&config)) {
            output.obey(aof, &config);
        }
        output.work(aof);
        drop(output);
        aof.tell_progress();
    }
    if !aof.core.stop.has_failed() {
        aof.output.lock().end(aof);
        aof.tell_progress();
    }
    aof.queue.close();
}

fn sync(aof: &Aof) {
    while let Some(sync) = aof.syncer.next() {
        let result = sync.sync.run();
        let told = result.as_ref().map_err(ToString::to_string).copied();
        match result {
            Ok(()) => worked(aof, &sync),
            Err(error) => failed(aof, &error),
        }
        if let Some(asked) = &sync.told {
            // Whoever asked may have given up.
            let _ = asked.send(told);
        }
        aof.tell_progress();
    }
}

fn worked(aof: &Aof, sync: &Sync) {
    aof.output.lock().end_sync(aof, sync);
    aof.syncer.done();
    if aof.recovered(Trouble::Sync) {
        let text = "A sync of the AOF has failed: it is rewritten, since what was not synced may be lost";
        aof.core.log.warning(text);
        aof.schedule_rewrite();
    }
}

fn failed(aof: &Aof, error: &AppendError) {
    let output = aof.output.lock();
    if output.is_open() {
        complain(aof, error);
    } else {
        aof.core.log.warning(error);
    }
    drop(output);
    aof.syncer.done();
}

/// Writing or syncing has failed.
pub(super) fn complain(aof: &Aof, error: &AppendError) {
    let log = &aof.core.log;
    if aof.core.config.load().appendfsync == AppendFsync::Always {
        match error {
            AppendError::Sync(error) => log.warning(format_args!(
                "Can't persist AOF for fsync error when the AOF fsync policy is 'always': {error}. Exiting..."
            )),
            error => {
                log.warning(error);
                log.warning("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...");
            }
        }
        // Replies that wait for the disk are never sent: what they would promise is not there.
        aof.core.stop.fail();
        return;
    }
    let (kind, reason) = match error {
        AppendError::Write(error) => (Trouble::Write, os_text(error)),
        AppendError::Sync(error) => (Trouble::Sync, os_text(error)),
        AppendError::ShortWrite { .. } => (Trouble::Write, "No space left on device".to_owned()),
    };
    if aof.troubles.failed(kind, reason) {
        log.warning(error);
    }
}

/// The error in the system's words, without Rust's number behind it.
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
