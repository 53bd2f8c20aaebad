//! A conversation with one client: bytes in, bytes out, letters, waits, limits. It knows no socket and no runtime; a driver
//! ([`Connection`](crate::net::connection::Connection) is the one there is) moves the bytes and keeps the time.
//!
//! What a driver does in a turn, in this order; an [`End`] from any of it ends the connection:
//!
//! 1. [`attend`](Conversation::attend): what other threads have sent is taken in. A thread that sends wakes the driver through the
//!    client's mailbox, where the driver has registered itself.
//! 2. [`wants_socket`](Conversation::wants_socket): if so, the socket is lent to
//!    [`run_with_socket`](Conversation::run_with_socket), which may keep it.
//! 3. [`is_held`](Conversation::is_held): if so, the turn is over, and nothing is written or read before the driver is woken.
//! 4. [`output`](Conversation::output) is written and counted as [`sent`](Conversation::sent) until there is none or the
//!    socket takes no more, then [`pause_writing`](Conversation::pause_writing) is called. When all is out,
//!    [`pull`](Conversation::pull) may bring more.
//! 5. [`next`](Conversation::next) says what follows: another turn, or to read, or neither; and when to come back.
//! 6. What was read goes to [`received`](Conversation::received), which runs the commands that it completes.
//!
//! At the end the driver calls [`close`](Conversation::close). A thread that answers while the worker is busy calls
//! [`take_messages`](Conversation::take_messages) instead of `attend`, because it must not wait for a shard, and
//! [`check_limits`](Conversation::check_limits) instead of `next`.

mod output;
mod query_buffer;
#[cfg(test)]
mod tests;
mod waits;

use crate::clients::pubsub::Topic;
use crate::clients::{Client, Letters};
use crate::command::call::Engine;
use crate::command::session::{LentSocket, Session};
use crate::command::watch;
use crate::keyspace::lock::MayWait;
use crate::net::process::process;
use crate::resp::output::Output;
use crate::resp::reply::{Mark, Reply};
use crate::resp::request::Parser;
use crate::server::Server;
use crate::socket::Socket;
use query_buffer::QueryBuffer;
use std::sync::atomic::Ordering;

/// The state of a conversation.
#[derive(Debug)]
pub struct Conversation {
    pub session: Session,
    /// What its driver takes for it, the socket included.
    pub driver_bytes: usize,
    parser: Parser,
    query: QueryBuffer,
    /// Replies, and what others have sent, as far as they are not out.
    reply: Reply,
    /// The replies up to `held_mark` wait until the log is written up to this position; under `always`, until it is on disk.
    held_until: u64,
    held_mark: Option<Mark>,
}

/// The connection is to be closed: the peer closed it, an error, a limit, or a command that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At once.
    Now,
    /// Once what the socket takes of the output without waiting is out.
    AfterWriting,
}

/// What a driver does when a turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Begins another turn: there is more to do.
    Again,
    /// Reads; begins another turn when something has come, and at this time (Unix ms) at the latest.
    Read { until_ms: Option<i64> },
    /// Does not read: the output is to go out first.
    Write,
}

/// What a conversation takes that has nothing to say: its parts, and what the runtime, the registers of clients and the
/// allocator's size classes add (measured over 3000 idle connections).
const BASE_BYTES: usize = size_of::<Conversation>() + size_of::<Client>() + 600;
/// What waits for a client that is gone is freed elsewhere if it is more: others would wait for that.
const FREED_ASIDE_BYTES: usize = 1 << 20;
/// An unfinished command may rest for so long before room kept for it is given back.
const PATIENCE_MS: i64 = 2000;

impl Conversation {
    /// One that begins.
    pub fn new(session: Session) -> Self {
        Conversation {
            session,
            driver_bytes: 0,
            parser: Parser::default(),
            query: QueryBuffer::default(),
            reply: Reply::of_connection(),
            held_until: 0,
            held_mark: None,
        }
    }

    /// Nothing is read from the peer: it is told this, and that is all.
    pub fn dismiss(&mut self, text: &str) {
        self.reply.buf.extend_from_slice(text.as_bytes());
        self.session.closing = true;
    }

    /// Takes in what other threads have put into the mailbox, and closes a client that does not read what it is sent.
    pub fn attend(&mut self, engine: &mut Engine, may_wait: MayWait) -> Result<(), End> {
        if let Some(letters) = engine.server.clients.take_letters(&self.session.client) {
            self.read_letters(letters, engine, may_wait)?;
        }
        self.check_output(&engine.server)?;
        self.note_output_peak();
        Ok(())
    }

    fn read_letters(&mut self, letters: Letters, engine: &mut Engine, may_wait: MayWait) -> Result<(), End> {
        engine.server.clients.delivered(letters.invalidation_bytes);
        if letters.kill {
            // A client that is evicted may have brought this about by its own command: it is told of that.
            return Err(if self.session.client.has(Client::EVICTED) { End::AfterWriting } else { End::Now });
        }
        if letters.overrun {
            return Err(self.end_for_output(&engine.server));
        }
        if letters.give_back {
            self.give_back(&engine.server);
        }
        self.reply.append(letters.output);
        self.note_output();
        if letters.unblock.is_some() {
            self.session.client.set(Client::UNBLOCKED, false);
        }
        if letters.unblocked {
            self.was_answered(engine);
        } else if let Some(with_error) = letters.unblock {
            self.unblock(with_error, engine, may_wait);
        }
        Ok(())
    }

    /// What others have sent is taken in; other letters stay for the worker. For a thread that answers in its place.
    pub fn take_messages(&mut self, server: &Server) -> Result<(), End> {
        if self.session.client.has(Client::KILLED) {
            return Err(End::Now);
        }
        self.reply.append(server.clients.take_output(&self.session.client));
        Ok(())
    }

    /// Runs what `bytes` complete, unless the session waits.
    pub fn received(&mut self, engine: &mut Engine, bytes: &[u8]) -> Result<(), End> {
        engine.begin_batch();
        let stats = engine.server.stats.worker(engine.worker);
        stats.net_input_bytes.add(bytes.len() as u64);
        stats.reads.add(1);
        let client = &self.session.client;
        client.last_interaction_ms.store(engine.now_ms, Ordering::Relaxed);
        client.query_buffer[0].store(self.query.len() + bytes.len(), Ordering::Relaxed);
        if self.reply.is_too_long() {
            // While the worker is busy, nobody has closed it yet.
            return Err(End::Now);
        }
        if self.is_waiting() {
            // It is read on, so that a closed socket is noticed, but nothing is run.
            self.query.extend(bytes);
        } else if self.query.is_empty() {
            let done = self.run(engine, bytes);
            let rest = &bytes[done.min(bytes.len())..];
            if !rest.is_empty() {
                self.append_query(rest);
            }
        } else {
            self.append_query(bytes);
            self.count_memory(&engine.server)?;
            self.run_query(engine);
        }
        engine.end_batch();
        self.check_query_buffer(engine)
    }

    /// Whether commands are kept for later.
    fn is_waiting(&self) -> bool {
        self.session.waiter.is_some() || self.session.paused_until_ms.is_some() || self.session.needs_socket()
    }

    fn append_query(&mut self, bytes: &[u8]) {
        self.query.make_room(bytes.len(), self.parser.wanted_bytes());
        self.query.extend(bytes);
    }

    /// Runs what is in the query buffer.
    fn run_query(&mut self, engine: &mut Engine) {
        let query = std::mem::take(&mut self.query);
        let done = self.run(engine, query.unread());
        self.query = query;
        self.query.consume(done);
    }

    fn run(&mut self, engine: &mut Engine, bytes: &[u8]) -> usize {
        self.reply.resp3 = self.session.resp3;
        if self.reply.buf.capacity() == 0 {
            self.reply.buf = std::mem::take(&mut engine.spare_reply);
        }
        let (clients, client) = (&engine.server.clients, &self.session.client);
        // A client that alone takes more than all clients may is closed, too.
        let of_all = clients.memory_limit().filter(|_| !client.has(Client::NO_EVICT));
        self.reply.limit = clients.hard_limit(client).into_iter().chain(of_all).min();
        let done = process(engine, &mut self.session, &mut self.parser, &mut self.reply, bytes);
        if self.reply.is_too_long() {
            // It is closed at its next turn: for the memory of all clients, if that is what it is too long for.
            let _ = self.count_memory(&engine.server);
            free_aside(&engine.server, self.reply.overrun());
        }
        self.reply.limit = None;
        done
    }

    /// Whether the next command cannot be run without the socket: the client debugs scripts, and the debugger speaks with it
    /// itself.
    pub fn wants_socket(&self) -> bool {
        self.session.needs_socket()
            && !self.query.is_empty()
            && !self.session.closing
            && self.session.waiter.is_none()
            && self.session.paused_until_ms.is_none()
    }

    /// Runs commands of a client that debugs scripts. None when the debugger has kept the socket.
    pub fn run_with_socket(&mut self, engine: &mut Engine, socket: Box<dyn Socket>) -> Option<Box<dyn Socket>> {
        self.session.lent_socket = Some(Box::new(LentSocket { socket, server: engine.server.clone() }));
        self.run_kept(engine);
        let lent = self.session.lent_socket.take();
        if lent.is_none() {
            // The thread that kept the socket replies.
            self.reply = Reply::of_connection();
            self.session.closing = true;
        }
        lent.map(|lent| lent.socket)
    }

    /// Runs what was kept in the query buffer, as a batch of its own.
    fn run_kept(&mut self, engine: &mut Engine) {
        if !self.query.is_empty() && !self.is_waiting() {
            engine.begin_batch();
            self.run_query(engine);
            engine.end_batch();
        }
    }

    /// Gives room for requests back: all of it between commands, what an unfinished one does not use when the client
    /// has not gone on with it for a while.
    fn give_back(&mut self, server: &Server) {
        let client = &self.session.client;
        let idle_ms = server.clock.now_ms() - client.last_interaction_ms.load(Ordering::Relaxed);
        if self.query.is_empty() || idle_ms > PATIENCE_MS {
            self.query.shrink();
        }
        self.note_query();
    }

    /// What is to be done once the output is as far out as `is_flushed` says.
    pub fn next(&mut self, engine: &mut Engine, may_wait: MayWait, is_flushed: bool) -> Result<Next, End> {
        self.count_memory(&engine.server)?;
        self.check_unauthenticated_output(&engine.server)?;
        if is_flushed && self.session.replica.as_ref().is_some_and(|replica| replica.is_done()) {
            return Err(End::Now);
        }
        if self.session.closing {
            return if is_flushed { Err(End::Now) } else { Ok(Next::Write) };
        }
        if self.session.paused_until_ms.is_some() {
            return Ok(self.check_pause(engine));
        }
        if self.session.waiter.is_none() {
            return Ok(Next::Read { until_ms: None });
        }
        self.check_deadline(engine, may_wait);
        // What the end of a wait has brought goes out, even if the next command waits as well.
        match &self.session.waiter {
            Some(waiter) if !is_flushed || self.reply.is_empty() => Ok(Next::Read { until_ms: waiter.deadline_ms }),
            _ => Ok(Next::Again),
        }
    }

    /// Whether there is nothing more to say.
    pub fn is_over(&self) -> bool {
        self.session.closing && self.reply.is_empty()
    }

    /// A large argument is shown by itself, as Redis reads it.
    fn note_query(&self) {
        let client = &self.session.client;
        let (whole_args, begin) = if self.query.is_empty() { (0, None) } else { self.parser.under_way() };
        let shown = self.query.len() - begin.unwrap_or(0).min(self.query.len());
        client.query_buffer[0].store(shown, Ordering::Relaxed);
        client.query_buffer[1].store(self.query.capacity() - self.query.len(), Ordering::Relaxed);
        if self.session.waiter.is_none() {
            client.argv_bytes.store(whole_args, Ordering::Relaxed);
        }
    }

    fn check_query_buffer(&mut self, engine: &Engine) -> Result<(), End> {
        self.note_query();
        let client = &self.session.client;
        if self.query.len() as u64 <= engine.config.client_query_buffer_limit {
            return Ok(());
        }
        engine.server.stats.query_buffer_disconnections.fetch_add(1, Ordering::Relaxed);
        engine.server.log.warning(format_args!(
            "Closing client that reached max query buffer length: id={} addr={}",
            client.id, client.addr
        ));
        Err(End::Now)
    }

    /// Undoes everything the session has entered itself into.
    pub fn close(&mut self, engine: &Engine, may_wait: MayWait) {
        let server = &*engine.server;
        if let Some(waiter) = self.session.waiter.take() {
            server.waits.abandon(&server.shards, &waiter, may_wait);
            // Nobody is owed an element, but an acknowledgement, or another thread's work, was asked for. Source: Redis 7.2.
            if waiter.waits_for_no_key() {
                server.note_wait(&engine.registry, self.session.worker, &waiter, None);
            }
        }
        if self.session.paused_until_ms.is_some() && self.session.client.has(Client::BLOCKED) {
            server.waits.blocked_clients.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(replica) = self.session.replica.take() {
            server.log.notice(format_args!("Connection with replica {replica} lost."));
            server.replication.leave(&replica, server.clock.now_ms() / 1000);
            server.replication.count_good(&server.config.load(), server.clock.now_ms() / 1000);
        }
        server.tracking.disable(&self.session.client);
        watch::end(server, &mut self.session);
        self.unsubscribe(server);
        if self.session.client.has(Client::MONITOR) {
            server.monitors.remove(&self.session.client);
        }
        server.clients.remove(&self.session.client);
        for output in [self.reply.overrun(), server.clients.close_mailbox(&self.session.client)] {
            free_aside(server, output);
        }
    }

    fn unsubscribe(&mut self, server: &Server) {
        let Some(subscriptions) = self.session.subscriptions.take() else { return };
        for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
            for name in subscriptions.of(topic) {
                server.pubsub.unsubscribe(topic, name, &self.session.client);
            }
        }
    }
}

/// Frees what a client is not sent any more.
fn free_aside(server: &Server, output: Output) {
    if output.memory() > FREED_ASIDE_BYTES {
        server.reclaimer.free(output, 0);
    }
}
