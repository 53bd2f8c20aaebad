//! Sets: members one by one, random ones, scans. Union, intersection and difference are in `algebra`.

mod algebra;

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::scan::{self, ScanOptions};
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::{Key, limits};
use crate::util::rng;
use algebra::{sdiff, sdiffstore, sinter, sintercard, sinterstore, sunion, sunionstore};
use redstart_types::encoding::listpack::Element;
use redstart_types::garbage;
use redstart_types::set::{Set, SetLimits};
use std::collections::HashSet;

const LOOK: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO)];
const READ: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)];
const READ_ALL: &[KeySpec] = &[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RO | KEY_ACCESS)];
const STORE: &[KeySpec] =
    &[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE), KeySpec::at(2).range(-1, 1, 0).flags(KEY_RO | KEY_ACCESS)];

pub const COMMANDS: &[Command] = &[
    Command::new("sadd", -3, sadd)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::SET)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_INSERT)]),
    Command::new("scard", 2, scard).flags(FAST | READONLY).acl(acl::SET).keys(LOOK),
    Command::new("sdiff", -2, sdiff)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ_ALL)
        .tips(&["nondeterministic_output_order"]),
    Command::new("sdiffstore", -3, sdiffstore).flags(DENYOOM | WRITE).acl(acl::SET).keys(STORE),
    Command::new("sinter", -2, sinter)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ_ALL)
        .tips(&["nondeterministic_output_order"]),
    Command::new("sintercard", -3, sintercard)
        .flags(MOVABLEKEYS | READONLY)
        .acl(acl::SET)
        .keys(&[KeySpec::at(1).keynum(0, 1, 1).flags(KEY_RO | KEY_ACCESS)])
        .since("7.0.0"),
    Command::new("sinterstore", -3, sinterstore)
        .flags(DENYOOM | WRITE)
        .acl(acl::SET)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE), KeySpec::at(2).range(-1, 1, 0).flags(KEY_RO | KEY_ACCESS)]),
    Command::new("sismember", 3, sismember).flags(FAST | READONLY).acl(acl::SET).keys(LOOK),
    Command::new("smembers", 2, smembers)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ)
        .tips(&["nondeterministic_output_order"]),
    Command::new("smismember", -3, smismember).flags(FAST | READONLY).acl(acl::SET).keys(READ).since("6.2.0"),
    Command::new("smove", 4, smove)
        .flags(FAST | WRITE)
        .acl(acl::SET)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE), KeySpec::at(2).flags(KEY_RW | KEY_INSERT)]),
    Command::new("spop", -2, spop)
        .flags(FAST | WRITE)
        .acl(acl::SET)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)])
        .tips(&["nondeterministic_output"]),
    Command::new("srandmember", -2, srandmember)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ)
        .tips(&["nondeterministic_output"]),
    Command::new("srem", -3, srem).flags(FAST | WRITE).acl(acl::SET).keys(&[KeySpec::at(1).flags(KEY_RW | KEY_DELETE)]),
    Command::new("sscan", -3, sscan)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ)
        .since("2.8.0")
        .tips(&["nondeterministic_output"]),
    Command::new("sunion", -2, sunion)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ_ALL)
        .tips(&["nondeterministic_output_order"]),
    Command::new("sunionstore", -3, sunionstore).flags(DENYOOM | WRITE).acl(acl::SET).keys(STORE),
];

/// `SADD key member [member ...]`: integer, how many are new. Errors: WRONGTYPE. Source: Redis 7.2 SADD.
fn sadd(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let members = args.rest();
    let limits = set_limits(ctx);
    let set = ctx.db.write_or_insert(key, || Set::for_members(members[0], members.len(), &limits))?;
    set.expect_members(members.len(), &limits);
    let added = members.iter().filter(|member| set.insert(member, &limits)).count();
    if added > 0 {
        ctx.changed_by(added, key, KeyspaceEvents::SET, "sadd");
    }
    ctx.reply.len(added);
    Ok(())
}

/// `SREM key member [member ...]`: integer, how many were there. Errors: WRONGTYPE. Source: Redis 7.2 SREM.
fn srem(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let set = ctx.db.write_as::<Set>(key)?;
    let removed = set.map_or(0, |set| args.rest().iter().filter(|member| set.remove(member)).count());
    if removed > 0 {
        ctx.changed_by(removed, key, KeyspaceEvents::SET, "srem");
        drop_if_empty(ctx, key);
    }
    ctx.reply.len(removed);
    Ok(())
}

/// `SMOVE source destination member`: 1 if the member was moved, 0 if it is not in the source. Errors: WRONGTYPE.
/// Source: Redis 7.2 SMOVE.
fn smove(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (source, destination, member) = (args.key()?, args.key()?, args.bytes()?);
    let limits = set_limits(ctx);
    // Both are looked at, so both go if their time is over.
    ctx.db.write(source);
    ctx.db.write(destination);
    let Some(set) = ctx.db.write_as::<Set>(source)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let is_member = set.contains(member);
    ctx.db.write_as::<Set>(destination)?;
    ctx.reply.integer(i64::from(is_member));
    if !is_member || source.bytes == destination.bytes {
        return Ok(());
    }
    if let Some(set) = ctx.db.write_as::<Set>(source)? {
        set.remove(member);
    }
    ctx.changed(source, KeyspaceEvents::SET, "srem");
    drop_if_empty(ctx, source);
    let set = ctx.db.write_or_insert(destination, || Set::for_members(member, 1, &limits))?;
    if set.insert(member, &limits) {
        ctx.changed(destination, KeyspaceEvents::SET, "sadd");
    }
    Ok(())
}

/// `SISMEMBER key member`: 1 if it is in the set, else 0. Errors: WRONGTYPE. Source: Redis 7.2 SISMEMBER.
fn sismember(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, member) = (args.key()?, args.bytes()?);
    let is_member = ctx.db.read_as::<Set>(key)?.is_some_and(|set| set.contains(member));
    ctx.reply.integer(i64::from(is_member));
    Ok(())
}

/// `SMISMEMBER key member [member ...]`: an array of 1 and 0. Errors: WRONGTYPE. Source: Redis 7.2 SMISMEMBER.
fn smismember(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let set = ctx.db.read_as::<Set>(args.key()?)?;
    ctx.reply.array(args.remaining());
    for member in args.rest() {
        ctx.reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

/// `SCARD key`: integer, the number of members. Errors: WRONGTYPE. Source: Redis 7.2 SCARD.
fn scard(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let len = ctx.db.read_as::<Set>(args.key()?)?.map_or(0, Set::len);
    ctx.reply.len(len);
    Ok(())
}

/// `SMEMBERS key`: a set of all members (RESP2: an array). Errors: WRONGTYPE. Source: Redis 7.2 SMEMBERS.
fn smembers(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let set = ctx.db.read_as::<Set>(args.key()?)?;
    ctx.reply.set(set.map_or(0, Set::len));
    set.into_iter().flat_map(Set::iter).for_each(|member| ctx.reply.element(member));
    Ok(())
}

/// `SSCAN key cursor [MATCH pattern] [COUNT count]`: an array of the next cursor and an array of members. Errors:
/// invalid cursor; WRONGTYPE; syntax. Source: Redis 7.2 SSCAN.
fn sscan(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let cursor = scan::parse_cursor(args.bytes()?)?;
    let Some(set) = ctx.db.read_as::<Set>(key)? else {
        scan::reply_with_nothing(ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(args)?;
    let mut digits = itoa::Buffer::new();
    scan::reply_with_found(ctx.reply, options, cursor, |cursor, found| {
        set.scan(cursor, |member| {
            found.take(member.text(&mut digits), |reply| {
                reply.element(member);
                1
            });
        })
    });
    Ok(())
}

/// `SPOP key [count]`: a random member, taken out, or null; with a count a set of up to so many. The log gets what was
/// taken: SREM, or DEL for all. Errors: WRONGTYPE; syntax; must be positive. Source: Redis 7.2 SPOP.
fn spop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let count = match args.remaining() {
        0 => return pop_one(ctx, key),
        1 => args.positive()?,
        _ => return Err(CmdError::Syntax),
    };
    let len = ctx.db.write_as::<Set>(key)?.map_or(0, |set| set.len());
    if len == 0 || count == 0 {
        ctx.reply.set(0);
    } else if count >= len {
        pop_all(ctx, key, len)?;
    } else {
        pop_some(ctx, key, count)?;
    }
    Ok(())
}

fn pop_one(ctx: &mut Ctx, key: Key<'_>) -> CmdResult {
    let mut random = ctx.server.random.small();
    let Some(member) = ctx.db.write_as::<Set>(key)?.and_then(|set| set.pop_random(&mut random)) else {
        ctx.reply.null();
        return Ok(());
    };
    ctx.changed(key, KeyspaceEvents::SET, "spop");
    drop_if_empty(ctx, key);
    ctx.propagate_as(&[b"SREM", key.bytes, &member]);
    ctx.reply.bulk(&member);
    Ok(())
}

fn pop_all(ctx: &mut Ctx, key: Key<'_>, len: usize) -> CmdResult {
    ctx.reply.set(len);
    // As Redis has it, all members are read before they go: a hit.
    ctx.db.inspect(key);
    let set = ctx.db.write_as::<Set>(key)?;
    set.iter().flat_map(|set| set.iter()).for_each(|member| ctx.reply.element(member));
    ctx.changed_by(len, key, KeyspaceEvents::SET, "spop");
    ctx.db.delete(key);
    ctx.db.notify(KeyspaceEvents::GENERIC, "del", key);
    let name: &[u8] = if ctx.config.lazyfree_lazy_server_del { b"UNLINK" } else { b"DEL" };
    ctx.propagate_as(&[name, key.bytes]);
    Ok(())
}

/// How many members one SREM in the log has at most.
const LOGGED_MEMBERS: usize = 1024;
/// When a fifth or less of what is popped stays, the rest becomes a set of its own, in the encoding of a new one.
const REBUILD_FROM: usize = 5;

fn pop_some(ctx: &mut Ctx, key: Key<'_>, count: usize) -> CmdResult {
    let mut random = ctx.server.random.small();
    let limits = set_limits(ctx);
    let Some(set) = ctx.db.write_as::<Set>(key)? else {
        return Ok(());
    };
    let members: Vec<Vec<u8>> = if set.as_listpack().is_some() {
        let picked = rng::sample(set.iter(), set.len(), count, &mut random).map(Element::to_vec).collect::<Vec<_>>();
        picked.into_iter().filter(|member| set.remove(member)).collect()
    } else {
        std::iter::repeat_with(|| set.pop_random(&mut random)).take(count).flatten().collect()
    };
    if set.len() * REBUILD_FROM <= count {
        set.rebuild(&limits);
    }
    ctx.reply.set(count);
    members.iter().for_each(|member| ctx.reply.bulk(member));
    ctx.changed_by(count, key, KeyspaceEvents::SET, "spop");
    for members in members.chunks(LOGGED_MEMBERS) {
        let srem = [&b"SREM"[..], key.bytes].into_iter().chain(members.iter().map(Vec::as_slice));
        ctx.propagate_as(&srem.collect::<Vec<_>>());
    }
    garbage::free_many(members);
    Ok(())
}

/// `SRANDMEMBER key [count]`: a random member or null; with a count an array of so many different ones, or, if it is
/// negative, of exactly so many that may repeat. Errors: WRONGTYPE; syntax; out of range.
/// Source: Redis 7.2 SRANDMEMBER.
fn srandmember(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let mut random = ctx.server.random.small();
    let count = match args.remaining() {
        0 => {
            match ctx.db.read_as::<Set>(key)?.and_then(|set| set.random(&mut random)) {
                Some(member) => ctx.reply.element(member),
                None => ctx.reply.null(),
            }
            return Ok(());
        }
        1 => args.balanced_int()?,
        _ => return Err(CmdError::Syntax),
    };
    let repeats = count < 0;
    let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let Some(set) = ctx.db.read_as::<Set>(key)?.filter(|_| count > 0) else {
        ctx.reply.array(0);
        return Ok(());
    };
    let len = if repeats { count } else { count.min(set.len()) };
    ctx.reply.array(len);
    if repeats {
        for member in std::iter::repeat_with(|| set.random(&mut random)).take(len).flatten() {
            ctx.reply.element(member);
            if ctx.reply.is_too_long() {
                break;
            }
        }
        return Ok(());
    }
    let show = |member| ctx.reply.element(member);
    if len.saturating_mul(SAMPLE_FROM) > set.len() || set.as_listpack().is_some() {
        rng::sample(set.iter(), set.len(), len, &mut random).for_each(show);
    } else {
        let mut taken = HashSet::new();
        let new = |member: &Element<'_>| taken.insert(member.to_vec());
        std::iter::repeat_with(|| set.random(&mut random)).flatten().filter(new).take(len).for_each(show);
    }
    Ok(())
}

/// How many times larger than what is asked for a set must be to be sampled rather than walked.
const SAMPLE_FROM: usize = 3;

fn drop_if_empty(ctx: &mut Ctx, key: Key<'_>) {
    if ctx.db.delete_if_vacant::<Set>(key) {
        ctx.db.notify(KeyspaceEvents::GENERIC, "del", key);
    }
}

fn set_limits(ctx: &Ctx) -> SetLimits {
    limits::set(ctx.config, ctx.server.shards.seed())
}

#[cfg(test)]
mod tests;
