//! FUNCTION: libraries of named functions, loaded once and called by FCALL.
//!
//! A library's code runs when it is loaded, with little more in its globals than `redis.register_function`; what it
//! registers is kept. Function names are unique over all libraries, whatever their case.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::append_message;
use crate::host::{Host, Resp};
use crate::lua::Lua;
use crate::register::{NAME_RULE, Registrations, is_valid_name};
use crate::sandbox::Refs;
use crate::shared::Phase;
use crate::shebang::{ScriptFlags, parse_library};
use crate::vm::{Kind, Options, ScriptError, Vm, out_of_memory};

/// A function of a library.
#[derive(Debug)]
pub struct Function {
    /// As registered; FCALL takes any case.
    pub name: Vec<u8>,
    /// The text given with it.
    pub description: Option<Vec<u8>>,
    /// What it declares about itself.
    pub flags: ScriptFlags,
    slot: c_int,
    /// False once its library is gone: the slot may be another function's then.
    live: AtomicBool,
}

/// A function found by its name.
pub type FunctionId = Arc<Function>;

/// A loaded library.
#[derive(Debug)]
pub struct Library {
    /// From its first line.
    pub name: Vec<u8>,
    /// Its whole source, first line included.
    pub code: Vec<u8>,
    /// In the order they were registered.
    pub functions: Vec<FunctionId>,
}

/// What FUNCTION RESTORE does with the libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePolicy {
    /// Deletes them first.
    Flush,
    /// Keeps them; one of the same name is an error.
    Append,
    /// Keeps them, but for those of the same name.
    Replace,
}

/// The Lua state of FUNCTION and its libraries.
pub struct Functions {
    vm: Vm,
    options: Options,
    set: LibrarySet,
}

#[derive(Default)]
struct LibrarySet {
    libraries: BTreeMap<Vec<u8>, Library>,
    /// By lower-case name.
    functions: BTreeMap<Vec<u8>, FunctionId>,
    /// Of all libraries: their functions, and the bytes of names and sources. FCALL asks each time.
    function_count: usize,
    bytes: usize,
}

impl Functions {
    /// Fails when there is no memory for a Lua state.
    pub fn new(options: Options) -> Result<Functions, ScriptError> {
        let vm = Vm::new(Kind::Functions, &options)?;
        Ok(Functions { vm, options, set: LibrarySet::default() })
    }

    /// FUNCTION LOAD: the library's name. `host` gets what the code logs, and its [`Host::tick`] ends a load that
    /// takes too long. On an error nothing has changed.
    pub fn load(&mut self, code: &[u8], replace: bool, host: &mut dyn Host) -> Result<Vec<u8>, ScriptError> {
        let mut set = std::mem::take(&mut self.set);
        let loaded = self.load_into(&mut set, code, replace, host);
        self.set = set;
        loaded
    }

    /// FUNCTION RESTORE, after the payload is taken apart: all of `codes`, or on an error nothing.
    pub fn restore(&mut self, codes: &[&[u8]], policy: RestorePolicy, host: &mut dyn Host) -> Result<(), ScriptError> {
        let mut fresh = LibrarySet::default();
        let loaded = codes.iter().try_for_each(|code| self.load_into(&mut fresh, code, false, host).map(drop));
        let joined = loaded.and_then(|()| match policy {
            RestorePolicy::Flush => {
                std::mem::swap(&mut self.set, &mut fresh);
                Ok(())
            }
            RestorePolicy::Append => self.join(&mut fresh, false),
            RestorePolicy::Replace => self.join(&mut fresh, true),
        });
        // What was replaced, or what could not be taken over.
        for library in std::mem::take(&mut fresh.libraries).into_values() {
            self.release(&library);
        }
        joined
    }

    /// FUNCTION DELETE: false when there is no such library.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        match self.set.unlink(name) {
            Some(library) => {
                self.release(&library);
                true
            }
            None => false,
        }
    }

    /// FUNCTION FLUSH: a fresh state without libraries. What it gives back frees the old one when dropped, which may
    /// take a while: another thread can do that.
    pub fn flush(&mut self) -> Result<FlushedFunctions, ScriptError> {
        let fresh = Functions::new(self.options.clone())?;
        let old = std::mem::replace(self, fresh);
        old.set.functions.values().for_each(|function| function.live.store(false, Ordering::Relaxed));
        Ok(FlushedFunctions(old))
    }

    /// The function FCALL means by `name`.
    pub fn find(&self, name: &[u8]) -> Option<FunctionId> {
        self.set.functions.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Calls a function and appends its reply to `out`: exactly one RESP value in the client's protocol.
    pub fn call(
        &mut self,
        function: &Function,
        keys: &[&[u8]],
        args: &[&[u8]],
        host: &mut dyn Host,
        client: Resp,
        out: &mut Vec<u8>,
    ) {
        if function.live.load(Ordering::Relaxed) {
            self.vm.run(function.slot, &function.name, keys, args, host, client, out, None);
        } else {
            out.extend_from_slice(b"-ERR Function not found\r\n");
        }
    }

    /// All libraries, by name.
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.set.libraries.values()
    }

    /// How many libraries there are.
    pub fn library_count(&self) -> usize {
        self.set.libraries.len()
    }

    /// How many functions can be called.
    pub fn function_count(&self) -> usize {
        self.set.function_count
    }

    /// Bytes the Lua state holds.
    pub fn memory_bytes(&self) -> usize {
        self.vm.shared().used_bytes()
    }

    /// Bytes names, sources and their index take, outside the Lua state.
    pub fn libraries_memory_bytes(&self) -> usize {
        self.set.bytes
    }

    fn load_into(
        &mut self,
        set: &mut LibrarySet,
        code: &[u8],
        replace: bool,
        host: &mut dyn Host,
    ) -> Result<Vec<u8>, ScriptError> {
        let header = parse_library(code)?;
        if !is_valid_name(&header.name) {
            return Err(format!("ERR {NAME_RULE}").into());
        }
        if !header.engine.eq_ignore_ascii_case(b"LUA") {
            return Err(about("Engine '", &header.engine, "' not found"));
        }
        if set.libraries.contains_key(&header.name) && !replace {
            return Err(about("Library '", &header.name, "' already exists"));
        }
        if self.vm.is_nearly_full() {
            return Err(out_of_memory());
        }
        let functions = self.register_all(&code[header.code_start..], host)?;
        let library = Library { name: header.name.clone(), code: code.to_vec(), functions };
        if library.functions.is_empty() {
            return Err("ERR No functions registered".to_owned().into());
        }
        let replaced = set.unlink(&header.name);
        if let Some(taken) = set.taken_name(&library) {
            let error = about("Function ", taken, " already exists");
            if let Some(replaced) = replaced {
                set.link(replaced);
            }
            self.release(&library);
            return Err(error);
        }
        set.link(library);
        if let Some(replaced) = replaced {
            self.release(&replaced);
        }
        Ok(header.name)
    }

    /// Runs a library's code for what it registers.
    fn register_all(&mut self, code: &[u8], host: &mut dyn Host) -> Result<Vec<FunctionId>, ScriptError> {
        let vm = &mut self.vm;
        let slot = vm
            .compile(code, b"@user_function")
            .map_err(|message| ScriptError::new([b"ERR Error compiling function: ", &message[..]].concat()))?;
        let refs = vm.refs;
        *vm.shared().registrations() = Registrations::default();
        let entered = vm.shared().enter(host, Phase::Loading);
        vm.set_hook();
        let mut message = Vec::new();
        let ran = vm.protected(|lua| run_loading(lua, refs, slot, &mut message));
        vm.clear_hook();
        drop(entered);
        let put_right = vm.protected(|lua| {
            lua.drop_ref(slot);
            set_missing_lookup(lua, refs, refs.globals);
        });
        let registered = std::mem::take(vm.shared().registrations()).in_order;
        let functions: Vec<FunctionId> = registered
            .into_iter()
            .map(|registration| {
                Arc::new(Function {
                    name: registration.name,
                    description: registration.description,
                    flags: registration.flags,
                    slot: registration.function,
                    live: AtomicBool::new(true),
                })
            })
            .collect();
        match ran.and_then(|ok| put_right.map(|()| ok)) {
            Ok(true) => Ok(functions),
            failed => {
                self.release_all(&functions);
                let reason = failed.err().map_or(message, |error| error.text().to_vec());
                Err(ScriptError::new([b"ERR Error registering functions: ", &reason[..]].concat()))
            }
        }
    }

    /// Moves all of `fresh` in; on an error nothing, and `fresh` is as before. With success `fresh` holds what was
    /// replaced.
    fn join(&mut self, fresh: &mut LibrarySet, replace: bool) -> Result<(), ScriptError> {
        let same_name = |name: &&Vec<u8>| self.set.libraries.contains_key(*name);
        let shared_names: Vec<Vec<u8>> = fresh.libraries.keys().filter(same_name).cloned().collect();
        if let (Some(name), false) = (shared_names.first(), replace) {
            return Err(about("Library ", name, " already exists"));
        }
        let replaced: Vec<Library> = shared_names.iter().filter_map(|name| self.set.unlink(name)).collect();
        let taken = fresh.libraries.values().find_map(|library| self.set.taken_name(library));
        if let Some(taken) = taken {
            let error = about("Function ", taken, " already exists");
            replaced.into_iter().for_each(|library| self.set.link(library));
            return Err(error);
        }
        let moved = std::mem::take(fresh);
        moved.libraries.into_values().for_each(|library| self.set.link(library));
        replaced.into_iter().for_each(|library| fresh.link(library));
        Ok(())
    }

    fn release(&self, library: &Library) {
        self.release_all(&library.functions);
    }

    /// Gives registry slots back.
    fn release_all(&self, functions: &[FunctionId]) {
        for function in functions {
            function.live.store(false, Ordering::Relaxed);
            let slot = function.slot;
            // Out of memory here leaves the slot taken, which harms nobody.
            let _ = self.vm.protected(|lua| lua.drop_ref(slot));
        }
    }
}

/// Flushed libraries; their memory goes when this is dropped.
pub struct FlushedFunctions(Functions);

impl FlushedFunctions {
    /// How many functions there were.
    pub fn function_count(&self) -> usize {
        self.0.function_count()
    }

    /// How many libraries.
    pub fn library_count(&self) -> usize {
        self.0.library_count()
    }

    /// Bytes that its Lua state holds.
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

impl LibrarySet {
    fn link(&mut self, library: Library) {
        for function in &library.functions {
            // Two names of one library may differ in case only: the first is the one that can be called.
            self.functions.entry(function.name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(function));
        }
        self.function_count += library.functions.len();
        self.bytes += library_bytes(&library);
        self.libraries.insert(library.name.clone(), library);
    }

    fn unlink(&mut self, name: &[u8]) -> Option<Library> {
        let library = self.libraries.remove(name)?;
        self.function_count -= library.functions.len();
        self.bytes -= library_bytes(&library);
        for function in &library.functions {
            self.functions.remove(&function.name.to_ascii_lowercase());
        }
        Some(library)
    }

    /// The first function of `library` whose name another library's function has.
    fn taken_name<'a>(&self, library: &'a Library) -> Option<&'a [u8]> {
        let taken = |function: &&FunctionId| self.functions.contains_key(&function.name.to_ascii_lowercase());
        library.functions.iter().find(taken).map(|function| &function.name[..])
    }
}

/// Bytes that a library takes outside the Lua state.
fn library_bytes(library: &Library) -> usize {
    let function_bytes = |function: &FunctionId| {
        size_of::<Function>() + 2 * function.name.len() + function.description.as_ref().map_or(0, Vec::len)
    };
    let functions = library.functions.iter().map(function_bytes).sum::<usize>();
    size_of::<Library>() + 2 * library.name.len() + library.code.len() + functions
}

/// Runs the compiled library in `slot`; false with the error in `message`. Raises.
fn run_loading(lua: Lua, refs: Refs, slot: c_int, message: &mut Vec<u8>) -> bool {
    set_missing_lookup(lua, refs, refs.load_globals);
    lua.push_ref(slot);
    let ok = lua.protected_call(0, 0, 0) == 0;
    if !ok && lua.shared().killed.get() {
        message.extend_from_slice(b"ERR FUNCTION LOAD timeout");
    } else if !ok {
        append_message(lua, message);
    }
    ok
}

/// Makes the globals read what they lack from the table in registry slot `table`.
fn set_missing_lookup(lua: Lua, refs: Refs, table: c_int) {
    lua.push_ref(refs.environment_meta);
    lua.push_ref(table);
    lua.raw_set_name(-2, b"__index");
    lua.pop(1);
}

fn about(before: &str, subject: &[u8], after: &str) -> ScriptError {
    ScriptError::new([b"ERR ", before.as_bytes(), subject, after.as_bytes()].concat())
}
