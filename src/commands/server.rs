//! The server as a whole: DBSIZE, FLUSHALL, FLUSHDB, LOLWUT, MODULE, SWAPDB, TIME.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::serve;
use crate::command::spec::*;
use crate::snapshot::save;

pub const COMMANDS: &[Command] = &[
    Command::new("dbsize", 1, dbsize)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .scope(Scope::AllShards)
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    Command::new("flushall", -1, flushall)
        .flags(WRITE)
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .scope(Scope::AllShards)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    Command::new("flushdb", -1, flushdb)
        .flags(WRITE)
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .scope(Scope::AllShards)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    Command::new("lolwut", -1, lolwut).flags(FAST | READONLY).since("5.0.0"),
    Command::new("module", -2, module).since("4.0.0").subcommands(&[
        Command::new("module|help", 2, module_help).flags(LOADING | STALE).since("5.0.0"),
        Command::new("module|list", 2, module_list)
            .flags(ADMIN | NOSCRIPT)
            .since("4.0.0")
            .tips(&["nondeterministic_output_order"]),
        Command::new("module|load", -3, module_load)
            .flags(ADMIN | NO_ASYNC_LOADING | NOSCRIPT | PROTECTED_MODULE)
            .since("4.0.0"),
        Command::new("module|loadex", -3, module_load)
            .flags(ADMIN | NO_ASYNC_LOADING | NOSCRIPT | PROTECTED_MODULE)
            .since("7.0.0"),
        Command::new("module|unload", 3, module_unload)
            .flags(ADMIN | NO_ASYNC_LOADING | NOSCRIPT | PROTECTED_MODULE)
            .since("4.0.0"),
    ]),
    Command::new("swapdb", 3, swapdb)
        .flags(FAST | WRITE)
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .scope(Scope::AllShards)
        .since("4.0.0"),
    Command::new("time", 1, time).flags(FAST | LOADING | STALE).since("2.6.0").tips(&["nondeterministic_output"]),
];

/// `DBSIZE`: integer, the number of keys of the selected database, those whose time is over but that nobody has met
/// included. Source: Redis 7.2 DBSIZE.
fn dbsize(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.len(ctx.db.len());
    Ok(())
}

/// `FLUSHDB [ASYNC | SYNC]`: OK; the selected database is empty. Source: Redis 7.2 FLUSHDB.
fn flushdb(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let lazily = flush_mode(ctx, args)?;
    let databases = [ctx.db.index];
    flush(ctx, args, &databases, lazily);
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`: OK; all databases are empty. Source: Redis 7.2 FLUSHALL.
fn flushall(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let lazily = flush_mode(ctx, args)?;
    let databases: Vec<usize> = (0..ctx.config.databases as usize).collect();
    flush(ctx, args, &databases, lazily);
    if ctx.server.persistence.is_saving() {
        ctx.server.persistence.cancel();
    }
    if !ctx.config.save.is_empty() {
        // What was saved before must not come back.
        ctx.db.effects.dirty = 0;
        if let Err(error) = save::in_foreground(ctx.server, &ctx.server.persistence, ctx.config, ctx.db.locked) {
            ctx.server.log.warning(error);
        }
    }
    Ok(())
}

/// Whether INFO counts the keys as freed lazily.
fn flush_mode(ctx: &Ctx, args: &mut Args) -> CmdResult<bool> {
    let lazily = match args.one_of(&["SYNC", "ASYNC"]) {
        Some(word) => word == 1,
        None => ctx.config.lazyfree_lazy_user_flush,
    };
    args.finish()?;
    Ok(lazily)
}

fn flush(ctx: &mut Ctx, args: &Args, databases: &[usize], lazily: bool) {
    let selected = ctx.db.index;
    let mut removed = 0;
    for index in databases {
        ctx.db.index = *index;
        let tables = ctx.db.take_all();
        let keys: usize = tables.iter().map(|table| table.len()).sum();
        removed += keys as u64;
        if lazily && keys > 0 {
            ctx.server.reclaimer.free(tables, keys as u64);
        }
    }
    ctx.db.index = selected;
    serve::tell_all_readers(ctx);
    if let Some(remembered) = ctx.server.tracking.flushed(&ctx.server.clients) {
        ctx.server.reclaimer.free(remembered, 0);
    }
    ctx.changed_server(removed);
    // Also said when there was nothing: replicas may have something.
    ctx.propagate_as(args.argv());
    ctx.reply.ok();
}

/// `SWAPDB index1 index2`: OK; clients of either database see the keys of the other. Errors: no integer; out of range.
/// Source: Redis 7.2 SWAPDB.
fn swapdb(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut index = |error: &'static str| args.db_index().map_err(|_| CmdError::Text(error));
    let (one, other) = (index("ERR invalid first DB index")?, index("ERR invalid second DB index")?);
    let in_range = |index: i64| usize::try_from(index).ok().filter(|index| *index < ctx.config.databases as usize);
    let one = in_range(one).ok_or(CmdError::DbIndexOutOfRange)?;
    let other = in_range(other).ok_or(CmdError::DbIndexOutOfRange)?;
    ctx.db.swap(one, other);
    ctx.changed_server(1);
    ctx.reply.ok();
    Ok(())
}

/// `TIME`: array of two bulk strings, Unix time in seconds and the microseconds of the second. It stands still during a
/// transaction and a script, until the script is slow: one that waits for its own end by the clock must end. Source:
/// Redis 7.2 TIME.
fn time(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let now_us = match ctx.db.effects.time_us {
        Some(at_us) if !ctx.server.busy.is_busy() => at_us,
        _ => ctx.server.clock.now_us(),
    };
    ctx.db.effects.time_us = Some(now_us);
    ctx.reply.array(2);
    ctx.reply.bulk_integer(now_us.div_euclid(1_000_000));
    ctx.reply.bulk_integer(now_us.rem_euclid(1_000_000));
    Ok(())
}

/// `LOLWUT [VERSION version] [number ...]`: verbatim text, the version; of versions 5 and 6 a drawing, another one than
/// Redis's, whose numbers are looked at and left. Source: Redis 7.2 LOLWUT.
fn lolwut(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let version = if args.remaining() > 1 && args.flag("VERSION") { args.int()? } else { 7 };
    let last_line = format!("Redis ver. {}\n", crate::os::banner::REDIS_VERSION);
    let numbers = match version {
        5 => 3,
        6 => 2,
        _ => {
            ctx.reply.verbatim("txt", last_line.as_bytes());
            return Ok(());
        }
    };
    for _ in 0..args.remaining().min(numbers) {
        args.int()?;
    }
    let hills = [
        r"            *        .            ",
        r"     .          /\          *     ",
        r"         /\    /  \    .          ",
        r"    *   /  \  /    \   /\         ",
        r"  _____/    \/      \_/  \______  ",
    ];
    let text = format!("{}\n\n{last_line}", hills.join("\n"));
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// `MODULE` without a subcommand. The engine answers unknown ones.
fn module(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `MODULE LIST`: array of modules, always empty; allowed to all, as what loads modules is not. Source: Redis 7.2 MODULE
/// LIST.
fn module_list(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.array(0);
    Ok(())
}

/// `MODULE LOAD path [arg ...]`, `MODULE LOADEX path ...`: an error; modules are programs for Redis's own insides.
fn module_load(_ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    Err(CmdError::Text("ERR Error loading the extension. Please check the server logs."))
}

/// `MODULE UNLOAD name`: an error; no module is loaded. Source: Redis 7.2 MODULE UNLOAD.
fn module_unload(_ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    Err(CmdError::Text("ERR Error unloading module: no such module with that name"))
}

fn module_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    super::help(
        ctx,
        "MODULE",
        &[
            ("LIST", "The modules: none, ever."),
            ("LOAD <path> [<arg> ...]", "Not possible here."),
            ("LOADEX <path> [[CONFIG NAME VALUE]...] [ARGS ...]", "Not possible here."),
            ("UNLOAD <name>", "Not possible here."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn flushing_empties() {
        let mut c = Checker::new();
        c.check("MSET a 1 b 2", "OK");
        c.check("SELECT 3", "OK");
        c.check("SET c 3", "OK");
        c.check("DBSIZE", ":1");
        c.check("FLUSHDB", "OK");
        c.check("DBSIZE", ":0");
        c.check("SELECT 0", "OK");
        c.check("DBSIZE", ":2");
        c.check("FLUSHALL ASYNC", "OK");
        c.check("DBSIZE", ":0");
        c.check("FLUSHALL SYNC", "OK");
        c.check("FLUSHALL x", "-ERR syntax error");
        c.check("FLUSHDB SYNC ASYNC", "-ERR syntax error");
    }

    #[test]
    fn flushing_and_swapping_spoil_transactions() {
        let mut c = Checker::new();
        for (spoil, reply) in [("FLUSHALL", "nil"), ("FLUSHDB", "nil"), ("SWAPDB 0 1", "nil"), ("SWAPDB 2 1", "[PONG]")]
        {
            c.check("SET k v", "OK");
            c.check("WATCH k", "OK");
            c.other(spoil, "OK");
            c.check("MULTI", "OK");
            c.check("PING", "QUEUED");
            c.check("EXEC", reply);
            c.run("FLUSHALL");
        }
        c.check("WATCH k", "OK");
        c.other("FLUSHALL", "OK");
        c.check("MULTI", "OK");
        c.check("EXEC", "[]");
    }

    #[test]
    fn databases_are_swapped() {
        let mut c = Checker::new();
        c.check("SET a zero", "OK");
        c.check("SWAPDB 0 1", "OK");
        c.check("GET a", "nil");
        c.check("SELECT 1", "OK");
        c.check("GET a", "\"zero\"");
        c.check("SWAPDB 1 1", "OK");
        c.check("GET a", "\"zero\"");
        c.check("SWAPDB x 1", "-ERR invalid first DB index");
        c.check("SWAPDB 1 x", "-ERR invalid second DB index");
        c.check("SWAPDB 1 99", "-ERR DB index is out of range");
    }

    #[test]
    fn there_are_no_modules() {
        let mut c = Checker::new();
        c.check("MODULE", "-ERR wrong number of arguments for 'module' command");
        c.check("MODULE LIST", "[]");
        for command in ["MODULE LOAD x", "MODULE LOADEX x", "MODULE UNLOAD x"] {
            let refused = c.run(command);
            assert!(refused.starts_with("-ERR MODULE command not allowed. If"), "{refused}");
        }
        assert!(c.run("MODULE HELP").starts_with("[MODULE <subcommand>"));
    }

    #[test]
    fn time_and_art() {
        let mut c = Checker::new();
        let time = c.run("TIME");
        assert!(time.starts_with("[\"1") && time.len() > 20, "{time}");
        let art = c.run("LOLWUT VERSION 5 1 2 3");
        assert!(art.ends_with("Redis ver. 7.2.6\\n\""), "{art}");
        c.check("LOLWUT VERSION x", "-ERR value is not an integer or out of range");
        c.since("7.2");
        c.check("LOLWUT", r#""Redis ver. 7.2.6\n""#);
        c.check("LOLWUT VERSION 99 x", r#""Redis ver. 7.2.6\n""#);
        c.check("LOLWUT VERSION 5 x", "-ERR value is not an integer or out of range");
        c.check("LOLWUT VERSION 5 1 2 x", "-ERR value is not an integer or out of range");
    }
}
