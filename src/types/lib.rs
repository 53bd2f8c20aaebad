//! Redis's data types and their encodings. Pure values: no clock, no lock, no config, no socket; a type
//! takes its encoding thresholds as an argument.

pub mod bitmap;
pub mod deadlines;
mod dtoa;
pub mod encoding;
pub mod entry;
pub mod frozen;
pub mod garbage;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod lcs;
pub mod list;
pub mod long_double;
pub mod long_string;
pub mod number;
pub mod prefetch;
pub mod seed;
pub mod set;
pub mod stream;
pub mod table;
pub mod zset;
