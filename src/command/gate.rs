//! The gate: every check that comes before a command runs, in Redis's order, whoever calls.
//!
//! | caller | checks |
//! |---|---|
//! | a client's command, also one that is queued | `Engine::check`: how it was called, then the server's state |
//! | a waiter's command that is run again | `check_again`: its user's rights, then the server's state |
//! | a script or function that begins | `Rules::new`: what its flags say; its command has passed already |
//! | a script's command | `check_in_script` |
//!
//! A script that declares flags is judged by them rather than by its command's (`flags_of`), and a transaction by all
//! of what is queued. Redis's own functions for this are `processCommand`, `scriptPrepareForRun` and `scriptCall`.

use crate::acl::log::Place;
use crate::clients::Client;
use crate::command::call::Engine;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::permission;
use crate::command::session::Session;
use crate::command::spec::*;
use crate::command::table::CommandRef;
use crate::config::{Config, ProtectedAction};
use crate::scripts::{self, declared_flags};
use crate::server::Server;
use redstart_script::ScriptFlags;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Engine {
    /// The checks that come before any command of a client.
    pub(super) fn check(&mut self, session: &Session, command: CommandRef, argv: &[&[u8]]) -> CmdResult {
        let spec = command.command;
        if !spec.takes(argv.len()) {
            return Err(CmdError::Arity(spec.name));
        }
        if spec.has(PROTECTED_DEBUG | PROTECTED_MODULE) {
            check_protected(&self.config, &session.client, spec)?;
        }
        if !session.authenticated && !spec.has(NO_AUTH) && self.server.acl.requires_auth() {
            return Err(CmdError::NoAuth);
        }
        if session.multi.is_some() && spec.has(NO_MULTI) {
            return Err(CmdError::Text("ERR Command not allowed inside a transaction"));
        }
        let place = if session.multi.is_some() { Place::Multi } else { Place::TopLevel };
        permission::check(&self.server, session, command, argv, place)
            .map_err(|denial| permission::error(session, command, denial))?;
        // While a script runs, nothing may be evicted.
        let is_limited = self.config.maxmemory > 0 && !self.server.busy.is_busy();
        let out_of_memory = is_limited && !self.make_room();
        self.note_out_of_memory(out_of_memory);
        check_state(&self.server, &self.config, session, command, argv, out_of_memory)
    }

    /// Whether a pause (CLIENT PAUSE, or a snapshot that keeps too much, or too much garbage) holds this command back, which has passed all
    /// checks; until when (Unix ms).
    pub(super) fn paused_until_ms(&self, session: &Session, command: CommandRef, argv: &[&[u8]]) -> Option<i64> {
        let paused = self.server.pause.until_ms(self.now_ms);
        let until_ms = paused.or_else(|| self.server.writers_wait_until_ms(&self.config, self.now_ms))?;
        if session.client.has(Client::REPLICA | Client::MONITOR) {
            return None;
        }
        let is_held = paused.is_some() && !self.server.pause.is_writes_only(self.now_ms)
            || flags_of(&self.server, session, command, argv) & (WRITE | MAY_REPLICATE) != 0;
        is_held.then_some(until_ms)
    }
}

/// What a command may do, now: its flags; those that a script declares instead; of EXEC also those of all that is queued.
pub(super) fn flags_of(server: &Server, session: &Session, command: CommandRef, argv: &[&[u8]]) -> u32 {
    let spec = command.command;
    let own = spec.flags;
    if spec.scope == Scope::Queue {
        return own | session.multi.as_ref().map_or(0, |multi| multi.flags);
    }
    if !spec.runs_script() {
        return own;
    }
    // What a script that runs keeps locked is not waited for by who is only told that it runs.
    let patience = if server.busy.is_busy() { Duration::ZERO } else { scripts::PATIENCE };
    let declared = declared_flags(&server.scripts, &server.functions, argv, patience);
    declared.map_or(own, |declared| by_declaration(own, declared))
}

/// Source: Redis 7.2 `scriptFlagsToCmdFlags`.
fn by_declaration(own: u32, declared: ScriptFlags) -> u32 {
    let no_writes = declared.contains(ScriptFlags::NO_WRITES);
    let mut flags = own & !(STALE | DENYOOM | WRITE | MAY_REPLICATE);
    for (is_set, flag) in [
        (!no_writes && !declared.contains(ScriptFlags::ALLOW_OOM), DENYOOM),
        (!no_writes, WRITE),
        (declared.contains(ScriptFlags::ALLOW_STALE), STALE),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    flags
}

/// The checks before a waiter's command is run again: much may have changed since it began to wait.
pub(super) fn check_again(
    server: &Server,
    config: &Config,
    session: &Session,
    command: CommandRef,
    argv: &[&[u8]],
) -> CmdResult {
    permission::check(server, session, command, argv, Place::TopLevel)
        .map_err(|denial| permission::error(session, command, denial))?;
    check_state(server, config, session, command, argv, server.is_over_maxmemory(config))
}

/// Whether the server can run such a command now. What the command may do is looked up only where that matters.
#[inline]
fn check_state(
    server: &Server,
    config: &Config,
    session: &Session,
    command: CommandRef,
    argv: &[&[u8]],
    out_of_memory: bool,
) -> CmdResult {
    let spec = command.command;
    let may = |flags: u32| flags_of(server, session, command, argv) & flags != 0;
    // What adds to a transaction is refused, too: it must not grow without limit.
    if out_of_memory && (may(DENYOOM) || session.multi.is_some() && !spec.has(ENDS_MULTI)) {
        return Err(CmdError::OutOfMemory);
    }
    if let Some(error) = disk_error(server, config)
        && (may(WRITE) || spec.has(TELLS_HEALTH))
    {
        return Err(error);
    }
    if server.lacks_replicas(config) && may(WRITE) {
        return Err(CmdError::NoReplicas);
    }
    if session.in_pubsub_mode() && !spec.has(WHILE_SUBSCRIBED) {
        const ALLOWED: &str =
            "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
        return Err(quoting("ERR Can't execute '", spec.name, ALLOWED));
    }
    if server.loading.load(Ordering::Relaxed) && !spec.has(LOADING) {
        return Err(CmdError::Text("LOADING Redis is loading the dataset in memory"));
    }
    if server.busy.is_busy() && !spec.has(ALLOW_BUSY) {
        return Err(CmdError::of_busy(&server.busy));
    }
    // A monitoring client is a kind of replica.
    if session.client.has(Client::REPLICA | Client::MONITOR) && may(READONLY | WRITE | MAY_REPLICATE) {
        return Err(CmdError::Text("ERR Replica can't interact with the keyspace"));
    }
    Ok(())
}

/// DEBUG and MODULE, which the configuration allows to everybody, to clients of this machine or to nobody.
fn check_protected(config: &Config, client: &Client, spec: &Command) -> CmdResult {
    let is_debug = spec.has(PROTECTED_DEBUG);
    let guard = if is_debug { config.enable_debug_command } else { config.enable_module_command };
    if is_allowed(guard, client) {
        return Ok(());
    }
    Err(CmdError::Text(if is_debug { NO_DEBUG } else { NO_MODULE }))
}

/// Whether this client may do what `action` guards.
pub(crate) fn is_allowed(action: ProtectedAction, client: &Client) -> bool {
    match action {
        ProtectedAction::Yes => true,
        ProtectedAction::Local => client.is_local(),
        ProtectedAction::No => false,
    }
}

const NO_DEBUG: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can \
    run it from a local connection, otherwise you need to set this option in the configuration file, and then restart \
    the server.";

const NO_MODULE: &str = "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you \
    can run it from a local connection, otherwise you need to set this option in the configuration file, and then \
    restart the server.";

/// What writers are told while saving or logging fails: the data set must not go on without its files. Source: Redis 7.2
/// `stop-writes-on-bgsave-error`.
#[inline]
fn disk_error(server: &Server, config: &Config) -> Option<CmdError> {
    if server.persistence.refuses_writes(config) {
        return Some(CmdError::Text(MISCONF_RDB));
    }
    server.aof.refuses_writes().map(|reason| quoting("MISCONF Errors writing to the AOF file: ", &reason, ""))
}

/// Out of line, as errors are rare: the gate stands before every command.
#[cold]
fn quoting(before: &str, word: &str, after: &str) -> CmdError {
    CmdError::owned([before, word, after].concat())
}

const MISCONF_RDB: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
    disk. Commands that may modify the data set are disabled, because this instance is configured to report errors \
    during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
    details about the RDB error.";

/// The same for a script that declares flags.
fn disk_error_of_script(server: &Server, config: &Config) -> Option<CmdError> {
    if server.persistence.refuses_writes(config) {
        return Some(CmdError::Text(MISCONF_RDB_SCRIPT));
    }
    const MISCONF_AOF: &str = "MISCONF Redis is configured to persist data to AOF, but it's currently unable to persist \
        to disk. Writable scripts are blocked. Use 'no-writes' flag for read only scripts. AOF error: ";
    server.aof.refuses_writes().map(|reason| quoting(MISCONF_AOF, &reason, ""))
}

const MISCONF_RDB_SCRIPT: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
    persist to disk. Writable scripts are blocked. Use 'no-writes' flag for read only scripts.";

/// What a script may do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// EVAL_RO, FCALL_RO or the flag no-writes: no command may write.
    read_only: bool,
    /// There was no memory left when the script's command, or the transaction around it, began, and the script may not
    /// take more.
    out_of_memory: bool,
}

impl Rules {
    /// The rules of a script with these flags (None: it declares none, the rules before Redis 7), called by a
    /// `read_only` command or not. Errors: the flags forbid running it now. As a rule the gate has seen to these before;
    /// a transaction may have changed the server's state since it passed.
    pub(crate) fn new(ctx: &Ctx<'_, '_>, flags: Option<ScriptFlags>, read_only: bool) -> CmdResult<Rules> {
        let out_of_memory = ctx.db.effects.out_of_memory;
        let Some(flags) = flags else {
            return Ok(Rules { read_only, out_of_memory });
        };
        let no_writes = flags.contains(ScriptFlags::NO_WRITES);
        if !no_writes {
            if let Some(error) = disk_error_of_script(ctx.server, ctx.config) {
                return Err(error);
            }
            if read_only {
                return Err(CmdError::Text("ERR Can not execute a script with write flag using *_ro command."));
            }
            if ctx.server.lacks_replicas(ctx.config) {
                return Err(CmdError::NoReplicas);
            }
        }
        if out_of_memory && !no_writes && !flags.contains(ScriptFlags::ALLOW_OOM) {
            return Err(CmdError::Text(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
        Ok(Rules { read_only: no_writes, out_of_memory: false })
    }
}

/// The checks before a script's command; `has_written` says whether the script has begun to write: then it may end that.
pub(crate) fn check_in_script(
    ctx: &Ctx<'_, '_>,
    rules: Rules,
    has_written: bool,
    command: CommandRef,
    argv: &[&[u8]],
) -> CmdResult {
    let spec = command.command;
    if !spec.takes(argv.len()) {
        return Err(CmdError::Text("ERR Wrong number of args calling Redis command from script"));
    }
    // A script in a script would wait for itself.
    let is_denied = spec.has(NOSCRIPT) && !ctx.server.switches.deny_scripts_ignored();
    if is_denied || spec.acl & acl::SCRIPTING != 0 {
        return Err(CmdError::Text("ERR This Redis command is not allowed from script"));
    }
    permission::check(ctx.server, ctx.session, command, argv, Place::Lua).map_err(|denial| {
        let reason = permission::reason(ctx.session.account.name(), command, denial);
        CmdError::quoting("ERR ACL failure in script: {}", &[&reason])
    })?;
    if rules.read_only && spec.has(WRITE | MAY_REPLICATE) {
        return Err(CmdError::Text("ERR Write commands are not allowed from read-only scripts."));
    }
    if has_written {
        return Ok(());
    }
    if spec.has(WRITE)
        && let Some(error) = disk_error(ctx.server, ctx.config)
    {
        return Err(error);
    }
    if spec.has(WRITE) && ctx.server.lacks_replicas(ctx.config) {
        return Err(CmdError::NoReplicas);
    }
    if rules.out_of_memory && spec.has(DENYOOM) {
        return Err(CmdError::OutOfMemory);
    }
    Ok(())
}
