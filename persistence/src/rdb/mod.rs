//! RDB: one file that holds a whole keyspace at one instant.

mod checksum;
mod dump;
mod error;
mod format;
mod legacy;
mod lzf;
mod reader;
mod record;
mod source;
mod value;
mod writer;

pub use checksum::crc64;
pub use dump::{DumpError, DumpReader, MIN_DUMP_BYTES, dump_version, dumped_functions, finish_dump};
pub use error::{RdbError, RdbErrorKind};
pub use format::{Family, HIGHEST_VERSION, Kind, WRITTEN_VERSION};
pub use reader::{Activity, ReadOptions, Reader};
pub use record::{ChecksumState, Key, Packed, Part, Record, Str, StreamId, StreamMeta};
pub use writer::{Encoder, KeyMeta, WriteOptions, Writer};
