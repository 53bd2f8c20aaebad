//! The server as a running script or function sees it: `redis.call` and its relatives.

use crate::command::call;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::gate::{self, Rules};
use crate::command::permission;
use crate::command::spec::WRITE;
use crate::core::RunningFunction;
use crate::feed::records::Target;
use crate::resp::reply::Reply;
use crate::scripts::log_script_message;
use redstart_script::{Host, REPL_AOF, REPL_REPLICA, Resp, Tick, UnknownCommand};

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
        return Err(CmdError::of_busy(busy));
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

    fn run(&mut self, argv: &[&[u8]]) -> CmdResult {
        let server = self.ctx.server;
        let found = self.ctx.registry.resolve(argv);
        let command = found.map_err(|_| CmdError::Text("ERR Unknown Redis command called from script"))?;
        gate::check_in_script(self.ctx, self.rules, self.has_written, command, argv)?;
        if command.command.has(WRITE) {
            if !self.has_written && !server.busy.note_write() {
                return Err(CmdError::Text("ERR Script killed by user with SCRIPT KILL."));
            }
            self.has_written = true;
        }
        let records = self.ctx.db.effects.records.len();
        call::run_nested(self.ctx, command, argv, &mut self.reply, Origin::Script, None);
        if self.target != Target::Everybody {
            self.ctx.db.effects.records.restrict(records, self.target);
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
            let command = self.ctx.registry.resolve(argv).ok();
            self.ctx.server.note_rejected(self.ctx.session.worker, command, &error.text());
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
        let command = self.ctx.registry.resolve(argv).map_err(|_| UnknownCommand)?;
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
        self.ctx.server.note_error(self.ctx.session.worker, error);
    }
}

impl Drop for ScriptHost<'_, '_, '_> {
    fn drop(&mut self) {
        if self.cut_short {
            // Half of what it does must not be found in the log.
            self.ctx.db.effects.records.clear();
        }
        let server = self.ctx.server;
        if server.busy.end() {
            server.watches.enter_begun(&server.shards, server.clock.now_ms(), self.ctx.db.locked, self.has_written);
        }
    }
}
