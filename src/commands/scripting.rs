//! Scripts: EVAL, EVALSHA, their read-only forms, SCRIPT.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::gate::Rules;
use crate::command::monitor;
use crate::command::session::Debugging;
use crate::command::spec::*;
use crate::commands::script_host::{Running, ScriptHost, kill_running};
use crate::commands::{help, script_debug};
use redstart_script::{Debugger, Engine, Resp, ScriptError, ScriptId};
use redstart_types::number;

pub const COMMANDS: &[Command] = &[
    Command::new("eval", -3, eval)
        .scope(Scope::AllShards)
        .flags(MAY_REPLICATE | MOVABLEKEYS | NOSCRIPT | NO_MANDATORY_KEYS | SKIP_MONITOR | STALE)
        .acl(acl::SCRIPTING)
        .keys(&[KeySpec::at(2)
            .keynum(0, 1, 1)
            .flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)
            .notes("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")])
        .since("2.6.0"),
    Command::new("eval_ro", -3, eval_ro)
        .scope(Scope::AllShards)
        .flags(MOVABLEKEYS | NO_MANDATORY_KEYS | NOSCRIPT | READONLY | SKIP_MONITOR | STALE)
        .acl(acl::SCRIPTING)
        .keys(&[KeySpec::at(2)
            .keynum(0, 1, 1)
            .flags(KEY_RO | KEY_ACCESS)
            .notes("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")])
        .since("7.0.0"),
    Command::new("evalsha", -3, evalsha)
        .scope(Scope::AllShards)
        .flags(MAY_REPLICATE | MOVABLEKEYS | NOSCRIPT | NO_MANDATORY_KEYS | SKIP_MONITOR | STALE)
        .acl(acl::SCRIPTING)
        .keys(&[KeySpec::at(2).keynum(0, 1, 1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)])
        .since("2.6.0"),
    Command::new("evalsha_ro", -3, evalsha_ro)
        .scope(Scope::AllShards)
        .flags(MOVABLEKEYS | NO_MANDATORY_KEYS | NOSCRIPT | READONLY | SKIP_MONITOR | STALE)
        .acl(acl::SCRIPTING)
        .keys(&[KeySpec::at(2).keynum(0, 1, 1).flags(KEY_RO | KEY_ACCESS)])
        .since("7.0.0"),
    Command::new("script", -2, script).since("2.6.0").subcommands(&[
        Command::new("script|debug", 3, script_debug).flags(NOSCRIPT).acl(acl::SCRIPTING).since("3.2.0"),
        Command::new("script|exists", -3, script_exists)
            .flags(NOSCRIPT)
            .acl(acl::SCRIPTING)
            .since("2.6.0")
            .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"]),
        Command::new("script|flush", -2, script_flush)
            .flags(NOSCRIPT)
            .acl(acl::SCRIPTING)
            .since("2.6.0")
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        Command::new("script|help", 2, script_help).flags(LOADING | STALE).acl(acl::SCRIPTING).since("5.0.0"),
        Command::new("script|kill", 2, script_kill)
            .flags(ALLOW_BUSY | NOSCRIPT)
            .acl(acl::SCRIPTING)
            .since("2.6.0")
            .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
        Command::new("script|load", 3, script_load)
            .flags(NOSCRIPT | STALE)
            .acl(acl::SCRIPTING)
            .since("2.6.0")
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    ]),
];

impl From<ScriptError> for CmdError {
    fn from(error: ScriptError) -> Self {
        CmdError::owned(error.text())
    }
}

/// `EVAL script numkeys [key ...] [arg ...]`: what the script returns. Errors: numkeys; the script does not compile;
/// what the script raises. Runs under all locks: one step to every other client. Source: Redis 7.2 EVAL.
fn eval(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    eval_body(ctx, args, false)
}

/// `EVAL_RO script numkeys [key ...] [arg ...]`: as EVAL; write commands fail. Source: Redis 7.2 EVAL_RO.
fn eval_ro(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    eval_body(ctx, args, true)
}

/// `EVALSHA sha1 numkeys [key ...] [arg ...]`: as EVAL with a script loaded before. Errors: NOSCRIPT.
/// Source: Redis 7.2 EVALSHA.
fn evalsha(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    eval_sha(ctx, args, false)
}

/// `EVALSHA_RO sha1 numkeys [key ...] [arg ...]`: as EVALSHA; write commands fail. Source: Redis 7.2 EVALSHA_RO.
fn evalsha_ro(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    eval_sha(ctx, args, true)
}

fn eval_body(ctx: &mut Ctx, args: &mut Args, read_only: bool) -> CmdResult {
    monitor::show_script(ctx, args.argv());
    match ctx.session.debugging {
        Some(debugging) => script_debug::eval(ctx, args, read_only, debugging),
        None => run_eval(ctx, args, read_only, None),
    }
}

/// Runs the script that `args` begin with.
pub(super) fn run_eval(
    ctx: &mut Ctx,
    args: &mut Args,
    read_only: bool,
    debugger: Option<&mut Debugger<'_>>,
) -> CmdResult {
    let body = args.bytes()?;
    run(ctx, args, read_only, debugger, |engine| Ok(engine.load(body)?))
}

fn eval_sha(ctx: &mut Ctx, args: &mut Args, read_only: bool) -> CmdResult {
    monitor::show_script(ctx, args.argv());
    let sha = args.bytes()?;
    if sha.len() != SHA1_HEX_BYTES {
        return Err(CmdError::NoScript);
    }
    if ctx.session.debugging.is_some() {
        return Err(CmdError::Text("ERR Please use EVAL instead of EVALSHA for debugging"));
    }
    run(ctx, args, read_only, None, |engine| engine.find(sha).ok_or(CmdError::NoScript))
}

const SHA1_HEX_BYTES: usize = 40;

fn run(
    ctx: &mut Ctx,
    args: &mut Args,
    read_only: bool,
    debugger: Option<&mut Debugger<'_>>,
    find: impl FnOnce(&mut Engine) -> CmdResult<ScriptId>,
) -> CmdResult {
    ctx.propagate_nothing();
    let (keys, argv) = keys_and_args(args)?;
    let server = ctx.server.clone();
    server.scripts.with(|engine| {
        let script = find(engine)?;
        let rules = Rules::new(ctx, engine.flags(script), read_only)?;
        let protocol = if ctx.reply.resp3 { Resp::V3 } else { Resp::V2 };
        let selected = ctx.session.db;
        let mut out = std::mem::take(&mut ctx.reply.buf);
        let mut host = ScriptHost::new(ctx, rules, Running::Script);
        match debugger {
            Some(debugger) => engine.debug(script, keys, argv, &mut host, protocol, &mut out, debugger),
            None => engine.run(script, keys, argv, &mut host, protocol, &mut out),
        }
        drop(host);
        ctx.reply.buf = out;
        // What a script selects lasts as long as the script.
        ctx.session.select(selected);
        Ok(())
    })?
}

/// Arguments as a script gets them.
pub(crate) type Words<'a> = &'a [&'a [u8]];

/// Splits what follows `numkeys`. Source: Redis 7.2 EVAL, FCALL.
pub(crate) fn keys_and_args<'a>(args: &mut Args<'a>) -> CmdResult<(Words<'a>, Words<'a>)> {
    let count = number::parse_int(args.bytes()?).ok_or(CmdError::NotAnInteger)?;
    let count = usize::try_from(count).map_err(|_| CmdError::Text("ERR Number of keys can't be negative"))?;
    if count > args.remaining() {
        return Err(CmdError::Text("ERR Number of keys can't be greater than number of args"));
    }
    Ok(args.rest().split_at(count))
}

/// `SCRIPT` without a known subcommand never gets here.
fn script(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `SCRIPT LOAD script`: bulk string, its SHA1 in hexadecimal. Errors: it does not compile.
/// Source: Redis 7.2 SCRIPT LOAD.
fn script_load(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let body = args.bytes()?;
    let sha = ctx.server.scripts.with(|engine| {
        let script = engine.load(body)?;
        Ok::<_, CmdError>(*engine.sha(script).ok_or(CmdError::NoScript)?)
    })??;
    ctx.reply.bulk(&sha);
    Ok(())
}

/// `SCRIPT EXISTS sha1 [sha1 ...]`: array of 1 or 0. Source: Redis 7.2 SCRIPT EXISTS.
fn script_exists(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let server = ctx.server.clone();
    server.scripts.with(|engine| {
        ctx.reply.array(args.remaining());
        for sha in args.rest() {
            ctx.reply.integer(i64::from(engine.find(sha).is_some()));
        }
    })?;
    Ok(())
}

/// From so many on they count as freed lazily. Source: Redis 7.2 LAZYFREE_THRESHOLD.
const LAZY_SCRIPTS: u64 = 64;

/// `SCRIPT FLUSH [ASYNC | SYNC]`: OK; all scripts are forgotten. Source: Redis 7.2 SCRIPT FLUSH.
fn script_flush(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let lazily = match (args.remaining(), args.one_of(&["SYNC", "ASYNC"])) {
        (0, _) => ctx.config.lazyfree_lazy_user_flush,
        (1, Some(mode)) => mode == 1,
        _ => return Err(CmdError::Text("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
    };
    let old = ctx.server.scripts.with(Engine::flush)??;
    let (bytes, scripts) = (old.memory_bytes(), old.script_count() as u64);
    ctx.server.reclaimer.free_whole(old, bytes, if lazily && scripts > LAZY_SCRIPTS { scripts } else { 0 });
    ctx.reply.ok();
    Ok(())
}

/// `SCRIPT KILL`: OK; the running script ends. Errors: NOTBUSY when none runs; UNKILLABLE when it has written.
/// Source: Redis 7.2 SCRIPT KILL.
fn script_kill(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    kill_running(ctx, false)
}

/// `SCRIPT DEBUG YES | SYNC | NO`: OK; the client's scripts are debugged from now on, on a copy of the data set or (SYNC) on
/// the data set itself; or not any more. Once SYNC, YES is SYNC, too. Errors: while replies are pending.
/// Source: Redis 7.2 SCRIPT DEBUG.
fn script_debug(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if !ctx.reply.is_empty() {
        return Err(CmdError::Text("ERR SCRIPT DEBUG must be called outside a pipeline"));
    }
    let debugging = match args.one_of(&["NO", "YES", "SYNC"]) {
        Some(0) => None,
        Some(1) => Some(ctx.session.debugging.unwrap_or(Debugging::Aside)),
        Some(_) => Some(Debugging::InPlace),
        None => return Err(CmdError::Text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    };
    ctx.session.debugging = debugging;
    ctx.reply.ok();
    Ok(())
}

/// `SCRIPT HELP`: array of lines. Source: Redis 7.2 SCRIPT HELP.
fn script_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "SCRIPT",
        &[
            ("DEBUG (YES|SYNC|NO)", "Debug the scripts to come, or do not."),
            ("EXISTS <sha1> [<sha1> ...]", "Which scripts are loaded."),
            ("FLUSH [ASYNC|SYNC]", "Forget all scripts."),
            ("KILL", "End the script that is running, if it has not written."),
            ("LOAD <script>", "Load a script without running it."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, until};

    #[test]
    fn scripts_run_commands() {
        let mut c = Checker::new();
        c.check("EVAL 'return redis.call(\"SET\", KEYS[1], ARGV[1])' 1 k v", "OK");
        c.check("EVAL 'return redis.call(\"GET\", KEYS[1])' 1 k", "\"v\"");
        c.check("EVAL 'return {1, 2.9, \"x\", false, {3}}' 0", "[:1, :2, \"x\", nil, [:3]]");
        c.check("EVAL 'return KEYS[1]' 2 a", "-ERR Number of keys can't be greater than number of args");
        c.check("EVAL 'return 1' -1", "-ERR Number of keys can't be negative");
        c.check("EVAL 'return 1' x", "-ERR value is not an integer or out of range");
        c.check("EVAL_RO 'return redis.call(\"GET\", KEYS[1])' 1 k", "\"v\"");
        c.check(
            "EVAL_RO 'return redis.pcall(\"SET\", KEYS[1], 1).err' 1 k",
            "\"ERR Write commands are not allowed from read-only scripts.\"",
        );
        c.check("EVAL 'redis.call(\"SELECT\", 3); return redis.call(\"SET\", KEYS[1], 1)' 1 only3", "OK");
        c.check("EXISTS only3", ":0");
        c.check("SELECT 3", "OK");
        c.check("EXISTS only3", ":1");
    }

    #[test]
    fn scripts_are_kept_by_their_digest() {
        let mut c = Checker::new();
        c.run("SCRIPT FLUSH");
        c.check("EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", "-NOSCRIPT No matching script. Please use EVAL.");
        c.check("SCRIPT LOAD 'return 1'", "\"e0e1f9fabfc9d4800c877a703b823ac0578ff8db\"");
        c.check("EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0", ":1");
        c.check("EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", ":1");
        c.check("SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x", "[:1, :0]");
        c.check("SCRIPT FLUSH ASYNC", "OK");
        c.check("SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "[:0]");
        c.check("SCRIPT FLUSH NOW", "-ERR SCRIPT FLUSH only support SYNC|ASYNC option");
        c.check("SCRIPT KILL", "-NOTBUSY No scripts in execution right now.");
        c.check("SCRIPT DEBUG NO", "OK");
        c.check("SCRIPT DEBUG YES", "OK");
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        c.check(&format!("EVALSHA {sha} 0"), "-ERR Please use EVAL instead of EVALSHA for debugging");
        c.check("EVALSHA x 0", "-NOSCRIPT No matching script. Please use EVAL.");
        c.check("SCRIPT DEBUG NO", "OK");
        c.check("SCRIPT DEBUG MAYBE", "-ERR Use SCRIPT DEBUG YES/SYNC/NO");
        assert!(c.run("SCRIPT HELP").contains("SCRIPT <subcommand>"));
    }

    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";
    const WRITES: &str = "\"#!lua\\nreturn redis.pcall('set', 'k', 1)\" 0";

    /// What a script declares is judged as flags of a command are, whichever command runs it.
    #[test]
    fn without_memory_only_scripts_that_say_so_run() {
        let mut c = Checker::new();
        c.since("7.2");
        c.run("SCRIPT FLUSH");
        let sha = c.run(&format!("SCRIPT LOAD {}", WRITES.trim_end_matches(" 0")));
        c.check("MULTI", "OK");
        c.check(&format!("EVAL {WRITES}"), "QUEUED");
        c.other("CONFIG RESETSTAT", "OK");
        c.other("CONFIG SET maxmemory 1", "OK");
        // What was queued counts for EXEC.
        c.check("EXEC", &OOM.replace("-OOM", "-EXECABORT Transaction discarded because of: OOM"));
        for command in ["EVAL", "EVAL_RO"] {
            c.check(&format!("{command} {WRITES}"), OOM);
            c.check(&format!("{command} \"#!lua flags=no-writes\\nreturn 1\" 0"), ":1");
            c.check(&format!("{command} 'return 1' 0"), ":1");
            c.check(
                &format!("{command} \"#!lua flags=no-such\\nreturn 1\" 0"),
                "-ERR Unexpected flag in script shebang: no-such",
            );
        }
        for command in ["EVALSHA", "EVALSHA_RO"] {
            c.check(&format!("{command} {sha} 0"), OOM);
            c.check(&format!("{command} nosuch 0"), "-NOSCRIPT No matching script. Please use EVAL.");
        }
        c.check("EVAL \"#!lua flags=allow-oom\\nreturn redis.call('set', 'k', 1)\" 0", "OK");
        c.check("EVAL \"return redis.pcall('set', 'k', 1).err\" 0", &format!("\"{}\"", &OOM[1..]));
        c.check("MULTI", "OK");
        c.check(&format!("EVAL {WRITES}"), OOM);
        c.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
        c.check_calls("eval", [5, 2, 1]);
        c.check_calls("eval_ro", [3, 1, 1]);
        c.check_calls("evalsha", [1, 1, 1]);
        c.check_calls("exec", [1, 1, 1]);
        c.other("CONFIG SET maxmemory 0", "OK");
    }

    #[test]
    fn without_replicas_only_scripts_that_do_not_write_run() {
        let mut c = Checker::new();
        c.since("7.2");
        let error = "-NOREPLICAS Not enough good replicas to write.";
        c.check("CONFIG SET min-replicas-to-write 1", "OK");
        c.check("CONFIG RESETSTAT", "OK");
        c.check(&format!("EVAL {WRITES}"), error);
        c.check(&format!("EVAL_RO {WRITES}"), error);
        c.check("EVAL \"#!lua flags=no-writes\\nreturn 1\" 0", ":1");
        c.check("EVAL \"return redis.pcall('set', 'k', 1).err\" 0", &format!("\"{}\"", &error[1..]));
        c.check_calls("eval", [2, 1, 0]);
        c.check_calls("eval_ro", [0, 1, 0]);
        c.check("CONFIG SET min-replicas-to-write 0", "OK");
        let read_only = "-ERR Can not execute a script with write flag using *_ro command.";
        c.check(&format!("EVAL_RO {WRITES}"), read_only);
    }

    #[test]
    fn scripts_are_debugged() {
        for mode in ["YES", "SYNC"] {
            let mut c = Checker::new();
            c.check(&format!("SCRIPT DEBUG {mode}"), "OK");
            let stopped = "[* Stopped at 1, stop reason = step over, -> 1   redis.call(KEYS[1], 'k', 'v')]";
            c.check("EVAL \"redis.call(KEYS[1], 'k', 'v')\\nreturn {1, 'x'}\" 1 set", stopped);
            c.check("p KEYS", "[<value> {\"set\"}]");
            c.check("redis GET k", "[<redis> GET k, <reply> NULL]");
            c.check("redis NOSUCH", "[<redis> NOSUCH, <error> Unknown Redis command called from script]");
            c.check(
                "redis LPUSH k",
                "[<redis> LPUSH k, <error> Wrong number of args calling Redis command from script]",
            );
            let next =
                "[<redis> set k v, <reply> \"+OK\", * Stopped at 2, stop reason = step over, -> 2   return {1, 'x'}]";
            c.check("step", next);
            let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
            c.check("redis LPUSH k x", &format!("[<redis> LPUSH k x, <error> {wrong}, <reply> \"{wrong}\"]"));
            c.check("e \"redis.call('GET', 'k')\"", "[<retval> \"v\"]");
            c.check("continue", "[<endsession>]");
            c.receive("[:1, \"x\"]");
            assert!(c.is_closed());
            c.other("GET k", if mode == "YES" { "nil" } else { "\"v\"" });
        }
    }

    #[test]
    fn a_session_ends_whatever_the_script_is() {
        for (script, error) in [
            ("'return 1' x", "-ERR value is not an integer or out of range"),
            ("'return 1' 2", "-ERR Number of keys can't be greater than number of args"),
            ("\"#!lua flags=what\\n\" 0", "-ERR Unexpected flag in script shebang: what"),
        ] {
            for mode in ["YES", "SYNC"] {
                let mut c = Checker::new();
                c.since("7.2");
                c.check(&format!("SCRIPT DEBUG {mode}"), "OK");
                c.check(&format!("EVAL {script}"), "[<endsession>]");
                c.receive(error);
                assert!(c.is_closed());
            }
        }
    }

    #[test]
    fn a_script_wakes_a_blocked_client() {
        let mut c = Checker::new();
        c.send("BLPOP {q}1 {q}2 5");
        c.other("EVAL 'return redis.call(\"RPUSH\", KEYS[1], \"job\")' 1 {q}2", ":1");
        c.receive("[\"{q}2\", \"job\"]");
    }

    #[test]
    fn time_stands_still_in_a_script() {
        let mut c = Checker::new();
        c.since("7.2");
        let script = "local a = redis.call(\\'TIME\\') for i = 1, 100000 do end \
            local b = redis.call(\\'TIME\\') return a[1] == b[1] and a[2] == b[2]";
        c.check(&format!("EVAL '{script}' 0"), ":1");
    }

    #[test]
    fn flags_say_what_a_script_may_do() {
        let mut c = Checker::new();
        c.run("SET x 1");
        c.check("CONFIG SET min-replicas-to-write 1", "OK");
        let refused = "-NOREPLICAS Not enough good replicas to write.";
        c.check("SET x 2", refused);
        c.check("EVAL \"#!lua\\nreturn redis.call('GET', 'x')\" 1 x", refused);
        c.check("EVAL \"#!lua flags=no-writes\\nreturn redis.call('GET', 'x')\" 1 x", "\"1\"");
        c.check("EVAL \"return redis.call('GET', 'x')\" 1 x", "\"1\"");
        c.check("EVAL \"return redis.pcall('SET', 'x', 2)\" 1 x", refused);
        c.check("CONFIG SET min-replicas-to-write 0", "OK");
        c.check(
            "EVAL \"#!lua flags=no-writes\\nreturn redis.pcall('SET', 'x', 2)\" 1 x",
            "-ERR Write commands are not allowed from read-only scripts.",
        );
        c.check(
            "EVAL_RO \"return redis.pcall('PUBLISH', 'x', 2)\" 0",
            "-ERR Write commands are not allowed from read-only scripts.",
        );
        c.check("EVAL_RO \"#!lua\\nreturn 1\" 0", "-ERR Can not execute a script with write flag using *_ro command.");
        c.check("EVAL \"#!lua flags=what\\nreturn 1\" 0", "-ERR Unexpected flag in script shebang: what");
    }

    #[test]
    fn errors_are_counted_once() {
        let mut c = Checker::new();
        c.run("CONFIG RESETSTAT");
        c.run("EVAL \"return redis.call('SELECT', 99)\" 0");
        c.run("EVAL \"return redis.pcall('SELECT', 99).err\" 0");
        c.run("EVAL \"return redis.pcall('NOSUCH')\" 0");
        c.run("EVAL \"error('MINE')\" 0");
        c.run("EVAL \"return {err='MINE it is'}\" 0");
        let stats = c.running_only("INFO errorstats");
        assert!(stats.contains("errorstat_ERR:count=4") && stats.contains("errorstat_MINE:count=1"), "{stats}");
        let stats = c.running_only("INFO commandstats");
        assert!(stats.contains("cmdstat_eval:calls=5") && stats.contains("rejected_calls=0,failed_calls=4"), "{stats}");
    }

    #[test]
    fn runaway_scripts_can_be_killed() {
        let mut c = Checker::new();
        c.run("CONFIG SET busy-reply-threshold 100");
        c.send("EVAL 'while true do end' 0");
        c.until_other("PING", "-BUSY");
        c.other("PING", "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
        c.other("GET k", "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
        c.other("SCRIPT KILL", "OK");
        c.receive("-ERR Script killed by user with SCRIPT KILL... script: 694a5fe1ddb97a4c6a1bf299d9537c7d3d0f84e7, on @user_script:1.");
        c.other("PING", "PONG");
        c.run("CONFIG SET busy-reply-threshold 5000");
    }

    #[test]
    fn a_script_that_catches_its_own_death_dies() {
        let mut c = Checker::new();
        c.run("CONFIG SET busy-reply-threshold 50");
        c.send_here("EVAL 'while true do pcall(function() while true do end end) end' 0");
        until("it is busy", || c.run_here(1, "PING").starts_with("-BUSY"));
        assert_eq!(c.run_here(1, "SCRIPT KILL"), "OK");
        assert!(c.receive_here().contains("Script killed by user"));
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(r#"EVAL "return redis.error_reply('MY \xff')" 0"#, r"-MY \xff");
        c.check(r#"EVAL "return {err='MY \xff'}" 0"#, r"-MY \xff");
        c.check(r#"EVAL "return {ok='\xff'}" 0"#, r"\xff");
        c.check(
            r#"EVAL "\xff" 0"#,
            r"-ERR Error compiling script (new function): user_script:1: unexpected symbol near '\xff'",
        );
        c.check(
            r#"EVAL "return redis.pcall('xreadgroup','group',ARGV[1],'c','streams','nokey','>').err" 0 "\xff""#,
            r#""NOGROUP No such key 'nokey' or consumer group '\xff' in XREADGROUP with GROUP option""#,
        );
        c.check(r##"EVAL "#!lua a\x00b\nreturn 1" 0"##, "-ERR Invalid script shebang");
        c.check(r##"EVAL "#!\xff\nreturn 1" 0"##, r"-ERR Unexpected engine in script shebang: #!\xff");
        // An error's code is its first word; what has none, or one of more than 30 bytes, is an ERR.
        c.run("CONFIG RESETSTAT");
        c.run(r#"EVAL "return {err='M\xff y'}" 0"#);
        c.run(r#"EVAL "return {err='ONEWORD'}" 0"#);
        c.run(&format!("EVAL \"return {{err='{} y'}}\" 0", "L".repeat(31)));
        c.check("INFO errorstats", r##""# Errorstats\r\nerrorstat_ERR:count=2\r\nerrorstat_M\xff:count=1\r\n""##);
    }

    #[test]
    fn a_digest_of_a_wrong_length_is_no_script() {
        let mut c = Checker::new();
        c.check("EVALSHA abc x", "-NOSCRIPT No matching script. Please use EVAL.");
        c.check("EVALSHA_RO abc -1", "-NOSCRIPT No matching script. Please use EVAL.");
        c.check("EVALSHA 0123456789012345678901234567890123456789 x", "-ERR value is not an integer or out of range");
    }
}
