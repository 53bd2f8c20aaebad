//! Union, intersection and difference of sets.

use super::set_limits;
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::db::{Db, Expiry};
use crate::keyspace::value::Value;
use redstart_types::encoding::listpack::Element;
use redstart_types::set::{Set, SetLimits};

/// `SINTER key [key ...]`: a set of the members that all keys have (RESP2: an array). Errors: WRONGTYPE.
/// Source: Redis 7.2 SINTER.
pub(super) fn sinter(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let keys = keys(ctx, args)?;
    let start = ctx.reply.begin();
    let mut len = 0;
    for member in intersection(&sets(&ctx.db, &keys)) {
        ctx.reply.element(member);
        len += 1;
    }
    ctx.reply.end_set(start, len);
    Ok(())
}

/// `SINTERCARD numkeys key [key ...] [LIMIT limit]`: integer, how many members all keys have, counted up to `limit`
/// (0: all). Errors: WRONGTYPE; syntax; numkeys; LIMIT. Source: Redis 7.2 SINTERCARD.
pub(super) fn sintercard(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let numkeys = args.int().ok().filter(|numkeys| *numkeys > 0);
    let numkeys = numkeys.ok_or(CmdError::Text("ERR numkeys should be greater than 0"))?;
    let numkeys = usize::try_from(numkeys).ok().filter(|numkeys| *numkeys <= args.remaining());
    let numkeys = numkeys.ok_or(CmdError::Text("ERR Number of keys can't be greater than number of args"))?;
    let keys = (0..numkeys).map(|_| args.key()).collect::<CmdResult<Vec<_>>>()?;
    let mut limit = 0;
    while !args.is_empty() {
        if args.remaining() < 2 || !args.flag("LIMIT") {
            return Err(CmdError::Syntax);
        }
        limit = args.positive().map_err(|_| CmdError::Text("ERR LIMIT can't be negative"))?;
    }
    check_types(ctx, &keys)?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let count = intersection(&sets(&ctx.db, &keys)).take(limit).count();
    ctx.reply.len(count);
    Ok(())
}

/// `SUNION key [key ...]`: a set of the members that any key has (RESP2: an array). Errors: WRONGTYPE.
/// Source: Redis 7.2 SUNION.
pub(super) fn sunion(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let keys = keys(ctx, args)?;
    let union = union(&sets(&ctx.db, &keys), &set_limits(ctx));
    show(ctx, &union);
    Ok(())
}

/// `SDIFF key [key ...]`: a set of the members that the first key has and no other (RESP2: an array). Errors:
/// WRONGTYPE. Source: Redis 7.2 SDIFF.
pub(super) fn sdiff(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let keys = keys(ctx, args)?;
    let difference = difference(&sets(&ctx.db, &keys), &set_limits(ctx));
    show(ctx, &difference);
    Ok(())
}

/// `SINTERSTORE destination key [key ...]`: integer, how many members the destination has now; none deletes it.
/// Errors: WRONGTYPE of a key, not of the destination. Source: Redis 7.2 SINTERSTORE.
pub(super) fn sinterstore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let destination = args.key()?;
    let keys = keys(ctx, args)?;
    let limits = set_limits(ctx);
    let sets = sets(&ctx.db, &keys);
    let smallest = smallest(&sets);
    let mut result = match smallest.and_then(Set::as_intset) {
        Some(_) => Set::new_intset(),
        None => Set::new_listpack(),
    };
    for member in intersection(&sets) {
        result.insert_element(member, &limits);
    }
    result.compact(&limits);
    store(ctx, destination, result, "sinterstore")
}

/// `SUNIONSTORE destination key [key ...]`: as SINTERSTORE. Source: Redis 7.2 SUNIONSTORE.
pub(super) fn sunionstore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let destination = args.key()?;
    let keys = keys(ctx, args)?;
    let union = union(&sets(&ctx.db, &keys), &set_limits(ctx));
    store(ctx, destination, union, "sunionstore")
}

/// `SDIFFSTORE destination key [key ...]`: as SINTERSTORE. Source: Redis 7.2 SDIFFSTORE.
pub(super) fn sdiffstore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let destination = args.key()?;
    let keys = keys(ctx, args)?;
    let difference = difference(&sets(&ctx.db, &keys), &set_limits(ctx));
    store(ctx, destination, difference, "sdiffstore")
}

/// All arguments left, as keys that hold sets or nothing.
fn keys<'a>(ctx: &mut Ctx, args: &mut Args<'a>) -> CmdResult<Vec<Key<'a>>> {
    let keys = (0..args.remaining()).map(|_| args.key()).collect::<CmdResult<Vec<_>>>()?;
    check_types(ctx, &keys)?;
    Ok(keys)
}

/// Looks every key up as a reader does.
fn check_types(ctx: &mut Ctx, keys: &[Key<'_>]) -> CmdResult {
    for key in keys {
        ctx.db.read_as::<Set>(*key)?;
    }
    Ok(())
}

/// What the keys hold; `None` counts as an empty set.
fn sets<'s>(db: &'s Db, keys: &[Key<'_>]) -> Vec<Option<&'s Set>> {
    keys.iter().map(|key| db.peek_as::<Set>(*key).unwrap_or(None)).collect()
}

fn smallest<'s>(sets: &[Option<&'s Set>]) -> Option<&'s Set> {
    let sets: Option<Vec<_>> = sets.iter().copied().collect();
    sets?.into_iter().min_by_key(|set| set.len())
}

/// The members that all sets have, found by walking the smallest; none when a set is missing.
fn intersection<'s>(sets: &[Option<&'s Set>]) -> impl Iterator<Item = Element<'s>> {
    let smallest = smallest(sets);
    let others = sets.iter().flatten().copied();
    let mut others: Vec<_> =
        others.filter(|set| !smallest.is_some_and(|smallest| std::ptr::eq(smallest, *set))).collect();
    others.sort_by_key(|set| set.len());
    let members = smallest.into_iter().flat_map(Set::iter);
    members.filter(move |member| others.iter().all(|set| set.contains_element(*member)))
}

fn union(sets: &[Option<&Set>], limits: &SetLimits) -> Set {
    let mut union = Set::new_intset();
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        union.insert_element(member, limits);
    }
    union
}

/// The members of the first set that no other has: each looked for in the others, or, when those are small in all,
/// copied first and then taken out by the members of the others.
fn difference(sets: &[Option<&Set>], limits: &SetLimits) -> Set {
    let mut difference = Set::new_intset();
    let Some((Some(first), others)) = sets.split_first() else {
        return difference;
    };
    let mut others: Vec<_> = others.iter().flatten().copied().collect();
    if others.iter().any(|other| std::ptr::eq(*other, *first)) {
        return difference;
    }
    let looking = first.len() * (others.len() + 1) / 2;
    let taking = first.len() + others.iter().map(|other| other.len()).sum::<usize>();
    if looking <= taking {
        others.sort_by_key(|other| std::cmp::Reverse(other.len()));
        let members = first.iter().filter(|member| !others.iter().any(|other| other.contains_element(*member)));
        members.for_each(|member| {
            difference.insert_element(member, limits);
        });
        return difference;
    }
    first.iter().for_each(|member| {
        difference.insert_element(member, limits);
    });
    for member in others.into_iter().flat_map(Set::iter) {
        if difference.is_empty() {
            break;
        }
        difference.remove_element(member);
    }
    difference
}

fn show(ctx: &mut Ctx, result: &Set) {
    ctx.reply.set(result.len());
    result.iter().for_each(|member| ctx.reply.element(member));
}

fn store(ctx: &mut Ctx, destination: Key<'_>, result: Set, event: &'static str) -> CmdResult {
    ctx.reply.len(result.len());
    if !result.is_empty() {
        ctx.db.set_value(destination, Value::Set(result), Expiry::Clear);
        ctx.changed(destination, KeyspaceEvents::SET, event);
    } else if ctx.db.displace(destination) {
        ctx.deleted(destination);
    }
    Ok(())
}
