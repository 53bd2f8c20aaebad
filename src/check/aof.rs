//! `redis-check-aof`: the files that a manifest names, or one file. Source: Redis 7.2 redis-check-aof.c.
//!
//! Beside Redis's rules, a batch whose checksum line (see `persistence::aof`) does not fit is bad, as it is when loading.

use super::console::Console;
use super::{len, rdb};
use crate::aof::appender::os_text;
use redstart_persistence::aof::{BatchHeader, FileInfo, Manifest, begins_with_rdb};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What to do beside looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Look,
    /// Cut what is bad off the last file, after asking.
    Fix,
    /// Cut off the last file what happened after this Unix time in seconds.
    CutAfter(i64),
}

/// Checks the log at `path`; whether it is sound now.
pub(super) fn check(console: &mut Console, path: &Path, wish: Wish) -> io::Result<bool> {
    let mut run = Run { console, wish, line: 1 };
    let shown = path.display().to_string();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            run.console.line(format_args!("Cannot open file {shown}: {}", os_text(&error)))?;
            return Ok(false);
        }
    };
    if is_manifest(&file)? {
        return run.multi_part(path, file);
    }
    run.console.line("Start checking Old-Style AOF")?;
    let has_rdb = has_rdb_part(&file)?;
    let Some(outcome) = run.file(&shown, path, true, has_rdb)? else { return Ok(false) };
    run.tell(outcome, &shown, "AOF")?;
    Ok(true)
}

/// How the check of one file ended, if not badly.
enum Outcome {
    Good,
    Empty,
    Cut,
    CutToTimestamp(i64),
}

struct Run<'a, 'c> {
    console: &'a mut Console<'c>,
    wish: Wish,
    /// Lines of commands so far, over all files.
    line: u64,
}

impl Run<'_, '_> {
    fn multi_part(&mut self, path: &Path, mut file: File) -> io::Result<bool> {
        self.console.line("Start checking Multi Part AOF")?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(LARGEST_MANIFEST).read_to_end(&mut bytes)?;
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.console.line(error)?;
                return Ok(false);
            }
        };
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let mut left = manifest.files_to_load().count();
        if let Some(info) = &manifest.base {
            left -= 1;
            let Some(has_rdb) = self.announce_base(&dir.join(&info.name))? else { return Ok(false) };
            if !self.part(dir, info, left == 0, has_rdb, "BASE AOF")? {
                return Ok(false);
            }
        }
        if !manifest.incr.is_empty() {
            self.console.line("Start to check INCR files.")?;
        }
        for info in &manifest.incr {
            left -= 1;
            if !self.part(dir, info, left == 0, false, "INCR AOF")? {
                return Ok(false);
            }
        }
        self.console.line("All AOF files and manifest are valid")?;
        Ok(true)
    }

    /// Says how the base is written: whether it has an RDB part, or `None` if it is not there.
    fn announce_base(&mut self, path: &Path) -> io::Result<Option<bool>> {
        match File::open(path) {
            Ok(file) => {
                let has_rdb = has_rdb_part(&file)?;
                let format = if has_rdb { "RDB" } else { "RESP" };
                self.console.line(format_args!("Start to check BASE AOF ({format} format)."))?;
                Ok(Some(has_rdb))
            }
            Err(error) => {
                self.console.line(format_args!("Cannot open file {}: {}", path.display(), os_text(&error)))?;
                Ok(None)
            }
        }
    }

    fn part(&mut self, dir: &Path, info: &FileInfo, is_last: bool, has_rdb: bool, kind: &str) -> io::Result<bool> {
        let outcome = self.file(&info.name, &dir.join(&info.name), is_last, has_rdb)?;
        outcome.map(|outcome| self.tell(outcome, &info.name, kind)).transpose().map(|told| told.is_some())
    }

    fn tell(&mut self, outcome: Outcome, name: &str, kind: &str) -> io::Result<()> {
        match outcome {
            Outcome::Good => self.console.line(format_args!("{kind} {name} is valid")),
            Outcome::Empty => self.console.line(format_args!("{kind} {name} is empty")),
            Outcome::Cut => self.console.line(format_args!("Successfully truncated AOF {name}")),
            Outcome::CutToTimestamp(timestamp) => {
                self.console.line(format_args!("Successfully truncated AOF {name} to timestamp {timestamp}"))
            }
        }
    }

    /// Checks one file; `None` if it is bad and stays so.
    fn file(&mut self, name: &str, path: &Path, is_last: bool, has_rdb: bool) -> io::Result<Option<Outcome>> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) => {
                let (path, reason) = (path.display(), os_text(&error));
                self.console.line(format_args!("Cannot open file {path}: {reason}, aborting..."))?;
                return Ok(None);
            }
        };
        let size = len(&file)?;
        if size == 0 {
            return Ok(Some(Outcome::Empty));
        }
        let mut tail_at = 0;
        if has_rdb {
            let Some(end) = rdb::check(self.console, path.as_os_str().as_bytes(), &file, size)? else {
                self.console.line("RDB preamble of AOF file is not sane, aborting.")?;
                return Ok(None);
            };
            self.console.line("RDB preamble is OK, proceeding with AOF tail...")?;
            tail_at = end;
        }
        file.seek(SeekFrom::Start(tail_at))?;
        self.console.begin(size);
        let mut scan = Scan::new(BufReader::with_capacity(READ_BYTES, &file), tail_at, self.line, path);
        let stopped_at = scan.run(self.console, self.wish)?;
        self.line = scan.line;
        let (error, good_to) = (scan.error.take(), scan.good_to);
        match stopped_at {
            Stop::Reached(at) => return self.cut_to_timestamp(&file, path, at, is_last),
            Stop::BadTimestamp => {
                self.console.line("Invalid timestamp annotation")?;
                return Ok(None);
            }
            Stop::End => {}
        }
        if let Some(error) = error {
            self.console.line(error)?;
        }
        self.conclude(&file, name, size, good_to, is_last)
    }

    fn conclude(
        &mut self,
        file: &File,
        name: &str,
        size: u64,
        good_to: u64,
        is_last: bool,
    ) -> io::Result<Option<Outcome>> {
        let diff = size.saturating_sub(good_to);
        if let (0, Wish::CutAfter(timestamp)) = (diff, self.wish) {
            self.console.line(format_args!("Truncate nothing in AOF {name} to timestamp {timestamp}"))?;
            return Ok(Some(Outcome::Good));
        }
        let line = self.line;
        self.console.line(format_args!(
            "AOF analyzed: filename={name}, size={size}, ok_up_to={good_to}, ok_up_to_line={line}, diff={diff}"
        ))?;
        if diff == 0 {
            return Ok(Some(Outcome::Good));
        }
        if self.wish != Wish::Fix {
            self.console.line(format_args!("AOF {name} is not valid. Use the --fix option to try fixing it."))?;
            return Ok(None);
        }
        if !is_last {
            self.console.line(format_args!("Failed to truncate AOF {name} because it is not the last file"))?;
            return Ok(None);
        }
        self.console.line(format_args!(
            "This will shrink the AOF {name} from {size} bytes, with {diff} bytes, to {good_to} bytes"
        ))?;
        if !self.console.agrees("Continue? [y/N]: ")? {
            self.console.line("Aborting...")?;
            return Ok(None);
        }
        if file.set_len(good_to).and_then(|()| file.sync_all()).is_err() {
            self.console.line(format_args!("Failed to truncate AOF {name}"))?;
            return Ok(None);
        }
        Ok(Some(Outcome::Cut))
    }

    fn cut_to_timestamp(&mut self, file: &File, path: &Path, at: u64, is_last: bool) -> io::Result<Option<Outcome>> {
        let Wish::CutAfter(timestamp) = self.wish else { return Ok(None) };
        let (shown, console) = (path.display(), &mut *self.console);
        if at == 0 {
            console.line(format_args!("AOF {shown} has nothing before timestamp {timestamp}, aborting..."))?;
            return Ok(None);
        }
        if !is_last {
            console.line(format_args!(
                "Failed to truncate AOF {shown} to timestamp {timestamp} to offset {at} because it is not the last file."
            ))?;
            console.line(
                "If you insist, please delete all files after this file according to the manifest file and delete the \
                 corresponding records in manifest file manually. Then re-run redis-check-aof.",
            )?;
            return Ok(None);
        }
        if file.set_len(at).and_then(|()| file.sync_all()).is_err() {
            console.line(format_args!("Failed to truncate AOF {shown} to timestamp {timestamp}"))?;
            return Ok(None);
        }
        Ok(Some(Outcome::CutToTimestamp(timestamp)))
    }
}

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// Redis reads lines with numbers into a buffer of this size.
const LONGEST_NUMBER_LINE: usize = 128;
/// Redis reads annotations into a buffer of this size.
const LONGEST_ANNOTATION: usize = 1024;
/// Bytes of an argument that are looked at: names of commands are shorter.
const KEPT: u64 = 64;
/// No manifest comes near: a line is at most 1024 bytes, and few files are listed.
const LARGEST_MANIFEST: u64 = 16 << 20;

/// Walks through the commands of one file.
struct Scan<'p, R> {
    file: BufReader<R>,
    path: &'p Path,
    /// Bytes used.
    at: u64,
    /// Where the command or transaction begins that is not yet complete.
    good_to: u64,
    line: u64,
    in_multi: bool,
    /// Where the line or argument begins that was read last.
    last_at: u64,
    /// What is wrong, and where.
    error: Option<String>,
    /// The batch being read.
    batch: Option<Batch>,
}

struct Batch {
    header: BatchHeader,
    header_at: u64,
    end: u64,
    crc: crc32fast::Hasher,
}

/// The file is not good beyond `good_to`.
struct Bad;

/// Why a walk ended.
enum Stop {
    /// At the end, or at what is bad.
    End,
    /// At this offset stands the first timestamp behind which everything is to go.
    Reached(u64),
    /// At a timestamp that is none, while one is looked for.
    BadTimestamp,
}

impl<'p, R: Read> Scan<'p, R> {
    fn new(file: BufReader<R>, at: u64, line: u64, path: &'p Path) -> Self {
        Scan { file, path, at, good_to: at, line, in_multi: false, last_at: at, error: None, batch: None }
    }

    /// Reads up to the end or what is bad.
    fn run(&mut self, console: &mut Console, wish: Wish) -> io::Result<Stop> {
        loop {
            console.progress(self.at);
            if self.end_batch()?.is_err() {
                return Ok(Stop::End);
            }
            if !self.in_multi && self.batch.is_none() {
                self.good_to = self.at;
            }
            let at = self.at;
            let read = match self.file.fill_buf()?.first() {
                None => Err(Bad),
                Some(b'#') => {
                    let line = self.annotation()?;
                    match timestamp_to_obey(&line, wish) {
                        Some(Ok(true)) => return Ok(Stop::Reached(at)),
                        Some(Err(Bad)) => return Ok(Stop::BadTimestamp),
                        _ => self.batch_header(at, &line),
                    }
                }
                Some(b'*') => self.command()?,
                Some(_) => {
                    self.error = Some(format!("AOF {} format error", self.path.display()));
                    Err(Bad)
                }
            };
            if read.is_err() {
                self.explain_end()?;
                return Ok(Stop::End);
            }
        }
    }

    /// If the file has ended too early, says what is missing.
    fn explain_end(&mut self) -> io::Result<()> {
        if self.error.is_some() || !self.file.fill_buf()?.is_empty() {
            return Ok(());
        }
        if self.in_multi {
            self.fail("Reached EOF before reading EXEC for MULTI");
        } else if let Some(batch) = self.batch.take() {
            self.last_at = batch.header_at;
            self.fail(&format!("Reached EOF before the end of a batch of {} bytes", batch.header.len()));
        }
        Ok(())
    }

    fn fail(&mut self, text: &str) {
        self.error = Some(format!("0x{:16x}: {text}", self.last_at));
    }

    /// At the end of a batch, compares its checksum.
    fn end_batch(&mut self) -> io::Result<Result<(), Bad>> {
        let Some(batch) = self.batch.take_if(|batch| self.at >= batch.end) else { return Ok(Ok(())) };
        if self.at == batch.end && batch.crc.finalize() == batch.header.crc() {
            return Ok(Ok(()));
        }
        let next = self.file.fill_buf()?.first().copied();
        if self.at > batch.end || next.is_some_and(|next| next != b'#' && next != 0) {
            // Another server has cut the batch and gone on behind it: nothing here is covered by its checksum.
            return Ok(Ok(()));
        }
        self.last_at = batch.header_at;
        self.fail(&format!("The checksum of a batch of {} bytes does not fit", batch.header.len()));
        Ok(Err(Bad))
    }

    fn annotation(&mut self) -> io::Result<Vec<u8>> {
        self.last_at = self.at;
        let mut line = Vec::new();
        self.read_line(&mut line, LONGEST_ANNOTATION - 1)?;
        Ok(line)
    }

    /// Begins a batch if the annotation at `at` says so.
    fn batch_header(&mut self, at: u64, line: &[u8]) -> Result<(), Bad> {
        if !line.ends_with(b"\n") {
            return Err(Bad);
        }
        if !line.starts_with(b"#RC:") {
            return Ok(());
        }
        let Some(header) = BatchHeader::parse(line).filter(|_| self.batch.is_none() && !self.in_multi) else {
            self.fail("A line with a checksum does not belong here");
            return Err(Bad);
        };
        let end = self.at.saturating_add(header.len() as u64);
        self.batch = Some(Batch { header, header_at: at, end, crc: crc32fast::Hasher::new() });
        Ok(())
    }

    fn command(&mut self) -> io::Result<Result<(), Bad>> {
        let Some(argc) = self.number(b'*')? else { return Ok(Err(Bad)) };
        for n in 0..argc {
            if self.argument(n == 0)?.is_err() {
                return Ok(Err(Bad));
            }
        }
        Ok(Ok(()))
    }

    /// Skips an argument; the first is the name.
    fn argument(&mut self, is_name: bool) -> io::Result<Result<(), Bad>> {
        let Some(len) = self.number(b'$')? else { return Ok(Err(Bad)) };
        if !(0..=i64::MAX - 2).contains(&len) {
            let text = format!("Expected to read string of {len} bytes, which is not in the suitable range");
            self.fail(&text);
            return Ok(Err(Bad));
        }
        self.last_at = self.at;
        let mut kept = Vec::new();
        let wanted = len.unsigned_abs() + 2;
        self.skip(wanted, &mut kept)?;
        let got = self.at - self.last_at;
        if got != wanted {
            self.fail(&format!("Expected to read {wanted} bytes, got {got} bytes"));
            return Ok(Err(Bad));
        }
        let end: [u8; 2] = [kept[kept.len() - 2], kept[kept.len() - 1]];
        if self.newline(end).is_err() {
            return Ok(Err(Bad));
        }
        Ok(if is_name && wanted <= KEPT { self.name(&kept) } else { Ok(()) })
    }

    /// Follows transactions.
    fn name(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        let name = super::c_text(&bytes[..bytes.len() - 2]);
        let (is_multi, is_exec) = (name.eq_ignore_ascii_case(b"multi"), name.eq_ignore_ascii_case(b"exec"));
        if is_multi && self.in_multi || is_exec && !self.in_multi {
            let text = format!("Unexpected {} in AOF {}", if is_multi { "MULTI" } else { "EXEC" }, self.path.display());
            self.fail(&text);
            return Err(Bad);
        }
        self.in_multi = is_multi || self.in_multi && !is_exec;
        Ok(())
    }

    /// The number in a line that begins with `prefix`; `None` is bad, or the end.
    fn number(&mut self, prefix: u8) -> io::Result<Option<i64>> {
        self.last_at = self.at;
        let mut line = Vec::new();
        self.read_line(&mut line, LONGEST_NUMBER_LINE - 1)?;
        let Some((first, rest)) = line.split_first() else { return Ok(None) };
        if *first != prefix {
            let (prefix, first) = (char::from(prefix), char::from(*first));
            self.fail(&format!("Expected prefix '{prefix}', got: '{first}'"));
            return Ok(None);
        }
        let (number, used) = leading_number(rest);
        let byte = |n: usize| rest.get(used + n).copied().unwrap_or(0);
        Ok(self.newline([byte(0), byte(1)]).is_ok().then_some(number))
    }

    fn newline(&mut self, [first, second]: [u8; 2]) -> Result<(), Bad> {
        if [first, second] != *b"\r\n" {
            self.fail(&format!("Expected \\r\\n, got: {first:02x}{second:02x}"));
            return Err(Bad);
        }
        self.line += 1;
        Ok(())
    }

    /// Reads up to the end of the line, at most `longest` bytes.
    fn read_line(&mut self, line: &mut Vec<u8>, longest: usize) -> io::Result<()> {
        while line.len() < longest {
            let ready = self.file.fill_buf()?;
            if ready.is_empty() {
                return Ok(());
            }
            let ready = &ready[..ready.len().min(longest - line.len())];
            let end = ready.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let used = end.unwrap_or(ready.len());
            line.extend_from_slice(&ready[..used]);
            self.use_bytes(used)?;
            if end.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Skips up to `wanted` bytes; `kept` gets the last two, and all of them if they are at most [`KEPT`].
    fn skip(&mut self, wanted: u64, kept: &mut Vec<u8>) -> io::Result<()> {
        let mut left = wanted;
        while left > 0 {
            let ready = self.file.fill_buf()?;
            if ready.is_empty() {
                return Ok(());
            }
            let used = ready.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            kept.extend_from_slice(&ready[..used]);
            if kept.len() as u64 > KEPT {
                kept.drain(..kept.len() - 2);
            }
            self.use_bytes(used)?;
            left -= used as u64;
        }
        Ok(())
    }

    /// Uses bytes that are in the buffer.
    fn use_bytes(&mut self, used: usize) -> io::Result<()> {
        if let Some(batch) = &mut self.batch {
            let covered = usize::try_from(batch.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
            batch.crc.update(&self.file.fill_buf()?[..used.min(covered)]);
        }
        self.at += used as u64;
        self.file.consume(used);
        Ok(())
    }
}

/// Whether everything behind this annotation is to go, if it is a timestamp and one is looked for.
fn timestamp_to_obey(annotation: &[u8], wish: Wish) -> Option<Result<bool, Bad>> {
    let Wish::CutAfter(limit) = wish else { return None };
    let text = annotation.strip_prefix(b"#TS:")?;
    let number = text.strip_suffix(b"\r\n").and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    Some(number.map(|timestamp| timestamp > limit).ok_or(Bad))
}

/// The number that `text` begins with, as C's `strtol` reads it, and its length.
fn leading_number(text: &[u8]) -> (i64, usize) {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let digits = text[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return (0, 0);
    }
    let negative = text[0] == b'-';
    let limit = if negative { i64::MIN } else { i64::MAX };
    let number = std::str::from_utf8(&text[..sign + digits]).ok().and_then(|text| text.parse().ok());
    (number.unwrap_or(limit), sign + digits)
}

fn has_rdb_part(mut file: &File) -> io::Result<bool> {
    let mut first = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(8).read_to_end(&mut first)?;
    // Anything shorter has no room for a version.
    Ok(first.len() == 8 && begins_with_rdb(&first))
}

/// Whether the first line that is no comment begins as those of a manifest do.
fn is_manifest(file: &File) -> io::Result<bool> {
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut lines).take(LONGEST_ANNOTATION as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        if !line.starts_with(b"#") {
            return Ok(line.starts_with(b"file"));
        }
    }
}
