//! Reads a log back: commands, transactions as a whole, and timestamps; says where a torn tail begins, and tells it from
//! damage (see the `writer` module for the lines that make this possible).
//!
//! What stands in no checksummed batch (a file of Redis, or what Redis has appended to ours) is read as Redis does: a
//! file that ends inside a command or transaction is truncated, anything else that is not a command is a format error.
//! Once a file has shown checksummed batches, bad bytes are damage if a later batch proves that they had been synced,
//! and a torn tail otherwise.

use super::writer::HEADER_BYTES;
use memchr::memmem;
use std::fmt;
use std::io::{self, Read};

/// Redis reads annotations into a buffer of this size.
const LONGEST_ANNOTATION: usize = 1024;
/// Redis reads the lines before arguments into a buffer of this size.
const LONGEST_NUMBER_LINE: usize = 128;
const FIRST_READ: usize = 64 << 10;
/// Bytes of checksums computed at most to find a good batch behind bad bytes, as a multiple of the bytes searched. Past
/// it, the file is taken for damaged.
const SEARCH_FACTOR: usize = 4;
/// A batch larger than this is not tried as a proof of damage, lest a false header takes memory.
const LARGEST_PROOF: usize = 32 << 20;

/// Whether a file that begins with these bytes has an RDB part in front.
pub fn begins_with_rdb(first: &[u8]) -> bool {
    first.starts_with(b"REDIS")
}

/// A command of the log: its arguments, the name first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Command {
    /// The number of arguments, the name included.
    #[expect(clippy::len_without_is_empty, reason = "a command has at least its name")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The arguments, the name first.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|n| &self.bytes[if n == 0 { 0 } else { self.ends[n - 1] }..self.ends[n]])
    }

    /// Whether the name is this one, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.bytes[..self.ends[0]].eq_ignore_ascii_case(name.as_bytes())
    }
}

/// What the log says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A command on its own.
    Command(Command),
    /// The commands between MULTI and EXEC, which happened at once.
    Transaction(Vec<Command>),
    /// The commands that follow happened at this Unix time in seconds or later.
    Timestamp(i64),
}

/// What is wrong with a log, and where.
#[derive(Debug)]
pub struct AofError {
    /// Where the bad bytes were met.
    pub offset: u64,
    /// What they are.
    pub kind: AofErrorKind,
}

/// The kinds of [`AofError`].
#[derive(Debug)]
pub enum AofErrorKind {
    /// The system refused to read.
    Io(io::Error),
    /// A torn tail: cut there, the file is good.
    Truncated {
        /// The size to cut the file to.
        valid_up_to: u64,
        /// The file ends inside a transaction.
        in_multi: bool,
    },
    /// Bytes that are no command.
    Format,
    /// A batch is not what its checksum says, but commands follow where no batch begins: another server has cut the
    /// file here and gone on without checksums. Read again from here on by [`Reader::without_checksums`].
    Foreign,
    /// Bytes that were on disk once have changed.
    Damaged {
        /// A later batch that is whole and proves it.
        good_at: u64,
    },
}

impl fmt::Display for AofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match &self.kind {
            AofErrorKind::Io(error) => write!(f, "Unrecoverable error reading the append only file: {error}"),
            AofErrorKind::Truncated { valid_up_to, .. } => {
                write!(f, "Unexpected end of file at offset {offset}, valid up to offset {valid_up_to}")
            }
            AofErrorKind::Format => write!(f, "Bad file format at offset {offset}"),
            AofErrorKind::Foreign => write!(f, "Commands without checksums follow the torn batch at offset {offset}"),
            AofErrorKind::Damaged { good_at } => {
                write!(f, "Damaged batch at offset {offset} (the batch at offset {good_at} is good)")
            }
        }
    }
}

impl std::error::Error for AofError {}

/// Reads one file of the log, or the tail behind an RDB part.
pub struct Reader<R> {
    inner: R,
    window: Vec<u8>,
    /// `window[at..]` is not yet used.
    at: usize,
    /// Offset in the file of `window[0]`.
    start: u64,
    at_end: bool,
    /// Offset where the verified batch ends.
    verified_to: u64,
    /// A checksummed batch has been seen.
    checksums_seen: bool,
    /// Checksums are not looked at.
    ignores_checksums: bool,
    /// Where the open MULTI begins, and the commands since.
    multi: Option<(u64, Vec<Command>)>,
}

enum Parsed {
    Command(Command, usize),
    /// More bytes are needed.
    Incomplete,
    Bad,
}

impl<R: Read> Reader<R> {
    /// Reads `inner`, whose first byte stands at `offset` of the file.
    pub fn new(inner: R, offset: u64) -> Reader<R> {
        Reader {
            inner,
            window: Vec::new(),
            at: 0,
            start: offset,
            at_end: false,
            verified_to: 0,
            checksums_seen: false,
            ignores_checksums: false,
            multi: None,
        }
    }

    /// Reads as Redis does, for which lines with checksums are comments.
    pub fn without_checksums(inner: R, offset: u64) -> Reader<R> {
        Reader { ignores_checksums: true, ..Reader::new(inner, offset) }
    }

    /// Bytes used so far.
    pub fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// What comes next; `None` at a good end. After an error, nothing more must be asked for.
    pub fn item(&mut self) -> Result<Option<Item>, AofError> {
        loop {
            if self.at == self.window.len() && !self.more()? {
                return match &self.multi {
                    Some((start, _)) => Err(self.truncated(*start)),
                    None => Ok(None),
                };
            }
            let item = match self.window[self.at] {
                b'#' => self.annotation()?,
                b'*' => self.command()?,
                _ => return Err(self.bad()?),
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    fn annotation(&mut self) -> Result<Option<Item>, AofError> {
        let line_len = loop {
            let rest = &self.window[self.at..];
            if let Some(end) = rest.iter().take(LONGEST_ANNOTATION).position(|b| *b == b'\n') {
                break end + 1;
            }
            if rest.len() >= LONGEST_ANNOTATION {
                return Err(self.bad()?);
            }
            if !self.more()? {
                return Err(self.truncated(self.offset()));
            }
        };
        let line = &self.window[self.at..self.at + line_len];
        if let Some(text) = line.strip_prefix(b"#TS:") {
            let seconds = std::str::from_utf8(text.trim_ascii_end()).ok().and_then(|text| text.parse().ok());
            self.at += line_len;
            return Ok(seconds.map(Item::Timestamp));
        }
        if line.starts_with(b"#RC:") && !self.ignores_checksums {
            match BatchHeader::parse(line) {
                Some(batch) => self.verify(batch)?,
                None => return Err(self.torn_or_damaged()?),
            }
        }
        self.at += line_len;
        Ok(None)
    }

    /// Makes sure that the batch behind the header at the current place is whole.
    fn verify(&mut self, batch: BatchHeader) -> Result<(), AofError> {
        let end = HEADER_BYTES + batch.len;
        while self.window.len() - self.at < end {
            if !self.more()? {
                return Err(self.torn_or_damaged()?);
            }
        }
        if self.multi.is_some() {
            return Err(self.torn_or_damaged()?);
        }
        if !batch.covers(&self.window[self.at + HEADER_BYTES..]) {
            let offset = self.offset();
            let goes_on = self.goes_on_at(end)?;
            let verdict = self.torn_or_damaged()?;
            let torn = matches!(verdict.kind, AofErrorKind::Truncated { .. });
            return Err(if torn && goes_on { AofError { offset, kind: AofErrorKind::Foreign } } else { verdict });
        }
        self.checksums_seen = true;
        self.verified_to = self.offset() + end as u64;
        Ok(())
    }

    /// Whether something stands `ahead` bytes from here that is no annotation, as behind each batch of ours, and no page
    /// that has not reached the disk.
    fn goes_on_at(&mut self, ahead: usize) -> Result<bool, AofError> {
        while self.window.len() - self.at <= ahead {
            if !self.more()? {
                return Ok(false);
            }
        }
        Ok(!matches!(self.window[self.at + ahead], b'#' | 0))
    }

    fn command(&mut self) -> Result<Option<Item>, AofError> {
        let (command, used) = loop {
            match parse_command(&self.window[self.at..]) {
                Parsed::Command(command, used) => break (command, used),
                Parsed::Bad => return Err(self.bad()?),
                Parsed::Incomplete if self.more()? => {}
                Parsed::Incomplete if self.checksums_seen => return Err(self.torn_or_damaged()?),
                Parsed::Incomplete => return Err(self.truncated(self.good_to())),
            }
        };
        let offset = self.offset();
        self.at += used;
        if command.is("multi") {
            if self.multi.is_some() {
                return Err(AofError { offset, kind: AofErrorKind::Format });
            }
            self.multi = Some((offset, Vec::new()));
            return Ok(None);
        }
        if command.is("exec") {
            let Some((_, commands)) = self.multi.take() else {
                return Err(AofError { offset, kind: AofErrorKind::Format });
            };
            return Ok(Some(Item::Transaction(commands)));
        }
        match &mut self.multi {
            Some((_, commands)) => {
                commands.push(command);
                Ok(None)
            }
            None => Ok(Some(Item::Command(command))),
        }
    }

    /// Where the last thing that is good by itself ends.
    fn good_to(&self) -> u64 {
        self.multi.as_ref().map_or_else(|| self.offset(), |(start, _)| *start)
    }

    fn truncated(&self, valid_up_to: u64) -> AofError {
        let kind = AofErrorKind::Truncated { valid_up_to, in_multi: self.multi.is_some() };
        AofError { offset: self.offset(), kind }
    }

    /// Judges bytes that are no command.
    fn bad(&mut self) -> Result<AofError, AofError> {
        let format = AofError { offset: self.offset(), kind: AofErrorKind::Format };
        if self.offset() < self.verified_to {
            return Ok(format);
        }
        // Nobody writes zeros here: a page that was to be written has not reached the disk.
        let unwritten = self.window[self.at] == 0;
        let verdict = self.torn_or_damaged()?;
        let torn = matches!(verdict.kind, AofErrorKind::Truncated { .. });
        Ok(if torn && !self.checksums_seen && !unwritten { format } else { verdict })
    }

    /// Judges bytes that should have been good: looks for a later batch that proves that they were on disk once.
    fn torn_or_damaged(&mut self) -> Result<AofError, AofError> {
        let verdict = self.truncated(self.good_to());
        let (mut searched, mut summed) = (1, 0);
        self.at += 1;
        loop {
            let rest = &self.window[self.at..];
            let Some(found) = memmem::find(rest, b"#RC:") else {
                let passed = rest.len().saturating_sub(HEADER_BYTES);
                self.at += passed;
                searched += passed;
                if self.more()? {
                    continue;
                }
                return Ok(verdict);
            };
            self.at += found;
            searched += found + 1;
            while self.window.len() - self.at < HEADER_BYTES && self.more()? {}
            let header = self.window.get(self.at..self.at + HEADER_BYTES).and_then(BatchHeader::parse);
            let Some(batch) = header.filter(|batch| batch.synced_before && batch.len <= LARGEST_PROOF) else {
                self.at += 1;
                continue;
            };
            while self.window.len() - self.at < HEADER_BYTES + batch.len && self.more()? {}
            summed += batch.len.min(self.window.len());
            if summed / SEARCH_FACTOR > searched + LARGEST_PROOF || batch.covers(&self.window[self.at + HEADER_BYTES..])
            {
                return Ok(AofError { offset: verdict.offset, kind: AofErrorKind::Damaged { good_at: self.offset() } });
            }
            self.at += 1;
        }
    }

    /// Reads as much again as the window holds; false at the end of the file.
    fn more(&mut self) -> Result<bool, AofError> {
        if self.at_end {
            return Ok(false);
        }
        self.forget_used();
        let wanted = self.window.len().max(FIRST_READ);
        let read = self.inner.by_ref().take(wanted as u64).read_to_end(&mut self.window);
        let read = read.map_err(|error| AofError { offset: self.offset(), kind: AofErrorKind::Io(error) })?;
        self.at_end = read == 0;
        Ok(read > 0)
    }

    fn forget_used(&mut self) {
        self.window.drain(..self.at);
        self.start += self.at as u64;
        self.at = 0;
    }
}

/// The line in front of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    crc: u32,
    len: usize,
    synced_before: bool,
}

impl BatchHeader {
    /// Reads the line, its end included; `None` if it is none of these.
    pub fn parse(line: &[u8]) -> Option<BatchHeader> {
        let line: &[u8; HEADER_BYTES] = line.try_into().ok()?;
        let text = std::str::from_utf8(line.strip_prefix(b"#RC:")?.strip_suffix(b"\r\n")?).ok()?;
        let (crc, rest) = text.split_once(' ')?;
        let (len, mark) = rest.split_once(' ')?;
        let crc = u32::from_str_radix(crc, 16).ok()?;
        Some(BatchHeader { crc, len: len.parse().ok()?, synced_before: mark == "s" })
    }

    /// The CRC-32 of the batch.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The size of the batch in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a batch of no bytes is never written")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether `bytes` begin with the whole batch, unchanged.
    fn covers(&self, bytes: &[u8]) -> bool {
        bytes.get(..self.len).is_some_and(|batch| crc32fast::hash(batch) == self.crc)
    }
}

fn parse_command(bytes: &[u8]) -> Parsed {
    let (argc, mut at) = match parse_number(bytes, b'*') {
        Number::Is(argc, used) if argc > 0 => (argc, used),
        Number::Incomplete => return Parsed::Incomplete,
        _ => return Parsed::Bad,
    };
    // Each argument takes five bytes at least, so that this reserves no more than the bytes that are there.
    let mut command = Command { bytes: Vec::new(), ends: Vec::with_capacity(argc.min(bytes.len() / 5)) };
    let mut spans = Vec::with_capacity(command.ends.capacity());
    for _ in 0..argc {
        let (len, used) = match parse_number(&bytes[at..], b'$') {
            Number::Is(len, used) => (len, used),
            Number::Incomplete => return Parsed::Incomplete,
            Number::Bad => return Parsed::Bad,
        };
        at += used;
        let Some(end) = at.checked_add(len).and_then(|end| end.checked_add(2)) else { return Parsed::Bad };
        if end > bytes.len() {
            return Parsed::Incomplete;
        }
        if bytes[end - 2..end] != *b"\r\n" {
            return Parsed::Bad;
        }
        spans.push(at..end - 2);
        at = end;
    }
    command.bytes.reserve_exact(spans.iter().map(|span| span.len()).sum());
    for span in spans {
        command.bytes.extend_from_slice(&bytes[span]);
        command.ends.push(command.bytes.len());
    }
    Parsed::Command(command, at)
}

enum Number {
    Is(usize, usize),
    Incomplete,
    Bad,
}

/// The number in a line that begins with `prefix`, and the size of the line.
fn parse_number(bytes: &[u8], prefix: u8) -> Number {
    match bytes.first() {
        None => return Number::Incomplete,
        Some(first) if *first != prefix => return Number::Bad,
        Some(_) => {}
    }
    let Some(end) = bytes.iter().take(LONGEST_NUMBER_LINE).position(|b| *b == b'\n') else {
        return if bytes.len() < LONGEST_NUMBER_LINE { Number::Incomplete } else { Number::Bad };
    };
    let digits = &bytes[1..end];
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if !digits.iter().all(u8::is_ascii_digit) {
        return Number::Bad;
    }
    match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
        Some(number) => Number::Is(number, end + 1),
        None => Number::Bad,
    }
}
