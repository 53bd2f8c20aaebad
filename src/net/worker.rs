//! Workers: one OS thread each, with a runtime of its own, on which its connections live and die.

use crate::aof::output;
use crate::aof::queue::Look;
use crate::command::call::Engine;
use crate::command::table::Registry;
use crate::keyspace::lock::MayWait;
use crate::net::connection::{Connection, Task};
use crate::server::Server;
use crate::util::sync::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{Notify, mpsc};

/// What the connections of one worker share.
#[derive(Debug)]
pub struct Worker {
    pub server: Arc<Server>,
    /// Its connections wait for shards as long as it takes: the main loop answers for them meanwhile.
    pub may_wait: MayWait,
    pub workspace: Mutex<Workspace>,
    /// All connections of the server, by client id.
    pub connections: Arc<Connections>,
    /// There are records that replies wait for.
    pub adds_to_log: Notify,
}

/// All connections of a server by client id, so that another thread can answer for a busy worker: O(log n) for each that
/// comes or goes, and memory comes back with them.
pub type Connections = RwLock<BTreeMap<u64, Arc<Mutex<Connection>>>>;

/// What a worker uses for one connection at a time.
#[derive(Debug)]
pub struct Workspace {
    pub engine: Engine,
    /// Where bytes are read to.
    pub scratch: Box<[u8]>,
}

/// Bytes read at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Lua's C functions nest up to 200 deep with buffers of 8 KiB on the stack. Pages never used cost nothing.
const STACK_BYTES: usize = 8 << 20;

/// A running worker, as its server sees it.
#[derive(Debug)]
pub struct Handle {
    inbox: mpsc::UnboundedSender<Arc<Mutex<Connection>>>,
    /// Its runtime: sockets must be registered there.
    pub runtime: tokio::runtime::Handle,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Starts worker number `index`.
    pub fn start(
        server: Arc<Server>,
        registry: Arc<Registry>,
        index: usize,
        connections: Arc<Connections>,
    ) -> io::Result<Handle> {
        let (inbox, arrivals) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let may_wait = MayWait::of_thread();
        let engine = Engine::new(server.clone(), registry, index, Some(may_wait));
        let workspace = Mutex::new(Workspace { engine, scratch: vec![0; SCRATCH_BYTES].into() });
        let worker = Arc::new(Worker { server, may_wait, workspace, connections, adds_to_log: Notify::new() });
        let builder = std::thread::Builder::new().name(format!("worker_{index}")).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || runtime.block_on(run(worker, arrivals)))?;
        Ok(Handle { inbox, runtime: handle, thread })
    }

    /// Hands a connection over.
    pub fn adopt(&self, connection: Arc<Mutex<Connection>>) {
        // A worker that has stopped drops it: the server is ending.
        let _ = self.inbox.send(connection);
    }

    /// Waits for the worker's end; the stop must have been requested.
    pub fn join(self) {
        drop(self.inbox);
        // A panic ends the process in the binary; in a test it has been printed already.
        drop(self.thread.join());
    }
}

async fn run(worker: Arc<Worker>, mut arrivals: mpsc::UnboundedReceiver<Arc<Mutex<Connection>>>) {
    let server = worker.server.clone();
    server.reclaimer.collect_here();
    tokio::spawn(write_log(server.clone(), worker.clone()));
    loop {
        let arrived = tokio::select! {
            arrived = arrivals.recv() => arrived,
            () = server.stop.requested() => None,
        };
        let Some(connection) = arrived else { return };
        tokio::spawn(Task::new(connection, worker.clone()));
    }
}

/// Writes records into the log, or has it done. This task comes to its turn behind the connections that had something to do
/// when the first of them added a record, so that one write, or one sync, serves them all.
async fn write_log(server: Arc<Server>, worker: Arc<Worker>) {
    let mut look: Option<Look> = None;
    loop {
        let is_late = async {
            match &look {
                Some(look) => tokio::time::sleep_until(look.at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = worker.adds_to_log.notified() => {
                if !output::write_for_replies(&server.aof) {
                    server.aof.queue.call();
                    look = look.or_else(|| Look::at_what_was_added(&server.aof.queue));
                }
            }
            () = is_late => look = look.take().and_then(|look| server.aof.look_at_disk(&look)),
        }
    }
}
