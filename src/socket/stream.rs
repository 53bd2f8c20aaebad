//! A client's socket, of whichever kind.

use crate::socket::tls_stream::TlsStream;
use crate::socket::{Readiness, Socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed: a session of TLS is large, and most connections have none.
    Tls(Box<TlsStream>),
    /// Lent to a command that may keep it: at its end, as far as its connection sees.
    Lent,
}

impl Stream {
    /// Reads what is there; 0 bytes at the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let polled = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Stream::Tls(stream) => return stream.poll_read(cx, buf.initialize_unfilled()),
            Stream::Lent => return Poll::Ready(Ok(0)),
        };
        polled.map(|result| result.map(|()| buf.filled().len()))
    }

    /// Writes as much as fits.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => stream.poll_write(cx, bytes),
            Stream::Lent => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    /// Ready when what was written is with the system.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Lent => Poll::Ready(Ok(())),
            Stream::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// What it takes beyond its place in a connection, about.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Lent => 0,
            Stream::Tls(stream) => stream.memory_bytes(),
        }
    }

    /// Whether the peer has yet to finish the handshake of TLS.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.is_handshaking())
    }
}

impl Socket for Stream {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*SockRef::from(&*stream)).read(buf),
            Stream::Unix(stream) => (&*SockRef::from(&*stream)).read(buf),
            Stream::Tls(stream) => stream.read_now(buf),
            Stream::Lent => Ok(0),
        }
    }

    fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => SockRef::from(&*stream).send(bytes),
            Stream::Unix(stream) => SockRef::from(&*stream).send(bytes),
            Stream::Tls(stream) => stream.write_now(bytes),
            Stream::Lent => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn flush_now(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(stream) => stream.flush_now(),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Lent => Ok(()),
        }
    }

    fn wait_now(&self, for_what: Readiness, patience: Duration) {
        let socket = match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.socket().as_fd(),
            Stream::Lent => return,
        };
        let flag = match for_what {
            Readiness::Read => PollFlags::POLLIN,
            Readiness::Write => PollFlags::POLLOUT,
        };
        // Whatever it is that ends the wait, the next attempt to read or write will show it.
        let _ = poll(&mut [PollFd::new(socket, flag)], PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX));
    }

    fn say_goodbye(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.say_goodbye();
        }
    }
}
