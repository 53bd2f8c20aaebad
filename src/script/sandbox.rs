//! The globals of a state: which exist, and that none can be changed.

use std::ffi::c_int;

use mlua_sys as ffi;

use crate::error::handle_error;
use crate::lua::{CFunction, GLOBALS, Line, Lossy, Lua, NUMBER, STRING, TABLE, lua_fn, until_nul};
use crate::readonly::{protect, set_shown_metatable};
use crate::shared::Wrapped;
use crate::vm::{Kind, Options, run_protected};
use crate::{base, bit, cjson_encode, cmsgpack, random, redis_api, register, structs};

/// Registry slots of what a run needs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Refs {
    /// The table that holds the globals; scripts see it through a front.
    pub(crate) globals: c_int,
    /// That front: `_G`, and the environment of all that is compiled.
    pub(crate) environment: c_int,
    /// The front's metatable; FUNCTION LOAD swaps its `__index`.
    pub(crate) environment_meta: c_int,
    /// The globals of a library being loaded.
    pub(crate) load_globals: c_int,
    /// [`handle_error`].
    pub(crate) handler: c_int,
    /// [`run_protected`].
    pub(crate) runner: c_int,
}

/// Fills a fresh state. Raises when out of memory.
pub(crate) fn build(lua: Lua, kind: Kind, options: &Options) -> Refs {
    open_lua_libraries(lua);
    lua.push_value(GLOBALS);
    for name in REMOVED {
        lua.push_nil();
        lua.raw_set_name(-2, name);
    }
    replace_functions(lua);
    add_library(lua, b"cjson", cjson_encode::push_library);
    add_library(lua, b"cmsgpack", cmsgpack::push_library);
    add_library(lua, b"struct", structs::push_library);
    add_library(lua, b"bit", bit::push_library);
    add_library(lua, b"redis", |lua| push_redis(lua, kind, options));
    lua.push_function(handle_error);
    lua.push_value(-1);
    let mut refs = Refs { handler: lua.make_ref(), ..Refs::default() };
    match kind {
        Kind::Eval => lua.raw_set_name(-2, b"__redis__err__handler"),
        Kind::Functions => lua.pop(1),
    }
    lua.push_function(run_protected);
    refs.runner = lua.make_ref();
    protect_libraries(lua);
    protect_string_metatable(lua);
    protect_globals(lua, &mut refs);
    if kind == Kind::Functions {
        push_load_globals(lua, options);
        refs.load_globals = lua.make_ref();
    }
    lua.set_top(0);
    refs
}

fn open_lua_libraries(lua: Lua) {
    let libraries: [(&[u8], CFunction); 4] = [
        (b"", ffi::luaopen_base),
        (b"table", ffi::luaopen_table),
        (b"string", ffi::luaopen_string),
        (b"math", ffi::luaopen_math),
    ];
    for (name, open) in libraries {
        lua.push_function(open);
        lua.push_bytes(name);
        lua.call(1, 0);
    }
}

/// Puts our functions in place of Lua's, in the table on top and its libraries.
fn replace_functions(lua: Lua) {
    let mut wrapped = Wrapped {
        setfenv: take_function(lua, b"setfenv"),
        collectgarbage: take_function(lua, b"collectgarbage"),
        ..Wrapped::default()
    };
    set_functions(lua, base::FUNCTIONS);
    lua.raw_get_name(-1, b"next");
    lua.push_closure(base::pairs, 1);
    lua.raw_set_name(-2, b"pairs");
    lua.raw_get_name(-1, b"math");
    set_functions(lua, &[(b"random", random::random), (b"randomseed", random::random_seed)]);
    lua.pop(1);
    lua.raw_get_name(-1, b"table");
    wrapped.insert = take_function(lua, b"insert");
    set_functions(lua, &[(b"insert", base::table_insert)]);
    lua.pop(1);
    lua.raw_get_name(-1, b"string");
    wrapped.find = take_function(lua, b"find");
    wrapped.matches = take_function(lua, b"match");
    wrapped.gmatch = take_function(lua, b"gmatch");
    wrapped.gsub = take_function(lua, b"gsub");
    set_functions(
        lua,
        &[
            (b"find", base::string_find),
            (b"match", base::string_match),
            (b"gmatch", base::string_gmatch),
            (b"gfind", base::string_gmatch),
            (b"gsub", base::string_gsub),
        ],
    );
    lua.pop(1);
    lua.shared().wrapped.set(wrapped);
}

/// A C function in the table on top.
fn take_function(lua: Lua, name: &[u8]) -> Option<CFunction> {
    lua.raw_get_name(-1, name);
    let function = lua.c_function(-1);
    lua.pop(1);
    function
}

/// Sets fields of the table on top.
pub(crate) fn set_functions(lua: Lua, functions: &[(&[u8], CFunction)]) {
    for (name, function) in functions {
        lua.push_function(*function);
        lua.raw_set_name(-2, name);
    }
}

fn set_numbers(lua: Lua, numbers: &[(&[u8], u8)]) {
    for (name, number) in numbers {
        lua.push_number(f64::from(*number));
        lua.raw_set_name(-2, name);
    }
}

fn add_library(lua: Lua, name: &[u8], push: impl FnOnce(Lua)) {
    push(lua);
    lua.raw_set_name(-2, name);
}

fn push_redis(lua: Lua, kind: Kind, options: &Options) {
    lua.push_table(0, 24);
    set_functions(lua, redis_api::FUNCTIONS);
    set_numbers(lua, redis_api::CONSTANTS);
    if kind == Kind::Eval {
        set_functions(lua, redis_api::EVAL_FUNCTIONS);
    }
    set_log_and_version(lua, options);
}

fn set_log_and_version(lua: Lua, options: &Options) {
    set_functions(lua, &[redis_api::LOG_FUNCTION]);
    set_numbers(lua, redis_api::LOG_CONSTANTS);
    lua.push_bytes(options.redis_version.as_bytes());
    lua.raw_set_name(-2, b"REDIS_VERSION");
    lua.push_number(f64::from(options.redis_version_num()));
    lua.raw_set_name(-2, b"REDIS_VERSION_NUM");
}

/// The globals of a library being loaded: `redis`, with little in it. Pushes the table.
fn push_load_globals(lua: Lua, options: &Options) {
    lua.push_table(0, 1);
    lua.push_table(0, 8);
    set_functions(lua, &[(b"register_function", register::register_function)]);
    set_log_and_version(lua, options);
    push_missing_metatable(lua);
    lua.set_metatable(-2);
    protect(lua);
    lua.raw_set_name(-2, b"redis");
    push_missing_metatable(lua);
    lua.set_metatable(-2);
}

/// Makes the tables in the globals on top read-only.
fn protect_libraries(lua: Lua) {
    for name in LIBRARIES {
        if lua.raw_get_name(-1, name) == TABLE {
            protect(lua);
            lua.raw_set_name(-2, name);
        } else {
            lua.pop(1);
        }
    }
}

/// Strings share one metatable: `getmetatable('')` shows a copy nobody can write to (CVE-2025-46818).
fn protect_string_metatable(lua: Lua) {
    lua.push_bytes(b"");
    lua.push_metatable(-1);
    lua.push_table(0, 1);
    lua.raw_get_name(-4, b"string");
    lua.raw_set_name(-2, b"__index");
    protect(lua);
    set_shown_metatable(lua);
    lua.pop(2);
}

/// Turns the globals on top into a front, and makes that the environment of all code to come.
fn protect_globals(lua: Lua, refs: &mut Refs) {
    push_missing_metatable(lua);
    lua.set_metatable(-2);
    lua.push_value(-1);
    refs.globals = lua.make_ref();
    lua.push_value(-1);
    protect(lua);
    lua.push_metatable(-1);
    push_missing_metatable(lua);
    protect(lua);
    set_shown_metatable(lua);
    refs.environment_meta = lua.make_ref();
    lua.push_value(-1);
    lua.raw_set_name(-3, b"_G");
    lua.push_value(-1);
    refs.environment = lua.make_ref();
    lua.replace(GLOBALS);
    lua.pop(1);
}

/// A metatable whose `__index` raises.
fn push_missing_metatable(lua: Lua) {
    lua.push_table(0, 1);
    lua.push_function(raise_missing);
    lua.raw_set_name(-2, b"__index");
}

lua_fn! {
    /// `__index` of the globals: a typo is an error, not `nil`.
    fn raise_missing(lua) {
        if lua.top() != 2 {
            lua.raise_text(b"Wrong number of arguments to luaProtectedTableError");
        }
        if !matches!(lua.kind(2), STRING | NUMBER) {
            lua.raise_text(b"Second argument to luaProtectedTableError must be a string or number");
        }
        let text = Line::new(format_args!(
            "Script attempted to access nonexistent global variable '{}'",
            Lossy(until_nul(lua.text(2).unwrap_or_default()))
        ));
        lua.raise_text(text.bytes())
    }
}

/// Globals of Lua's base library that reach the host's files and terminal.
const REMOVED: &[&[u8]] = &[b"dofile", b"loadfile", b"print"];
const LIBRARIES: &[&[u8]] =
    &[b"string", b"table", b"math", b"coroutine", b"cjson", b"cmsgpack", b"struct", b"bit", b"redis"];
