//! A command's reply, in RESP, as a Lua value.
//!
//! | RESP | Lua |
//! |---|---|
//! | `:1` | number |
//! | `$3`, `*2` | string, table |
//! | `$-1`, `*-1` | `false` |
//! | `+OK`, `-ERR x` | `{ok='OK'}`, `{err='ERR x', ignore_error_stats_update=true}` |
//! | `_`, `#t`, `,1.5` | `nil`, boolean, `{double=1.5}` |
//! | `%1`, `~1`, `(1`, `=7` | `{map={...}}`, `{set={x=true}}`, `{big_number='1'}`, `{verbatim_string={string=, format=}}` |
//! | `\|1` | skipped: the value after it counts |

use crate::error::{mark_counted, push_error_line};
use crate::lua::{Lua, NIL};

/// Pushes the value `reply` starts with. Raises when it is no RESP value, which is the host's bug.
pub(crate) fn push_reply(lua: Lua, reply: &[u8]) {
    let mut reader = Reader { rest: reply };
    if push_value(lua, &mut reader, 0).is_none() {
        lua.raise_text(b"the server gave a reply that is none");
    }
}

/// Pushes one value; `None` (and any number of values pushed) when it is malformed.
fn push_value(lua: Lua, reader: &mut Reader, depth: usize) -> Option<()> {
    let (kind, line) = reader.line()?;
    match kind {
        b':' => lua.push_number(integer(line)? as f64),
        b'$' => match length(line)? {
            Some(len) => lua.push_bytes(reader.bytes(len)?),
            None => lua.push_boolean(false),
        },
        b'+' => push_named(lua, b"ok", |lua| lua.push_bytes(line)),
        b'*' => match length(line)? {
            Some(len) => push_array(lua, reader, len, depth)?,
            None => lua.push_boolean(false),
        },
        b'-' => {
            push_error_line(lua, line);
            mark_counted(lua);
        }
        b'_' => lua.push_nil(),
        b'#' => lua.push_boolean(line == b"t"),
        b',' => push_named(lua, b"double", |lua| lua.push_number(double(line))),
        b'(' => push_named(lua, b"big_number", |lua| lua.push_bytes(line)),
        b'=' => push_verbatim(lua, reader.bytes(length(line)??)?)?,
        b'%' => push_map(lua, reader, length(line)??, depth)?,
        b'~' | b'>' => push_set(lua, reader, length(line)??, depth)?,
        b'|' => {
            for _ in 0..length(line)??.checked_mul(2)? {
                skip(reader, depth + 1)?;
            }
            push_value(lua, reader, deeper(lua, depth)?)?;
        }
        _ => return None,
    }
    Some(())
}

/// Pushes `{name = what push pushes}`.
fn push_named(lua: Lua, name: &[u8], push: impl FnOnce(Lua)) {
    lua.push_table(0, 1);
    lua.push_bytes(name);
    push(lua);
    lua.raw_set(-3);
}

fn push_array(lua: Lua, reader: &mut Reader, len: usize, depth: usize) -> Option<()> {
    let depth = deeper(lua, depth)?;
    lua.push_table(len.min(reader.rest.len() / 3), 0);
    for idx in 1..=i32::try_from(len).ok()? {
        push_value(lua, reader, depth)?;
        lua.raw_set_index(-2, idx);
    }
    Some(())
}

fn push_map(lua: Lua, reader: &mut Reader, len: usize, depth: usize) -> Option<()> {
    let depth = deeper(lua, depth)?;
    lua.push_table(0, 1);
    lua.push_bytes(b"map");
    lua.push_table(0, 0);
    for _ in 0..len {
        push_value(lua, reader, depth)?;
        push_value(lua, reader, depth)?;
        set_unless_nil(lua);
    }
    lua.raw_set(-3);
    Some(())
}

fn push_set(lua: Lua, reader: &mut Reader, len: usize, depth: usize) -> Option<()> {
    let depth = deeper(lua, depth)?;
    lua.push_table(0, 1);
    lua.push_bytes(b"set");
    lua.push_table(0, 0);
    for _ in 0..len {
        push_value(lua, reader, depth)?;
        lua.push_boolean(true);
        set_unless_nil(lua);
    }
    lua.raw_set(-3);
    Some(())
}

/// `t[key] = value` from the top of the stack; a nil key, which a table cannot have, is left out.
fn set_unless_nil(lua: Lua) {
    if lua.kind(-2) == NIL { lua.pop(2) } else { lua.raw_set(-3) }
}

/// `txt:the text`.
fn push_verbatim(lua: Lua, bytes: &[u8]) -> Option<()> {
    let (format, text) = bytes.split_at_checked(3)?;
    let text = text.strip_prefix(b":")?;
    lua.push_table(0, 1);
    lua.push_bytes(b"verbatim_string");
    lua.push_table(0, 2);
    lua.push_bytes(b"string");
    lua.push_bytes(text);
    lua.raw_set(-3);
    lua.push_bytes(b"format");
    lua.push_bytes(format);
    lua.raw_set(-3);
    lua.raw_set(-3);
    Some(())
}

/// One level down, with stack for it.
fn deeper(lua: Lua, depth: usize) -> Option<usize> {
    (depth < MAX_DEPTH && lua.has_room(8)).then_some(depth + 1)
}

fn skip(reader: &mut Reader, depth: usize) -> Option<()> {
    let (kind, line) = reader.line()?;
    let elements = match kind {
        b'$' | b'=' => {
            if let Some(len) = length(line)? {
                reader.bytes(len)?;
            }
            0
        }
        b'*' | b'~' | b'>' => length(line)?.unwrap_or(0),
        b'%' => length(line)??.checked_mul(2)?,
        b'|' => length(line)??.checked_mul(2)?.checked_add(1)?,
        _ => 0,
    };
    if elements > 0 && depth >= MAX_DEPTH {
        return None;
    }
    (0..elements).try_for_each(|_| skip(reader, depth + 1))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The type byte and the rest of the line.
    #[inline]
    fn line(&mut self) -> Option<(u8, &'a [u8])> {
        let end = memchr::memchr(b'\r', self.rest)?;
        let (&kind, line) = self.rest[..end].split_first()?;
        self.rest = self.rest.get(end + 2..)?;
        Some((kind, line))
    }

    /// A payload and its line end.
    #[inline]
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let payload = self.rest.get(..len)?;
        self.rest = self.rest.get(len.checked_add(2)?..)?;
        Some(payload)
    }
}

/// `Some(None)` for -1.
#[inline]
fn length(line: &[u8]) -> Option<Option<usize>> {
    Some(usize::try_from(integer(line)?).ok())
}

#[inline]
fn integer(line: &[u8]) -> Option<i64> {
    let (negative, digits) = match line {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let mut value = 0i64;
    for digit in digits {
        // Downwards, because i64::MIN has no positive.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit.wrapping_sub(b'0')))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

fn double(line: &[u8]) -> f64 {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// How deep replies nest: COMMAND DOCS reaches 8.
const MAX_DEPTH: usize = 64;
