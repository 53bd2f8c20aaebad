//! What follows a command before its locks fall: blocked clients are served, events published, the feed written.

use crate::clients::Client;
use crate::command::args::Args;
use crate::command::call;
use crate::command::ctx::{Ctx, Origin, Setting};
use crate::command::gate;
use crate::command::session::{Deferred, ReplyMode, Session};
use crate::command::spec::BLOCKING;
use crate::command::table::CommandRef;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::db::Db;
use crate::keyspace::effects::KeyEvent;
use crate::keyspace::lock::ShardSet;
use crate::keyspace::value;
use crate::keyspace::waiters::{Wait, Waiter};
use crate::replication::waits;
use crate::resp::reply::Reply;
use crate::server::Server;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Serves who waits for what the command made ready, publishes its events and writes its records to the feed.
/// Called with the locks still held, and once for a whole transaction or script.
pub fn deliver(ctx: &mut Ctx<'_, '_>) {
    // What serving a client does is not one transaction with what made its key ready.
    log(ctx.server, &mut ctx.db, &ctx.session.client);
    tell_readers(ctx);
    // Serving a client can make further keys ready (BLMOVE): they are appended behind.
    while let Some((db, key)) = ctx.db.effects.ready.pop_front() {
        serve_key(ctx, db, &key);
        tell_readers(ctx);
    }
    publish_events(ctx.server, &mut ctx.db.effects.events);
    if !ctx.db.effects.tracked.is_empty() {
        let effects = &mut *ctx.db.effects;
        ctx.server.tracking.invalidate(&effects.own_stale, &ctx.server.clients);
        if ctx.origin != Origin::Client {
            ctx.server.tracking.broadcast(&ctx.server.clients);
        }
        effects.tracked.clear();
        effects.own_stale.clear();
        effects.looked_up = 0;
    }
    for value in ctx.db.effects.garbage.drain(..) {
        ctx.server.reclaimer.free(value, 1);
    }
    if ctx.db.effects.dirty > 0 {
        ctx.server.stats.dirty.fetch_add(ctx.db.effects.dirty as i64, Ordering::Relaxed);
        ctx.db.effects.dirty = 0;
    }
    ctx.db.effects.give_back();
}

/// Tells everybody who has read keys that these have changed, before all keys go.
pub fn tell_all_readers(ctx: &mut Ctx<'_, '_>) {
    if !ctx.db.effects.tracked.is_empty() {
        call::look_up_readers(ctx);
        ctx.server.tracking.invalidate(&ctx.db.effects.stale, &ctx.server.clients);
        ctx.db.effects.stale.clear();
    }
}

/// Tells those who have read keys that these have changed, before a client is served with what they hold now. Who has
/// changed them hears of it behind its reply.
fn tell_readers(ctx: &mut Ctx<'_, '_>) {
    if !ctx.db.effects.tracked.is_empty() {
        call::look_up_readers(ctx);
        let effects = &mut *ctx.db.effects;
        ctx.server.tracking.tell_others(&mut effects.stale, &mut effects.own_stale, &ctx.server.clients);
    }
}

/// Puts the client into the queues of the keys it asked to wait for, if its handler did.
pub fn block(ctx: &mut Ctx<'_, '_>, command: CommandRef, argv: &[&[u8]], shards: ShardSet) {
    let Some(block) = ctx.session.block.take().map(|block| *block) else { return };
    let own = |argv: &[&[u8]]| argv.iter().map(|arg| (*arg).into()).collect();
    let is_for_keys = matches!(block.wait, Wait::Keys { .. });
    debug_assert!(command.command.has(BLOCKING) || !is_for_keys, "only flagged commands wait for a key");
    let waiter = Arc::new(Waiter {
        ticket: ctx.server.waits.ticket(),
        client: ctx.session.client.clone(),
        command: command.id,
        sent_argv: block.argv.as_ref().map(|_| own(argv)),
        argv: block.argv.unwrap_or_else(|| own(argv)),
        db: ctx.session.db,
        resp3: ctx.session.resp3,
        is_muted: matches!(ctx.session.reply_mode, ReplyMode::Off | ReplyMode::Skip),
        // Who does not wait for keys is in no queue.
        shards: if is_for_keys { shards } else { ShardSet::NONE },
        wait: block.wait,
        deadline_ms: block.deadline_ms,
        on_timeout: block.on_timeout,
        done: AtomicBool::new(false),
        ran_nanos: AtomicU64::new(std::mem::take(&mut ctx.session.ran_nanos)),
        error: OnceLock::new(),
    });
    waiter.enter(ctx.db.locked, &ctx.server.shards);
    ctx.server.waits.begin(&waiter);
    ctx.session.waiter = Some(waiter.clone());
    match (&waiter.wait, block.work) {
        (_, Some(Deferred(begin))) => begin(ctx.server, waiter),
        (Wait::Replicas(_), None) => waits::begin(&ctx.server.replication, &waiter),
        (Wait::Keys { .. } | Wait::Thread(_), None) => {}
    }
}

/// Ends a wait whose time is over.
pub fn time_out(server: &Server, waiter: &Waiter, reply: &mut Reply) {
    match waiter.wait {
        _ if waiter.is_muted => {}
        Wait::Replicas(wanted) => wanted.write(waits::reached(&server.replication, &wanted), reply),
        Wait::Keys { .. } | Wait::Thread(_) => waiter.on_timeout.write(reply),
    }
}

/// Publishes keyspace events in order. Source: Redis 7.2 keyspace notifications.
pub fn publish_events(server: &Server, events: &mut Vec<KeyEvent>) {
    for event in events.drain(..) {
        let wanted = server.config.notify_classes();
        if wanted.contains(KeyspaceEvents::KEYSPACE) {
            let channel = [format!("__keyspace@{}__:", event.db).as_bytes(), &event.key].concat();
            server.pubsub.publish(&server.clients, &channel, event.event.as_bytes());
        }
        if wanted.contains(KeyspaceEvents::KEYEVENT) {
            let channel = format!("__keyevent@{}__:{}", event.db, event.event);
            server.pubsub.publish(&server.clients, channel.as_bytes(), &event.key);
        }
    }
}

/// Writes what a client has changed to the feed, and remembers how far the log and the replicas have to come for it.
fn log(server: &Server, db: &mut Db<'_, '_>, client: &Client) {
    if !db.effects.records.is_empty() {
        let effects = &mut *db.effects;
        effects.readers.append(&mut effects.records, effects.apart);
        client.log_position.store(server.aof.queue.pushed(), Ordering::Relaxed);
        client.stream_offset.store(server.replication.stream.end(), Ordering::Relaxed);
    }
}

/// Serves who waits for a key, in order of arrival and each once, until there is nothing left for anybody.
fn serve_key(ctx: &mut Ctx<'_, '_>, db: usize, key: &[u8]) {
    let key = Key::new(ctx.server.shards.seed(), key);
    let part = &mut ctx.db.locked.shard_mut(key.hash).dbs[db];
    let Some(last) = part.waiters.begin_serving(key.bytes) else { return };
    let mut ticket = None;
    loop {
        let index = std::mem::replace(&mut ctx.db.index, db);
        let kind = ctx.db.peek(key).map(value::kind_of);
        ctx.db.index = index;
        let waiters = &ctx.db.locked.shard(key.hash).dbs[db].waiters;
        if kind.is_none() && !waiters.want_deletion(key.bytes) {
            return;
        }
        let next = waiters.after(key.bytes, ticket).filter(|waiter| waiter.ticket <= last);
        let Some(waiter) = next else { return };
        ticket = Some(waiter.ticket);
        if waiter.wait.is_due(kind) && waiter.is_waiting() && !waiter.client.has(Client::KILLED | Client::UNBLOCKED) {
            serve_waiter(ctx, &waiter.clone());
        }
    }
}

/// Runs a blocked client's command again; when it does not ask to wait once more, its reply goes to the client.
fn serve_waiter(ctx: &mut Ctx<'_, '_>, waiter: &Arc<Waiter>) {
    debug_assert!(ctx.db.locked.set().contains(waiter.shards), "the engine locks what a waiter needs");
    let command = ctx.registry.command(waiter.command);
    let mut session = Session::of_waiter(waiter, ctx.session.worker);
    let mut reply = Reply::new(waiter.resp3);
    let argv: Vec<&[u8]> = waiter.argv.iter().map(|arg| &**arg).collect();
    // A transaction or script may have run for long: what it made ready may have expired by now.
    let now_ms = ctx.server.clock.now_ms();
    let setting = Setting { now_ms, ..ctx.setting() };
    let mut db: Db<'_, '_> = ctx.db.reborrow();
    db.index = waiter.db;
    db.now_ms = now_ms;
    let mut nested = Ctx::new(setting, db, &mut session, &mut reply, command, Origin::Waiter);
    match gate::check_again(ctx.server, ctx.config, nested.session, command, &argv) {
        Ok(()) => {
            let sent: Vec<&[u8]> = waiter.sent().iter().map(|arg| &**arg).collect();
            let args = Args::new(&argv, command.command, ctx.server.shards.seed(), (0, 0));
            call::run_handler(&mut nested, &mut args.sent_as(&sent), Some(&mut Instant::now()));
        }
        Err(error) => {
            ctx.server.note_rejected(nested.session.worker, Some(command), &error.text());
            nested.reply.error(error.text());
        }
    }
    log(ctx.server, &mut ctx.db, &waiter.client);
    if session.block.is_some() {
        waiter.ran_nanos.store(session.ran_nanos, Ordering::Relaxed);
        return;
    }
    ctx.server.waits.leave(ctx.db.locked, &ctx.server.shards, waiter);
    waiter.release(&ctx.server.clients, &reply.buf);
}
