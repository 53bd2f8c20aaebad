//! WAIT and WAITAOF: clients that wait until their writes have reached replicas, or disks.
//!
//! A register of them by ticket, no more than there are clients: entering and leaving is O(log n). When a replica or the
//! disk has got further, how far all are is put in order once, and each waiter takes one search in that.

use crate::command::serve;
use crate::command::session::Acknowledgement;
use crate::keyspace::waiters::Waiter;
use crate::replication::replica::Phase;
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::util::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The clients that wait.
#[derive(Debug, Default)]
pub struct Waits {
    /// By ticket: in order of arrival.
    waiting: Mutex<BTreeMap<u64, Arc<Waiter>>>,
    count: AtomicUsize,
    /// The replicas are to be asked how far they are, once that is possible.
    ask: AtomicBool,
}

/// How far everything is that may be waited for, at one moment.
struct Progress<'s> {
    server: &'s Server,
    /// Up to where each online replica has processed the stream, and has it on disk: offsets in ascending order.
    processed: Vec<u64>,
    on_disk: Vec<u64>,
}

impl<'s> Progress<'s> {
    fn now(server: &'s Server) -> Self {
        let replicas = server.replication.replicas();
        let online = || replicas.iter().filter(|replica| replica.phase() == Phase::Online);
        let mut progress = Progress {
            server,
            processed: online().map(|replica| replica.acknowledged()).collect(),
            on_disk: online().map(|replica| replica.acknowledged_on_disk()).collect(),
        };
        progress.processed.sort_unstable();
        progress.on_disk.sort_unstable();
        progress
    }

    /// Whether this server's disk has what is waited for, and how many replicas have it.
    fn reached(&self, wanted: &Acknowledgement) -> (bool, usize) {
        let offsets = if wanted.on_disk.is_some() { &self.on_disk } else { &self.processed };
        let before = offsets.partition_point(|offset| *offset < wanted.written.offset);
        (self.server.aof.is_on_disk(wanted.written.log_bytes), offsets.len() - before)
    }

    /// Answers a waiter if enough is reached.
    fn answer(&self, waiter: &Arc<Waiter>) {
        let Some(wanted) = waiter.acknowledgement else { return };
        let reached = self.reached(&wanted);
        if wanted.is_enough(reached) {
            let mut reply = Reply::new(waiter.resp3);
            wanted.write(reached, &mut reply);
            serve::answer(self.server, waiter, &reply.buf);
        }
    }
}

impl Acknowledgement {
    /// How many replicas have it, and whether this server's disk does.
    pub fn reached(&self, server: &Server) -> (bool, usize) {
        Progress::now(server).reached(self)
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
        waiting.insert(waiter.ticket, waiter.clone());
        self.count.store(waiting.len(), Ordering::Release);
        drop(waiting);
        self.ask.store(true, Ordering::Release);
        self.ask_if_wanted(server);
        // An answer may have come before the client was entered.
        Progress::now(server).answer(&waiter);
    }

    /// A wait is over, of whatever kind.
    pub fn forget(&self, waiter: &Waiter) {
        if waiter.acknowledgement.is_some() {
            let mut waiting = self.waiting.lock();
            waiting.remove(&waiter.ticket);
            self.count.store(waiting.len(), Ordering::Release);
        }
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
        // Answering one takes it out of the register.
        let waiting: Vec<Arc<Waiter>> = self.waiting.lock().values().cloned().collect();
        let progress = Progress::now(server);
        for waiter in &waiting {
            progress.answer(waiter);
        }
    }

    /// The log has been switched off: nothing will reach this server's disk.
    pub fn fail_local(&self, server: &Server) {
        let waits_for_disk =
            |waiter: &&Arc<Waiter>| waiter.acknowledgement.is_some_and(|wanted| wanted.on_disk == Some(true));
        let failing: Vec<_> = self.waiting.lock().values().filter(waits_for_disk).cloned().collect();
        for waiter in failing {
            let mut reply = Reply::new(waiter.resp3);
            reply.error(NO_LOG);
            serve::answer(server, &waiter, &reply.buf);
        }
    }
}

/// What WAITAOF answers when it is to wait for a log that there is not.
pub const NO_LOG: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
