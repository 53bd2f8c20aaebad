//! Read-only tables: what keeps one script from changing what the next one sees.
//!
//! The bundled Lua cannot mark a table, so a script is given an empty *front*. Its metatable reads through to the
//! hidden table (`__index`) and refuses writes (`__newindex`). The functions that look past metatables (`next`,
//! `rawget`, `rawset`, `setmetatable`, `getmetatable`, `table.insert`) are ours and know fronts by two keys in that
//! metatable which no script can name, being addresses of this library.

use std::ffi::{c_int, c_void};

use crate::lua::{Lua, NIL, TABLE, lua_fn};

/// Replaces the table on top by a front of it. Raises.
pub(crate) fn protect(lua: Lua) {
    lua.push_table(0, 0);
    lua.push_table(0, 4);
    lua.push_value(-3);
    lua.raw_set_name(-2, b"__index");
    lua.push_function(refuse_assignment);
    lua.raw_set_name(-2, b"__newindex");
    lua.push_light(hidden_key());
    lua.push_value(-4);
    lua.raw_set(-3);
    lua.push_boolean(false);
    set_shown_metatable(lua);
    lua.set_metatable(-2);
    lua.remove(-2);
}

/// Below the value on top lies a metatable: `getmetatable` will give that value in its stead (`nil` for `false`).
/// Pops the value. Raises.
pub(crate) fn set_shown_metatable(lua: Lua) {
    lua.push_light(shown_key());
    lua.insert(-2);
    lua.raw_set(-3);
}

/// Below the value on top lies a metatable: does it show another in its stead? Then pushes that.
pub(crate) fn push_shown_metatable(lua: Lua, metatable: c_int) -> bool {
    lua.push_light(shown_key());
    lua.raw_get(if metatable < 0 { metatable - 1 } else { metatable });
    let shown = lua.kind(-1) != NIL;
    if !shown {
        lua.pop(1);
    }
    shown
}

/// If the value is a front, pushes the table behind it.
pub(crate) fn push_hidden(lua: Lua, idx: c_int) -> bool {
    if lua.kind(idx) != TABLE || !lua.push_metatable(idx) {
        return false;
    }
    lua.push_light(hidden_key());
    lua.raw_get(-2);
    lua.remove(-2);
    let front = lua.kind(-1) == TABLE;
    if !front {
        lua.pop(1);
    }
    front
}

/// Raises if argument `idx` is a front: for functions that write without metamethods.
pub(crate) fn refuse_if_front(lua: Lua, idx: c_int) {
    if push_hidden(lua, idx) {
        lua.pop(1);
        lua.push_bytes(READONLY);
        lua.raise();
    }
}

lua_fn! {
    /// `__newindex` of fronts.
    fn refuse_assignment(lua) {
        lua.raise_text(READONLY)
    }
}

const READONLY: &[u8] = b"Attempt to modify a readonly table";

/// Two keys: their addresses differ from every other light userdata a script can hold.
static KEYS: [u8; 2] = [0; 2];

fn hidden_key() -> *const c_void {
    (&raw const KEYS[0]).cast()
}

fn shown_key() -> *const c_void {
    (&raw const KEYS[1]).cast()
}
