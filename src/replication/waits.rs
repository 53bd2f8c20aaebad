//! WAIT and WAITAOF: clients that wait until their writes have reached replicas, or disks.
//!
//! When a replica or the disk has got further, how far all are is put in order once, and each waiter takes one search in
//! that. The register of the waiters is with all others' ([`crate::keyspace::waiters`]).

use crate::keyspace::waiters::{Acknowledgement, Waiter};
use crate::replication::Replication;
use crate::replication::replica::Phase;
use crate::resp::reply::Reply;
use std::sync::atomic::Ordering;

/// How far everything is that may be waited for, at one moment.
struct Progress<'s> {
    replication: &'s Replication,
    /// Up to where each online replica has processed the stream, and has it on disk: offsets in ascending order.
    processed: Vec<u64>,
    on_disk: Vec<u64>,
}

impl<'s> Progress<'s> {
    fn now(replication: &'s Replication) -> Self {
        let replicas = replication.replicas();
        let online = || replicas.iter().filter(|replica| replica.phase() == Phase::Online);
        let mut progress = Progress {
            replication,
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
        (self.replication.aof.is_on_disk(wanted.written.log_bytes), offsets.len() - before)
    }

    /// Answers a waiter if enough is reached.
    fn answer(&self, waiter: &Waiter) {
        let Some(wanted) = waiter.wait.acknowledgement() else { return };
        let reached = self.reached(&wanted);
        if wanted.is_enough(reached) {
            let mut reply = Reply::new(waiter.resp3);
            wanted.write(reached, &mut reply);
            self.replication.core.waits.answer(&self.replication.core.clients, waiter, &reply.buf);
        }
    }
}

/// Whether this server's disk has what is waited for, and how many replicas have it.
pub fn reached(replication: &Replication, wanted: &Acknowledgement) -> (bool, usize) {
    Progress::now(replication).reached(wanted)
}

/// A client begins to wait: asks the replicas how far they are.
pub fn begin(replication: &Replication, waiter: &Waiter) {
    replication.asks.store(true, Ordering::Release);
    ask_if_wanted(replication);
    // An answer may have come before the client was entered.
    Progress::now(replication).answer(waiter);
}

/// Asks the replicas how far they are if somebody wants to know. A pause holds that back.
pub fn ask_if_wanted(replication: &Replication) {
    let is_paused = replication.core.pause.until_ms(replication.core.clock.now_ms()).is_some();
    if !is_paused && replication.asks.swap(false, Ordering::AcqRel) {
        replication.stream.append_command(&[b"REPLCONF", b"GETACK", b"*"]);
    }
}

/// Answers those whose writes have reached enough. To be called when a replica or the disk has got further.
pub fn serve(replication: &Replication) {
    if replication.core.waits.has_acknowledgements() {
        let progress = Progress::now(replication);
        replication.core.waits.for_acknowledgement().iter().for_each(|waiter| progress.answer(waiter));
    }
}
