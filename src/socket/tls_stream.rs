//! A TCP connection under TLS. rustls turns bytes into bytes; this moves them, through the runtime or, while that is
//! stuck in a script, without it: also during the handshake, so that SCRIPT KILL can come through a new connection.

use rustls::{InvalidMessage, ServerConfig, ServerConnection};
use socket2::SockRef;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A connection that was accepted on `tls-port`.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// Ends a handshake that takes too long; from its first poll to its end.
    patience: Option<Pin<Box<Sleep>>>,
}

/// A peer that has not finished its handshake by then is let go: it holds a descriptor and has shown nothing.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Steps of one read without the runtime; more is left for the next one.
const STEPS: usize = 8;

impl TlsStream {
    /// One that is idle, with what rustls keeps behind it.
    const BYTES: usize = size_of::<TlsStream>() + 4096;
    /// What rustls keeps at most of what it was given to send (its default). It does not tell how much it is.
    const SEND_BYTES: usize = 64 * 1024;

    /// What it takes, about.
    pub fn memory_bytes(&self) -> usize {
        Self::BYTES + if self.session.wants_write() { Self::SEND_BYTES } else { 0 }
    }

    /// The server's side of a connection whose handshake has not begun.
    pub fn new(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(TlsStream { socket, session, patience: None })
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether the peer has yet to show who it is.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Reads what is there; 0 bytes when the peer has said goodbye. An end without a goodbye is an error.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut io = Polled { socket: &mut self.socket, cx };
        let result = read(&mut self.session, &mut io, buf, usize::MAX);
        self.or_pending(cx, result)
    }

    /// Writes as much as fits. What it takes may wait in the session: see [`Self::poll_flush`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut io = Polled { socket: &mut self.socket, cx };
        let result = write(&mut self.session, &mut io, bytes);
        self.or_pending(cx, result)
    }

    /// Ready when everything written is with the system, which it cannot be before the handshake is done.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = Polled { socket: &mut self.socket, cx };
        let result = greet(&mut self.session, &mut io, usize::MAX).and_then(|()| send(&mut self.session, &mut io));
        self.or_pending(cx, result)
    }

    fn or_pending<T>(&mut self, cx: &mut Context<'_>, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
        if self.session.is_handshaking() {
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(HANDSHAKE_LIMIT)));
            ready!(patience.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the TLS handshake took too long")));
        }
        self.patience = None;
        Poll::Pending
    }

    /// Reads without the runtime: whatever is there, or WouldBlock.
    pub fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read(&mut self.session, &mut &*SockRef::from(&self.socket), buf, STEPS)
    }

    /// Writes without the runtime.
    pub fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(&mut self.session, &mut &*SockRef::from(&self.socket), bytes)
    }

    /// Hands what was written to the system, without the runtime.
    pub fn flush_now(&mut self) -> io::Result<()> {
        send(&mut self.session, &mut &*SockRef::from(&self.socket))
    }

    /// Tells the peer that nothing follows, so that it can tell the end from a cut. It may be gone already.
    pub fn say_goodbye(&mut self) {
        if self.session.is_handshaking() {
            return;
        }
        self.session.send_close_notify();
        let _ = send(&mut self.session, &mut &*SockRef::from(&self.socket));
    }
}

/// Reads what the peer has sent, in at most so many steps, each of which may bring nothing but TLS's own messages.
fn read(
    session: &mut ServerConnection,
    io: &mut (impl Read + Write),
    buf: &mut [u8],
    steps: usize,
) -> io::Result<usize> {
    greet(session, io, steps)?;
    for _ in 0..steps {
        match session.reader().read(buf) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => receive(session, io)?,
            result => return result,
        }
    }
    Err(ErrorKind::WouldBlock.into())
}

/// Goes on with the handshake, if it is not done.
fn greet(session: &mut ServerConnection, io: &mut (impl Read + Write), steps: usize) -> io::Result<()> {
    for _ in 0..steps {
        if !session.is_handshaking() {
            return Ok(());
        }
        receive(session, io)?;
    }
    Err(ErrorKind::WouldBlock.into())
}

/// Reads from the socket once, and answers what TLS wants answered.
fn receive(session: &mut ServerConnection, io: &mut (impl Read + Write)) -> io::Result<()> {
    let was_handshaking = session.is_handshaking();
    let len = session.read_tls(io)?;
    let outcome = session.process_new_packets();
    if let Err(error @ rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) = &outcome
        && was_handshaking
    {
        // A peer that does not speak TLS would take an alert for a reply.
        return Err(io::Error::new(ErrorKind::InvalidData, error.clone()));
    }
    // The alert, after an error. If there is no room now, `poll_flush` sends the rest.
    let sent = send(session, io);
    outcome.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    if len == 0 && was_handshaking {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    sent.or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) })
}

/// Hands bytes to the session, which keeps no more than a bounded number of them, and what it makes of them to `io`.
fn write(session: &mut ServerConnection, io: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = session.writer().write(bytes)?;
    let mut sent = send(session, io);
    if taken == 0 && sent.is_ok() {
        // The session was full, and the socket has taken all of it: nobody would wake the task for the rest.
        taken = session.writer().write(bytes)?;
        sent = send(session, io);
    }
    match sent {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ if taken == 0 => Err(ErrorKind::WouldBlock.into()),
        _ => Ok(taken),
    }
}

fn send(session: &mut ServerConnection, io: &mut impl Write) -> io::Result<()> {
    while session.wants_write() {
        if session.write_tls(io)? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// The socket through the runtime: where it would wait, its task is woken later.
struct Polled<'a, 'c, 'w> {
    socket: &'a mut TcpStream,
    cx: &'c mut Context<'w>,
}

impl Read for Polled<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Polled<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
