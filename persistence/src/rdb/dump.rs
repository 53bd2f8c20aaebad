//! The payload of DUMP and RESTORE: one value outside of any file.
//!
//! ```text
//! kind(1) value  version(2, little endian)  crc64(8, little endian, of all before it)
//! ```
//!
//! FUNCTION DUMP uses the same footer behind function records.

use super::checksum::crc64;
use super::error::{RdbError, RdbErrorKind};
use super::format::{Kind, opcode};
use super::record::Part;
use super::source::Source;
use super::value::ValueReader;

/// The size of the footer: no shorter payload can be right.
pub const MIN_DUMP_BYTES: usize = 10;

/// Why a payload cannot be restored.
#[derive(Debug)]
pub enum DumpError {
    /// Too short, of a version too new, or its checksum is wrong. RESTORE answers
    /// `ERR DUMP payload version or checksum are wrong`.
    Footer,
    /// The value is not well formed. RESTORE answers `ERR Bad data format`.
    Format(RdbError),
}

/// Ends a payload that holds a kind and a value (or function records) with its footer.
pub fn finish_dump(payload: &mut Vec<u8>, version: u16) {
    payload.extend_from_slice(&version.to_le_bytes());
    let crc = crc64(0, payload);
    payload.extend_from_slice(&crc.to_le_bytes());
}

/// The version in a payload's footer.
pub fn dump_version(payload: &[u8]) -> Option<u16> {
    let [.., v0, v1, _, _, _, _, _, _, _, _] = *payload else { return None };
    Some(u16::from_le_bytes([v0, v1]))
}

/// Reads the value in a payload.
pub struct DumpReader<'a> {
    source: Source<&'a [u8]>,
    kind: Kind,
    value: ValueReader,
}

impl<'a> DumpReader<'a> {
    /// Checks the footer and reads the kind. `checksum` is off only after DEBUG SET-SKIP-CHECKSUM-VALIDATION.
    pub fn new(payload: &'a [u8], max_version: u32, checksum: bool) -> Result<DumpReader<'a>, DumpError> {
        let mut source = Source::new(checked_body(payload, max_version, checksum)?, false);
        let byte = source.byte().map_err(DumpError::Format)?;
        let unknown = RdbError { offset: 0, kind: RdbErrorKind::UnknownType(byte) };
        let kind = Kind::from_byte(byte).ok_or(DumpError::Format(unknown))?;
        Ok(DumpReader { source, kind, value: ValueReader::new(kind) })
    }

    /// How the value is written.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many elements the value says are still to come: a hint, never to be trusted.
    pub fn parts_hint(&self) -> u64 {
        self.value.hint()
    }

    /// The next part of the value. Bytes after it are not looked at, as in Redis.
    pub fn part(&mut self) -> Result<Option<Part>, RdbError> {
        self.value.next(&mut self.source)
    }
}

/// The function libraries in a payload of FUNCTION DUMP.
pub fn dumped_functions(payload: &[u8], max_version: u32, checksum: bool) -> Result<Vec<Vec<u8>>, DumpError> {
    let body = checked_body(payload, max_version, checksum)?;
    let mut source = Source::new(body, false);
    let mut libraries = Vec::new();
    while source.offset() < body.len() as u64 {
        match source.byte().map_err(DumpError::Format)? {
            opcode::FUNCTION2 => libraries.push(source.string().map_err(DumpError::Format)?),
            opcode::FUNCTION_PRE_GA => {
                return Err(DumpError::Format(source.corrupt("Pre-GA function format not supported")));
            }
            _ => return Err(DumpError::Format(source.corrupt("given type is not a function"))),
        }
    }
    Ok(libraries)
}

fn checked_body(payload: &[u8], max_version: u32, checksum: bool) -> Result<&[u8], DumpError> {
    let (summed, stored) = payload.split_last_chunk::<8>().ok_or(DumpError::Footer)?;
    let (body, version) = summed.split_last_chunk::<2>().ok_or(DumpError::Footer)?;
    let known = u32::from(u16::from_le_bytes(*version)) <= max_version;
    if known && (!checksum || crc64(0, summed) == u64::from_le_bytes(*stored)) {
        Ok(body)
    } else {
        Err(DumpError::Footer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Str;
    use super::*;

    /// What Redis 7.2.6 answers to `SET k hello` and `DUMP k`.
    const HELLO: &[u8] = b"\x00\x05hello\x0b\x00";

    fn hello() -> Vec<u8> {
        let mut payload = HELLO[..7].to_vec();
        finish_dump(&mut payload, 11);
        payload
    }

    #[test]
    fn a_string_comes_back() {
        let payload = hello();
        assert!(payload.starts_with(HELLO));
        assert_eq!(dump_version(&payload), Some(11));
        let mut reader = DumpReader::new(&payload, 12, true).expect("good footer");
        assert_eq!(reader.kind(), Kind::String);
        assert_eq!(reader.part().expect("good value"), Some(Part::String(Str::Bytes(b"hello".to_vec()))));
        assert_eq!(reader.part().expect("good value"), None);
    }

    #[test]
    fn footer_and_format_errors_differ() {
        for len in 0..hello().len() {
            assert!(matches!(DumpReader::new(&hello()[..len], 12, true), Err(DumpError::Footer)), "cut at {len}");
        }
        let mut newer = hello()[..7].to_vec();
        finish_dump(&mut newer, 13);
        assert!(matches!(DumpReader::new(&newer, 12, true), Err(DumpError::Footer)));
        let mut flipped = hello();
        flipped[3] ^= 1;
        assert!(matches!(DumpReader::new(&flipped, 12, true), Err(DumpError::Footer)));
        assert!(DumpReader::new(&flipped, 12, false).is_ok());
        let mut short = b"\x00\x7fhello".to_vec();
        finish_dump(&mut short, 11);
        let mut reader = DumpReader::new(&short, 12, true).expect("good footer");
        assert!(reader.part().is_err());
        let mut unknown = b"\x63hello".to_vec();
        finish_dump(&mut unknown, 11);
        assert!(matches!(DumpReader::new(&unknown, 12, true), Err(DumpError::Format(_))));
    }

    #[test]
    fn functions_come_back_or_say_what_is_wrong() {
        let mut payload = b"\xf5\x03abc\xf5\x02de".to_vec();
        finish_dump(&mut payload, 11);
        let libraries = dumped_functions(&payload, 12, true).expect("two libraries");
        assert_eq!(libraries, [b"abc".to_vec(), b"de".to_vec()]);
        let Err(DumpError::Format(error)) = dumped_functions(&hello(), 12, true) else { panic!("not a function") };
        assert_eq!(error.kind.to_string(), "given type is not a function");
    }
}
