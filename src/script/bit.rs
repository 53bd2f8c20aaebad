//! `bit`: 32-bit operations. A number counts by its value modulo 2^32, rounded to an integer; results are signed.

use crate::lua::{CFunction, Lua, NONE, lua_fn};
use crate::sandbox::set_functions;

/// Pushes the library's table. Raises.
pub(crate) fn push_library(lua: Lua) {
    lua.push_table(0, FUNCTIONS.len());
    set_functions(lua, FUNCTIONS);
}

const FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"tobit", tobit),
    (b"bnot", bnot),
    (b"band", band),
    (b"bor", bor),
    (b"bxor", bxor),
    (b"lshift", lshift),
    (b"rshift", rshift),
    (b"arshift", arshift),
    (b"rol", rol),
    (b"ror", ror),
    (b"bswap", bswap),
    (b"tohex", tohex),
];

/// The argument's 32 bits. Raises when it is no number.
fn bits(lua: Lua, n: i32) -> u32 {
    if !lua.is_number(n) {
        lua.bad_type(n, c"number");
    }
    // Adding 1.5 * 2^52 leaves the integer in the lowest bits of the fraction, also for negative numbers.
    (lua.number(n) + 6_755_399_441_055_744.0).to_bits() as u32
}

fn give(lua: Lua, bits: u32) -> i32 {
    lua.push_number(f64::from(bits as i32));
    1
}

fn fold(lua: Lua, combine: impl Fn(u32, u32) -> u32) -> i32 {
    let first = bits(lua, 1);
    let result = (2..=lua.top()).rev().fold(first, |result, n| combine(result, bits(lua, n)));
    give(lua, result)
}

fn shift(lua: Lua, shift: impl Fn(u32, u32) -> u32) -> i32 {
    let value = bits(lua, 1);
    let count = bits(lua, 2) & 31;
    give(lua, shift(value, count))
}

lua_fn! { fn tobit(lua) { give(lua, bits(lua, 1)) } }
lua_fn! { fn bnot(lua) { give(lua, !bits(lua, 1)) } }
lua_fn! { fn band(lua) { fold(lua, |a, b| a & b) } }
lua_fn! { fn bor(lua) { fold(lua, |a, b| a | b) } }
lua_fn! { fn bxor(lua) { fold(lua, |a, b| a ^ b) } }
lua_fn! { fn lshift(lua) { shift(lua, |value, count| value << count) } }
lua_fn! { fn rshift(lua) { shift(lua, |value, count| value >> count) } }
lua_fn! { fn arshift(lua) { shift(lua, |value, count| (value as i32 >> count) as u32) } }
lua_fn! { fn rol(lua) { shift(lua, u32::rotate_left) } }
lua_fn! { fn ror(lua) { shift(lua, u32::rotate_right) } }
lua_fn! { fn bswap(lua) { give(lua, bits(lua, 1).swap_bytes()) } }

lua_fn! {
    /// `bit.tohex(x, n)`: the lowest `n` (8) digits; upper case when `n` is negative. Every `n` is safe, the least
    /// integer too (CVE-2024-31449).
    fn tohex(lua) {
        let value = bits(lua, 1);
        let count = if lua.kind(2) == NONE { 8 } else { bits(lua, 2) as i32 };
        let digits: &[u8; 16] = if count < 0 { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        let count = count.unsigned_abs().min(8) as usize;
        let mut text = [0; 8];
        for (place, digit) in text.iter_mut().enumerate() {
            *digit = digits[(value >> (4 * (7 - place)) & 15) as usize];
        }
        lua.push_bytes(&text[8 - count..]);
        1
    }
}
