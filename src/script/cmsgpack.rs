//! `cmsgpack`: Lua values as MessagePack and back.
//!
//! Tables whose keys are exactly 1 to n are arrays, others maps; what MessagePack has no type for is nil. Tables
//! deeper than 16 are nil too, which ends cycles. Decoding reads what is there, never what a length only claims.

use std::ffi::CStr;

use crate::lua::{BOOLEAN, CFunction, Lua, NUMBER, STRING, TABLE, lua_fn, truncate};
use crate::sandbox::set_functions;

/// Pushes the library's table. Raises.
pub(crate) fn push_library(lua: Lua) {
    lua.push_table(0, FUNCTIONS.len() + TEXTS.len());
    set_functions(lua, FUNCTIONS);
    for (name, text) in TEXTS {
        lua.push_bytes(text);
        lua.raw_set_name(-2, name);
    }
}

const FUNCTIONS: &[(&[u8], CFunction)] =
    &[(b"pack", pack), (b"unpack", unpack), (b"unpack_one", unpack_one), (b"unpack_limit", unpack_limit)];

const TEXTS: &[(&[u8], &[u8])] = &[
    (b"_NAME", b"cmsgpack"),
    (b"_VERSION", b"lua-cmsgpack 0.4.0"),
    (b"_COPYRIGHT", b"Copyright (C) 2012, Salvatore Sanfilippo"),
    (b"_DESCRIPTION", b"MessagePack C implementation for Lua"),
];

lua_fn! {
    /// `cmsgpack.pack(...)`: all arguments, one after the other.
    fn pack(lua) {
        let count = lua.top();
        if count == 0 {
            lua.bad_argument(0, c"MessagePack pack needs input.");
        }
        let out = lua.shared().text();
        out.clear();
        for idx in 1..=count {
            lua.need_room(4, c"in function mp_check");
            lua.push_value(idx);
            append_value(lua, out, 0);
        }
        lua.push_bytes(out);
        1
    }
}

/// Appends the value on top, and pops it.
fn append_value(lua: Lua, out: &mut Vec<u8>, level: u32) {
    lua.check_text_len(out.len());
    match lua.kind(-1) {
        STRING => {
            let bytes = lua.text(-1).unwrap_or_default();
            append_string_header(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        BOOLEAN => out.push(if lua.boolean(-1) { 0xc3 } else { 0xc2 }),
        NUMBER => append_number(out, lua.number(-1)),
        TABLE if level < MAX_NESTING => append_table(lua, out, level),
        _ => out.push(0xc0),
    }
    lua.pop(1);
}

fn append_number(out: &mut Vec<u8>, value: f64) {
    let integer = truncate(value);
    if integer as f64 == value && value < TWO_TO_63 {
        append_integer(out, integer);
    } else if f64::from(value as f32) == value {
        out.push(0xca);
        out.extend_from_slice(&(value as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// In the fewest bytes.
fn append_integer(out: &mut Vec<u8>, value: i64) {
    let bytes = value.to_be_bytes();
    let (mark, len) = match value {
        -32..=127 => (None, 1),
        128..=0xff => (Some(0xcc), 1),
        0x100..=0xffff => (Some(0xcd), 2),
        0x1_0000..=0xffff_ffff => (Some(0xce), 4),
        0x1_0000_0000.. => (Some(0xcf), 8),
        -0x80..=-33 => (Some(0xd0), 1),
        -0x8000..=-0x81 => (Some(0xd1), 2),
        -0x8000_0000..=-0x8001 => (Some(0xd2), 4),
        _ => (Some(0xd3), 8),
    };
    out.extend(mark);
    out.extend_from_slice(&bytes[8 - len..]);
}

fn append_string_header(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=31 => out.push(0xa0 | len as u8),
        32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        _ => append_length(out, len, 0xda),
    }
}

/// A container's length: in the mark for up to 15 elements.
fn append_container_header(out: &mut Vec<u8>, len: usize, short_mark: u8, mark: u8) {
    match len {
        0..=15 => out.push(short_mark | len as u8),
        _ => append_length(out, len, mark),
    }
}

/// `mark` and 16 bits, or the mark after it and 32 bits.
fn append_length(out: &mut Vec<u8>, len: usize, mark: u8) {
    match u16::try_from(len) {
        Ok(len) => {
            out.push(mark);
            out.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            out.push(mark + 1);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// The table on top, which stays.
fn append_table(lua: Lua, out: &mut Vec<u8>, level: u32) {
    lua.need_room(5, c"in function mp_encode_lua_table_as_map");
    let (len, is_array) = survey(lua);
    if is_array {
        append_container_header(out, len, 0x90, 0xdc);
        for idx in 1..=len as i32 {
            lua.raw_get_index(-1, idx);
            append_value(lua, out, level + 1);
        }
        return;
    }
    append_container_header(out, len, 0x80, 0xde);
    lua.push_nil();
    while lua.next(-2) {
        lua.push_value(-2);
        append_value(lua, out, level + 1);
        append_value(lua, out, level + 1);
    }
}

/// How many entries the table on top has, and whether their keys are 1 to that number.
fn survey(lua: Lua) -> (usize, bool) {
    let (mut len, mut greatest, mut integers) = (0usize, 0i32, true);
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        len += 1;
        let key = if lua.kind(-1) == NUMBER { lua.number(-1) } else { 0.0 };
        let integer = key as i32;
        integers &= key > 0.0 && f64::from(integer) == key;
        greatest = greatest.max(integer);
    }
    (len, integers && greatest as usize == len)
}

/// Why decoding stopped.
enum Stop {
    /// `Missing bytes in input.`
    Ended,
    /// `Bad data format in input.`
    Malformed,
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Stop::Ended)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N)?.try_into().map_err(|_| Stop::Ended)
    }

    fn length_16(&mut self) -> Result<usize, Stop> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn length_32(&mut self) -> Result<usize, Stop> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }
}

/// Pushes one value, or any number of unfinished ones and says why.
fn push_value(lua: Lua, input: &mut Input, depth: u32) -> Result<(), Stop> {
    lua.need_room(4, c"too many return values at once; use unpack_one or unpack_limit instead.");
    match input.array::<1>()?[0] {
        mark @ 0x00..=0x7f => lua.push_number(f64::from(mark)),
        mark @ 0x80..=0x8f => push_map(lua, input, usize::from(mark & 15), depth)?,
        mark @ 0x90..=0x9f => push_array(lua, input, usize::from(mark & 15), depth)?,
        mark @ 0xa0..=0xbf => lua.push_bytes(input.take(usize::from(mark & 31))?),
        0xc0 => lua.push_nil(),
        0xc2 => lua.push_boolean(false),
        0xc3 => lua.push_boolean(true),
        0xca => lua.push_number(f64::from(f32::from_be_bytes(input.array()?))),
        0xcb => lua.push_number(f64::from_be_bytes(input.array()?)),
        0xcc => lua.push_number(f64::from(u8::from_be_bytes(input.array()?))),
        0xcd => lua.push_number(f64::from(u16::from_be_bytes(input.array()?))),
        0xce => lua.push_number(f64::from(u32::from_be_bytes(input.array()?))),
        0xd0 => lua.push_number(f64::from(i8::from_be_bytes(input.array()?))),
        0xd1 => lua.push_number(f64::from(i16::from_be_bytes(input.array()?))),
        0xd2 => lua.push_number(f64::from(i32::from_be_bytes(input.array()?))),
        // Both as signed, as Redis does; what `pack` writes is at most 2^63 - 1.
        0xcf | 0xd3 => lua.push_number(i64::from_be_bytes(input.array()?) as f64),
        0xd9 => {
            let len = usize::from(input.array::<1>()?[0]);
            lua.push_bytes(input.take(len)?);
        }
        0xda => {
            let len = input.length_16()?;
            lua.push_bytes(input.take(len)?);
        }
        0xdb => {
            let len = input.length_32()?;
            lua.push_bytes(input.take(len)?);
        }
        0xdc => {
            let len = input.length_16()?;
            push_array(lua, input, len, depth)?;
        }
        0xdd => {
            let len = input.length_32()?;
            push_array(lua, input, len, depth)?;
        }
        0xde => {
            let len = input.length_16()?;
            push_map(lua, input, len, depth)?;
        }
        0xdf => {
            let len = input.length_32()?;
            push_map(lua, input, len, depth)?;
        }
        mark @ 0xe0..=0xff => lua.push_number(f64::from(mark as i8)),
        _ => return Err(Stop::Malformed),
    }
    Ok(())
}

/// Containers that nest too deep end as Redis's do when the Lua stack is full.
fn check_depth(lua: Lua, depth: u32, what: &CStr) {
    if depth >= MAX_DEPTH {
        lua.raise_fmt(format_args!("stack overflow ({})", what.to_str().unwrap_or("")));
    }
}

fn push_array(lua: Lua, input: &mut Input, len: usize, depth: u32) -> Result<(), Stop> {
    check_depth(lua, depth, c"in function mp_decode_to_lua_array");
    lua.push_table(len.min(input.rest.len()), 0);
    for idx in 1..=len as i64 {
        push_value(lua, input, depth + 1)?;
        lua.raw_set_index(-2, idx as i32);
    }
    Ok(())
}

fn push_map(lua: Lua, input: &mut Input, len: usize, depth: u32) -> Result<(), Stop> {
    check_depth(lua, depth, c"too many return values at once; use unpack_one or unpack_limit instead.");
    lua.push_table(0, len.min(input.rest.len() / 2));
    for _ in 0..len {
        push_value(lua, input, depth + 1)?;
        push_value(lua, input, depth + 1)?;
        lua.raw_set(-3);
    }
    Ok(())
}

lua_fn! {
    /// `cmsgpack.unpack(data)`: all values.
    fn unpack(lua) {
        unpack_values(lua, 0, 0)
    }
}

lua_fn! {
    /// `cmsgpack.unpack_one(data, offset)`: where the next value begins (-1 at the end), and one value.
    fn unpack_one(lua) {
        let offset = lua.opt_integer(2, 0);
        lua.set_top(1);
        unpack_values(lua, 1, offset)
    }
}

lua_fn! {
    /// `cmsgpack.unpack_limit(data, limit, offset)`: as `unpack_one`, with up to `limit` values.
    fn unpack_limit(lua) {
        let limit = lua.check_integer(2);
        let offset = lua.opt_integer(3, 0);
        lua.set_top(1);
        unpack_values(lua, limit, offset)
    }
}

fn unpack_values(lua: Lua, limit: i64, offset: i64) -> i32 {
    let data = lua.check_text(1);
    let Some(start) = usize::try_from(offset).ok().filter(|_| limit >= 0) else {
        // The second number is the length, as in Redis.
        lua.raise_fmt(format_args!(
            "Invalid request to unpack with offset of {} and limit of {}.",
            offset as i32,
            data.len() as i32
        ));
    };
    let Some(rest) = data.get(start..) else {
        lua.raise_fmt(format_args!("Start offset {} greater than input length {}.", offset as i32, data.len() as i32));
    };
    let all = limit == 0 && offset == 0;
    let limit = if all { i64::from(i32::MAX) } else { limit };
    let mut input = Input { rest };
    let mut count = 0;
    while !input.rest.is_empty() && i64::from(count) < limit {
        match push_value(lua, &mut input, 0) {
            Ok(()) => count += 1,
            Err(Stop::Ended) => lua.raise_text(b"Missing bytes in input."),
            Err(Stop::Malformed) => lua.raise_text(b"Bad data format in input."),
        }
    }
    if all {
        return count;
    }
    lua.need_room(1, c"in function mp_unpack_full");
    let next = data.len() - input.rest.len();
    lua.push_number(if input.rest.is_empty() { -1.0 } else { next as f64 });
    lua.insert(2);
    count + 1
}

const MAX_NESTING: u32 = 16;
/// How deep containers may nest in what is decoded: bounds the recursion.
const MAX_DEPTH: u32 = 1000;
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
