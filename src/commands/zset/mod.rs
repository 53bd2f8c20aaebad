//! Sorted sets: the commands that begin with Z and BZ.
//!
//! Here are the table and the commands on single members; ranges, pops and set operations are in their own files.

mod combine;
mod pop;
mod range;

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::scan::{self, ScanOptions};
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::db::Expiry;
use crate::keyspace::value::Value;
use crate::keyspace::{Key, limits};
use crate::resp::reply::Reply;
use combine::{zdiff, zdiffstore, zinter, zintercard, zinterstore, zunion, zunionstore};
use pop::{bzmpop, bzpopmax, bzpopmin, zmpop, zpopmax, zpopmin};
use rand::Rng;
use rand::rngs::SmallRng;
use range::{
    zcount, zlexcount, zrange, zrangebylex, zrangebyscore, zrangestore, zremrangebylex, zremrangebyrank,
    zremrangebyscore, zrevrange, zrevrangebylex, zrevrangebyscore,
};
use redstart_types::encoding::listpack::Element;
use redstart_types::number;
use redstart_types::zset::{Change, Entry, Limits, ZSet};
use smallvec::SmallVec;
use std::collections::HashSet;

/// The most members a reply of ZRANDMEMBER repeats.
const RANDOM_MAX: i64 = 1 << 32;

const READS: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)];
const DELETES: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_DELETE)];
const POPS: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)];
const POPS_ALL_BUT_LAST: &[KeySpec] = &[KeySpec::at(1).range(-2, 1, 0).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)];
const READS_MANY: &[KeySpec] = &[KeySpec::at(1).keynum(0, 1, 1).flags(KEY_RO | KEY_ACCESS)];
const STORES_MANY: &[KeySpec] =
    &[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE), KeySpec::at(2).keynum(0, 1, 1).flags(KEY_RO | KEY_ACCESS)];

/// The family's table.
pub const COMMANDS: &[Command] = &[
    command("bzmpop", -5, bzmpop, "7.0.0")
        .flags(WRITE | BLOCKING | MOVABLEKEYS)
        .keys(&[KeySpec::at(2).keynum(0, 1, 1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)]),
    command("bzpopmax", -3, bzpopmax, "5.0.0").flags(WRITE | BLOCKING | FAST).keys(POPS_ALL_BUT_LAST),
    command("bzpopmin", -3, bzpopmin, "5.0.0").flags(WRITE | BLOCKING | FAST).keys(POPS_ALL_BUT_LAST),
    command("zadd", -4, zadd, "1.2.0").flags(WRITE | DENYOOM | FAST).keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)]),
    command("zcard", 2, zcard, "1.2.0").flags(READONLY | FAST).keys(&[KeySpec::at(1).flags(KEY_RO)]),
    command("zcount", 4, zcount, "2.0.0").flags(READONLY | FAST).keys(READS),
    command("zdiff", -3, zdiff, "6.2.0").flags(READONLY | MOVABLEKEYS).keys(READS_MANY),
    command("zdiffstore", -4, zdiffstore, "6.2.0").flags(WRITE | DENYOOM | MOVABLEKEYS).keys(STORES_MANY),
    command("zincrby", 4, zincrby, "1.2.0")
        .flags(WRITE | DENYOOM | FAST)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    command("zinter", -3, zinter, "6.2.0").flags(READONLY | MOVABLEKEYS).keys(READS_MANY),
    command("zintercard", -3, zintercard, "7.0.0").flags(READONLY | MOVABLEKEYS).keys(READS_MANY),
    command("zinterstore", -4, zinterstore, "2.0.0").flags(WRITE | DENYOOM | MOVABLEKEYS).keys(STORES_MANY),
    command("zlexcount", 4, zlexcount, "2.8.9").flags(READONLY | FAST).keys(READS),
    command("zmpop", -4, zmpop, "7.0.0")
        .flags(WRITE | MOVABLEKEYS)
        .keys(&[KeySpec::at(1).keynum(0, 1, 1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)]),
    command("zmscore", -3, zmscore, "6.2.0").flags(READONLY | FAST).keys(READS),
    command("zpopmax", -2, zpopmax, "5.0.0").flags(WRITE | FAST).keys(POPS),
    command("zpopmin", -2, zpopmin, "5.0.0").flags(WRITE | FAST).keys(POPS),
    command("zrandmember", -2, zrandmember, "6.2.0").flags(READONLY).keys(READS).tips(&["nondeterministic_output"]),
    command("zrange", -4, zrange, "1.2.0").flags(READONLY).keys(READS),
    command("zrangebylex", -4, zrangebylex, "2.8.9").flags(READONLY).keys(READS),
    command("zrangebyscore", -4, zrangebyscore, "1.0.5").flags(READONLY).keys(READS),
    command("zrangestore", -5, zrangestore, "6.2.0")
        .flags(WRITE | DENYOOM)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE), KeySpec::at(2).flags(KEY_RO | KEY_ACCESS)]),
    command("zrank", -3, zrank, "2.0.0").flags(READONLY | FAST).keys(READS),
    command("zrem", -3, zrem, "1.2.0").flags(WRITE | FAST).keys(DELETES),
    command("zremrangebylex", 4, zremrangebylex, "2.8.9").flags(WRITE).keys(DELETES),
    command("zremrangebyrank", 4, zremrangebyrank, "2.0.0").flags(WRITE).keys(DELETES),
    command("zremrangebyscore", 4, zremrangebyscore, "1.2.0").flags(WRITE).keys(DELETES),
    command("zrevrange", -4, zrevrange, "1.2.0").flags(READONLY).keys(READS),
    command("zrevrangebylex", -4, zrevrangebylex, "2.8.9").flags(READONLY).keys(READS),
    command("zrevrangebyscore", -4, zrevrangebyscore, "2.2.0").flags(READONLY).keys(READS),
    command("zrevrank", -3, zrevrank, "2.0.0").flags(READONLY | FAST).keys(READS),
    command("zscan", -3, zscan, "2.8.0").flags(READONLY).keys(READS).tips(&["nondeterministic_output"]),
    command("zscore", 3, zscore, "1.2.0").flags(READONLY | FAST).keys(READS),
    command("zunion", -3, zunion, "6.2.0").flags(READONLY | MOVABLEKEYS).keys(READS_MANY),
    command("zunionstore", -4, zunionstore, "2.0.0").flags(WRITE | DENYOOM | MOVABLEKEYS).keys(STORES_MANY),
];

const fn command(name: &'static str, arity: i32, handler: Handler, since: &'static str) -> Command {
    Command::new(name, arity, handler).acl(acl::SORTEDSET).since(since)
}

/// What ZADD was asked to do besides adding.
#[derive(Clone, Copy, Default)]
pub(super) struct AddOptions {
    pub(super) nx: bool,
    pub(super) xx: bool,
    gt: bool,
    lt: bool,
    pub(super) ch: bool,
    incr: bool,
}

impl AddOptions {
    fn parse(args: &mut Args) -> Self {
        let mut options = Self::default();
        while let Some(word) = args.one_of(&["NX", "XX", "GT", "LT", "CH", "INCR"]) {
            match word {
                0 => options.nx = true,
                1 => options.xx = true,
                2 => options.gt = true,
                3 => options.lt = true,
                4 => options.ch = true,
                _ => options.incr = true,
            }
        }
        options
    }

    fn check(self, pairs: usize) -> CmdResult {
        if self.nx && self.xx {
            return Err(CmdError::Text("ERR XX and NX options at the same time are not compatible"));
        }
        if ((self.gt || self.lt) && self.nx) || (self.gt && self.lt) {
            return Err(CmdError::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.incr && pairs > 1 {
            return Err(CmdError::Text("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score a member gets that has `current` now; `None` leaves it. It may be NaN after an increment.
    fn choose(self, current: Option<f64>, score: f64) -> Option<f64> {
        let Some(old) = current else { return (!self.xx).then_some(score) };
        if self.nx {
            return None;
        }
        let score = if self.incr { old + score } else { score };
        let is_refused = (self.lt && score >= old) || (self.gt && score <= old);
        (!is_refused).then_some(score)
    }
}

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]`: integer reply, how many members were
/// added (with CH: added or given another score); with INCR a double, or null when an option held it back.
/// Source: Redis 7.2 ZADD.
fn zadd(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let options = AddOptions::parse(args);
    add(ctx, key, options, args.rest())
}

/// `ZINCRBY key increment member`: double reply, the new score. A member that is not there counts as 0.
/// Source: Redis 7.2 ZINCRBY.
fn zincrby(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let options = AddOptions { incr: true, ..AddOptions::parse(args) };
    add(ctx, key, options, args.rest())
}

/// Adds `pairs` of scores and members and replies. All scores are read before anything changes.
fn add(ctx: &mut Ctx, key: Key<'_>, options: AddOptions, pairs: &[&[u8]]) -> CmdResult {
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(CmdError::Syntax);
    }
    options.check(pairs.len() / 2)?;
    let (pairs, _) = pairs.as_chunks::<2>();
    let scored = pairs
        .iter()
        .map(|[score, member]| number::parse_double(score).map(|score| (score, *member)).ok_or(CmdError::NotAFloat));
    let scored = scored.collect::<CmdResult<SmallVec<[(f64, &[u8]); 8]>>>()?;
    add_scored(ctx, key, options, &scored)
}

/// Adds members, at least one, and replies.
pub(super) fn add_scored(ctx: &mut Ctx, key: Key<'_>, options: AddOptions, scored: &[(f64, &[u8])]) -> CmdResult {
    if options.xx && ctx.db.write_as::<ZSet>(key)?.is_none() {
        if options.incr {
            ctx.reply.null()
        } else {
            ctx.reply.integer(0)
        }
        return Ok(());
    }
    let limits = limits(ctx);
    let zset = ctx.db.write_or_insert(key, || ZSet::for_members(scored.len(), scored[0].1.len(), &limits))?;
    zset.expect_members(scored.len(), &limits);
    let (mut added, mut updated, mut stored) = (0, 0, None);
    for &(score, member) in scored {
        stored = None;
        let change = zset.update(member, &limits, |current| {
            stored = options.choose(current, score);
            stored.filter(|score| !score.is_nan())
        });
        added += usize::from(change == Change::Added);
        updated += usize::from(change == Change::Updated);
    }
    // Only an increment can come to this, and there is only one then.
    if stored.is_some_and(f64::is_nan) {
        return Err(CmdError::Text("ERR resulting score is not a number (NaN)"));
    }
    if added + updated > 0 {
        ctx.changed_by(added + updated, key, KeyspaceEvents::ZSET, if options.incr { "zincr" } else { "zadd" });
    }
    match stored {
        Some(score) if options.incr => ctx.reply.double(score),
        None if options.incr => ctx.reply.null(),
        _ => ctx.reply.len(if options.ch { added + updated } else { added }),
    }
    Ok(())
}

/// `ZREM key member [member ...]`: integer reply, how many were there. Source: Redis 7.2 ZREM.
fn zrem(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let Some(zset) = ctx.db.write_as::<ZSet>(key)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let removed = args.rest().iter().filter(|member| zset.remove(member).is_some()).count();
    if removed > 0 {
        ctx.changed_by(removed, key, KeyspaceEvents::ZSET, "zrem");
        drop_if_empty(ctx, key);
    }
    ctx.reply.len(removed);
    Ok(())
}

/// `ZCARD key`: integer reply, the number of members. Source: Redis 7.2 ZCARD.
fn zcard(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let len = ctx.db.read_as::<ZSet>(args.key()?)?.map_or(0, ZSet::len);
    ctx.reply.len(len);
    Ok(())
}

/// `ZSCORE key member`: double reply, or null. Source: Redis 7.2 ZSCORE.
fn zscore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let zset = ctx.db.read_as::<ZSet>(args.key()?)?;
    let member = args.bytes()?;
    double_or_null(ctx.reply, zset.and_then(|zset| zset.score(member)));
    Ok(())
}

/// `ZMSCORE key member [member ...]`: an array of doubles and nulls. Source: Redis 7.2 ZMSCORE.
fn zmscore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let zset = ctx.db.read_as::<ZSet>(args.key()?)?;
    ctx.reply.array(args.remaining());
    for member in args.rest() {
        double_or_null(ctx.reply, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

/// `ZRANK key member [WITHSCORE]`: integer reply, 0 for the lowest score, or null; with WITHSCORE an array of rank
/// and score, or a null array. Source: Redis 7.2 ZRANK.
fn zrank(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    rank(ctx, args, false)
}

/// `ZREVRANK key member [WITHSCORE]`: as ZRANK, 0 for the highest score. Source: Redis 7.2 ZREVRANK.
fn zrevrank(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    rank(ctx, args, true)
}

fn rank(ctx: &mut Ctx, args: &mut Args, reverse: bool) -> CmdResult {
    let (key, member) = (args.key()?, args.bytes()?);
    if args.remaining() > 1 {
        return Err(args.arity_error());
    }
    let with_score = args.flag("WITHSCORE");
    args.finish()?;
    let zset = ctx.db.read_as::<ZSet>(key)?;
    let found = zset.and_then(|zset| {
        let (rank, score) = zset.rank(member)?;
        Some((if reverse { zset.len() - 1 - rank } else { rank }, score))
    });
    match found {
        Some((rank, score)) if with_score => {
            ctx.reply.array(2);
            ctx.reply.len(rank);
            ctx.reply.double(score);
        }
        Some((rank, _)) => ctx.reply.len(rank),
        None if with_score => ctx.reply.null_array(),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `ZRANDMEMBER key [count [WITHSCORES]]`: without a count a bulk string or null. With one an array: up to `count`
/// different members, or for a negative count exactly that many, perhaps some more than once. With WITHSCORES each
/// is followed by its score (RESP3: arrays of two). Source: Redis 7.2 ZRANDMEMBER. Unlike Redis, a count that would
/// make a reply of more than 2^32 members is out of range.
fn zrandmember(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    if args.is_empty() {
        let mut rng = ctx.server.random.small();
        match ctx.db.read_as::<ZSet>(key)?.and_then(|zset| zset.random(&mut rng)) {
            Some(entry) => bulk(ctx.reply, entry.member),
            None => ctx.reply.null(),
        }
        return Ok(());
    }
    let count = args.int()?;
    if count == i64::MIN {
        let text = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
        return Err(CmdError::Text(text));
    }
    let with_scores = args.flag("WITHSCORES");
    args.finish()?;
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CmdError::OutOfRange);
    }
    let mut rng = ctx.server.random.small();
    let Some(zset) = ctx.db.read_as::<ZSet>(key)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    if count < -RANDOM_MAX {
        return Err(CmdError::OutOfRange);
    }
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        entries_head(ctx.reply, wanted, with_scores);
        for _ in 0..wanted {
            let drawn = zset.random(&mut rng).expect("no key holds an empty sorted set");
            entry(ctx.reply, drawn, with_scores);
            if ctx.reply.is_too_long() {
                break;
            }
        }
    } else {
        random_distinct(ctx.reply, zset, wanted.min(zset.len()), with_scores, &mut rng);
    }
    Ok(())
}

/// Replies with `count` different members, at most as many as there are.
fn random_distinct(reply: &mut Reply, zset: &ZSet, count: usize, with_scores: bool, rng: &mut SmallRng) {
    entries_head(reply, count, with_scores);
    if zset.as_listpack().is_none() && count * 3 <= zset.len() {
        // Few of many: draw ranks until there are enough of them.
        let mut ranks = HashSet::with_capacity(count);
        while ranks.len() < count {
            let rank = rng.random_range(0..zset.len());
            if ranks.insert(rank) {
                entry(reply, zset.at(rank).expect("the rank is below the length"), with_scores);
            }
        }
        return;
    }
    // Each member is taken with the chance that fills the rest of the wanted ones from the rest of the set.
    let (mut wanted, mut left) = (count, zset.len());
    for found in zset.iter() {
        if rng.random_range(0..left) < wanted {
            entry(reply, found, with_scores);
            wanted -= 1;
        }
        left -= 1;
    }
}

/// `ZSCAN key cursor [MATCH pattern] [COUNT count]`: an array of the next cursor and an array of members and their
/// scores in turn. Source: Redis 7.2 ZSCAN.
fn zscan(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let cursor = scan::parse_cursor(args.bytes()?)?;
    let Some(zset) = ctx.db.read_as::<ZSet>(key)? else {
        scan::reply_with_nothing(ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(args)?;
    let append_score = if zset.as_listpack().is_some() { number::append_double } else { append_17_digits };
    let (mut digits, mut text) = (itoa::Buffer::new(), Vec::new());
    scan::reply_with_found(ctx.reply, options, cursor, |cursor, found| {
        zset.scan(cursor, |entry| {
            let member = entry.member.text(&mut digits);
            found.take(member, |reply| {
                text.clear();
                append_score(&mut text, entry.score);
                reply.bulk(member);
                reply.bulk(&text);
                2
            });
        })
    });
    Ok(())
}

/// A score as ZSCAN shows it for a skiplist: C's `%.17Lg`, 17 significant digits without zeros at the end.
fn append_17_digits(out: &mut Vec<u8>, score: f64) {
    if !score.is_finite() {
        return number::append_double(out, score);
    }
    let scientific = format!("{score:.16e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a whole number");
    let trimmed = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    let text = if (-4..17).contains(&exponent) {
        let places = (16 - exponent) as usize;
        let plain = format!("{score:.places$}");
        if places > 0 { trimmed(&plain) } else { plain }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
    };
    out.extend_from_slice(text.as_bytes());
}

/// Replies with a double, or null.
fn double_or_null(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

/// The head of an array of `count` members: with scores, RESP2 has them in turn, RESP3 an array for each pair.
fn entries_head(reply: &mut Reply, count: usize, with_scores: bool) {
    reply.array(if with_scores && !reply.resp3 { count * 2 } else { count });
}

/// One member of such an array.
fn entry(reply: &mut Reply, entry: Entry<'_>, with_scores: bool) {
    if with_scores && reply.resp3 {
        reply.array(2);
    }
    bulk(reply, entry.member);
    if with_scores {
        reply.double(entry.score);
    }
}

/// A member as a bulk string.
pub(super) fn bulk(reply: &mut Reply, member: Element<'_>) {
    match member {
        Element::Bytes(bytes) => reply.bulk(bytes),
        Element::Int(value) => reply.bulk_integer(value),
    }
}

/// The thresholds of sorted sets as configured.
pub(super) fn limits(ctx: &Ctx) -> Limits {
    limits::zset(ctx.config, ctx.server.shards.seed())
}

/// Deletes a sorted set that has lost its last member, and says so. It counts as no change besides the removal.
fn drop_if_empty(ctx: &mut Ctx, key: Key<'_>) {
    if ctx.db.delete_if_vacant::<ZSet>(key) {
        ctx.db.notify(KeyspaceEvents::GENERIC, "del", key);
    }
}

/// Stores the result of a command at `key` in place of what is there, or deletes that when the result is empty;
/// replies with the number of members. `dirty` is how many changes a result counts for.
pub(super) fn store(ctx: &mut Ctx, key: Key<'_>, zset: ZSet, dirty: usize, event: &'static str) -> CmdResult {
    let len = zset.len();
    if len > 0 {
        ctx.db.set_value(key, Value::ZSet(zset), Expiry::Clear);
        ctx.changed_by(dirty, key, KeyspaceEvents::ZSET, event);
    } else if ctx.db.displace(key) {
        ctx.deleted(key);
    }
    ctx.reply.len(len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::append_17_digits;
    use crate::commands::testing::Checker;

    #[test]
    fn zadd_and_its_options() {
        let mut c = Checker::new();
        c.check("ZADD z 1 a 2 b", ":2");
        c.check("ZADD z 3 a", ":0");
        c.check("ZADD z CH 4 a 2 b 5 c", ":2");
        c.check("ZADD z NX 9 a 6 d", ":1");
        c.check("ZADD z XX 9 e", ":0");
        c.check("ZADD z GT CH 1 a 8 b", ":1");
        c.check("ZADD z LT CH 1 a 9 b", ":1");
        c.check("ZADD z GT XX 7 nobody", ":0");
        c.check("ZADD z INCR 2.5 a", "\"3.5\"");
        c.check("ZADD z NX INCR 1 a", "nil");
        c.check("ZADD z XX INCR 1 nobody", "nil");
        c.check("ZADD none XX 1 a", ":0");
        c.check("EXISTS none", ":0");
        c.check("ZRANGE z 0 -1 WITHSCORES", "[\"a\", \"3.5\", \"c\", \"5\", \"d\", \"6\", \"b\", \"8\"]");
    }

    #[test]
    fn zadd_refuses() {
        let mut c = Checker::new();
        c.check("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible");
        let conflict = "-ERR GT, LT, and/or NX options at the same time are not compatible";
        c.check("ZADD z GT LT 1 a", conflict);
        c.check("ZADD z GT NX 1 a", conflict);
        c.check("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair");
        c.check("ZADD z 1 a 2", "-ERR syntax error");
        c.check("ZADD z NX CH XX", "-ERR syntax error");
        c.check("ZADD z 1 a x b", "-ERR value is not a valid float");
        c.check("ZADD z nan a", "-ERR value is not a valid float");
        c.check("EXISTS z", ":0");
        c.check("ZADD z inf a", ":1");
        c.check("ZINCRBY z -inf a", "-ERR resulting score is not a number (NaN)");
        c.check("SET s x", "OK");
        c.check("ZADD s 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }

    #[test]
    fn zincrby() {
        let mut c = Checker::new();
        c.check("ZINCRBY z 2 a", "\"2\"");
        c.check("ZINCRBY z -0.5 a", "\"1.5\"");
        c.check("ZINCRBY z 0 a", "\"1.5\"");
        c.check("ZINCRBY z NX a", "-ERR syntax error");
    }

    #[test]
    fn zrem_and_zcard() {
        let mut c = Checker::new();
        c.check("ZADD z 1 a 2 b 3 c", ":3");
        c.check("ZREM z a nobody a", ":1");
        c.check("ZCARD z", ":2");
        c.check("ZREM z b c d", ":2");
        c.check("EXISTS z", ":0");
        c.check("ZREM z a", ":0");
        c.check("ZCARD z", ":0");
    }

    #[test]
    fn zscore_and_zmscore() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("ZADD z 1 a 1.5 b -inf c 7300000000000001 d 0.1 e", ":5");
        c.check("ZSCORE z a", "\"1\"");
        c.check("ZSCORE z d", "\"7300000000000001\"");
        c.check("ZSCORE z nobody", "nil");
        c.check("ZSCORE none a", "nil");
        c.check("ZMSCORE z a nobody c e", "[\"1\", nil, \"-inf\", \"0.1\"]");
        c.check("ZMSCORE none a b", "[nil, nil]");
        c.run("HELLO 3");
        c.check("ZMSCORE z b nobody c", "[,1.5, nil, ,-inf]");
    }

    #[test]
    fn zrank_and_zrevrank() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("ZADD z 1 a 2 b 3 c", ":3");
        c.check("ZRANK z a", ":0");
        c.check("ZREVRANK z a", ":2");
        c.check("ZRANK z c WITHSCORE", "[:2, \"3\"]");
        c.check("ZREVRANK z c withscore", "[:0, \"3\"]");
        c.check("ZRANK z nobody", "nil");
        c.check("ZRANK none a WITHSCORE", "nil");
        c.check("ZRANK z a WITHSCORES", "-ERR syntax error");
        c.check("ZRANK z a WITHSCORE x", "-ERR wrong number of arguments for 'zrank' command");
    }

    #[test]
    fn zrandmember() {
        let mut c = Checker::new();
        c.check("ZRANDMEMBER none", "nil");
        c.check("ZRANDMEMBER none 3", "[]");
        c.check("ZRANDMEMBER none -9223372036854775807", "[]");
        c.check("ZADD z 1 a", ":1");
        c.check("ZRANDMEMBER z", "\"a\"");
        c.check("ZRANDMEMBER z 5", "[\"a\"]");
        c.check("ZRANDMEMBER z 0", "[]");
        c.check("ZRANDMEMBER z -3", "[\"a\", \"a\", \"a\"]");
        c.check("ZRANDMEMBER z -2 WITHSCORES", "[\"a\", \"1\", \"a\", \"1\"]");
        c.check("ZRANDMEMBER z 1 SCORES", "-ERR syntax error");
        c.check("ZRANDMEMBER z x", "-ERR value is not an integer or out of range");
        c.check("ZRANDMEMBER z -9223372036854775807 WITHSCORES", "-ERR value is out of range");
        c.check(
            "ZRANDMEMBER z -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        );
        c.check_here("ZRANDMEMBER z -5000000000", "-ERR value is out of range");
        c.run("HELLO 3");
        c.check("ZRANDMEMBER z 2 WITHSCORES", "[[\"a\", ,1]]");
    }

    #[test]
    fn zrandmember_gives_different_members_for_a_positive_count() {
        let mut c = Checker::new();
        for count in [20, 300] {
            (0..count).for_each(|n| drop(c.run(&format!("ZADD z {n} member:{n}"))));
            for wanted in [1, 5, count / 2, count, count + 5] {
                let reply = c.run(&format!("ZRANDMEMBER z {wanted}"));
                let mut members: Vec<_> = reply.trim_matches(['[', ']']).split(", ").collect();
                members.sort_unstable();
                members.dedup();
                assert_eq!(members.len(), wanted.min(count), "{reply}");
            }
        }
    }

    #[test]
    fn zscan() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("ZADD z 1 a 0.1 b 2 ab", ":3");
        c.check("ZSCAN z 0", "[\"0\", [\"b\", \"0.1\", \"a\", \"1\", \"ab\", \"2\"]]");
        c.check("ZSCAN z 0 MATCH a* COUNT 1", "[\"0\", [\"a\", \"1\", \"ab\", \"2\"]]");
        c.check("ZSCAN none 0 NONSENSE", "[\"0\", []]");
        c.check("ZSCAN z x", "-ERR invalid cursor");
        c.check("ZSCAN z 0 COUNT 0", "-ERR syntax error");
        c.check("ZSCAN z 0 COUNT x", "-ERR value is not an integer or out of range");
        c.check("ZSCAN z 0 MATCH", "-ERR syntax error");
        let long = "x".repeat(65);
        c.check(&format!("ZADD big 0.1 {long}"), ":1");
        c.check("ZSCAN big 0", &format!("[\"0\", [\"{long}\", \"0.10000000000000001\"]]"));
    }

    #[test]
    fn zscan_of_a_large_set_shows_every_member() {
        let mut c = Checker::new();
        (0..500).for_each(|n| drop(c.run(&format!("ZADD z {n} member:{n}"))));
        let (mut cursor, mut seen) = ("0".to_owned(), std::collections::HashSet::new());
        loop {
            let reply = c.run(&format!("ZSCAN z {cursor} COUNT 7"));
            let mut texts = reply.split('"').skip(1).step_by(2).map(str::to_owned);
            cursor = texts.next().unwrap();
            seen.extend(texts.filter(|text| text.starts_with("member:")));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 500);
    }

    /// Expected: C's `%.17Lg`.
    #[test]
    fn seventeen_digits() {
        for (score, expected) in [
            (0.1, "0.10000000000000001"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::INFINITY, "inf"),
            (7_300_000_000_000_001.0, "7300000000000001"),
        ] {
            let mut text = Vec::new();
            append_17_digits(&mut text, score);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}
