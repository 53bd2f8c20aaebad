//! `redis-check-rdb`. Source: Redis 7.2 redis-check-rdb.c.

use super::console::Console;
use super::{c_text, len, path_of};
use crate::config::Config;
use crate::snapshot::convert::{Builder, Limits, Unfit};
use crate::util::rng::Random;
use redstart_persistence::rdb::{
    Activity, ChecksumState, Key, Kind, RdbError, RdbErrorKind, ReadOptions, Reader, Record,
};
use std::fs::File;
use std::io::{self, Read};
use std::time::{SystemTime, UNIX_EPOCH};

/// Checks the file at `path`; whether it is sound.
pub(super) fn check_path(console: &mut Console, path: &[u8]) -> io::Result<bool> {
    let Ok(file) = File::open(path_of(path)) else {
        console.bytes(&[b"[offset 0] Checking RDB file ", path])?;
        return Ok(false);
    };
    let size = len(&file)?;
    Ok(check(console, path, file, size)?.is_some())
}

/// Checks the RDB file that `file` begins with; its size in bytes, or `None` if it is not sound.
pub(super) fn check<R: Read>(console: &mut Console, path: &[u8], file: R, size: u64) -> io::Result<Option<u64>> {
    console.bytes(&[b"[offset 0] Checking RDB file ", path])?;
    console.begin(size);
    // The file may be anyone's: its elements are hashed as a server would.
    let limits = Limits::new(&Config::default(), &Random::new(None).hash_seed());
    let mut check = Check { console, tally: Tally::default(), limits, key: None };
    let mut reader = match Reader::new(file, ReadOptions::default()) {
        Ok(reader) => reader,
        Err(error) => {
            // As Redis has it before the first key.
            check.failed(&Failure::from(error), Activity::Start, Some(Kind::String))?;
            return Ok(None);
        }
    };
    match check.records(&mut reader)? {
        Ok(()) => {
            let offset = reader.offset();
            check.console.line(format_args!("[offset {offset}] \\o/ RDB looks OK! \\o/"))?;
            check.tally()?;
            Ok(Some(offset))
        }
        Err(failure) => {
            let kind = reader.current_kind().or_else(|| (check.tally.keys == 0).then_some(Kind::String));
            check.failed(&failure, reader.activity(), kind)?;
            Ok(None)
        }
    }
}

#[derive(Default)]
struct Tally {
    keys: u64,
    expires: u64,
    expired: u64,
}

struct Check<'a, 'c> {
    console: &'a mut Console<'c>,
    tally: Tally,
    limits: Limits,
    /// The key whose value is being read, and how it is written.
    key: Option<(Vec<u8>, Kind)>,
}

/// Why the file is not sound, in the words to print.
struct Failure {
    offset: u64,
    text: String,
}

impl From<RdbError> for Failure {
    fn from(error: RdbError) -> Self {
        let offset = error.offset;
        let text = match &error.kind {
            // Redis finds these in the checker itself, the others where it reads values.
            RdbErrorKind::Corrupt(text) if text.starts_with("Pre-release") || text.starts_with("bad when") => {
                text.clone()
            }
            RdbErrorKind::Corrupt(_) | RdbErrorKind::Unsupported(_) | RdbErrorKind::UnexpectedEof(Some(_)) => {
                format!("Internal error in RDB reading offset {offset} -> {}", error.kind)
            }
            kind => kind.to_string(),
        };
        Failure { offset, text }
    }
}

impl Failure {
    fn unfit(offset: u64, Unfit(text): Unfit) -> Failure {
        RdbError { offset, kind: RdbErrorKind::Corrupt(text.to_owned()) }.into()
    }
}

impl Check<'_, '_> {
    /// Reads all records; the outer error is the console's.
    fn records<R: Read>(&mut self, reader: &mut Reader<R>) -> io::Result<Result<(), Failure>> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        loop {
            let record = match reader.record() {
                Ok(record) => record,
                Err(error) => return Ok(Err(error.into())),
            };
            let offset = reader.offset();
            self.console.progress(offset);
            let at = format!("[offset {offset}] ");
            let at = at.as_bytes();
            match record {
                Record::Aux { name, value } => {
                    let parts = [at, b"AUX FIELD ", c_text(&name), b" = '", c_text(&value), b"'"];
                    self.console.bytes(&parts)?;
                }
                Record::SelectDb(db) => self.console.bytes(&[at, format!("Selecting DB ID {db}").as_bytes()])?,
                Record::ModuleAux { name } => self.console.bytes(&[at, b"MODULE AUX for: ", name.as_bytes()])?,
                Record::ResizeDb { .. } | Record::Function(_) => {}
                Record::Key(key) => {
                    self.tally.keys += 1;
                    let Key { key, kind, expire_at_ms, .. } = key;
                    self.key = Some((key, kind));
                    if let Err(failure) = self.value(reader, kind) {
                        return Ok(Err(failure));
                    }
                    self.key = None;
                    self.tally.expires += u64::from(expire_at_ms.is_some());
                    self.tally.expired += u64::from(expire_at_ms.is_some_and(|at| at < now_ms));
                }
                Record::Eof(state) => {
                    match state {
                        ChecksumState::Good => self.console.bytes(&[at, b"Checksum OK"])?,
                        ChecksumState::Disabled => {
                            let text = b"RDB file was saved with checksum disabled: no check performed.";
                            self.console.bytes(&[at, text])?;
                        }
                        ChecksumState::Unchecked => {}
                    }
                    return Ok(Ok(()));
                }
            }
        }
    }

    /// Puts a value together as loading does.
    fn value<R: Read>(&mut self, reader: &mut Reader<R>, kind: Kind) -> Result<(), Failure> {
        let mut builder = None;
        while let Some(part) = reader.part()? {
            let hint = reader.parts_hint();
            let builder = builder.get_or_insert_with(|| Builder::new(&self.limits, kind, hint));
            builder.part(part).map_err(|unfit| Failure::unfit(reader.offset(), unfit))?;
            self.console.progress(reader.offset());
        }
        let built = builder.map(Builder::finish).transpose();
        match built.map_err(|unfit| Failure::unfit(reader.offset(), unfit))?.flatten() {
            Some(_) => Ok(()),
            // A collection without elements: loading skips it, Redis's checker has only this to say.
            None => Err(RdbError { offset: reader.offset(), kind: RdbErrorKind::UnexpectedEof(None) }.into()),
        }
    }

    fn failed(&mut self, failure: &Failure, doing: Activity, kind: Option<Kind>) -> io::Result<()> {
        self.console.line("--- RDB ERROR DETECTED ---")?;
        self.console.line(format_args!("[offset {}] {}", failure.offset, failure.text))?;
        self.console.line(format_args!("[additional info] While doing: {}", doing.name()))?;
        let kind = self.key.as_ref().map(|(_, kind)| *kind).or(kind);
        if let Some((key, _)) = self.key.take() {
            self.console.bytes(&[b"[additional info] Reading key '", c_text(&key), b"'"])?;
        }
        if let Some(kind) = kind {
            self.console.line(format_args!("[additional info] Reading type {} ({})", kind as u8, kind.name()))?;
        }
        self.tally()
    }

    fn tally(&mut self) -> io::Result<()> {
        let Tally { keys, expires, expired } = self.tally;
        self.console.line(format_args!("[info] {keys} keys read"))?;
        self.console.line(format_args!("[info] {expires} expires"))?;
        self.console.line(format_args!("[info] {expired} already expired"))
    }
}
