//! Lua's own functions that a sandbox cannot take as they are, each with what it guards.

use std::ffi::c_int;

use crate::lua::{BOOLEAN, CFunction, FUNCTION, Lua, MULTRET, NIL, NUMBER, STRING, TABLE, USERDATA, lua_fn, upvalue};
use crate::readonly::{push_hidden, push_shown_metatable, refuse_if_front, set_shown_metatable};
use crate::vm::compile;

/// Globals that replace Lua's.
pub(crate) const FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"pcall", pcall),
    (b"next", next),
    (b"rawget", rawget),
    (b"rawset", rawset),
    (b"getmetatable", getmetatable),
    (b"setmetatable", setmetatable),
    (b"setfenv", setfenv),
    (b"unpack", unpack),
    (b"load", load),
    (b"loadstring", loadstring),
    (b"collectgarbage", collectgarbage),
    (b"newproxy", newproxy),
];

lua_fn! {
    /// `pcall`: as Lua's, but an error table with `err` is given as that text, which scripts from before Redis 7 expect.
    fn pcall(lua) {
        lua.check_any(1);
        let args = lua.top();
        lua.push_boolean(true);
        lua.insert(1);
        if lua.protected_call(args - 1, MULTRET, 0) != 0 {
            lua.remove(1);
            if lua.kind(-1) == TABLE {
                lua.push_bytes(b"err");
                lua.get_table(-2);
                if matches!(lua.kind(-1), STRING | NUMBER) {
                    lua.replace(-2);
                }
            }
            lua.push_boolean(false);
            lua.insert(1);
        }
        lua.top()
    }
}

lua_fn! {
    /// `next`: sees through read-only tables.
    fn next(lua) {
        lua.check_kind(1, TABLE);
        if push_hidden(lua, 1) {
            lua.replace(1);
        }
        lua.set_top(2);
        if lua.next(1) {
            return 2;
        }
        lua.push_nil();
        1
    }
}

lua_fn! {
    /// `pairs`: its upvalue is `next`.
    pub(crate) fn pairs(lua) {
        lua.check_kind(1, TABLE);
        lua.push_value(upvalue(1));
        lua.push_value(1);
        lua.push_nil();
        3
    }
}

lua_fn! {
    /// `rawget`: sees through read-only tables.
    fn rawget(lua) {
        lua.check_kind(1, TABLE);
        lua.check_any(2);
        lua.set_top(2);
        if push_hidden(lua, 1) {
            lua.replace(1);
        }
        lua.raw_get(1);
        1
    }
}

lua_fn! {
    /// `rawset`: not on read-only tables.
    fn rawset(lua) {
        lua.check_kind(1, TABLE);
        lua.check_any(2);
        lua.check_any(3);
        lua.set_top(3);
        refuse_if_front(lua, 1);
        lua.raw_set(1);
        1
    }
}

lua_fn! {
    /// `getmetatable`: a copy that cannot be written to, of the metatables all scripts share.
    fn getmetatable(lua) {
        lua.check_any(1);
        if !lua.push_metatable(1) {
            lua.push_nil();
            return 1;
        }
        if push_shown_metatable(lua, -1) {
            if lua.kind(-1) == BOOLEAN {
                lua.push_nil();
            }
            return 1;
        }
        if lua.raw_get_name(-1, b"__metatable") == NIL {
            lua.pop(1);
        }
        1
    }
}

lua_fn! {
    /// `setmetatable`: not on read-only tables.
    fn setmetatable(lua) {
        lua.check_kind(1, TABLE);
        if !matches!(lua.kind(2), NIL | TABLE) {
            lua.bad_argument(2, c"nil or table expected");
        }
        refuse_if_front(lua, 1);
        if lua.push_metatable(1) && lua.raw_get_name(-1, b"__metatable") != NIL {
            lua.raise_text(b"cannot change a protected metatable");
        }
        lua.set_top(2);
        lua.set_metatable(1);
        1
    }
}

lua_fn! {
    /// `setfenv`: remembers that level 0, the globals of the whole state, was changed; the run's end puts it right.
    fn setfenv(lua) {
        if lua.is_number(1) && lua.number(1) == 0.0 {
            lua.shared().globals_changed.set(true);
        }
        delegate(lua, lua.shared().wrapped.get().setfenv)
    }
}

lua_fn! {
    /// `unpack(t, i, j)`: the count cannot overflow (CVE-2025-46817).
    fn unpack(lua) {
        lua.check_kind(1, TABLE);
        let first = lua.opt_integer(2, 1) as c_int;
        let last = if lua.kind(3) <= NIL { lua.raw_len(1) as c_int } else { lua.check_integer(3) as c_int };
        if first > last {
            return 0;
        }
        let count = i64::from(last) - i64::from(first) + 1;
        let Some(count) = c_int::try_from(count).ok().filter(|&count| count < c_int::MAX && lua.has_room(count)) else {
            lua.raise_text(b"too many results to unpack");
        };
        for idx in first..=last {
            lua.raw_get_index(1, idx);
        }
        count
    }
}

lua_fn! {
    /// `loadstring(source, name)`: source only, no bytecode.
    fn loadstring(lua) {
        let source = lua.check_text(1);
        match lua.kind(2) <= NIL {
            true => lua.push_value(1),
            false => {
                lua.check_text(2);
                lua.push_value(2);
            }
        }
        finish_load(lua, compile(lua, source, -1))
    }
}

lua_fn! {
    /// `load(reader, name)`: calls the reader to its end, then compiles. No Lua code runs while the parser does, so
    /// no collection can take the parser's objects away (CVE-2025-49844).
    fn load(lua) {
        match lua.kind(2) <= NIL {
            true => {
                lua.set_top(1);
                lua.push_bytes(b"=(load)");
            }
            false => {
                lua.check_text(2);
                lua.set_top(2);
            }
        }
        lua.check_kind(1, FUNCTION);
        lua.push_table(0, 0);
        let mut pieces = 0;
        loop {
            lua.push_value(1);
            if lua.protected_call(0, 1, 0) != 0 {
                return finish_load(lua, false);
            }
            match lua.text(-1) {
                Some([]) => break,
                Some(_) => {
                    pieces += 1;
                    lua.raw_set_index(3, pieces);
                }
                None if lua.kind(-1) == NIL => break,
                None => {
                    lua.push_bytes(b"reader function must return a string");
                    return finish_load(lua, false);
                }
            }
        }
        lua.set_top(3);
        let source = lua.shared().text();
        source.clear();
        for idx in 1..=pieces {
            lua.raw_get_index(3, idx);
            lua.check_text_len(source.len());
            source.extend_from_slice(lua.text(-1).unwrap_or_default());
            lua.pop(1);
        }
        finish_load(lua, compile(lua, source, 2))
    }
}

/// The function on top, or `nil` and the message on top.
fn finish_load(lua: Lua, compiled: bool) -> c_int {
    if compiled {
        return 1;
    }
    lua.push_nil();
    lua.insert(-2);
    2
}

lua_fn! {
    /// `collectgarbage`: what would outlive the script is noted, and put right at its end.
    fn collectgarbage(lua) {
        if matches!(lua.string(1), Some(b"stop" | b"setpause" | b"setstepmul")) {
            lua.shared().gc_changed.set(true);
        }
        delegate(lua, lua.shared().wrapped.get().collectgarbage)
    }
}

lua_fn! {
    /// `newproxy(false | true | proxy)`. The metatable is shown through a table that drops `__gc`: a finalizer would
    /// run in whatever script comes later, or while the state closes (CVE-2024-46981).
    fn newproxy(lua) {
        lua.set_top(1);
        lua.push_userdata(0);
        if !lua.boolean(1) {
            return 1;
        }
        match lua.kind(1) {
            BOOLEAN => push_proxy_metatable(lua),
            USERDATA if lua.push_metatable(1) && push_shown_metatable(lua, -1) => lua.pop(1),
            _ => lua.bad_argument(1, c"boolean or proxy expected"),
        }
        lua.set_metatable(2);
        lua.set_top(2);
        1
    }
}

/// Pushes a fresh metatable, and makes `getmetatable` show a table that reads and writes it, all but `__gc`.
fn push_proxy_metatable(lua: Lua) {
    lua.push_table(0, 2);
    lua.push_table(0, 0);
    lua.push_table(0, 3);
    lua.push_value(-3);
    lua.raw_set_name(-2, b"__index");
    lua.push_value(-3);
    lua.push_closure(set_proxy_field, 1);
    lua.raw_set_name(-2, b"__newindex");
    lua.push_boolean(false);
    set_shown_metatable(lua);
    lua.set_metatable(-2);
    set_shown_metatable(lua);
}

lua_fn! {
    /// `__newindex` of what `getmetatable(proxy)` gives; its upvalue is the metatable.
    fn set_proxy_field(lua) {
        lua.set_top(3);
        if lua.string(2) != Some(b"__gc") {
            lua.raw_set(upvalue(1));
        }
        0
    }
}

lua_fn! {
    pub(crate) fn table_insert(lua) {
        refuse_if_front(lua, 1);
        delegate(lua, lua.shared().wrapped.get().insert)
    }
}

lua_fn! {
    pub(crate) fn string_find(lua) {
        check_pattern(lua);
        delegate(lua, lua.shared().wrapped.get().find)
    }
}

lua_fn! {
    pub(crate) fn string_match(lua) {
        check_pattern(lua);
        delegate(lua, lua.shared().wrapped.get().matches)
    }
}

lua_fn! {
    pub(crate) fn string_gmatch(lua) {
        check_pattern(lua);
        delegate(lua, lua.shared().wrapped.get().gmatch)
    }
}

lua_fn! {
    pub(crate) fn string_gsub(lua) {
        check_pattern(lua);
        delegate(lua, lua.shared().wrapped.get().gsub)
    }
}

/// Lua 5.1 matches a pattern by recursion, one C frame an item that repeats or captures, without any limit. Refuses
/// patterns with more of them than a thread's stack bears.
fn check_pattern(lua: Lua) {
    let Some(pattern) = lua.string(2).filter(|pattern| pattern.len() > PATTERN_ITEMS) else { return };
    if pattern.iter().filter(|byte| b"?*+-()%".contains(byte)).count() > PATTERN_ITEMS {
        lua.raise_text(b"pattern too complex");
    }
}

/// Runs the function ours stands in for, on the same arguments.
fn delegate(lua: Lua, function: Option<CFunction>) -> c_int {
    function.map_or(0, |function| lua.delegate(function))
}

const PATTERN_ITEMS: usize = 1000;
