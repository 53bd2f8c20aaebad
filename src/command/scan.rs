//! What SCAN, HSCAN, SSCAN and ZSCAN have in common: cursor, MATCH and COUNT.

use crate::command::args::Args;
use crate::command::error::{CmdError, CmdResult};
use crate::resp::reply::Reply;
use crate::util::glob;

/// The options of one step of a scan.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    /// About how many elements to look at; at least 1.
    count: usize,
}

/// Reads a cursor as C's strtoul does: decimal, a sign allowed, no digits at all mean 0, a NUL is the end.
pub fn parse_cursor(text: &[u8]) -> CmdResult<u64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if text.is_empty() {
        return Ok(0);
    }
    let value = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let value = value.and_then(|digits| digits.parse::<u64>().ok());
    let value = value.ok_or(CmdError::Text("ERR invalid cursor"))?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

impl<'a> ScanOptions<'a> {
    /// No pattern, and Redis's count of 10.
    pub fn new() -> Self {
        Self { pattern: None, count: 10 }
    }

    /// Reads `[MATCH pattern] [COUNT count]`, all that is left of the arguments.
    pub fn parse(args: &mut Args<'a>) -> CmdResult<Self> {
        let mut options = Self::new();
        while !args.is_empty() {
            if !options.take(args)? {
                return Err(CmdError::Syntax);
            }
        }
        Ok(options)
    }

    /// Takes the next option if it is one of these.
    pub fn take(&mut self, args: &mut Args<'a>) -> CmdResult<bool> {
        if args.remaining() >= 2 && args.flag("COUNT") {
            let count = args.int()?;
            self.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(CmdError::Syntax)?;
        } else if args.remaining() >= 2 && args.flag("MATCH") {
            self.pattern = Some(args.bytes()?).filter(|pattern| *pattern != b"*");
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether an element is wanted.
    pub fn wants(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, element))
    }

    /// Steps on from `cursor` until about as many elements as asked for were looked at, or many places were empty.
    /// `step` takes a cursor and returns the next one and how many elements it has looked at. Returns the cursor for
    /// the client, 0 at the end.
    pub fn run(&self, mut cursor: u64, mut step: impl FnMut(u64) -> (u64, usize)) -> u64 {
        let mut seen = 0;
        for _ in 0..self.count.saturating_mul(10) {
            let (next, found) = step(cursor);
            cursor = next;
            seen += found;
            if cursor == 0 || seen >= self.count {
                break;
            }
        }
        cursor
    }
}

/// What one step over the elements of a collection has found for its client.
pub struct Found<'a, 'r> {
    options: ScanOptions<'a>,
    seen: usize,
    len: usize,
    reply: &'r mut Reply,
}

impl Found<'_, '_> {
    /// Takes one element; `write` puts it into the reply if its name is wanted and answers how many replies that made.
    pub fn take(&mut self, name: &[u8], write: impl FnOnce(&mut Reply) -> usize) {
        self.seen += 1;
        if self.options.wants(name) {
            self.len += write(self.reply);
        }
    }
}

/// Answers HSCAN, SSCAN or ZSCAN: an array of the next cursor and an array of what was found. `step` scans from a
/// cursor, shows each element to [`Found::take`] and returns the next cursor.
pub fn reply_with_found(
    reply: &mut Reply,
    options: ScanOptions<'_>,
    cursor: u64,
    mut step: impl FnMut(u64, &mut Found<'_, '_>) -> u64,
) {
    reply.array(2);
    let (whole, elements) = (reply.begin(), reply.begin());
    let mut found = Found { options, seen: 0, len: 0, reply };
    let next = options.run(cursor, |cursor| {
        let before = found.seen;
        (step(cursor, &mut found), found.seen - before)
    });
    let len = found.len;
    reply.end_array(elements, len);
    reply.end_with_bulk(whole, itoa::Buffer::new().format(next).as_bytes());
}

/// Answers HSCAN, SSCAN or ZSCAN of a key that is not there.
pub fn reply_with_nothing(reply: &mut Reply) {
    reply.array(2);
    reply.bulk(b"0");
    reply.array(0);
}

impl Default for ScanOptions<'_> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors() {
        assert_eq!(parse_cursor(b""), Ok(0));
        assert_eq!(parse_cursor(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_cursor(b"-1"), Ok(u64::MAX));
        for wrong in [&b"-"[..], b" 1", b"1 ", b"x", b"18446744073709551616", b"+-1"] {
            assert!(parse_cursor(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_step_ends_with_enough_elements_or_at_the_end() {
        let options = ScanOptions { pattern: None, count: 4 };
        assert_eq!(options.run(0, |cursor| (cursor + 1, 2)), 2);
        assert_eq!(options.run(0, |cursor| (cursor + 1, 0)), 40);
        assert_eq!(options.run(7, |_| (0, 1)), 0);
        let endless = ScanOptions { pattern: None, count: usize::MAX };
        assert_eq!(endless.run(0, |cursor| ((cursor + 1) % 1000, 1)), 0);
    }
}
