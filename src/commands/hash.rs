//! Hashes: fields and values, counters in fields, random fields.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::scan::{self, ScanOptions};
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::{Key, limits};
use crate::resp::reply::Reply;
use crate::util::rng;
use redstart_types::encoding::listpack::Element;
use redstart_types::hash::{Hash, HashLimits};
use redstart_types::long_double::LongDouble;
use std::collections::HashSet;

const LOOK: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO)];
const READ: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)];
const UPDATE: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)];
const INCREMENT: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)];

pub const COMMANDS: &[Command] = &[
    Command::new("hdel", -3, hdel)
        .flags(FAST | WRITE)
        .acl(acl::HASH)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_DELETE)])
        .since("2.0.0"),
    Command::new("hexists", 3, hexists).flags(FAST | READONLY).acl(acl::HASH).keys(LOOK).since("2.0.0"),
    Command::new("hget", 3, hget).flags(FAST | READONLY).acl(acl::HASH).keys(READ).since("2.0.0"),
    Command::new("hgetall", 2, hgetall)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .since("2.0.0")
        .tips(&["nondeterministic_output_order"]),
    Command::new("hincrby", 4, hincrby).flags(DENYOOM | FAST | WRITE).acl(acl::HASH).keys(INCREMENT).since("2.0.0"),
    Command::new("hincrbyfloat", 4, hincrbyfloat)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::HASH)
        .keys(INCREMENT)
        .since("2.6.0"),
    Command::new("hkeys", 2, hkeys)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .since("2.0.0")
        .tips(&["nondeterministic_output_order"]),
    Command::new("hlen", 2, hlen).flags(FAST | READONLY).acl(acl::HASH).keys(LOOK).since("2.0.0"),
    Command::new("hmget", -3, hmget).flags(FAST | READONLY).acl(acl::HASH).keys(READ).since("2.0.0"),
    Command::new("hmset", -4, hmset).flags(DENYOOM | FAST | WRITE).acl(acl::HASH).keys(UPDATE).since("2.0.0"),
    Command::new("hrandfield", -2, hrandfield)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .since("6.2.0")
        .tips(&["nondeterministic_output"]),
    Command::new("hscan", -3, hscan)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .since("2.8.0")
        .tips(&["nondeterministic_output"]),
    Command::new("hset", -4, hset).flags(DENYOOM | FAST | WRITE).acl(acl::HASH).keys(UPDATE).since("2.0.0"),
    Command::new("hsetnx", 4, hsetnx)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::HASH)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_INSERT)])
        .since("2.0.0"),
    Command::new("hstrlen", 3, hstrlen).flags(FAST | READONLY).acl(acl::HASH).keys(LOOK).since("3.2.0"),
    Command::new("hvals", 2, hvals)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .since("2.0.0")
        .tips(&["nondeterministic_output_order"]),
];

/// `HSET key field value [field value ...]`: integer, how many fields are new. Errors: WRONGTYPE; arity.
/// Source: Redis 7.2 HSET.
fn hset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let created = set_fields(ctx, args)?;
    ctx.reply.len(created);
    Ok(())
}

/// `HMSET key field value [field value ...]`: OK; otherwise HSET. Source: Redis 7.2 HMSET.
fn hmset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    set_fields(ctx, args)?;
    ctx.reply.ok();
    Ok(())
}

fn set_fields(ctx: &mut Ctx, args: &mut Args) -> CmdResult<usize> {
    if args.remaining().is_multiple_of(2) {
        return Err(args.arity_error());
    }
    let key = args.key()?;
    let texts = args.rest();
    let limits = hash_limits(ctx);
    let hash = ctx.db.write_or_insert(key, Hash::new)?;
    hash.expect(texts.len() / 2, texts.iter().copied(), &limits);
    let created = texts.chunks_exact(2).filter(|pair| hash.insert(pair[0], pair[1], &limits)).count();
    ctx.changed_by(texts.len() / 2, key, KeyspaceEvents::HASH, "hset");
    Ok(created)
}

/// `HSETNX key field value`: 1 if the field was set, 0 if it was there. Errors: WRONGTYPE. Source: Redis 7.2 HSETNX.
fn hsetnx(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, field, value) = (args.key()?, args.bytes()?, args.bytes()?);
    let limits = hash_limits(ctx);
    let hash = ctx.db.write_or_insert(key, Hash::new)?;
    let is_absent = !hash.contains(field);
    if is_absent {
        hash.insert(field, value, &limits);
        ctx.changed(key, KeyspaceEvents::HASH, "hset");
    }
    ctx.reply.integer(i64::from(is_absent));
    Ok(())
}

/// `HGET key field`: the value or null. Errors: WRONGTYPE. Source: Redis 7.2 HGET.
fn hget(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let hash = ctx.db.read_as::<Hash>(args.key()?)?;
    let value = hash.zip(args.optional()).and_then(|(hash, field)| hash.get(field));
    element_or_null(ctx.reply, value);
    Ok(())
}

/// `HMGET key field [field ...]`: an array of values, null for a field that is missing. Errors: WRONGTYPE.
/// Source: Redis 7.2 HMGET.
fn hmget(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let hash = ctx.db.read_as::<Hash>(args.key()?)?;
    ctx.reply.array(args.remaining());
    for field in args.rest() {
        element_or_null(ctx.reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

fn element_or_null(reply: &mut Reply, element: Option<Element<'_>>) {
    match element {
        Some(element) => reply.element(element),
        None => reply.null(),
    }
}

/// `HDEL key field [field ...]`: integer, how many fields were there. Errors: WRONGTYPE. Source: Redis 7.2 HDEL.
fn hdel(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let hash = ctx.db.write_as::<Hash>(key)?;
    let deleted = hash.map_or(0, |hash| args.rest().iter().filter(|field| hash.remove(field)).count());
    ctx.reply.len(deleted);
    if deleted > 0 {
        ctx.changed_by(deleted, key, KeyspaceEvents::HASH, "hdel");
        if ctx.db.delete_if_vacant::<Hash>(key) {
            ctx.db.notify(KeyspaceEvents::GENERIC, "del", key);
        }
    }
    Ok(())
}

/// `HLEN key`: integer, the number of fields. Errors: WRONGTYPE. Source: Redis 7.2 HLEN.
fn hlen(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let len = ctx.db.read_as::<Hash>(args.key()?)?.map_or(0, Hash::len);
    ctx.reply.len(len);
    Ok(())
}

/// `HSTRLEN key field`: integer, the length of the value; 0 without one. Errors: WRONGTYPE.
/// Source: Redis 7.2 HSTRLEN.
fn hstrlen(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, field) = (args.key()?, args.bytes()?);
    let value = ctx.db.read_as::<Hash>(key)?.and_then(|hash| hash.get(field));
    ctx.reply.len(value.map_or(0, Element::text_len));
    Ok(())
}

/// `HEXISTS key field`: 1 if the field is there, else 0. Errors: WRONGTYPE. Source: Redis 7.2 HEXISTS.
fn hexists(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, field) = (args.key()?, args.bytes()?);
    let exists = ctx.db.read_as::<Hash>(key)?.is_some_and(|hash| hash.contains(field));
    ctx.reply.integer(i64::from(exists));
    Ok(())
}

/// `HGETALL key`: a map of fields to values (RESP2: an array, in turns). Errors: WRONGTYPE. Source: Redis 7.2 HGETALL.
fn hgetall(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let hash = ctx.db.read_as::<Hash>(args.key()?)?;
    ctx.reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        ctx.reply.element(field);
        ctx.reply.element(value);
    }
    Ok(())
}

/// `HKEYS key`: an array of the fields. Errors: WRONGTYPE. Source: Redis 7.2 HKEYS.
fn hkeys(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let hash = ctx.db.read_as::<Hash>(args.key()?)?;
    ctx.reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(field, _)| ctx.reply.element(field));
    Ok(())
}

/// `HVALS key`: an array of the values. Errors: WRONGTYPE. Source: Redis 7.2 HVALS.
fn hvals(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let hash = ctx.db.read_as::<Hash>(args.key()?)?;
    ctx.reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(_, value)| ctx.reply.element(value));
    Ok(())
}

/// `HINCRBY key field increment`: integer, the value after the addition; a missing field counts as 0. Errors:
/// WRONGTYPE; not an integer (argument or value); would overflow. Source: Redis 7.2 HINCRBY.
fn hincrby(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, field, increment) = (args.key()?, args.bytes()?, args.int()?);
    let current = match ctx.db.write_as::<Hash>(key)?.and_then(|hash| hash.get(field)) {
        Some(value) => value.to_int().ok_or(CmdError::Text("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = current.checked_add(increment).ok_or(CmdError::IncrOverflow)?;
    store(ctx, key, field, itoa::Buffer::new().format(sum).as_bytes(), "hincrby")?;
    ctx.reply.integer(sum);
    Ok(())
}

/// `HINCRBYFLOAT key field increment`: the value after the addition, a bulk string; a missing field counts as 0. The
/// log gets an HSET of the result. Errors: WRONGTYPE; not a float (argument or value); NaN or infinity.
/// Source: Redis 7.2 HINCRBYFLOAT.
fn hincrbyfloat(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, field) = (args.key()?, args.bytes()?);
    let increment = LongDouble::parse(args.bytes()?).ok_or(CmdError::NotAFloat)?;
    if !increment.is_finite() {
        return Err(CmdError::Text("ERR value is NaN or Infinity"));
    }
    let current = match ctx.db.write_as::<Hash>(key)?.and_then(|hash| hash.get(field)) {
        Some(Element::Int(value)) => LongDouble::from_int(value),
        Some(Element::Bytes(text)) => LongDouble::parse(text).ok_or(CmdError::Text("ERR hash value is not a float"))?,
        None => LongDouble::from_int(0),
    };
    let sum = current + increment;
    if !sum.is_finite() {
        return Err(CmdError::Text("ERR increment would produce NaN or Infinity"));
    }
    let mut text = Vec::new();
    sum.append_to(&mut text);
    store(ctx, key, field, &text, "hincrbyfloat")?;
    ctx.propagate_as(&[b"HSET", key.bytes, field, &text]);
    ctx.reply.bulk(&text);
    Ok(())
}

fn store(ctx: &mut Ctx, key: Key<'_>, field: &[u8], value: &[u8], event: &'static str) -> CmdResult {
    let limits = hash_limits(ctx);
    ctx.db.write_or_insert(key, Hash::new)?.insert(field, value, &limits);
    ctx.changed(key, KeyspaceEvents::HASH, event);
    Ok(())
}

fn hash_limits(ctx: &Ctx) -> HashLimits {
    limits::hash(ctx.config, ctx.server.shards.seed())
}

/// `HSCAN key cursor [MATCH pattern] [COUNT count]`: an array of the next cursor and an array of fields and values in
/// turns. Errors: invalid cursor; WRONGTYPE; syntax. Source: Redis 7.2 HSCAN.
fn hscan(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let cursor = scan::parse_cursor(args.bytes()?)?;
    let Some(hash) = ctx.db.read_as::<Hash>(key)? else {
        scan::reply_with_nothing(ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(args)?;
    let mut digits = itoa::Buffer::new();
    scan::reply_with_found(ctx.reply, options, cursor, |cursor, found| {
        hash.scan(cursor, |field, value| {
            found.take(field.text(&mut digits), |reply| {
                reply.element(field);
                reply.element(value);
                2
            });
        })
    });
    Ok(())
}

/// `HRANDFIELD key [count [WITHVALUES]]`: a random field or null; with a count an array of so many different ones, or,
/// if it is negative, of exactly so many that may repeat. WITHVALUES adds the values (RESP3: arrays of two). Errors:
/// WRONGTYPE; syntax; out of range. Source: Redis 7.2 HRANDFIELD.
fn hrandfield(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    if args.is_empty() {
        let mut random = ctx.server.random.small();
        let picked = ctx.db.read_as::<Hash>(key)?.and_then(|hash| hash.random(&mut random));
        element_or_null(ctx.reply, picked.map(|(field, _)| field));
        return Ok(());
    }
    let count = args.balanced_int()?;
    let with_values = args.flag("WITHVALUES");
    args.finish()?;
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CmdError::OutOfRange);
    }
    random_fields(ctx, key, count, with_values)
}

/// How many times larger than what is asked for a hash must be to be sampled rather than walked.
const SAMPLE_FROM: usize = 3;

fn random_fields(ctx: &mut Ctx, key: Key<'_>, count: i64, with_values: bool) -> CmdResult {
    let mut random = ctx.server.random.small();
    let repeats = count < 0;
    let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let Some(hash) = ctx.db.read_as::<Hash>(key)?.filter(|_| count > 0) else {
        ctx.reply.array(0);
        return Ok(());
    };
    let len = if repeats { count } else { count.min(hash.len()) };
    ctx.reply.array(if with_values && !ctx.reply.resp3 { len * 2 } else { len });
    if repeats {
        for (field, value) in std::iter::repeat_with(|| hash.random(&mut random)).take(len).flatten() {
            show_field(ctx.reply, field, value, with_values);
            if ctx.reply.is_too_long() {
                break;
            }
        }
        return Ok(());
    }
    let show = |(field, value)| show_field(ctx.reply, field, value, with_values);
    if len.saturating_mul(SAMPLE_FROM) > hash.len() || hash.as_listpack().is_some() {
        rng::sample(hash.iter(), hash.len(), len, &mut random).for_each(show);
    } else {
        let mut taken = HashSet::new();
        let new = |(field, _): &(Element<'_>, _)| taken.insert(field.to_vec());
        std::iter::repeat_with(|| hash.random(&mut random)).flatten().filter(new).take(len).for_each(show);
    }
    Ok(())
}

fn show_field(reply: &mut Reply, field: Element<'_>, value: Element<'_>, with_value: bool) {
    if with_value && reply.resp3 {
        reply.array(2);
    }
    reply.element(field);
    if with_value {
        reply.element(value);
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn setting_and_getting() {
        let mut c = Checker::new();
        c.check("HSET h a 1 b x", ":2");
        c.check("HSET h a 2 c 3", ":1");
        c.check("HSETNX h c 4", ":0");
        c.check("HSETNX h d 4", ":1");
        c.check("HMSET h e 5 f 6", "OK");
        c.check("HGET h a", "\"2\"");
        c.check("HGET h none", "nil");
        c.check("HGET none a", "nil");
        c.check("HMGET h a none b", "[\"2\", nil, \"x\"]");
        c.check("HMGET none a", "[nil]");
        c.check("HLEN h", ":6");
        c.check("HLEN none", ":0");
        c.check("HSTRLEN h b", ":1");
        c.check("HSTRLEN h none", ":0");
        c.check("HEXISTS h b", ":1");
        c.check("HEXISTS h none", ":0");
        c.check("HDEL h c d none e", ":3");
        c.check("HGETALL h", "[\"a\", \"2\", \"b\", \"x\", \"f\", \"6\"]");
        c.check("HKEYS h", "[\"a\", \"b\", \"f\"]");
        c.check("HVALS h", "[\"2\", \"x\", \"6\"]");
        c.check("HDEL h a b f", ":3");
        c.check("EXISTS h", ":0");
        c.check("HDEL h a", ":0");
        c.check("HGETALL h", "[]");
        c.check("HKEYS h", "[]");
        c.check("HVALS h", "[]");
        c.check("HSET h a", "-ERR wrong number of arguments for 'hset' command");
        c.check("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command");
        c.check("HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command");
    }

    #[test]
    fn other_types_are_refused() {
        let mut c = Checker::new();
        c.check("SET s x", "OK");
        for command in ["HSET s a 1", "HGET s a", "HMGET s a", "HDEL s a", "HLEN s", "HGETALL s", "HINCRBY s a 1"] {
            c.check(command, WRONG_TYPE);
        }
        for command in
            ["HINCRBYFLOAT s a 1", "HSCAN s 0", "HRANDFIELD s", "HRANDFIELD s 2", "HSTRLEN s a", "HSETNX s a 1"]
        {
            c.check(command, WRONG_TYPE);
        }
    }

    #[test]
    fn replies_of_resp3() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("HSET h a 1", ":1");
        c.check("HGETALL h", "{\"a\": \"1\"}");
        c.check("HGETALL none", "{}");
        c.check("HGET h none", "nil");
        c.check("HRANDFIELD h 5 WITHVALUES", "[[\"a\", \"1\"]]");
        c.check("HRANDFIELD h -2 WITHVALUES", "[[\"a\", \"1\"], [\"a\", \"1\"]]");
        c.check("HINCRBYFLOAT h a 0.5", "\"1.5\"");
    }

    #[test]
    fn counters() {
        let mut c = Checker::new();
        c.check("HINCRBY h n 5", ":5");
        c.check("HINCRBY h n -7", ":-2");
        c.check("HGET h n", "\"-2\"");
        c.check("HSET h x text big 9223372036854775807 f 1.5", ":3");
        c.check("HINCRBY h x 1", "-ERR hash value is not an integer");
        c.check("HINCRBY h f 1", "-ERR hash value is not an integer");
        c.check("HINCRBY h big 1", "-ERR increment or decrement would overflow");
        c.check("HINCRBY h n x", "-ERR value is not an integer or out of range");
        c.check("HINCRBYFLOAT h f 0.1", "\"1.6\"");
        c.check("HINCRBYFLOAT h n 0.25", "\"-1.75\"");
        c.check("HINCRBYFLOAT h new 1e3", "\"1000\"");
        c.check("HINCRBYFLOAT h big 1", "\"9223372036854775808\"");
        c.check("HINCRBYFLOAT h x 1", "-ERR hash value is not a float");
        c.check("HINCRBYFLOAT h f x", "-ERR value is not a valid float");
        c.check("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity");
        c.check("HINCRBYFLOAT h f nan", "-ERR value is not a valid float");
        c.check("HSET h i inf", ":1");
        c.check("HINCRBYFLOAT h i 1", "-ERR increment would produce NaN or Infinity");
        c.check("HINCRBY none n x", "-ERR value is not an integer or out of range");
        c.check("EXISTS none", ":0");
    }

    #[test]
    fn scanning() {
        let mut c = Checker::new();
        c.check("HSET h a 1 b 2 ab 3", ":3");
        c.check("HSCAN h 0", "[\"0\", [\"a\", \"1\", \"b\", \"2\", \"ab\", \"3\"]]");
        c.check("HSCAN h 0 MATCH a* COUNT 1", "[\"0\", [\"a\", \"1\", \"ab\", \"3\"]]");
        c.check("HSCAN none 0 WHAT", "[\"0\", []]");
        c.check("HSCAN h x", "-ERR invalid cursor");
        c.check("HSCAN h 0 WHAT", "-ERR syntax error");
        c.check("HSCAN h 0 TYPE hash", "-ERR syntax error");
        c.check("HSCAN h 0 COUNT 0", "-ERR syntax error");
        c.check("HSCAN h 0 COUNT x", "-ERR value is not an integer or out of range");
        let long = "x".repeat(65);
        c.check(&format!("HSET h {long} 1"), ":1");
        let fields = c.run("HSCAN h 0 COUNT 100");
        assert!(fields.starts_with("[\"0\", ") && fields.contains(&long) && fields.contains("\"ab\", \"3\""));
    }

    #[test]
    fn random_fields() {
        let mut c = Checker::new();
        c.check("HRANDFIELD h", "nil");
        c.check("HRANDFIELD h 3", "[]");
        c.check("HSET h a 1", ":1");
        c.check("HRANDFIELD h", "\"a\"");
        c.check("HRANDFIELD h 0", "[]");
        c.check("HRANDFIELD h 3", "[\"a\"]");
        c.check("HRANDFIELD h -3", "[\"a\", \"a\", \"a\"]");
        c.check("HRANDFIELD h 3 WITHVALUES", "[\"a\", \"1\"]");
        c.check("HRANDFIELD h 3 WHAT", "-ERR syntax error");
        c.check("HRANDFIELD h 3 WITHVALUES x", "-ERR syntax error");
        c.check("HRANDFIELD h x", "-ERR value is not an integer or out of range");
        c.check("HRANDFIELD h 9223372036854775807 WITHVALUES", "-ERR value is out of range");
        for n in 0..2000 {
            c.run(&format!("HSET many field{n} {n}"));
        }
        for count in [1, 100, 600, 1999, 2000, 3000_usize] {
            let fields = c.run(&format!("HRANDFIELD many {count}"));
            let different: std::collections::HashSet<_> = fields.trim_matches(['[', ']']).split(", ").collect();
            assert_eq!(different.len(), count.min(2000));
        }
    }

    #[test]
    fn the_log_gets_what_redis_writes() {
        let mut c = Checker::new();
        let log = c.record();
        for command in
            ["HSET h a 1", "HINCRBYFLOAT h a 0.5", "HINCRBY h b 3", "HSETNX h a 5", "HDEL h nope", "HDEL h a b"]
        {
            c.run(command);
        }
        assert_eq!(log.take(), ["HSET h a 1", "HSET h a 1.5", "HINCRBY h b 3", "HDEL h a b"]);
    }
}
