//! Strings: GET, SET and their relatives, counters.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::db::Expiry;
use crate::keyspace::value::StringRef;

pub const COMMANDS: &[Command] = &[
    Command::new("decr", 2, decr)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("decrby", 3, decrby)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("get", 2, get)
        .flags(FAST | READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)]),
    Command::new("getdel", 2, getdel)
        .flags(FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)])
        .since("6.2.0"),
    Command::new("getset", 3, getset)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("incr", 2, incr)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("incrby", 3, incrby)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("mget", -2, mget)
        .flags(FAST | READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RO | KEY_ACCESS)])
        .tips(&["request_policy:multi_shard"]),
    Command::new("mset", -3, mset)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).range(-1, 2, 0).flags(KEY_OW | KEY_UPDATE)])
        .since("1.0.1")
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]),
    Command::new("psetex", 4, psetex)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE)])
        .since("2.6.0"),
    Command::new("set", -3, set).flags(DENYOOM | WRITE).acl(acl::STRING).keys(&[KeySpec::at(1)
        .flags(KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE)
        .notes("RW and ACCESS due to the optional `GET` argument")]),
    Command::new("setex", 4, setex)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE)])
        .since("2.0.0"),
    Command::new("setnx", 3, setnx)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_INSERT)]),
];

/// `GET key`: bulk string, or null. Errors: WRONGTYPE. Source: Redis 7.2 GET.
fn get(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    reply_string(ctx, key)
}

/// What SET was asked beside key and value.
#[derive(Debug, Default)]
struct SetOptions {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep_ttl: bool,
    expire_at_ms: Option<i64>,
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`: OK, or null when NX or XX forbids it;
/// with GET the old value or null. Errors: syntax; invalid expire time; WRONGTYPE with GET. Source: Redis 7.2 SET.
fn set(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let value = args.bytes()?;
    let options = set_options(ctx, args)?;
    if options.get {
        reply_string(ctx, key)?;
    }
    let exists = (options.if_absent || options.if_present) && ctx.db.write(key).is_some();
    if (options.if_absent && exists) || (options.if_present && !exists) {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(());
    }
    let expiry = match options.expire_at_ms {
        Some(at) => Expiry::At(at),
        None if options.keep_ttl => Expiry::Keep,
        None => Expiry::Clear,
    };
    store(ctx, key, value, expiry);
    if !options.get {
        ctx.reply.ok();
    }
    Ok(())
}

fn set_options(ctx: &Ctx, args: &mut Args) -> CmdResult<SetOptions> {
    let mut options = SetOptions::default();
    while !args.is_empty() {
        if args.flag("NX") && !options.if_present {
            options.if_absent = true;
        } else if args.flag("XX") && !options.if_absent {
            options.if_present = true;
        } else if args.flag("GET") {
            options.get = true;
        } else if args.flag("KEEPTTL") && options.expire_at_ms.is_none() {
            options.keep_ttl = true;
        } else if let Some(unit) = args.one_of(&["EX", "PX", "EXAT", "PXAT"]) {
            if options.keep_ttl || options.expire_at_ms.is_some() {
                return Err(CmdError::Syntax);
            }
            options.expire_at_ms = Some(expire_at_ms(ctx, args, unit, "set")?);
        } else {
            return Err(CmdError::Syntax);
        }
    }
    Ok(options)
}

/// The next argument as a time to expire at, Unix ms. `unit`: 0 seconds from now, 1 ms from now, 2 Unix seconds,
/// 3 Unix ms. Errors: not an integer; invalid expire time (not positive, or beyond 2^63 ms).
pub(crate) fn expire_at_ms(ctx: &Ctx, args: &mut Args, unit: usize, command: &'static str) -> CmdResult<i64> {
    let invalid = CmdError::InvalidExpire(command);
    let value = args.int()?;
    if value <= 0 {
        return Err(invalid);
    }
    let value = if unit == 0 || unit == 2 { value.checked_mul(1000) } else { Some(value) };
    let at = if unit < 2 { value.and_then(|ms| ms.checked_add(ctx.now_ms)) } else { value };
    at.ok_or(invalid)
}

/// Sets a key and says so; the log gets the absolute expiry.
fn store(ctx: &mut Ctx, key: Key<'_>, value: &[u8], expiry: Expiry) {
    ctx.db.set_string(key, value, expiry);
    ctx.changed(key, KeyspaceEvents::STRING, "set");
    if let Expiry::At(at) = expiry {
        ctx.db.notify(KeyspaceEvents::GENERIC, "expire", key);
        if ctx.db.effects.recording {
            let mut digits = itoa::Buffer::new();
            ctx.propagate_as(&[b"SET", key.bytes, value, b"PXAT", digits.format(at).as_bytes()]);
        }
    }
}

/// `SETNX key value`: 1 if the key was set, 0 if it was there. Source: Redis 7.2 SETNX.
fn setnx(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let value = args.bytes()?;
    let is_absent = ctx.db.write(key).is_none();
    if is_absent {
        store(ctx, key, value, Expiry::Clear);
    }
    ctx.reply.integer(i64::from(is_absent));
    Ok(())
}

/// `SETEX key seconds value`: OK. Errors: invalid expire time. Source: Redis 7.2 SETEX.
fn setex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    set_expiring(ctx, args, 0, "setex")
}

/// `PSETEX key milliseconds value`: OK. Errors: invalid expire time. Source: Redis 7.2 PSETEX.
fn psetex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    set_expiring(ctx, args, 1, "psetex")
}

fn set_expiring(ctx: &mut Ctx, args: &mut Args, unit: usize, command: &'static str) -> CmdResult {
    let key = args.key()?;
    let at = expire_at_ms(ctx, args, unit, command)?;
    let value = args.bytes()?;
    store(ctx, key, value, Expiry::At(at));
    ctx.reply.ok();
    Ok(())
}

/// `GETSET key value`: the old value or null. Errors: WRONGTYPE. Source: Redis 7.2 GETSET.
fn getset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let value = args.bytes()?;
    reply_string(ctx, key)?;
    store(ctx, key, value, Expiry::Clear);
    if ctx.db.effects.recording {
        ctx.propagate_as(&[b"SET", key.bytes, value]);
    }
    Ok(())
}

/// `GETDEL key`: the value or null; the key is gone. Errors: WRONGTYPE. Source: Redis 7.2 GETDEL.
fn getdel(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    reply_string(ctx, key)?;
    if ctx.db.delete(key).is_some() {
        ctx.deleted(key);
        ctx.propagate_as(&[b"DEL", key.bytes]);
    }
    Ok(())
}

/// `INCR key`: integer, the value after adding 1. Errors: as INCRBY. Source: Redis 7.2 INCR.
fn incr(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    add(ctx, key, 1)
}

/// `DECR key`: integer, the value after subtracting 1. Errors: as INCRBY. Source: Redis 7.2 DECR.
fn decr(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    add(ctx, key, -1)
}

/// `INCRBY key increment`: integer, the value after the addition. A missing key counts as 0. Keeps the expiry.
/// Errors: WRONGTYPE; value is not an integer or out of range; would overflow. Source: Redis 7.2 INCRBY.
fn incrby(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let increment = args.int()?;
    add(ctx, key, increment)
}

/// `DECRBY key decrement`: integer, the value after the subtraction. Errors: as INCRBY, and for a decrement that
/// has no negative. Source: Redis 7.2 DECRBY.
fn decrby(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let decrement = args.int()?;
    let increment = decrement.checked_neg().ok_or(CmdError::Text("ERR decrement would overflow"))?;
    add(ctx, key, increment)
}

fn add(ctx: &mut Ctx, key: Key<'_>, increment: i64) -> CmdResult {
    let current = match ctx.db.write(key) {
        Some(entry) => StringRef::of(entry).ok_or(CmdError::WrongType)?.as_int().ok_or(CmdError::NotAnInteger)?,
        None => 0,
    };
    let sum = current.checked_add(increment).ok_or(CmdError::IncrOverflow)?;
    ctx.db.set_int(key, sum, Expiry::Keep);
    ctx.changed(key, KeyspaceEvents::STRING, "incrby");
    ctx.reply.integer(sum);
    Ok(())
}

/// `MGET key [key ...]`: array of bulk strings, null for a key that is missing or no string. Source: Redis 7.2 MGET.
fn mget(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.reply.array(args.remaining());
    while !args.is_empty() {
        let key = args.key()?;
        match ctx.db.string(key) {
            Ok(Some(value)) => ctx.reply.bulk(value.bytes(&mut itoa::Buffer::new())),
            Ok(None) | Err(_) => ctx.reply.null(),
        }
    }
    Ok(())
}

/// `MSET key value [key value ...]`: OK. Source: Redis 7.2 MSET.
fn mset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if !args.remaining().is_multiple_of(2) {
        return Err(args.arity_error());
    }
    while !args.is_empty() {
        let key = args.key()?;
        let value = args.bytes()?;
        ctx.db.set_string(key, value, Expiry::Clear);
        ctx.changed(key, KeyspaceEvents::STRING, "set");
    }
    ctx.reply.ok();
    Ok(())
}

fn reply_string(ctx: &mut Ctx, key: Key<'_>) -> CmdResult {
    match ctx.db.string(key)? {
        Some(value) => ctx.reply.bulk(value.bytes(&mut itoa::Buffer::new())),
        None => ctx.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn set_get_and_their_options() {
        let mut c = Checker::new();
        c.check("GET s", "nil");
        c.check("SET s hello", "OK");
        c.check("GET s", "\"hello\"");
        c.check("SET s 1 NX", "nil");
        c.check("SET s 1 XX GET", "\"hello\"");
        c.check("SET s 2 EX 100", "OK");
        c.check("TTL s", ":100");
        c.check("SET s 3 KEEPTTL", "OK");
        c.check("TTL s", ":100");
        c.check("SET s 3", "OK");
        c.check("TTL s", ":-1");
        c.check("SET s 3 EX 0", "-ERR invalid expire time in 'set' command");
        c.check("SET s 3 NX XX", "-ERR syntax error");
        c.check("SET s 3 EX 1 PX 2", "-ERR syntax error");
        c.check("SET s 3 EX x", "-ERR value is not an integer or out of range");
    }

    #[test]
    fn counters() {
        let mut c = Checker::new();
        c.check("INCR n", ":1");
        c.check("INCRBY n 41", ":42");
        c.check("DECR n", ":41");
        c.check("DECRBY n 1", ":40");
        c.check("SET n 9223372036854775807", "OK");
        c.check("INCR n", "-ERR increment or decrement would overflow");
        c.check("DECRBY n -9223372036854775808", "-ERR decrement would overflow");
        c.check("SET n x", "OK");
        c.check("INCR n", "-ERR value is not an integer or out of range");
        c.check("INCRBY n 1.5", "-ERR value is not an integer or out of range");
        c.check("INCR", "-ERR wrong number of arguments for 'incr' command");
    }

    #[test]
    fn several_keys() {
        let mut c = Checker::new();
        c.check("MSET {t}a 1 {t}b 2", "OK");
        c.check("MGET {t}a {t}b {t}c", "[\"1\", \"2\", nil]");
        c.check("MSET {t}a", "-ERR wrong number of arguments for 'mset' command");
        c.check("GETSET {t}a x", "\"1\"");
        c.check("GETDEL {t}a", "\"x\"");
        c.check("GET {t}a", "nil");
        c.check("SETNX {t}a y", ":1");
        c.check("SETNX {t}a z", ":0");
        c.check("SETEX {t}a 100 v", "OK");
        c.check("PSETEX {t}a 100000 v", "OK");
        c.check("SETEX {t}a -1 v", "-ERR invalid expire time in 'setex' command");
    }
}
