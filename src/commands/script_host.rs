//! The server as a running script or function sees it: `redis.call` and its relatives.

use crate::acl::log::Place;
use crate::command::call;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::permission;
use crate::command::spec::{Command, DENYOOM, NOSCRIPT, SKIP_MONITOR, WRITE, acl};
use crate::feed::records::Target;
use crate::resp::reply::Reply;
use crate::scripts::log_script_message;
use crate::server::RunningFunction;
use crate::stats::WorkerStats;
use redstart_script::{Host, REPL_AOF, REPL_REPLICA, Resp, ScriptFlags, Tick, UnknownCommand};

/// What runs.
#[derive(Clone, Copy)]
pub(crate) enum Running<'h> {
    Script,
    Function {
        name: &'h [u8],
        /// The command that called it.
        argv: &'h [&'h [u8]],
    },
}

/// SCRIPT KILL and FUNCTION KILL: OK. Errors: NOTBUSY, UNKILLABLE, BUSY when what runs is of the other kind.
pub(crate) fn kill_running(ctx: &mut Ctx, is_function: bool) -> CmdResult {
    let busy = &ctx.server.busy;
    if busy.since_ms().is_none() {
        return Err(CmdError::Text("NOTBUSY No scripts in execution right now."));
    }
    const UNKILLABLE: CmdError = CmdError::Text(
        "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
    );
    if busy.has_written() {
        return Err(UNKILLABLE);
    }
    if busy.is_function() != is_function {
        return Err(busy.error());
    }
    // It may have begun to write since.
    if !busy.kill() {
        return Err(UNKILLABLE);
    }
    ctx.reply.ok();
    Ok(())
}

/// One run of a script. Commands run in the caller's `Ctx`: all shards are locked.
pub(crate) struct ScriptHost<'h, 'a, 'g> {
    ctx: &'h mut Ctx<'a, 'g>,
    /// The reply of the command under way; its memory is used again and again.
    reply: Reply,
    rules: Rules,
    running: Running<'h>,
    has_written: bool,
    /// `redis.set_repl`: for whom effects are recorded.
    target: Target,
    /// The server ends before the script does.
    cut_short: bool,
    /// The last command was refused before it ran.
    has_refused: bool,
}

/// What a script may do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// EVAL_RO, FCALL_RO or the flag no-writes: no command may write.
    pub(crate) read_only: bool,
    /// The server was over `maxmemory` when the script began, and the script may not add to that.
    pub(crate) out_of_memory: bool,
}

impl Rules {
    /// The rules of a script with these flags (None: it declares none, the rules before Redis 7), called by a
    /// `read_only` command or not. Errors: the flags forbid running it now.
    pub(crate) fn new(ctx: &Ctx<'_, '_>, flags: Option<ScriptFlags>, read_only: bool) -> CmdResult<Rules> {
        let over = ctx.server.is_over_maxmemory(ctx.config);
        let Some(flags) = flags else {
            return Ok(Rules { read_only, out_of_memory: over });
        };
        let no_writes = flags.contains(ScriptFlags::NO_WRITES);
        if read_only && !no_writes {
            return Err(CmdError::Text("ERR Can not execute a script with write flag using *_ro command."));
        }
        if !no_writes && let Some(error) = call::disk_error(ctx.server, ctx.config) {
            return Err(error);
        }
        if !no_writes && ctx.server.lacks_replicas(ctx.config) {
            return Err(CmdError::NoReplicas);
        }
        let allows_oom = no_writes || flags.contains(ScriptFlags::ALLOW_OOM);
        if over && !allows_oom {
            return Err(CmdError::Text(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
        Ok(Rules { read_only: no_writes, out_of_memory: false })
    }
}

impl<'h, 'a, 'g> ScriptHost<'h, 'a, 'g> {
    /// A host for one run inside `ctx`.
    pub(crate) fn new(ctx: &'h mut Ctx<'a, 'g>, rules: Rules, running: Running<'h>) -> Self {
        let is_function = matches!(running, Running::Function { .. });
        ctx.server.busy.begin(ctx.server.clock.now_ms(), is_function);
        ScriptHost {
            ctx,
            reply: Reply::new(false),
            rules,
            running,
            has_written: false,
            target: Target::Everybody,
            cut_short: false,
            has_refused: false,
        }
    }

    fn stats(&self) -> &'h WorkerStats {
        self.ctx.server.stats.worker(self.ctx.session.worker)
    }

    fn count_error(&self, text: &[u8]) {
        self.ctx.server.errors.count(text);
        self.stats().error_replies.add(1);
    }

    fn run(&mut self, argv: &[&[u8]]) -> CmdResult {
        let server = self.ctx.server;
        let found = server.registry.resolve(argv);
        let command = found.map_err(|_| CmdError::Text("ERR Unknown Redis command called from script"))?;
        let spec = command.command;
        if !spec.takes(argv.len()) {
            return Err(CmdError::Text("ERR Wrong number of args calling Redis command from script"));
        }
        // A script in a script would wait for itself.
        let is_denied = spec.has(NOSCRIPT) && !server.switches.deny_scripts_ignored();
        if is_denied || spec.acl & acl::SCRIPTING != 0 {
            return Err(CmdError::Text("ERR This Redis command is not allowed from script"));
        }
        permission::check(server, self.ctx.session, command, argv, Place::Lua).map_err(|denial| {
            let reason = permission::reason(self.ctx.session.account.name(), command, denial);
            CmdError::quoting("ERR ACL failure in script: {}", &[&reason])
        })?;
        if self.rules.read_only && (spec.has(WRITE) || spec.may_replicate()) {
            return Err(CmdError::Text("ERR Write commands are not allowed from read-only scripts."));
        }
        if spec.has(WRITE) {
            // What has begun to write may end it.
            if !self.has_written {
                self.may_begin_to_write(spec)?;
            }
            if !self.has_written && !server.busy.note_write() {
                return Err(CmdError::Text("ERR Script killed by user with SCRIPT KILL."));
            }
            self.has_written = true;
        }
        if server.monitors.is_watched() && !spec.has(SKIP_MONITOR) {
            server.monitors.show_line(server, self.ctx.session.db, "lua", argv);
        }
        let records = self.ctx.db.effects.records.len();
        call::run_nested(self.ctx, command, argv, &mut self.reply, Origin::Script, None);
        if self.target != Target::Everybody {
            self.ctx.db.effects.records.restrict(records, self.target);
        }
        Ok(())
    }
}

impl ScriptHost<'_, '_, '_> {
    fn may_begin_to_write(&self, spec: &Command) -> CmdResult {
        if let Some(error) = call::disk_error(self.ctx.server, self.ctx.config) {
            return Err(error);
        }
        if self.ctx.server.lacks_replicas(self.ctx.config) {
            return Err(CmdError::NoReplicas);
        }
        if self.rules.out_of_memory && spec.has(DENYOOM) {
            return Err(CmdError::OutOfMemory);
        }
        Ok(())
    }
}

impl Host for ScriptHost<'_, '_, '_> {
    fn call(&mut self, argv: &[&[u8]], reply: &mut Vec<u8>) {
        // The two buffers change places, so that nothing is copied.
        std::mem::swap(&mut self.reply.buf, reply);
        let result = self.run(argv);
        self.has_refused = result.is_err();
        if let Err(error) = result {
            self.count_error(&error.text());
            if let Ok(command) = self.ctx.server.registry.resolve(argv) {
                self.stats().commands[usize::from(command.id)].rejected.add(1);
            }
            self.reply.error(error.text());
        }
        std::mem::swap(&mut self.reply.buf, reply);
    }

    fn has_refused(&self) -> bool {
        self.has_refused
    }

    fn set_resp(&mut self, version: Resp) {
        self.reply.resp3 = version == Resp::V3;
    }

    fn acl_check(&mut self, argv: &[&[u8]]) -> Result<bool, UnknownCommand> {
        let command = self.ctx.server.registry.resolve(argv).map_err(|_| UnknownCommand)?;
        let account = &self.ctx.session.account;
        Ok(account.is_free() || permission::check_user(&account.user(), command, argv).is_ok())
    }

    fn set_repl(&mut self, flags: u8) {
        self.target = match (flags & REPL_AOF != 0, flags & REPL_REPLICA != 0) {
            (true, true) => Target::Everybody,
            (true, false) => Target::Log,
            (false, true) => Target::Replicas,
            (false, false) => Target::Nobody,
        };
    }

    fn log(&mut self, level: u8, message: &[u8]) {
        log_script_message(&self.ctx.server.log, level, message);
    }

    fn tick(&mut self) -> Tick {
        if let Running::Function { name, argv } = self.running {
            // Only what runs for a while can be asked about.
            let mut shown = self.ctx.server.busy.function.lock();
            shown.get_or_insert_with(|| RunningFunction {
                name: name.to_vec(),
                argv: argv.iter().map(|arg| arg.to_vec()).collect(),
            });
        }
        // A server that ends does not wait for a script that may never do so.
        self.cut_short |= self.ctx.server.stop.is_requested();
        if self.cut_short || self.ctx.server.busy.is_killed() { Tick::Kill } else { Tick::Continue }
    }

    fn script_error(&mut self, error: &[u8]) {
        self.count_error(error);
    }
}

impl Drop for ScriptHost<'_, '_, '_> {
    fn drop(&mut self) {
        if self.cut_short {
            // Half of what it does must not be found in the log.
            self.ctx.db.effects.records.clear();
        }
        self.ctx.server.busy.end();
    }
}
