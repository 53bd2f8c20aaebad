//! The byte formats Redis keeps small collections in, the same in memory, in DUMP and in RDB files.

pub mod listpack;
