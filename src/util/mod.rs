//! Small things every layer may use: no server type, no socket, no lock of their own.

pub mod glob;
pub mod quote;
