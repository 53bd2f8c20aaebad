//! Bytes of an RDB file as they come: buffered, counted, summed, and never trusted for a length.

use super::checksum::crc64;
use super::error::{RdbError, RdbErrorKind};
use super::format::string_encoding;
use super::lzf;
use super::record::Str;
use std::io::{self, Read};

const BUFFER_BYTES: usize = 64 << 10;
/// What a string reserves before its bytes have been seen.
const FIRST_RESERVATION: u64 = 1 << 20;

/// A length as found in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Plain(u64),
    /// Not a length: how the string that follows is encoded.
    Encoded(u8),
}

pub(crate) struct Source<R> {
    inner: R,
    buffer: Vec<u8>,
    /// `buffer[at..]` has been read from `inner` and not yet used.
    at: usize,
    /// Offset in the file of `buffer[0]`.
    start: u64,
    /// `buffer[..summed]` is in `crc`.
    summed: usize,
    crc: u64,
    sums: bool,
}

impl<R: Read> Source<R> {
    /// `sums` says whether to keep the checksum.
    pub(crate) fn new(inner: R, sums: bool) -> Source<R> {
        Source { inner, buffer: Vec::new(), at: 0, start: 0, summed: 0, crc: 0, sums }
    }

    /// Bytes used so far.
    pub(crate) fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// The checksum of the bytes used so far.
    pub(crate) fn crc(&mut self) -> u64 {
        if self.sums {
            self.crc = crc64(self.crc, &self.buffer[self.summed..self.at]);
        }
        self.summed = self.at;
        self.crc
    }

    /// What `inner` would have given next, had it been read without a buffer.
    pub(crate) fn into_rest(mut self) -> impl Read {
        self.buffer.drain(..self.at);
        io::Cursor::new(self.buffer).chain(self.inner)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RdbError> {
        if self.at == self.buffer.len() {
            self.fill(1)?;
        }
        let byte = self.buffer[self.at];
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        if self.buffer.len() - self.at < N {
            self.fill(N)?;
        }
        let mut array = [0; N];
        array.copy_from_slice(&self.buffer[self.at..self.at + N]);
        self.at += N;
        Ok(array)
    }

    /// The next `len` bytes. Memory grows with what is really there.
    pub(crate) fn bytes(&mut self, len: u64) -> Result<Vec<u8>, RdbError> {
        let ready = &self.buffer[self.at..];
        if let Some(wanted) = usize::try_from(len).ok().and_then(|len| ready.get(..len)) {
            let bytes = wanted.to_vec();
            self.at += bytes.len();
            return Ok(bytes);
        }
        let offset = self.offset();
        let mut bytes = Vec::with_capacity(len.min(FIRST_RESERVATION) as usize);
        bytes.extend_from_slice(ready);
        self.at = self.buffer.len();
        self.crc();
        let had = bytes.len();
        let missing = len - had as u64;
        let read = self.inner.by_ref().take(missing).read_to_end(&mut bytes);
        self.start += (self.buffer.len() + bytes.len() - had) as u64;
        self.buffer.clear();
        (self.at, self.summed) = (0, 0);
        read.map_err(|error| RdbError { offset, kind: RdbErrorKind::Io(error) })?;
        if (bytes.len() as u64) < len {
            return Err(RdbError { offset, kind: RdbErrorKind::UnexpectedEof(None) });
        }
        if self.sums {
            self.crc = crc64(self.crc, &bytes[had..]);
        }
        Ok(bytes)
    }

    /// A length, or the encoding of a string in its place.
    pub(crate) fn length(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0 => Length::Plain(low.into()),
            1 => Length::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            3 => Length::Encoded(low),
            _ => match first {
                0x80 => Length::Plain(u32::from_be_bytes(self.array()?).into()),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(self.corrupt("Unknown length encoding 2 in rdbLoadLen()")),
            },
        })
    }

    /// A length where no string can stand. Like Redis, takes the number of an encoding as a length.
    pub(crate) fn len(&mut self) -> Result<u64, RdbError> {
        Ok(match self.length()? {
            Length::Plain(len) => len,
            Length::Encoded(number) => number.into(),
        })
    }

    /// A string that may be an integer.
    pub(crate) fn str(&mut self) -> Result<Str, RdbError> {
        let encoding = match self.length()? {
            Length::Plain(len) => return Ok(Str::Bytes(self.bytes(len)?)),
            Length::Encoded(encoding) => encoding,
        };
        Ok(match encoding {
            string_encoding::INT8 => Str::Int(i8::from_le_bytes(self.array()?).into()),
            string_encoding::INT16 => Str::Int(i16::from_le_bytes(self.array()?).into()),
            string_encoding::INT32 => Str::Int(i32::from_le_bytes(self.array()?).into()),
            string_encoding::LZF => Str::Bytes(self.lzf()?),
            other => return Err(self.corrupt(format!("Unknown RDB string encoding type {other}"))),
        })
    }

    /// A string, whatever its encoding, as bytes.
    pub(crate) fn string(&mut self) -> Result<Vec<u8>, RdbError> {
        Ok(self.str()?.into_bytes())
    }

    pub(crate) fn corrupt(&self, text: impl Into<String>) -> RdbError {
        RdbError::corrupt(self.offset(), text)
    }

    fn lzf(&mut self) -> Result<Vec<u8>, RdbError> {
        let packed_len = self.len()?;
        let len = self.len()?;
        let packed = self.bytes(packed_len)?;
        usize::try_from(len)
            .ok()
            .and_then(|len| lzf::decompress(&packed, len).ok())
            .ok_or_else(|| self.corrupt("Invalid LZF compressed string"))
    }

    /// Makes sure that `wanted` (at most a few bytes) are in the buffer.
    fn fill(&mut self, wanted: usize) -> Result<(), RdbError> {
        self.crc();
        self.buffer.drain(..self.at);
        self.start += self.at as u64;
        (self.at, self.summed) = (0, 0);
        while self.buffer.len() < wanted {
            let had = self.buffer.len();
            self.buffer.resize(BUFFER_BYTES, 0);
            let read = self.inner.read(&mut self.buffer[had..]);
            self.buffer.truncate(had + *read.as_ref().unwrap_or(&0));
            let kind = match read {
                Ok(0) => RdbErrorKind::UnexpectedEof(None),
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => RdbErrorKind::Io(error),
            };
            return Err(RdbError { offset: self.offset(), kind });
        }
        Ok(())
    }
}
