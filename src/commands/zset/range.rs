//! Ranges of a sorted set by rank, score or bytes: to read, to store, to count, to remove.

use super::{drop_if_empty, entries_head, entry, limits, store};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::config::KeyspaceEvents;
use redstart_types::number;
use redstart_types::zset::{Entries, LexBound, Order, Range, ScoreBound, ZSet};

/// What the two bounds of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range as the client gave it.
enum Bounds<'a> {
    /// Both included; negative ones count from the end. The first rank is that of the highest score when descending.
    Ranks(i64, i64),
    Range(Range<'a>),
}

/// All that a ZRANGE asks for.
struct Request<'a> {
    bounds: Bounds<'a>,
    order: Order,
    with_scores: bool,
    /// Negative: an offset behind the end.
    offset: i64,
    /// Negative: no limit.
    limit: i64,
}

/// `ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`: an array of members; with
/// WITHSCORES each is followed by its score (RESP3: arrays of two). Source: Redis 7.2 ZRANGE.
pub(super) fn zrange(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, None, None)
}

/// `ZREVRANGE key start stop [WITHSCORES]`: as ZRANGE with REV. Source: Redis 7.2 ZREVRANGE.
pub(super) fn zrevrange(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Some(By::Rank), Some(Order::Descending))
}

/// `ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`: as ZRANGE with BYSCORE.
/// Source: Redis 7.2 ZRANGEBYSCORE.
pub(super) fn zrangebyscore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Some(By::Score), Some(Order::Ascending))
}

/// `ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`: as ZRANGE with BYSCORE and REV.
/// Source: Redis 7.2 ZREVRANGEBYSCORE.
pub(super) fn zrevrangebyscore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Some(By::Score), Some(Order::Descending))
}

/// `ZRANGEBYLEX key min max [LIMIT offset count]`: as ZRANGE with BYLEX. Source: Redis 7.2 ZRANGEBYLEX.
pub(super) fn zrangebylex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Some(By::Lex), Some(Order::Ascending))
}

/// `ZREVRANGEBYLEX key max min [LIMIT offset count]`: as ZRANGE with BYLEX and REV.
/// Source: Redis 7.2 ZREVRANGEBYLEX.
pub(super) fn zrevrangebylex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Some(By::Lex), Some(Order::Descending))
}

fn read(ctx: &mut Ctx, args: &mut Args, by: Option<By>, order: Option<Order>) -> CmdResult {
    let key = args.key()?;
    let request = Request::parse(args, by, order, false)?;
    let Some(zset) = ctx.db.read_as::<ZSet>(key)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    if let Some(len) = request.known_len(zset) {
        entries_head(ctx.reply, len, request.with_scores);
        request.entries(zset).for_each(|found| entry(ctx.reply, found, request.with_scores));
        return Ok(());
    }
    let start = ctx.reply.begin();
    let mut len = 0;
    for found in request.entries(zset) {
        entry(ctx.reply, found, request.with_scores);
        len += 1;
    }
    let flat = request.with_scores && !ctx.reply.resp3;
    ctx.reply.end_array(start, if flat { len * 2 } else { len });
    Ok(())
}

/// `ZRANGESTORE dst src start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count]`: integer reply, how many members
/// `dst` has now; none deletes it. Source: Redis 7.2 ZRANGESTORE.
pub(super) fn zrangestore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (destination, source) = (args.key()?, args.key()?);
    let request = Request::parse(args, None, None, true)?;
    let limits = limits(ctx);
    let mut result = ZSet::for_members(0, 0, &limits);
    if let Some(zset) = ctx.db.read_as::<ZSet>(source)? {
        result = ZSet::for_members(request.known_len(zset).unwrap_or(0), 0, &limits);
        let mut member = Vec::new();
        for entry in request.entries(zset) {
            member.clear();
            entry.member.append_to(&mut member);
            result.insert(&member, entry.score, &limits);
        }
    }
    store(ctx, destination, result, 1, "zrangestore")
}

/// `ZCOUNT key min max`: integer reply, how many members have a score in the range. Source: Redis 7.2 ZCOUNT.
pub(super) fn zcount(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    count(ctx, args, By::Score)
}

/// `ZLEXCOUNT key min max`: integer reply, how many members lie in the range. Source: Redis 7.2 ZLEXCOUNT.
pub(super) fn zlexcount(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    count(ctx, args, By::Lex)
}

fn count(ctx: &mut Ctx, args: &mut Args, by: By) -> CmdResult {
    let key = args.key()?;
    let bounds = Bounds::parse(by, args.bytes()?, args.bytes()?)?;
    let zset = ctx.db.read_as::<ZSet>(key)?;
    let count = zset.map_or(0, |zset| zset.count(&bounds.resolve(zset.len(), Order::Ascending)));
    ctx.reply.len(count);
    Ok(())
}

/// `ZREMRANGEBYRANK key start stop`: integer reply, how many members it took out. Source: Redis 7.2 ZREMRANGEBYRANK.
pub(super) fn zremrangebyrank(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    remove(ctx, args, By::Rank, "zremrangebyrank")
}

/// `ZREMRANGEBYSCORE key min max`: integer reply, how many members it took out. Source: Redis 7.2 ZREMRANGEBYSCORE.
pub(super) fn zremrangebyscore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    remove(ctx, args, By::Score, "zremrangebyscore")
}

/// `ZREMRANGEBYLEX key min max`: integer reply, how many members it took out. Source: Redis 7.2 ZREMRANGEBYLEX.
pub(super) fn zremrangebylex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    remove(ctx, args, By::Lex, "zremrangebylex")
}

fn remove(ctx: &mut Ctx, args: &mut Args, by: By, event: &'static str) -> CmdResult {
    let key = args.key()?;
    let bounds = Bounds::parse(by, args.bytes()?, args.bytes()?)?;
    let (mut removed, mut has_dead) = (0, false);
    if let Some(zset) = ctx.db.write_as::<ZSet>(key)? {
        removed = zset.remove_range(&bounds.resolve(zset.len(), Order::Ascending));
        has_dead = zset.has_dead();
    }
    if has_dead {
        ctx.db.shard_db_mut(key).sweep_later(key.bytes);
    }
    if removed > 0 {
        ctx.changed_by(removed, key, KeyspaceEvents::ZSET, event);
        drop_if_empty(ctx, key);
    }
    ctx.reply.len(removed);
    Ok(())
}

impl<'a> Request<'a> {
    /// Reads bounds and options. What the command's name says already (`by`, `order`) is no option then; nor are
    /// scores when the result is stored.
    fn parse(args: &mut Args<'a>, by: Option<By>, order: Option<Order>, stores: bool) -> CmdResult<Self> {
        let (first, second) = (args.bytes()?, args.bytes()?);
        let (mut chosen_by, mut chosen_order) = (by, order);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        while !args.is_empty() {
            if !stores && args.flag("WITHSCORES") {
                with_scores = true;
            } else if args.remaining() >= 3 && args.flag("LIMIT") {
                (offset, limit) = (args.int()?, args.int()?);
            } else if order.is_none() && chosen_order.is_none() && args.flag("REV") {
                chosen_order = Some(Order::Descending);
            } else if chosen_by.is_none() && args.flag("BYLEX") {
                chosen_by = Some(By::Lex);
            } else if chosen_by.is_none() && args.flag("BYSCORE") {
                chosen_by = Some(By::Score);
            } else {
                return Err(CmdError::Syntax);
            }
        }
        let by = chosen_by.unwrap_or(By::Rank);
        let order = chosen_order.unwrap_or(Order::Ascending);
        if limit != -1 && by == By::Rank {
            return Err(CmdError::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CmdError::Text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        // Going down, scores and bytes are given from the highest on; ranks never are.
        let swap = order == Order::Descending && by != By::Rank;
        let (min, max) = if swap { (second, first) } else { (first, second) };
        Ok(Self { bounds: Bounds::parse(by, min, max)?, order, with_scores, offset, limit })
    }

    /// The number of members when that costs nothing to know.
    fn known_len(&self, zset: &ZSet) -> Option<usize> {
        match &self.bounds {
            Bounds::Ranks(..) => Some(zset.count(&self.bounds.resolve(zset.len(), self.order))),
            Bounds::Range(_) => None,
        }
    }

    fn entries<'z>(&self, zset: &'z ZSet) -> Entries<'z>
    where
        'a: 'z,
    {
        let range = self.bounds.resolve(zset.len(), self.order);
        let is_rank = matches!(self.bounds, Bounds::Ranks(..));
        let offset = if is_rank { 0 } else { usize::try_from(self.offset).unwrap_or(usize::MAX) };
        let limit = if is_rank { usize::MAX } else { usize::try_from(self.limit).unwrap_or(usize::MAX) };
        zset.entries(&range, self.order, offset, limit)
    }
}

impl<'a> Bounds<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> CmdResult<Self> {
        match by {
            By::Rank => {
                let rank = |text| number::parse_int(text).ok_or(CmdError::NotAnInteger);
                Ok(Self::Ranks(rank(min)?, rank(max)?))
            }
            By::Score => {
                let bounds = ScoreBound::parse(min).zip(ScoreBound::parse(max));
                let (min, max) = bounds.ok_or(CmdError::Text("ERR min or max is not a float"))?;
                Ok(Self::Range(Range::Scores(min, max)))
            }
            By::Lex => {
                let bounds = LexBound::parse(min).zip(LexBound::parse(max));
                let (min, max) = bounds.ok_or(CmdError::Text("ERR min or max not valid string range item"))?;
                Ok(Self::Range(Range::Lex(min, max)))
            }
        }
    }

    /// The range within a set of `len` members.
    fn resolve(&self, len: usize, order: Order) -> Range<'a> {
        let (start, end) = match self {
            Self::Range(range) => return *range,
            Self::Ranks(start, end) => (*start, *end),
        };
        let len = i64::try_from(len).expect("nothing in memory has 2^63 elements");
        let from_end = |rank: i64| if rank < 0 { len + rank } else { rank };
        let (start, end) = (from_end(start).max(0), from_end(end).min(len - 1));
        if start > end {
            return Range::Ranks(0, 0);
        }
        let (start, end) = match order {
            Order::Ascending => (start, end + 1),
            Order::Descending => (len - 1 - end, len - start),
        };
        Range::Ranks(start as usize, end as usize)
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    fn with_six() -> Checker {
        let mut c = Checker::new();
        c.check("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f", ":6");
        c
    }

    #[test]
    fn zrange_by_rank() {
        let mut c = with_six();
        c.check("ZRANGE z 0 1", "[\"a\", \"b\"]");
        c.check("ZRANGE z -2 100", "[\"e\", \"f\"]");
        c.check("ZRANGE z 0 1 REV WITHSCORES", "[\"f\", \"6\", \"e\", \"5\"]");
        c.check("ZREVRANGE z 1 2", "[\"e\", \"d\"]");
        c.check("ZREVRANGE z -1 -1 WITHSCORES", "[\"a\", \"1\"]");
        c.check("ZRANGE z 3 2", "[]");
        c.check("ZRANGE z 6 9", "[]");
        c.check("ZRANGE none 0 -1", "[]");
        c.run("HELLO 3");
        c.check("ZRANGE z 0 1 WITHSCORES", "[[\"a\", ,1], [\"b\", ,2]]");
    }

    #[test]
    fn zrange_by_score() {
        let mut c = with_six();
        c.check("ZRANGE z (1 3 BYSCORE", "[\"b\", \"c\"]");
        c.check("ZRANGE z 3 (1 BYSCORE REV", "[\"c\", \"b\"]");
        c.check("ZRANGEBYSCORE z -inf +inf LIMIT 1 2", "[\"b\", \"c\"]");
        c.check("ZRANGEBYSCORE z 2 5 WITHSCORES LIMIT 0 1", "[\"b\", \"2\"]");
        c.check("ZREVRANGEBYSCORE z +inf 4 LIMIT 1 -1", "[\"e\", \"d\"]");
        c.check("ZRANGEBYSCORE z 0 10 LIMIT -1 2", "[]");
        c.check("ZRANGEBYSCORE z 0 10 LIMIT 6 2", "[]");
        c.check("ZRANGEBYSCORE z 5 2", "[]");
        c.check("ZRANGEBYSCORE z x 2", "-ERR min or max is not a float");
        c.check("ZRANGEBYSCORE z 1 nan", "-ERR min or max is not a float");
        c.check("ZRANGEBYSCORE z \"(1\\x00x\" \"2\\x00\"", "[\"b\"]");
        c.run("HELLO 3");
        c.check("ZRANGEBYSCORE z 5 6 WITHSCORES", "[[\"e\", ,5], [\"f\", ,6]]");
    }

    #[test]
    fn zrange_by_lex() {
        let mut c = Checker::new();
        c.check("ZADD z 0 a 0 b 0 c 0 10 0 9", ":5");
        c.check("ZRANGE z - + BYLEX", "[\"10\", \"9\", \"a\", \"b\", \"c\"]");
        c.check("ZRANGEBYLEX z [a (c", "[\"a\", \"b\"]");
        c.check("ZREVRANGEBYLEX z (c - LIMIT 0 2", "[\"b\", \"a\"]");
        c.check("ZRANGE z + [b BYLEX REV", "[\"c\", \"b\"]");
        c.check("ZRANGEBYLEX z + -", "[]");
        c.check("ZLEXCOUNT z [9 +", ":4");
        c.check("ZLEXCOUNT z (a (b", ":0");
        c.check("ZRANGEBYLEX z a b", "-ERR min or max not valid string range item");
        c.check("ZLEXCOUNT none - +", ":0");
        c.check("ZREMRANGEBYLEX z [10 [9", ":2");
        c.check("ZREMRANGEBYLEX z x y", "-ERR min or max not valid string range item");
    }

    #[test]
    fn zrange_refuses() {
        let mut c = with_six();
        c.check(
            "ZRANGE z 0 -1 LIMIT 0 1",
            "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        );
        c.check(
            "ZRANGEBYLEX z - + WITHSCORES",
            "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        );
        c.check("ZRANGE z 0 -1 BYLEX BYSCORE", "-ERR syntax error");
        c.check("ZRANGE z 0 -1 REV REV", "-ERR syntax error");
        c.check("ZREVRANGE z 0 -1 REV", "-ERR syntax error");
        c.check("ZRANGE z 0 -1 LIMIT 1", "-ERR syntax error");
        c.check("ZRANGE z 0 x", "-ERR value is not an integer or out of range");
        c.check("SET s x", "OK");
        c.check("ZRANGE s 0 -1", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }

    #[test]
    fn zrangestore() {
        let mut c = with_six();
        c.check("ZRANGESTORE dst z 1 2", ":2");
        c.check("ZRANGE dst 0 -1 WITHSCORES", "[\"b\", \"2\", \"c\", \"3\"]");
        c.check("ZRANGESTORE dst z 5 2 BYSCORE REV LIMIT 1 2", ":2");
        c.check("ZRANGE dst 0 -1", "[\"c\", \"d\"]");
        c.check("ZRANGESTORE z z 0 0", ":1");
        c.check("ZRANGESTORE dst z 5 6", ":0");
        c.check("EXISTS dst", ":0");
        c.check("ZRANGESTORE dst none 0 -1", ":0");
        c.check("ZRANGESTORE dst z 0 -1 WITHSCORES", "-ERR syntax error");
    }

    #[test]
    fn zcount() {
        let mut c = with_six();
        c.check("ZCOUNT z 2 (5", ":3");
        c.check("ZCOUNT z -inf inf", ":6");
        c.check("ZCOUNT z 5 2", ":0");
        c.check("ZCOUNT none 0 1", ":0");
        c.check("ZCOUNT z 0 x", "-ERR min or max is not a float");
    }

    #[test]
    fn zremrangeby() {
        let mut c = with_six();
        c.check("ZREMRANGEBYRANK z 0 1", ":2");
        c.check("ZREMRANGEBYRANK z 7 9", ":0");
        c.check("ZREMRANGEBYRANK z 0 x", "-ERR value is not an integer or out of range");
        c.check("ZREMRANGEBYSCORE z (3 4", ":1");
        c.check("ZREMRANGEBYSCORE z x 4", "-ERR min or max is not a float");
        c.check("ZRANGE z 0 -1", "[\"c\", \"e\", \"f\"]");
        c.check("ZREMRANGEBYSCORE z -inf +inf", ":3");
        c.check("EXISTS z", ":0");
        c.check("ZREMRANGEBYRANK z 0 -1", ":0");
    }

    /// What a long range leaves in the table, until the periodic work has come by, is seen by no command.
    #[test]
    fn what_a_long_range_leaves_behind_is_not_seen() {
        let mut c = Checker::new();
        c.run("DEBUG PAUSE-CRON 1");
        c.run("EVAL \"for n = 1, 4000 do redis.call('ZADD', 'z', n, 'm' .. n) end\" 1 z");
        c.check("ZREMRANGEBYSCORE z 1001 3000", ":2000");
        c.check("ZCARD z", ":2000");
        c.check("ZMSCORE z m1000 m1001 m3000 m3001", "[\"1000\", nil, nil, \"3001\"]");
        c.check("ZRANK z m3001", ":1000");
        c.check("ZREVRANK z m2000", "nil");
        c.check("ZCOUNT z 991 3010", ":20");
        c.check("ZRANGE z 999 1000", "[\"m1000\", \"m3001\"]");
        c.check("ZRANGEBYSCORE z 1001 3000", "[]");
        c.check("ZREMRANGEBYSCORE z 1001 3000", ":0");
        c.check("SORT z BY nosort LIMIT 999 2", "[\"m1000\", \"m3001\"]");
        c.check("OBJECT ENCODING z", "\"skiplist\"");
        let scanned = "local seen, cursor = 0, '0' repeat local page = redis.call('ZSCAN', 'z', cursor, 'COUNT', 100) \
            cursor = page[1] seen = seen + #page[2] / 2 until cursor == '0' return seen";
        c.check(&format!("EVAL \"{scanned}\" 1 z"), ":2000");
        let drawn = "for _, member in ipairs(redis.call('ZRANDMEMBER', 'z', -5000)) do \
            if not redis.call('ZSCORE', 'z', member) then return member end end";
        c.check(&format!("EVAL \"{drawn}\" 1 z"), "nil");
        c.check("ZUNIONSTORE other 1 z", ":2000");
        c.check("ZINTERCARD 2 z other", ":2000");
        c.check("ZDIFFSTORE other 2 z other", ":0");
        c.check("ZRANGESTORE other z 0 -1", ":2000");
        c.check("COPY z other REPLACE", ":1");
        c.check("ZCARD other", ":2000");
        c.check("EVAL \"return redis.call('RESTORE', 'other', 0, redis.call('DUMP', 'z'), 'REPLACE')\" 1 z", "OK");
        c.check("ZMSCORE other m1000 m1001", "[\"1000\", nil]");
        c.check("ZREM z m1001 m1002", ":0");
        c.check("ZADD z XX CH 5 m1001", ":0");
        c.check("ZADD z NX CH 5.5 m1001", ":1");
        c.check("ZADD z GT CH 7 m1002", ":1");
        c.check("ZADD z INCR 2 m1003", "\"2\"");
        c.check("ZINCRBY z 3 m1004", "\"3\"");
        c.check("GEOADD z 0 0 m1005", ":1");
        c.check("ZMSCORE z m1001 m1002 m1003 m1004", "[\"5.5\", \"7\", \"2\", \"3\"]");
        c.check("ZREM z m1001 m1002 m1003 m1004 m1005 m1006", ":5");
        c.check("EVAL \"return #redis.call('ZPOPMAX', 'z', 1500)\" 1 z", ":3000");
        c.check("ZRANGE z -1 -1 WITHSCORES", "[\"m500\", \"500\"]");
        c.check("RENAME z y", "OK");
        c.check("ZPOPMIN y", "[\"m1\", \"1\"]");
        c.check("ZREMRANGEBYLEX y - +", ":499");
        c.check("EXISTS y", ":0");
        c.run("DEBUG PAUSE-CRON 0");
    }
}
