//! Reads a log from end to end and offers to cut a torn tail.

use super::rdb::{RdbCheck, check_rdb};
use crate::aof::{AofErrorKind, Manifest, Reader, begins_with_rdb};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Redis reads a number's line into a buffer of this size, the closing zero included.
const NUMBER_LINE: usize = 128;
/// Likewise an annotation.
const ANNOTATION_LINE: usize = 1024;

/// What the check of a log needs from outside.
pub struct AofCheck<'a, 'b> {
    /// Offer to cut what is bad at the end.
    pub fix: bool,
    /// Cut the log at the first timestamp later than this Unix time in seconds.
    pub truncate_to_s: Option<i64>,
    /// Where the answer to the offer is read from.
    pub answers: &'a mut dyn BufRead,
    /// For a part in RDB format.
    pub rdb: &'a mut RdbCheck<'b>,
}

/// `redis-check-aof [--fix|--truncate-to-timestamp <s>] <file>`: runs the whole program and gives its exit code.
/// `args[0]` is the program's name; the choices in `check` are taken from the arguments.
pub fn aof_main(args: &[String], check: &mut AofCheck<'_, '_>, out: &mut dyn Write) -> io::Result<i32> {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let name = match words[..] {
        [name] => name,
        ["--fix", name] => {
            check.fix = true;
            name
        }
        ["--truncate-to-timestamp", seconds, name] => {
            let Ok(seconds) = seconds.parse() else {
                writeln!(out, "Invalid timestamp, aborting...")?;
                return Ok(1);
            };
            // 0 is no timestamp, as in Redis.
            check.truncate_to_s = Some(seconds).filter(|seconds| *seconds != 0);
            name
        }
        _ => {
            let program = args.first().map_or("redis-check-aof", |name| name);
            writeln!(out, "Usage: {program} [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>")?;
            return Ok(1);
        }
    };
    check_aof(name, check, out)
}

/// Checks the log at the path `name`: a manifest with all its files, or one file of any age. Gives the exit code.
/// Errors are those of `out`.
pub fn check_aof(name: &str, check: &mut AofCheck<'_, '_>, out: &mut dyn Write) -> io::Result<i32> {
    let mut session = Session { check, out, line: 1 };
    match session.any_file(name) {
        Ok(()) => Ok(0),
        Err(Stop::Exit) => Ok(1),
        Err(Stop::Output(error)) => Err(error),
    }
}

enum Stop {
    /// All has been said; the exit code is 1.
    Exit,
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

/// What a single file turned out to be.
enum Verdict {
    Valid,
    Empty,
    Cut,
    CutToTimestamp,
}

struct Session<'a, 'b, 'c, 'd> {
    check: &'a mut AofCheck<'b, 'c>,
    out: &'d mut dyn Write,
    /// Lines of the protocol read so far, over all files.
    line: u64,
}

impl Session<'_, '_, '_, '_> {
    fn any_file(&mut self, name: &str) -> Result<(), Stop> {
        let first = self.first_bytes(name)?;
        let first_line = first.split(|b| *b == b'\n').find(|line| !line.starts_with(b"#"));
        if first_line.is_some_and(|line| line.starts_with(b"file")) {
            return self.multi_part(name);
        }
        writeln!(self.out, "Start checking Old-Style AOF")?;
        let verdict = self.one_file(name, Path::new(name), true, begins_with_rdb(&first))?;
        self.report(&verdict, "AOF", name)
    }

    fn multi_part(&mut self, name: &str) -> Result<(), Stop> {
        writeln!(self.out, "Start checking Multi Part AOF")?;
        let manifest = std::fs::read(name).map_err(|error| error.to_string());
        let manifest = manifest.and_then(|bytes| Manifest::parse(&bytes).map_err(|error| error.to_string()));
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(text) => return Err(self.stop(&text)),
        };
        let dir = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
        let total = manifest.files_to_load().count();
        if let Some(base) = &manifest.base {
            let path = dir.join(&base.name);
            let rdb = begins_with_rdb(&self.first_bytes(&path.to_string_lossy())?);
            writeln!(self.out, "Start to check BASE AOF ({} format).", if rdb { "RDB" } else { "RESP" })?;
            let verdict = self.one_file(&base.name, &path, total == 1, rdb)?;
            self.report(&verdict, "BASE AOF", &base.name)?;
        }
        if !manifest.incr.is_empty() {
            writeln!(self.out, "Start to check INCR files.")?;
        }
        for (n, incr) in manifest.incr.iter().enumerate() {
            let verdict = self.one_file(&incr.name, &dir.join(&incr.name), n + 1 == manifest.incr.len(), false)?;
            self.report(&verdict, "INCR AOF", &incr.name)?;
        }
        writeln!(self.out, "All AOF files and manifest are valid")?;
        Ok(())
    }

    fn report(&mut self, verdict: &Verdict, kind: &str, name: &str) -> Result<(), Stop> {
        match verdict {
            Verdict::Valid => writeln!(self.out, "{kind} {name} is valid")?,
            Verdict::Empty => writeln!(self.out, "{kind} {name} is empty")?,
            Verdict::Cut => writeln!(self.out, "Successfully truncated AOF {name}")?,
            Verdict::CutToTimestamp => {
                let seconds = self.check.truncate_to_s.unwrap_or_default();
                writeln!(self.out, "Successfully truncated AOF {name} to timestamp {seconds}")?;
            }
        }
        Ok(())
    }

    fn one_file(&mut self, name: &str, path: &Path, is_last: bool, rdb: bool) -> Result<Verdict, Stop> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) => {
                let text = format!("Cannot open file {}: {}, aborting...", path.display(), os_text(&error));
                return Err(self.stop(&text));
            }
        };
        let size = self.or_stop(file.metadata(), "Cannot stat file")?.len();
        if size == 0 {
            return Ok(Verdict::Empty);
        }
        let tail_at = if rdb { self.preamble(&mut file, path)? } else { 0 };
        self.or_stop(file.seek(SeekFrom::Start(tail_at)), "Cannot seek in file")?;
        let mut scan = Scan {
            file: BufReader::new(file),
            at: tail_at,
            at_end: false,
            piece_at: tail_at,
            complaint: None,
            line: self.line,
        };
        let scanned = scan.run(name, self.check.truncate_to_s);
        self.line = scan.line;
        let good_to = match scanned {
            Scanned::Failed(error) => {
                return Err(self.stop(&format!("Failed to read from AOF {name}, aborting... ({error})")));
            }
            Scanned::BadTimestamp => return Err(self.stop("Invalid timestamp annotation")),
            Scanned::Timestamp(at) => return self.cut_to_timestamp(name, path, at, is_last),
            Scanned::Upto { good_to, format_error } => {
                if format_error {
                    writeln!(self.out, "AOF {name} format error")?;
                }
                good_to
            }
        };
        if let Some(complaint) = &scan.complaint {
            writeln!(self.out, "{complaint}")?;
        }
        let bad_batch = self.verify_batches(name, path, tail_at)?;
        self.analyzed(name, path, is_last, size, bad_batch.map_or(good_to, |at| at.min(good_to)))
    }

    /// Says how much of a file is good, and offers to cut the rest.
    fn analyzed(&mut self, name: &str, path: &Path, is_last: bool, size: u64, good_to: u64) -> Result<Verdict, Stop> {
        let bad = size - good_to;
        if let (0, Some(seconds)) = (bad, self.check.truncate_to_s) {
            writeln!(self.out, "Truncate nothing in AOF {name} to timestamp {seconds}")?;
            return Ok(Verdict::Valid);
        }
        let line = self.line;
        writeln!(
            self.out,
            "AOF analyzed: filename={name}, size={size}, ok_up_to={good_to}, ok_up_to_line={line}, diff={bad}"
        )?;
        if bad == 0 {
            return Ok(Verdict::Valid);
        }
        if !self.check.fix {
            return Err(self.stop(&format!("AOF {name} is not valid. Use the --fix option to try fixing it.")));
        }
        if !is_last {
            return Err(self.stop(&format!("Failed to truncate AOF {name} because it is not the last file")));
        }
        self.offer_cut(name, path, size, good_to)
    }

    /// Reads the part in RDB format and gives the offset where commands begin.
    fn preamble(&mut self, file: &mut File, path: &Path) -> Result<u64, Stop> {
        match check_rdb(Some(file), &path.to_string_lossy(), self.check.rdb, self.out)? {
            Some(end) => {
                writeln!(self.out, "RDB preamble is OK, proceeding with AOF tail...")?;
                Ok(end)
            }
            None => Err(self.stop("RDB preamble of AOF file is not sane, aborting.")),
        }
    }

    /// Looks at the checksums of our own batches; gives the offset of the first bad one.
    fn verify_batches(&mut self, name: &str, path: &Path, tail_at: u64) -> Result<Option<u64>, Stop> {
        let mut file = self.or_stop(File::open(path), "Cannot open file")?;
        self.or_stop(file.seek(SeekFrom::Start(tail_at)), "Cannot seek in file")?;
        let mut reader = Reader::new(file, tail_at);
        let error = loop {
            match reader.item() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) => break error,
            }
        };
        Ok(match error.kind {
            AofErrorKind::Damaged { good_at } => {
                let offset = error.offset;
                writeln!(
                    self.out,
                    "AOF {name}: the batch at offset {offset} does not match its checksum, though the one at offset \
                     {good_at} shows that it was on disk"
                )?;
                Some(offset)
            }
            AofErrorKind::Truncated { valid_up_to, .. } => Some(valid_up_to),
            AofErrorKind::Io(_) | AofErrorKind::Format => None,
        })
    }

    fn offer_cut(&mut self, name: &str, path: &Path, size: u64, good_to: u64) -> Result<Verdict, Stop> {
        let bad = size - good_to;
        writeln!(self.out, "This will shrink the AOF {name} from {size} bytes, with {bad} bytes, to {good_to} bytes")?;
        write!(self.out, "Continue? [y/N]: ")?;
        self.out.flush()?;
        let mut answer = String::new();
        let asked = self.check.answers.read_line(&mut answer);
        if asked.is_err() || !answer.starts_with(['y', 'Y']) {
            return Err(self.stop("Aborting..."));
        }
        match cut(path, good_to) {
            Ok(()) => Ok(Verdict::Cut),
            Err(_) => Err(self.stop(&format!("Failed to truncate AOF {name}"))),
        }
    }

    fn cut_to_timestamp(&mut self, name: &str, path: &Path, at: u64, is_last: bool) -> Result<Verdict, Stop> {
        let seconds = self.check.truncate_to_s.unwrap_or_default();
        if at == 0 {
            let text = format!("AOF {} has nothing before timestamp {seconds}, aborting...", path.display());
            return Err(self.stop(&text));
        }
        if !is_last {
            let text = format!(
                "Failed to truncate AOF {} to timestamp {seconds} to offset {at} because it is not the last file.\n\
                 If you insist, please delete all files after this file according to the manifest file and delete the \
                 corresponding records in manifest file manually. Then re-run redis-check-aof.",
                path.display()
            );
            return Err(self.stop(&text));
        }
        match cut(path, at) {
            Ok(()) => Ok(Verdict::CutToTimestamp),
            Err(_) => Err(self.stop(&format!("Failed to truncate AOF {name} to timestamp {seconds}"))),
        }
    }

    /// Up to 1 KiB from the start of a file.
    fn first_bytes(&mut self, name: &str) -> Result<Vec<u8>, Stop> {
        let mut first = Vec::new();
        let read = File::open(name).and_then(|file| file.take(ANNOTATION_LINE as u64).read_to_end(&mut first));
        match read {
            Ok(_) => Ok(first),
            Err(error) => Err(self.stop(&format!("Cannot open file {name}: {}", os_text(&error)))),
        }
    }

    fn or_stop<T>(&mut self, result: io::Result<T>, what: &str) -> Result<T, Stop> {
        result.map_err(|error| self.stop(&format!("{what}: {}, aborting...", os_text(&error))))
    }

    fn stop(&mut self, text: &str) -> Stop {
        match writeln!(self.out, "{text}") {
            Ok(()) => Stop::Exit,
            Err(error) => Stop::Output(error),
        }
    }
}

fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

/// The error as C's `strerror` puts it, without Rust's number behind it.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Reads commands as loosely as `redis-check-aof` does, without keeping them.
struct Scan {
    file: BufReader<File>,
    at: u64,
    at_end: bool,
    /// Where the last piece (a line, a string) began: complaints name it.
    piece_at: u64,
    complaint: Option<String>,
    line: u64,
}

enum Scanned {
    Upto { good_to: u64, format_error: bool },
    Timestamp(u64),
    BadTimestamp,
    Failed(io::Error),
}

impl Scan {
    fn run(&mut self, name: &str, truncate_to_s: Option<i64>) -> Scanned {
        let mut good_to = self.at;
        let mut multi = 0;
        loop {
            if multi == 0 {
                good_to = self.at;
            }
            let format_error = match self.peek() {
                Err(error) => return Scanned::Failed(error),
                Ok(None) => {
                    if multi != 0 && self.complaint.is_none() {
                        self.complain("Reached EOF before reading EXEC for MULTI");
                    }
                    false
                }
                Ok(Some(b'#')) => match self.annotation(truncate_to_s) {
                    Ok(None) => continue,
                    Ok(Some(scanned)) => return scanned,
                    Err(error) => return Scanned::Failed(error),
                },
                Ok(Some(b'*')) => match self.command(name, &mut multi) {
                    Ok(true) => continue,
                    Ok(false) => {
                        if self.at_end && multi != 0 && self.complaint.is_none() {
                            self.complain("Reached EOF before reading EXEC for MULTI");
                        }
                        false
                    }
                    Err(error) => return Scanned::Failed(error),
                },
                Ok(Some(_)) => true,
            };
            return Scanned::Upto { good_to, format_error };
        }
    }

    fn annotation(&mut self, truncate_to_s: Option<i64>) -> io::Result<Option<Scanned>> {
        let start = self.at;
        let line = self.line(ANNOTATION_LINE)?;
        let (Some(limit_s), Some(text)) = (truncate_to_s, line.strip_prefix(b"#TS:")) else { return Ok(None) };
        let text = text.strip_suffix(b"\r\n").and_then(|text| std::str::from_utf8(text).ok());
        Ok(match text.and_then(|text| text.parse::<i64>().ok()) {
            None => Some(Scanned::BadTimestamp),
            Some(seconds) if seconds <= limit_s => None,
            Some(_) => Some(Scanned::Timestamp(start)),
        })
    }

    /// Reads a command; false where it is not one.
    fn command(&mut self, name: &str, multi: &mut i32) -> io::Result<bool> {
        let Some(argc) = self.number(b'*')? else { return Ok(false) };
        for n in 0..argc {
            let Some(word) = self.string()? else { return Ok(false) };
            if n > 0 {
                continue;
            }
            if word.eq_ignore_ascii_case(b"multi") {
                *multi += 1;
                if *multi != 1 {
                    return Ok(self.complain(&format!("Unexpected MULTI in AOF {name}")));
                }
            } else if word.eq_ignore_ascii_case(b"exec") {
                *multi -= 1;
                if *multi != 0 {
                    return Ok(self.complain(&format!("Unexpected EXEC in AOF {name}")));
                }
            }
        }
        Ok(true)
    }

    fn number(&mut self, prefix: u8) -> io::Result<Option<i64>> {
        let line = self.line(NUMBER_LINE)?;
        let Some(first) = line.first() else { return Ok(None) };
        if *first != prefix {
            let (wanted, got) = (char::from(prefix), char::from(*first));
            self.complain(&format!("Expected prefix '{wanted}', got: '{got}'"));
            return Ok(None);
        }
        let text = &line[1..];
        let sign = usize::from(text.starts_with(b"-"));
        let digits = text[sign..].iter().take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&text[..sign + digits]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(self.newline(&text[sign + digits..]).then_some(number))
    }

    /// Reads a string; gives as much of it as tells MULTI and EXEC from other names.
    fn string(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(len) = self.number(b'$')? else { return Ok(None) };
        let Some(total) =
            u64::try_from(len).ok().and_then(|len| len.checked_add(2)).filter(|n| i64::try_from(*n).is_ok())
        else {
            let text = format!("Expected to read string of {len} bytes, which is not in the suitable range");
            self.complain(&text);
            return Ok(None);
        };
        self.piece_at = self.at;
        let mut head = Vec::new();
        (&mut self.file).take(total.min(16)).read_to_end(&mut head)?;
        let skipped = total - total.min(16);
        let mut last = head.clone();
        let mut read = head.len() as u64;
        if skipped > 2 {
            read += io::copy(&mut (&mut self.file).take(skipped - 2), &mut io::sink())?;
        }
        if skipped > 0 {
            read += (&mut self.file).take(skipped.min(2)).read_to_end(&mut last)? as u64;
        }
        self.at += read;
        if read != total {
            self.at_end = true;
            self.complain(&format!("Expected to read {total} bytes, got {read} bytes"));
            return Ok(None);
        }
        let ends_well = self.newline(&last[last.len() - 2..]);
        head.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(ends_well.then_some(head))
    }

    /// Expects a line's end in `bytes`.
    fn newline(&mut self, bytes: &[u8]) -> bool {
        if bytes.starts_with(b"\r\n") {
            self.line += 1;
            return true;
        }
        let byte = |n: usize| bytes.get(n).copied().unwrap_or(0);
        self.complain(&format!("Expected \\r\\n, got: {:02x}{:02x}", byte(0), byte(1)))
    }

    /// Notes what is wrong; always false, for the caller to give on.
    fn complain(&mut self, text: &str) -> bool {
        self.complaint = Some(format!("0x{:16x}: {text}", self.piece_at));
        false
    }

    /// A line, its end included, but at most `buffer - 1` bytes; empty at the end of the file.
    fn line(&mut self, buffer: usize) -> io::Result<Vec<u8>> {
        self.piece_at = self.at;
        let mut line = Vec::new();
        (&mut self.file).take(buffer as u64 - 1).read_until(b'\n', &mut line)?;
        self.at += line.len() as u64;
        self.at_end |= !line.ends_with(b"\n") && line.len() < buffer - 1;
        Ok(line)
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        let first = self.file.fill_buf()?.first().copied();
        self.at_end |= first.is_none();
        Ok(first)
    }
}
