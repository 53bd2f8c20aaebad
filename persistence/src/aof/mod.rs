//! AOF: the log of effects, in Redis 7's multi-part layout: a directory with a base file (RDB or commands), files of
//! commands since, and a manifest that names them.

mod manifest;
mod reader;
mod writer;

pub use manifest::{FileInfo, FileType, Manifest, ManifestError, manifest_name, temp_incr_name};
pub use reader::{AofError, AofErrorKind, BatchHeader, Command, Item, Reader, begins_with_rdb};
pub use writer::{AppendError, AppendOptions, Appender, FileSync, Fsync, LogBuffer, Progress};
