//! A client's socket, of whichever kind.

use crate::net::tls_stream::TlsStream;
use socket2::SockRef;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed: a session of TLS is large, and most connections have none.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Reads what is there; 0 bytes at the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let polled = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Stream::Tls(stream) => return stream.poll_read(cx, buf.initialize_unfilled()),
        };
        polled.map(|result| result.map(|()| buf.filled().len()))
    }

    /// Writes as much as fits.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    /// Ready when what was written is with the system.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// Reads without the runtime, which is stuck in a script: whatever is there, or WouldBlock.
    pub fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*SockRef::from(&*stream)).read(buf),
            Stream::Unix(stream) => (&*SockRef::from(&*stream)).read(buf),
            Stream::Tls(stream) => stream.read_now(buf),
        }
    }

    /// Writes without the runtime.
    pub fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => SockRef::from(&*stream).send(bytes),
            Stream::Unix(stream) => SockRef::from(&*stream).send(bytes),
            Stream::Tls(stream) => stream.write_now(bytes),
        }
    }

    /// What it takes beyond its place in a connection, about.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => 0,
            Stream::Tls(_) => TlsStream::BYTES,
        }
    }

    /// Whether the peer has yet to finish the handshake of TLS.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.is_handshaking())
    }

    /// To be called before it is dropped.
    pub fn say_goodbye(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.say_goodbye();
        }
    }
}
