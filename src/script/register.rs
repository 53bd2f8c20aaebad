//! `redis.register_function`: how a library tells which functions it has.

use std::collections::BTreeSet;

use crate::error::raise_error;
use crate::lua::{FUNCTION, Lua, NIL, NUMBER, STRING, TABLE, lua_fn, until_nul};
use crate::shared::Phase;
use crate::shebang::ScriptFlags;

/// A function of the library being loaded.
pub(crate) struct Registration {
    pub(crate) name: Vec<u8>,
    pub(crate) description: Option<Vec<u8>>,
    pub(crate) flags: ScriptFlags,
    /// Its registry slot.
    pub(crate) function: i32,
}

/// What the library being loaded has registered.
#[derive(Default)]
pub(crate) struct Registrations {
    pub(crate) in_order: Vec<Registration>,
    names: BTreeSet<Vec<u8>>,
}

lua_fn! {
    /// `redis.register_function(name, callback)`, or with one table: `function_name`, `callback`, and if wanted
    /// `flags` and `description`.
    pub(crate) fn register_function(lua) {
        if lua.shared().phase.get() != Phase::Loading {
            raise_error(lua, b"redis.register_function can only be called on FUNCTION LOAD command");
        }
        let flags = match lua.top() {
            1 => read_named(lua),
            2 => read_positional(lua),
            _ => raise_error(lua, b"wrong number of arguments to redis.register_function"),
        };
        if let Err(refused) = register(lua, flags) {
            raise_error(lua, refused);
        }
        0
    }
}

/// Where both readers leave what they find.
const NAME: i32 = 2;
const DESCRIPTION: i32 = 3;
const CALLBACK: i32 = 4;

fn read_positional(lua: Lua) -> ScriptFlags {
    if lua.text(1).is_none() {
        raise_error(lua, b"first argument to redis.register_function must be a string");
    }
    if lua.kind(2) != FUNCTION {
        raise_error(lua, b"second argument to redis.register_function must be a function");
    }
    lua.push_nil();
    lua.push_value(2);
    lua.push_value(1);
    lua.replace(NAME);
    ScriptFlags::default()
}

fn read_named(lua: Lua) -> ScriptFlags {
    if lua.kind(1) != TABLE {
        raise_error(
            lua,
            b"calling redis.register_function with a single argument is only applicable to Lua table \
              (representing named arguments).",
        );
    }
    lua.set_top(CALLBACK);
    let mut flags = ScriptFlags::default();
    lua.push_nil();
    while lua.next(1) {
        read_named_argument(lua, &mut flags);
        lua.set_top(CALLBACK + 1);
    }
    if lua.kind(NAME) == NIL {
        raise_error(lua, b"redis.register_function must get a function name argument");
    }
    if lua.kind(CALLBACK) == NIL {
        raise_error(lua, b"redis.register_function must get a callback argument");
    }
    flags
}

/// The key and value on top.
fn read_named_argument(lua: Lua, flags: &mut ScriptFlags) {
    if !matches!(lua.kind(-2), STRING | NUMBER) {
        raise_error(lua, b"named argument key given to redis.register_function is not a string");
    }
    let key = until_nul(lua.string(-2).unwrap_or_default());
    if key.eq_ignore_ascii_case(b"function_name") {
        if lua.text(-1).is_none() {
            raise_error(lua, b"function_name argument given to redis.register_function must be a string");
        }
        lua.replace(NAME);
    } else if key.eq_ignore_ascii_case(b"description") {
        if lua.text(-1).is_none() {
            raise_error(lua, b"description argument given to redis.register_function must be a string");
        }
        lua.replace(DESCRIPTION);
    } else if key.eq_ignore_ascii_case(b"callback") {
        if lua.kind(-1) != FUNCTION {
            raise_error(lua, b"callback argument given to redis.register_function must be a function");
        }
        lua.replace(CALLBACK);
    } else if key.eq_ignore_ascii_case(b"flags") {
        if lua.kind(-1) != TABLE {
            raise_error(lua, b"flags argument to redis.register_function must be a table representing function flags");
        }
        *flags = read_flags(lua);
    } else {
        raise_error(lua, b"unknown argument given to redis.register_function");
    }
}

/// The array of flag names on top.
fn read_flags(lua: Lua) -> ScriptFlags {
    let mut flags = ScriptFlags::default();
    for idx in 1.. {
        lua.push_number(f64::from(idx));
        lua.get_table(-2);
        if lua.kind(-1) == NIL {
            break;
        }
        let name = until_nul(lua.text(-1).unwrap_or_default());
        let known = ScriptFlags::NAMES.iter().find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name));
        match known {
            Some((flag, _)) => flags |= *flag,
            None => raise_error(lua, b"unknown flag given"),
        }
        lua.pop(1);
    }
    lua.pop(1);
    flags
}

/// Keeps the function whose parts are in their stack slots.
fn register(lua: Lua, flags: ScriptFlags) -> Result<(), &'static [u8]> {
    let name = lua.text(NAME).unwrap_or_default();
    if !is_valid_name(name) {
        return Err(NAME_RULE.as_bytes());
    }
    if lua.shared().registrations().names.contains(name) {
        return Err(b"Function already exists in the library");
    }
    let description = lua.string(DESCRIPTION);
    lua.push_value(CALLBACK);
    let function = lua.make_ref();
    // No call into Lua from here on: the registration owns memory.
    let registrations = lua.shared().registrations();
    registrations.names.insert(name.to_vec());
    registrations.in_order.push(Registration {
        name: name.to_vec(),
        description: description.map(<[u8]>::to_vec),
        flags,
        function,
    });
    Ok(())
}

/// Names of libraries and functions: letters, digits and `_`, at least one.
pub(crate) fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What is said of a name that is not valid.
pub(crate) const NAME_RULE: &str =
    "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";
