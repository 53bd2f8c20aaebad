//! `cjson`: the library's table and settings, and `cjson.encode`.
//!
//! A table whose keys are integers from 1 on is an array (nil for the gaps, unless they are too many), any other is
//! an object; the empty table is `{}`. Encoding is iterative, the tables lie on the Lua stack.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};

use crate::cjson_decode::decode;
use crate::lua::{BOOLEAN, CFunction, LIGHT, Line, Lua, NIL, NUMBER, STRING, TABLE, lua_fn, upvalue};
use crate::number::append_general;

/// One library table's settings; it lies in a userdata that is the upvalue of the table's functions.
pub(crate) struct Settings {
    sparse_convert: Cell<i32>,
    sparse_ratio: Cell<i32>,
    sparse_safe: Cell<i32>,
    encode_max_depth: Cell<i32>,
    pub(crate) decode_max_depth: Cell<i32>,
    /// 0: an error; 1: as text; 2: `null`.
    encode_invalid_numbers: Cell<i32>,
    pub(crate) decode_invalid_numbers: Cell<i32>,
    number_precision: Cell<i32>,
    keep_buffer: Cell<i32>,
}

impl Settings {
    fn new() -> Settings {
        Settings {
            sparse_convert: Cell::new(0),
            sparse_ratio: Cell::new(2),
            sparse_safe: Cell::new(10),
            encode_max_depth: Cell::new(1000),
            decode_max_depth: Cell::new(1000),
            encode_invalid_numbers: Cell::new(0),
            decode_invalid_numbers: Cell::new(1),
            number_precision: Cell::new(14),
            keep_buffer: Cell::new(1),
        }
    }

    /// The settings of the running function's table.
    pub(crate) fn of<'a>(lua: Lua) -> &'a Settings {
        // SAFETY: all functions of this library are made by `push_library`, with this upvalue.
        unsafe { &*lua.user_pointer(upvalue(1)).cast::<Settings>() }
    }
}

/// Pushes a table of the library, with settings of its own. Raises.
pub(crate) fn push_library(lua: Lua) {
    lua.push_table(0, 16);
    let settings = lua.push_userdata(size_of::<Settings>()).cast::<Settings>();
    // SAFETY: Lua gave a block of this size, aligned for any C type; `Settings` has no destructor to be missed.
    unsafe { settings.write(Settings::new()) };
    for (name, function) in FUNCTIONS {
        lua.push_value(-1);
        lua.push_closure(*function, 1);
        lua.raw_set_name(-3, name);
    }
    lua.pop(1);
    push_null(lua);
    lua.raw_set_name(-2, b"null");
    lua.push_bytes(b"cjson");
    lua.raw_set_name(-2, b"_NAME");
    lua.push_bytes(b"2.1.0");
    lua.raw_set_name(-2, b"_VERSION");
}

/// Pushes `cjson.null`, a light userdata of address zero.
pub(crate) fn push_null(lua: Lua) {
    lua.push_light(std::ptr::null::<c_void>());
}

const FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"encode", encode),
    (b"decode", decode),
    (b"encode_sparse_array", encode_sparse_array),
    (b"encode_max_depth", encode_max_depth),
    (b"decode_max_depth", decode_max_depth),
    (b"encode_number_precision", encode_number_precision),
    (b"encode_keep_buffer", encode_keep_buffer),
    (b"encode_invalid_numbers", encode_invalid_numbers),
    (b"decode_invalid_numbers", decode_invalid_numbers),
    (b"new", new),
];

lua_fn! {
    fn new(lua) {
        push_library(lua);
        1
    }
}

// Settings: each function changes one if given an argument, and returns it.

lua_fn! {
    fn encode_sparse_array(lua) {
        let settings = settings_call(lua, 3);
        choice_option(lua, 1, &settings.sparse_convert, SWITCH);
        integer_option(lua, 2, &settings.sparse_ratio, 0, i32::MAX);
        integer_option(lua, 3, &settings.sparse_safe, 0, i32::MAX);
        3
    }
}

lua_fn! {
    fn encode_max_depth(lua) {
        integer_option(lua, 1, &settings_call(lua, 1).encode_max_depth, 1, i32::MAX)
    }
}

lua_fn! {
    fn decode_max_depth(lua) {
        integer_option(lua, 1, &settings_call(lua, 1).decode_max_depth, 1, i32::MAX)
    }
}

lua_fn! {
    fn encode_number_precision(lua) {
        integer_option(lua, 1, &settings_call(lua, 1).number_precision, 1, 14)
    }
}

lua_fn! {
    fn encode_keep_buffer(lua) {
        choice_option(lua, 1, &settings_call(lua, 1).keep_buffer, SWITCH)
    }
}

lua_fn! {
    fn encode_invalid_numbers(lua) {
        choice_option(lua, 1, &settings_call(lua, 1).encode_invalid_numbers, &[c"off", c"on", c"null"])
    }
}

lua_fn! {
    fn decode_invalid_numbers(lua) {
        choice_option(lua, 1, &settings_call(lua, 1).decode_invalid_numbers, SWITCH)
    }
}

const SWITCH: &[&CStr] = &[c"off", c"on"];

/// The settings, with arguments up to `max` there, `nil` if not given. Raises when there are more.
fn settings_call<'a>(lua: Lua, max: c_int) -> &'a Settings {
    if lua.top() > max {
        lua.bad_argument(max + 1, c"found too many arguments");
    }
    lua.set_top(max);
    Settings::of(lua)
}

fn integer_option(lua: Lua, n: c_int, setting: &Cell<i32>, min: i32, max: i32) -> c_int {
    if lua.kind(n) != NIL {
        let value = lua.check_integer(n) as i32;
        if !(min..=max).contains(&value) {
            let text = Line::new(format_args!("expected integer between {min} and {max}\0"));
            lua.bad_argument(1, CStr::from_bytes_until_nul(text.bytes()).unwrap_or(c"out of range"));
        }
        setting.set(value);
    }
    lua.push_number(f64::from(setting.get()));
    1
}

fn choice_option(lua: Lua, n: c_int, setting: &Cell<i32>, choices: &[&CStr]) -> c_int {
    match lua.kind(n) {
        NIL => {}
        BOOLEAN => setting.set(i32::from(lua.boolean(n))),
        _ => setting.set(lua.check_option(n, None, choices) as i32),
    }
    match setting.get() {
        value @ (0 | 1) => lua.push_boolean(value == 1),
        value => lua.push_bytes(choices.get(value as usize).map_or(b"", |choice| choice.to_bytes())),
    }
    1
}

lua_fn! {
    /// `cjson.encode(value)`.
    fn encode(lua) {
        if lua.top() != 1 {
            lua.bad_argument(1, c"expected 1 argument");
        }
        let out = lua.shared().text();
        out.clear();
        Encoder { lua, settings: Settings::of(lua), out: &mut *out }.encode();
        lua.push_bytes(out);
        1
    }
}

/// A container being written; its table is on the Lua stack.
pub(crate) enum Frame {
    Array {
        written: i32,
        len: i32,
    },
    /// The last key is above the table.
    Object {
        first: bool,
    },
}

struct Encoder<'a> {
    lua: Lua,
    settings: &'a Settings,
    out: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    /// The value on top; pops it.
    fn encode(&mut self) {
        let frames = self.lua.shared().json_frames();
        frames.clear();
        self.value(frames);
        while let Some(frame) = frames.last_mut() {
            if self.push_next(frame) {
                self.value(frames);
            } else {
                frames.pop();
                self.lua.pop(1);
            }
        }
    }

    /// Writes the value on top and pops it; a table instead opens a frame and stays.
    fn value(&mut self, frames: &mut Vec<Frame>) {
        let lua = self.lua;
        lua.check_text_len(self.out.len());
        match lua.kind(-1) {
            STRING => self.string(lua.text(-1).unwrap_or_default()),
            NUMBER => self.number(-1),
            BOOLEAN => self.out.extend_from_slice(if lua.boolean(-1) { b"true" } else { b"false" }),
            NIL => self.out.extend_from_slice(b"null"),
            LIGHT if lua.user_pointer(-1).is_null() => self.out.extend_from_slice(b"null"),
            TABLE => return self.open(frames),
            _ => self.refuse(-1, "type not supported"),
        }
        lua.pop(1);
    }

    fn open(&mut self, frames: &mut Vec<Frame>) {
        let depth = frames.len() + 1;
        if depth > self.settings.encode_max_depth.get() as usize || !self.lua.has_room(5) {
            self.lua.raise_fmt(format_args!("Cannot serialise, excessive nesting ({depth})"));
        }
        match self.array_len() {
            Some(len) if len > 0 => {
                self.out.push(b'[');
                frames.push(Frame::Array { written: 0, len });
            }
            _ => {
                self.out.push(b'{');
                self.lua.push_nil();
                frames.push(Frame::Object { first: true });
            }
        }
    }

    /// The greatest index of the table on top if its keys are integers from 1 on, and not too few for it.
    fn array_len(&self) -> Option<i32> {
        let lua = self.lua;
        let (mut max, mut items) = (0i32, 0i64);
        lua.push_nil();
        while lua.next(-2) {
            let key = if lua.kind(-2) == NUMBER { lua.number(-2) } else { 0.0 };
            lua.pop(1);
            if !(key >= 1.0 && key.floor() == key) {
                lua.pop(1);
                return None;
            }
            if key > f64::from(max) {
                // Out of range it is no array index: such a table becomes an object.
                max = if key <= f64::from(i32::MAX) { key as i32 } else { i32::MIN };
            }
            items += 1;
        }
        let ratio = i64::from(self.settings.sparse_ratio.get());
        if ratio > 0 && i64::from(max) > items.saturating_mul(ratio) && max > self.settings.sparse_safe.get() {
            if self.settings.sparse_convert.get() == 0 {
                self.refuse(-1, "excessively sparse array");
            }
            return None;
        }
        Some(max)
    }

    /// Pushes the container's next value, after writing its comma and key; at the end closes it. Leaves the table.
    fn push_next(&mut self, frame: &mut Frame) -> bool {
        let lua = self.lua;
        match frame {
            Frame::Array { written, len } => {
                if written == len {
                    self.out.push(b']');
                    return false;
                }
                if *written > 0 {
                    self.out.push(b',');
                }
                *written += 1;
                lua.raw_get_index(-1, *written);
            }
            Frame::Object { first } => {
                if !lua.next(-2) {
                    self.out.push(b'}');
                    return false;
                }
                if !std::mem::take(first) {
                    self.out.push(b',');
                }
                self.key();
            }
        }
        true
    }

    /// The key under the value on top.
    fn key(&mut self) {
        match self.lua.kind(-2) {
            NUMBER => {
                self.out.push(b'"');
                self.number(-2);
                self.out.extend_from_slice(b"\":");
            }
            STRING => {
                self.string(self.lua.text(-2).unwrap_or_default());
                self.out.push(b':');
            }
            _ => self.refuse(-2, "table key must be a number or string"),
        }
    }

    fn number(&mut self, idx: c_int) {
        let value = self.lua.number(idx);
        if !value.is_finite() {
            match self.settings.encode_invalid_numbers.get() {
                0 => self.refuse(idx, "must not be NaN or Inf"),
                1 if value.is_nan() => return self.out.extend_from_slice(b"nan"),
                1 => {}
                _ => return self.out.extend_from_slice(b"null"),
            }
        }
        append_general(self.out, value, self.settings.number_precision.get() as usize);
    }

    fn string(&mut self, text: &[u8]) {
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        let mut rest = text;
        while let Some(special) = rest.iter().position(|&byte| ESCAPES[usize::from(byte)] != 0) {
            self.out.extend_from_slice(&rest[..special]);
            self.escape(rest[special]);
            rest = &rest[special + 1..];
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        match ESCAPES[usize::from(byte)] {
            b'u' => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            letter => self.out.extend_from_slice(&[b'\\', letter]),
        }
    }

    fn refuse(&self, idx: c_int, reason: &str) -> ! {
        self.lua.raise_fmt(format_args!("Cannot serialise {}: {reason}", self.lua.kind_name(idx)))
    }
}

/// The letter after the backslash for a byte that needs one, else 0.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut byte = 0;
    while byte < 32 {
        escapes[byte] = b'u';
        byte += 1;
    }
    escapes[8] = b'b';
    escapes[9] = b't';
    escapes[10] = b'n';
    escapes[12] = b'f';
    escapes[13] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'/' as usize] = b'/';
    escapes[b'\\' as usize] = b'\\';
    escapes[127] = b'u';
    escapes
};
