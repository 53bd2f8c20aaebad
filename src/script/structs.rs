//! `struct`: values as bytes, as C would lay them out.
//!
//! A format is a row of: `>` big endian, `<` little endian, `!n` align to at most `n`; `x` a zero byte; `b B h H l L T
//! iN IN` integers of 1, 2, 8, 8 and `N` (4) bytes, lower case signed; `f d` numbers; `cN` a string of `N` bytes, `c0` of the length
//! before it; `s` a string and a zero byte; a blank nothing. All sizes come from the script, so all sums are checked
//! against the data (CVE-2020-14147).

use crate::lua::{CFunction, Line, Lossy, Lua, lua_fn, until_nul};
use crate::sandbox::set_functions;

/// Pushes the library's table. Raises.
pub(crate) fn push_library(lua: Lua) {
    lua.push_table(0, FUNCTIONS.len());
    set_functions(lua, FUNCTIONS);
}

const FUNCTIONS: &[(&[u8], CFunction)] = &[(b"pack", pack), (b"unpack", unpack), (b"size", size)];

/// A format being read, and what it set so far.
struct Format<'a> {
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(text: &'a [u8]) -> Format<'a> {
        Format { rest: until_nul(text), big_endian: cfg!(target_endian = "big"), align: 1 }
    }

    /// The next option and the size of its value, 0 for what has none. Raises on a size out of bounds.
    fn next(&mut self, lua: Lua) -> Option<(u8, usize)> {
        let (&option, rest) = self.rest.split_first()?;
        self.rest = rest;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.count(lua, 1),
            b'i' | b'I' => {
                let size = self.count(lua, 4);
                if size > INTEGER_MAX_BYTES {
                    lua.raise_fmt(format_args!("integral size {size} is larger than limit of {INTEGER_MAX_BYTES}"));
                }
                size
            }
            _ => 0,
        };
        Some((option, size))
    }

    /// A decimal number, if one is next. Raises when it does not fit C's `int`.
    fn count(&mut self, lua: Lua, default: usize) -> usize {
        if !self.rest.first().is_some_and(u8::is_ascii_digit) {
            return default;
        }
        let mut value = 0i32;
        while let Some((digit, rest)) = self.rest.split_first().filter(|(byte, _)| byte.is_ascii_digit()) {
            let next = value.checked_mul(10).and_then(|value| value.checked_add(i32::from(digit - b'0')));
            match next {
                Some(next) => value = next,
                None => lua.raise_text(b"integral size overflow"),
            }
            self.rest = rest;
        }
        value as usize
    }

    /// Bytes to leave free before a value of this size at this place.
    fn padding(&self, place: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.align);
        size.wrapping_sub(place & (size - 1)) & (size - 1)
    }

    /// An option that holds no value. Raises on one there is not.
    fn control(&mut self, lua: Lua, option: u8) {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.count(lua, 8);
                if !align.is_power_of_two() {
                    lua.raise_fmt(format_args!("alignment {align} is not a power of 2"));
                }
                self.align = align;
            }
            _ => {
                let text = Line::new(format_args!("invalid format option '{}'\0", Lossy(&[option])));
                lua.bad_argument(
                    1,
                    std::ffi::CStr::from_bytes_until_nul(text.bytes()).unwrap_or(c"invalid format option"),
                )
            }
        }
    }
}

lua_fn! {
    /// `struct.pack(format, ...)`.
    fn pack(lua) {
        let mut format = Format::new(lua.check_text(1));
        // A missing argument is nil.
        lua.push_nil();
        let out = lua.shared().text();
        out.clear();
        let mut arg = 1;
        while let Some((option, size)) = format.next(lua) {
            lua.check_text_len(out.len());
            out.resize(out.len() + format.padding(out.len(), option, size), 0);
            match option {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    arg += 1;
                    append_integer(out, lua.check_number(arg), size, format.big_endian);
                }
                b'x' => out.push(0),
                b'f' => {
                    arg += 1;
                    let value = lua.check_number(arg) as f32;
                    out.extend_from_slice(&if format.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
                }
                b'd' => {
                    arg += 1;
                    let value = lua.check_number(arg);
                    out.extend_from_slice(&if format.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
                }
                b'c' | b's' => {
                    arg += 1;
                    let text = lua.check_text(arg);
                    let size = if size == 0 { text.len() } else { size };
                    match text.get(..size) {
                        Some(text) => out.extend_from_slice(text),
                        None => lua.bad_argument(arg + 1, c"string too short"),
                    }
                    if option == b's' {
                        out.push(0);
                    }
                }
                _ => format.control(lua, option),
            }
        }
        lua.push_bytes(out);
        1
    }
}

/// The lowest `size` bytes of a number; beyond eight they are zero, whatever its sign.
fn append_integer(out: &mut Vec<u8>, value: f64, size: usize, big_endian: bool) {
    let bytes = if value < 0.0 { value as i64 as u64 } else { value as u64 }.to_le_bytes();
    let start = out.len();
    out.extend((0..size).map(|idx| bytes.get(idx).copied().unwrap_or(0)));
    if big_endian {
        out[start..].reverse();
    }
}

lua_fn! {
    /// `struct.unpack(format, data, offset)`: the values, and where the next one would begin.
    fn unpack(lua) {
        let mut format = Format::new(lua.check_text(1));
        let data = lua.check_text(2);
        let mut place = lua.opt_integer(3, 1) as usize;
        if place == 0 {
            lua.bad_argument(3, c"offset must be 1 or greater");
        }
        place -= 1;
        let mut results = 0;
        while let Some((option, mut size)) = format.next(lua) {
            place = place.wrapping_add(format.padding(place, option, size));
            let bytes = data_at(lua, data, place, size);
            lua.need_room(2, c"too many results");
            match option {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    lua.push_number(integer(bytes, format.big_endian, option.is_ascii_lowercase()));
                    results += 1;
                }
                b'f' => {
                    let bytes = bytes.try_into().unwrap_or_default();
                    let value = if format.big_endian { f32::from_be_bytes(bytes) } else { f32::from_le_bytes(bytes) };
                    lua.push_number(f64::from(value));
                    results += 1;
                }
                b'd' => {
                    let bytes = bytes.try_into().unwrap_or_default();
                    let value = if format.big_endian { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) };
                    lua.push_number(value);
                    results += 1;
                }
                b'c' => {
                    if size == 0 {
                        size = given_size(lua, results);
                        results -= 1;
                    }
                    lua.push_bytes(data_at(lua, data, place, size));
                    results += 1;
                }
                b's' => {
                    let rest = data_at(lua, data, place, data.len().saturating_sub(place));
                    let Some(end) = memchr::memchr(0, rest) else {
                        lua.raise_text(b"unfinished string in data");
                    };
                    lua.push_bytes(&rest[..end]);
                    size = end + 1;
                    results += 1;
                }
                b'x' => {}
                _ => format.control(lua, option),
            }
            place = place.wrapping_add(size);
        }
        lua.push_number(place.wrapping_add(1) as i64 as f64);
        results + 1
    }
}

/// `size` bytes of the data. Raises when there are not so many.
fn data_at(lua: Lua, data: &[u8], place: usize, size: usize) -> &[u8] {
    match place.checked_add(size).and_then(|end| data.get(place..end)) {
        Some(bytes) => bytes,
        None => lua.bad_argument(2, c"data string too short"),
    }
}

/// The value before a `c0`, which is its size; pops it.
fn given_size(lua: Lua, results: i32) -> usize {
    if results == 0 || !lua.is_number(-1) {
        lua.raise_text(b"format 'c0' needs a previous size");
    }
    let size = lua.number(-1);
    lua.pop(1);
    if size >= 0.0 { size as usize } else { usize::MAX }
}

fn integer(bytes: &[u8], big_endian: bool, signed: bool) -> f64 {
    let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = if big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) };
    if !signed {
        return value as f64;
    }
    let unused_bits = 64u32.saturating_sub(8 * bytes.len() as u32).min(63);
    ((value << unused_bits) as i64 >> unused_bits) as f64
}

lua_fn! {
    /// `struct.size(format)`.
    fn size(lua) {
        let mut format = Format::new(lua.check_text(1));
        let mut place = 0usize;
        while let Some((option, size)) = format.next(lua) {
            place = place.wrapping_add(format.padding(place, option, size));
            match option {
                b's' => lua.bad_argument(1, c"option 's' has no fixed size"),
                b'c' if size == 0 => lua.bad_argument(1, c"option 'c0' has no fixed size"),
                _ if !option.is_ascii_alphanumeric() => format.control(lua, option),
                _ => {}
            }
            place = place.wrapping_add(size);
        }
        lua.push_number(place as i64 as f64);
        1
    }
}

const INTEGER_MAX_BYTES: usize = 32;
