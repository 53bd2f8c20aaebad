//! Keys of any type: DEL, EXISTS, the EXPIRE and TTL families.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::CmdResult;
use crate::command::spec::*;

pub const COMMANDS: &[Command] = &[
    Command::new("del", -2, del)
        .flags(WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RM | KEY_DELETE)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    Command::new("exists", -2, exists)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RO)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    Command::new("ttl", 2, ttl)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)])
        .tips(&["nondeterministic_output"]),
];

/// `DEL key [key ...]`: integer, how many were there. Source: Redis 7.2 DEL.
fn del(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut deleted = 0;
    while !args.is_empty() {
        let key = args.key()?;
        if ctx.db.delete(key).is_some() {
            ctx.deleted(key);
            deleted += 1;
        }
    }
    ctx.reply.integer(deleted);
    Ok(())
}

/// `EXISTS key [key ...]`: integer, how many of them are there, counting repeats. Source: Redis 7.2 EXISTS.
fn exists(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut found = 0;
    while !args.is_empty() {
        let key = args.key()?;
        found += i64::from(ctx.db.exists(key));
    }
    ctx.reply.integer(found);
    Ok(())
}

/// `TTL key`: integer, seconds left (rounded), -1 without expiry, -2 without key. Source: Redis 7.2 TTL.
fn ttl(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let now_ms = ctx.now_ms;
    let ttl = match ctx.db.read(key) {
        None => -2,
        Some(entry) => entry.expire_at_ms().map_or(-1, |at| (at - now_ms + 500) / 1000),
    };
    ctx.reply.integer(ttl);
    Ok(())
}
