//! The manifest of a multi-part AOF: which files make up the log, in which order.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b
//! file appendonly.aof.1.incr.aof seq 1 type h
//! file appendonly.aof.3.incr.aof seq 3 type i
//! ```
//!
//! One base (`b`) at most; incremental files (`i`) in ascending order; history (`h`) is what a rewrite has replaced and
//! a later step removes. A line is `file` name `seq` number `type` letter, names in quotes where they need them; more
//! pairs may follow; lines that begin with `#` are comments.

use crate::file::{self, Dir};
use std::{fmt, io};

/// A longer line is refused, as Redis does.
const LONGEST_LINE: usize = 1024;

/// What a file of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// The state at the last rewrite.
    Base,
    /// Replaced, to be removed.
    History,
    /// Commands since.
    Incr,
}

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name within the directory.
    pub name: String,
    /// Counts the files of its type.
    pub seq: i64,
    /// What it is.
    pub file_type: FileType,
}

/// The files of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The base, if there is one.
    pub base: Option<FileInfo>,
    /// Files to be removed.
    pub history: Vec<FileInfo>,
    /// Incremental files, oldest first; the last is the one being written.
    pub incr: Vec<FileInfo>,
    /// The last number given to a base.
    pub base_seq: i64,
    /// The last number given to an incremental file.
    pub incr_seq: i64,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// Counted from 1.
    pub line_number: usize,
    /// The line, where it was read whole.
    pub line: Option<String>,
    /// Redis's words for it.
    pub text: &'static str,
}

impl fmt::Display for ManifestError {
    /// The lines Redis logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\n*** FATAL AOF MANIFEST FILE ERROR ***\n")?;
        if let Some(line) = &self.line {
            write!(f, "Reading the manifest file, at line {}\n>>> '{line}'\n", self.line_number)?;
        }
        f.write_str(self.text)
    }
}

impl std::error::Error for ManifestError {}

/// The name of the manifest for this `appendfilename`.
pub fn manifest_name(filename: &str) -> String {
    format!("{filename}.manifest")
}

/// The name of the file that takes commands while a first base is being written.
pub fn temp_incr_name(filename: &str) -> String {
    format!("temp-{filename}.incr")
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut rest = bytes;
        let mut line_number = 0;
        if bytes.is_empty() {
            return Err(ManifestError { line_number, line: None, text: "Found an empty AOF manifest" });
        }
        while !rest.is_empty() {
            line_number += 1;
            let end = rest.iter().take(LONGEST_LINE).position(|b| *b == b'\n');
            let (line, tail) = rest.split_at(end.map_or_else(|| rest.len().min(LONGEST_LINE), |end| end + 1));
            rest = tail;
            if line.starts_with(b"#") {
                continue;
            }
            if end.is_none() || line.contains(&0) {
                let text = "The AOF manifest file contains too long line";
                return Err(ManifestError { line_number, line: None, text });
            }
            let line = String::from_utf8_lossy(line.trim_ascii());
            let failed = |text| ManifestError { line_number, line: Some(line.to_string()), text };
            manifest.add(parse_line(&line).map_err(failed)?).map_err(failed)?;
        }
        Ok(manifest)
    }

    /// The manifest as it stands in the file: base, history, incremental files.
    pub fn format(&self) -> String {
        let files = self.base.iter().chain(&self.history).chain(&self.incr);
        files
            .map(|info| format!("file {} seq {} type {}\n", quoted(&info.name), info.seq, info.file_type.letter()))
            .collect()
    }

    /// Reads the manifest of `filename` in `dir`; an empty one if there is none.
    pub fn load(dir: &dyn Dir, filename: &str) -> io::Result<Result<Manifest, ManifestError>> {
        let mut bytes = Vec::new();
        match dir.open(&manifest_name(filename)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Manifest::default())),
            Err(error) => return Err(error),
            Ok(mut file) => file.read_to_end(&mut bytes)?,
        };
        Ok(Manifest::parse(&bytes))
    }

    /// Puts the manifest of `filename` into `dir`, whole or not at all, synced.
    pub fn save(&self, dir: &dyn Dir, filename: &str) -> io::Result<()> {
        let name = manifest_name(filename);
        file::replace(dir, &format!("temp-{name}"), &name, self.format().as_bytes())
    }

    /// Whether no file is named that would have to be loaded.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.incr.is_empty()
    }

    /// The files to load, in order.
    pub fn files_to_load(&self) -> impl Iterator<Item = &FileInfo> {
        self.base.iter().chain(&self.incr)
    }

    /// Names a new base (the old one becomes history) and gives its name.
    pub fn add_base(&mut self, filename: &str, rdb: bool) -> String {
        if let Some(old) = self.base.take() {
            self.history.insert(0, FileInfo { file_type: FileType::History, ..old });
        }
        self.base_seq += 1;
        let name = format!("{filename}.{}.base.{}", self.base_seq, if rdb { "rdb" } else { "aof" });
        self.base = Some(FileInfo { name: name.clone(), seq: self.base_seq, file_type: FileType::Base });
        name
    }

    /// Names a new incremental file and gives its name.
    pub fn add_incr(&mut self, filename: &str) -> String {
        self.incr_seq += 1;
        let name = format!("{filename}.{}.incr.aof", self.incr_seq);
        self.incr.push(FileInfo { name: name.clone(), seq: self.incr_seq, file_type: FileType::Incr });
        name
    }

    /// After a rewrite: all incremental files but the last `kept` are history.
    pub fn retire_incr(&mut self, kept: usize) {
        let retired = self.incr.drain(..self.incr.len().saturating_sub(kept));
        let retired = retired.map(|info| FileInfo { file_type: FileType::History, ..info });
        self.history = retired.chain(std::mem::take(&mut self.history)).collect();
    }

    fn add(&mut self, info: FileInfo) -> Result<(), &'static str> {
        match info.file_type {
            FileType::Base => {
                if self.base.is_some() {
                    return Err("Found duplicate base file information");
                }
                self.base_seq = info.seq;
                self.base = Some(info);
            }
            FileType::History => self.history.push(info),
            FileType::Incr => {
                if info.seq <= self.incr.last().map_or(0, |last| last.seq) {
                    return Err("Found a non-monotonic sequence number");
                }
                self.incr_seq = info.seq;
                self.incr.push(info);
            }
        }
        Ok(())
    }
}

impl FileType {
    fn letter(self) -> char {
        match self {
            FileType::Base => 'b',
            FileType::History => 'h',
            FileType::Incr => 'i',
        }
    }
}

fn parse_line(line: &str) -> Result<FileInfo, &'static str> {
    const FORMAT: &str = "Invalid AOF manifest file format";
    let words = split_words(line).filter(|words| words.len() >= 6 && words.len().is_multiple_of(2)).ok_or(FORMAT)?;
    let (mut name, mut seq, mut letter) = (None, 0, None);
    for [key, value] in words.as_chunks().0 {
        if key.eq_ignore_ascii_case("file") {
            if value.contains(['/', '\\']) {
                return Err("File can't be a path, just a filename");
            }
            name = Some(value.clone());
        } else if key.eq_ignore_ascii_case("seq") {
            seq = leading_int(value);
        } else if key.eq_ignore_ascii_case("type") {
            letter = value.chars().next();
        }
    }
    let (Some(name), Some(letter), true) = (name, letter, seq != 0) else { return Err(FORMAT) };
    let file_type = match letter {
        'b' => FileType::Base,
        'h' => FileType::History,
        'i' => FileType::Incr,
        _ => return Err("Unknown AOF file type"),
    };
    Ok(FileInfo { name, seq, file_type })
}

/// The integer a text begins with; 0 where it begins with none.
fn leading_int(text: &str) -> i64 {
    let text = text.trim_start();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let len = digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text[..text.len() - digits.len() + len].parse().unwrap_or(0)
}

/// Splits a line into words by blanks, undoing quotes; `None` where quotes are not closed or not followed by a blank.
fn split_words(line: &str) -> Option<Vec<String>> {
    let mut bytes = line.bytes().peekable();
    let mut words = Vec::new();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        if bytes.peek().is_none() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(byte) = bytes.next_if(|b| !b.is_ascii_whitespace()) {
            match byte {
                b'"' | b'\'' => {
                    quoted_run(&mut bytes, byte, &mut word)?;
                    match bytes.peek() {
                        Some(next) if !next.is_ascii_whitespace() => return None,
                        _ => break,
                    }
                }
                plain => word.push(plain),
            }
        }
        words.push(String::from_utf8(word).ok()?);
    }
}

/// Reads to the closing quote.
fn quoted_run(bytes: &mut std::iter::Peekable<std::str::Bytes<'_>>, quote: u8, word: &mut Vec<u8>) -> Option<()> {
    loop {
        let byte = bytes.next()?;
        if byte == quote {
            return Some(());
        }
        if byte != b'\\' || (quote == b'\'' && bytes.peek() != Some(&b'\'')) {
            word.push(byte);
            continue;
        }
        let escaped = bytes.next()?;
        word.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'a' => 7,
            b'x' => {
                let mut ahead = bytes.clone();
                match (ahead.next().and_then(hex_digit), ahead.next().and_then(hex_digit)) {
                    (Some(high), Some(low)) => {
                        *bytes = ahead;
                        high << 4 | low
                    }
                    _ => b'x',
                }
            }
            other => other,
        });
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The name as it stands in the manifest: in quotes if it has anything but plain printable letters.
fn quoted(name: &str) -> String {
    if name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\')) {
        return name.to_owned();
    }
    let mut out = String::from("\"");
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            7 => out.push_str("\\a"),
            8 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "file appendonly.aof.2.base.rdb seq 2 type b\n\
                           file appendonly.aof.1.incr.aof seq 1 type h\n\
                           file appendonly.aof.4.incr.aof seq 4 type i\n\
                           file appendonly.aof.5.incr.aof seq 5 type i\n";

    fn complaint(text: &str) -> &'static str {
        Manifest::parse(text.as_bytes()).expect_err(text).text
    }

    #[test]
    fn reads_what_it_writes() {
        let manifest = Manifest::parse(EXAMPLE.as_bytes()).expect("well formed");
        assert_eq!(manifest.format(), EXAMPLE);
        assert_eq!((manifest.base_seq, manifest.incr_seq), (2, 5));
        let names: Vec<&str> = manifest.files_to_load().map(|info| &*info.name).collect();
        assert_eq!(names, ["appendonly.aof.2.base.rdb", "appendonly.aof.4.incr.aof", "appendonly.aof.5.incr.aof"]);
    }

    #[test]
    fn comments_quotes_and_further_pairs() {
        let text = "# comment\nFILE \"a b\\x22\" seq 1 TYPE base later 'it\\'s'\n";
        let manifest = Manifest::parse(text.as_bytes()).expect("well formed");
        assert_eq!(manifest.base.as_ref().map(|b| &*b.name), Some("a b\""));
        assert_eq!(manifest.format(), "file \"a b\\\"\" seq 1 type b\n");
        assert!(Manifest::parse(b"# nothing\n").expect("well formed").is_empty());
    }

    #[test]
    fn complaints_are_those_of_redis() {
        assert_eq!(complaint(""), "Found an empty AOF manifest");
        assert_eq!(complaint("\n"), "Invalid AOF manifest file format");
        assert_eq!(complaint("file a seq 1\n"), "Invalid AOF manifest file format");
        assert_eq!(complaint("file a seq 1 type b x\n"), "Invalid AOF manifest file format");
        assert_eq!(complaint("file a seq 0 type b\n"), "Invalid AOF manifest file format");
        assert_eq!(complaint("file a seq x type b\n"), "Invalid AOF manifest file format");
        assert_eq!(complaint("file a seq 1 type \"\"\n"), "Invalid AOF manifest file format");
        assert_eq!(complaint("file \"a seq 1 type b\n"), "Invalid AOF manifest file format");
        assert_eq!(complaint("file a/b seq 1 type b\n"), "File can't be a path, just a filename");
        assert_eq!(complaint("file a seq 1 type x\n"), "Unknown AOF file type");
        assert_eq!(complaint("file a seq 1 type b\nfile b seq 2 type b\n"), "Found duplicate base file information");
        assert_eq!(complaint("file a seq 2 type i\nfile b seq 2 type i\n"), "Found a non-monotonic sequence number");
        assert_eq!(complaint("file a seq -1 type i\n"), "Found a non-monotonic sequence number");
        assert_eq!(complaint("file a seq 1 type b"), "The AOF manifest file contains too long line");
        assert_eq!(
            complaint(&format!("file {} seq 1 type b\n", "a".repeat(1010))),
            "The AOF manifest file contains too long line"
        );
        let error = Manifest::parse(b"# x\n file a seq 1 type x \n").expect_err("unknown type");
        let log = "\n*** FATAL AOF MANIFEST FILE ERROR ***\nReading the manifest file, at line 2\n\
                   >>> 'file a seq 1 type x'\nUnknown AOF file type";
        assert_eq!(error.to_string(), log);
    }

    #[test]
    fn a_rewrite_retires_the_old_files() {
        let mut manifest = Manifest::parse(EXAMPLE.as_bytes()).expect("well formed");
        assert_eq!(manifest.add_incr("appendonly.aof"), "appendonly.aof.6.incr.aof");
        assert_eq!(manifest.add_base("appendonly.aof", true), "appendonly.aof.3.base.rdb");
        manifest.retire_incr(1);
        let text = "file appendonly.aof.3.base.rdb seq 3 type b\n\
                    file appendonly.aof.4.incr.aof seq 4 type h\n\
                    file appendonly.aof.5.incr.aof seq 5 type h\n\
                    file appendonly.aof.2.base.rdb seq 2 type h\n\
                    file appendonly.aof.1.incr.aof seq 1 type h\n\
                    file appendonly.aof.6.incr.aof seq 6 type i\n";
        assert_eq!(manifest.format(), text);
    }

    #[test]
    fn a_cut_at_every_byte_is_refused_or_a_prefix() {
        for len in 0..EXAMPLE.len() {
            match Manifest::parse(&EXAMPLE.as_bytes()[..len]) {
                Ok(manifest) => assert!(EXAMPLE[..len].ends_with('\n') && manifest.format() == EXAMPLE[..len]),
                Err(error) => assert!(len == 0 || !EXAMPLE[..len].ends_with('\n'), "{error}"),
            }
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _: Result<_, _> = Manifest::parse(&bytes);
        }

        #[test]
        fn any_name_round_trips(name in "[^/\\\\\0]{1,40}") {
            let mut manifest = Manifest::default();
            manifest.add_base(&name, false);
            let read = Manifest::parse(manifest.format().as_bytes());
            prop_assert_eq!(read, Ok(manifest));
        }
    }
}
