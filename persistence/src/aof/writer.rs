//! Appends to the log: [`LogBuffer`] collects records in memory, [`Appender`] brings them to the file and the disk by
//! the rule of `appendfsync`.
//!
//! A batch is what was collected between two writes. In front of it stands a line that Redis takes for a comment:
//!
//! ```text
//! #RC:<crc32 of the batch, 8 hex digits> <bytes of the batch, 10 digits> <s or ->\r\n
//! ```
//!
//! It stands in front, not behind, so that a reader knows how much it covers: commands that a Redis has appended to our
//! file are not taken for a torn batch, and no command is replayed before its batch has been verified. `s` says that
//! everything before the batch was on disk when it was written: only damage before such a line is damage; unsynced
//! batches may be lost by a power cut in any order. (Under `appendfsync no` nobody knows, and every line says `s`: better
//! refuse than cut off too much.) A `#TS:` line stands in front of the batch it belongs to, so that
//! `redis-check-aof --truncate-to-timestamp` cuts between batches.

use crate::file::File;
use std::sync::Arc;
use std::{fmt, io};

pub(crate) const HEADER_BYTES: usize = 27;
/// Records are copied out in pieces of about this size: see [`LogBuffer::recent`].
const RECENT_BYTES: usize = 16 << 10;
/// A batch is closed when it has grown to this, far below what ten digits hold.
const LARGEST_BATCH: usize = 1 << 30;

/// When to bring the log to the disk (directive `appendfsync`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// After every batch, before its clients get their replies.
    Always,
    /// About once a second.
    EverySec,
    /// When the system does.
    No,
}

/// Records in memory, on their way to the log.
#[derive(Debug, Clone)]
pub struct LogBuffer {
    bytes: Vec<u8>,
    /// The newest records, which come behind `bytes`. Where another thread writes, the memory of `bytes` was last in use
    /// on another core: getting its lines back one record at a time cost 0.1 us each, a sixth of a SET.
    recent: Vec<u8>,
    /// Where the header of the open batch stands, to be filled in.
    header_at: Option<usize>,
    checksums: bool,
    timestamps: bool,
    /// The database that the last record has selected.
    db: Option<u64>,
    last_timestamp_s: i64,
}

impl LogBuffer {
    /// An empty buffer. `checksums` and `timestamps` are the directives `aof-checksum` and `aof-timestamp-enabled`.
    pub fn new(checksums: bool, timestamps: bool) -> LogBuffer {
        LogBuffer {
            bytes: Vec::new(),
            recent: Vec::with_capacity(2 * RECENT_BYTES),
            header_at: None,
            checksums,
            timestamps,
            db: None,
            last_timestamp_s: 0,
        }
    }

    /// Changes the directives, from the next record on.
    pub fn set_options(&mut self, checksums: bool, timestamps: bool) {
        if checksums != self.checksums {
            self.seal();
        }
        (self.checksums, self.timestamps) = (checksums, timestamps);
    }

    /// Whether records get timestamps (directive `aof-timestamp-enabled`).
    pub fn has_timestamps(&self) -> bool {
        self.timestamps
    }

    /// Adds a command. `db` is the database it belongs to; `None` for commands that belong to none, such as MULTI.
    /// `now_s` is Unix time in seconds.
    pub fn command<'a>(&mut self, db: Option<u64>, now_s: i64, args: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.select(db, now_s);
        put_command(&mut self.recent, args);
        self.settle(RECENT_BYTES);
    }

    /// Adds a command that is already in the protocol.
    pub fn encoded(&mut self, db: Option<u64>, now_s: i64, command: &[u8]) {
        self.select(db, now_s);
        if command.len() > RECENT_BYTES {
            self.settle(0);
            self.bytes.extend_from_slice(command);
        } else {
            self.recent.extend_from_slice(command);
            self.settle(RECENT_BYTES);
        }
    }

    /// Moves the newest records to the others if they are more than `most` bytes.
    #[inline]
    fn settle(&mut self, most: usize) {
        if self.recent.len() > most {
            self.bytes.extend_from_slice(&self.recent);
            self.recent.clear();
            self.recent.shrink_to(2 * RECENT_BYTES);
        }
    }

    fn select(&mut self, db: Option<u64>, now_s: i64) {
        self.open(now_s);
        if let Some(db) = db.filter(|db| self.db != Some(*db)) {
            let number = db.to_string();
            put_command(&mut self.recent, [b"SELECT", number.as_bytes()].into_iter());
            self.db = Some(db);
        }
    }

    /// The next record selects its database again: it goes to another file, or somebody else wrote in between.
    pub fn forget_db(&mut self) {
        self.db = None;
    }

    /// Bytes collected.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.recent.len()
    }

    /// Whether nothing is collected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives away what was collected, its batches closed. `spare` becomes the buffer, to keep its memory.
    pub fn take(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        self.seal();
        spare.clear();
        std::mem::replace(&mut self.bytes, spare)
    }

    /// Makes sure that a batch is open, with its timestamp in front of it.
    fn open(&mut self, now_s: i64) {
        if self.timestamps && now_s > self.last_timestamp_s {
            self.seal();
            self.last_timestamp_s = now_s;
            self.recent.extend_from_slice(format!("#TS:{now_s}\r\n").as_bytes());
        }
        if self.header_at.is_some_and(|at| self.len() - at > LARGEST_BATCH) {
            self.seal();
        }
        if self.checksums && self.header_at.is_none() {
            self.header_at = Some(self.len());
            self.recent.extend_from_slice(&[b' '; HEADER_BYTES]);
        }
    }

    /// Fills in the header of the open batch.
    fn seal(&mut self) {
        self.settle(0);
        let Some(at) = self.header_at.take() else { return };
        let (header, batch) = self.bytes[at..].split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&header_line(batch, false));
    }
}

/// The line in front of `batch`.
pub(crate) fn header_line(batch: &[u8], synced_before: bool) -> [u8; HEADER_BYTES] {
    let mut line = [0; HEADER_BYTES];
    let mark = if synced_before { 's' } else { '-' };
    let text = format!("#RC:{:08x} {:010} {mark}\r\n", crc32fast::hash(batch), batch.len());
    line.copy_from_slice(text.as_bytes());
    line
}

/// Appends a command in the protocol.
fn put_command<'a>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    put_number(out, b'*', args.len());
    for arg in args {
        put_number(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn put_number(out: &mut Vec<u8>, prefix: u8, number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.push(prefix);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// The directives an [`Appender`] follows.
#[derive(Debug, Clone, Copy)]
pub struct AppendOptions {
    /// Directive `appendfsync`.
    pub fsync: Fsync,
    /// Directive `no-appendfsync-on-rewrite`.
    pub no_fsync_on_rewrite: bool,
}

/// How far the log has come, in bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Given to the appender.
    pub pushed: u64,
    /// In the file.
    pub written: u64,
    /// On disk.
    pub synced: u64,
}

/// Why the log could not go on. The records are kept, and the next step tries again.
#[derive(Debug)]
pub enum AppendError {
    /// Nothing could be written.
    Write(io::Error),
    /// Part of a batch could be written, and has been taken back if the file let itself be cut.
    ShortWrite {
        /// Bytes that were written.
        written: u64,
        /// Bytes that should have been.
        expected: u64,
        /// Why the file could not be cut back, if it could not.
        truncate: Option<io::Error>,
    },
    /// The system does not say that what was written is on disk. What it has forgotten meanwhile nobody knows.
    Sync(io::Error),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Write(error) => write!(f, "Error writing to the AOF file: {error}"),
            AppendError::ShortWrite { written, expected, .. } => {
                write!(f, "Short write while writing to the AOF file: (nwritten={written}, expected={expected})")
            }
            AppendError::Sync(error) => write!(f, "Fail to fsync the AOF file: {error}"),
        }
    }
}

impl std::error::Error for AppendError {}

/// Brings batches to one file. It decides and does, but owns no thread and no clock: its caller says what time it is. Its
/// steps may block on the disk. A sync can be done elsewhere, while writing goes on: [`Appender::begin_sync`].
pub struct Appender {
    file: Arc<dyn File>,
    options: AppendOptions,
    /// Batches not yet in the file as a whole; the first `done` bytes are there.
    pending: Vec<u8>,
    done: usize,
    progress: Progress,
    last_sync_ms: u64,
}

impl Appender {
    /// Goes on at the end of `file`, which has `len` bytes, all of them synced. `now_ms` is any steady clock's.
    pub fn new(file: Box<dyn File>, len: u64, options: AppendOptions, now_ms: u64) -> Appender {
        let progress = Progress { pushed: len, written: len, synced: len };
        Appender { file: file.into(), options, pending: Vec::new(), done: 0, progress, last_sync_ms: now_ms }
    }

    /// Changes the directives.
    pub fn set_options(&mut self, options: AppendOptions) {
        self.options = options;
    }

    /// How far the log has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Takes over closed batches, as [`LogBuffer::take`] gives them; gives back memory to be used again.
    pub fn push(&mut self, batches: Vec<u8>) -> Vec<u8> {
        self.progress.pushed += batches.len() as u64;
        if self.pending.is_empty() {
            return std::mem::replace(&mut self.pending, batches);
        }
        self.pending.extend_from_slice(&batches);
        batches
    }

    /// Writes what is to be written and syncs if it is time. `rewriting` says that a snapshot is being written.
    pub fn step(&mut self, now_ms: u64, rewriting: bool) -> Result<Progress, AppendError> {
        self.write()?;
        if self.sync_is_due(now_ms, rewriting) {
            self.sync(now_ms)?;
        }
        Ok(self.progress)
    }

    /// Writes and syncs everything, whatever the directives say: before another file takes over, or at shutdown.
    pub fn finish(&mut self, now_ms: u64) -> Result<Progress, AppendError> {
        self.write()?;
        if self.is_unsynced() {
            self.sync(now_ms)?;
        }
        Ok(self.progress)
    }

    /// Whether something in the file is not on disk, as far as is known.
    pub fn is_unsynced(&self) -> bool {
        self.progress.synced != self.progress.written
    }

    /// Whether there is something to sync, and the directives say that it is time.
    pub fn sync_is_due(&self, now_ms: u64, rewriting: bool) -> bool {
        let is_time = match self.options.fsync {
            Fsync::Always => true,
            Fsync::EverySec => now_ms.saturating_sub(self.last_sync_ms) >= 1000,
            Fsync::No => false,
        };
        self.is_unsynced() && is_time && !(rewriting && self.options.no_fsync_on_rewrite)
    }

    /// A sync of what has been written so far. Once it has worked, [`Appender::end_sync`] is to be told.
    pub fn begin_sync(&mut self, now_ms: u64) -> FileSync {
        self.last_sync_ms = now_ms;
        FileSync { file: self.file.clone(), written: self.progress.written }
    }

    /// So many bytes of the file are on disk.
    pub fn end_sync(&mut self, written: u64) {
        self.progress.synced = self.progress.synced.max(written);
    }

    fn sync(&mut self, now_ms: u64) -> Result<(), AppendError> {
        let sync = self.begin_sync(now_ms);
        sync.run()?;
        self.end_sync(sync.written);
        Ok(())
    }

    /// Writes what is to be written.
    pub fn write(&mut self) -> Result<(), AppendError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.done == 0 && (!self.is_unsynced() || self.options.fsync == Fsync::No) {
            mark_synced_before(&mut self.pending);
        }
        let start = self.done;
        while self.done < self.pending.len() {
            match self.file.write(&self.pending[self.done..]) {
                Ok(0) => return Err(self.cut_back(start, io::ErrorKind::WriteZero.into())),
                Ok(written) => self.done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cut_back(start, error)),
            }
        }
        self.progress.written = self.progress.pushed;
        self.pending.clear();
        self.done = 0;
        Ok(())
    }

    /// After a failed write: takes back the part that was written, or remembers to go on behind it.
    fn cut_back(&mut self, start: usize, error: io::Error) -> AppendError {
        if self.done == 0 {
            return AppendError::Write(error);
        }
        let (written, expected) = ((self.done - start) as u64, (self.pending.len() - start) as u64);
        let truncate = self.file.truncate(self.progress.written).err();
        if truncate.is_none() {
            self.done = 0;
        }
        AppendError::ShortWrite { written, expected, truncate }
    }
}

/// A sync of the log, to be done by any thread.
pub struct FileSync {
    file: Arc<dyn File>,
    /// Bytes of the file that are on disk once it has worked.
    pub written: u64,
}

impl FileSync {
    /// Returns when it is done.
    pub fn run(&self) -> Result<(), AppendError> {
        self.file.sync().map_err(AppendError::Sync)
    }
}

impl fmt::Debug for FileSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSync({} bytes)", self.written)
    }
}

/// Sets the `s` in the header of the first batch, if one begins here (behind a timestamp, perhaps).
fn mark_synced_before(batches: &mut [u8]) {
    let mut at = 0;
    if batches.starts_with(b"#TS:") {
        at = batches.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
    }
    if let Some(header) = batches[at..].first_chunk_mut::<HEADER_BYTES>()
        && header.starts_with(b"#RC:")
    {
        header[HEADER_BYTES - 3] = b's';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{CrashDir, Dir, Fault};

    fn appender(dir: &CrashDir, fsync: Fsync) -> Appender {
        let file = dir.create("f").expect("create");
        Appender::new(file, 0, AppendOptions { fsync, no_fsync_on_rewrite: true }, 0)
    }

    fn args<'a>(words: &'a [&'a str]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        words.iter().map(|word| word.as_bytes())
    }

    #[test]
    fn records_select_their_database_once() {
        let mut buffer = LogBuffer::new(false, false);
        buffer.command(Some(3), 0, args(&["SET", "k", "v"]));
        buffer.command(None, 0, args(&["MULTI"]));
        buffer.command(Some(3), 0, args(&["DEL", "k"]));
        let bytes = buffer.take(Vec::new());
        let wanted = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n\
                      *1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n";
        assert_eq!(bytes, wanted.as_bytes());
        assert!(buffer.is_empty());
    }

    #[test]
    fn batches_and_timestamps_stand_in_lines_of_their_own() {
        let mut buffer = LogBuffer::new(true, true);
        buffer.command(None, 7, args(&["A"]));
        buffer.command(None, 7, args(&["B"]));
        buffer.command(None, 8, args(&["C"]));
        let bytes = String::from_utf8(buffer.take(Vec::new())).expect("text");
        let lines: Vec<&str> = bytes.split("\r\n").filter(|line| line.starts_with('#')).collect();
        assert_eq!(lines[0], "#TS:7");
        assert!(lines[1].starts_with("#RC:") && lines[1].ends_with(" 0000000022 -"), "{}", lines[1]);
        assert_eq!(lines[2], "#TS:8");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn syncs_by_the_rule() {
        for (fsync, wanted) in [(Fsync::Always, 4), (Fsync::EverySec, 2), (Fsync::No, 0)] {
            let dir = CrashDir::new();
            let mut appender = appender(&dir, fsync);
            for now_ms in [500, 1000, 1500, 2100] {
                appender.push(b"*1\r\n$1\r\nA\r\n".to_vec());
                let progress = appender.step(now_ms, false).expect("step");
                assert_eq!(progress.written, progress.pushed);
            }
            assert_eq!(dir.syncs(), wanted, "{fsync:?}");
            appender.push(b"x".to_vec());
            appender.step(9000, true).expect("step");
            assert_eq!(dir.syncs(), wanted, "{fsync:?}: not during a rewrite");
            assert_eq!(appender.finish(0).expect("finish").synced, 45);
        }
    }

    #[test]
    fn only_batches_after_a_sync_say_so() {
        let dir = CrashDir::new();
        let mut appender = appender(&dir, Fsync::EverySec);
        let mut buffer = LogBuffer::new(true, false);
        for now_ms in [1, 2, 1000, 1001] {
            buffer.command(None, 0, args(&["A"]));
            appender.push(buffer.take(Vec::new()));
            appender.step(now_ms, false).expect("step");
        }
        let text = String::from_utf8(dir.contents("f").expect("there")).expect("text");
        let marks: Vec<char> =
            text.lines().filter(|l| l.starts_with("#RC:")).filter_map(|l| l.trim_end().chars().last()).collect();
        assert_eq!(marks, ['s', '-', '-', 's']);
    }

    #[test]
    fn every_fault_is_reported_and_nothing_is_lost_or_doubled() {
        for fault in [Fault::NoSpace, Fault::Io, Fault::Short(5), Fault::Short(0)] {
            for at in 0..8 {
                let dir = CrashDir::new();
                let mut appender = appender(&dir, Fsync::Always);
                dir.fail(1 + at, fault);
                if at % 2 == 1 {
                    // A short write, then no room at all.
                    dir.fail(at, Fault::Short(3));
                }
                let mut wanted = Vec::new();
                let mut failures = 0;
                for n in 0..5u8 {
                    let record = format!("*1\r\n$3\r\nA{n:02}\r\n").into_bytes();
                    wanted.extend_from_slice(&record);
                    appender.push(record);
                    failures += usize::from(appender.step(0, false).is_err());
                }
                appender.finish(0).expect("the fault has passed");
                assert_eq!(dir.contents("f"), Some(wanted), "{fault:?} at {at}");
                assert!(failures <= 2);
            }
        }
    }

    #[test]
    fn a_short_write_that_cannot_be_cut_goes_on_behind_itself() {
        let dir = CrashDir::new();
        let mut appender = appender(&dir, Fsync::Always);
        dir.fail(1, Fault::Short(4));
        dir.fail(2, Fault::NoSpace);
        dir.fail(3, Fault::Io);
        appender.push(b"0123456789".to_vec());
        let error = appender.step(0, false).expect_err("no space");
        assert!(matches!(error, AppendError::ShortWrite { written: 4, expected: 10, truncate: Some(_) }), "{error}");
        assert_eq!(appender.progress().written, 0);
        appender.push(b"abc".to_vec());
        assert_eq!(appender.step(0, false).expect("room again").synced, 13);
        assert_eq!(dir.contents("f").as_deref(), Some(&b"0123456789abc"[..]));
    }
}
