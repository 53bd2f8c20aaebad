//! WAIT and WAITAOF: clients that wait until their writes have reached replicas, or disks.

use crate::command::serve;
use crate::command::session::Acknowledgement;
use crate::keyspace::waiters::Waiter;
use crate::replication::replica::{Phase, Replica};
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::util::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The clients that wait, in order of arrival.
#[derive(Debug, Default)]
pub struct Waits {
    waiting: Mutex<Vec<Arc<Waiter>>>,
    count: AtomicUsize,
    /// The replicas are to be asked how far they are, once that is possible.
    ask: AtomicBool,
}

impl Acknowledgement {
    /// How many replicas have it, and whether this server's disk does.
    pub fn reached(&self, server: &Server) -> (bool, usize) {
        let has = |replica: &&Arc<Replica>| {
            let offset = match self.on_disk {
                Some(_) => replica.acknowledged_on_disk(),
                None => replica.acknowledged(),
            };
            replica.phase() == Phase::Online && offset >= self.written.offset
        };
        let replicas = server.replication.replicas().iter().filter(has).count();
        (server.aof.is_on_disk(self.written.log_bytes), replicas)
    }

    /// Whether that is enough.
    pub fn is_enough(&self, (local, replicas): (bool, usize)) -> bool {
        replicas >= self.replicas && (local || self.on_disk != Some(true))
    }

    /// The reply that tells it.
    pub fn write(&self, (local, replicas): (bool, usize), reply: &mut Reply) {
        if self.on_disk.is_some() {
            reply.array(2);
            reply.integer(i64::from(local));
        }
        reply.len(replicas);
    }
}

impl Waits {
    /// Adds a client that waits, and asks the replicas how far they are.
    pub fn add(&self, server: &Server, waiter: Arc<Waiter>) {
        let mut waiting = self.waiting.lock();
        waiting.push(waiter);
        self.count.store(waiting.len(), Ordering::Release);
        drop(waiting);
        self.ask.store(true, Ordering::Release);
        self.ask_if_wanted(server);
        // An answer may have come before the client was entered.
        self.serve(server);
    }

    /// How many of those who wait will give up some time.
    pub fn with_deadline(&self) -> usize {
        self.waiting.lock().iter().filter(|waiter| waiter.is_waiting() && waiter.deadline_ms.is_some()).count()
    }

    /// Asks the replicas how far they are if somebody wants to know. A pause holds that back.
    pub fn ask_if_wanted(&self, server: &Server) {
        let is_paused = server.pause.until_ms(server.clock.now_ms()).is_some();
        if !is_paused && self.ask.swap(false, Ordering::AcqRel) {
            server.replication.stream.append_command(&[b"REPLCONF", b"GETACK", b"*"]);
        }
    }

    /// Answers those whose writes have reached enough. To be called when a replica or the disk has got further.
    pub fn serve(&self, server: &Server) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.retain(|waiter| waiter.is_waiting() && !answer(server, waiter));
        self.count.store(waiting.len(), Ordering::Release);
    }

    /// The log has been switched off: nothing will reach this server's disk.
    pub fn fail_local(&self, server: &Server) {
        let waits_for_disk =
            |waiter: &&Arc<Waiter>| waiter.acknowledgement.is_some_and(|wanted| wanted.on_disk == Some(true));
        let failing: Vec<_> = self.waiting.lock().iter().filter(waits_for_disk).cloned().collect();
        for waiter in failing {
            let mut reply = Reply::new(waiter.resp3);
            reply.error(NO_LOG);
            serve::answer(server, &waiter, &reply.buf);
        }
    }
}

/// What WAITAOF answers when it is to wait for a log that there is not.
pub const NO_LOG: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

fn answer(server: &Server, waiter: &Arc<Waiter>) -> bool {
    let Some(wanted) = waiter.acknowledgement else { return false };
    let reached = wanted.reached(server);
    if !wanted.is_enough(reached) {
        return false;
    }
    let mut reply = Reply::new(waiter.resp3);
    wanted.write(reached, &mut reply);
    serve::answer(server, waiter, &reply.buf);
    true
}
