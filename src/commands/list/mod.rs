//! Lists: pushing, popping, reading and editing one list. What moves between lists or waits is in `transfer`.

mod transfer;

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::config::{Config, KeyspaceEvents};
use crate::keyspace::{Key, limits};
use crate::server::Server;
use redstart_types::list::{End, List, ListLimits};
use transfer::{blmove, blmpop, blpop, brpop, brpoplpush, lmove, lmpop, rpoplpush};

const READ: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)];
const PUSH: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_INSERT)];
const POP: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)];
const POP_ANY: &[KeySpec] = &[KeySpec::at(1).range(-2, 1, 0).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)];
const REMOVE: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_DELETE)];
const MOVE: &[KeySpec] =
    &[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE), KeySpec::at(2).flags(KEY_RW | KEY_INSERT)];

pub const COMMANDS: &[Command] = &[
    Command::new("blmove", 6, blmove).flags(BLOCKING | DENYOOM | WRITE).acl(acl::LIST).keys(MOVE).since("6.2.0"),
    Command::new("blmpop", -5, blmpop)
        .flags(BLOCKING | MOVABLEKEYS | WRITE)
        .acl(acl::LIST)
        .keys(&[KeySpec::at(2).keynum(0, 1, 1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)])
        .since("7.0.0"),
    Command::new("blpop", -3, blpop).flags(BLOCKING | WRITE).acl(acl::LIST).keys(POP_ANY).since("2.0.0"),
    Command::new("brpop", -3, brpop).flags(BLOCKING | WRITE).acl(acl::LIST).keys(POP_ANY).since("2.0.0"),
    Command::new("brpoplpush", 4, brpoplpush)
        .flags(BLOCKING | DENYOOM | WRITE)
        .acl(acl::LIST)
        .keys(MOVE)
        .since("2.2.0"),
    Command::new("lindex", 3, lindex).flags(READONLY).acl(acl::LIST).keys(READ),
    Command::new("linsert", 5, linsert).flags(DENYOOM | WRITE).acl(acl::LIST).keys(PUSH).since("2.2.0"),
    Command::new("llen", 2, llen).flags(FAST | READONLY).acl(acl::LIST).keys(&[KeySpec::at(1).flags(KEY_RO)]),
    Command::new("lmove", 5, lmove).flags(DENYOOM | WRITE).acl(acl::LIST).keys(MOVE).since("6.2.0"),
    Command::new("lmpop", -4, lmpop)
        .flags(MOVABLEKEYS | WRITE)
        .acl(acl::LIST)
        .keys(&[KeySpec::at(1).keynum(0, 1, 1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)])
        .since("7.0.0"),
    Command::new("lpop", -2, lpop).flags(FAST | WRITE).acl(acl::LIST).keys(POP),
    Command::new("lpos", -3, lpos).flags(READONLY).acl(acl::LIST).keys(READ).since("6.0.6"),
    Command::new("lpush", -3, lpush).flags(DENYOOM | FAST | WRITE).acl(acl::LIST).keys(PUSH),
    Command::new("lpushx", -3, lpushx).flags(DENYOOM | FAST | WRITE).acl(acl::LIST).keys(PUSH).since("2.2.0"),
    Command::new("lrange", 4, lrange).flags(READONLY).acl(acl::LIST).keys(READ),
    Command::new("lrem", 4, lrem).flags(WRITE).acl(acl::LIST).keys(REMOVE),
    Command::new("lset", 4, lset)
        .flags(DENYOOM | WRITE)
        .acl(acl::LIST)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)]),
    Command::new("ltrim", 4, ltrim).flags(WRITE).acl(acl::LIST).keys(REMOVE),
    Command::new("rpop", -2, rpop).flags(FAST | WRITE).acl(acl::LIST).keys(POP),
    Command::new("rpoplpush", 3, rpoplpush).flags(DENYOOM | WRITE).acl(acl::LIST).keys(MOVE).since("1.2.0"),
    Command::new("rpush", -3, rpush).flags(DENYOOM | FAST | WRITE).acl(acl::LIST).keys(PUSH),
    Command::new("rpushx", -3, rpushx).flags(DENYOOM | FAST | WRITE).acl(acl::LIST).keys(PUSH).since("2.2.0"),
];

/// `LPUSH key element [element ...]`: integer, the length after it. Errors: WRONGTYPE. Source: Redis 7.2 LPUSH.
fn lpush(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    push(ctx, args, End::Head)
}

/// `RPUSH key element [element ...]`: integer, the length after it. Errors: WRONGTYPE. Source: Redis 7.2 RPUSH.
fn rpush(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    push(ctx, args, End::Tail)
}

/// `LPUSHX key element [element ...]`: as LPUSH, but only onto a list that is there, else 0.
/// Source: Redis 7.2 LPUSHX.
fn lpushx(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    push_if_present(ctx, args, End::Head)
}

/// `RPUSHX key element [element ...]`: as RPUSH, but only onto a list that is there, else 0.
/// Source: Redis 7.2 RPUSHX.
fn rpushx(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    push_if_present(ctx, args, End::Tail)
}

fn push_if_present(ctx: &mut Ctx, args: &mut Args, end: End) -> CmdResult {
    let key = args.clone().key()?;
    if ctx.db.write_as::<List>(key)?.is_none() {
        ctx.reply.integer(0);
        return Ok(());
    }
    push(ctx, args, end)
}

fn push(ctx: &mut Ctx, args: &mut Args, end: End) -> CmdResult {
    let key = args.key()?;
    let elements = args.rest();
    let list = ctx.db.write_or_insert(key, List::new)?;
    list.extend(end, elements.iter().copied(), &list_limits(ctx.config, ctx.server));
    ctx.reply.len(list.len());
    ctx.changed_by(elements.len(), key, KeyspaceEvents::LIST, push_event(end));
    Ok(())
}

fn push_event(end: End) -> &'static str {
    match end {
        End::Head => "lpush",
        End::Tail => "rpush",
    }
}

/// `LPOP key [count]`: the first element or null; with a count an array of up to so many, null without key.
/// Errors: WRONGTYPE; value is out of range, must be positive. Source: Redis 7.2 LPOP.
fn lpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop(ctx, args, End::Head)
}

/// `RPOP key [count]`: as LPOP, from the other end. Source: Redis 7.2 RPOP.
fn rpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop(ctx, args, End::Tail)
}

fn pop(ctx: &mut Ctx, args: &mut Args, end: End) -> CmdResult {
    if args.remaining() > 2 {
        return Err(args.arity_error());
    }
    let key = args.key()?;
    let count = if args.is_empty() { None } else { Some(args.positive()?) };
    let Some(list) = ctx.db.write_as::<List>(key)? else {
        match count {
            Some(_) => ctx.reply.null_array(),
            None => ctx.reply.null(),
        }
        return Ok(());
    };
    match count {
        Some(0) => ctx.reply.array(0),
        Some(count) => {
            pop_many(ctx, key, end, count)?;
        }
        None => {
            if let Some(element) = list.peek(end) {
                ctx.reply.element(element);
            }
            list.remove_end(end, 1, &list_limits(ctx.config, ctx.server));
            popped(ctx, key, end, 1);
        }
    }
    Ok(())
}

/// Answers an array of up to `count` elements of an end, the outermost first, and takes them out; returns how many.
fn pop_many(ctx: &mut Ctx, key: Key<'_>, end: End, count: usize) -> CmdResult<usize> {
    let Some(list) = ctx.db.write_as::<List>(key)? else {
        return Ok(0);
    };
    let count = count.min(list.len());
    ctx.reply.array(count);
    let elements = list.iter();
    match end {
        End::Head => elements.take(count).for_each(|element| ctx.reply.element(element)),
        End::Tail => elements.rev().take(count).for_each(|element| ctx.reply.element(element)),
    }
    list.remove_end(end, count, &list_limits(ctx.config, ctx.server));
    popped(ctx, key, end, count);
    Ok(count)
}

/// Announces that `count` elements were taken from an end, and drops the key when none is left.
fn popped(ctx: &mut Ctx, key: Key<'_>, end: End, count: usize) {
    let event = match end {
        End::Head => "lpop",
        End::Tail => "rpop",
    };
    removed(ctx, key, count, event);
}

fn removed(ctx: &mut Ctx, key: Key<'_>, count: usize, event: &'static str) {
    ctx.changed_by(count, key, KeyspaceEvents::LIST, event);
    if ctx.db.delete_if_vacant::<List>(key) {
        ctx.db.notify(KeyspaceEvents::GENERIC, "del", key);
    }
}

/// `LLEN key`: integer, the number of elements. Errors: WRONGTYPE. Source: Redis 7.2 LLEN.
fn llen(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let len = ctx.db.read_as::<List>(args.key()?)?.map_or(0, List::len);
    ctx.reply.len(len);
    Ok(())
}

/// `LINDEX key index`: the element or null; -1 is the last one. Errors: WRONGTYPE; not an integer (only when there
/// is such a key). Source: Redis 7.2 LINDEX.
fn lindex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let Some(list) = ctx.db.read_as::<List>(args.key()?)? else {
        ctx.reply.null();
        return Ok(());
    };
    let idx = from_head(args.int()?, list.len());
    match idx.and_then(|idx| list.get(idx)) {
        Some(element) => ctx.reply.element(element),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `LRANGE key start stop`: an array of the elements between two indexes, both included. Errors: WRONGTYPE; not an
/// integer. Source: Redis 7.2 LRANGE.
fn lrange(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let (start, stop) = (args.int()?, args.int()?);
    let Some(list) = ctx.db.read_as::<List>(key)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let (start, count) = range(start, stop, list.len());
    ctx.reply.array(count);
    for element in list.iter_from(start).take(count) {
        ctx.reply.element(element);
        if ctx.reply.is_too_long() {
            break;
        }
    }
    Ok(())
}

/// `LTRIM key start stop`: OK; only the elements between two indexes stay. Errors: WRONGTYPE; not an integer.
/// Source: Redis 7.2 LTRIM.
fn ltrim(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let (start, stop) = (args.int()?, args.int()?);
    ctx.reply.ok();
    let Some(list) = ctx.db.write_as::<List>(key)? else {
        return Ok(());
    };
    let (start, count) = range(start, stop, list.len());
    let gone = list.len() - count;
    list.trim(start, count, &list_limits(ctx.config, ctx.server));
    removed(ctx, key, gone, "ltrim");
    Ok(())
}

/// `LSET key index element`: OK. Errors: no such key; WRONGTYPE; not an integer; index out of range. Source: Redis 7.2
/// LSET, which cuts the index to 32 bits and so replaces another element than the one named; here it is out of range.
fn lset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let list = ctx.db.write_as::<List>(key)?.ok_or(CmdError::NoSuchKey)?;
    let (idx, element) = (args.int()?, args.bytes()?);
    // As in Redis, an index that is out of range may still change the encoding.
    let idx = from_head(idx, list.len()).unwrap_or(i64::MAX as usize);
    if !list.set(idx, element, &list_limits(ctx.config, ctx.server)) {
        return Err(CmdError::IndexOutOfRange);
    }
    ctx.changed(key, KeyspaceEvents::LIST, "lset");
    ctx.reply.ok();
    Ok(())
}

/// `LINSERT key BEFORE|AFTER pivot element`: integer, the length after it; -1 when the pivot is not found, 0 without
/// key. Errors: syntax; WRONGTYPE. Source: Redis 7.2 LINSERT.
fn linsert(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let side = match args.one_of(&["BEFORE", "AFTER"]) {
        Some(0) => End::Head,
        Some(_) => End::Tail,
        None => return Err(CmdError::Syntax),
    };
    let (pivot, element) = (args.bytes()?, args.bytes()?);
    let Some(list) = ctx.db.write_as::<List>(key)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    if !list.insert_beside(pivot, side, element, &list_limits(ctx.config, ctx.server)) {
        ctx.reply.integer(-1);
        return Ok(());
    }
    ctx.reply.len(list.len());
    ctx.changed(key, KeyspaceEvents::LIST, "linsert");
    Ok(())
}

/// `LREM key count element`: integer, how many equal elements were removed: up to `count` from the head, from the
/// tail if it is negative, all if it is 0. Errors: WRONGTYPE; not an integer. Source: Redis 7.2 LREM.
fn lrem(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let (count, element) = (args.int()?, args.bytes()?);
    let end = if count < 0 { End::Tail } else { End::Head };
    let max_count = match count.unsigned_abs() {
        0 => usize::MAX,
        count => count as usize,
    };
    let Some(list) = ctx.db.write_as::<List>(key)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let gone = list.remove_equal(element, max_count, end, &list_limits(ctx.config, ctx.server));
    ctx.reply.len(gone);
    if gone > 0 {
        removed(ctx, key, gone, "lrem");
    }
    Ok(())
}

/// What LPOS was asked.
struct Search<'a> {
    element: &'a [u8],
    /// Which match is the first to be told, from 1; counted from the tail if `from_tail`.
    rank: u64,
    from_tail: bool,
    /// COUNT: how many matches at most, 0 for all.
    count: Option<usize>,
    /// How many elements to look at, 0 for all.
    max_len: usize,
}

/// `LPOS key element [RANK rank] [COUNT count] [MAXLEN len]`: the index of the match or null; with COUNT an array of
/// indexes. Errors: WRONGTYPE; RANK 0; negative COUNT or MAXLEN. Source: Redis 7.2 LPOS.
fn lpos(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let search = Search::parse(args)?;
    let list = ctx.db.read_as::<List>(key)?;
    let mut matches = list.map(|list| search.matches(list)).unwrap_or_default();
    match search.count {
        Some(_) => {
            ctx.reply.array(matches.len());
            matches.into_iter().for_each(|idx| ctx.reply.len(idx));
        }
        None => match matches.pop() {
            Some(idx) => ctx.reply.len(idx),
            None => ctx.reply.null(),
        },
    }
    Ok(())
}

impl<'a> Search<'a> {
    fn parse(args: &mut Args<'a>) -> CmdResult<Self> {
        let mut search = Self { element: args.bytes()?, rank: 1, from_tail: false, count: None, max_len: 0 };
        while !args.is_empty() {
            let has_value = args.remaining() > 1;
            if has_value && args.flag("RANK") {
                let rank = args.balanced_int()?;
                (search.rank, search.from_tail) = (rank.unsigned_abs(), rank < 0);
                if rank == 0 {
                    return Err(CmdError::Text(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                         negative to start from the end of the list",
                    ));
                }
            } else if has_value && args.flag("COUNT") {
                let count = args.positive().map_err(|_| CmdError::Text("ERR COUNT can't be negative"))?;
                search.count = Some(count);
            } else if has_value && args.flag("MAXLEN") {
                search.max_len = args.positive().map_err(|_| CmdError::Text("ERR MAXLEN can't be negative"))?;
            } else {
                return Err(CmdError::Syntax);
            }
        }
        Ok(search)
    }

    /// The indexes from the head, in the order they are found.
    fn matches(&self, list: &List) -> Vec<usize> {
        let unlimited = |count: usize| if count == 0 { usize::MAX } else { count };
        let (len, looked_at) = (list.len(), unlimited(self.max_len));
        let passed_over = usize::try_from(self.rank - 1).unwrap_or(usize::MAX);
        let found = |(idx, is_match): (usize, bool)| is_match.then_some(idx);
        let wanted = unlimited(self.count.unwrap_or(1));
        let elements = list.iter();
        if self.from_tail {
            let places = elements.rev().take(looked_at).map(|element| element.is_text(self.element)).enumerate();
            let matches = places.filter_map(found).skip(passed_over).take(wanted);
            matches.map(|idx| len - 1 - idx).collect()
        } else {
            let places = elements.take(looked_at).map(|element| element.is_text(self.element)).enumerate();
            places.filter_map(found).skip(passed_over).take(wanted).collect()
        }
    }
}

/// When a list changes its encoding, and DEBUG's threshold for huge elements.
fn list_limits(config: &Config, server: &Server) -> ListLimits {
    ListLimits { plain_bytes: server.switches.plain_bytes(), ..limits::list(config) }
}

/// An index that may count from the end (-1 is the last) as one from the head; `None` when it lies in front of it.
fn from_head(idx: i64, len: usize) -> Option<usize> {
    if idx >= 0 { usize::try_from(idx).ok() } else { len.checked_sub(usize::try_from(idx.unsigned_abs()).ok()?) }
}

/// The first index and the number of elements between two indexes, both included, that may count from the end.
fn range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let start = from_head(start, len).unwrap_or(0);
    let end = from_head(stop, len).map_or(0, |stop| stop.saturating_add(1).min(len));
    if start >= end { (0, 0) } else { (start, end - start) }
}

#[cfg(test)]
mod tests;
