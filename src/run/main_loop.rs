//! The main loop: admits connections, notices scripts that run for long, and answers for the workers they hold up.
//!
//! It is what ends a script that never ends, so it waits for nothing that a script, or whatever else a client may have
//! running, can hold. Its engine has no [`MayWait`](crate::keyspace::lock::MayWait): shards are tried. Of what is on its
//! way, it takes:
//!
//! - a connection's lock: tried; a worker holds that of the connection whose commands it runs.
//! - the maps of connections and clients, mailboxes, the users, the configuration in force, the registers of subscriptions,
//!   tracking, monitors, replicas and errors, the log: held for one look or change, never while a command or a script runs,
//!   nor for a wait or for a file. (The log's file excepted, and there everybody waits, as in Redis.)
//! - the state of scripts and functions: never. What it tells of them is kept beside them.
//!
//! The periodic work, which does wait for shards, is on a thread of its own ([`crate::run::cron`]).

use crate::aof::appender;
use crate::command::call::Engine;
use crate::net::accepting::Accepting;
use crate::net::connection::Connection;
use crate::net::listener::{Acceptor, Listeners};
use crate::run::cron;
use crate::server::Rebind;
use crate::util::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Answers while a script keeps workers busy.
#[derive(Debug)]
struct Rescuer {
    engine: Engine,
    scratch: Vec<u8>,
}

/// Runs until the server is to stop.
pub fn run(
    mut acceptor: Acceptor,
    engine: Engine,
    cron: JoinHandle<()>,
    listeners: Listeners,
    mut wishes: mpsc::UnboundedReceiver<Rebind>,
) {
    acceptor.server.reclaimer.collect_here();
    debug_assert!(engine.may_wait.is_none(), "the main loop waits for no shard");
    let mut rescuer = Rescuer { engine, scratch: vec![0; 16 * 1024] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system gives one more epoll descriptor");
    runtime.block_on(main_loop(&mut acceptor, &mut rescuer, listeners, &mut wishes));
    // Closes the listeners: workers may take a while to end, and nobody is served any more.
    runtime.shutdown_background();
    for worker in acceptor.workers {
        worker.join();
    }
    // A panic ends the process in the binary; in a test it has been printed already.
    drop(cron.join());
    // Their connections are gone: nobody is to wait until they take their data set.
    acceptor.server.replication.replicas().iter().for_each(|replica| replica.leave());
    appender::end(&acceptor.server.aof);
}

/// A data set that loads within this time is never seen loading: connections wait to be accepted, as Redis's wait for
/// the loading to look at its sockets.
const LOADING_GRACE: Duration = Duration::from_millis(200);
const LOADING_LOOK: Duration = Duration::from_micros(500);
/// How often it is looked whether clients have said something while a script keeps their workers busy.
const BUSY_LOOK: Duration = Duration::from_millis(2);

async fn main_loop(
    acceptor: &mut Acceptor,
    rescuer: &mut Rescuer,
    listeners: Listeners,
    wishes: &mut mpsc::UnboundedReceiver<Rebind>,
) {
    let server = acceptor.server.clone();
    let patience = Instant::now() + LOADING_GRACE;
    while server.loading.load(Ordering::Acquire) && Instant::now() < patience && !server.stop.is_requested() {
        tokio::time::sleep(LOADING_LOOK).await;
    }
    let (mut accepting, mut arrivals) = Accepting::begin(listeners);
    let mut look_at = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = server.stop.requested() => return,
            Some(arrival) = arrivals.recv() => {
                if let Err(error) = acceptor.admit(arrival) {
                    server.log.verbose(format_args!("Error accepting a client connection: {error}"));
                }
            }
            Some(wish) = wishes.recv() => {
                let outcome = accepting.rebind(&server, &wish).await;
                // The thread that asked may have given up.
                let _ = wish.answer.send(outcome);
            }
            () = tokio::time::sleep_until(look_at) => {
                let began = Instant::now();
                let patience = rescuer.watch_script(acceptor);
                // A fifth of its time at most, however many there are to answer for.
                look_at = tokio::time::Instant::now() + patience.max(began.elapsed() * 4);
            }
        }
    }
}

impl Rescuer {
    /// Notices a script that runs for too long, and answers clients in the place of the workers it holds up. The time
    /// until it is to look again: `busy-reply-threshold` is kept to the millisecond, unless it is shorter than a tick and
    /// the script began within this one.
    fn watch_script(&mut self, acceptor: &Acceptor) -> Duration {
        self.engine.begin_batch();
        let server = self.engine.server.clone();
        let busy = &server.busy;
        let period = cron::period(&self.engine.config);
        let threshold_ms = self.engine.config.busy_reply_threshold as i64;
        if threshold_ms == 0 || busy.is_debugged() {
            return period;
        }
        let Some(since_ms) = busy.since_ms() else { return period };
        let left_ms = threshold_ms.saturating_add(since_ms).saturating_sub(self.engine.now_ms);
        if left_ms > 0 {
            return period.min(Duration::from_millis(left_ms.unsigned_abs()));
        }
        if busy.declare(since_ms) {
            server.log.warning(format_args!(
                "Slow script detected: still in execution after {} milliseconds. You can try killing the script using the SCRIPT KILL command.",
                self.engine.now_ms - since_ms
            ));
        }
        // Replies wait for records that a worker would have written at the end of its turn.
        server.aof.queue.call();
        // Without a lock on the map: what is run may look at it.
        let connections: Vec<Arc<Mutex<Connection>>> = acceptor.connections.read().values().cloned().collect();
        for connection in connections {
            // The connection that runs the script is locked by its worker.
            let Some(mut connection) = connection.try_lock() else { continue };
            if connection.answer_now(&mut self.engine, &mut self.scratch).is_err() {
                connection.hang_up(&server);
            }
        }
        BUSY_LOOK
    }
}
