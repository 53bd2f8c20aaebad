//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use crate::acl::Reason;
use crate::acl::log::Place;
use crate::command::args::Args;
use crate::command::call;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::permission;
use crate::command::session::{self, Multi};
use crate::command::spec::*;
use crate::command::watch;
use crate::keyspace::Key;
use crate::keyspace::watches;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[
    Command::new("discard", 1, discard)
        .flags(ALLOW_BUSY | ENDS_MULTI | FAST | LOADING | NOSCRIPT | NOT_QUEUED | STALE)
        .acl(acl::TRANSACTION)
        .since("2.0.0"),
    Command::new("exec", 1, exec)
        .scope(Scope::Queue)
        .flags(ENDS_MULTI | LOADING | NOSCRIPT | NOT_QUEUED | SKIP_SLOWLOG | STALE)
        .acl(acl::TRANSACTION)
        .since("1.2.0"),
    Command::new("multi", 1, multi)
        .flags(ALLOW_BUSY | FAST | LOADING | NOSCRIPT | NOT_QUEUED | STALE)
        .acl(acl::TRANSACTION)
        .since("1.2.0"),
    Command::new("unwatch", 1, unwatch)
        .flags(ALLOW_BUSY | FAST | LOADING | NOSCRIPT | STALE)
        .acl(acl::TRANSACTION)
        .since("2.2.0"),
    Command::new("watch", -2, watch_keys)
        .flags(ALLOW_BUSY | FAST | LOADING | NOSCRIPT | NOT_QUEUED | STALE | WITHOUT_SHARDS)
        .acl(acl::TRANSACTION)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RO)])
        .since("2.2.0"),
];

/// `MULTI`: OK; what follows is queued until EXEC or DISCARD. Errors: nested. Source: Redis 7.2 MULTI.
fn multi(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.session.multi.is_some() {
        return Err(CmdError::Text("ERR MULTI calls can not be nested"));
    }
    ctx.session.multi = Some(Box::<Multi>::default());
    ctx.client().multi_len.store(0, Ordering::Relaxed);
    ctx.reply.ok();
    Ok(())
}

/// `DISCARD`: OK; the queue and the watched keys are forgotten. Errors: without MULTI. Source: Redis 7.2 DISCARD.
fn discard(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.session.multi.is_none() {
        return Err(CmdError::Text("ERR DISCARD without MULTI"));
    }
    session::discard(ctx.session);
    watch::end(ctx.server, ctx.session);
    ctx.reply.ok();
    Ok(())
}

/// `EXEC`: array of the queued commands' replies; null when a watched key has changed. Errors: without MULTI;
/// EXECABORT when a command was refused while queueing. The shards of all queued commands and watched keys are
/// locked. Source: Redis 7.2 EXEC.
fn exec(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.propagate_nothing();
    let Some(multi) = ctx.session.multi.take() else { return Err(CmdError::Text("ERR EXEC without MULTI")) };
    ctx.client().ended_multi();
    let is_stale = watched_changed(ctx);
    watch::end_locked(ctx.server, ctx.db.locked, ctx.session);
    if multi.aborted {
        return Err(CmdError::ExecAbort);
    }
    if is_stale {
        ctx.reply.null_array();
        return Ok(());
    }
    ctx.reply.array(multi.queue.len());
    let mut reply = std::mem::take(ctx.reply);
    let mut config = None;
    for queued in &multi.queue {
        // Nothing is said any more once the connection is to be closed.
        let silent_from = ctx.session.closing.then(|| reply.mark());
        let argv: Vec<&[u8]> = queued.argv.iter().map(|arg| &**arg).collect();
        // Rights may have changed since it was queued.
        match permission::check(ctx.server, ctx.session, queued.command, &argv, Place::Multi) {
            Ok(()) => call::run_nested(ctx, queued.command, &argv, &mut reply, Origin::Exec, config.as_deref()),
            Err(denial) => {
                let error = lost_right(denial.reason);
                ctx.server.note_error(ctx.session.worker, error.as_bytes());
                reply.error(&error);
            }
        }
        if queued.command.command.has(ADMIN) {
            let changed = config.insert(ctx.server.config.load());
            ctx.db.effects.follow(changed);
        }
        reply.resp3 = ctx.session.resp3;
        if let Some(mark) = silent_from {
            reply.rewind(mark);
        }
    }
    *ctx.reply = reply;
    Ok(())
}

/// What stands in the place of a queued command's reply when its client may no longer run it.
fn lost_right(reason: Reason) -> String {
    let reason = match reason {
        Reason::Command => "no permission to execute the command or subcommand",
        Reason::Key => "no permission to touch the specified keys",
        Reason::Channel => "no permission to access one of the channels used as arguments",
    };
    format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command \
         is no longer allowed for the following reason: {reason}"
    )
}

/// Whether a watched key was changed, or its time has come since it was watched.
fn watched_changed(ctx: &Ctx) -> bool {
    let Some(watched) = &ctx.session.watch else { return false };
    let seed = ctx.server.shards.seed();
    let is_over_now = |db: usize, name: &[u8]| {
        let key = Key::new(seed, name);
        let entry = ctx.db.locked.shard(key.hash).dbs[db].keys.get(key.hash, key.bytes);
        entry.is_some_and(|entry| watches::is_over(entry, ctx.now_ms))
    };
    let is_gone = |(db, key, lived): &(usize, Box<[u8]>, bool)| *lived && is_over_now(*db, key);
    ctx.session.client.has_changed_watch() || watched.keys.iter().any(is_gone)
}

/// `WATCH key [key ...]`: OK; the next EXEC fails if one of them changes first. Errors: inside MULTI.
/// Source: Redis 7.2 WATCH.
fn watch_keys(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if ctx.session.multi.is_some() {
        return Err(watch::INSIDE_MULTI);
    }
    let (client, db) = (ctx.client().clone(), ctx.db.index);
    let number = client.watch();
    // Once EXEC is to fail there is nothing to look out for.
    while !args.is_empty() && !client.has_changed_watch() {
        let key = args.key()?;
        let lives = ctx.db.peek(key).is_some();
        if watches::enter(ctx.db.locked, &client, number, db, key, ctx.now_ms) {
            watch::note(ctx.session, key.bytes, lives);
        }
    }
    ctx.reply.ok();
    Ok(())
}

/// `UNWATCH`: OK. Source: Redis 7.2 UNWATCH.
fn unwatch(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.origin == Origin::Client {
        watch::end(ctx.server, ctx.session);
    }
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;
    use crate::util::clock::Clock;

    #[test]
    fn a_transaction_runs_as_one() {
        let mut c = Checker::new();
        c.check("MULTI", "OK");
        c.check("SET {t}a 1", "QUEUED");
        c.check("INCR {t}a", "QUEUED");
        c.check("MULTI", "-ERR MULTI calls can not be nested");
        c.check("EXEC", "[OK, :2]");
        c.check("EXEC", "-ERR EXEC without MULTI");
        c.check("DISCARD", "-ERR DISCARD without MULTI");
    }

    #[test]
    fn a_refused_command_aborts() {
        let mut c = Checker::new();
        c.check("MULTI", "OK");
        c.check("SET a", "-ERR wrong number of arguments for 'set' command");
        c.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
    }

    #[test]
    fn what_is_over_when_it_is_watched_may_go() {
        let clock = Clock::stopped_at(1_700_000_000_000);
        let mut options = crate::run::start::Options { clock, ..Default::default() };
        options.config.enable_debug_command = crate::config::ProtectedAction::Yes;
        let mut c = Checker::with(options);
        c.run("DEBUG SET-ACTIVE-EXPIRE 0");
        c.check("SET w 1 PX 1", "OK");
        c.pass_ms(5);
        c.check("WATCH w", "OK");
        c.check("DEL w", ":0");
        c.check("MULTI", "OK");
        c.check("PING", "QUEUED");
        c.check("EXEC", "[PONG]");
        c.check("SET w 1 PX 500", "OK");
        c.check("WATCH w", "OK");
        c.pass_ms(510);
        c.check("MULTI", "OK");
        c.check("PING", "QUEUED");
        c.check("EXEC", "nil");
        c.run("DEBUG SET-ACTIVE-EXPIRE 1");
    }

    /// WATCH does not look whether a key's time is over, and its deletion later is no change.
    #[test]
    fn watching_deletes_nothing() {
        let mut c = Checker::with_lazy_expiry();
        c.check("SET w 1 EXAT 1", "OK");
        c.check("WATCH w", "OK");
        c.check("DBSIZE", ":1");
        c.check("GET w", "nil");
        c.check("DBSIZE", ":0");
        c.check("MULTI", "OK");
        c.check("EXEC", "[]");
        c.expire_again();
    }

    #[test]
    fn client_list_shows_what_will_fail() {
        let mut c = Checker::new();
        c.check("WATCH w", "OK");
        c.other("SET w 1", "OK");
        assert!(c.run("CLIENT INFO").contains(" flags=d "));
        c.check("UNWATCH", "OK");
        assert!(c.run("CLIENT INFO").contains(" flags=N "));
        c.check("MULTI", "OK");
        c.check("GET", "-ERR wrong number of arguments for 'get' command");
        c.check("PING", "QUEUED");
        assert!(c.run_other("CLIENT LIST").contains(" flags=x db=0 sub=0 psub=0 ssub=0 multi=0 "));
    }

    #[test]
    fn watch_notices_changes_of_others() {
        let mut c = Checker::new();
        c.check("WATCH w", "OK");
        c.other("SET w 1", "OK");
        c.check("MULTI", "OK");
        c.check("SET w 2", "QUEUED");
        c.check("EXEC", "nil");
        c.check("GET w", "\"1\"");
        c.check("WATCH w", "OK");
        c.check("UNWATCH", "OK");
        c.other("SET w 5", "OK");
        c.check("MULTI", "OK");
        c.check("GET w", "QUEUED");
        c.check("EXEC", "[\"5\"]");
    }

    /// The target of a blocked BLMOVE is no key of the transaction that wakes it: it may live in any shard.
    #[test]
    fn a_transaction_wakes_who_waits_across_shards() {
        let mut c = Checker::new();
        for target in 0..16 {
            c.send(&format!("BLMOVE from to{target} LEFT RIGHT 5"));
            c.other("MULTI", "OK");
            c.other("RPUSH from x", "QUEUED");
            c.other("EXEC", "[:1]");
            c.receive("\"x\"");
        }
    }

    /// A read that finds a key expired wakes those who want to know of its deletion.
    #[test]
    fn a_read_that_expires_a_key_wakes_who_waits_across_shards() {
        let mut c = Checker::new();
        c.since("7.2");
        for n in 0..16 {
            c.other(&format!("XGROUP CREATE s{n} g $ MKSTREAM"), "OK");
            c.other(&format!("XGROUP CREATE t{n} g $ MKSTREAM"), "OK");
            c.send(&format!("XREADGROUP GROUP g me BLOCK 5000 STREAMS s{n} t{n} > >"));
            c.other(&format!("PEXPIRE s{n} 1"), ":1");
            std::thread::sleep(std::time::Duration::from_millis(3));
            c.run_other(&format!("GET s{n}"));
            c.receive(&format!("-NOGROUP No such key 's{n}' or consumer group 'g' in XREADGROUP with GROUP option"));
        }
    }

    #[test]
    fn a_configuration_holds_for_what_is_behind_it() {
        let mut c = Checker::new();
        c.check("MULTI", "OK");
        c.check("CONFIG SET zset-max-listpack-entries 0", "QUEUED");
        c.check("ZADD z 1 a", "QUEUED");
        c.check("EXEC", "[OK, :1]");
        c.check("OBJECT ENCODING z", "\"skiplist\"");
        c.run("CONFIG SET zset-max-listpack-entries 128");
    }

    #[test]
    fn exec_with_arguments_ends_the_transaction() {
        let mut c = Checker::new();
        let text = "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command";
        c.check("EXEC x", text);
        c.check("MULTI", "OK");
        c.check("EXEC x", text);
        c.check("EXEC", "-ERR EXEC without MULTI");
    }
}
