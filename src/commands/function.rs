//! Functions: FUNCTION and its subcommands, FCALL, FCALL_RO.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::gate::Rules;
use crate::command::monitor;
use crate::command::spec::*;
use crate::commands::help;
use crate::commands::script_host::{Running, ScriptHost, kill_running};
use crate::commands::scripting::{self, Words};
use crate::scripts::LoadHost;
use crate::util::glob;
use redstart_persistence::rdb::{self, DumpError, Encoder, WRITTEN_VERSION};
use redstart_script::{Function, Library, Resp, RestorePolicy, ScriptFlags};
use redstart_types::number;

pub const COMMANDS: &[Command] = &[
    Command::new("fcall", -3, fcall)
        .scope(Scope::AllShards)
        .flags(MAY_REPLICATE | MOVABLEKEYS | NOSCRIPT | NO_MANDATORY_KEYS | SKIP_MONITOR | STALE)
        .acl(acl::SCRIPTING)
        .keys(&[KeySpec::at(2)
            .keynum(0, 1, 1)
            .flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)
            .notes("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")])
        .since("7.0.0"),
    Command::new("fcall_ro", -3, fcall_ro)
        .scope(Scope::AllShards)
        .flags(MOVABLEKEYS | NO_MANDATORY_KEYS | NOSCRIPT | READONLY | SKIP_MONITOR | STALE)
        .acl(acl::SCRIPTING)
        .keys(&[KeySpec::at(2)
            .keynum(0, 1, 1)
            .flags(KEY_RO | KEY_ACCESS)
            .notes("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")])
        .since("7.0.0"),
    // Those that change libraries lock all shards: the feed tells of them in the order they happened.
    Command::new("function", -2, function).since("7.0.0").subcommands(&[
        Command::new("function|delete", 3, function_delete)
            .scope(Scope::AllShards)
            .flags(NOSCRIPT | WRITE)
            .acl(acl::SCRIPTING)
            .since("7.0.0")
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        Command::new("function|dump", 2, function_dump).flags(NOSCRIPT).acl(acl::SCRIPTING).since("7.0.0"),
        Command::new("function|flush", -2, function_flush)
            .scope(Scope::AllShards)
            .flags(NOSCRIPT | WRITE)
            .acl(acl::SCRIPTING)
            .since("7.0.0")
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        Command::new("function|help", 2, function_help).flags(LOADING | STALE).acl(acl::SCRIPTING).since("7.0.0"),
        Command::new("function|kill", 2, function_kill)
            .flags(ALLOW_BUSY | NOSCRIPT)
            .acl(acl::SCRIPTING)
            .since("7.0.0")
            .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
        Command::new("function|list", -2, function_list)
            .flags(NOSCRIPT)
            .acl(acl::SCRIPTING)
            .since("7.0.0")
            .tips(&["nondeterministic_output_order"]),
        Command::new("function|load", -3, function_load)
            .scope(Scope::AllShards)
            .flags(DENYOOM | NOSCRIPT | WRITE)
            .acl(acl::SCRIPTING)
            .since("7.0.0")
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        Command::new("function|restore", -3, function_restore)
            .scope(Scope::AllShards)
            .flags(DENYOOM | NOSCRIPT | WRITE)
            .acl(acl::SCRIPTING)
            .since("7.0.0")
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        Command::new("function|stats", 2, function_stats)
            .flags(ALLOW_BUSY | NOSCRIPT)
            .acl(acl::SCRIPTING)
            .since("7.0.0")
            .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    ]),
];

/// `FCALL function numkeys [key ...] [arg ...]`: what the function returns. Errors: no such function; numkeys; what
/// the function's flags forbid; what it raises. Runs under all locks. Source: Redis 7.2 FCALL.
fn fcall(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    call(ctx, args, false)
}

/// `FCALL_RO function numkeys [key ...] [arg ...]`: as FCALL, for functions with the flag no-writes.
/// Source: Redis 7.2 FCALL_RO.
fn fcall_ro(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    call(ctx, args, true)
}

fn call(ctx: &mut Ctx, args: &mut Args, read_only: bool) -> CmdResult {
    ctx.propagate_nothing();
    monitor::show_script(ctx, args.argv());
    let name = args.bytes()?;
    let server = ctx.server.clone();
    server.functions.with(|functions| {
        let function = functions.find(name).ok_or(CmdError::Text("ERR Function not found"))?;
        let (keys, argv) = keys_and_args(args)?;
        let rules = Rules::new(ctx, Some(function.flags), read_only)?;
        let protocol = if ctx.reply.resp3 { Resp::V3 } else { Resp::V2 };
        let selected = ctx.session.db;
        let mut out = std::mem::take(&mut ctx.reply.buf);
        let mut host = ScriptHost::new(ctx, rules, Running::Function { name: &function.name, argv: args.argv() });
        functions.call(&function, keys, argv, &mut host, protocol, &mut out);
        drop(host);
        ctx.reply.buf = out;
        // What a function selects lasts as long as the function.
        ctx.session.select(selected);
        Ok(())
    })?
}

fn keys_and_args<'a>(args: &mut Args<'a>) -> CmdResult<(Words<'a>, Words<'a>)> {
    if number::parse_int(args.peek().unwrap_or_default()).is_none() {
        return Err(CmdError::Text("ERR Bad number of keys provided"));
    }
    scripting::keys_and_args(args)
}

/// `FUNCTION` without a known subcommand never gets here.
fn function(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `FUNCTION LOAD [REPLACE] code`: bulk string, the library's name. Errors: a bad first line; a name in use; what the
/// compiler or the code raises; more than half a second. Source: Redis 7.2 FUNCTION LOAD.
fn function_load(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut replace = false;
    while args.remaining() > 1 {
        if !args.flag("REPLACE") {
            return Err(unknown("Unknown option given: ", args.bytes()?));
        }
        replace = true;
    }
    let code = args.bytes().map_err(|_| CmdError::Text("ERR Function code is missing"))?;
    let mut host = LoadHost::new(&ctx.server.log, &ctx.server.clock, Some(LOAD_LIMIT_MS));
    let name = ctx.server.functions.with(|functions| functions.load(code, replace, &mut host))??;
    ctx.changed_server(1);
    ctx.reply.bulk(&name);
    Ok(())
}

/// `FUNCTION DELETE library`: OK. Errors: Library not found. Source: Redis 7.2 FUNCTION DELETE.
fn function_delete(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let name = args.bytes()?;
    if !ctx.server.functions.with(|functions| functions.delete(name))? {
        return Err(CmdError::Text("ERR Library not found"));
    }
    ctx.changed_server(1);
    ctx.reply.ok();
    Ok(())
}

/// From so many on they count as freed lazily. Source: Redis 7.2 LAZYFREE_THRESHOLD.
const LAZY_FUNCTIONS: u64 = 64;

/// `FUNCTION FLUSH [ASYNC | SYNC]`: OK; there are no libraries any more. Source: Redis 7.2 FUNCTION FLUSH.
fn function_flush(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 1 {
        return Err(args.subcommand_error());
    }
    let lazily = match (args.is_empty(), args.one_of(&["SYNC", "ASYNC"])) {
        (true, _) => ctx.config.lazyfree_lazy_user_flush,
        (false, Some(mode)) => mode == 1,
        (false, None) => return Err(CmdError::Text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
    };
    let old = ctx.server.functions.with(redstart_script::Functions::flush)??;
    let (bytes, functions) = (old.memory_bytes(), old.function_count() as u64);
    let objects = if lazily && functions > LAZY_FUNCTIONS { functions + old.library_count() as u64 } else { 0 };
    ctx.server.reclaimer.free_whole(old, bytes, objects);
    ctx.changed_server(1);
    ctx.reply.ok();
    Ok(())
}

/// `FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]`: array of maps, one a library. Source: Redis 7.2 FUNCTION LIST.
fn function_list(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (mut pattern, mut with_code) = (None, false);
    while !args.is_empty() {
        if !with_code && args.flag("WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && args.flag("LIBRARYNAME") {
            let missing = CmdError::Text("ERR library name argument was not given");
            pattern = Some(args.bytes().map_err(|_| missing)?);
        } else {
            return Err(unknown("Unknown argument ", args.bytes()?));
        }
    }
    let server = ctx.server.clone();
    server.functions.with(|functions| {
        let wanted =
            |library: &&Library| pattern.is_none_or(|pattern| glob::matches_ignore_case(pattern, &library.name));
        ctx.reply.array(functions.libraries().filter(wanted).count());
        functions.libraries().filter(wanted).for_each(|library| show_library(ctx, library, with_code));
    })?;
    Ok(())
}

fn show_library(ctx: &mut Ctx, library: &Library, with_code: bool) {
    let reply = &mut *ctx.reply;
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(&library.name);
    reply.bulk(b"engine");
    reply.bulk(ENGINE);
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(&function.name);
        reply.bulk(b"description");
        reply.bulk_or_null(function.description.as_deref());
        reply.bulk(b"flags");
        let flags: Vec<&str> = flag_names(function).collect();
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.status(flag));
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.code);
    }
}

fn flag_names(function: &Function) -> impl Iterator<Item = &'static str> {
    let flags = function.flags;
    ScriptFlags::NAMES.into_iter().filter(move |(flag, _)| flags.contains(*flag)).map(|(_, name)| name)
}

/// `FUNCTION STATS`: map of the running function and the engines. Errors: BUSY while an EVAL script runs too long.
/// Source: Redis 7.2 FUNCTION STATS.
fn function_stats(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let server = ctx.server.clone();
    let busy = &server.busy;
    if busy.is_busy() && !busy.is_function() {
        return Err(CmdError::Busy);
    }
    let reply = &mut *ctx.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    let running = busy.function.lock().clone();
    match (running, busy.since_ms()) {
        (Some(running), Some(since_ms)) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&running.name);
            reply.bulk(b"command");
            reply.array(running.argv.len());
            running.argv.iter().for_each(|arg| reply.bulk(arg));
            reply.bulk(b"duration_ms");
            reply.integer(server.clock.now_ms() - since_ms);
        }
        _ => reply.null(),
    }
    let counts = server.functions.counts();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(ENGINE);
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.len(counts.libraries);
    reply.bulk(b"functions_count");
    reply.len(counts.functions);
    Ok(())
}

/// `FUNCTION KILL`: OK; the running function ends. Errors: NOTBUSY when none runs; UNKILLABLE when it has written;
/// BUSY when it is a script. Source: Redis 7.2 FUNCTION KILL.
fn function_kill(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    kill_running(ctx, true)
}

/// `FUNCTION DUMP`: bulk string, all libraries in RDB's format with a version and a checksum behind them.
/// Source: Redis 7.2 FUNCTION DUMP.
fn function_dump(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let options = rdb::WriteOptions { compression: ctx.config.rdbcompression, ..rdb::WriteOptions::default() };
    let mut encoder = Encoder::new(options);
    ctx.server.functions.sources().iter().for_each(|source| encoder.function(source));
    let mut payload = encoder.take();
    rdb::finish_dump(&mut payload, WRITTEN_VERSION as u16);
    ctx.reply.bulk(&payload);
    Ok(())
}

/// `FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE]`: OK. Errors: DUMP payload version or checksum are wrong; a
/// library cannot be loaded; a name in use. Then nothing has changed. Source: Redis 7.2 FUNCTION RESTORE.
fn function_restore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let payload = args.bytes()?;
    if args.remaining() > 1 {
        return Err(args.subcommand_error());
    }
    let policy = match (args.is_empty(), args.one_of(&["APPEND", "REPLACE", "FLUSH"])) {
        (true, _) | (false, Some(0)) => RestorePolicy::Append,
        (false, Some(1)) => RestorePolicy::Replace,
        (false, Some(_)) => RestorePolicy::Flush,
        (false, None) => {
            return Err(CmdError::Text(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let checksum = !ctx.server.persistence.skips_checksum();
    let sources = rdb::dumped_functions(payload, rdb::HIGHEST_VERSION, checksum).map_err(|error| match error {
        DumpError::Footer => CmdError::Text("ERR DUMP payload version or checksum are wrong"),
        DumpError::Format(error) => CmdError::owned(format!("ERR {}", error.kind)),
    })?;
    let sources: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
    let mut host = LoadHost::new(&ctx.server.log, &ctx.server.clock, None);
    ctx.server.functions.with(|functions| functions.restore(&sources, policy, &mut host))??;
    ctx.changed_server(1);
    ctx.reply.ok();
    Ok(())
}

fn unknown(text: &str, argument: &[u8]) -> CmdError {
    CmdError::quoting("ERR {}{}", &[text.as_bytes(), argument])
}

/// `FUNCTION HELP`: array of lines. Source: Redis 7.2 FUNCTION HELP.
fn function_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "FUNCTION",
        &[
            ("LOAD [REPLACE] <FUNCTION CODE>", "Make a library of this code; its first line names it."),
            ("DELETE <LIBRARY NAME>", "Delete a library."),
            ("LIST [LIBRARYNAME PATTERN] [WITHCODE]", "Show the libraries and their functions."),
            ("STATS", "Show the running function, and how many libraries and functions there are."),
            ("KILL", "End the function that is running, if it has not written."),
            ("FLUSH [ASYNC|SYNC]", "Delete all libraries."),
            ("DUMP", "Serialize all libraries for FUNCTION RESTORE."),
            ("RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]", "Load serialized libraries; APPEND refuses names in use."),
        ],
    )
}

const ENGINE: &[u8] = b"LUA";
/// How long a library's code may run. Source: Redis 7.2 FUNCTION LOAD.
const LOAD_LIMIT_MS: i64 = 500;

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    const LIBRARY: &str = "#!lua name=lib\\nredis.register_function('add', function(keys, args) \
        return redis.call('INCRBY', keys[1], args[1]) end)\\nredis.register_function{function_name='get', \
        callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}, description='reads'}";

    fn with_library() -> Checker {
        let mut c = Checker::new();
        c.run("FUNCTION FLUSH");
        c.check(&format!("FUNCTION LOAD \"{LIBRARY}\""), "\"lib\"");
        c
    }

    /// The flags of a function are judged as a command's are.
    #[test]
    fn without_memory_only_functions_that_do_not_write_run() {
        let mut c = with_library();
        c.since("7.2");
        let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
        c.check("CONFIG RESETSTAT", "OK");
        c.check("CONFIG SET maxmemory 1", "OK");
        c.check("FCALL add 1 k 1", oom);
        c.check("FCALL_RO add 1 k 1", oom);
        c.check("FCALL get 1 k", "nil");
        c.check("FCALL_RO get 1 k", "nil");
        c.check("FCALL nosuch 0", "-ERR Function not found");
        c.check_calls("fcall", [2, 1, 1]);
        c.check_calls("fcall_ro", [1, 1, 0]);
        c.check("CONFIG SET maxmemory 0", "OK");
        c.check("FCALL_RO add 1 k 1", "-ERR Can not execute a script with write flag using *_ro command.");
    }

    #[test]
    fn functions_are_called_by_name() {
        let mut c = with_library();
        c.check("FCALL add 1 n 5", ":5");
        c.check("FCALL ADD 1 n 2", ":7");
        c.check("FCALL get 1 n", "\"7\"");
        c.check("FCALL_RO get 1 n", "\"7\"");
        c.check("FCALL_RO add 1 n 2", "-ERR Can not execute a script with write flag using *_ro command.");
        c.check("FCALL nosuch 0", "-ERR Function not found");
        c.check("FCALL add x", "-ERR Bad number of keys provided");
        c.check("FCALL add 2 a", "-ERR Number of keys can't be greater than number of args");
        c.check("FCALL add -1 a", "-ERR Number of keys can't be negative");
        c.check("FCALL add 1 n x", "-ERR value is not an integer or out of range script: add, on @user_function:2.");
    }

    #[test]
    fn libraries_come_and_go() {
        let mut c = with_library();
        c.check(&format!("FUNCTION LOAD \"{LIBRARY}\""), "-ERR Library 'lib' already exists");
        c.check(&format!("FUNCTION LOAD REPLACE \"{LIBRARY}\""), "\"lib\"");
        c.check("FUNCTION LOAD WHAT x", "-ERR Unknown option given: WHAT");
        c.check("FUNCTION LOAD x", "-ERR Missing library metadata");
        c.check("FUNCTION DELETE nosuch", "-ERR Library not found");
        c.check("FUNCTION DELETE lib", "OK");
        c.check("FCALL get 1 n", "-ERR Function not found");
        c.check("FUNCTION FLUSH", "OK");
        c.check("FUNCTION FLUSH ASYNC", "OK");
        c.check("FUNCTION FLUSH NOW", "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
        c.check("FUNCTION LIST", "[]");
    }

    #[test]
    fn libraries_are_listed() {
        let mut c = Checker::new();
        c.run("FUNCTION FLUSH");
        let code = "#!lua name=one\\nredis.register_function{function_name='f', callback=function() end, \
            flags={'no-writes', 'allow-oom'}, description='d'}";
        c.check(&format!("FUNCTION LOAD \"{code}\""), "\"one\"");
        let functions = "\"functions\", [[\"name\", \"f\", \"description\", \"d\", \"flags\", [no-writes, allow-oom]]]";
        c.check("FUNCTION LIST", &format!("[[\"library_name\", \"one\", \"engine\", \"LUA\", {functions}]]"));
        c.check("FUNCTION LIST LIBRARYNAME two*", "[]");
        c.check(
            "FUNCTION LIST LIBRARYNAME O*",
            &format!("[[\"library_name\", \"one\", \"engine\", \"LUA\", {functions}]]"),
        );
        assert!(c.run("FUNCTION LIST WITHCODE LIBRARYNAME one").contains("library_code"));
        c.check("FUNCTION LIST WITHCODE WITHCODE", "-ERR Unknown argument WITHCODE");
        c.check("FUNCTION LIST LIBRARYNAME", "-ERR library name argument was not given");
        let stats = "\"engines\", [\"LUA\", [\"libraries_count\", :1, \"functions_count\", :1]]";
        c.check("FUNCTION STATS", &format!("[\"running_script\", nil, {stats}]"));
        c.check("FUNCTION KILL", "-NOTBUSY No scripts in execution right now.");
        assert!(c.run("FUNCTION HELP").contains("FUNCTION <subcommand>"));
    }

    #[test]
    fn libraries_are_dumped_and_restored() {
        let mut c = with_library();
        let dump = c.running_only("FUNCTION DUMP");
        c.check_here(&format!("FUNCTION RESTORE {dump}"), "-ERR Library lib already exists");
        c.check_here(&format!("FUNCTION RESTORE {dump} REPLACE"), "OK");
        c.check_here("FUNCTION FLUSH", "OK");
        c.check_here(&format!("FUNCTION RESTORE {dump} APPEND"), "OK");
        c.check_here(&format!("FUNCTION RESTORE {dump} FLUSH"), "OK");
        c.check_here("FCALL add 1 n 5", ":5");
        c.check(
            &format!("FUNCTION RESTORE {dump} WHAT"),
            "-ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
        );
        c.check("FUNCTION RESTORE x", "-ERR DUMP payload version or checksum are wrong");
    }

    #[test]
    fn runaway_functions_can_be_killed() {
        let mut c = Checker::new();
        c.run("FUNCTION FLUSH");
        c.check(
            "FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() while true do end end)\"",
            "\"l\"",
        );
        c.run("CONFIG SET busy-reply-threshold 100");
        c.send("FCALL f 0 a");
        c.until_other("PING", "-BUSY");
        let busy = "-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
        c.other("PING", busy);
        c.other("SCRIPT KILL", busy);
        c.until_other("FUNCTION STATS", "[\"running_script\", [\"name\", \"f\", \"command\", [\"FCALL\"");
        c.other("FUNCTION KILL", "OK");
        c.receive("-ERR Script killed by user with SCRIPT KILL... script: f, on @user_function:2.");
        c.other("PING", "PONG");
        c.run("CONFIG SET busy-reply-threshold 5000");
        c.run("FUNCTION FLUSH");
    }

    #[test]
    fn a_function_in_a_transaction() {
        let mut c = with_library();
        c.check("MULTI", "OK");
        c.check("FCALL add 1 n 5", "QUEUED");
        c.check("FCALL nosuch 0", "QUEUED");
        c.check("EXEC", "[:5, -ERR Function not found]");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(r#"FUNCTION LOAD "\xff" x"#, r"-ERR Unknown option given: \xff");
        c.check(r#"FUNCTION LOAD "\r\nx\r\n" y"#, "-ERR Unknown option given:   x");
        c.check(r#"FUNCTION LIST "\xff""#, r"-ERR Unknown argument \xff");
        c.check(r##"FUNCTION LOAD "#!lua \xff=a\n""##, r"-ERR Invalid metadata value given: \xff=a");
        c.check(r##"FUNCTION LOAD "#!lua name=a\x00b\n""##, "-ERR Invalid library metadata");
    }
}
