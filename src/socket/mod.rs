//! Clients' sockets: bytes in and out, plain or under TLS.

pub mod stream;
pub mod tls_stream;

pub use stream::Stream;
