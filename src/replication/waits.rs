//! WAIT and WAITAOF: clients that wait until their writes have reached replicas, or disks.
//!
//! When a replica or the disk has got further, how far all are is put in order once, and each waiter takes one search in
//! that. The register of the waiters is with all others' ([`crate::keyspace::waiters`]).

use crate::keyspace::waiters::{Acknowledgement, Waiter};
use crate::replication::replica::Phase;
use crate::resp::reply::Reply;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    fn answer(&self, waiter: &Waiter) {
        let Some(wanted) = waiter.acknowledgement else { return };
        let reached = self.reached(&wanted);
        if wanted.is_enough(reached) {
            let mut reply = Reply::new(waiter.resp3);
            wanted.write(reached, &mut reply);
            self.server.waits.answer(&self.server.clients, waiter, &reply.buf);
        }
    }
}

/// Whether this server's disk has what is waited for, and how many replicas have it.
pub fn reached(server: &Server, wanted: &Acknowledgement) -> (bool, usize) {
    Progress::now(server).reached(wanted)
}

/// A client begins to wait: asks the replicas how far they are.
pub fn begin(server: &Server, waiter: &Waiter) {
    server.replication.asks.store(true, Ordering::Release);
    ask_if_wanted(server);
    // An answer may have come before the client was entered.
    Progress::now(server).answer(waiter);
}

/// Asks the replicas how far they are if somebody wants to know. A pause holds that back.
pub fn ask_if_wanted(server: &Server) {
    let is_paused = server.pause.until_ms(server.clock.now_ms()).is_some();
    if !is_paused && server.replication.asks.swap(false, Ordering::AcqRel) {
        server.replication.stream.append_command(&[b"REPLCONF", b"GETACK", b"*"]);
    }
}

/// Answers those whose writes have reached enough. To be called when a replica or the disk has got further.
pub fn serve(server: &Server) {
    if server.waits.has_acknowledgements() {
        let progress = Progress::now(server);
        server.waits.for_acknowledgement().iter().for_each(|waiter| progress.answer(waiter));
    }
}

/// The log has been switched off: nothing will reach this server's disk.
pub fn fail_local(server: &Server) {
    let waits_for_disk =
        |waiter: &&Arc<Waiter>| waiter.acknowledgement.is_some_and(|wanted| wanted.on_disk == Some(true));
    for waiter in server.waits.for_acknowledgement().iter().filter(waits_for_disk) {
        let mut reply = Reply::new(waiter.resp3);
        reply.error(NO_LOG);
        server.waits.answer(&server.clients, waiter, &reply.buf);
    }
}

/// What WAITAOF answers when it is to wait for a log that there is not.
pub const NO_LOG: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
