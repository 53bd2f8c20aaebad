//! Running one command: check, lock, run, record, wake.

use crate::clients::Client;
use crate::command::args::{Args, Request};
use crate::command::ctx::{Ctx, Origin, Setting};
use crate::command::error::{CmdError, CmdResult};
use crate::command::gate;
use crate::command::locks::{self, Needed};
use crate::command::monitor;
use crate::command::observe::Ended;
use crate::command::room::Evictor;
use crate::command::serve;
use crate::command::session::{self, Multi, Queued, ReplyMode, Session};
use crate::command::spec::{
    ADMIN, ALLOW_BUSY, KEEPS_CACHING, NO_MULTI, NOT_QUEUED, READONLY, Scope, WITHOUT_SHARDS, WRITE, acl,
};
use crate::command::table::{CommandRef, Registry, key_positions};
use crate::command::watch;
use crate::config::Config;
use crate::feed::records;
use crate::keyspace::db::{Access, Db, Touch, lfu_minutes, lru_clock};
use crate::keyspace::effects::Effects;
use crate::keyspace::lock::{Locked, MayWait, ShardSet};
use crate::resp::reply::{Mark, Reply};
use crate::server::Server;
use crate::snapshot::load::Target;
use crate::util::text;
use redstart_types::number;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What one worker thread keeps from command to command.
#[derive(Debug)]
pub struct Engine {
    pub server: Arc<Server>,
    pub registry: Arc<Registry>,
    /// Whose counters it counts on.
    pub worker: usize,
    /// The main loop's may not wait for shards, and runs only what is allowed while a script runs.
    pub may_wait: Option<MayWait>,
    pub config: Arc<Config>,
    /// Unix time in ms, read once a batch.
    pub now_ms: i64,
    /// When the batch began or the last command ended.
    pub clock: Instant,
    effects: Effects,
    /// Stands for the server where a client is needed.
    pub own_client: Arc<Client>,
    pub(super) evictor: Evictor,
    /// A buffer for the replies of whichever connection runs next.
    pub spare_reply: Vec<u8>,
}

/// Room for replies that a worker has from the start, so that its memory does not grow with its first long reply.
const REPLY_BYTES: usize = 16 * 1024;

impl Engine {
    /// An engine that counts on `worker`'s counters.
    pub fn new(server: Arc<Server>, registry: Arc<Registry>, worker: usize, may_wait: Option<MayWait>) -> Self {
        let config = server.config.load();
        let now_ms = server.clock.now_ms();
        let own_client = server.clients.nobody(worker, now_ms);
        let evictor = Evictor::new(server.random.small());
        let effects = Effects::default();
        let (clock, spare_reply) = (Instant::now(), Vec::with_capacity(REPLY_BYTES));
        Engine { server, registry, worker, may_wait, config, now_ms, clock, effects, own_client, evictor, spare_reply }
    }

    /// Reads clock and configuration afresh. Called before each batch of commands.
    pub fn begin_batch(&mut self) {
        self.now_ms = self.server.clock.now_ms();
        self.clock = Instant::now();
        self.server.config.refresh(&mut self.config);
    }

    /// What follows the commands that a connection has sent at once.
    pub fn end_batch(&self) {
        self.server.tracking.broadcast(&self.server.clients);
    }

    /// Runs one command of a client: its reply, or the error it deserves, is appended to `reply`. The command may
    /// leave the session blocked or closing.
    pub fn execute(&mut self, session: &mut Session, reply: &mut Reply, request: Request<'_>) {
        let argv = request.argv;
        let is_muted = matches!(session.reply_mode, ReplyMode::Off | ReplyMode::Skip);
        // What nobody gets is not kept even for the time of the command.
        let limit = is_muted.then(|| reply.leave_all_out());
        let start = reply.mark();
        let found = self.registry.resolve(argv);
        let command = found.as_ref().ok().copied();
        session.client.last_command.store(command.map_or(Client::NO_COMMAND, |command| command.id), Ordering::Relaxed);
        if let Err(error) = found.and_then(|command| self.checked(session, reply, command, request)) {
            reply.rewind(start);
            self.refused(session, reply, command, argv, &error);
        }
        if let Some(limit) = limit {
            reply.limit = limit;
        }
        if session.paused_until_ms.is_some() {
            return;
        }
        if session.client.has(Client::MONITOR) && session.reply_mode == ReplyMode::On {
            // Its own line comes right behind its reply.
            reply.append(self.server.clients.take_output(&session.client));
        }
        match session.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => mute(session, reply, start),
            ReplyMode::SkipNext => session.reply_mode = ReplyMode::Skip,
            ReplyMode::Skip => {
                mute(session, reply, start);
                session.reply_mode = ReplyMode::On;
            }
        }
    }

    /// Evicts keys, and tracked reads, that have to go for a limit. Whoever tracks keys and sends the next command hears
    /// of those before its reply.
    pub fn keep_limits(&mut self, session: &Session, reply: &mut Reply) {
        if !session.client.has(Client::TRACKING) {
            return;
        }
        if self.config.maxmemory > 0 {
            self.make_room();
        }
        self.server.tracking.shrink(self.config.tracking_table_max_keys, &self.server.clients);
        let output = self.server.clients.take_output(&session.client);
        reply.append(output);
    }

    fn checked(
        &mut self,
        session: &mut Session,
        reply: &mut Reply,
        command: CommandRef,
        request: Request<'_>,
    ) -> CmdResult {
        self.check(session, command, request.argv)?;
        if self.may_wait.is_none() && !command.command.has(ALLOW_BUSY) {
            // The script that the main loop answers for has just ended.
            session.come_again();
            return Ok(());
        }
        session.paused_until_ms = self.paused_until_ms(session, command, request.argv);
        if session.paused_until_ms.is_some() {
            return Ok(());
        }
        if session.multi.is_some() && !command.command.has(NO_MULTI | NOT_QUEUED) {
            let flags = gate::flags_of(&self.server, session, command, request.argv);
            queue(session, command, request.argv, flags);
            reply.status("QUEUED");
            return Ok(());
        }
        self.run(session, reply, command, request)
    }

    /// Applies a command of a log or a master: its keys are what the log says, whatever the time is now. An error is a
    /// command that there is not, or not with so many arguments.
    pub fn apply(
        &mut self,
        target: &mut Target<'_, '_>,
        session: &mut Session,
        reply: &mut Reply,
        argv: &[&[u8]],
    ) -> CmdResult {
        let server = self.server.clone();
        let command = self.registry.resolve(argv)?;
        if !command.command.takes(argv.len()) {
            return Err(CmdError::Arity(command.command.name));
        }
        let needed = locks::needed(&server.shards, session, command, argv, None);
        match target {
            Target::Locked(locked) => self.apply_locked(locked, session, reply, command, argv, needed),
            Target::Shards(shards, may_wait) => {
                let mut locked = shards.lock(needed.shards, *may_wait);
                self.apply_locked(&mut locked, session, reply, command, argv, needed);
            }
        }
        Ok(())
    }

    fn apply_locked(
        &mut self,
        locked: &mut Locked<'_>,
        session: &mut Session,
        reply: &mut Reply,
        command: CommandRef,
        argv: &[&[u8]],
        needed: Needed,
    ) {
        let server = self.server.clone();
        self.begin_effects();
        // It is in the log already.
        self.effects.recording = false;
        let mut access = access(&server, &self.config, &session.client, self.now_ms);
        access.deletes_expired = false;
        let setting = Setting { server: &server, registry: &self.registry, config: &self.config, now_ms: self.now_ms };
        // No key's time is over: what has expired is deleted by the log itself.
        let db = Db { locked, index: session.db, effects: &mut self.effects, now_ms: i64::MIN, access };
        let mut ctx = Ctx::new(setting, db, session, reply, command, Origin::Log);
        let mut args = Args::new(argv, command.command, server.shards.seed(), needed.first_key);
        run_handler(&mut ctx, &mut args, None);
        serve::deliver(&mut ctx);
    }

    /// Locks what the command needs, runs it, and delivers what it did.
    fn run(
        &mut self,
        session: &mut Session,
        reply: &mut Reply,
        command: CommandRef,
        request: Request<'_>,
    ) -> CmdResult {
        let argv = request.argv;
        let server = self.server.clone();
        let needed = locks::needed(&server.shards, session, command, argv, request.first_hash);
        let Some(mut locked) = self.lock_with_waiters(&server, needed.shards) else {
            return self.run_without(session, reply, command, request);
        };
        if server.stop.is_requested() {
            // The final save is over: nothing is acknowledged that is not in it.
            session.closing = true;
            return Ok(());
        }
        if server.migrations.is_active() && self.is_held(session, command, argv) {
            return Ok(());
        }
        self.begin_effects();
        let setting = Setting { server: &server, registry: &self.registry, config: &self.config, now_ms: self.now_ms };
        let access = access(&server, &self.config, &session.client, self.now_ms);
        let (index, now_ms) = (session.db, self.now_ms);
        let db = Db { locked: &mut locked, index, effects: &mut self.effects, now_ms, access };
        let mut ctx = Ctx::new(setting, db, session, reply, command, Origin::Client);
        let mut args = Args::of_request(request, command.command, server.shards.seed(), needed.first_key);
        run_handler(&mut ctx, &mut args, Some(&mut self.clock));
        serve::block(&mut ctx, command, argv, needed.shards);
        serve::deliver(&mut ctx);
        drop(locked);
        self.count();
        if command.command.has(ADMIN) {
            // CONFIG SET holds for the next command of the same batch already.
            server.config.refresh(&mut self.config);
        }
        Ok(())
    }

    /// Whether the command would change a key that is under way to another server. If so the session is to come again
    /// with it; nothing has been done. The command's shards are locked.
    fn is_held(&self, session: &mut Session, command: CommandRef, argv: &[&[u8]]) -> bool {
        let touches = |is_held: &dyn Fn(&[u8]) -> bool| {
            let queued = session.multi.iter().flat_map(|multi| &multi.queue);
            let queued = if command.command.scope == Scope::Queue { Some(queued) } else { None };
            may_touch(command, argv, is_held)
                || queued.into_iter().flatten().any(|queued| {
                    let argv: Vec<&[u8]> = queued.argv.iter().map(|arg| &**arg).collect();
                    may_touch(queued.command, &argv, is_held)
                })
        };
        session.held_since = self.server.migrations.wait(&session.client, touches);
        if session.held_since.is_some() {
            session.paused_until_ms = Some(i64::MAX);
        }
        session.held_since.is_some()
    }

    /// Locks the shards of a command, of an expiry or an eviction; all of them when a client is blocked on keys across shards
    /// that this command could make ready: by a write, by a write in its transaction, or by finding a key expired.
    #[inline]
    pub fn lock_with_waiters<'g>(&self, server: &'g Server, set: ShardSet) -> Option<Locked<'g>> {
        let locked = self.shards(server, set)?;
        if locked.is_all() || locked.iter().all(|shard| shard.cross_shard_waiters == 0) {
            return Some(locked);
        }
        drop(locked);
        self.shards(server, server.shards.all())
    }

    /// Locks shards; None when a script holds them that has been running for long or, in the main loop, when anybody does.
    #[inline]
    pub fn shards<'g>(&self, server: &'g Server, set: ShardSet) -> Option<Locked<'g>> {
        match self.may_wait {
            Some(may_wait) => server.shards.lock_unless(set, may_wait, || server.busy.is_busy()),
            None => server.shards.try_lock(set),
        }
    }

    /// What becomes of a command whose shards cannot be had.
    fn run_without(
        &mut self,
        session: &mut Session,
        reply: &mut Reply,
        command: CommandRef,
        request: Request<'_>,
    ) -> CmdResult {
        let is_watch = command.command.has(WITHOUT_SHARDS);
        if is_watch && watch::begin_later(&self.server, session, &request.argv[1..])? {
            reply.ok();
            return Ok(());
        }
        if self.may_wait.is_none() {
            // The script has just ended.
            session.come_again();
            return Ok(());
        }
        // WATCH is never refused.
        if is_watch { self.run(session, reply, command, request) } else { Err(CmdError::of_busy(&self.server.busy)) }
    }

    /// Runs `work` on a locked database in the server's own name, and delivers what it did.
    pub fn with_db<'g>(&mut self, locked: &mut Locked<'g>, index: usize, work: impl FnOnce(&mut Ctx<'_, 'g>)) {
        let (server, registry) = (self.server.clone(), self.registry.clone());
        let mut session = Session::new(self.own_client.clone(), true);
        session.worker = self.worker;
        session.select(index);
        let mut reply = Reply::default();
        let config = self.config.clone();
        let now_ms = self.now_ms;
        let access = access(&server, &config, &session.client, now_ms);
        let db = Db { locked, index, effects: self.effects(), now_ms, access };
        let setting = Setting { server: &server, registry: &registry, config: &config, now_ms };
        let mut ctx = Ctx::new(setting, db, &mut session, &mut reply, registry.first(), Origin::Log);
        work(&mut ctx);
        serve::deliver(&mut ctx);
    }

    fn begin_effects(&mut self) {
        let effects = &mut self.effects;
        effects.dirty = 0;
        effects.apart = false;
        effects.time_us = None;
        self.server.feed.refresh(&mut effects.readers);
        effects.recording = !effects.readers.is_empty();
        effects.tracking = self.server.tracking.is_on();
        effects.follow(&self.config);
    }

    /// Moves the counts of the last command to the worker's counters.
    pub fn count(&mut self) {
        let stats = self.server.stats.worker(self.worker);
        let effects = &mut self.effects;
        stats.keyspace_hits.add(std::mem::take(&mut effects.hits));
        stats.keyspace_misses.add(std::mem::take(&mut effects.misses));
        stats.expired_keys.add(std::mem::take(&mut effects.expired));
    }

    fn refused(
        &self,
        session: &mut Session,
        reply: &mut Reply,
        command: Option<CommandRef>,
        argv: &[&[u8]],
        error: &CmdError,
    ) {
        let mut text = error.text();
        if let Some(multi) = &mut session.multi {
            multi.aborted = true;
        }
        if let Some(exec) = command.filter(|command| command.command.scope == Scope::Queue) {
            session::discard(session);
            watch::end(&self.server, session);
            let reason = text.strip_prefix(b"ERR ").unwrap_or(&text);
            text = text::fill("EXECABORT Transaction discarded because of: {}", &[reason]).into();
            monitor::show_refused(&self.server, &session.client, exec, argv);
        }
        self.server.note_rejected(self.worker, command, &text);
        reply.error(&text);
    }

    /// Notes whether there is memory left, for the scripts of the next command.
    pub(super) fn note_out_of_memory(&mut self, out_of_memory: bool) {
        self.effects.out_of_memory = out_of_memory;
    }

    /// The effects collector, for work that the server does of its own accord.
    pub fn effects(&mut self) -> &mut Effects {
        self.begin_effects();
        &mut self.effects
    }
}

/// Takes a command's reply back, but not what is no reply.
fn mute(session: &mut Session, reply: &mut Reply, start: Mark) {
    reply.rewind(start);
    reply.raw(&std::mem::take(&mut session.pushes));
}

/// Whether a command may change a key of which `is_held` is true.
fn may_touch(command: CommandRef, argv: &[&[u8]], is_held: &dyn Fn(&[u8]) -> bool) -> bool {
    let spec = command.command;
    if !spec.has(WRITE) && !spec.runs_script() {
        return false;
    }
    let mut touches = spec.scope == Scope::AllShards;
    key_positions(spec, argv, |position, _| touches |= is_held(argv[position]));
    touches
}

/// Runs a command's handler inside `ctx` and records its effect. An error it returns replaces its reply.
pub fn run_handler(ctx: &mut Ctx<'_, '_>, args: &mut Args<'_>, clock: Option<&mut Instant>) {
    let start = ctx.reply.mark();
    let dirty = ctx.db.effects.dirty;
    let outer = std::mem::take(&mut ctx.db.effects.has_spoken);
    let index = ctx.db.index;
    let result = (ctx.command.command.handler)(ctx, args);
    if let Err(error) = &result {
        ctx.reply.rewind(start);
        ctx.reply.error(error.text());
    }
    look_up_readers(ctx);
    track(ctx, args.argv());
    record(ctx, args, index, dirty);
    ctx.db.effects.has_spoken = outer;
    // What is loaded from the log was called before. Source: Redis 7.2.
    if ctx.origin != Origin::Log {
        note(ctx, args, start, result.is_err(), clock);
    }
}

/// Notes a command whose handler has returned. One that waits is noted when its wait ends, with how long it ran so far.
fn note(ctx: &mut Ctx<'_, '_>, args: &Args<'_>, start: Mark, has_failed: bool, clock: Option<&mut Instant>) {
    if ctx.reply.is_error_since(start) {
        note_failed(ctx, start, has_failed);
    }
    let nanos = clock.map(|clock| {
        let began = std::mem::replace(clock, Instant::now());
        clock.duration_since(began).as_nanos() as u64 + std::mem::take(&mut ctx.session.ran_nanos)
    });
    if ctx.session.block.is_some() {
        ctx.session.ran_nanos = nanos.unwrap_or(0);
    } else {
        let client = if ctx.origin == Origin::Script { None } else { Some(&*ctx.session.client) };
        let ended = Ended { command: ctx.command, argv: args.sent(), client, nanos };
        ctx.server.note_ended(ctx.config, ctx.session.worker, ctx.now_ms, &ended);
    }
    monitor::show_run(ctx, args.sent());
}

#[cold]
fn note_failed(ctx: &Ctx<'_, '_>, start: Mark, has_failed: bool) {
    let line = &ctx.reply.since(start)[1..];
    let stats = ctx.server.stats.worker(ctx.session.worker);
    // The error that a script answers is counted by its host: it may be that of a command the script ran.
    if has_failed || !ctx.command.command.runs_script() {
        ctx.server.note_failed(ctx.session.worker, ctx.command, line);
    } else {
        stats.commands[usize::from(ctx.command.id)].failed.add(1);
    }
}

/// Notes who has read the keys that the command has changed, before it counts as a reader itself.
pub(super) fn look_up_readers(ctx: &mut Ctx<'_, '_>) {
    let effects = &mut *ctx.db.effects;
    if effects.looked_up < effects.tracked.len() {
        let keys = &effects.tracked[effects.looked_up..];
        ctx.server.tracking.take_readers(keys, ctx.session.client.id, &mut effects.stale);
        effects.looked_up = effects.tracked.len();
    }
}

/// Remembers the keys that a tracking client has read.
fn track(ctx: &mut Ctx<'_, '_>, argv: &[&[u8]]) {
    if !ctx.session.client.has(Client::TRACKING) {
        return;
    }
    let command = ctx.command.command;
    if command.has(READONLY) && command.acl & acl::SCRIPTING == 0 {
        let mut keys = Vec::new();
        key_positions(command, argv, |position, _| keys.push(argv[position]));
        ctx.server.tracking.remember(&ctx.session.client, ctx.session.caching, keys.into_iter());
        ctx.server.tracking.shrink(ctx.config.tracking_table_max_keys, &ctx.server.clients);
    }
    // CLIENT CACHING speaks of one command, or one transaction.
    if ctx.origin == Origin::Client && !command.has(KEEPS_CACHING) && ctx.session.multi.is_none() {
        ctx.session.caching = None;
    }
}

/// Puts the command among the records if it changed anything and has not said anything instead.
fn record(ctx: &mut Ctx<'_, '_>, args: &Args<'_>, index: usize, dirty_before: u64) {
    let effects = &mut *ctx.db.effects;
    let has_changed = effects.dirty != dirty_before;
    if effects.recording && has_changed && !effects.has_spoken && ctx.origin != Origin::Log {
        match args.encoded() {
            Some(command) => effects.records.push_encoded(index, records::Target::Everybody, command),
            None => effects.records.push(index, records::Target::Everybody, args.argv()),
        }
    }
}

/// Runs a command inside another one (EXEC, a script): the locks are held already. Its reply goes to `reply`. `config` is
/// what CONFIG SET has made of the configuration in the same transaction, if it has.
pub fn run_nested(
    ctx: &mut Ctx<'_, '_>,
    command: CommandRef,
    argv: &[&[u8]],
    reply: &mut Reply,
    origin: Origin,
    config: Option<&Config>,
) {
    let seed = ctx.server.shards.seed();
    let setting = Setting { config: config.unwrap_or(ctx.config), ..ctx.setting() };
    let mut db = ctx.db.reborrow();
    db.index = ctx.session.db;
    let mut nested = Ctx::new(setting, db, ctx.session, reply, command, origin);
    let mut args = Args::new(argv, command.command, seed, (0, 0));
    let mut clock = nested.config.wants_durations().then(Instant::now);
    run_handler(&mut nested, &mut args, clock.as_mut());
}

/// How this server looks at keys now.
pub fn access(server: &Server, config: &Config, client: &Client, now_ms: i64) -> Access {
    let touch = if client.has(Client::NO_TOUCH) { None } else { Some(touch(server, config, now_ms)) };
    // Nothing may change during a pause, whatever it holds back.
    Access { deletes_expired: server.pause.until_ms(now_ms).is_none(), touch }
}

/// What an access leaves in a key's LRU field now.
pub fn touch(server: &Server, config: &Config, now_ms: i64) -> Touch {
    if !config.maxmemory_policy.is_lfu() {
        return Touch::Lru(lru_clock(now_ms));
    }
    Touch::Lfu {
        minutes: lfu_minutes(now_ms),
        log_factor: config.lfu_log_factor,
        decay_minutes: config.lfu_decay_time,
        random: server.random.next_u64() as u32,
    }
}

/// A `numkeys`-like argument: an integer that is not negative, or None.
pub fn parse_count(arg: &[u8]) -> Option<i64> {
    number::parse_int(arg).filter(|count| *count >= 0)
}

fn queue(session: &mut Session, command: CommandRef, argv: &[&[u8]], flags: u32) {
    let multi = session.multi.get_or_insert_with(Box::<Multi>::default);
    // What EXEC will not run is not kept.
    if multi.aborted || session.client.has_changed_watch() {
        return;
    }
    multi.flags |= flags;
    multi.queue.push(Queued { command, argv: argv.iter().map(|arg| (*arg).into()).collect() });
    session.client.queued(multi.queue.len(), argv);
}
