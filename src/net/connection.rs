//! One connection: a task that reads, runs, and writes, and hears from other threads through its mailbox.

use crate::clients::{Client, Letters};
use crate::command::call::Engine;
use crate::command::serve;
use crate::command::session::{Line, Session};
use crate::command::spec::BLOCKING;
use crate::command::watch;
use crate::net::process::process;
use crate::net::worker::Worker;
use crate::pubsub::Topic;
use crate::resp::output::{BLOCK_BYTES, Output};
use crate::resp::reply::{Mark, Reply};
use crate::resp::request::Parser;
use crate::server::Server;
use crate::socket::Stream;
use crate::util::clock::Clock;
use crate::util::sync::Mutex;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A connection. Behind a lock, because while a script keeps its worker busy another thread answers for it.
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub session: Session,
    parser: Parser,
    /// Bytes read and not run yet: an unfinished command, or what follows a blocking one.
    pending: Vec<u8>,
    /// Replies, and what others have sent, as far as they are not out.
    reply: Reply,
    /// The replies up to `held_mark` wait until so many bytes of the log are written or, under `always`, on disk.
    held_until: u64,
    held_mark: Option<Mark>,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed, an error, or a command asked for it.
    Closed,
}

/// The task that runs one connection on its worker.
pub struct Task {
    connection: Arc<Mutex<Connection>>,
    client: Arc<Client>,
    worker: Arc<Worker>,
    /// Ends a wait; boxed, because few connections wait.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Turns of one connection before the others get theirs.
const TURNS: usize = 8;
/// The largest buffer that connections of a worker share for their replies.
const SPARE_BYTES: usize = 64 * 1024;
/// What a connection takes that does nothing: its parts, and what the runtime, the registers of clients and the
/// allocator's size classes add (measured over 3000 idle connections).
const BASE_BYTES: usize = size_of::<Connection>() + size_of::<Task>() + size_of::<Client>() + 600;
/// What waits for a client that is gone is freed elsewhere if it is more: others would wait for that.
const FREED_ASIDE_BYTES: usize = 1 << 20;
/// An unfinished command may rest for so long before room kept for it is given back.
const PATIENCE_MS: i64 = 2000;
/// How often a blocked client looks at a clock that a test turns.
const VIRTUAL_TICK: Duration = Duration::from_millis(1);

impl Task {
    /// The task of a connection that was accepted for `worker`.
    pub fn new(connection: Arc<Mutex<Connection>>, worker: Arc<Worker>) -> Self {
        let client = connection.lock().session.client.clone();
        Task { connection, client, worker, timer: None }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.client.mailbox.register(cx.waker());
        let connection = this.connection.clone();
        let mut connection = connection.lock();
        for _ in 0..TURNS {
            match connection.turn(cx, &this.worker, &mut this.timer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(End::Closed)) => {
                    connection.close(&this.worker);
                    this.worker.connections.write().remove(&this.client.id);
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(stream: Stream, session: Session) -> Self {
        Connection {
            stream,
            session,
            parser: Parser::default(),
            pending: Vec::new(),
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

    /// One turn: letters, what is left to write, what there is to read. Ready(Ok) when there may be more to do.
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<(), End>> {
        if let Some(letters) = worker.server.clients.take_letters(&self.session.client) {
            self.read_letters(letters, worker)?;
        }
        self.check_output(&worker.server)?;
        if worker.server.aof.queue.is_behind() {
            worker.adds_to_log.notify_one();
        }
        if self.is_held(&worker.server) {
            return Poll::Pending;
        }
        let is_flushed = self.flush(cx, worker)?.is_ready();
        self.count_memory(&worker.server)?;
        self.check_unauthenticated_output(&worker.server)?;
        if is_flushed && self.session.replica.as_ref().is_some_and(|replica| replica.is_done()) {
            return Poll::Ready(Err(End::Closed));
        }
        if self.session.closing {
            return if is_flushed { Poll::Ready(Err(End::Closed)) } else { Poll::Pending };
        }
        if self.session.paused_until_ms.is_some() {
            self.check_pause(cx, worker, timer);
        } else if self.session.waiter.is_some() {
            self.check_deadline(cx, worker, timer);
            // What the end of a wait has brought goes out, even if the next command waits as well.
            if self.session.waiter.is_none() || is_flushed && !self.reply.is_empty() {
                return Poll::Ready(Ok(()));
            }
        } else {
            *timer = None;
        }
        ready!(self.read(cx, worker))?;
        Poll::Ready(Ok(()))
    }

    /// Reads once and runs what that completes.
    fn read(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Result<(), End>> {
        let mut desk = worker.desk.lock();
        let desk = &mut *desk;
        let len = match self.stream.poll_read(cx, &mut desk.scratch) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Closed)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.end_for_error(worker, &error))),
            Poll::Ready(Ok(len)) => len,
        };
        desk.engine.begin_batch();
        self.received(&mut desk.engine, &desk.scratch[..len])?;
        Poll::Ready(Ok(()))
    }

    /// Runs what `bytes` complete.
    pub fn received(&mut self, engine: &mut Engine, bytes: &[u8]) -> Result<(), End> {
        let stats = engine.server.stats.worker(engine.worker);
        stats.net_input_bytes.add(bytes.len() as u64);
        stats.reads.add(1);
        let client = &self.session.client;
        client.last_interaction_ms.store(engine.now_ms, Ordering::Relaxed);
        client.query_buffer[0].store(self.pending.len() + bytes.len(), Ordering::Relaxed);
        if self.reply.is_too_long() {
            // While the worker is busy, nobody has closed it yet.
            return Err(End::Closed);
        }
        if self.session.waiter.is_some() || self.session.paused_until_ms.is_some() {
            // Read on, so that a closed socket is noticed, but run nothing.
            self.pending.extend_from_slice(bytes);
        } else if self.pending.is_empty() {
            let done = self.run(engine, bytes);
            let rest = &bytes[done.min(bytes.len())..];
            if !rest.is_empty() {
                self.make_room(rest.len());
                self.pending.extend_from_slice(rest);
            }
        } else {
            self.make_room(bytes.len());
            self.pending.extend_from_slice(bytes);
            self.count_memory(&engine.server)?;
            self.run_pending(engine);
        }
        engine.end_batch();
        self.check_query_buffer(engine)
    }

    /// Makes room in `pending` for `len` more bytes and, where an argument's length is known, for the rest of it, up to
    /// a limit: who announces much has not sent it yet.
    fn make_room(&mut self, len: usize) {
        let wanted = self.parser.wanted_bytes().min((2 * self.pending.len()).max(GROW_AT_ONCE));
        let room = wanted.saturating_sub(self.pending.len());
        if room > len {
            self.pending.reserve_exact(room);
        }
    }

    /// Runs what is waiting in `pending`, after a wait has ended or more has come.
    pub fn run_pending(&mut self, engine: &mut Engine) {
        let pending = std::mem::take(&mut self.pending);
        let done = self.run(engine, &pending);
        self.pending = pending;
        self.pending.drain(..done.min(self.pending.len()));
        // The next command may be as long; the cron has the room given back if it is not needed.
        if self.pending.is_empty() && self.pending.capacity() > GROW_AT_ONCE {
            self.pending = Vec::new();
        }
    }

    /// Gives room for requests back: all of it between commands, what an unfinished one does not use when the client
    /// has not gone on with it for a while.
    fn give_back(&mut self, server: &Server) {
        let client = &self.session.client;
        let idle_ms = server.clock.now_ms() - client.last_interaction_ms.load(Ordering::Relaxed);
        if self.pending.is_empty() || idle_ms > PATIENCE_MS {
            self.pending.shrink_to_fit();
        }
        self.note_query();
    }

    fn run(&mut self, engine: &mut Engine, bytes: &[u8]) -> usize {
        self.reply.resp3 = self.session.resp3;
        if self.reply.buf.capacity() == 0 {
            self.reply.buf = std::mem::take(&mut engine.spare_reply);
        }
        let (clients, client) = (&engine.server.clients, &self.session.client);
        // Whoever alone takes more than all clients may is closed, too.
        let of_all = clients.memory_limit().filter(|_| !client.has(Client::NO_EVICT));
        self.reply.limit = clients.hard_limit(client).into_iter().chain(of_all).min();
        let done = self.run_within_limit(engine, bytes);
        if self.reply.is_too_long() {
            // It is closed at its next turn: for the memory of all clients, if that is what it is too long for.
            let _ = self.count_memory(&engine.server);
            free_aside(&engine.server, self.reply.overrun());
        }
        self.reply.limit = None;
        done
    }

    fn run_within_limit(&mut self, engine: &mut Engine, bytes: &[u8]) -> usize {
        if self.session.debugging.is_some() {
            return self.run_with_line(engine, bytes);
        }
        let done = process(engine, &mut self.session, &mut self.parser, &mut self.reply, bytes);
        // SCRIPT DEBUG may have come with other commands.
        if self.session.needs_line() { done + self.run_with_line(engine, &bytes[done..]) } else { done }
    }

    /// Runs commands of a client that debugs scripts: the debugger speaks with it itself, and may keep the socket.
    fn run_with_line(&mut self, engine: &mut Engine, bytes: &[u8]) -> usize {
        let stream = std::mem::replace(&mut self.stream, Stream::Lent);
        self.session.line = Some(Box::new(Line { stream, server: engine.server.clone() }));
        let done = process(engine, &mut self.session, &mut self.parser, &mut self.reply, bytes);
        match self.session.line.take() {
            Some(line) => self.stream = line.stream,
            None => {
                // Who has it replies.
                self.reply = Reply::of_connection();
                self.session.closing = true;
            }
        }
        done
    }

    /// Whether replies must wait because what they tell of is not in the log yet (under `appendfsync always`: on disk); the
    /// client is woken when it is. What others have written counts too: a reply may tell of that.
    fn is_held(&mut self, server: &Server) -> bool {
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

    /// Writes what can be written, for a replica also of the stream. Ready when everything is out.
    fn flush(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Result<Poll<()>, End> {
        loop {
            if self.flush_replies(cx, worker)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let Some(replica) = &self.session.replica else { return Ok(Poll::Ready(())) };
            if !replica.pull(&worker.server.replication.stream, &mut self.reply.buf) {
                return Ok(Poll::Ready(()));
            }
        }
    }

    fn flush_replies(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Result<Poll<()>, End> {
        self.note_output_peak();
        while !self.reply.is_empty() {
            match self.stream.poll_write(cx, self.reply.first()) {
                Poll::Pending => {
                    self.reply.settle();
                    self.give_buffer_back(worker);
                    return Ok(Poll::Pending);
                }
                Poll::Ready(Ok(len)) if len > 0 => self.wrote(&worker.server, self.session.worker, len),
                Poll::Ready(_) => return Err(End::Closed),
            }
        }
        self.give_buffer_back(worker);
        match self.stream.poll_flush(cx) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(self.end_for_error(worker, &error)),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Answers in the place of the worker, which is busy: sends what others have for the client, reads, runs what that
    /// completes, and writes, all without waiting. An end is to be followed by [`Connection::hang_up`].
    pub fn answer_now(&mut self, engine: &mut Engine, scratch: &mut [u8]) -> Result<(), End> {
        if self.session.client.has(Client::KILLED) {
            return Err(End::Closed);
        }
        let messages = engine.server.clients.take_output(&self.session.client);
        self.reply.append(messages);
        let len = match self.stream.read_now(scratch) {
            Ok(0) => return Err(End::Closed),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(End::Closed),
        };
        if len > 0 {
            // The worker's counters are the worker's.
            let worker = std::mem::replace(&mut self.session.worker, engine.worker);
            let received = self.received(engine, &scratch[..len]);
            self.session.worker = worker;
            received?;
            // What has to wait, or to come again, waits in the worker's time.
            self.session.client.mailbox.wake();
        }
        // What could not be sent before may be sent now.
        self.flush_now(engine);
        self.check_output(&engine.server)?;
        self.check_unauthenticated_output(&engine.server)?;
        let is_over = self.session.closing && self.reply.is_empty();
        if is_over { Err(End::Closed) } else { Ok(()) }
    }

    /// Closes the socket while the worker is busy, which does the rest later. From now on nobody sees the client.
    pub fn hang_up(&mut self, server: &Server) {
        self.stream.say_goodbye();
        self.stream = Stream::Lent;
        server.clients.kill(&self.session.client);
    }

    /// Writes without waiting, while the worker is busy.
    fn flush_now(&mut self, engine: &mut Engine) {
        if self.reply.is_empty() || self.is_held(&engine.server) {
            return;
        }
        while !self.reply.is_empty() {
            match self.stream.write_now(self.reply.first()) {
                Ok(len) if len > 0 => self.wrote(&engine.server, self.session.worker, len),
                // The worker will find out what is wrong with it.
                _ => break,
            }
        }
        // What does not go out now goes with what follows.
        let _ = self.stream.flush_now();
        self.note_output();
    }

    fn wrote(&mut self, server: &Server, worker: usize, len: usize) {
        self.reply.advance(len);
        let stats = server.stats.worker(worker);
        stats.writes.add(1);
        if self.session.replica.is_some() {
            server.replication.sent_bytes.fetch_add(len as u64, Ordering::Relaxed);
        } else {
            stats.net_output_bytes.add(len as u64);
        }
    }

    /// The buffer is empty: it goes back to the worker, whose connections share it one after the other.
    fn give_buffer_back(&mut self, worker: &Worker) {
        if self.reply.buf.capacity() > 0 {
            let buf = std::mem::take(&mut self.reply.buf);
            let engine = &mut worker.desk.lock().engine;
            if (engine.spare_reply.capacity()..=SPARE_BYTES).contains(&buf.capacity()) {
                engine.spare_reply = buf;
            }
        }
        self.note_output();
    }

    fn note_output(&self) {
        self.session.client.output_buffer.store(self.output_bytes(), Ordering::Relaxed);
    }

    /// Bytes that wait to be sent: for a replica, also those of the stream that it has not pulled.
    fn output_bytes(&self) -> usize {
        self.reply.waiting_bytes() + self.session.replica.as_ref().map_or(0, |replica| replica.waiting_bytes())
    }

    fn note_output_peak(&self) {
        let peak = &self.session.client.output_peak;
        if self.reply.waiting_bytes() > peak.load(Ordering::Relaxed) {
            peak.store(self.reply.waiting_bytes(), Ordering::Relaxed);
        }
    }

    /// Counts this connection's memory; if all take too much together, some are closed: perhaps this one.
    fn count_memory(&self, server: &Server) -> Result<(), End> {
        let client = &self.session.client;
        // The arguments of an unfinished command lie in `pending`; those of one that waits have been taken out.
        let waiting = self.session.waiter.as_ref().map_or(0, |waiter| waiter.memory_bytes());
        let buffers = self.pending.capacity() + self.reply.memory() + waiting;
        let bytes = BASE_BYTES + client.addr.len() + self.stream.memory_bytes() + buffers + client.state_bytes();
        server.clients.count_memory(client, bytes);
        server.evict_clients();
        if client.has(Client::EVICTED) { Err(End::Closed) } else { Ok(()) }
    }

    /// What other threads have put into the mailbox.
    fn read_letters(&mut self, letters: Letters, worker: &Worker) -> Result<(), End> {
        worker.server.clients.delivered(letters.invalidation_bytes);
        if letters.kill {
            if self.session.client.has(Client::EVICTED) {
                // It may be its own command that did this.
                self.flush_now(&mut worker.desk.lock().engine);
            }
            return Err(End::Closed);
        }
        if letters.overrun {
            return Err(self.end_for_output(&worker.server));
        }
        if letters.give_back {
            self.give_back(&worker.server);
        }
        self.reply.append(letters.output);
        self.note_output();
        if letters.unblock.is_some() {
            self.session.client.set(Client::UNBLOCKED, false);
        }
        if letters.unblocked {
            if let Some(waiter) = self.session.waiter.as_ref().filter(|waiter| waiter.waits_for_no_key()) {
                worker.server.note_wait(
                    &worker.registry,
                    self.session.worker,
                    waiter,
                    waiter.error.get().map(|line| &**line),
                );
            }
            self.resume(worker);
        } else if let (Some(with_error), Some(waiter)) = (letters.unblock, self.session.waiter.clone())
            && (worker.registry.command(waiter.command).command.has(BLOCKING) || waiter.acknowledgement.is_some())
            && worker.server.waits.abandon(&worker.server.shards, &waiter, worker.may_wait)
        {
            self.reply.resp3 = self.session.resp3;
            if with_error {
                let error = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
                worker.server.note_wait(&worker.registry, self.session.worker, &waiter, Some(error.as_bytes()));
                if !waiter.is_muted {
                    self.reply.error(error);
                }
            } else {
                worker.server.note_wait(&worker.registry, self.session.worker, &waiter, None);
                serve::time_out(&worker.server, &waiter, &mut self.reply);
            }
            self.resume(worker);
        }
        Ok(())
    }

    /// Goes on after a wait with the commands that came meanwhile.
    fn resume(&mut self, worker: &Worker) {
        self.session.waiter = None;
        if !self.pending.is_empty() {
            let mut desk = worker.desk.lock();
            desk.engine.begin_batch();
            self.run_pending(&mut desk.engine);
            desk.engine.end_batch();
        }
    }

    /// Ends the wait when its time is over; otherwise sees to it that the task is woken then.
    fn check_deadline(&mut self, cx: &mut Context<'_>, worker: &Worker, timer: &mut Option<Pin<Box<Sleep>>>) {
        let Some(waiter) = self.session.waiter.clone() else { return };
        let Some(deadline_ms) = waiter.deadline_ms else { return };
        if wait_until(cx, &worker.server.clock, deadline_ms, timer).is_ready()
            && worker.server.waits.abandon(&worker.server.shards, &waiter, worker.may_wait)
        {
            self.reply.resp3 = self.session.resp3;
            worker.server.note_wait(&worker.registry, self.session.worker, &waiter, None);
            serve::time_out(&worker.server, &waiter, &mut self.reply);
            self.resume(worker);
        }
    }

    /// Goes on with the command that a pause holds back when the pause is over.
    fn check_pause(&mut self, cx: &mut Context<'_>, worker: &Worker, timer: &mut Option<Pin<Box<Sleep>>>) {
        if worker.server.loading.load(Ordering::Relaxed)
            && wait_until(cx, &worker.server.clock, self.session.asks_again_at_ms, timer).is_pending()
        {
            return;
        }
        let client = self.session.client.clone();
        let blocked = &worker.server.waits.blocked_clients;
        if !client.has(Client::BLOCKED) {
            client.set(Client::BLOCKED, true);
            blocked.fetch_add(1, Ordering::Relaxed);
        }
        if self.session.held_since == Some(worker.server.migrations.ended()) {
            // The end of a migration wakes it.
            return;
        }
        self.session.held_since = None;
        let (server, now_ms) = (&worker.server, worker.server.clock.now_ms());
        let for_memory = || server.writers_wait_until_ms(&server.config.load(), now_ms);
        if let Some(until_ms) = server.pause.until_ms(now_ms).or_else(for_memory)
            && wait_until(cx, &worker.server.clock, until_ms, timer).is_pending()
        {
            return;
        }
        client.set(Client::BLOCKED, false);
        blocked.fetch_sub(1, Ordering::Relaxed);
        self.session.paused_until_ms = None;
        self.resume(worker);
        cx.waker().wake_by_ref();
    }

    /// Closes a client that does not read what it is sent. Source: Redis 7.2 `client-output-buffer-limit`.
    fn check_output(&mut self, server: &Server) -> Result<(), End> {
        if self.reply.is_too_long() {
            return Err(self.end_for_output(server));
        }
        let clients = &server.clients;
        if clients.is_over_output_limit(&self.session.client, self.output_bytes()) {
            return Err(self.end_for_output(server));
        }
        Ok(())
    }

    /// Closes a client that nobody knows when it does not read (CVE-2025-21605: its replies were kept without limit).
    fn check_unauthenticated_output(&self, server: &Server) -> Result<(), End> {
        let is_long = self.reply.waiting_bytes() > BLOCK_BYTES;
        if is_long && !self.session.authenticated && server.acl.requires_auth() {
            return Err(self.end_for_output(server));
        }
        Ok(())
    }

    fn end_for_output(&self, server: &Server) -> End {
        server.stats.output_buffer_disconnections.fetch_add(1, Ordering::Relaxed);
        server.log.warning(format_args!(
            "Client id={} addr={} scheduled to be closed ASAP for overcoming of output buffer limits.",
            self.session.client.id, self.session.client.addr
        ));
        End::Closed
    }

    /// A connection that broke is closed without a word, unless it never came about.
    fn end_for_error(&self, worker: &Worker, error: &io::Error) -> End {
        if self.stream.is_handshaking() {
            let client = &self.session.client;
            worker.server.log.verbose(format_args!(
                "Error accepting a client connection: {error} (addr={} laddr={})",
                client.addr, client.laddr
            ));
        }
        End::Closed
    }

    /// A large argument is shown by itself, as Redis reads it.
    fn note_query(&self) {
        let client = &self.session.client;
        let (whole_args, begin) = if self.pending.is_empty() { (0, None) } else { self.parser.under_way() };
        let shown = self.pending.len() - begin.unwrap_or(0).min(self.pending.len());
        client.query_buffer[0].store(shown, Ordering::Relaxed);
        client.query_buffer[1].store(self.pending.capacity() - self.pending.len(), Ordering::Relaxed);
        if self.session.waiter.is_none() {
            client.argv_bytes.store(whole_args, Ordering::Relaxed);
        }
    }

    fn check_query_buffer(&mut self, engine: &Engine) -> Result<(), End> {
        self.note_query();
        let client = &self.session.client;
        if self.pending.len() as u64 <= engine.config.client_query_buffer_limit {
            return Ok(());
        }
        engine.server.stats.query_buffer_disconnections.fetch_add(1, Ordering::Relaxed);
        engine.server.log.warning(format_args!(
            "Closing client that reached max query buffer length: id={} addr={}",
            client.id, client.addr
        ));
        Err(End::Closed)
    }

    /// Undoes everything the connection has entered itself into.
    fn close(&mut self, worker: &Worker) {
        let server = &*worker.server;
        self.stream.say_goodbye();
        if let Some(waiter) = self.session.waiter.take() {
            server.waits.abandon(&server.shards, &waiter, worker.may_wait);
            // Nobody is owed an element, but an acknowledgement, or another thread's work, was asked for. Source: Redis 7.2.
            if waiter.waits_for_no_key() {
                server.note_wait(&worker.registry, self.session.worker, &waiter, None);
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
        if let Some(subscriptions) = self.session.subscriptions.take() {
            for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
                for name in subscriptions.of(topic) {
                    server.pubsub.unsubscribe(topic, name, &self.session.client);
                }
            }
        }
        if self.session.client.has(Client::MONITOR) {
            server.monitors.remove(&self.session.client);
        }
        server.clients.remove(&self.session.client);
        for output in [self.reply.overrun(), server.clients.close_mailbox(&self.session.client)] {
            free_aside(server, output);
        }
    }
}

/// Frees what a client is not sent any more.
fn free_aside(server: &Server, output: Output) {
    if output.memory() > FREED_ASIDE_BYTES {
        server.reclaimer.free(output, 0);
    }
}

/// Ready when the clock has reached `at_ms` (Unix); otherwise the task is woken then.
fn wait_until(cx: &mut Context<'_>, clock: &Clock, at_ms: i64, timer: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
    loop {
        let left_ms = at_ms - clock.now_ms();
        if left_ms <= 0 {
            return Poll::Ready(());
        }
        let left = match clock {
            Clock::System => Duration::from_millis(left_ms as u64),
            Clock::Virtual(_) => VIRTUAL_TICK,
        };
        let sleep = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
        let until = Instant::now() + left;
        if sleep.is_elapsed() || sleep.deadline() > until + VIRTUAL_TICK {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(cx));
    }
}

/// Most room made for an announced argument before its bytes have come.
const GROW_AT_ONCE: usize = 1 << 20;
