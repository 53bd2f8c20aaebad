//! The socket side: a thin shell around [`crate::command::call::Engine::execute`].
pub mod connection;
pub mod listener;
pub mod process;
pub mod stream;
pub mod tls_stream;
pub mod worker;
