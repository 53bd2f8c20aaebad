//! What waits for the client: when it may go out, that it has gone out, and what it may take.

use super::{BASE_BYTES, Conversation, End};
use crate::clients::Client;
use crate::command::call::Engine;
use crate::resp::output::BLOCK_BYTES;
use crate::server::Server;
use std::sync::atomic::Ordering;

/// The largest buffer that connections of a worker share for their replies.
const SPARE_BYTES: usize = 64 * 1024;

impl Conversation {
    /// Whether replies must wait because what they tell of is not in the log yet (under `appendfsync always`: on disk); the
    /// client's mailbox is woken when it is. What others have written counts too: a reply may tell of that.
    pub fn is_held(&mut self, server: &Server) -> bool {
        if self.reply.is_empty() || self.session.replica.is_some() {
            return false;
        }
        let Some(position) = server.aof.queue.reply_position() else { return false };
        let mark = Some(self.reply.mark());
        if mark != self.held_mark {
            (self.held_until, self.held_mark) = (position, mark);
        }
        !server.aof.queue.may_reply(self.held_until, &self.session.client)
    }

    /// The bytes to be sent next; empty when there are none.
    pub fn output(&self) -> &[u8] {
        self.reply.first()
    }

    /// So many bytes of [`Conversation::output`] are sent.
    pub fn sent(&mut self, engine: &Engine, len: usize) {
        self.reply.advance(len);
        let stats = engine.server.stats.worker(engine.worker);
        stats.writes.add(1);
        if self.session.replica.is_some() {
            engine.server.replication.sent_bytes.fetch_add(len as u64, Ordering::Relaxed);
        } else {
            stats.net_output_bytes.add(len as u64);
        }
    }

    /// The output is out, or the socket takes no more of it now. The buffer goes back to the worker, whose connections
    /// share it one after the other.
    pub fn pause_writing(&mut self, engine: &mut Engine) {
        if !self.reply.is_empty() {
            self.reply.settle();
        }
        if self.reply.buf.capacity() > 0 {
            let buf = std::mem::take(&mut self.reply.buf);
            if (engine.spare_reply.capacity()..=SPARE_BYTES).contains(&buf.capacity()) {
                engine.spare_reply = buf;
            }
        }
        self.note_output();
    }

    /// For a replica, appends the next piece of the stream to the output, which must be out. Whether there was one.
    pub fn pull(&mut self, server: &Server) -> bool {
        let Some(replica) = &self.session.replica else { return false };
        let has_more = replica.pull(&server.replication.stream, &mut self.reply.buf);
        self.note_output_peak();
        has_more
    }

    /// Bytes that wait to be sent are noted, for those that append to them and for CLIENT LIST.
    pub(super) fn note_output(&self) {
        self.session.client.output_buffer.store(self.output_bytes(), Ordering::Relaxed);
    }

    /// Bytes that wait to be sent: for a replica, also those of the stream that it has not pulled.
    fn output_bytes(&self) -> usize {
        self.reply.waiting_bytes() + self.session.replica.as_ref().map_or(0, |replica| replica.waiting_bytes())
    }

    /// Closes a client that does not read what it is sent.
    pub fn check_limits(&self, server: &Server) -> Result<(), End> {
        self.check_output(server)?;
        self.check_unauthenticated_output(server)
    }

    /// Closes a client for what waits for it. Source: Redis 7.2 `client-output-buffer-limit`.
    pub(super) fn check_output(&self, server: &Server) -> Result<(), End> {
        let client = &self.session.client;
        let is_over = self.reply.is_too_long() || server.clients.is_over_output_limit(client, self.output_bytes());
        if is_over { Err(self.end_for_output(server)) } else { Ok(()) }
    }

    /// The most that has waited, for CLIENT LIST.
    pub(super) fn note_output_peak(&self) {
        let peak = &self.session.client.output_peak;
        if self.reply.waiting_bytes() > peak.load(Ordering::Relaxed) {
            peak.store(self.reply.waiting_bytes(), Ordering::Relaxed);
        }
    }

    /// Counts this connection's memory; if all take too much together, some are closed: perhaps this one.
    pub(super) fn count_memory(&self, server: &Server) -> Result<(), End> {
        let client = &self.session.client;
        // The arguments of an unfinished command lie in the query buffer; those of one that waits have been taken out.
        let waiting = self.session.waiter.as_ref().map_or(0, |waiter| waiter.memory_bytes());
        let buffers = self.query.capacity() + self.reply.memory() + waiting;
        let bytes = BASE_BYTES + self.driver_bytes + client.addr.len() + buffers + client.state_bytes();
        server.clients.count_memory(client, bytes);
        server.evict_clients();
        if client.has(Client::EVICTED) { Err(End::Now) } else { Ok(()) }
    }

    /// Closes a client that nobody knows when it does not read (CVE-2025-21605: its replies were kept without limit).
    pub(super) fn check_unauthenticated_output(&self, server: &Server) -> Result<(), End> {
        let is_long = self.reply.waiting_bytes() > BLOCK_BYTES;
        if is_long && !self.session.authenticated && server.acl.requires_auth() {
            return Err(self.end_for_output(server));
        }
        Ok(())
    }

    pub(super) fn end_for_output(&self, server: &Server) -> End {
        server.stats.output_buffer_disconnections.fetch_add(1, Ordering::Relaxed);
        server.log.warning(format_args!(
            "Client id={} addr={} scheduled to be closed ASAP for overcoming of output buffer limits.",
            self.session.client.id, self.session.client.addr
        ));
        End::Now
    }
}
