//! The Lua C API as methods of [`Lua`], and the macro that makes a Rust function callable from Lua.
//!
//! [`Lua`] is made from a live state only, so the one promise every call below needs holds by construction. Stack
//! indices are the caller's business, as in C; with debug assertions the bundled Lua checks them.
//!
//! Methods marked *raises* may leave by `longjmp`: see the rule in the crate's documentation.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::fmt::{self, Write};

use mlua_sys as ffi;
pub(crate) use mlua_sys::{
    LUA_GLOBALSINDEX as GLOBALS, LUA_MULTRET as MULTRET, LUA_REGISTRYINDEX as REGISTRY, LUA_TBOOLEAN as BOOLEAN,
    LUA_TFUNCTION as FUNCTION, LUA_TLIGHTUSERDATA as LIGHT, LUA_TNIL as NIL, LUA_TNONE as NONE, LUA_TNUMBER as NUMBER,
    LUA_TSTRING as STRING, LUA_TTABLE as TABLE, LUA_TTHREAD as THREAD, LUA_TUSERDATA as USERDATA,
    lua_CFunction as CFunction, lua_Debug as Frame, lua_State as RawState, lua_upvalueindex as upvalue,
};

use crate::error::NOT_ENOUGH_MEMORY;
use crate::shared::Shared;

/// A state, or one of its coroutines.
#[derive(Clone, Copy)]
pub(crate) struct Lua(*mut RawState);

/// Defines a function Lua can call: `lua_fn! { pub(crate) fn name(lua) { ...; number_of_results } }`.
macro_rules! lua_fn {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($lua:ident) $body:block) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        $vis unsafe extern "C-unwind" fn $name(raw: *mut $crate::lua::RawState) -> std::ffi::c_int {
            #[inline(always)]
            fn body($lua: $crate::lua::Lua) -> std::ffi::c_int $body
            // SAFETY: Lua calls its functions with the running state.
            body(unsafe { $crate::lua::Lua::from_raw(raw) })
        }
    };
}
pub(crate) use lua_fn;

/// One call of the C API.
macro_rules! api {
    ($call:expr) => {{
        // SAFETY: `Lua` holds a live state (`from_raw`'s contract); pointers passed along outlive the call.
        unsafe { $call }
    }};
}

impl Lua {
    /// # Safety
    /// `raw` is a live state made by [`crate::vm::Vm`], used by this thread only while the value is in use.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut RawState) -> Lua {
        Lua(raw)
    }

    pub(crate) fn raw(self) -> *mut RawState {
        self.0
    }

    /// What the state owns on the Rust side.
    #[inline]
    pub(crate) fn shared<'a>(self) -> &'a Shared {
        let mut user: *mut c_void = std::ptr::null_mut();
        api!(ffi::lua_getallocf(self.0, &mut user));
        // SAFETY: every state is made by `Vm` with its boxed `Shared` as allocator argument, freed after the state.
        unsafe { &*user.cast::<Shared>() }
    }

    // Stack.

    #[inline]
    pub(crate) fn top(self) -> c_int {
        api!(ffi::lua_gettop(self.0))
    }
    #[inline]
    pub(crate) fn set_top(self, idx: c_int) {
        api!(ffi::lua_settop(self.0, idx))
    }
    #[inline]
    pub(crate) fn pop(self, n: c_int) {
        api!(ffi::lua_settop(self.0, -n - 1))
    }
    pub(crate) fn insert(self, idx: c_int) {
        api!(ffi::lua_insert(self.0, idx))
    }
    pub(crate) fn remove(self, idx: c_int) {
        api!(ffi::lua_remove(self.0, idx))
    }
    pub(crate) fn replace(self, idx: c_int) {
        api!(ffi::lua_replace(self.0, idx))
    }
    /// Makes room for `n` more values; false when the stack's limit (8000 a function) forbids. Raises when out of
    /// memory in some builds of Lua.
    #[inline]
    pub(crate) fn has_room(self, n: c_int) -> bool {
        api!(ffi::lua_checkstack(self.0, n)) != 0
    }
    /// Raises `stack overflow (what)` when there is no room for `n` more values.
    pub(crate) fn need_room(self, n: c_int, what: &CStr) {
        if !self.has_room(n) {
            self.raise_fmt(format_args!("stack overflow ({})", what.to_str().unwrap_or("")));
        }
    }

    // Reading.

    #[inline]
    pub(crate) fn kind(self, idx: c_int) -> c_int {
        api!(ffi::lua_type(self.0, idx))
    }
    pub(crate) fn kind_name<'a>(self, idx: c_int) -> &'a str {
        let kind = self.kind(idx);
        // SAFETY: `lua_typename` gives static ASCII text.
        unsafe { CStr::from_ptr(ffi::lua_typename(self.0, kind)) }.to_str().unwrap_or("?")
    }
    /// A number, or a string that reads as one.
    pub(crate) fn is_number(self, idx: c_int) -> bool {
        api!(ffi::lua_isnumber(self.0, idx)) != 0
    }
    /// The number, 0 for what is none; strings are read as numbers.
    #[inline]
    pub(crate) fn number(self, idx: c_int) -> f64 {
        api!(ffi::lua_tonumber(self.0, idx))
    }
    pub(crate) fn boolean(self, idx: c_int) -> bool {
        api!(ffi::lua_toboolean(self.0, idx)) != 0
    }
    pub(crate) fn c_function(self, idx: c_int) -> Option<CFunction> {
        api!(ffi::lua_tocfunction(self.0, idx))
    }
    pub(crate) fn user_pointer(self, idx: c_int) -> *mut c_void {
        api!(ffi::lua_touserdata(self.0, idx))
    }
    /// The bytes of a string value; a number is turned into a string **in its stack slot** (raises). The slice is
    /// good while the value is on the stack.
    #[inline]
    pub(crate) fn text<'a>(self, idx: c_int) -> Option<&'a [u8]> {
        let mut len = 0;
        let start = api!(ffi::lua_tolstring(self.0, idx, &mut len));
        if start.is_null() {
            return None;
        }
        // SAFETY: Lua strings do not move, and have `len` bytes.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), len) })
    }
    /// The bytes of a value that is a string, not a number.
    pub(crate) fn string<'a>(self, idx: c_int) -> Option<&'a [u8]> {
        if self.kind(idx) == STRING { self.text(idx) } else { None }
    }
    /// Where a table, function, userdata or coroutine is.
    pub(crate) fn pointer(self, idx: c_int) -> *const c_void {
        api!(ffi::lua_topointer(self.0, idx))
    }
    pub(crate) fn raw_len(self, idx: c_int) -> usize {
        api!(ffi::lua_objlen(self.0, idx))
    }

    // Pushing. All but the first five raise when out of memory.

    pub(crate) fn push_nil(self) {
        api!(ffi::lua_pushnil(self.0))
    }
    pub(crate) fn push_boolean(self, value: bool) {
        api!(ffi::lua_pushboolean(self.0, c_int::from(value)))
    }
    #[inline]
    pub(crate) fn push_number(self, value: f64) {
        api!(ffi::lua_pushnumber(self.0, value))
    }
    pub(crate) fn push_light(self, value: *const c_void) {
        api!(ffi::lua_pushlightuserdata(self.0, value.cast_mut()))
    }
    pub(crate) fn push_value(self, idx: c_int) {
        api!(ffi::lua_pushvalue(self.0, idx))
    }
    /// Raises.
    #[inline]
    pub(crate) fn push_bytes(self, value: &[u8]) {
        api!(ffi::lua_pushlstring_(self.0, value.as_ptr().cast(), value.len()))
    }
    /// Raises.
    pub(crate) fn push_function(self, function: CFunction) {
        api!(ffi::lua_pushcclosure(self.0, function, 0))
    }
    /// Pops `n` upvalues. Raises.
    pub(crate) fn push_closure(self, function: CFunction, n: c_int) {
        api!(ffi::lua_pushcclosure(self.0, function, n))
    }
    /// Raises.
    pub(crate) fn push_table(self, array: usize, hash: usize) {
        let size = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
        api!(ffi::lua_createtable(self.0, size(array), size(hash)))
    }
    /// Raises. `len` bytes, zeroed by the caller.
    pub(crate) fn push_userdata(self, len: usize) -> *mut c_void {
        api!(ffi::lua_newuserdata(self.0, len))
    }

    /// A new coroutine, which lives as long as it is on this stack. Raises.
    pub(crate) fn push_coroutine(self) -> Lua {
        // SAFETY: as this state, it is made by `Vm`'s.
        unsafe { Lua::from_raw(ffi::lua_newthread(self.0)) }
    }

    // Tables.

    /// `t[k]` with metamethods, k on top replaced by the value. Raises.
    pub(crate) fn get_table(self, idx: c_int) {
        api!(ffi::lua_gettable_(self.0, idx))
    }
    /// `t[name] = value on top`, with metamethods. Raises.
    pub(crate) fn set_field(self, idx: c_int, name: &CStr) {
        api!(ffi::lua_setfield(self.0, idx, name.as_ptr()))
    }
    /// `t[key on top]`, raw.
    #[inline]
    pub(crate) fn raw_get(self, idx: c_int) {
        api!(ffi::lua_rawget_(self.0, idx))
    }
    /// `t[key] = value`, raw; pops both. Raises.
    #[inline]
    pub(crate) fn raw_set(self, idx: c_int) {
        api!(ffi::lua_rawset(self.0, idx))
    }
    #[inline]
    pub(crate) fn raw_get_index(self, idx: c_int, n: c_int) {
        api!(ffi::lua_rawgeti_(self.0, idx, n))
    }
    /// Raises.
    #[inline]
    pub(crate) fn raw_set_index(self, idx: c_int, n: c_int) {
        api!(ffi::lua_rawseti_(self.0, idx, n))
    }
    /// Pushes `t[name]`, raw, and gives its type. Raises.
    pub(crate) fn raw_get_name(self, idx: c_int, name: &[u8]) -> c_int {
        self.push_bytes(name);
        self.raw_get(if idx < 0 { idx - 1 } else { idx });
        self.kind(-1)
    }
    /// `t[name] = value on top`, raw. `idx` counts from the value on top. Raises.
    pub(crate) fn raw_set_name(self, idx: c_int, name: &[u8]) {
        self.push_bytes(name);
        self.insert(-2);
        self.raw_set(if idx > REGISTRY && idx < 0 { idx - 1 } else { idx });
    }
    /// Replaces the key on top by the next key and value; false (and one value less) at the end. Raises on a key that
    /// is none.
    pub(crate) fn next(self, idx: c_int) -> bool {
        api!(ffi::lua_next(self.0, idx)) != 0
    }
    pub(crate) fn push_metatable(self, idx: c_int) -> bool {
        api!(ffi::lua_getmetatable(self.0, idx)) != 0
    }
    /// Pops the metatable.
    pub(crate) fn set_metatable(self, idx: c_int) {
        api!(ffi::lua_setmetatable(self.0, idx));
    }
    /// A number that names the value on top in the registry; pops it. Raises.
    pub(crate) fn make_ref(self) -> c_int {
        api!(ffi::luaL_ref(self.0, REGISTRY))
    }
    pub(crate) fn drop_ref(self, reference: c_int) {
        api!(ffi::luaL_unref(self.0, REGISTRY, reference))
    }
    #[inline]
    pub(crate) fn push_ref(self, reference: c_int) {
        api!(ffi::lua_rawgeti_(self.0, REGISTRY, reference))
    }

    // Calls and errors.

    /// Raises whatever the function raises.
    pub(crate) fn call(self, args: c_int, results: c_int) {
        api!(ffi::lua_call(self.0, args, results))
    }
    /// 0, or the error's kind with its value on top.
    pub(crate) fn protected_call(self, args: c_int, results: c_int, handler: c_int) -> c_int {
        api!(ffi::lua_pcall(self.0, args, results, handler))
    }
    /// Runs a C function on this stack, as part of the running call. Raises.
    pub(crate) fn delegate(self, function: CFunction) -> c_int {
        api!(function(self.0))
    }
    pub(crate) fn concat(self, n: c_int) {
        api!(ffi::lua_concat(self.0, n))
    }
    pub(crate) fn gc(self, what: c_int, data: c_int) -> c_int {
        api!(ffi::lua_gc(self.0, what, data))
    }
    /// Raises the value on top.
    pub(crate) fn raise(self) -> ! {
        api!(ffi::lua_error(self.0))
    }
    /// Raises `chunk:line: message`, the place being where the running function was called. The stack is given up
    /// first, it may be full: `message` is no Lua string.
    pub(crate) fn raise_text(self, message: &[u8]) -> ! {
        self.set_top(0);
        api!(ffi::luaL_where(self.0, 1));
        self.push_bytes(message);
        self.concat(2);
        self.raise()
    }
    /// Raises unless text under construction may be so long.
    pub(crate) fn check_text_len(self, len: usize) {
        if len > self.shared().text_limit_bytes() {
            self.raise_text(NOT_ENOUGH_MEMORY);
        }
    }
    /// As [`Lua::raise_text`]; the message is cut at 512 bytes.
    pub(crate) fn raise_fmt(self, message: fmt::Arguments) -> ! {
        let text = Line::new(message);
        self.raise_text(text.bytes())
    }
    /// Raises `bad argument #n to 'function' (message)`.
    pub(crate) fn bad_argument(self, n: c_int, message: &CStr) -> ! {
        self.set_top(0);
        api!(ffi::luaL_argerror(self.0, n, message.as_ptr()));
        self.raise()
    }
    pub(crate) fn bad_type(self, n: c_int, expected: &CStr) -> ! {
        api!(ffi::luaL_typerror(self.0, n, expected.as_ptr()));
        self.raise()
    }
    /// Raises unless argument `n` has this type.
    pub(crate) fn check_kind(self, n: c_int, kind: c_int) {
        api!(ffi::luaL_checktype(self.0, n, kind))
    }
    /// Raises unless there is an argument `n`.
    pub(crate) fn check_any(self, n: c_int) {
        api!(ffi::luaL_checkany(self.0, n))
    }
    /// The argument as a string; numbers are converted. Raises.
    pub(crate) fn check_text<'a>(self, n: c_int) -> &'a [u8] {
        match self.text(n) {
            Some(text) => text,
            None => self.bad_type(n, c"string"),
        }
    }
    /// The argument as a number. Raises.
    pub(crate) fn check_number(self, n: c_int) -> f64 {
        api!(ffi::luaL_checknumber(self.0, n))
    }
    /// The argument as an integer, cut as C's Lua cuts it on x86-64: out of range is `i64::MIN`. Raises.
    pub(crate) fn check_integer(self, n: c_int) -> i64 {
        truncate(self.check_number(n))
    }
    /// As [`Lua::check_integer`], with a value for "nothing" and `nil`.
    pub(crate) fn opt_integer(self, n: c_int, default: i64) -> i64 {
        if self.kind(n) <= NIL { default } else { self.check_integer(n) }
    }
    /// Which of the options (the last is null) the argument is. Raises.
    pub(crate) fn check_option(self, n: c_int, default: Option<&CStr>, options: &[&CStr]) -> usize {
        let given = match (self.kind(n) <= NIL, default) {
            (true, Some(default)) => default.to_bytes(),
            _ => self.check_text(n),
        };
        match options.iter().position(|option| option.to_bytes() == until_nul(given)) {
            Some(idx) => idx,
            None => {
                let text = Line::new(format_args!("invalid option '{}'\0", Lossy(until_nul(given))));
                self.bad_argument(n, CStr::from_bytes_until_nul(text.bytes()).unwrap_or(c"invalid option"))
            }
        }
    }
}

/// Where an error happened.
pub(crate) struct Place<'a> {
    /// The chunk's name: `@user_script`.
    pub(crate) source: &'a CStr,
    pub(crate) line: c_int,
}

impl Lua {
    /// In an error handler: the function that raised, or when it is written in C, the one that called it.
    pub(crate) fn place_of_error<'a>(self) -> Option<Place<'a>> {
        let raised = self.frame(1)?;
        // SAFETY: `lua_getinfo` filled the text fields in with strings of the state.
        let in_c = unsafe { CStr::from_ptr(raised.what) } == c"C";
        let frame = match in_c {
            // The last frame is our own runner: no place of the script's.
            true => self.frame(3).and_then(|_| self.frame(2))?,
            false => raised,
        };
        // SAFETY: as above; the source text lives as long as the function that is on the stack.
        Some(Place { source: unsafe { CStr::from_ptr(frame.source) }, line: frame.currentline })
    }

    /// The function at this level of the stack of calls, 0 being the one that runs.
    pub(crate) fn frame(self, level: c_int) -> Option<Frame> {
        // SAFETY: all-zero is a valid `lua_Debug`: integers, arrays and null pointers.
        let mut frame: Frame = unsafe { std::mem::zeroed() };
        if api!(ffi::lua_getstack(self.0, level, &mut frame)) == 0 {
            return None;
        }
        (api!(ffi::lua_getinfo(self.0, c"nSl".as_ptr(), &mut frame)) != 0).then_some(frame)
    }

    /// What the calling code calls the function of a frame.
    pub(crate) fn frame_name<'a>(self, frame: &Frame) -> Option<&'a CStr> {
        // SAFETY: `frame` filled it in: null, or a string that lives as long as the function is on the stack.
        (!frame.name.is_null()).then(|| unsafe { CStr::from_ptr(frame.name) })
    }

    /// Pushes a frame's local variable number `idx` (from 1) and gives its name; None if there are not so many.
    pub(crate) fn push_local<'a>(self, frame: &Frame, idx: c_int) -> Option<&'a CStr> {
        let name = api!(ffi::lua_getlocal(self.0, frame, idx));
        // SAFETY: null, or a string that lives as long as the function is on the stack.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
    }

    /// Raises.
    pub(crate) fn push_c_text(self, text: &CStr) {
        api!(ffi::lua_pushstring_(self.0, text.as_ptr()))
    }

    /// Replaces the value on top by what `tostring` makes of it. Raises.
    pub(crate) fn replace_by_text(self) {
        match self.kind(-1) {
            STRING | NUMBER => {
                self.text(-1);
                return;
            }
            _ if api!(ffi::luaL_callmeta(self.0, -1, c"__tostring".as_ptr())) != 0 => {}
            NIL => self.push_bytes(b"nil"),
            BOOLEAN => self.push_bytes(if self.boolean(-1) { b"true" } else { b"false" }),
            _ => {
                let pointer = self.pointer(-1);
                self.push_bytes(Line::new(format_args!("{}: {pointer:p}", self.kind_name(-1))).bytes());
            }
        }
        self.remove(-2);
    }
}

/// The bytes before the first NUL: what C's Lua libraries see of a string they take as text.
pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    memchr::memchr(0, bytes).map_or(bytes, |end| &bytes[..end])
}

/// A number as an integer, as `cvttsd2si` does it: towards zero, `i64::MIN` when it does not fit or is NaN.
pub(crate) fn truncate(value: f64) -> i64 {
    if (-TWO_TO_63..TWO_TO_63).contains(&value) { value as i64 } else { i64::MIN }
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// Shows bytes as text, one character a byte that is no ASCII.
pub(crate) struct Lossy<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| f.write_char(char::from(byte)))
    }
}

/// A message in a fixed array: it needs no destructor, so it may be alive while Lua raises.
pub(crate) struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    pub(crate) fn new(message: fmt::Arguments) -> Line {
        let mut line = Line { bytes: [0; 512], len: 0 };
        // Only an over-long message fails, and that one is cut.
        let _ = line.write_fmt(message);
        line
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Latin-1 characters of `Lossy` go back to the byte they stand for.
        for ch in text.chars() {
            let Some(slot) = self.bytes.get_mut(self.len) else { return Err(fmt::Error) };
            *slot = u8::try_from(u32::from(ch)).unwrap_or(b'?');
            self.len += 1;
        }
        Ok(())
    }
}
