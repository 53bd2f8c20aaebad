//! Redis's file formats: RDB and multi-part AOF. Bytes in, bytes out; knows no server type.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
