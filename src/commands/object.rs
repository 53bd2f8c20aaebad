//! OBJECT: how a value is stored and how it was used.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::commands::help;
use crate::keyspace::db;
use crate::keyspace::value;
use redstart_types::entry::Content;

pub const COMMANDS: &[Command] = &[Command::new("object", -2, object).since("2.2.3").subcommands(&[
    Command::new("object|encoding", 3, object_encoding)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(2).flags(KEY_RO)])
        .since("2.2.3")
        .tips(&["nondeterministic_output"]),
    Command::new("object|freq", 3, object_freq)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(2).flags(KEY_RO)])
        .since("4.0.0")
        .tips(&["nondeterministic_output"]),
    Command::new("object|help", 2, object_help).flags(LOADING | STALE).acl(acl::KEYSPACE).since("6.2.0"),
    Command::new("object|idletime", 3, object_idletime)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(2).flags(KEY_RO)])
        .since("2.2.3")
        .tips(&["nondeterministic_output"]),
    Command::new("object|refcount", 3, object_refcount)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(2).flags(KEY_RO)])
        .since("2.2.3")
        .tips(&["nondeterministic_output"]),
])];

/// `OBJECT`: its subcommands answer.
fn object(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `OBJECT ENCODING key`: bulk string, or null. Source: Redis 7.2 OBJECT ENCODING.
fn object_encoding(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let name = ctx.db.inspect(key).map(value::encoding_name);
    ctx.reply.bulk_or_null(name.map(str::as_bytes));
    Ok(())
}

/// `OBJECT REFCOUNT key`: integer, or null. Values are never shared here: 1, and for the small integers that Redis
/// shares what it answers for them. Source: Redis 7.2 OBJECT REFCOUNT.
fn object_refcount(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let Some(entry) = ctx.db.inspect(key) else {
        ctx.reply.null();
        return Ok(());
    };
    let needs_own_clock = ctx.config.maxmemory > 0 && ctx.config.maxmemory_policy.uses_clock();
    let is_shared = matches!(entry.content(), Content::Int(0..SHARED_INTEGERS)) && !needs_own_clock;
    ctx.reply.integer(if is_shared { i64::from(i32::MAX) } else { 1 });
    Ok(())
}

/// `OBJECT IDLETIME key`: integer, seconds since the last access, or null. Errors: an LFU policy. Source: Redis 7.2
/// OBJECT IDLETIME.
fn object_idletime(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let Some(entry) = ctx.db.inspect(key) else {
        ctx.reply.null();
        return Ok(());
    };
    if ctx.config.maxmemory_policy.is_lfu() {
        return Err(CmdError::Text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    ctx.reply.integer(i64::from(db::lru_idle_seconds(entry.lru(), ctx.now_ms)));
    Ok(())
}

/// `OBJECT FREQ key`: integer, the LFU counter, or null. Errors: no LFU policy. Source: Redis 7.2 OBJECT FREQ.
fn object_freq(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let Some(entry) = ctx.db.inspect(key) else {
        ctx.reply.null();
        return Ok(());
    };
    if !ctx.config.maxmemory_policy.is_lfu() {
        return Err(CmdError::Text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let counter = db::lfu_decayed(entry.lru(), db::lfu_minutes(ctx.now_ms), ctx.config.lfu_decay_time);
    ctx.reply.integer(i64::from(counter));
    Ok(())
}

/// `OBJECT HELP`: array of lines. Source: Redis 7.2 OBJECT HELP.
fn object_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "OBJECT",
        &[
            ("ENCODING <key>", "How the value of <key> is stored."),
            ("FREQ <key>", "How often <key> is used, as the LFU policies count: a logarithm."),
            ("IDLETIME <key>", "Seconds since <key> was used."),
            ("REFCOUNT <key>", "How many references there are to the value of <key>."),
        ],
    )
}

/// Integers below this are one object each in Redis. Source: Redis 7.2 OBJ_SHARED_INTEGERS.
const SHARED_INTEGERS: i64 = 10_000;

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn encodings() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("OBJECT ENCODING none", "nil");
        for (value, name) in [
            ("12", "int"),
            ("-9223372036854775808", "int"),
            ("9223372036854775808", "embstr"),
            ("012", "embstr"),
            ("''", "embstr"),
            (&"x".repeat(44), "embstr"),
            (&"x".repeat(45), "raw"),
            (&"x".repeat(5000), "raw"),
        ] {
            c.check(&format!("SET s {value}"), "OK");
            c.check("OBJECT ENCODING s", &format!("\"{name}\""));
        }
        c.check("RPUSH l a", ":1");
        c.check("OBJECT ENCODING l", "\"listpack\"");
        c.check("ZADD z 1 a", ":1");
        c.check("OBJECT ENCODING z", "\"listpack\"");
        c.check("XADD x 1-1 a b", "\"1-1\"");
        c.check("OBJECT ENCODING x", "\"stream\"");
    }

    #[test]
    fn use_of_a_key() {
        let mut c = Checker::new();
        c.check("CONFIG SET maxmemory-policy noeviction", "OK");
        c.check("SET n 5", "OK");
        c.check("OBJECT REFCOUNT n", ":2147483647");
        c.check("SET n 10000", "OK");
        c.check("OBJECT REFCOUNT n", ":1");
        c.check("OBJECT REFCOUNT none", "nil");
        c.check("OBJECT IDLETIME n", ":0");
        c.check("OBJECT IDLETIME none", "nil");
        c.check("OBJECT FREQ none", "nil");
        c.check(
            "OBJECT FREQ n",
            "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        );
        c.check("CONFIG SET maxmemory-policy allkeys-lfu", "OK");
        c.check("SET f abc", "OK");
        c.check("OBJECT FREQ f", ":5");
        c.check(
            "OBJECT IDLETIME f",
            "-ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        );
        c.check("CONFIG SET maxmemory-policy noeviction", "OK");
        c.check("OBJECT", "-ERR wrong number of arguments for 'object' command");
        c.check("OBJECT FREQ", "-ERR wrong number of arguments for 'object|freq' command");
        c.check("OBJECT NOPE a", "-ERR unknown subcommand 'NOPE'. Try OBJECT HELP.");
        assert!(c.run("OBJECT HELP").starts_with("[OBJECT <subcommand>"));
    }
}
