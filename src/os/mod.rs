//! The machine around a server: its process, its log, and which server this is.

pub mod banner;
pub mod log;
pub mod process;
pub mod supervisor;
