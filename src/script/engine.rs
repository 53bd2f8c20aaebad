//! The scripts of EVAL: compiled once, kept until SCRIPT FLUSH, found by the SHA1 of their source.

use std::collections::HashMap;
use std::ffi::c_int;

use crate::debugger::Debugger;
use crate::host::{Host, Resp};
use crate::redis_api::hex_digest;
use crate::shebang::{ScriptFlags, parse_script};
use crate::vm::{Kind, Options, ScriptError, Vm, out_of_memory};

/// A loaded script. Good until the next [`Engine::flush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptId(u32);

struct Script {
    sha: [u8; 40],
    body: Box<[u8]>,
    flags: Option<ScriptFlags>,
    function: c_int,
}

/// The Lua state of EVAL and its scripts. `Send`, not `Sync`: the server keeps it in a mutex.
pub struct Engine {
    vm: Vm,
    options: Options,
    scripts: Vec<Script>,
    by_sha: HashMap<[u8; 40], ScriptId>,
    bodies_bytes: usize,
}

impl Engine {
    /// Fails when there is no memory for a Lua state.
    pub fn new(options: Options) -> Result<Engine, ScriptError> {
        let vm = Vm::new(Kind::Eval, &options)?;
        Ok(Engine { vm, options, scripts: Vec::new(), by_sha: HashMap::new(), bodies_bytes: 0 })
    }

    /// The script with this SHA1 in hexadecimal, of either case.
    pub fn find(&self, sha: &[u8]) -> Option<ScriptId> {
        let mut key: [u8; 40] = sha.try_into().ok()?;
        key.make_ascii_lowercase();
        self.by_sha.get(&key).copied()
    }

    /// Compiles a script unless it is known already. Errors: a bad `#!` line; a syntax error.
    pub fn load(&mut self, body: &[u8]) -> Result<ScriptId, ScriptError> {
        let sha = hex_digest(body);
        if let Some(&id) = self.by_sha.get(&sha) {
            return Ok(id);
        }
        let (flags, skipped) = parse_script(body)?;
        if self.vm.is_nearly_full() {
            return Err(out_of_memory());
        }
        let function = self.vm.compile(&body[skipped..], b"@user_script").map_err(|message| {
            ScriptError::new([b"ERR Error compiling script (new function): ", &message[..]].concat())
        })?;
        let id = ScriptId(u32::try_from(self.scripts.len()).expect("memory ends before four billion scripts"));
        self.bodies_bytes += body.len();
        self.scripts.push(Script { sha, body: body.into(), flags, function });
        self.by_sha.insert(sha, id);
        Ok(id)
    }

    /// What the script's first line declares; `None` without one: then the rules of before Redis 7 hold.
    pub fn flags(&self, id: ScriptId) -> Option<ScriptFlags> {
        self.script(id)?.flags
    }

    /// The flags of source text that need not be loaded.
    pub fn parse_flags(body: &[u8]) -> Result<Option<ScriptFlags>, ScriptError> {
        Ok(parse_script(body)?.0)
    }

    /// The script's SHA1 in lower-case hexadecimal.
    pub fn sha(&self, id: ScriptId) -> Option<&[u8; 40]> {
        Some(&self.script(id)?.sha)
    }

    /// The script's source.
    pub fn body(&self, id: ScriptId) -> Option<&[u8]> {
        Some(&self.script(id)?.body)
    }

    /// Runs a script and appends its reply to `out`: exactly one RESP value in the client's protocol, whatever happens.
    /// Replies of commands reach the script through `host` in RESP2 until it asks for RESP3.
    pub fn run(
        &mut self,
        id: ScriptId,
        keys: &[&[u8]],
        argv: &[&[u8]],
        host: &mut dyn Host,
        client: Resp,
        out: &mut Vec<u8>,
    ) {
        self.run_with(id, keys, argv, host, client, out, None);
    }

    /// [`Engine::run`], with a debugger.
    #[allow(clippy::too_many_arguments)]
    pub fn debug(
        &mut self,
        id: ScriptId,
        keys: &[&[u8]],
        argv: &[&[u8]],
        host: &mut dyn Host,
        client: Resp,
        out: &mut Vec<u8>,
        debugger: &mut Debugger<'_>,
    ) {
        self.run_with(id, keys, argv, host, client, out, Some(debugger));
    }

    #[allow(clippy::too_many_arguments)]
    fn run_with(
        &mut self,
        id: ScriptId,
        keys: &[&[u8]],
        argv: &[&[u8]],
        host: &mut dyn Host,
        client: Resp,
        out: &mut Vec<u8>,
        debugger: Option<&mut Debugger<'_>>,
    ) {
        let Engine { vm, scripts, .. } = self;
        match scripts.get(id.0 as usize) {
            Some(script) => vm.run(script.function, &script.sha, keys, argv, host, client, out, debugger),
            None => out.extend_from_slice(b"-NOSCRIPT No matching script. Please use EVAL.\r\n"),
        }
    }

    /// Forgets all scripts and starts with a fresh state. What it gives back frees the old one when dropped, which may
    /// take a while: another thread can do that.
    pub fn flush(&mut self) -> Result<FlushedScripts, ScriptError> {
        let fresh = Engine::new(self.options.clone())?;
        Ok(FlushedScripts(std::mem::replace(self, fresh)))
    }

    /// How many scripts are loaded.
    pub fn script_count(&self) -> usize {
        self.scripts.len()
    }

    /// Bytes the Lua state holds.
    pub fn memory_bytes(&self) -> usize {
        self.vm.shared().used_bytes()
    }

    /// Bytes the sources and their index take, outside the Lua state.
    pub fn scripts_memory_bytes(&self) -> usize {
        self.bodies_bytes
            + self.scripts.capacity() * size_of::<Script>()
            + self.by_sha.capacity() * (size_of::<([u8; 40], ScriptId)>() + 1)
    }

    fn script(&self, id: ScriptId) -> Option<&Script> {
        self.scripts.get(id.0 as usize)
    }
}

/// A flushed engine; its memory goes when it is dropped.
pub struct FlushedScripts(Engine);

impl FlushedScripts {
    /// How many scripts there were.
    pub fn script_count(&self) -> usize {
        self.0.script_count()
    }

    /// Bytes that its Lua state holds.
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

/// The SHA1 of a script's source, in lower-case hexadecimal: what SCRIPT LOAD answers.
pub fn sha1_hex(body: &[u8]) -> [u8; 40] {
    hex_digest(body)
}
