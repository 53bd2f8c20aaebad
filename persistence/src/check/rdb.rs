//! Reads an RDB file from end to end and tells what is in it, or what is wrong with it and where.

use crate::rdb::{ChecksumState, Key, Packed, Part, RdbError, RdbErrorKind, ReadOptions, Reader, Record};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};

/// What the check of an RDB file needs from outside.
pub struct RdbCheck<'a> {
    /// Unix time in milliseconds, to tell keys that have expired.
    pub now_ms: i64,
    /// Judges a part of a value beyond its frame, such as the entries of a listpack; gives the complaint.
    pub validate: &'a mut dyn FnMut(&Key, &Part) -> Result<(), String>,
    /// Told now and then how many bytes have been read.
    pub progress: &'a mut dyn FnMut(u64),
}

/// How many records pass between two calls of the progress function.
const RECORDS_PER_PROGRESS: u64 = 1024;

/// `redis-check-rdb <file>`: runs the whole program and gives its exit code. `args[0]` is the program's name, `version`
/// what `--version` prints.
pub fn rdb_main(
    args: &[String],
    version: &str,
    check: &mut RdbCheck<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<i32> {
    let [program, name] = args else {
        writeln!(err, "Usage: {} <rdb-file-name>", args.first().map_or("redis-check-rdb", |name| name))?;
        return Ok(1);
    };
    let _ = program;
    if name == "-v" || name == "--version" {
        writeln!(out, "redis-check-rdb {version}")?;
        return Ok(0);
    }
    let file = File::open(name).ok();
    Ok(if check_rdb(file, name, check, out)?.is_some() { 0 } else { 1 })
}

/// Checks the RDB file that `file` holds (`None`: it could not be opened), called `name` in the output. Gives the
/// number of bytes it takes if all is well: an AOF tail may follow. Errors are those of `out`.
pub fn check_rdb<R: Read>(
    file: Option<R>,
    name: &str,
    check: &mut RdbCheck<'_>,
    out: &mut dyn Write,
) -> io::Result<Option<u64>> {
    writeln!(out, "[offset 0] Checking RDB file {name}")?;
    let Some(file) = file else { return Ok(None) };
    let mut state = State { key: None, type_byte: Some(0), keys: 0, expires: 0, expired: 0 };
    let mut reader = match Reader::new(file, ReadOptions::default()) {
        Ok(reader) => reader,
        Err(error) => return state.complain(&error, "start", out),
    };
    if let Err(stop) = state.read(&mut reader, check, out) {
        return match stop {
            Stop::Output(error) => Err(error),
            Stop::File(error) => state.complain(&error, reader.activity().name(), out),
        };
    }
    writeln!(out, "[offset {}] \\o/ RDB looks OK! \\o/", reader.offset())?;
    state.totals(out)?;
    Ok(Some(reader.offset()))
}

/// What is said along with an error.
struct State {
    key: Option<Vec<u8>>,
    /// Of the key being read; 0 before the first key, as in Redis.
    type_byte: Option<u8>,
    keys: u64,
    expires: u64,
    expired: u64,
}

enum Stop {
    Output(io::Error),
    File(RdbError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

impl From<RdbError> for Stop {
    fn from(error: RdbError) -> Stop {
        Stop::File(error)
    }
}

impl State {
    fn read<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        check: &mut RdbCheck<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Stop> {
        for count in 0u64.. {
            if count.is_multiple_of(RECORDS_PER_PROGRESS) {
                (check.progress)(reader.offset());
            }
            let record = reader.record()?;
            let offset = reader.offset();
            match record {
                Record::Aux { name, value } => {
                    writeln!(out, "[offset {offset}] AUX FIELD {} = '{}'", c_str(&name), c_str(&value))?;
                }
                Record::SelectDb(db) => writeln!(out, "[offset {offset}] Selecting DB ID {db}")?,
                Record::ModuleAux { name } => writeln!(out, "[offset {offset}] MODULE AUX for: {name}")?,
                Record::ResizeDb { .. } | Record::Function(_) => {}
                Record::Key(key) => self.read_value(reader, &key, check)?,
                Record::Eof(checksum) => {
                    match checksum {
                        ChecksumState::Good => writeln!(out, "[offset {offset}] Checksum OK")?,
                        ChecksumState::Disabled => {
                            let text = "RDB file was saved with checksum disabled: no check performed.";
                            writeln!(out, "[offset {offset}] {text}")?;
                        }
                        ChecksumState::Unchecked => {}
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn read_value<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        key: &Key,
        check: &mut RdbCheck<'_>,
    ) -> Result<(), RdbError> {
        self.key = Some(key.key.clone());
        self.type_byte = Some(key.kind as u8);
        self.keys += 1;
        let mut is_empty = true;
        while let Some(part) = reader.part()? {
            is_empty &= is_empty_listpack(&part);
            let complaint = |text| RdbError { offset: reader.offset(), kind: RdbErrorKind::Corrupt(text) };
            (check.validate)(key, &part).map_err(complaint)?;
        }
        if is_empty {
            // Redis has no other word for an empty value here.
            return Err(RdbError { offset: reader.offset(), kind: RdbErrorKind::UnexpectedEof(None) });
        }
        if let Some(expire_at_ms) = key.expire_at_ms {
            self.expires += 1;
            self.expired += u64::from(expire_at_ms < check.now_ms);
        }
        (self.key, self.type_byte) = (None, None);
        Ok(())
    }

    fn complain(&self, error: &RdbError, doing: &str, out: &mut dyn Write) -> io::Result<Option<u64>> {
        let internal = match &error.kind {
            RdbErrorKind::Corrupt(_) | RdbErrorKind::Unsupported(_) | RdbErrorKind::UnexpectedEof(Some(_)) => {
                format!("Internal error in RDB reading offset {} -> ", error.offset)
            }
            _ => String::new(),
        };
        writeln!(out, "--- RDB ERROR DETECTED ---")?;
        writeln!(out, "[offset {}] {internal}{}", error.offset, error.kind)?;
        writeln!(out, "[additional info] While doing: {doing}")?;
        if let Some(key) = &self.key {
            writeln!(out, "[additional info] Reading key '{}'", c_str(key))?;
        }
        if let Some(byte) = self.type_byte {
            let name = crate::rdb::Kind::from_byte(byte).map_or("unknown", crate::rdb::Kind::name);
            writeln!(out, "[additional info] Reading type {byte} ({name})")?;
        }
        self.totals(out)?;
        Ok(None)
    }

    fn totals(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "[info] {} keys read", self.keys)?;
        writeln!(out, "[info] {} expires", self.expires)?;
        writeln!(out, "[info] {} already expired", self.expired)
    }
}

/// The bytes as C prints them: to the first zero.
fn c_str(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default())
}

/// Whether the part is a packed collection without entries: nothing but its header and end.
fn is_empty_listpack(part: &Part) -> bool {
    matches!(part, Part::Packed(Packed::Listpack, bytes) if bytes.len() == 7)
}
