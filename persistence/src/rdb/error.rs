//! What can be wrong with an RDB file, and where.

use std::{fmt, io};

/// An error and the place in the file where it was met.
#[derive(Debug)]
pub struct RdbError {
    /// Offset of the first byte that could not be used, counted from the start of the file or payload.
    pub offset: u64,
    /// What was wrong.
    pub kind: RdbErrorKind,
}

/// The kinds of [`RdbError`]. Texts are Redis's where Redis has one.
#[derive(Debug)]
pub enum RdbErrorKind {
    /// The system refused to read.
    Io(io::Error),
    /// The file ends inside a record; the text says in which part of a stream, if it was one.
    UnexpectedEof(Option<&'static str>),
    /// The file does not begin with `REDIS`.
    WrongSignature,
    /// The four digits after `REDIS` name a version that cannot be read.
    Version(i64),
    /// A byte that begins no known record or value.
    UnknownType(u8),
    /// Bytes that no Redis writes.
    Corrupt(String),
    /// Well formed, but nothing this server can hold.
    Unsupported(String),
    /// The checksum at the end is not that of the bytes before it.
    Checksum {
        /// The checksum of what was read.
        computed: u64,
        /// The checksum the file gives.
        stored: u64,
    },
}

impl RdbError {
    pub(crate) fn corrupt(offset: u64, text: impl Into<String>) -> RdbError {
        RdbError { offset, kind: RdbErrorKind::Corrupt(text.into()) }
    }

    /// Whether the file merely ends too early.
    pub fn is_short_read(&self) -> bool {
        matches!(self.kind, RdbErrorKind::UnexpectedEof(_))
    }

    /// Says in which part of a stream the file ended.
    pub(crate) fn within(mut self, what: &'static str) -> RdbError {
        if let RdbErrorKind::UnexpectedEof(place) = &mut self.kind {
            *place = Some(what);
        }
        self
    }
}

impl fmt::Display for RdbErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdbErrorKind::Io(error) => write!(f, "Error reading RDB file: {error}"),
            RdbErrorKind::UnexpectedEof(None) => f.write_str("Unexpected EOF reading RDB file"),
            RdbErrorKind::UnexpectedEof(Some(place)) => f.write_str(place),
            RdbErrorKind::WrongSignature => f.write_str("Wrong signature trying to load DB from file"),
            RdbErrorKind::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            RdbErrorKind::UnknownType(byte) => write!(f, "Invalid object type: {byte}"),
            RdbErrorKind::Corrupt(text) | RdbErrorKind::Unsupported(text) => f.write_str(text),
            RdbErrorKind::Checksum { .. } => f.write_str("RDB CRC error"),
        }
    }
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.kind)
    }
}

impl std::error::Error for RdbError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            RdbErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}
