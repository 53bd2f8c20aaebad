//! Elements that move to another list or to whoever waits for one: LMOVE, LMPOP and the blocking commands.

use super::{list_limits, pop_many, popped, push_event};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::Block;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::value::Kind;
use redstart_types::list::{End, List};

/// `LMOVE source destination LEFT|RIGHT LEFT|RIGHT`: the element moved, or null. Errors: syntax; WRONGTYPE.
/// Source: Redis 7.2 LMOVE.
pub(super) fn lmove(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let transfer = Transfer::parse(args)?;
    if !transfer.run(ctx)? {
        ctx.reply.null();
    }
    Ok(())
}

/// `RPOPLPUSH source destination`: the element moved from the tail to the head, or null. Errors: WRONGTYPE.
/// Source: Redis 7.2 RPOPLPUSH.
pub(super) fn rpoplpush(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let transfer = Transfer::tail_to_head(args)?;
    if !transfer.run(ctx)? {
        ctx.reply.null();
    }
    Ok(())
}

/// `BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout`: as LMOVE, after waiting up to `timeout` seconds for an
/// element. Errors: as LMOVE; timeouts. Source: Redis 7.2 BLMOVE.
pub(super) fn blmove(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let transfer = Transfer::parse(args)?;
    let deadline_ms = ctx.deadline_ms(args.bytes()?)?;
    let argv = args.argv();
    transfer.run_or_wait(ctx, deadline_ms, &[b"LMOVE", argv[1], argv[2], argv[3], argv[4]])
}

/// `BRPOPLPUSH source destination timeout`: as RPOPLPUSH, after waiting up to `timeout` seconds for an element.
/// Source: Redis 7.2 BRPOPLPUSH.
pub(super) fn brpoplpush(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let transfer = Transfer::tail_to_head(args)?;
    let deadline_ms = ctx.deadline_ms(args.bytes()?)?;
    let argv = args.argv();
    transfer.run_or_wait(ctx, deadline_ms, &[b"RPOPLPUSH", argv[1], argv[2]])
}

/// `BLPOP key [key ...] timeout`: an array of the key and its first element, from the first key that has one, after
/// waiting up to `timeout` seconds; null when there was none. Errors: WRONGTYPE; timeouts. Source: Redis 7.2 BLPOP.
pub(super) fn blpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop_or_wait(ctx, args, End::Head)
}

/// `BRPOP key [key ...] timeout`: as BLPOP, from the tail. Source: Redis 7.2 BRPOP.
pub(super) fn brpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    pop_or_wait(ctx, args, End::Tail)
}

/// `LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count]`: an array of the first key that is there and an array of up
/// to `count` elements (1 by default); null when no key is. Errors: syntax; WRONGTYPE; numkeys or count not above 0.
/// Source: Redis 7.2 LMPOP.
pub(super) fn lmpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let request = MultiPop::parse(args)?;
    if !request.run(ctx, args)? {
        ctx.reply.null_array();
    }
    Ok(())
}

/// `BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]`: as LMPOP, after waiting up to `timeout` seconds.
/// Source: Redis 7.2 BLMPOP.
pub(super) fn blmpop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let timeout = args.bytes()?;
    let request = MultiPop::parse(args)?;
    let deadline_ms = ctx.deadline_ms(timeout)?;
    if request.run(ctx, args)? {
        return Ok(());
    }
    wait(ctx, request.keys, deadline_ms)
}

fn pop_or_wait(ctx: &mut Ctx, args: &mut Args, end: End) -> CmdResult {
    let (timeout, keys) = args.rest().split_last().ok_or(CmdError::Syntax)?;
    let deadline_ms = ctx.deadline_ms(timeout)?;
    for _ in keys {
        let key = args.key()?;
        let Some(list) = ctx.db.write_as::<List>(key)? else {
            continue;
        };
        ctx.reply.array(2);
        ctx.reply.bulk(key.bytes);
        if let Some(element) = list.peek(end) {
            ctx.reply.element(element);
        }
        list.remove_end(end, 1, &list_limits(ctx.config, ctx.server));
        popped(ctx, key, end, 1);
        ctx.propagate_as(&[pop_name(end), key.bytes]);
        return Ok(());
    }
    wait(ctx, keys, deadline_ms)
}

fn wait(ctx: &mut Ctx, keys: &[&[u8]], deadline_ms: Option<i64>) -> CmdResult {
    ctx.block(Block::on_keys(keys, Kind::List, deadline_ms))
}

fn pop_name(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

fn parse_end(args: &mut Args) -> CmdResult<End> {
    match args.one_of(&["LEFT", "RIGHT"]) {
        Some(0) => Ok(End::Head),
        Some(_) => Ok(End::Tail),
        None => Err(CmdError::Syntax),
    }
}

/// One element on its way.
struct Transfer<'a> {
    source: Key<'a>,
    destination: Key<'a>,
    from: End,
    to: End,
}

impl<'a> Transfer<'a> {
    fn parse(args: &mut Args<'a>) -> CmdResult<Self> {
        Ok(Self { source: args.key()?, destination: args.key()?, from: parse_end(args)?, to: parse_end(args)? })
    }

    fn tail_to_head(args: &mut Args<'a>) -> CmdResult<Self> {
        Ok(Self { source: args.key()?, destination: args.key()?, from: End::Tail, to: End::Head })
    }

    /// Moves an element and answers it; false when there is none. The destination's event comes first, as in Redis.
    fn run(&self, ctx: &mut Ctx) -> CmdResult<bool> {
        if ctx.db.write_as::<List>(self.source)?.is_none() {
            return Ok(false);
        }
        ctx.db.write_as::<List>(self.destination)?;
        let limits = list_limits(ctx.config, ctx.server);
        let source = ctx.db.write_as::<List>(self.source)?;
        let Some(element) = source.and_then(|source| source.take(self.from)) else {
            return Ok(false);
        };
        let destination = ctx.db.write_or_insert(self.destination, List::new)?;
        destination.push(self.to, &element, &limits);
        ctx.changed_by(0, self.destination, KeyspaceEvents::LIST, push_event(self.to));
        if let Some(source) = ctx.db.write_as::<List>(self.source)? {
            source.shrink(&limits);
        }
        popped(ctx, self.source, self.from, 1);
        ctx.reply.bulk(&element);
        Ok(true)
    }

    /// The log gets `instead`, the same command without waiting.
    fn run_or_wait(&self, ctx: &mut Ctx, deadline_ms: Option<i64>, instead: &[&[u8]]) -> CmdResult {
        if self.run(ctx)? {
            ctx.propagate_as(instead);
            return Ok(());
        }
        if ctx.denies_blocking() {
            // Unlike the end of the time, which is a null array.
            ctx.reply.null();
            return Ok(());
        }
        wait(ctx, &[self.source.bytes], deadline_ms)
    }
}

/// What LMPOP and BLMPOP were asked.
struct MultiPop<'a> {
    keys: &'a [&'a [u8]],
    end: End,
    count: usize,
}

impl<'a> MultiPop<'a> {
    fn parse(args: &mut Args<'a>) -> CmdResult<Self> {
        let above_zero = |value: CmdResult<i64>, error| {
            let value = value.ok().filter(|value| *value > 0).and_then(|value| usize::try_from(value).ok());
            value.ok_or(CmdError::Text(error))
        };
        let numkeys = above_zero(args.int(), "ERR numkeys should be greater than 0")?;
        let keys = args.rest().get(..numkeys).ok_or(CmdError::Syntax)?;
        for _ in keys {
            args.bytes()?;
        }
        let end = parse_end(args)?;
        let mut count = None;
        while !args.is_empty() {
            if count.is_some() || args.remaining() < 2 || !args.flag("COUNT") {
                return Err(CmdError::Syntax);
            }
            count = Some(above_zero(args.int(), "ERR count should be greater than 0")?);
        }
        Ok(Self { keys, end, count: count.unwrap_or(1) })
    }

    /// Pops from the first key that is there, and answers; false when none is.
    fn run(&self, ctx: &mut Ctx, args: &Args) -> CmdResult<bool> {
        for key in self.keys {
            let key = args.as_key(key);
            if ctx.db.write_as::<List>(key)?.is_none() {
                continue;
            }
            ctx.reply.array(2);
            ctx.reply.bulk(key.bytes);
            let count = pop_many(ctx, key, self.end, self.count)?;
            let mut digits = itoa::Buffer::new();
            ctx.propagate_as(&[pop_name(self.end), key.bytes, digits.format(count).as_bytes()]);
            return Ok(true);
        }
        Ok(false)
    }
}
