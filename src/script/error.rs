//! Error tables: `{err='CODE text', source=..., line=..., ignore_error_stats_update=true}`.

use std::ffi::c_int;

use crate::lua::{BOOLEAN, Lua, NUMBER, STRING, TABLE, lua_fn, until_nul};

/// Pushes `{err='ERR <message>'}`. Raises.
pub(crate) fn push_error(lua: Lua, message: &[u8]) {
    tell(lua, &[message]);
    push_error_parts(lua, b"ERR", message);
}

/// Raises `{err='ERR <message>'}`: an error of the `redis.*` API, without a position of its own.
pub(crate) fn raise_error(lua: Lua, message: &[u8]) -> ! {
    push_error(lua, message);
    lua.raise()
}

/// Pushes the table of an error line given without its `-`: `CODE text`. A line of one word has no code. Raises.
pub(crate) fn push_error_line(lua: Lua, line: &[u8]) {
    let line = until_nul(line);
    tell(lua, &[b"-", line]);
    match memchr::memchr(b' ', line) {
        Some(space) => push_error_parts(lua, &line[..space], &line[space + 1..]),
        None => push_error_parts(lua, b"ERR", line),
    }
}

/// A debugging client that goes from line to line is told of errors.
fn tell(lua: Lua, parts: &[&[u8]]) {
    if let Some(debugger) = lua.shared().debugger().filter(|debugger| debugger.tells()) {
        debugger.log_error(parts);
    }
}

fn push_error_parts(lua: Lua, code: &[u8], message: &[u8]) {
    lua.push_table(0, 2);
    lua.push_bytes(b"err");
    let text = lua.shared().text();
    text.clear();
    text.extend_from_slice(code);
    text.push(b' ');
    text.extend_from_slice(trim_newlines(message));
    lua.push_bytes(text);
    lua.raw_set(-3);
}

/// Marks the error table on top as one the server has counted already. Raises.
pub(crate) fn mark_counted(lua: Lua) {
    lua.push_bytes(COUNTED);
    lua.push_boolean(true);
    lua.raw_set(-3);
}

/// Does the error table at `idx` say that the server has counted it? Raises.
pub(crate) fn is_counted(lua: Lua, idx: c_int) -> bool {
    let kind = lua.raw_get_name(idx, COUNTED);
    let counted = kind == BOOLEAN && lua.boolean(-1);
    lua.pop(1);
    counted
}

lua_fn! {
    /// The error handler of a run: makes a table of what is none, and adds where it happened. The place is the
    /// function that raised, or its caller when that is written in C.
    pub(crate) fn handle_error(lua) {
        lua.set_top(1);
        if lua.kind(1) != TABLE {
            push_described(lua);
            lua.replace(1);
        }
        lua.set_top(1);
        let Some(place) = lua.place_of_error() else { return 1 };
        lua.push_c_text(place.source);
        lua.set_field(1, c"source");
        lua.push_number(f64::from(place.line));
        lua.set_field(1, c"line");
        1
    }
}

/// Pushes `{err='ERR <value 1 as text>'}`.
fn push_described(lua: Lua) {
    lua.push_value(1);
    lua.replace_by_text();
    lua.push_table(0, 3);
    lua.push_bytes(b"err");
    lua.push_bytes(b"ERR ");
    lua.push_value(2);
    lua.concat(2);
    lua.raw_set(-3);
}

/// Writes the reply for the error value on top, raised by the run of `name`, and gives its range in `out` without the
/// leading `-` and the line end, if the server has not counted it. Pops the value. Raises.
pub(crate) fn write_run_error(lua: Lua, name: &[u8], out: &mut Vec<u8>) -> Option<std::ops::Range<usize>> {
    out.push(b'-');
    let start = out.len();
    let mut counted = false;
    if lua.kind(-1) == TABLE {
        append_field(lua, b"err", b"ERR unknown error", out);
        counted = is_counted(lua, -1);
        if has_text(lua, b"line") && has_text(lua, b"source") {
            out.extend_from_slice(b" script: ");
            out.extend_from_slice(name);
            out.extend_from_slice(b", on ");
            append_field(lua, b"source", b"", out);
            out.push(b':');
            append_field(lua, b"line", b"", out);
            out.push(b'.');
        }
    } else {
        let text = lua.text(-1).map_or(&b"execution failure"[..], until_nul);
        out.extend_from_slice(b"ERR Error running script ");
        out.extend_from_slice(name);
        out.extend_from_slice(b", ");
        out.extend_from_slice(&text[..text.len().min(100)]);
    }
    lua.pop(1);
    blank_newlines(out, start);
    let error = start..out.len();
    out.extend_from_slice(b"\r\n");
    (!counted).then_some(error)
}

/// Writes the reply for the run of `name` that was killed, and gives its range as [`write_run_error`] does. Pops the
/// error value.
pub(crate) fn write_killed(lua: Lua, name: &[u8], out: &mut Vec<u8>) -> std::ops::Range<usize> {
    lua.pop(1);
    out.push(b'-');
    let start = out.len();
    for part in [b"ERR ", KILLED, b" script: ", name, b", on ", lua.shared().killed_at(), b"."] {
        out.extend_from_slice(part);
    }
    blank_newlines(out, start);
    let error = start..out.len();
    out.extend_from_slice(b"\r\n");
    error
}

/// The message of the error value on top, as FUNCTION LOAD reports it: `ERR` and a string, or a table's `err`. Pops
/// the value. Raises.
pub(crate) fn append_message(lua: Lua, out: &mut Vec<u8>) {
    if lua.kind(-1) == TABLE {
        append_field(lua, b"err", b"ERR unknown error", out);
    } else {
        out.extend_from_slice(b"ERR ");
        out.extend_from_slice(lua.text(-1).map_or(&b"unknown error"[..], until_nul));
    }
    lua.pop(1);
}

/// Appends the text of a field of the table on top.
fn append_field(lua: Lua, field: &[u8], missing: &[u8], out: &mut Vec<u8>) {
    let kind = lua.raw_get_name(-1, field);
    let text = if matches!(kind, STRING | NUMBER) { lua.text(-1).map(until_nul) } else { None };
    out.extend_from_slice(text.unwrap_or(missing));
    lua.pop(1);
}

fn has_text(lua: Lua, field: &[u8]) -> bool {
    let kind = lua.raw_get_name(-1, field);
    lua.pop(1);
    matches!(kind, STRING | NUMBER)
}

/// Replaces CR and LF from `start` on by spaces: an error is one line of the protocol, whatever a script puts in it.
pub(crate) fn blank_newlines(out: &mut [u8], start: usize) {
    for byte in &mut out[start..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

/// Without CR and LF at the end.
pub(crate) fn trim_newlines_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

/// Without CR and LF at both ends.
fn trim_newlines(mut text: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    trim_newlines_end(text)
}

/// Lua's own words when an allocation fails.
pub(crate) const NOT_ENOUGH_MEMORY: &[u8] = b"not enough memory";
/// What a script killed by SCRIPT KILL or FUNCTION KILL answers.
pub(crate) const KILLED: &[u8] = b"Script killed by user with SCRIPT KILL...";
const COUNTED: &[u8] = b"ignore_error_stats_update";
