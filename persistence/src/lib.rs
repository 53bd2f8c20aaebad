//! Redis's file formats: RDB and multi-part AOF. Bytes in, bytes out; knows no server type.
//!
//! - [`rdb`] reads versions 1 to 12 and writes 11 (or 9 and 10 for those who go back to an older Redis).
//! - [`aof`] reads and writes the log of effects and its manifest.
//! - [`file`](mod@file) is what they need of a file system, and one in memory that crashes on purpose.
//!
//! Whatever the bytes are, reading them never panics, never loops without end, and never takes more memory than
//! 64 MiB and four times the bytes really read: a length found in a file is believed only as far as the file goes on.
//! (What LZF expands is the one exception: it is bounded by what the compressed bytes really yield, 88 times at most.)
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod aof;
pub mod file;
pub mod rdb;
