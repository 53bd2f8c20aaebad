//! The driver of a conversation under tokio: a task that moves bytes between a socket and a [`Conversation`], and keeps the
//! time of its waits.

use crate::clients::Client;
use crate::command::call::Engine;
use crate::keyspace::lock::MayWait;
use crate::net::conversation::{Conversation, End, Next};
use crate::net::worker::{Worker, Workspace};
use crate::server::Server;
use crate::socket::{Socket, Stream};
use crate::util::clock::Clock;
use crate::util::sync::Mutex;
use std::any::Any;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A connection. Behind a lock, because while a script keeps its worker busy another thread answers for it.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    pub conversation: Conversation,
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
/// What an idle driver takes.
const BASE_BYTES: usize = size_of::<Task>() + size_of::<Stream>();
/// How often a blocked client looks at a clock that a test turns.
const VIRTUAL_TICK: Duration = Duration::from_millis(1);

impl Task {
    /// The task of a connection that was accepted for `worker`.
    pub fn new(connection: Arc<Mutex<Connection>>, worker: Arc<Worker>) -> Self {
        let client = connection.lock().conversation.session.client.clone();
        Task { connection, client, worker, timer: None }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.client.mailbox.register(cx.waker());
        let mut connection = this.connection.lock();
        let mut workspace = this.worker.workspace.lock();
        for _ in 0..TURNS {
            match connection.turn(cx, &this.worker, &mut workspace, &mut this.timer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => {
                    connection.close(end, &mut workspace.engine, this.worker.may_wait);
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
    pub fn new(stream: Stream, conversation: Conversation) -> Self {
        Connection { stream, conversation }
    }

    /// One turn, see [`Conversation`]. Ready(Ok) when there may be more to do.
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        workspace: &mut Workspace,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<(), End>> {
        let engine = &mut workspace.engine;
        self.conversation.driver_bytes = BASE_BYTES + self.stream.memory_bytes();
        self.conversation.attend(engine, worker.may_wait)?;
        self.lend_socket(engine);
        if engine.server.aof.queue.is_behind() {
            worker.adds_to_log.notify_one();
        }
        if self.conversation.is_held(&engine.server) {
            return Poll::Pending;
        }
        let is_flushed = self.flush(cx, engine)?.is_ready();
        match self.conversation.next(engine, worker.may_wait, is_flushed)? {
            Next::Again => return Poll::Ready(Ok(())),
            Next::Write => return Poll::Pending,
            Next::Read { until_ms: None } => *timer = None,
            Next::Read { until_ms: Some(until_ms) } => {
                if wait_until(cx, &engine.server.clock, until_ms, timer).is_ready() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        self.read(cx, workspace)
    }

    /// Reads once and runs what that completes.
    fn read(&mut self, cx: &mut Context<'_>, workspace: &mut Workspace) -> Poll<Result<(), End>> {
        let Workspace { engine, scratch } = workspace;
        Poll::Ready(match ready!(self.stream.poll_read(cx, scratch)) {
            Ok(0) => Err(End::Now),
            Ok(len) => self.conversation.received(engine, &scratch[..len]),
            Err(error) => Err(self.end_for_error(&engine.server, &error)),
        })
    }

    /// Lends the socket to commands that cannot be run without it.
    fn lend_socket(&mut self, engine: &mut Engine) {
        if !self.conversation.wants_socket() {
            return;
        }
        let stream = std::mem::replace(&mut self.stream, Stream::Lent);
        if let Some(socket) = self.conversation.run_with_socket(engine, Box::new(stream)) {
            let socket: Box<dyn Any> = socket;
            self.stream = *socket.downcast().expect("the socket that comes back is the one that was lent");
        }
    }

    /// Writes what can be written, for a replica also of the stream. Ready when everything is out.
    fn flush(&mut self, cx: &mut Context<'_>, engine: &mut Engine) -> Result<Poll<()>, End> {
        loop {
            if self.write_output(cx, engine)?.is_pending() {
                return Ok(Poll::Pending);
            }
            if !self.conversation.pull(&engine.server) {
                return Ok(Poll::Ready(()));
            }
        }
    }

    fn write_output(&mut self, cx: &mut Context<'_>, engine: &mut Engine) -> Result<Poll<()>, End> {
        while !self.conversation.output().is_empty() {
            match self.stream.poll_write(cx, self.conversation.output()) {
                Poll::Pending => {
                    self.conversation.pause_writing(engine);
                    return Ok(Poll::Pending);
                }
                Poll::Ready(Ok(len)) if len > 0 => self.conversation.sent(engine, len),
                Poll::Ready(_) => return Err(End::Now),
            }
        }
        self.conversation.pause_writing(engine);
        match self.stream.poll_flush(cx) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(self.end_for_error(&engine.server, &error)),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Answers in the place of the worker, which is busy: sends what others have for the client, reads, runs what that
    /// completes, and writes, all without waiting. An end is to be followed by [`Connection::hang_up`].
    pub fn answer_now(&mut self, engine: &mut Engine, scratch: &mut [u8]) -> Result<(), End> {
        self.conversation.take_messages(&engine.server)?;
        let len = match self.stream.read_now(scratch) {
            Ok(0) => return Err(End::Now),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(End::Now),
        };
        if len > 0 {
            // The worker's counters are the worker's.
            let worker = std::mem::replace(&mut self.conversation.session.worker, engine.worker);
            let received = self.conversation.received(engine, &scratch[..len]);
            self.lend_socket(engine);
            self.conversation.session.worker = worker;
            received?;
            // What has to wait, or to come again, waits in the worker's time.
            self.conversation.session.client.mailbox.wake();
        }
        // What could not be sent before may be sent now.
        self.write_now(engine);
        self.conversation.check_limits(&engine.server)?;
        if self.conversation.is_over() { Err(End::Now) } else { Ok(()) }
    }

    /// Closes the socket while the worker is busy, which does the rest later. From now on nobody sees the client.
    pub fn hang_up(&mut self, server: &Server) {
        self.stream.say_goodbye();
        self.stream = Stream::Lent;
        server.clients.kill(&self.conversation.session.client);
    }

    /// Writes what the socket takes without waiting.
    fn write_now(&mut self, engine: &mut Engine) {
        if self.conversation.output().is_empty() || self.conversation.is_held(&engine.server) {
            return;
        }
        while !self.conversation.output().is_empty() {
            match self.stream.write_now(self.conversation.output()) {
                Ok(len) if len > 0 => self.conversation.sent(engine, len),
                // The worker will find out what is wrong with it.
                _ => break,
            }
        }
        // What does not go out now goes with what follows.
        let _ = self.stream.flush_now();
        self.conversation.pause_writing(engine);
    }

    fn close(&mut self, end: End, engine: &mut Engine, may_wait: MayWait) {
        if end == End::AfterWriting {
            self.write_now(engine);
        }
        self.stream.say_goodbye();
        self.conversation.close(engine, may_wait);
    }

    /// A connection that broke is closed without a word, unless it never came about.
    fn end_for_error(&self, server: &Server, error: &io::Error) -> End {
        if self.stream.is_handshaking() {
            let client = &self.conversation.session.client;
            server.log.verbose(format_args!(
                "Error accepting a client connection: {error} (addr={} laddr={})",
                client.addr, client.laddr
            ));
        }
        End::Now
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
