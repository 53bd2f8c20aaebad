//! The Lua engines of a server: one for EVAL, one for the libraries of FUNCTION. Each is made at its first use.
//!
//! Their locks are taken after shard locks and held while a script runs; what INFO and FUNCTION STATS say meanwhile is
//! kept beside them.

use crate::config::LogLevel;
use crate::os::banner::REDIS_VERSION;
use crate::os::log::Log;
use crate::util::clock::Clock;
use crate::util::sync::Mutex;
use redstart_script::{Engine, Functions, Host, Options, Resp, ScriptError, ScriptFlags, Tick, UnknownCommand};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The scripts of EVAL.
#[derive(Default)]
pub struct ScriptRegister {
    engine: Mutex<Option<Engine>>,
    /// Bytes of its Lua states: also of one that is being freed.
    lua_bytes: Arc<AtomicUsize>,
    scripts: AtomicUsize,
    vm_bytes: AtomicUsize,
    source_bytes: AtomicUsize,
}

/// What INFO tells of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptCounts {
    pub scripts: usize,
    /// Bytes of the Lua state.
    pub vm_bytes: usize,
    /// Bytes of sources and their index.
    pub source_bytes: usize,
}

impl ScriptRegister {
    /// Uses the engine. Fails when there is no memory for a Lua state.
    pub fn with<R>(&self, work: impl FnOnce(&mut Engine) -> R) -> Result<R, ScriptError> {
        let mut slot = self.engine.lock();
        if slot.is_none() {
            *slot = Some(Engine::new(options(&self.lua_bytes))?);
        }
        let engine = slot.as_mut().ok_or_else(out_of_memory)?;
        let result = work(engine);
        self.scripts.store(engine.script_count(), Ordering::Relaxed);
        self.vm_bytes.store(engine.memory_bytes(), Ordering::Relaxed);
        self.source_bytes.store(engine.scripts_memory_bytes(), Ordering::Relaxed);
        Ok(result)
    }

    /// Bytes of its Lua states now, to within some kilobytes, also while a script runs.
    pub fn lua_bytes(&self) -> usize {
        self.lua_bytes.load(Ordering::Relaxed)
    }

    /// As they were when the engine was last used: does not wait for a script that runs.
    pub fn counts(&self) -> ScriptCounts {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        ScriptCounts {
            scripts: read(&self.scripts),
            vm_bytes: read(&self.vm_bytes),
            source_bytes: read(&self.source_bytes),
        }
    }
}

/// How long to wait for a script that runs, when all that is asked for is what another one declares.
pub const PATIENCE: Duration = Duration::from_millis(20);

/// What the script or function that `argv` runs declares about itself. `None`: it runs none, it is not known, it declares
/// nothing, or a script that runs keeps it from being looked up for as long as `patience`.
pub fn declared_flags(
    scripts: &ScriptRegister,
    functions: &FunctionRegister,
    argv: &[&[u8]],
    patience: Duration,
) -> Option<ScriptFlags> {
    let (&name, &[what, ..]) = argv.split_first()? else { return None };
    match name.to_ascii_lowercase().as_slice() {
        b"eval" | b"eval_ro" => Engine::parse_flags(what).ok()?,
        b"evalsha" | b"evalsha_ro" => {
            let slot = scripts.engine.try_lock_for(patience)?;
            let engine = slot.as_ref()?;
            engine.flags(engine.find(what)?)
        }
        b"fcall" | b"fcall_ro" => {
            let slot = functions.functions.try_lock_for(patience)?;
            Some(slot.as_ref()?.find(what)?.flags)
        }
        _ => None,
    }
}

impl std::fmt::Debug for ScriptRegister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ScriptRegister").field(&self.counts()).finish()
    }
}

/// The libraries of FUNCTION.
#[derive(Default)]
pub struct FunctionRegister {
    functions: Mutex<Option<Functions>>,
    /// Bytes of its Lua states: also of one that is being freed.
    lua_bytes: Arc<AtomicUsize>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    libraries: AtomicUsize,
    functions: AtomicUsize,
    vm_bytes: AtomicUsize,
    source_bytes: AtomicUsize,
}

/// What INFO and FUNCTION STATS tell of the libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionCounts {
    pub libraries: usize,
    pub functions: usize,
    /// Bytes of the Lua state.
    pub vm_bytes: usize,
    /// Bytes of names and sources.
    pub source_bytes: usize,
}

impl FunctionRegister {
    /// Uses the libraries. Fails when there is no memory for a Lua state.
    pub fn with<R>(&self, work: impl FnOnce(&mut Functions) -> R) -> Result<R, ScriptError> {
        let mut slot = self.functions.lock();
        if slot.is_none() {
            *slot = Some(Functions::new(options(&self.lua_bytes))?);
        }
        let functions = slot.as_mut().ok_or_else(out_of_memory)?;
        let result = work(functions);
        self.counts.libraries.store(functions.library_count(), Ordering::Relaxed);
        self.counts.functions.store(functions.function_count(), Ordering::Relaxed);
        self.counts.vm_bytes.store(functions.memory_bytes(), Ordering::Relaxed);
        self.counts.source_bytes.store(functions.libraries_memory_bytes(), Ordering::Relaxed);
        Ok(result)
    }

    /// Bytes of its Lua states now, to within some kilobytes, also while a script runs.
    pub fn lua_bytes(&self) -> usize {
        self.lua_bytes.load(Ordering::Relaxed)
    }

    /// As they were when they were last used: does not wait for a function that runs.
    pub fn counts(&self) -> FunctionCounts {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        FunctionCounts {
            libraries: read(&self.counts.libraries),
            functions: read(&self.counts.functions),
            vm_bytes: read(&self.counts.vm_bytes),
            source_bytes: read(&self.counts.source_bytes),
        }
    }

    /// The sources of all libraries, by name: what a snapshot keeps.
    pub fn sources(&self) -> Vec<Vec<u8>> {
        let slot = self.functions.lock();
        slot.iter().flat_map(Functions::libraries).map(|library| library.code.clone()).collect()
    }

    /// Loads a library from a snapshot. Takes the time it takes.
    pub fn load(&self, code: &[u8], replace: bool, log: &Log, clock: &Clock) -> Result<Vec<u8>, ScriptError> {
        let mut host = LoadHost::new(log, clock, None);
        self.with(|functions| functions.load(code, replace, &mut host))?
    }
}

impl std::fmt::Debug for FunctionRegister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FunctionRegister").field(&self.counts()).finish()
    }
}

/// What a Lua state may hold. Scripts are outside of `maxmemory`, as in Redis, which lets them take all there is; a script
/// that builds without end then ends the server rather than itself.
const STATE_BYTES: usize = 1 << 30;
/// Of that, what is left to scripts that run when many are kept.
const RESERVED_BYTES: usize = STATE_BYTES / 4;

/// What scripts are told about this server.
fn options(lua_bytes: &Arc<AtomicUsize>) -> Options {
    Options {
        redis_version: REDIS_VERSION.to_owned(),
        max_state_bytes: STATE_BYTES,
        reserved_bytes: RESERVED_BYTES,
        total_bytes: lua_bytes.clone(),
    }
}

fn out_of_memory() -> ScriptError {
    ScriptError::from("ERR not enough memory".to_owned())
}

/// The server as a library sees it while it is loaded: a log, and a time limit.
pub struct LoadHost<'a> {
    log: &'a Log,
    clock: &'a Clock,
    /// Unix ms.
    deadline_ms: Option<i64>,
}

impl<'a> LoadHost<'a> {
    /// A host for a load that may take `limit_ms`.
    pub fn new(log: &'a Log, clock: &'a Clock, limit_ms: Option<i64>) -> Self {
        LoadHost { log, clock, deadline_ms: limit_ms.map(|limit_ms| clock.now_ms().saturating_add(limit_ms)) }
    }
}

impl Host for LoadHost<'_> {
    fn call(&mut self, _argv: &[&[u8]], reply: &mut Vec<u8>) {
        reply.extend_from_slice(b"-ERR redis.call can not be used while a library is loaded\r\n");
    }

    fn set_resp(&mut self, _version: Resp) {}

    fn acl_check(&mut self, _argv: &[&[u8]]) -> Result<bool, UnknownCommand> {
        Err(UnknownCommand)
    }

    fn set_repl(&mut self, _flags: u8) {}

    fn log(&mut self, level: u8, message: &[u8]) {
        log_script_message(self.log, level, message);
    }

    fn tick(&mut self) -> Tick {
        let is_over = self.deadline_ms.is_some_and(|deadline_ms| self.clock.now_ms() > deadline_ms);
        if is_over { Tick::Kill } else { Tick::Continue }
    }

    fn script_error(&mut self, _error: &[u8]) {}
}

/// `redis.log`: level 0 (debug) to 3 (warning).
pub fn log_script_message(log: &Log, level: u8, message: &[u8]) {
    let level = match level {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        _ => LogLevel::Warning,
    };
    log.bytes(level, message);
}
