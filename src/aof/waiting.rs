//! WAITAOF: clients that wait until what they have written is on disk.

use super::Mode;
use crate::command::serve;
use crate::command::session::TimeoutReply;
use crate::keyspace::waiters::Waiter;
use crate::resp::reply::Reply;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whether the log is on, and all of it up to this position is on disk.
pub fn is_on_disk(server: &Server, position: u64) -> bool {
    server.aof.mode() == Mode::On && server.aof.queue.synced() >= position
}

/// Remembers a client whose wait ends when the log is on disk up to a position. No shard may be locked.
pub fn begin(server: &Server, waiter: &Arc<Waiter>, position: u64) {
    server.aof.waiting.lock().push((position, waiter.clone()));
    server.aof.has_waiting.store(true, Ordering::Release);
    // It may have come there between the handler's look and the entry.
    answer(server);
}

/// Ends the waits of those whose writes are on disk.
pub fn answer(server: &Server) {
    if !server.aof.has_waiting.load(Ordering::Acquire) || server.aof.mode() != Mode::On {
        return;
    }
    let synced = server.aof.queue.synced();
    for (position, waiter) in take(server, |position| position <= synced) {
        end(server, &waiter, |reply| TimeoutReply::OnDisk { position, ends_wait: true }.write(server, reply));
    }
}

/// Ends all waits: the log has been switched off.
pub fn give_up(server: &Server) {
    for (_, waiter) in take(server, |_| true) {
        end(server, &waiter, |reply| reply.error(OFF));
    }
}

/// What WAITAOF answers when it is asked to wait for a log that is off.
pub const OFF: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

fn take(server: &Server, is_due: impl Fn(u64) -> bool) -> Vec<(u64, Arc<Waiter>)> {
    let mut waiting = server.aof.waiting.lock();
    // Some have timed out or gone.
    let due = waiting.extract_if(.., |(position, waiter)| !waiter.is_waiting() || is_due(*position)).collect();
    server.aof.has_waiting.store(!waiting.is_empty(), Ordering::Release);
    due
}

fn end(server: &Server, waiter: &Arc<Waiter>, answer: impl FnOnce(&mut Reply)) {
    if !serve::abandon(server, waiter) {
        return;
    }
    let mut reply = Reply::new(waiter.resp3);
    answer(&mut reply);
    waiter.client.mailbox.put(|letters| {
        letters.bytes.extend_from_slice(&reply.buf);
        letters.unblocked = true;
    });
}
