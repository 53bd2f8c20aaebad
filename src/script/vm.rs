//! One Lua state: its start, compiling, running, killing, its end.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use mlua_sys as ffi;

use crate::debugger::{self, Debugger};
use crate::error::{KILLED, NOT_ENOUGH_MEMORY, blank_newlines, write_killed, write_run_error};
use crate::host::{Host, Resp, TICK_INSTRUCTIONS, Tick};
use crate::lua::{GLOBALS, Lua, RawState, lua_fn};
use crate::number::append_integer;
use crate::sandbox::{self, Refs};
use crate::shared::{Phase, Shared, allocate};
use crate::to_resp::write_reply;

/// What scripts are told about the server, and what they may use of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// `redis.REDIS_VERSION`: `major.minor.patch`. `redis.REDIS_VERSION_NUM` follows from it.
    pub redis_version: String,
    /// The most a Lua state may hold, and a script may answer, in bytes; a script that needs more fails with `not enough
    /// memory`. Redis has no such limit; `usize::MAX` is the default.
    pub max_state_bytes: usize,
    /// Of that, what kept scripts must leave to those that run: past it no more are compiled.
    pub reserved_bytes: usize,
    /// Bytes of all Lua states that were made with this one sum, to within 16 KB each.
    pub total_bytes: Arc<AtomicUsize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            redis_version: "7.2.6".to_owned(),
            max_state_bytes: usize::MAX,
            reserved_bytes: 0,
            total_bytes: Arc::default(),
        }
    }
}

impl Options {
    /// The version as `0x00MMmmpp`.
    pub(crate) fn redis_version_num(&self) -> u32 {
        self.redis_version.split('.').take(3).fold(0, |number, part| number << 8 | part.parse().unwrap_or(0) & 0xFF)
    }
}

/// Why a script could not be compiled, or a library not be loaded: an error reply's text, code first, one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(Vec<u8>);

impl ScriptError {
    pub(crate) fn new(mut text: Vec<u8>) -> ScriptError {
        blank_newlines(&mut text, 0);
        ScriptError(text)
    }

    /// The text of the error reply, without the leading `-` and the line end: `ERR Error compiling script ...`.
    pub fn text(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for ScriptError {
    fn from(text: String) -> ScriptError {
        ScriptError::new(text.into_bytes())
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl std::error::Error for ScriptError {}

/// Which of the two kinds of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// EVAL: keys and arguments are the globals KEYS and ARGV.
    Eval,
    /// FUNCTION: keys and arguments are passed to the function.
    Functions,
}

/// A Lua state. One thread at a time uses it.
pub(crate) struct Vm {
    raw: NonNull<RawState>,
    /// Owned: freed after the state, whose allocator uses it to the last.
    shared: NonNull<Shared>,
    pub(crate) refs: Refs,
    kind: Kind,
    runs: u32,
}

// SAFETY: the state and what it points to belong to this value alone, and nothing in it is bound to a thread.
unsafe impl Send for Vm {}

/// One run, handed through Lua to [`run_protected`].
struct Run<'a> {
    refs: Refs,
    kind: Kind,
    function: c_int,
    name: &'a [u8],
    keys: &'a [&'a [u8]],
    args: &'a [&'a [u8]],
    client: Resp,
    collect: bool,
    /// The reply is complete in `out`.
    replied: bool,
    starved: bool,
    out: &'a mut Vec<u8>,
}

impl Vm {
    pub(crate) fn new(kind: Kind, options: &Options) -> Result<Vm, ScriptError> {
        let shared = NonNull::from(Box::leak(Box::new(Shared::new(options))));
        // SAFETY: `allocate` is an allocator in Lua's sense, and its argument outlives the state.
        let raw = unsafe { ffi::lua_newstate(allocate, shared.as_ptr().cast()) };
        let Some(raw) = NonNull::new(raw) else {
            // SAFETY: leaked above, and no state refers to it.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
            return Err(out_of_memory());
        };
        let mut vm = Vm { raw, shared, refs: Refs::default(), kind, runs: 0 };
        // SAFETY: the state is new and ours.
        unsafe { ffi::lua_atpanic(raw.as_ptr(), panic) };
        vm.shared().main.set(raw.as_ptr());
        vm.refs = vm.protected(|lua| sandbox::build(lua, kind, options))?;
        Ok(vm)
    }

    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: freed in `drop` only.
        unsafe { self.shared.as_ref() }
    }

    pub(crate) fn lua(&self) -> Lua {
        // SAFETY: the state lives until `drop`.
        unsafe { Lua::from_raw(self.raw.as_ptr()) }
    }

    /// Runs `body` where it may raise; gives the raised message as an error. `body` owns nothing with a destructor.
    pub(crate) fn protected<R>(&self, body: impl FnOnce(Lua) -> R) -> Result<R, ScriptError> {
        protected(self.lua(), body).ok_or_else(|| {
            let message = self.lua().text(-1).map_or(&b"unknown error"[..], |text| text).to_vec();
            self.lua().set_top(0);
            ScriptError::new([b"ERR ", &message[..]].concat())
        })
    }

    /// Compiles source text and gives the registry slot of the function, or the compiler's message.
    pub(crate) fn compile(&self, source: &[u8], chunk: &[u8]) -> Result<c_int, Vec<u8>> {
        let shared = self.shared();
        let reference = self.protected(|lua| {
            lua.push_bytes(chunk);
            if compile(lua, source, 1) {
                return Some(lua.make_ref());
            }
            let message = shared.text();
            message.clear();
            message.extend_from_slice(lua.text(-1).unwrap_or_default());
            None
        });
        match reference {
            Ok(Some(reference)) => Ok(reference),
            Ok(None) => Err(shared.text().clone()),
            Err(error) => Err(error.text().to_vec()),
        }
    }

    /// Calls the function in registry slot `function`, with a debugger or without, and appends its reply to `out`: one
    /// RESP value, always.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run(
        &mut self,
        function: c_int,
        name: &[u8],
        keys: &[&[u8]],
        args: &[&[u8]],
        host: &mut dyn Host,
        client: Resp,
        out: &mut Vec<u8>,
        debugger: Option<&mut Debugger<'_>>,
    ) {
        self.runs = self.runs.wrapping_add(1);
        let collect = self.runs.is_multiple_of(RUNS_A_COLLECTION);
        let start = out.len();
        let (lua, refs, kind) = (self.lua(), self.refs, self.kind);
        let mut run = Run {
            refs,
            kind,
            function,
            name,
            keys,
            args,
            client,
            collect,
            replied: false,
            starved: false,
            out: &mut *out,
        };
        let entered = self.shared().enter(host, Phase::Running);
        match debugger {
            Some(debugger) => {
                self.shared().enter_debugger(&entered, debugger);
                debugger::set_hook(lua);
            }
            None => set_count_hook(lua),
        }
        lua.push_ref(refs.runner);
        lua.push_light((&raw mut run).cast());
        let status = lua.protected_call(1, 0, 0);
        let (replied, starved) = (run.replied, run.starved || status == ffi::LUA_ERRMEM);
        if status != 0 && !replied {
            out.truncate(start);
            self.write_failure(name, out);
        }
        lua.set_top(0);
        self.clear_hook();
        self.restore();
        drop(entered);
        if starved {
            // Lua 5.1 does not collect when an allocation fails. If even this fails, the next run will say so.
            let _ = self.protected(|lua| lua.gc(ffi::LUA_GCCOLLECT, 0));
        }
    }

    /// The reply to a run that ended outside of the script's own call: out of memory, or killed while the reply was
    /// written. The message is on top, a string already.
    fn write_failure(&self, name: &[u8], out: &mut Vec<u8>) {
        out.push(b'-');
        let start = out.len();
        out.extend_from_slice(b"ERR Error running script ");
        out.extend_from_slice(name);
        out.extend_from_slice(b", ");
        out.extend_from_slice(match self.shared().killed.get() {
            true => KILLED,
            false => self.lua().string(-1).unwrap_or(b"execution failure"),
        });
        blank_newlines(out, start);
        if let Some(host) = self.shared().host() {
            host.script_error(&out[start..]);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether so many scripts are kept that no more should be; what is garbage goes first.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.shared().is_nearly_full() && {
            // If this fails, there is no room either.
            let _ = self.protected(|lua| lua.gc(ffi::LUA_GCCOLLECT, 0));
            self.shared().is_nearly_full()
        }
    }

    /// Undoes what a script may have done to the state as a whole.
    fn restore(&self) {
        let (lua, shared) = (self.lua(), self.shared());
        if shared.gc_changed.replace(false) {
            lua.gc(ffi::LUA_GCSETPAUSE, GC_PAUSE);
            lua.gc(ffi::LUA_GCSETSTEPMUL, GC_STEP_MULTIPLIER);
            lua.gc(ffi::LUA_GCRESTART, 0);
        }
        if shared.globals_changed.replace(false) {
            lua.push_ref(self.refs.environment);
            lua.replace(GLOBALS);
        }
    }

    pub(crate) fn set_hook(&self) {
        set_count_hook(self.lua());
    }

    pub(crate) fn clear_hook(&self) {
        // SAFETY: the state is live.
        unsafe { ffi::lua_sethook(self.raw.as_ptr(), None, 0, 0) };
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: the state is live, not running, and nobody uses it or `shared` after this. Closing runs no Lua code:
        // no value has a finalizer (`base::newproxy`).
        unsafe {
            ffi::lua_close(self.raw.as_ptr());
            drop(Box::from_raw(self.shared.as_ptr()));
        }
    }
}

/// Runs `body` where it may raise; None when it did, with the error on top. `body` owns nothing with a destructor.
pub(crate) fn protected<R>(lua: Lua, body: impl FnOnce(Lua) -> R) -> Option<R> {
    struct Call<F, R> {
        body: Option<F>,
        result: Option<R>,
    }
    unsafe extern "C-unwind" fn enter<F: FnOnce(Lua) -> R, R>(raw: *mut RawState) -> c_int {
        // SAFETY: Lua calls its functions with the running state.
        let lua = unsafe { Lua::from_raw(raw) };
        // SAFETY: argument 1 is the `Call` below, which waits for us.
        let call = unsafe { &mut *lua.user_pointer(1).cast::<Call<F, R>>() };
        lua.set_top(0);
        if let Some(body) = call.body.take() {
            call.result = Some(body(lua));
        }
        0
    }
    fn entry<F: FnOnce(Lua) -> R, R>(_: &Call<F, R>) -> ffi::lua_CFunction {
        enter::<F, R>
    }
    let mut call = Call { body: Some(body), result: None };
    let entry = entry(&call);
    // SAFETY: `call` outlives the call, and `entry` takes it for what it is.
    let status = unsafe { ffi::lua_cpcall(lua.raw(), entry, (&raw mut call).cast()) };
    call.result.take().filter(|_| status == 0)
}

lua_fn! {
    /// The body of [`Vm::run`]; argument 1 is its [`Run`].
    pub(crate) fn run_protected(lua) {
        let pointer = lua.user_pointer(1).cast::<Run<'_>>();
        // SAFETY: `Vm::run` is the only caller: this function is in a registry slot no script reaches.
        let run = unsafe { &mut *pointer };
        lua.set_top(0);
        lua.push_ref(run.refs.handler);
        lua.push_ref(run.function);
        let args = push_inputs(lua, run);
        let status = lua.protected_call(args, 1, 1);
        run.starved = status == ffi::LUA_ERRMEM;
        if status != 0 {
            let error = match lua.shared().killed.get() {
                true => Some(write_killed(lua, run.name, run.out)),
                false => write_run_error(lua, run.name, run.out),
            };
            if let (Some(error), Some(host)) = (error, lua.shared().host()) {
                host.script_error(&run.out[error]);
            }
        } else {
            write_reply(lua, run.client, lua.shared().script_resp.get(), run.out);
        }
        run.replied = true;
        if run.collect {
            lua.gc(ffi::LUA_GCSTEP, RUNS_A_COLLECTION as c_int);
        }
        0
    }
}

/// Makes KEYS and ARGV, as globals or as arguments on the stack; gives the number of arguments.
fn push_inputs(lua: Lua, run: &Run<'_>) -> c_int {
    match run.kind {
        Kind::Eval => {
            lua.push_ref(run.refs.globals);
            push_array(lua, run.keys);
            lua.raw_set_name(-2, b"KEYS");
            push_array(lua, run.args);
            lua.raw_set_name(-2, b"ARGV");
            lua.pop(1);
            0
        }
        Kind::Functions => {
            push_array(lua, run.keys);
            push_array(lua, run.args);
            2
        }
    }
}

fn push_array(lua: Lua, values: &[&[u8]]) {
    lua.push_table(values.len(), 0);
    for (value, idx) in values.iter().zip(1..) {
        lua.push_bytes(value);
        lua.raw_set_index(-2, idx);
    }
}

/// Compiles source text into a function on top; false with the message on top. The chunk's name is the string at
/// `name`. No collection runs meanwhile: the parser does not keep all it makes reachable (CVE-2025-49844).
pub(crate) fn compile(lua: Lua, source: &[u8], name: c_int) -> bool {
    if source.len() > SOURCE_MAX_BYTES {
        lua.push_bytes(b"chunk too large");
        return false;
    }
    let mut reader = Source { text: source, lead: source.first() == Some(&ffi::LUA_SIGNATURE[0]) };
    lua.gc(ffi::LUA_GCSTOP, 0);
    // SAFETY: the name is a string at this index, so it is terminated; the reader outlives the call.
    let status = unsafe {
        let name = ffi::lua_tolstring(lua.raw(), name, ptr::null_mut());
        ffi::lua_load(lua.raw(), read_source, (&raw mut reader).cast(), name)
    };
    lua.gc(ffi::LUA_GCRESTART, 0);
    status == 0
}

/// Text for the parser. A blank goes first where Lua would see bytecode, which then is a syntax error.
struct Source<'a> {
    text: &'a [u8],
    lead: bool,
}

unsafe extern "C-unwind" fn read_source(_: *mut RawState, source: *mut c_void, len: *mut usize) -> *const c_char {
    // SAFETY: `compile` passes its `Source`.
    let source = unsafe { &mut *source.cast::<Source<'_>>() };
    let piece = if std::mem::take(&mut source.lead) { b" " } else { std::mem::take(&mut source.text) };
    // SAFETY: Lua passes a place for the length.
    unsafe { *len = piece.len() };
    piece.as_ptr().cast()
}

/// From now on the host is asked now and then whether the code of this coroutine, and of those made from it, may go on.
pub(crate) fn set_count_hook(lua: Lua) {
    // SAFETY: the state is live, the hook is a hook.
    unsafe { ffi::lua_sethook(lua.raw(), Some(hook), ffi::LUA_MASKCOUNT, TICK_INSTRUCTIONS) };
}

/// Every [`TICK_INSTRUCTIONS`] instructions: goes on or ends the script. Once it is to end, the hook runs at each
/// instruction, so that no `pcall` loop survives the error; also in the main state, when a coroutine was running.
///
/// The error is the one of a failed allocation: Lua calls error handlers for all others, and would call one from here
/// with hooks off, so that a handler of `xpcall` could run on for ever.
///
/// # Safety
/// Lua calls it as a hook, or a hook of its own does.
pub(crate) unsafe extern "C-unwind" fn hook(raw: *mut RawState, frame: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls hooks with the running state.
    let lua = unsafe { Lua::from_raw(raw) };
    let shared = lua.shared();
    if !shared.killed.get() {
        let is_over = shared.debugger().is_some_and(|debugger| debugger.is_over());
        match shared.host().map(|host| host.tick()) {
            Some(Tick::Kill) => shared.killed.set(true),
            _ if is_over => shared.killed.set(true),
            _ => return,
        }
        // SAFETY: Lua passes the running function's record, and fills in what is asked for.
        let (source, line) = unsafe {
            ffi::lua_getinfo(raw, c"Sl".as_ptr(), frame);
            (CStr::from_ptr((*frame).source), (*frame).currentline)
        };
        let place = shared.killed_at();
        place.extend_from_slice(source.to_bytes());
        place.push(b':');
        append_integer(place, i64::from(line));
    }
    for state in [raw, shared.main.get()] {
        // SAFETY: both are live: one runs, the other is the state itself.
        unsafe { ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKLINE | ffi::LUA_MASKCOUNT, 1) };
    }
    shared.fail_next_allocation();
    lua.push_userdata(0);
}

/// An error outside of every protected call: a bug of this crate, and the state is beyond use.
unsafe extern "C-unwind" fn panic(_: *mut RawState) -> c_int {
    eprintln!("redstart-script: Lua raised an error outside of a protected call");
    std::process::abort()
}

pub(crate) fn out_of_memory() -> ScriptError {
    ScriptError([b"ERR ", NOT_ENOUGH_MEMORY].concat())
}

/// A collection step is made after so many runs, for so many of Lua's step units, so that a full cycle never falls on
/// one script alone. The number is Redis's.
const RUNS_A_COLLECTION: u32 = 50;
/// Lua's defaults, in percent.
const GC_PAUSE: c_int = 200;
const GC_STEP_MULTIPLIER: c_int = 200;
/// The lexer counts the signs of a long bracket in an `int` (CVE-2025-46819).
const SOURCE_MAX_BYTES: usize = 1 << 30;
