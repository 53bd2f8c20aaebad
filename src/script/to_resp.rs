//! What a script returns, as RESP in its client's protocol version.
//!
//! | Lua | RESP2 | RESP3, where it differs |
//! |---|---|---|
//! | string | bulk string | |
//! | number | integer, fraction cut off | |
//! | `true`, `false` | `:1`, nil | `#t`, `#f` after `redis.setresp(3)` (RESP2: `:1`, `:0`); else `:1`, `_` |
//! | `{err=s}`, `{ok=s}` | error, status | |
//! | `{double=n}`, `{big_number=s}` | bulk string | `,` and `(` |
//! | `{verbatim_string={format=, string=}}` | bulk string | `=` |
//! | `{map=t}`, `{set=t}` | array | map, set |
//! | other tables | array, up to the first nil | |
//! | all else | nil | `_` |
//!
//! Iterative, with the containers on the Lua stack: depth costs no Rust stack. At Lua's own limit, about 2600 levels,
//! an element becomes the error `reached lua stack limit`.

use std::ops::Range;

use crate::error::{KILLED, blank_newlines, is_counted, trim_newlines_end};
use crate::host::{Resp, Tick};
use crate::lua::{BOOLEAN, Lua, NIL, NUMBER, STRING, TABLE, truncate, until_nul};
use crate::number::append_integer;
use redstart_types::number::append_double;

/// A container being written. Its table is on the Lua stack, under what the kind says.
pub(crate) struct Frame {
    kind: Container,
    /// Where its header (type byte, length, line end) lies in the output.
    header: Range<usize>,
    /// The length in the header, a guess until the end.
    guess: usize,
    len: usize,
}

#[derive(Clone, Copy)]
enum Container {
    /// Nothing above the table.
    Array,
    /// Above the outer table: the inner one, the last key, and before its value is written, that value.
    Map { value_next: bool },
    /// Above the outer table: the inner one and the last key.
    Set,
}

/// Writes the value on top to `out` and pops it. `client` is the protocol of the reply, `script` the one the script
/// chose. Raises; then `out` holds part of a reply.
pub(crate) fn write_reply(lua: Lua, client: Resp, script: Resp, out: &mut Vec<u8>) {
    let mut writer = Writer { lua, client, script, out };
    let frames = lua.shared().frames();
    frames.clear();
    let start = writer.out.len();
    writer.value(frames);
    let mut written = 0u32;
    while let Some(frame) = frames.last_mut() {
        lua.check_text_len(writer.out.len() - start);
        if writer.push_next(frame) {
            writer.value(frames);
        } else {
            let closed = frames.pop();
            writer.close(closed);
        }
        written = written.wrapping_add(1);
        if written.is_multiple_of(VALUES_A_TICK) {
            stop_if_killed(lua);
        }
    }
}

/// A reply may be much larger than the tables it is made of, so it is part of the script's time.
fn stop_if_killed(lua: Lua) {
    if lua.shared().host().is_some_and(|host| host.tick() == Tick::Kill) {
        lua.shared().killed.set(true);
        lua.raise_text(KILLED);
    }
}

struct Writer<'a> {
    lua: Lua,
    client: Resp,
    script: Resp,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Writes the value on top and pops it; a container instead opens a frame and stays.
    fn value(&mut self, frames: &mut Vec<Frame>) {
        let lua = self.lua;
        if !lua.has_room(6) {
            lua.pop(1);
            return self.out.extend_from_slice(b"-ERR reached lua stack limit\r\n");
        }
        match lua.kind(-1) {
            STRING => self.bulk(lua.text(-1).unwrap_or_default()),
            NUMBER => {
                self.out.push(b':');
                append_integer(self.out, truncate(lua.number(-1)));
                self.out.extend_from_slice(b"\r\n");
            }
            BOOLEAN => self.boolean(lua.boolean(-1)),
            TABLE => {
                if let Some(frame) = self.table() {
                    return frames.push(frame);
                }
            }
            _ => self.null(),
        }
        lua.pop(1);
    }

    /// Writes the table on top if its fields say it is no container.
    fn table(&mut self) -> Option<Frame> {
        let lua = self.lua;
        if lua.raw_get_name(-1, b"err") == STRING {
            self.error();
            lua.pop(1);
            return None;
        }
        lua.pop(1);
        if lua.raw_get_name(-1, b"ok") == STRING {
            self.line(b'+', until_nul(lua.text(-1).unwrap_or_default()));
            lua.pop(1);
            return None;
        }
        lua.pop(1);
        if lua.raw_get_name(-1, b"double") == NUMBER {
            self.double(lua.number(-1));
            lua.pop(1);
            return None;
        }
        lua.pop(1);
        if lua.raw_get_name(-1, b"big_number") == STRING {
            self.big_number(lua.text(-1).unwrap_or_default());
            lua.pop(1);
            return None;
        }
        lua.pop(1);
        if lua.raw_get_name(-1, b"verbatim_string") == TABLE && self.verbatim() {
            lua.pop(1);
            return None;
        }
        lua.pop(1);
        if lua.raw_get_name(-1, b"map") == TABLE {
            lua.push_nil();
            return Some(self.open(Container::Map { value_next: false }, 0));
        }
        lua.pop(1);
        if lua.raw_get_name(-1, b"set") == TABLE {
            lua.push_nil();
            return Some(self.open(Container::Set, 0));
        }
        lua.pop(1);
        Some(self.open(Container::Array, lua.raw_len(-1)))
    }

    fn open(&mut self, kind: Container, guess: usize) -> Frame {
        let start = self.out.len();
        self.header(kind, guess);
        Frame { kind, header: start..self.out.len(), guess, len: 0 }
    }

    fn header(&mut self, kind: Container, len: usize) {
        let (mark, len) = match (kind, self.client) {
            (Container::Map { .. }, Resp::V3) => (b'%', len),
            (Container::Map { .. }, Resp::V2) => (b'*', len.saturating_mul(2)),
            (Container::Set, Resp::V3) => (b'~', len),
            _ => (b'*', len),
        };
        self.out.push(mark);
        append_integer(self.out, i64::try_from(len).unwrap_or(i64::MAX));
        self.out.extend_from_slice(b"\r\n");
    }

    /// Pushes the next value of a container; false at its end.
    fn push_next(&mut self, frame: &mut Frame) -> bool {
        let lua = self.lua;
        match &mut frame.kind {
            Container::Array => {
                let Ok(idx) = i32::try_from(frame.len + 1) else { return false };
                lua.raw_get_index(-1, idx);
                if lua.kind(-1) == NIL {
                    lua.pop(1);
                    return false;
                }
                frame.len += 1;
            }
            Container::Map { value_next } => {
                if std::mem::take(value_next) {
                    return true;
                }
                if !lua.next(-2) {
                    return false;
                }
                lua.push_value(-2);
                *value_next = true;
                frame.len += 1;
            }
            Container::Set => {
                if !lua.next(-2) {
                    return false;
                }
                lua.pop(1);
                lua.push_value(-1);
                frame.len += 1;
            }
        }
        true
    }

    /// Puts the length right and pops the container's tables.
    fn close(&mut self, frame: Option<Frame>) {
        let Some(frame) = frame else { return };
        self.lua.pop(if matches!(frame.kind, Container::Array) { 1 } else { 2 });
        if frame.len == frame.guess {
            return;
        }
        let end = self.out.len();
        self.header(frame.kind, frame.len);
        let header_len = self.out.len() - end;
        let Range { start, end: old_end } = frame.header;
        // The new header is at the end: turn it to its place, then cut the old one out behind it.
        self.out[start..].rotate_right(header_len);
        self.out.drain(start + header_len..old_end + header_len);
    }

    /// The table under its `err` field, which is on top; pops the field.
    fn error(&mut self) {
        let lua = self.lua;
        self.out.push(b'-');
        let start = self.out.len();
        self.out.extend_from_slice(trim_newlines_end(until_nul(lua.text(-1).unwrap_or_default())));
        lua.pop(1);
        blank_newlines(self.out, start);
        if !is_counted(lua, -1)
            && let Some(host) = lua.shared().host()
        {
            host.script_error(&self.out[start..]);
        }
        self.out.extend_from_slice(b"\r\n");
        lua.push_nil();
    }

    fn line(&mut self, mark: u8, text: &[u8]) {
        self.out.push(mark);
        let start = self.out.len();
        self.out.extend_from_slice(text);
        blank_newlines(self.out, start);
        self.out.extend_from_slice(b"\r\n");
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.out.push(b'$');
        append_integer(self.out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    fn null(&mut self) {
        self.out.extend_from_slice(if self.client == Resp::V3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn boolean(&mut self, value: bool) {
        match (self.script, self.client, value) {
            (Resp::V2, _, false) => self.null(),
            (Resp::V3, Resp::V3, _) => self.out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
            _ => self.out.extend_from_slice(if value { b":1\r\n" } else { b":0\r\n" }),
        }
    }

    fn double(&mut self, value: f64) {
        let text = self.lua.shared().text();
        text.clear();
        append_double(text, value);
        match self.client {
            Resp::V3 => self.line(b',', text),
            Resp::V2 => self.bulk(text),
        }
    }

    fn big_number(&mut self, digits: &[u8]) {
        let text = self.lua.shared().text();
        text.clear();
        text.extend_from_slice(digits);
        blank_newlines(text, 0);
        match self.client {
            Resp::V3 => self.line(b'(', text),
            Resp::V2 => self.bulk(text),
        }
    }

    /// The `verbatim_string` table on top, if it has both fields.
    fn verbatim(&mut self) -> bool {
        let lua = self.lua;
        let complete = lua.raw_get_name(-1, b"format") == STRING && lua.raw_get_name(-2, b"string") == STRING;
        if complete {
            self.verbatim_string(lua.text(-2).unwrap_or_default(), lua.text(-1).unwrap_or_default());
            lua.pop(1);
        } else if lua.kind(-2) == STRING {
            lua.pop(1);
        }
        lua.pop(1);
        complete
    }

    fn verbatim_string(&mut self, format: &[u8], text: &[u8]) {
        if self.client == Resp::V2 {
            return self.bulk(text);
        }
        let format = until_nul(format);
        self.out.push(b'=');
        append_integer(self.out, i64::try_from(text.len() + 4).unwrap_or(i64::MAX));
        self.out.extend_from_slice(b"\r\n");
        self.out.extend((0..3).map(|idx| format.get(idx).copied().unwrap_or(b' ')));
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }
}

const VALUES_A_TICK: u32 = 100_000;
