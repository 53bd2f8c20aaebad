//! Clients' sockets: bytes in and out, plain or under TLS.

pub mod stream;
pub mod tls;
pub mod tls_stream;

pub use stream::Stream;

use std::any::Any;
use std::fmt;
use std::io;
use std::time::Duration;

/// A client's socket for a thread that uses it without a runtime: the debugger of scripts, to which a connection's driver
/// lends it. Whatever would have to wait fails with WouldBlock.
pub trait Socket: Any + Send + fmt::Debug {
    /// Reads what is there; 0 bytes at the end of the stream.
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as fits.
    fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Hands what was written to the system; fails when it does not take all of it now.
    fn flush_now(&mut self) -> io::Result<()>;

    /// Waits until there is something to read, or room to write to; at most `patience`.
    fn wait_now(&self, for_what: Readiness, patience: Duration);

    /// To be called before it is dropped.
    fn say_goodbye(&mut self);
}

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Read,
    Write,
}
