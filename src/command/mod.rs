//! The command engine: what a command is, how it is found, checked, run and recorded.
pub mod args;
pub mod call;
pub mod client_line;
pub mod ctx;
pub mod error;
pub mod gate;
pub mod locks;
pub mod monitor;
pub mod observe;
pub mod permission;
pub mod redact;
pub mod room;
pub mod scan;
pub mod serve;
pub mod session;
pub mod spec;
pub mod table;
