//! Stream IDs: 128 bits, a millisecond time and a sequence number within it, written `ms-seq`.
//!
//! Every form Redis's commands accept is parsed here, except `$` and `>`, which mean something only to the command
//! that reads them.

use std::fmt;
use std::ops::Deref;

/// The ID of a stream entry. Orders by `ms`, then by `seq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time in milliseconds, by convention: any value is allowed.
    pub ms: u64,
    /// Sequence number among the entries with the same `ms`.
    pub seq: u64,
}

/// Why the text of an ID was refused. Each variant is one Redis error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// Neither `ms` nor `ms-seq`, or a part does not fit 64 bits.
    Invalid,
    /// `(18446744073709551615-18446744073709551615` as a start: nothing is greater.
    NothingAfter,
    /// `(0-0` as an end: nothing is smaller.
    NothingBefore,
}

/// What XADD was asked to use as the ID of the new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`: the present time, or one past the last ID when the clock has not moved on.
    Auto,
    /// `ms-*`: this time, the next free sequence number.
    AutoSeq(u64),
    /// `ms-seq` or `ms`, the latter meaning sequence 0.
    Exact(StreamId),
}

impl StreamId {
    /// `0-0`: the last ID of a stream never written to. No entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The greatest ID; a stream that holds it can take no more entries.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// An ID from its two parts.
    pub const fn new(ms: u64, seq: u64) -> Self {
        StreamId { ms, seq }
    }

    /// The ID right after this one; `None` after [`StreamId::MAX`].
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => self.ms.checked_add(1).map(|ms| StreamId { ms, seq: 0 }),
        }
    }

    /// The ID right before this one; `None` before [`StreamId::MIN`].
    pub fn prev(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => self.ms.checked_sub(1).map(|ms| StreamId { ms, seq: u64::MAX }),
        }
    }

    /// The 16 big-endian bytes that RDB and DUMP hold: they sort as the IDs do.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// The inverse of [`StreamId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let id = u128::from_be_bytes(bytes);
        StreamId { ms: (id >> 64) as u64, seq: id as u64 }
    }

    /// `ms` or `ms-seq`; `missing_seq` stands in for an absent sequence. `-` and `+` are refused.
    pub fn parse(text: &[u8], missing_seq: u64) -> Result<Self, IdError> {
        let mut parts = text.splitn(2, |&byte| byte == b'-');
        let ms = parse_u64(parts.next().unwrap_or_default())?;
        let seq = match parts.next() {
            Some(seq) => parse_u64(seq)?,
            None => missing_seq,
        };
        Ok(StreamId { ms, seq })
    }

    /// As [`StreamId::parse`], and `-` and `+` name the smallest and the greatest ID.
    pub fn parse_with_extremes(text: &[u8], missing_seq: u64) -> Result<Self, IdError> {
        match text {
            b"-" => Ok(Self::MIN),
            b"+" => Ok(Self::MAX),
            _ => Self::parse(text, missing_seq),
        }
    }

    /// The first ID of a range: `-`, `+`, `ms` (its first sequence), `ms-seq`, or `(` and an ID to start after it.
    pub fn parse_range_start(text: &[u8]) -> Result<Self, IdError> {
        match exclusive(text) {
            Some(id) => Self::parse(id, 0)?.next().ok_or(IdError::NothingAfter),
            None => Self::parse_with_extremes(text, 0),
        }
    }

    /// The last ID of a range: as its start, but a bare `ms` means its last sequence and `(` ends before the ID.
    pub fn parse_range_end(text: &[u8]) -> Result<Self, IdError> {
        match exclusive(text) {
            Some(id) => Self::parse(id, u64::MAX)?.prev().ok_or(IdError::NothingBefore),
            None => Self::parse_with_extremes(text, u64::MAX),
        }
    }

    /// The text `ms-seq`, without allocating.
    pub fn text(self) -> IdText {
        let mut text = IdText { bytes: [0; IdText::MAX_LEN], len: 0 };
        let mut digits = itoa::Buffer::new();
        text.push(digits.format(self.ms).as_bytes());
        text.push(b"-");
        text.push(digits.format(self.seq).as_bytes());
        text
    }
}

impl NewId {
    /// The ID argument of XADD: `*`, `ms-*`, `ms-seq` or `ms`.
    pub fn parse(text: &[u8]) -> Result<Self, IdError> {
        if text == b"*" {
            return Ok(NewId::Auto);
        }
        match text.strip_suffix(b"-*") {
            Some(ms) if !ms.contains(&b'-') => parse_u64(ms).map(NewId::AutoSeq),
            _ => StreamId::parse(text, 0).map(NewId::Exact),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// An ID written out on the stack; dereferences to its bytes.
#[derive(Clone, Copy)]
pub struct IdText {
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl IdText {
    /// Twice the 20 digits of `u64::MAX`, and the dash.
    const MAX_LEN: usize = 41;

    fn push(&mut self, part: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.len += part.len() as u8;
    }
}

impl Deref for IdText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What follows the `(` of an exclusive bound. A lone `(` is not one.
fn exclusive(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"(").filter(|id| !id.is_empty())
}

/// A 64-bit number the way Redis reads the parts of an ID: blanks before it, a plus sign and leading zeros are
/// allowed, a minus sign is not.
fn parse_u64(text: &[u8]) -> Result<u64, IdError> {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return Err(IdError::Invalid);
    }
    digits.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(IdError::Invalid);
        }
        value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit))).ok_or(IdError::Invalid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64, seq: u64) -> StreamId {
        StreamId::new(ms, seq)
    }

    #[test]
    fn parses_what_redis_accepts() {
        assert_eq!(StreamId::parse(b"5", 7), Ok(id(5, 7)));
        assert_eq!(StreamId::parse(b"5-3", 7), Ok(id(5, 3)));
        assert_eq!(StreamId::parse(b"005-+3", 7), Ok(id(5, 3)));
        assert_eq!(StreamId::parse(b"18446744073709551615-18446744073709551615", 0), Ok(StreamId::MAX));
        assert_eq!(StreamId::parse_with_extremes(b"-", 0), Ok(StreamId::MIN));
        assert_eq!(StreamId::parse_with_extremes(b"+", 0), Ok(StreamId::MAX));
    }

    #[test]
    fn refuses_what_redis_refuses() {
        for text in ["", "-", "+", "a", "1-", "-1", "1-a", "1-2-3", "1--2", "18446744073709551616", "1-*", "*", "1 "] {
            assert_eq!(StreamId::parse(text.as_bytes(), 0), Err(IdError::Invalid), "{text}");
        }
    }

    #[test]
    fn range_bounds_step_over_exclusive_ids() {
        assert_eq!(StreamId::parse_range_start(b"5"), Ok(id(5, 0)));
        assert_eq!(StreamId::parse_range_end(b"5"), Ok(id(5, u64::MAX)));
        assert_eq!(StreamId::parse_range_start(b"(5"), Ok(id(5, 1)));
        assert_eq!(StreamId::parse_range_end(b"(5"), Ok(id(5, u64::MAX - 1)));
        assert_eq!(StreamId::parse_range_start(b"(5-18446744073709551615"), Ok(id(6, 0)));
        assert_eq!(StreamId::parse_range_end(b"(5-0"), Ok(id(4, u64::MAX)));
        assert_eq!(StreamId::parse_range_end(b"(0-0"), Err(IdError::NothingBefore));
        let last = format!("({}", StreamId::MAX);
        assert_eq!(StreamId::parse_range_start(last.as_bytes()), Err(IdError::NothingAfter));
        assert_eq!(StreamId::parse_range_start(b"(-"), Err(IdError::Invalid));
        assert_eq!(StreamId::parse_range_start(b"("), Err(IdError::Invalid));
    }

    #[test]
    fn new_ids_may_leave_parts_to_the_server() {
        assert_eq!(NewId::parse(b"*"), Ok(NewId::Auto));
        assert_eq!(NewId::parse(b"7-*"), Ok(NewId::AutoSeq(7)));
        assert_eq!(NewId::parse(b"7"), Ok(NewId::Exact(id(7, 0))));
        assert_eq!(NewId::parse(b"7-1"), Ok(NewId::Exact(id(7, 1))));
        for text in ["-", "+", "-*", "7-1-*", "7-**", "**", "a-*"] {
            assert_eq!(NewId::parse(text.as_bytes()), Err(IdError::Invalid), "{text}");
        }
    }

    #[test]
    fn text_bytes_and_neighbours_agree() {
        for id in [StreamId::MIN, id(1, 2), id(3, u64::MAX), id(4, 0), StreamId::MAX] {
            assert_eq!(&*id.text(), id.to_string().as_bytes());
            assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
            if let Some(next) = id.next() {
                assert_eq!(next.prev(), Some(id));
                assert!(next > id && next.to_bytes() > id.to_bytes());
            }
        }
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(StreamId::MIN.prev(), None);
    }
}
