//! When keys expire: EXPIRE, TTL and their relatives, PERSIST.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::value::Entry;
use redstart_types::number;

pub const COMMANDS: &[Command] = &[
    Command::new("expire", -3, expire)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)]),
    Command::new("expireat", -3, expireat)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)])
        .since("1.2.0"),
    Command::new("expiretime", 2, expiretime)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)])
        .since("7.0.0"),
    Command::new("persist", 2, persist)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)])
        .since("2.2.0"),
    Command::new("pexpire", -3, pexpire)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)])
        .since("2.6.0"),
    Command::new("pexpireat", -3, pexpireat)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)])
        .since("2.6.0"),
    Command::new("pexpiretime", 2, pexpiretime)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)])
        .since("7.0.0"),
    Command::new("pttl", 2, pttl)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)])
        .since("2.6.0")
        .tips(&["nondeterministic_output"]),
    Command::new("ttl", 2, ttl)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)])
        .tips(&["nondeterministic_output"]),
];

/// `EXPIRE key seconds [NX | XX | GT | LT]`: 1, or 0 when there is no such key or the condition forbids it. A time that
/// is over deletes the key. Errors: not an integer; invalid expire time; conditions that exclude each other. Source:
/// Redis 7.2 EXPIRE.
fn expire(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let now_ms = ctx.now_ms;
    expire_from(ctx, args, now_ms, 1000, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`: as EXPIRE. Source: Redis 7.2 PEXPIRE.
fn pexpire(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let now_ms = ctx.now_ms;
    expire_from(ctx, args, now_ms, 1, "pexpire")
}

/// `EXPIREAT key unix-seconds [NX | XX | GT | LT]`: as EXPIRE. Source: Redis 7.2 EXPIREAT.
fn expireat(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    expire_from(ctx, args, 0, 1000, "expireat")
}

/// `PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]`: as EXPIRE. Source: Redis 7.2 PEXPIREAT.
fn pexpireat(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    expire_from(ctx, args, 0, 1, "pexpireat")
}

/// NX, XX, GT and LT.
#[derive(Debug, Default)]
struct Conditions {
    none_yet: bool,
    some: bool,
    later: bool,
    sooner: bool,
}

impl Conditions {
    fn parse(args: &[&[u8]]) -> CmdResult<Self> {
        let mut conditions = Conditions::default();
        for arg in args {
            let target = match arg.to_ascii_uppercase().as_slice() {
                b"NX" => &mut conditions.none_yet,
                b"XX" => &mut conditions.some,
                b"GT" => &mut conditions.later,
                b"LT" => &mut conditions.sooner,
                _ => return Err(CmdError::quoting("ERR Unsupported option {}", &[arg])),
            };
            *target = true;
        }
        if conditions.none_yet && (conditions.some || conditions.later || conditions.sooner) {
            return Err(CmdError::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if conditions.later && conditions.sooner {
            return Err(CmdError::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Whether a key that expires at `before` (None: never) may be set to expire at `at`, both Unix ms.
    fn allow(&self, before: Option<i64>, at: i64) -> bool {
        match before {
            None => !self.some && !self.later,
            Some(before) => !self.none_yet && (!self.later || at > before) && (!self.sooner || at < before),
        }
    }
}

/// `base_ms`: what the time counts from, Unix ms. `unit_ms`: 1000 for seconds.
fn expire_from(ctx: &mut Ctx, args: &mut Args, base_ms: i64, unit_ms: i64, command: &'static str) -> CmdResult {
    let key = args.key()?;
    let time = args.bytes()?;
    let conditions = Conditions::parse(args.rest())?;
    let time = number::parse_int(time).ok_or(CmdError::NotAnInteger)?;
    let at = time.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base_ms));
    let at = at.ok_or(CmdError::InvalidExpire(command))?;
    let before = ctx.db.write(key).map(|entry| entry.expire_at_ms());
    let is_set = before.is_some_and(|before| conditions.allow(before, at));
    if is_set {
        set_expiry(ctx, key, at);
    }
    ctx.reply.integer(i64::from(is_set));
    Ok(())
}

/// Sets when a key that is there expires, Unix ms, or deletes it at once if that time is over; the log gets the
/// absolute time.
pub(crate) fn set_expiry(ctx: &mut Ctx, key: Key<'_>, at_ms: i64) {
    if at_ms <= ctx.now_ms && ctx.db.access.deletes_expired {
        let lazily = ctx.config.lazyfree_lazy_expire;
        ctx.db.discard(key, lazily);
        ctx.deleted(key);
        ctx.propagate_as(&[if lazily { b"UNLINK" } else { b"DEL" }, key.bytes]);
        return;
    }
    ctx.db.set_expiry(key, Some(at_ms));
    ctx.changed(key, KeyspaceEvents::GENERIC, "expire");
    if ctx.db.effects.recording {
        ctx.propagate_as(&[b"PEXPIREAT", key.bytes, itoa::Buffer::new().format(at_ms).as_bytes()]);
    }
}

/// `PERSIST key`: 1 if the key no longer expires, 0 if it did not or is not there. Source: Redis 7.2 PERSIST.
fn persist(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let is_cleared = ctx.db.write(key).is_some() && clear_expiry(ctx, key);
    ctx.reply.integer(i64::from(is_cleared));
    Ok(())
}

/// Takes a key's expiry away; whether it had one.
pub(crate) fn clear_expiry(ctx: &mut Ctx, key: Key<'_>) -> bool {
    if ctx.db.expire_at_ms(key).is_none() {
        return false;
    }
    ctx.db.set_expiry(key, None);
    ctx.changed(key, KeyspaceEvents::GENERIC, "persist");
    ctx.propagate_as(&[b"PERSIST", key.bytes]);
    true
}

/// `TTL key`: integer, seconds left (rounded), -1 without expiry, -2 without key. Source: Redis 7.2 TTL.
fn ttl(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let now_ms = ctx.now_ms;
    reply_time(ctx, args, |at| ((at - now_ms).max(0) + 500) / 1000)
}

/// `PTTL key`: integer, milliseconds left, -1 without expiry, -2 without key. Source: Redis 7.2 PTTL.
fn pttl(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let now_ms = ctx.now_ms;
    reply_time(ctx, args, |at| (at - now_ms).max(0))
}

/// `EXPIRETIME key`: integer, Unix seconds, -1 without expiry, -2 without key. Source: Redis 7.2 EXPIRETIME.
fn expiretime(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    reply_time(ctx, args, |at| at.saturating_add(500) / 1000)
}

/// `PEXPIRETIME key`: integer, Unix ms, -1 without expiry, -2 without key. Source: Redis 7.2 PEXPIRETIME.
fn pexpiretime(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    reply_time(ctx, args, |at| at)
}

fn reply_time(ctx: &mut Ctx, args: &mut Args, show: impl FnOnce(i64) -> i64) -> CmdResult {
    let key = args.key()?;
    let expiry = ctx.db.look(key).map(Entry::expire_at_ms);
    ctx.reply.integer(expiry.map_or(-2, |at| at.map_or(-1, show)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;
    use crate::run::start::Options;
    use crate::util::clock::Clock;

    #[test]
    fn expire_and_ttl() {
        let mut c = Checker::new();
        c.check("EXPIRE k 100", ":0");
        c.check("TTL k", ":-2");
        c.check("PTTL k", ":-2");
        c.check("EXPIRETIME k", ":-2");
        c.check("SET k v", "OK");
        c.check("TTL k", ":-1");
        c.check("PEXPIRETIME k", ":-1");
        c.check("EXPIRE k 100", ":1");
        c.check("TTL k", ":100");
        c.check("PEXPIRE k 200000", ":1");
        c.check("TTL k", ":200");
        c.check("EXPIREAT k 4102444800", ":1");
        c.check("EXPIRETIME k", ":4102444800");
        c.check("PEXPIREAT k 4102444800501", ":1");
        c.check("PEXPIRETIME k", ":4102444800501");
        c.check("EXPIRETIME k", ":4102444801");
        c.check("PERSIST k", ":1");
        c.check("PERSIST k", ":0");
        c.check("PERSIST none", ":0");
        c.check("PTTL k", ":-1");
        c.check("EXPIRE k -1", ":1");
        c.check("EXISTS k", ":0");
        c.check("SET k v", "OK");
        c.check("PEXPIREAT k 1", ":1");
        c.check("EXISTS k", ":0");
    }

    #[test]
    fn conditions() {
        let mut c = Checker::new();
        c.check("SET k v", "OK");
        c.check("EXPIRE k 100 XX", ":0");
        c.check("EXPIRE k 100 GT", ":0");
        c.check("EXPIRE k 100 LT", ":1");
        c.check("EXPIRE k 100 NX", ":0");
        c.check("EXPIRE k 50 GT", ":0");
        c.check("EXPIRE k 200 gt", ":1");
        c.check("EXPIRE k 300 LT", ":0");
        c.check("EXPIRE k 50 LT XX", ":1");
        c.check("TTL k", ":50");
        c.check("PERSIST k", ":1");
        c.check("EXPIRE k 50 LT XX", ":0");
        c.check("EXPIRE k 50 NX", ":1");
        c.check("EXPIRE k 1 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible");
        c.check("EXPIRE k 1 LT GT", "-ERR GT and LT options at the same time are not compatible");
        c.check("EXPIRE k x FOO", "-ERR Unsupported option FOO");
        c.check("EXPIRE k x NX", "-ERR value is not an integer or out of range");
        c.check("EXPIRE none 9223372036854775807", "-ERR invalid expire time in 'expire' command");
        c.check("PEXPIRE none 9223372036854775807", "-ERR invalid expire time in 'pexpire' command");
        c.check("EXPIREAT none -9223372036854775808", "-ERR invalid expire time in 'expireat' command");
        c.check("PEXPIREAT none 9223372036854775807", ":0");
        c.check("PEXPIRE k -9223372036854775808", ":1");
        c.check("EXISTS k", ":0");
    }

    #[test]
    fn a_key_is_gone_when_its_time_is_over() {
        let clock = Clock::stopped_at(1_700_000_000_000);
        let mut c = Checker::with(Options { clock: clock.clone(), ..Options::default() });
        c.check_here("SET k v PX 1000", "OK");
        clock.advance_ms(999);
        c.check_here("PTTL k", ":1");
        c.check_here("TTL k", ":0");
        clock.advance_ms(1);
        c.check_here("GET k", "nil");
        c.check_here("SET k v PX 1000", "OK");
        clock.advance_ms(1000);
        c.check_here("EXPIRE k 100", ":0");
        c.check_here("INCR k", ":1");
        c.check_here("TTL k", ":-1");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(r#"EXPIRE k 1 "\xff""#, r"-ERR Unsupported option \xff");
        c.check(r#"EXPIRE k 1 "x\r\n""#, "-ERR Unsupported option x");
    }
}
