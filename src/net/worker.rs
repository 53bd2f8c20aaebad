//! Workers: one OS thread each, with a runtime of its own, on which its connections live and die.

use crate::command::call::Engine;
use crate::net::connection::{Connection, Task};
use crate::server::Server;
use crate::util::sync::Mutex;
use dashmap::DashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{Notify, mpsc};

/// What the connections of one worker share.
#[derive(Debug)]
pub struct Worker {
    pub server: Arc<Server>,
    pub desk: Mutex<Desk>,
    /// All connections of the server, by client id.
    pub connections: Arc<Connections>,
    /// Replies have begun to wait for the disk.
    pub holds_replies: Notify,
}

/// All connections of a server, so that another thread can answer for a busy worker.
pub type Connections = DashMap<u64, Arc<Mutex<Connection>>>;

/// What a worker uses for one connection at a time.
#[derive(Debug)]
pub struct Desk {
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
    pub fn start(server: Arc<Server>, index: usize, connections: Arc<Connections>) -> io::Result<Handle> {
        let (inbox, arrivals) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let desk = Desk { engine: Engine::new(server.clone(), index), scratch: vec![0; SCRATCH_BYTES].into() };
        let worker = Arc::new(Worker { server, desk: Mutex::new(desk), connections, holds_replies: Notify::new() });
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
    tokio::spawn(call_for_sync(worker.clone()));
    loop {
        let arrived = tokio::select! {
            arrived = arrivals.recv() => arrived,
            () = server.stop.requested() => None,
        };
        let Some(connection) = arrived else { return };
        tokio::spawn(Task::new(connection, worker.clone()));
    }
}

/// Has the log brought to disk when replies wait for that. This task comes to its turn behind the connections that had
/// something to do when the first of them began to wait, so that one sync serves them all.
async fn call_for_sync(worker: Arc<Worker>) {
    loop {
        worker.holds_replies.notified().await;
        worker.server.aof.queue.call();
    }
}
