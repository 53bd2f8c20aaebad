//! What a server counts and measures.

pub mod histogram;
pub mod latency;
pub mod sampler;
pub mod slowlog;
pub mod stats;
