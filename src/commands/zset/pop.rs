//! Taking out the lowest or highest members, at once or as soon as there are some.

use super::{bulk, drop_if_empty};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::Block;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::value::Kind;
use redstart_types::zset::{Order, ZSet};

/// How a pop is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `[member, score, ...]`
    Flat,
    /// `[[member, score], ...]`
    Pairs,
    /// `[key, member, score]`
    KeyAndFlat,
    /// `[key, [[member, score], ...]]`
    KeyAndPairs,
}

/// `ZPOPMIN key [count]`: an array of members and scores in turn, the lowest first (RESP3 with a count: an array of
/// arrays of two); empty when there is no such key. Source: Redis 7.2 ZPOPMIN.
pub(super) fn zpopmin(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop_one_key(ctx, args, Order::Ascending)
}

/// `ZPOPMAX key [count]`: as ZPOPMIN, the highest first. Source: Redis 7.2 ZPOPMAX.
pub(super) fn zpopmax(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop_one_key(ctx, args, Order::Descending)
}

fn pop_one_key(ctx: &mut Ctx, args: &mut Args, order: Order) -> CmdResult {
    let key = args.key()?;
    if args.remaining() > 1 {
        return Err(CmdError::Syntax);
    }
    let count = if args.is_empty() { None } else { Some(args.positive()?) };
    let shape = if count.is_some() && ctx.reply.resp3 { Shape::Pairs } else { Shape::Flat };
    let exists = ctx.db.write_as::<ZSet>(key)?.is_some();
    if count == Some(0) || !exists {
        ctx.reply.array(0);
        return Ok(());
    }
    pop(ctx, key, order, count.unwrap_or(1), shape)?;
    Ok(())
}

/// `ZMPOP numkeys key [key ...] MIN | MAX [COUNT count]`: an array of the first key that has members and an array of
/// arrays of member and score; a null array when none has. Source: Redis 7.2 ZMPOP.
pub(super) fn zmpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let request = MultiPop::parse(args)?;
    if !pop_first(ctx, args, &request)? {
        ctx.reply.null_array();
    }
    Ok(())
}

/// `BZMPOP timeout numkeys key [key ...] MIN | MAX [COUNT count]`: as ZMPOP, but waits up to `timeout` seconds (0: for
/// ever) until a key has members. Source: Redis 7.2 BZMPOP.
pub(super) fn bzmpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let timeout = args.bytes()?;
    let request = MultiPop::parse(args)?;
    let deadline_ms = ctx.deadline_ms(timeout)?;
    pop_or_block(ctx, args, &request, deadline_ms)
}

/// `BZPOPMIN key [key ...] timeout`: an array of the first key that has members, its lowest member and the score;
/// waits up to `timeout` seconds (0: for ever) until there is one, then a null array. Source: Redis 7.2 BZPOPMIN.
pub(super) fn bzpopmin(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop_one_or_block(ctx, args, Order::Ascending)
}

/// `BZPOPMAX key [key ...] timeout`: as BZPOPMIN with the highest member. Source: Redis 7.2 BZPOPMAX.
pub(super) fn bzpopmax(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop_one_or_block(ctx, args, Order::Descending)
}

fn pop_one_or_block(ctx: &mut Ctx, args: &mut Args, order: Order) -> CmdResult {
    let (timeout, keys) = args.rest().split_last().ok_or(CmdError::Syntax)?;
    let deadline_ms = ctx.deadline_ms(timeout)?;
    pop_or_block(ctx, args, &MultiPop { keys, order, count: None }, deadline_ms)
}

/// Pops from the first of several keys.
struct MultiPop<'a> {
    keys: &'a [&'a [u8]],
    order: Order,
    /// `None` in the older commands, whose reply is flat.
    count: Option<usize>,
}

impl<'a> MultiPop<'a> {
    fn parse(args: &mut Args<'a>) -> CmdResult<Self> {
        let positive = |args: &mut Args, text| {
            let value = args.int().ok().and_then(|value| usize::try_from(value).ok());
            value.filter(|value| *value > 0).ok_or(CmdError::Text(text))
        };
        let numkeys = positive(args, "ERR numkeys should be greater than 0")?;
        let keys = args.rest().get(..numkeys).ok_or(CmdError::Syntax)?;
        keys.iter().try_for_each(|_| args.bytes().map(drop))?;
        let order = match args.one_of(&["MIN", "MAX"]) {
            Some(0) => Order::Ascending,
            Some(_) => Order::Descending,
            None => return Err(CmdError::Syntax),
        };
        let mut count = None;
        while args.remaining() >= 2 && count.is_none() && args.flag("COUNT") {
            count = Some(positive(args, "ERR count should be greater than 0")?);
        }
        args.finish()?;
        Ok(Self { keys, order, count: Some(count.unwrap_or(1)) })
    }
}

fn pop_or_block(ctx: &mut Ctx, args: &Args, request: &MultiPop<'_>, deadline_ms: Option<i64>) -> CmdResult {
    if pop_first(ctx, args, request)? {
        return Ok(());
    }
    ctx.block(Block::on_keys(request.keys, Kind::ZSet, deadline_ms))
}

/// Pops from the first key that exists and answers; false when there is none. The log gets the pop of that key.
fn pop_first(ctx: &mut Ctx, args: &Args, request: &MultiPop<'_>) -> CmdResult<bool> {
    for key in request.keys {
        let key = args.as_key(key);
        if ctx.db.write_as::<ZSet>(key)?.is_none() {
            continue;
        }
        let shape = if request.count.is_some() { Shape::KeyAndPairs } else { Shape::KeyAndFlat };
        let popped = pop(ctx, key, request.order, request.count.unwrap_or(1), shape)?;
        let name: &[u8] = if request.order == Order::Ascending { b"ZPOPMIN" } else { b"ZPOPMAX" };
        match request.count {
            Some(_) => ctx.propagate_as(&[name, key.bytes, itoa::Buffer::new().format(popped).as_bytes()]),
            None => ctx.propagate_as(&[name, key.bytes]),
        }
        return Ok(true);
    }
    Ok(false)
}

/// Pops up to `count` members of a key that exists, and answers; returns how many.
fn pop(ctx: &mut Ctx, key: Key<'_>, order: Order, count: usize, shape: Shape) -> CmdResult<usize> {
    let zset = ctx.db.write_as::<ZSet>(key)?.expect("the caller has looked");
    let reply = &mut *ctx.reply;
    let count = count.min(zset.len());
    match shape {
        Shape::Flat => reply.array(count * 2),
        Shape::Pairs => reply.array(count),
        Shape::KeyAndFlat => {
            reply.array(count * 2 + 1);
            reply.bulk(key.bytes);
        }
        Shape::KeyAndPairs => {
            reply.array(2);
            reply.bulk(key.bytes);
            reply.array(count);
        }
    }
    zset.pop(order, count, |entry| {
        if matches!(shape, Shape::Pairs | Shape::KeyAndPairs) {
            reply.array(2);
        }
        bulk(reply, entry.member);
        reply.double(entry.score);
    });
    if zset.has_dead() {
        ctx.db.shard_db_mut(key).sweep_later(key.bytes);
    }
    let event = if order == Order::Ascending { "zpopmin" } else { "zpopmax" };
    ctx.changed_by(count, key, KeyspaceEvents::ZSET, event);
    drop_if_empty(ctx, key);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    /// In Redis it goes on waiting, whatever is added later.
    #[test]
    fn a_result_stored_over_another_type_serves() {
        let mut c = Checker::new();
        c.send("BZPOPMIN {t}z 0");
        c.other("SET {t}z x", "OK");
        c.other("ZADD {t}a 1 m", ":1");
        c.other("ZUNIONSTORE {t}z 1 {t}a", ":1");
        assert_eq!(c.receive_here(), "[\"{t}z\", \"m\", \"1\"]");
    }

    #[test]
    fn zpopmin_and_zpopmax() {
        let mut c = Checker::new();
        c.check("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f", ":6");
        c.check("ZPOPMIN z", "[\"a\", \"1\"]");
        c.check("ZPOPMAX z 2", "[\"f\", \"6\", \"e\", \"5\"]");
        c.check("ZPOPMIN z 0", "[]");
        c.check("ZPOPMIN none", "[]");
        c.check("ZPOPMIN z -1", "-ERR value is out of range, must be positive");
        c.check("ZPOPMIN z x", "-ERR value is out of range, must be positive");
        c.check("ZPOPMAX z 1 2", "-ERR syntax error");
        c.run("HELLO 3");
        c.check("ZPOPMIN z", "[\"b\", ,2]");
        c.check("ZPOPMIN z 9", "[[\"c\", ,3], [\"d\", ,4]]");
        c.check("EXISTS z", ":0");
        c.check("SET s x", "OK");
        c.check("ZPOPMIN s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }

    #[test]
    fn zmpop() {
        let mut c = Checker::new();
        c.check("ZADD z 1 a 2 b 3 c", ":3");
        c.check("ZMPOP 2 none z MIN", "[\"z\", [[\"a\", \"1\"]]]");
        c.check("ZMPOP 1 z MAX COUNT 9", "[\"z\", [[\"c\", \"3\"], [\"b\", \"2\"]]]");
        c.check("ZMPOP 1 z MIN", "nil");
        c.check("ZMPOP 0 z MIN", "-ERR numkeys should be greater than 0");
        c.check("ZMPOP x z MIN", "-ERR numkeys should be greater than 0");
        c.check("ZMPOP 2 z MIN", "-ERR syntax error");
        c.check("ZMPOP 1 z MID", "-ERR syntax error");
        c.check("ZMPOP 1 z MIN COUNT 0", "-ERR count should be greater than 0");
        c.check("ZMPOP 1 z MIN COUNT 1 COUNT 1", "-ERR syntax error");
    }

    #[test]
    fn bzpopmin_and_bzpopmax_at_once() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("ZADD z 1 a 2 b 3 c", ":3");
        c.check("BZPOPMIN none z 0", "[\"z\", \"a\", \"1\"]");
        c.check("BZPOPMAX z none 1", "[\"z\", \"c\", \"3\"]");
        c.check("BZPOPMIN z x", "-ERR timeout is not a float or out of range");
        c.check("BZPOPMIN z -1", "-ERR timeout is negative");
        c.check("BZPOPMIN z inf", "-ERR timeout is out of range");
        c.check("BZPOPMIN none 0.01", "nil");
        c.check("MULTI", "OK");
        c.check("BZPOPMIN none 0", "QUEUED");
        c.check("EXEC", "[nil]");
    }

    #[test]
    fn bzpop_waits_for_a_member() {
        let mut c = Checker::new();
        c.send("BZPOPMIN z y 5");
        c.other("ZADD y 2 b 1 a", ":2");
        c.receive("[\"y\", \"a\", \"1\"]");
        c.send("BZPOPMAX z 5");
        c.other("SET z x", "OK");
        c.other("DEL z", ":1");
        c.other("ZADD z 2 b 1 a", ":2");
        c.receive("[\"z\", \"b\", \"2\"]");
        c.other("ZCARD z", ":1");
    }

    #[test]
    fn bzpop_waits_on_when_the_key_expires_before_it_is_served() {
        let mut c = Checker::new();
        c.send("BZPOPMIN z 0.3");
        c.other("MULTI", "OK");
        c.other("ZADD z 1 a", "QUEUED");
        c.other("PEXPIRE z 1", "QUEUED");
        c.other("EVAL \"for i = 1, 5000000 do end\" 0", "QUEUED");
        c.other("EXEC", "[:1, :1, nil]");
        c.receive("nil");
        c.other("EXISTS z", ":0");
    }

    #[test]
    fn bzmpop() {
        let mut c = Checker::new();
        c.check("ZADD z 1 a 2 b 3 c", ":3");
        c.check("BZMPOP 1 2 none z MIN COUNT 2", "[\"z\", [[\"a\", \"1\"], [\"b\", \"2\"]]]");
        c.check("BZMPOP x 1 z MIN", "-ERR timeout is not a float or out of range");
        c.check("BZMPOP x 0 z MIN", "-ERR numkeys should be greater than 0");
        c.check("BZMPOP 0.01 1 none MAX", "nil");
        c.send("BZMPOP 5 2 y x MAX COUNT 10");
        c.other("ZADD x 1 a 2 b", ":2");
        c.receive("[\"x\", [[\"b\", \"2\"], [\"a\", \"1\"]]]");
        c.other("EXISTS x", ":0");
    }

    /// As Redis 7.2.6 writes its AOF.
    #[test]
    fn the_log_gets_the_pop_that_was_done() {
        let mut c = Checker::new();
        c.check("ZADD {z}1 1 a 2 b 3 c 4 d 5 e", ":5");
        let log = c.record();
        c.run("ZMPOP 2 {z}0 {z}1 MIN COUNT 2");
        c.run("ZMPOP 1 {z}1 MAX");
        c.run("ZMPOP 1 {z}0 MAX");
        c.run("BZPOPMIN {z}1 0");
        c.run("BZMPOP 0 1 {z}1 MIN COUNT 9");
        assert_eq!(log.take(), ["ZPOPMIN {z}1 2", "ZPOPMAX {z}1 1", "ZPOPMIN {z}1", "ZPOPMIN {z}1 1"]);
        c.send("BZMPOP 0 2 {z}2 {z}3 MAX COUNT 10");
        c.other("ZADD {z}3 1 x 2 y", ":2");
        c.receive("[\"{z}3\", [[\"y\", \"2\"], [\"x\", \"1\"]]]");
        let mut log = log.take();
        log.retain(|line| line != "MULTI" && line != "EXEC");
        assert_eq!(log, ["ZADD {z}3 1 x 2 y", "ZPOPMAX {z}3 2"]);
    }
}
