//! The first line of scripts and libraries: `#!lua flags=no-writes,allow-oom` and `#!lua name=mylib`.

use std::ops::{BitOr, BitOrAssign};

use crate::vm::ScriptError;

/// What a script declares about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags(u8);

impl ScriptFlags {
    /// `no-writes`: may run on read-only replicas and by EVAL_RO; its writes fail.
    pub const NO_WRITES: ScriptFlags = ScriptFlags(1);
    /// `allow-oom`: may run, and write, over `maxmemory`.
    pub const ALLOW_OOM: ScriptFlags = ScriptFlags(2);
    /// `allow-stale`: may run on a replica without its master.
    pub const ALLOW_STALE: ScriptFlags = ScriptFlags(4);
    /// `no-cluster`: must not run in a cluster.
    pub const NO_CLUSTER: ScriptFlags = ScriptFlags(8);
    /// `allow-cross-slot-keys`: may use keys of several slots.
    pub const ALLOW_CROSS_SLOT_KEYS: ScriptFlags = ScriptFlags(16);

    /// Every flag and its name, in the order FUNCTION LIST gives them.
    pub const NAMES: [(ScriptFlags, &'static str); 5] = [
        (ScriptFlags::NO_WRITES, "no-writes"),
        (ScriptFlags::ALLOW_OOM, "allow-oom"),
        (ScriptFlags::ALLOW_STALE, "allow-stale"),
        (ScriptFlags::NO_CLUSTER, "no-cluster"),
        (ScriptFlags::ALLOW_CROSS_SLOT_KEYS, "allow-cross-slot-keys"),
    ];

    /// Are all of `flags` set?
    pub fn contains(self, flags: ScriptFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for ScriptFlags {
    type Output = ScriptFlags;

    fn bitor(self, other: ScriptFlags) -> ScriptFlags {
        ScriptFlags(self.0 | other.0)
    }
}

impl BitOrAssign for ScriptFlags {
    fn bitor_assign(&mut self, other: ScriptFlags) {
        *self = *self | other;
    }
}

/// The flags of an EVAL script (`None` without a shebang: the rules from before Redis 7 hold) and how many bytes to
/// leave out before compiling; the line end stays, so that line numbers do.
pub(crate) fn parse_script(body: &[u8]) -> Result<(Option<ScriptFlags>, usize), ScriptError> {
    if !body.starts_with(b"#!") {
        return Ok((None, 0));
    }
    let end = end_of_line(body).ok_or_else(|| error("Invalid script shebang", b""))?;
    let parts = split_arguments(&body[..end]).unwrap_or_default();
    let (engine, options) = parts.split_first().ok_or_else(|| error("Invalid engine in script shebang", b""))?;
    if engine != b"#!lua" {
        return Err(error("Unexpected engine in script shebang: ", engine));
    }
    let mut flags = ScriptFlags::default();
    for option in options {
        let names = option.strip_prefix(b"flags=").ok_or_else(|| error("Unknown lua shebang option: ", option))?;
        for name in names.split(|&byte| byte == b',').filter(|_| !names.is_empty()) {
            let known = ScriptFlags::NAMES.iter().find(|(_, known)| known.as_bytes() == name);
            flags |= known.ok_or_else(|| error("Unexpected flag in script shebang: ", name))?.0;
        }
    }
    Ok((Some(flags), end))
}

/// What a library's first line says.
pub(crate) struct LibraryHeader {
    pub(crate) name: Vec<u8>,
    pub(crate) engine: Vec<u8>,
    /// Where the code to compile begins: at the first line's end.
    pub(crate) code_start: usize,
}

pub(crate) fn parse_library(code: &[u8]) -> Result<LibraryHeader, ScriptError> {
    if !code.starts_with(b"#!") {
        return Err(error("Missing library metadata", b""));
    }
    let code_start = end_of_line(code).ok_or_else(|| error("Invalid library metadata", b""))?;
    let parts = split_arguments(&code[..code_start]).unwrap_or_default();
    let (engine, options) = parts.split_first().ok_or_else(|| error("Invalid library metadata", b""))?;
    let mut name = None;
    for option in options {
        let (key, value) = option.split_at_checked(5).unwrap_or((option, b""));
        if !key.eq_ignore_ascii_case(b"name=") {
            return Err(error("Invalid metadata value given: ", option));
        }
        if name.replace(value.to_vec()).is_some() {
            return Err(error("Invalid metadata value, name argument was given multiple times", b""));
        }
    }
    let name = name.ok_or_else(|| error("Library name was not given", b""))?;
    Ok(LibraryHeader { name, engine: engine[2..].to_vec(), code_start })
}

/// Where the first line ends. What ends at a NUL is no line.
fn end_of_line(code: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', 0, code).filter(|end| code[*end] == b'\n')
}

fn error(text: &str, subject: &[u8]) -> ScriptError {
    ScriptError::new([b"ERR ", text.as_bytes(), subject].concat())
}

/// Splits a line at blanks. Words may be quoted: `"a\n\x41"` with escapes, `'a\'b'` without others. `None` when a quote
/// is not closed, or is closed in the middle of a word.
fn split_arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let mut word = Vec::new();
        while let Some((&byte, tail)) = rest.split_first().filter(|(byte, _)| !byte.is_ascii_whitespace()) {
            rest = match byte {
                b'"' => double_quoted(tail, &mut word)?,
                b'\'' => single_quoted(tail, &mut word)?,
                _ => {
                    word.push(byte);
                    tail
                }
            };
            let quoted = matches!(byte, b'"' | b'\'');
            if quoted && rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                return None;
            }
        }
        words.push(word);
        rest = rest.trim_ascii_start();
    }
    Some(words)
}

/// What follows the closing quote.
fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_value(*high) << 4 | hex_value(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
            [] => return None,
        }
    }
}

/// What follows the closing quote.
fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
            [] => return None,
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
