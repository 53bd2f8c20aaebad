//! Reads an RDB file record by record, a value part by part, from any `io::Read`.

use super::error::{RdbError, RdbErrorKind};
use super::format::{HIGHEST_VERSION, Kind, MAGIC, module_name, module_opcode, opcode};
use super::record::{ChecksumState, Key, Part, Record};
use super::source::Source;
use super::value::ValueReader;
use std::io::Read;

/// Choices of whoever reads.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Compare the checksum at the end (directive `rdbchecksum`).
    pub checksum: bool,
    /// The highest version to accept, at most [`HIGHEST_VERSION`].
    pub max_version: u32,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { checksum: true, max_version: HIGHEST_VERSION }
    }
}

/// Reads one RDB file. After [`Record::Eof`] nothing more is read, so that an AOF tail can follow: see
/// [`Reader::into_rest`].
pub struct Reader<R> {
    source: Source<R>,
    options: ReadOptions,
    version: u32,
    db: u64,
    value: Option<ValueReader>,
    /// The kind of the key being read, until its value has been read.
    kind: Option<Kind>,
    activity: Activity,
    at_end: bool,
}

/// What the reader was about, in the words of `redis-check-rdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Reading the first nine bytes.
    Start,
    /// Reading the byte that begins a record.
    ReadType,
    /// Reading an expiry.
    ReadExpire,
    /// Reading a key.
    ReadKey,
    /// Reading a value.
    ReadObjectValue,
    /// Reading or comparing the checksum.
    CheckSum,
    /// Reading a number.
    ReadLen,
    /// Reading an auxiliary field.
    ReadAux,
    /// Reading what a module left.
    ReadModuleAux,
    /// Reading a function library.
    ReadFunctions,
}

impl Activity {
    /// The word `redis-check-rdb` prints.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Start => "start",
            Activity::ReadType => "read-type",
            Activity::ReadExpire => "read-expire",
            Activity::ReadKey => "read-key",
            Activity::ReadObjectValue => "read-object-value",
            Activity::CheckSum => "check-sum",
            Activity::ReadLen => "read-len",
            Activity::ReadAux => "read-aux",
            Activity::ReadModuleAux => "read-module-aux",
            Activity::ReadFunctions => "read-functions",
        }
    }
}

impl<R: Read> Reader<R> {
    /// Reads the first nine bytes: signature and version.
    pub fn new(inner: R, options: ReadOptions) -> Result<Reader<R>, RdbError> {
        let mut source = Source::new(inner, options.checksum);
        let header: [u8; 9] = source.array()?;
        let Some(digits) = header.strip_prefix(MAGIC) else {
            return Err(RdbError { offset: source.offset(), kind: RdbErrorKind::WrongSignature });
        };
        let version = parse_version(digits);
        if version < 1 || version > options.max_version {
            return Err(RdbError { offset: source.offset(), kind: RdbErrorKind::Version(version.into()) });
        }
        Ok(Reader {
            source,
            options,
            version,
            db: 0,
            value: None,
            kind: None,
            activity: Activity::ReadType,
            at_end: false,
        })
    }

    /// The version of the file.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes used so far.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// What the reader was last about.
    pub fn activity(&self) -> Activity {
        self.activity
    }

    /// The next record. A value that was not taken to its end is skipped. After the end of the file, the end again.
    pub fn record(&mut self) -> Result<Record, RdbError> {
        while self.part()?.is_some() {}
        if self.at_end {
            return Ok(Record::Eof(ChecksumState::Unchecked));
        }
        let mut key = Key {
            db: self.db,
            key: Vec::new(),
            expire_at_ms: None,
            lru_idle_s: None,
            lfu_freq: None,
            kind: Kind::String,
        };
        loop {
            self.activity = Activity::ReadType;
            let start = self.source.offset();
            match self.source.byte()? {
                opcode::EXPIRE_AT_S => {
                    self.activity = Activity::ReadExpire;
                    key.expire_at_ms = Some(i64::from(i32::from_le_bytes(self.source.array()?)) * 1000);
                }
                opcode::EXPIRE_AT_MS => {
                    self.activity = Activity::ReadExpire;
                    key.expire_at_ms = Some(i64::from_le_bytes(self.source.array()?));
                }
                opcode::FREQ => key.lfu_freq = Some(self.source.byte()?),
                opcode::IDLE => key.lru_idle_s = Some(self.source.len()?),
                opcode::SELECT_DB => {
                    self.activity = Activity::ReadLen;
                    self.db = self.source.len()?;
                    return Ok(Record::SelectDb(self.db));
                }
                opcode::RESIZE_DB => {
                    self.activity = Activity::ReadLen;
                    return Ok(Record::ResizeDb { keys: self.source.len()?, expires: self.source.len()? });
                }
                opcode::SLOT_INFO => {
                    // Slot, keys and expiring keys of a cluster node's slot (Redis 7.4): a hint.
                    self.activity = Activity::ReadLen;
                    for _ in 0..3 {
                        self.source.len()?;
                    }
                }
                opcode::AUX => {
                    self.activity = Activity::ReadAux;
                    return Ok(Record::Aux { name: self.source.string()?, value: self.source.string()? });
                }
                opcode::MODULE_AUX => return self.module_aux(),
                opcode::FUNCTION2 => {
                    self.activity = Activity::ReadFunctions;
                    return Ok(Record::Function(self.source.string()?));
                }
                opcode::FUNCTION_PRE_GA => {
                    return Err(self.source.corrupt("Pre-release function format not supported."));
                }
                opcode::EOF => return self.end(),
                byte => {
                    let unknown = || RdbError { offset: start + 1, kind: RdbErrorKind::UnknownType(byte) };
                    key.kind = Kind::from_byte(byte).ok_or_else(unknown)?;
                    self.kind = Some(key.kind);
                    self.activity = Activity::ReadKey;
                    key.key = self.source.string()?;
                    self.activity = Activity::ReadObjectValue;
                    self.value = Some(ValueReader::new(key.kind));
                    return Ok(Record::Key(key));
                }
            }
        }
    }

    /// The next part of the current key's value; `None` when it has been read to its end.
    pub fn part(&mut self) -> Result<Option<Part>, RdbError> {
        let Some(value) = &mut self.value else { return Ok(None) };
        let part = value.next(&mut self.source)?;
        if part.is_none() {
            (self.value, self.kind) = (None, None);
        }
        Ok(part)
    }

    /// How the key or value that is being read is written.
    pub fn current_kind(&self) -> Option<Kind> {
        self.kind
    }

    /// How many elements the current value says are still to come: a hint, never to be trusted.
    pub fn parts_hint(&self) -> u64 {
        self.value.as_ref().map_or(0, ValueReader::hint)
    }

    /// The bytes after the end of the RDB part.
    pub fn into_rest(self) -> impl Read {
        self.source.into_rest()
    }

    fn module_aux(&mut self) -> Result<Record, RdbError> {
        self.activity = Activity::ReadModuleAux;
        let id = self.source.len()?;
        let mark = self.source.len()?;
        self.source.len()?;
        if mark != module_opcode::UINT {
            return Err(self.source.corrupt("bad when_opcode"));
        }
        let name = module_name(id);
        super::value::skip_module(&mut self.source, &name)?;
        Ok(Record::ModuleAux { name })
    }

    fn end(&mut self) -> Result<Record, RdbError> {
        self.activity = Activity::CheckSum;
        self.at_end = true;
        if self.version < 5 {
            return Ok(Record::Eof(ChecksumState::Unchecked));
        }
        let computed = self.source.crc();
        let stored = u64::from_le_bytes(self.source.array()?);
        let state = match stored {
            _ if !self.options.checksum => ChecksumState::Unchecked,
            0 => ChecksumState::Disabled,
            _ if stored == computed => ChecksumState::Good,
            _ => {
                let kind = RdbErrorKind::Checksum { computed, stored };
                return Err(RdbError { offset: self.source.offset(), kind });
            }
        };
        Ok(Record::Eof(state))
    }
}

/// The number that four digits begin with; 0 where there is none.
fn parse_version(digits: &[u8]) -> u32 {
    let digits = digits.iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}
