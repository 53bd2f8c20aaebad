//! Lua values and replies of commands as a debugging client is shown them. Nothing here raises, and nothing goes on once
//! there is more text than is shown.

use std::ffi::c_int;

use crate::lua::{BOOLEAN, FUNCTION, LIGHT, Lua, NIL, NUMBER, STRING, TABLE, THREAD, USERDATA};
use crate::number::append_general;
use crate::readonly::push_hidden;

/// Tables in tables that are shown. Source: Redis 7.2.
const DEPTH: usize = 10;
/// Room on Lua's stack that showing a value takes.
pub(crate) const STACK_ROOM: c_int = DEPTH as c_int * 3 + 4;
/// C's `%g`.
const PRECISION: usize = 6;

/// Appends the value at `idx` to `out`, which is not to grow much past `most` bytes.
pub(super) fn value(lua: Lua, idx: c_int, out: &mut Vec<u8>, most: usize) {
    nested_value(lua, idx, out, most, 0);
}

fn nested_value(lua: Lua, idx: c_int, out: &mut Vec<u8>, most: usize, depth: usize) {
    if depth == DEPTH {
        return out.extend_from_slice(b"<max recursion level reached! Nested table?>");
    }
    match lua.kind(idx) {
        STRING => quoted(out, lua.text(idx).unwrap_or_default(), most),
        BOOLEAN => out.extend_from_slice(if lua.boolean(idx) { b"true" } else { b"false" }),
        NUMBER => append_general(out, lua.number(idx), PRECISION),
        NIL => out.extend_from_slice(b"nil"),
        TABLE => table(lua, idx, out, most, depth + 1),
        kind @ (FUNCTION | USERDATA | THREAD | LIGHT) => {
            let name = match kind {
                FUNCTION => "function",
                USERDATA => "userdata",
                THREAD => "thread",
                _ => "light-userdata",
            };
            out.extend_from_slice(format!("\"{name}@{:p}\"", lua.pointer(idx)).as_bytes());
        }
        _ => out.extend_from_slice(b"\"<unknown-lua-type>\""),
    }
}

/// A table whose keys come as 1, 2, ... is shown by its values alone. What is read-only is shown, too.
fn table(lua: Lua, idx: c_int, out: &mut Vec<u8>, most: usize, depth: usize) {
    if !push_hidden(lua, idx) {
        lua.push_value(idx);
    }
    let table = lua.top();
    let is_array = is_array(lua, table);
    out.push(b'{');
    let mut is_first = true;
    lua.push_nil();
    while lua.next(table) {
        if out.len() > most {
            lua.pop(2);
            break;
        }
        if !std::mem::take(&mut is_first) {
            out.extend_from_slice(b"; ");
        }
        if !is_array {
            out.push(b'[');
            nested_value(lua, -2, out, most, depth);
            out.extend_from_slice(b"]=");
        }
        nested_value(lua, -1, out, most, depth);
        lua.pop(1);
    }
    out.push(b'}');
    lua.pop(1);
}

fn is_array(lua: Lua, table: c_int) -> bool {
    let mut expected = 1.0;
    lua.push_nil();
    while lua.next(table) {
        lua.pop(1);
        if lua.kind(-1) != NUMBER || lua.number(-1) != expected {
            lua.pop(1);
            return false;
        }
        expected += 1.0;
    }
    true
}

/// Appends a RESP reply to `out`. A type that Redis does not show (verbatim text, big numbers, attributes, pushes) is left
/// out, and so is what follows it.
pub(super) fn reply(mut rest: &[u8], out: &mut Vec<u8>, most: usize) {
    nested_reply(&mut rest, out, most);
}

fn nested_reply(rest: &mut &[u8], out: &mut Vec<u8>, most: usize) {
    let Some((&kind, _)) = rest.split_first() else { return };
    if !b":$+-*~%_#,".contains(&kind) {
        return;
    }
    let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    let text = &line[1..];
    *rest = rest.get(end + 2..).unwrap_or_default();
    let len = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<usize>().ok());
    match (kind, len()) {
        (b':', _) => out.extend_from_slice(text),
        (b'+' | b'-', _) => quoted(out, line, most),
        (b'_', _) => out.extend_from_slice(b"(null)"),
        (b'#', _) => out.extend_from_slice(if text.starts_with(b"t") { b"#true" } else { b"#false" }),
        (b',', _) => {
            out.extend_from_slice(b"(double) ");
            out.extend_from_slice(text);
        }
        (b'$', Some(len)) => {
            let len = len.min(rest.len());
            quoted(out, &rest[..len], most);
            *rest = rest.get(len + 2..).unwrap_or_default();
        }
        (b'*', Some(len)) => elements(rest, [b"[", b"]"], len, out, most),
        (b'~', Some(len)) => elements(rest, [b"~(", b")"], len, out, most),
        (b'%', Some(len)) => pairs(rest, len, out, most),
        _ => out.extend_from_slice(b"NULL"),
    }
}

fn elements(rest: &mut &[u8], brackets: [&[u8]; 2], len: usize, out: &mut Vec<u8>, most: usize) {
    out.extend_from_slice(brackets[0]);
    for idx in 0..len {
        if out.len() > most {
            break;
        }
        if idx > 0 {
            out.push(b',');
        }
        nested_reply(rest, out, most);
    }
    out.extend_from_slice(brackets[1]);
}

fn pairs(rest: &mut &[u8], len: usize, out: &mut Vec<u8>, most: usize) {
    out.push(b'{');
    for idx in 0..len {
        if out.len() > most {
            break;
        }
        if idx > 0 {
            out.push(b',');
        }
        nested_reply(rest, out, most);
        out.extend_from_slice(b" => ");
        nested_reply(rest, out, most);
    }
    out.push(b'}');
}

/// Appends `bytes` as `"..."` with escapes; of very many only the first, so that `out` grows past `most`.
fn quoted(out: &mut Vec<u8>, bytes: &[u8], most: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in &bytes[..bytes.len().min(most)] {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend([b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(resp: &[u8]) -> String {
        let mut out = Vec::new();
        reply(resp, &mut out, usize::MAX);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies() {
        assert_eq!(shown(b"*4\r\n:1\r\n$1\r\na\r\n$-1\r\n*-1\r\n"), "[1,\"a\",NULL,NULL]");
        assert_eq!(shown(b"+OK\r\n"), "\"+OK\"");
        assert_eq!(shown(b"-ERR no\r\n"), "\"-ERR no\"");
        assert_eq!(shown(b"%2\r\n:0\r\n#f\r\n,1.5\r\n_\r\n"), "{0 => #false,(double) 1.5 => (null)}");
        assert_eq!(shown(b"~2\r\n#t\r\n*0\r\n"), "~(#true,[])");
        assert_eq!(shown(b"*2\r\n(12\r\n:1\r\n"), "[,]");
    }

    #[test]
    fn no_bytes_are_too_wrong() {
        for wrong in
            [&b""[..], b"$5\r\nab", b"$", b"*3\r\n:1", b"%1\r\n", b"*x\r\n", b"$99999999999999999999\r\n", b":1\r"]
        {
            shown(wrong);
        }
    }
}
