//! What the fuzzers share: a server in this process that is driven without sockets, commands made from the command
//! table, and an allocator that counts.

pub mod bench;
pub mod certificates;
pub mod choices;
pub mod grammar;
pub mod memory;
pub mod resp;
pub mod samples;
