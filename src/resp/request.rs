//! The request parser: multibulk and inline commands, resumable at any byte.
//!
//! A [`Parser`] belongs to a connection and remembers what it has understood of the command that is still arriving,
//! so that no byte is read twice however the command is cut up. It hands out byte ranges of the caller's buffer.
//! Source: Redis 7.2 protocol, error texts included.

use crate::util::quote;
use std::ops::Range;

/// Limits on one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest argument in bytes (`proto-max-bulk-len`).
    pub max_bulk_len: usize,
    /// Whether the client has authenticated (or need not): before that, 10 arguments of 16 KiB.
    pub authenticated: bool,
}

/// What the bytes at hand hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole command; its arguments are in [`Parser::args`], and it took `used` bytes. May have no argument
    /// (an empty line), which is to be skipped.
    Command {
        /// Bytes of the buffer that the command took.
        used: usize,
    },
    /// More bytes are needed.
    Incomplete,
    /// The text behind `Protocol error: `; the connection is to be closed after saying so.
    Invalid(String),
}

/// The state of one connection's request stream.
#[derive(Debug, Default)]
pub struct Parser {
    /// Arguments found so far, as ranges from the command's first byte.
    args: Vec<Range<usize>>,
    /// The sum of their lengths.
    args_bytes: usize,
    /// Bytes understood so far.
    position: usize,
    /// Arguments still to come; None between commands.
    remaining: Option<usize>,
    /// Length of the argument being read, when its `$` line has been.
    bulk_len: Option<usize>,
    /// The arguments of an inline command.
    inline: Option<Vec<Vec<u8>>>,
}

const INLINE_MAX: usize = 64 * 1024;
/// From this length on an argument is read by itself. Source: Redis 7.2.
const LARGE_ARG: usize = 32 * 1024;
const MAX_ARGS_UNAUTHENTICATED: usize = 10;
const MAX_BULK_UNAUTHENTICATED: usize = 16 * 1024;

impl Parser {
    /// Goes on with the command that begins at `buf[0]`: the same bytes as last time, and more.
    pub fn parse(&mut self, buf: &[u8], limits: Limits) -> Parsed {
        if self.remaining.is_none() {
            match buf.first() {
                None => return Parsed::Incomplete,
                Some(b'*') => {}
                Some(_) => return self.parse_inline(buf),
            }
            match self.header(buf, limits) {
                Ok(Some(count)) => self.begin(count),
                Ok(None) => return Parsed::Incomplete,
                Err(text) => return self.invalid(text),
            }
        }
        match self.arguments(buf, limits) {
            Ok(true) => self.finish(self.position),
            Ok(false) => Parsed::Incomplete,
            Err(text) => self.invalid(text),
        }
    }

    /// The arguments of the multibulk command just parsed, in `buf` (the buffer given to [`Parser::parse`]).
    pub fn args<'b>(&self, buf: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        self.args.iter().map(move |range| &buf[range.clone()])
    }

    /// The arguments of the command just parsed if it was inline: unquoted, they are not in the buffer.
    pub fn inline_args(&mut self) -> Option<Vec<Vec<u8>>> {
        self.inline.take()
    }

    /// Forgets a command that has arrived in part: its bytes will be given again.
    pub fn restart(&mut self) {
        self.finish(0);
        self.next();
    }

    /// How many bytes the buffer should have room for so that the argument under way can be read at once.
    pub fn wanted_bytes(&self) -> usize {
        self.bulk_len.map_or(0, |len| self.position + len + 2)
    }

    /// Of the command that has arrived in part: the lengths of its whole arguments, and where the one under way
    /// begins if that is a large one.
    pub fn under_way(&self) -> (usize, Option<usize>) {
        (self.args_bytes, self.bulk_len.filter(|len| *len >= LARGE_ARG).map(|_| self.position))
    }

    /// Forgets the arguments of the command just parsed.
    pub fn next(&mut self) {
        self.args.clear();
        self.args_bytes = 0;
        self.inline = None;
        if self.args.capacity() > 1024 {
            self.args = Vec::new();
        }
    }

    fn begin(&mut self, count: usize) {
        self.remaining = Some(count);
        self.args.reserve(count.min(1024));
    }

    fn finish(&mut self, used: usize) -> Parsed {
        self.position = 0;
        self.remaining = None;
        self.bulk_len = None;
        Parsed::Command { used }
    }

    fn invalid(&mut self, text: String) -> Parsed {
        self.finish(0);
        self.next();
        Parsed::Invalid(text)
    }

    /// The `*N` line. A count of 0 or less is an empty command.
    fn header(&mut self, buf: &[u8], limits: Limits) -> Result<Option<usize>, String> {
        let Some((count, end)) = number(buf, 1, "too big mbulk count string")? else { return Ok(None) };
        let count = count.filter(|count| *count <= i64::from(i32::MAX));
        let count = count.ok_or("invalid multibulk length")?.max(0) as usize;
        if count > MAX_ARGS_UNAUTHENTICATED && !limits.authenticated {
            return Err("unauthenticated multibulk length".into());
        }
        self.position = end;
        Ok(Some(count))
    }

    /// Whether all have arrived.
    fn arguments(&mut self, buf: &[u8], limits: Limits) -> Result<bool, String> {
        for remaining in (0..self.remaining.unwrap_or(0)).rev() {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.bulk_header(buf, limits)? {
                    Some(len) => len,
                    None => return Ok(false),
                },
            };
            if buf.len() < self.position + len + 2 {
                self.bulk_len = Some(len);
                return Ok(false);
            }
            self.args.push(self.position..self.position + len);
            self.args_bytes += len;
            self.position += len + 2;
            self.bulk_len = None;
            self.remaining = Some(remaining);
        }
        Ok(true)
    }

    /// The `$N` line.
    #[inline]
    fn bulk_header(&mut self, buf: &[u8], limits: Limits) -> Result<Option<usize>, String> {
        let Some((len, end)) = number(buf, self.position + 1, "too big bulk count string")? else { return Ok(None) };
        if buf[self.position] != b'$' {
            return Err(unexpected(buf[self.position]));
        }
        let len = len.and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| *len <= limits.max_bulk_len).ok_or("invalid bulk length")?;
        if len > MAX_BULK_UNAUTHENTICATED && !limits.authenticated {
            return Err("unauthenticated bulk length".into());
        }
        self.position = end;
        Ok(Some(len))
    }

    fn parse_inline(&mut self, buf: &[u8]) -> Parsed {
        let Some(end) = memchr::memchr(b'\n', buf) else {
            if buf.len() > INLINE_MAX {
                return self.invalid("too big inline request".into());
            }
            return Parsed::Incomplete;
        };
        let line = &buf[..end];
        let Ok(args) = quote::split(line.strip_suffix(b"\r").unwrap_or(line)) else {
            return self.invalid("unbalanced quotes in request".into());
        };
        self.inline = Some(args);
        self.finish(end + 1)
    }
}

/// The number on the line that begins at `from`, None if it is none, and where the next line begins; nothing when the line
/// is not whole yet.
#[inline]
fn number(buf: &[u8], from: usize, too_long: &str) -> Result<Option<(Option<i64>, usize)>, String> {
    let digit = |byte: u8| i64::from(byte - b'0');
    match *buf.get(from..).unwrap_or_default() {
        // Nearly all numbers are this small.
        [ones @ b'0'..=b'9', b'\r', b'\n', ..] => Ok(Some((Some(digit(ones)), from + 3))),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Ok(Some((Some(digit(tens) * 10 + digit(ones)), from + 4)))
        }
        ref rest => long_number(rest, from, too_long),
    }
}

fn long_number(rest: &[u8], from: usize, too_long: &str) -> Result<Option<(Option<i64>, usize)>, String> {
    // A count has at most 20 digits: look for its end byte by byte.
    match rest.iter().take(INLINE_MAX).position(|byte| *byte == b'\r') {
        Some(len) if rest.len() > len + 1 => {
            Ok(Some((redstart_types::number::parse_int(&rest[..len]), from + len + 2)))
        }
        None if rest.len() >= INLINE_MAX => Err(too_long.into()),
        _ => Ok(None),
    }
}

#[cold]
fn unexpected(byte: u8) -> String {
    format!("expected '$', got '{}'", char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Limits = Limits { max_bulk_len: 512 << 20, authenticated: true };

    fn text(parser: &mut Parser, buf: &[u8]) -> String {
        let args = parser.inline_args().unwrap_or_else(|| parser.args(buf).map(<[u8]>::to_vec).collect());
        parser.next();
        args.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join("|")
    }

    fn parse_all(mut buf: &[u8], limits: Limits) -> Vec<String> {
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        loop {
            match parser.parse(buf, limits) {
                Parsed::Command { used } => {
                    seen.push(text(&mut parser, buf));
                    buf = &buf[used..];
                }
                Parsed::Incomplete => return seen,
                Parsed::Invalid(text) => {
                    seen.push(format!("!{text}"));
                    return seen;
                }
            }
        }
    }

    #[test]
    fn commands_cut_at_every_byte_come_out_whole() {
        let stream =
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING \"a b\"\r\n*0\r\n*1\r\n$4\r\nPING\r\n\r\nSET 'k' \"\\x41\\n\"\r\n";
        let whole = parse_all(stream, OPEN);
        assert_eq!(whole, ["GET|k", "PING|a b", "", "PING", "", "SET|k|A\n"]);
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let (mut start, mut seen) = (0, Vec::new());
            for end in [cut, stream.len()] {
                while let Parsed::Command { used } = parser.parse(&stream[start..end], OPEN) {
                    seen.push(text(&mut parser, &stream[start..]));
                    start += used;
                }
            }
            assert_eq!(seen, whole, "cut at {cut}");
        }
    }

    #[test]
    fn protocol_errors_have_redis_texts() {
        let closed = Limits { authenticated: false, ..OPEN };
        for (bytes, limits, expected) in [
            (&b"*x\r\n"[..], OPEN, "!invalid multibulk length"),
            (b"*2147483648\r\n", OPEN, "!invalid multibulk length"),
            (b"*1\r\n:3\r\n", OPEN, "!expected '$', got ':'"),
            (b"*1\r\n$-1\r\n", OPEN, "!invalid bulk length"),
            (b"*1\r\n$2000000000\r\n", OPEN, "!invalid bulk length"),
            (b"*11\r\n", closed, "!unauthenticated multibulk length"),
            (b"*1\r\n$16385\r\n", closed, "!unauthenticated bulk length"),
            (b"PING \"x\r\n", OPEN, "!unbalanced quotes in request"),
            (b"PING \"x\"y\r\n", OPEN, "!unbalanced quotes in request"),
        ] {
            assert_eq!(parse_all(bytes, limits), [expected], "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(parse_all(&vec![b'a'; 70_000], OPEN), ["!too big inline request"]);
        let endless = [b"*1\r\n$".to_vec(), vec![b'1'; 70_000]].concat();
        assert_eq!(parse_all(&endless, OPEN), ["!too big bulk count string"]);
    }

    #[test]
    fn a_great_argument_says_how_much_room_it_wants() {
        let mut parser = Parser::default();
        assert_eq!(parser.parse(b"*2\r\n$3\r\nSET\r\n$1000000\r\nabc", OPEN), Parsed::Incomplete);
        assert_eq!(parser.wanted_bytes(), 4 + 9 + 10 + 1_000_002);
    }
}
