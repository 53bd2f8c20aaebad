//! The socket side: a thin shell around [`crate::command::call::Engine::execute`].
pub mod accepting;
pub mod connection;
pub mod conversation;
mod cross_protocol;
pub mod listener;
pub mod process;
pub mod worker;
