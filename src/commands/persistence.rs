//! Saving and restoring: SAVE, BGSAVE, LASTSAVE, SHUTDOWN, and the serialized values of DUMP and RESTORE.

use crate::aof::{self, Mode, rewrite};
use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::replay::Replayer;
use crate::command::session::Block;
use crate::command::spec::*;
use crate::config::{Config, KeyspaceEvents, ShutdownFlags};
use crate::core::background;
use crate::core::stop::{CalledOff, NotEnded};
use crate::keyspace::db::Expiry;
use crate::keyspace::lock::MayWait;
use crate::keyspace::value::Entry;
use crate::server::Server;
use crate::snapshot::convert::{self, Builder, Limits, Loaded};
use crate::snapshot::load::{self, Purpose, Target};
use crate::snapshot::{digest, save};
use redstart_persistence::rdb::{self, DumpError, DumpReader, Encoder, Part, Str};
use std::fmt::Display;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[
    Command::new("bgrewriteaof", 1, bgrewriteaof).flags(ADMIN | NO_ASYNC_LOADING | NOSCRIPT),
    Command::new("bgsave", -1, bgsave).flags(ADMIN | NO_ASYNC_LOADING | NOSCRIPT).scope(Scope::AllShards),
    Command::new("dump", 2, dump)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)])
        .since("2.6.0")
        .tips(&["nondeterministic_output"]),
    Command::new("lastsave", 1, lastsave)
        .flags(FAST | LOADING | STALE)
        .acl(acl::ADMIN | acl::DANGEROUS)
        .tips(&["nondeterministic_output"]),
    Command::new("restore", -4, restore)
        .flags(DENYOOM | WRITE)
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE)])
        .since("2.6.0"),
    Command::new("restore-asking", -4, restore)
        .flags(ASKING | DENYOOM | WRITE)
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE)])
        .since("3.0.0"),
    Command::new("save", 1, save).flags(ADMIN | NO_ASYNC_LOADING | NO_MULTI | NOSCRIPT).scope(Scope::AllShards),
    Command::new("shutdown", -1, shutdown).flags(ADMIN | ALLOW_BUSY | LOADING | NO_MULTI | NOSCRIPT | STALE),
];

/// `SAVE`: OK once the RDB file is on disk; everybody waits meanwhile. Source: Redis 7.2 SAVE.
fn save(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.server.persistence.has_snapshot_under_way() && !ctx.server.persistence.is_copying() {
        return Err(CmdError::Text("ERR Background save already in progress"));
    }
    save_now(ctx)?;
    ctx.reply.status("OK");
    Ok(())
}

fn save_now(ctx: &mut Ctx) -> CmdResult {
    save::in_foreground(ctx.server, &ctx.server.persistence, ctx.config, ctx.db.locked).map_err(|error| {
        ctx.server.log.warning(error);
        CmdError::Text("ERR")
    })
}

/// `BGSAVE [SCHEDULE]`: a status that says whether it has been started or scheduled. Source: Redis 7.2 BGSAVE.
fn bgsave(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let is_scheduled = args.flag("SCHEDULE");
    args.finish()?;
    let is_copying = ctx.server.persistence.is_copying();
    if ctx.server.persistence.has_snapshot_under_way() && !is_copying {
        return Err(CmdError::Text("ERR Background save already in progress"));
    }
    if ctx.origin == Origin::Exec || is_copying || is_scheduled && ctx.server.aof.is_rewriting() {
        ctx.server.persistence.schedule();
        ctx.reply.status("Background saving scheduled");
        return Ok(());
    }
    if ctx.server.aof.is_rewriting() {
        return Err(CmdError::Text(
            "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to \
             schedule a BGSAVE whenever possible.",
        ));
    }
    if !save::start(&ctx.server.core, &ctx.server.persistence, ctx.db.locked) {
        return Err(CmdError::Text("ERR"));
    }
    ctx.reply.status("Background saving started");
    Ok(())
}

/// `BGREWRITEAOF`: a status that says whether it has been started or scheduled. Source: Redis 7.2 BGREWRITEAOF.
fn bgrewriteaof(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let server = ctx.server;
    if server.aof.is_rewriting() {
        return Err(CmdError::Text("ERR Background append only file rewriting already in progress"));
    }
    if server.persistence.has_snapshot_under_way() || ctx.origin == Origin::Exec {
        server.aof.schedule_rewrite();
        ctx.reply.status("Background append only file rewriting scheduled");
        return Ok(());
    }
    if !rewrite::start(&server.aof) {
        let text = "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.";
        return Err(CmdError::Text(text));
    }
    ctx.reply.status("Background append only file rewriting started");
    Ok(())
}

/// `LASTSAVE`: integer, Unix time in seconds of the last save that worked. Source: Redis 7.2 LASTSAVE.
fn lastsave(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.integer(ctx.server.persistence.saves().last_save_s);
    Ok(())
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`: no reply when the server ends; an error when it does not.
/// Source: Redis 7.2 SHUTDOWN.
fn shutdown(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut wish = ShutdownFlags::default();
    let mut abort = false;
    while !args.is_empty() {
        match args.one_of(&["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"]) {
            Some(0) => wish.nosave = true,
            Some(1) => wish.save = true,
            Some(2) => wish.now = true,
            Some(3) => wish.force = true,
            Some(_) => abort = true,
            None => return Err(CmdError::Syntax),
        }
    }
    if abort && wish != ShutdownFlags::default() || wish.save && wish.nosave {
        return Err(CmdError::Syntax);
    }
    if abort {
        return shutdown_abort(ctx);
    }
    if !wish.now && ctx.denies_blocking() {
        let text = "ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client";
        return Err(CmdError::Text(text));
    }
    if !wish.nosave && ctx.server.busy.is_busy() {
        return Err(CmdError::of_busy(&ctx.server.busy));
    }
    if !wish.now && ctx.server.has_lagging_replicas() {
        // It begins here, so that what others do after this command finds it.
        return match ctx.server.begin_end(wish) {
            Ok(id) => {
                on_another_thread(ctx, SHUTDOWN_FAILED, move |server, may_wait| server.end(may_wait, id, wish).is_ok())
            }
            Err(id) => on_another_thread(ctx, SHUTDOWN_FAILED, move |server, _| server.ends_by_attempt(id)),
        };
    }
    on_another_thread(ctx, SHUTDOWN_FAILED, move |server, may_wait| match server.shut_down(may_wait, wish) {
        Ok(()) => true,
        Err(NotEnded::UnderWay(id)) => server.ends_by_attempt(id),
        Err(NotEnded::Failed) => false,
    })
}

fn shutdown_abort(ctx: &mut Ctx) -> CmdResult {
    match ctx.server.call_off_end() {
        CalledOff::Yes => ctx.reply.ok(),
        // Redis, busy saving, would answer only if that fails.
        CalledOff::Saving(id) => {
            return on_another_thread(ctx, NO_SHUTDOWN, move |server, _| server.ends_by_attempt(id));
        }
        CalledOff::Nothing => return Err(CmdError::Text(NO_SHUTDOWN)),
    }
    Ok(())
}

const SHUTDOWN_FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";
const NO_SHUTDOWN: &str = "ERR No shutdown in progress.";

/// Lets a thread do or await the end of the server; the client waits for it and gets the error if the server goes on.
fn on_another_thread(
    ctx: &mut Ctx,
    error: &'static str,
    ends: impl FnOnce(&Server, MayWait) -> bool + Send + 'static,
) -> CmdResult {
    ctx.block(Block::on_thread(move |server, waiter| {
        let (own, client) = (server.clone(), waiter.clone());
        let answer =
            move |server: &Server| server.waits.answer(&server.clients, &client, format!("-{error}\r\n").as_bytes());
        let failed = answer.clone();
        let end = move |may_wait| {
            if !ends(&own, may_wait) {
                answer(&own);
            }
        };
        if background::spawn("shutdown", end).is_err() {
            failed(server);
        }
    }))
}

/// `DUMP key`: bulk string, the value in RDB's format with a version and a checksum behind it; null without key.
/// Source: Redis 7.2 DUMP.
fn dump(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    match ctx.db.read(key) {
        Some(entry) => ctx.reply.bulk(&dump_payload(entry, ctx.config)),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// A value as RESTORE takes it.
pub(crate) fn dump_payload(entry: &Entry, config: &Config) -> Vec<u8> {
    let version = config.rdb_version;
    let options = rdb::WriteOptions { version, compression: config.rdbcompression, ..rdb::WriteOptions::default() };
    let mut encoder = Encoder::new(options);
    let content = entry.content();
    let kind = encoder.kind(convert::natural_kind(&content));
    encoder.dump_kind(kind);
    convert::encode(&mut encoder, kind, &content);
    let mut payload = encoder.take();
    rdb::finish_dump(&mut payload, version as u16);
    payload
}

/// Bytes of a value in an RDB file, without its type.
pub(crate) fn serialized_len(entry: &Entry, config: &Config) -> usize {
    let options = rdb::WriteOptions { compression: config.rdbcompression, ..rdb::WriteOptions::default() };
    let mut encoder = Encoder::new(options);
    let content = entry.content();
    let kind = encoder.kind(convert::natural_kind(&content));
    convert::encode(&mut encoder, kind, &content);
    encoder.take().len()
}

/// `DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]`: saves, empties all databases and loads the file again. All shards must
/// be locked. Source: Redis 7.2 DEBUG RELOAD.
pub fn debug_reload(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    refuse_while_loading(ctx)?;
    let (mut saves, mut empties, mut purpose) = (true, true, Purpose::default());
    while !args.is_empty() {
        match args.one_of(&["MERGE", "NOFLUSH", "NOSAVE"]) {
            Some(0) => purpose.merge = true,
            Some(1) => empties = false,
            Some(_) => saves = false,
            None => {
                let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
                return Err(CmdError::Text(text));
            }
        }
    }
    if saves {
        save_now(ctx)?;
    }
    if empties {
        empty_all(ctx);
        ctx.server.functions.with(redstart_script::Functions::flush)??;
    }
    let path = ctx.config.dir.join(&ctx.config.dbfilename);
    ctx.server.loading.store(true, Ordering::Release);
    let loaded =
        load::file(ctx.server, &ctx.server.persistence, ctx.config, &path, &mut Target::Locked(ctx.db.locked), purpose);
    ctx.server.loading.store(false, Ordering::Release);
    if let Err(error) = loaded {
        ctx.server.log.warning(error);
        return Err(CmdError::Text("ERR Error trying to load the RDB dump, check server logs"));
    }
    ctx.server.log.warning("DB reloaded by DEBUG RELOAD");
    ctx.reply.status("OK");
    Ok(())
}

/// Half a data set must not be saved over the whole one. DEBUG itself may run while it is being loaded.
fn refuse_while_loading(ctx: &Ctx) -> CmdResult {
    if ctx.server.loading.load(Ordering::Acquire) {
        return Err(CmdError::Text("LOADING Redis is loading the dataset in memory"));
    }
    Ok(())
}

/// `DEBUG LOADAOF`: brings the log to disk, empties all databases and replays it. All shards must be locked.
/// Source: Redis 7.2 DEBUG LOADAOF.
pub fn debug_loadaof(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    args.finish()?;
    refuse_while_loading(ctx)?;
    let server = ctx.server;
    if server.aof.mode() == Mode::On
        && let Err(reason) = server.aof.queue.flush()
    {
        return Err(CmdError::owned(format!("ERR {reason}")));
    }
    empty_all(ctx);
    // Other clients are told LOADING rather than made to wait.
    server.loading.store(true, Ordering::Release);
    let mut replayer = Replayer::new(server, ctx.registry.clone());
    let loaded = aof::load::read_manifest(&server.aof, ctx.config).and_then(|manifest| {
        aof::load::files(&server.aof, ctx.config, &manifest, Target::Locked(ctx.db.locked), &mut replayer)?;
        server.aof.set_manifest(manifest);
        Ok(())
    });
    server.loading.store(false, Ordering::Release);
    if loaded.is_err() {
        return Err(CmdError::Text("ERR Error trying to load the AOF files, check server logs"));
    }
    ctx.server.log.warning("Append Only File loaded by DEBUG LOADAOF");
    ctx.reply.status("OK");
    Ok(())
}

/// `DEBUG DIGEST`: status, forty digits that are equal for equal data sets. All shards must be locked.
pub fn debug_digest(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    args.finish()?;
    let shards: Vec<_> = ctx.db.locked.iter().collect();
    let digest = digest::dataset(shards.into_iter(), ctx.config.databases as usize);
    ctx.reply.status(&digest.hex());
    Ok(())
}

/// `DEBUG DIGEST-VALUE key [key ...]`: array of statuses, forty digits each, zeros for a missing key.
pub fn debug_digest_value(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.reply.array(args.remaining());
    while !args.is_empty() {
        let key = args.key()?;
        let digest = ctx.db.peek(key).map(digest::value).unwrap_or_default();
        ctx.reply.status(&digest.hex());
    }
    Ok(())
}

fn empty_all(ctx: &mut Ctx) {
    let selected = ctx.db.index;
    for db in 0..ctx.config.databases as usize {
        ctx.db.index = db;
        drop(ctx.db.take_all());
    }
    ctx.db.index = selected;
}

/// What RESTORE's options say.
#[derive(Debug, Default)]
struct Options {
    replace: bool,
    absolute_ttl: bool,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

/// `RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`: OK. `ttl` is in
/// milliseconds, 0 for none, Unix time with ABSTTL; a time that is over deletes. The log gets an absolute time.
/// Errors: BUSYKEY; DUMP payload version or checksum are wrong; Bad data format. Source: Redis 7.2 RESTORE.
fn restore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let ttl_arg = args.bytes()?;
    let payload = args.bytes()?;
    let options = restore_options(args)?;
    if !options.replace && ctx.db.write(key).is_some() {
        return Err(CmdError::Text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = redstart_types::number::parse_int(ttl_arg).ok_or(CmdError::NotAnInteger)?;
    if ttl_ms < 0 {
        return Err(CmdError::Text("ERR Invalid TTL value, must be >= 0"));
    }
    let value = parse_payload(ctx, payload)?;
    let expire_at_ms = match ttl_ms {
        0 => None,
        _ if options.absolute_ttl => Some(ttl_ms),
        _ => Some(ttl_ms.saturating_add(ctx.now_ms)),
    };
    let was_there = ctx.db.displace(key);
    if expire_at_ms.is_some_and(|at| at <= ctx.now_ms) && ctx.origin != Origin::Log {
        if was_there {
            ctx.deleted(key);
            let name: &[u8] = if ctx.config.lazyfree_lazy_server_del { b"UNLINK" } else { b"DEL" };
            ctx.propagate_as(&[name, key.bytes]);
        }
        ctx.reply.status("OK");
        return Ok(());
    }
    let expiry = expire_at_ms.map_or(Expiry::Clear, Expiry::At);
    match value {
        Loaded::String(Str::Int(value)) => ctx.db.set_int(key, value, expiry),
        Loaded::String(Str::Bytes(bytes)) => ctx.db.set_string(key, &bytes, expiry),
        Loaded::Collection(value) => ctx.db.set_value(key, value, expiry),
    }
    let lru = convert::lru_field(ctx.config, ctx.now_ms, options.idle_s, options.freq);
    if let (Some(lru), Some(entry)) = (lru, ctx.db.write(key)) {
        entry.set_lru(lru);
    }
    ctx.changed(key, KeyspaceEvents::GENERIC, "restore");
    if let (Some(at), false) = (expire_at_ms, options.absolute_ttl) {
        let at = at.to_string();
        let mut argv: Vec<&[u8]> = args.argv().to_vec();
        argv[2] = at.as_bytes();
        argv.push(b"ABSTTL");
        ctx.propagate_as(&argv);
    }
    ctx.reply.status("OK");
    Ok(())
}

fn restore_options(args: &mut Args) -> CmdResult<Options> {
    let mut options = Options::default();
    while !args.is_empty() {
        if args.flag("REPLACE") {
            options.replace = true;
        } else if args.flag("ABSTTL") {
            options.absolute_ttl = true;
        } else if args.remaining() >= 2 && options.freq.is_none() && args.flag("IDLETIME") {
            let idle_s = u64::try_from(args.int()?);
            options.idle_s = Some(idle_s.map_err(|_| CmdError::Text("ERR Invalid IDLETIME value, must be >= 0"))?);
        } else if args.remaining() >= 2 && options.idle_s.is_none() && args.flag("FREQ") {
            let freq = u8::try_from(args.int()?);
            options.freq = Some(freq.map_err(|_| CmdError::Text("ERR Invalid FREQ value, must be >= 0 and <= 255"))?);
        } else {
            return Err(CmdError::Syntax);
        }
    }
    Ok(options)
}

/// The value in a payload of RESTORE. What is wrong with a malformed one is told in the log; the client hears only that.
fn parse_payload(ctx: &Ctx, payload: &[u8]) -> CmdResult<Loaded> {
    let checksum = !ctx.server.persistence.skips_checksum();
    let malformed = |what: &dyn Display| {
        ctx.server.log.warning(format_args!("Bad data in the payload of RESTORE, {what}"));
        CmdError::Text("ERR Bad data format")
    };
    let mut reader = DumpReader::new(payload, rdb::HIGHEST_VERSION, checksum).map_err(|error| match error {
        DumpError::Footer => CmdError::Text("ERR DUMP payload version or checksum are wrong"),
        DumpError::Format(error) => malformed(&error),
    })?;
    let limits = Limits::new(ctx.config, ctx.server.shards.seed());
    let mut builder = None;
    while let Some(part) = reader.part().map_err(|error| malformed(&error))? {
        if matches!(part, Part::Packed(..) | Part::ListNode { packed: true, .. } | Part::StreamNode { .. }) {
            ctx.server.stats.sanitized_payloads.fetch_add(1, Ordering::Relaxed);
        }
        let hint = reader.parts_hint();
        let builder = builder.get_or_insert_with(|| Builder::new(&limits, reader.kind(), hint));
        builder.part(part).map_err(|error| malformed(&error))?;
    }
    let value = builder.map(Builder::finish).transpose().map_err(|error| malformed(&error))?;
    value.flatten().ok_or_else(|| malformed(&"no elements"))
}

#[cfg(test)]
mod tests {
    use crate::aof::Rewrites;
    use crate::commands::testing::{Checker, until};
    use crate::config::{AppendFsync, Config, ProtectedAction, SavePoint};
    use crate::keyspace::lock::MayWait;
    use crate::run::start::Options;
    use crate::server::Server;
    use crate::snapshot::digest;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::Ordering;

    /// A directory of one test's own, removed with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("redstart-{name}-{}", std::process::id()));
            let _: Result<_, _> = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn options(&self) -> Options {
            let defaults = Options::default();
            let config = Config { dir: self.0.clone(), ..defaults.config.clone() };
            Options { config, load: true, ..defaults }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _: Result<_, _> = std::fs::remove_dir_all(&self.0);
        }
    }

    fn whole_digest(server: &Server) -> String {
        let locked = server.shards.lock(server.shards.all(), MayWait::of_thread());
        let shards: Vec<_> = locked.iter().collect();
        digest::dataset(shards.into_iter(), 16).hex()
    }

    const FILL: &[&str] = &[
        "SET s hello",
        "SET i 12345",
        "SET ttl x PXAT 4102444800000",
        "RPUSH l a 1 b",
        "SADD si 1 2 3",
        "SADD sl a b",
        "HSET h f v",
        "ZADD z 1 a 2.5 b",
        "XADD x 1-1 f v",
        "XADD x 2-1 f w",
        "XGROUP CREATE x g 0",
        "XREADGROUP GROUP g alice COUNT 1 STREAMS x >",
    ];

    #[test]
    fn dump_and_restore_bring_a_value_back() {
        let mut c = Checker::new();
        c.since("7.2");
        FILL.iter().for_each(|command| drop(c.run(command)));
        c.check("DUMP s", r#""\x00\x05hello\x0b\x00\n\xadb\x05\x98\xab\xc9\x83""#);
        c.check("DUMP nothing", "nil");
        for key in ["s", "i", "l", "si", "sl", "h", "z", "x"] {
            let payload = c.run(&format!("DUMP {key}"));
            c.check(&format!("RESTORE copy 0 {payload}"), "OK");
            c.check(&format!("RESTORE copy 0 {payload}"), "-BUSYKEY Target key name already exists.");
            c.check(&format!("RESTORE copy 0 {payload} REPLACE"), "OK");
            if key != "x" {
                c.check("DUMP copy", &payload);
            }
            c.check("DEL copy", ":1");
        }
        let payload = c.run("DUMP l");
        c.check(&format!("RESTORE l2 0 {payload}"), "OK");
        c.check("LRANGE l2 0 -1", r#"["a", "1", "b"]"#);
    }

    #[test]
    fn restore_replaces_without_looking() {
        let mut c = Checker::with_lazy_expiry();
        c.check("SET k x EXAT 1", "OK");
        c.check("RESTORE k 0 nonsense REPLACE", "-ERR DUMP payload version or checksum are wrong");
        c.check("DBSIZE", ":1");
        c.check("RESTORE k 0 nonsense", "-ERR DUMP payload version or checksum are wrong");
        c.check("DBSIZE", ":0");
        c.expire_again();
    }

    /// The highest comes first, as Redis writes them.
    #[test]
    fn a_sorted_set_is_written_from_its_end() {
        let mut c = Checker::new();
        c.since("7.2");
        c.run("CONFIG SET zset-max-listpack-entries 1");
        c.check("ZADD z 1 a 2 b", ":2");
        let payload = r#""\x05\x02\x01b\x00\x00\x00\x00\x00\x00\x00@\x01a\x00\x00\x00\x00\x00\x00\xf0?\x0b\x00\x12\xf6#a3\x0b\xe1]""#;
        c.check("DUMP z", payload);
        c.run("CONFIG SET zset-max-listpack-entries 128");
    }

    #[test]
    fn restore_takes_time_and_use() {
        let mut c = Checker::new();
        c.since("7.2");
        c.run("SET s hello");
        let hello = c.run("DUMP s");
        c.check(&format!("RESTORE k 100000 {hello}"), "OK");
        assert!(c.run("TTL k").starts_with(":1"));
        c.check(&format!("RESTORE k 4102444800000 {hello} REPLACE ABSTTL"), "OK");
        assert!(c.run("TTL k").len() > 9);
        c.check(&format!("RESTORE k 1 {hello} ABSTTL REPLACE"), "OK");
        c.check("EXISTS k", ":0");
        c.check(&format!("RESTORE k 0 {hello} IDLETIME 1000"), "OK");
        c.check(&format!("RESTORE k -1 {hello} REPLACE"), "-ERR Invalid TTL value, must be >= 0");
        c.check(&format!("RESTORE k x {hello} REPLACE"), "-ERR value is not an integer or out of range");
        c.check(&format!("RESTORE k 0 {hello} FREQ 256"), "-ERR Invalid FREQ value, must be >= 0 and <= 255");
        c.check(&format!("RESTORE k 0 {hello} IDLETIME -1"), "-ERR Invalid IDLETIME value, must be >= 0");
        c.check(&format!("RESTORE k 0 {hello} IDLETIME 1 FREQ 1"), "-ERR syntax error");
        c.check(&format!("RESTORE k 0 {hello} NONSENSE"), "-ERR syntax error");
        c.check("RESTORE k2 0 nonsense", "-ERR DUMP payload version or checksum are wrong");
        c.check(&format!("RESTORE-ASKING k3 0 {hello}"), "OK");
    }

    #[test]
    fn a_payload_with_a_good_footer_can_still_be_nonsense() {
        let mut c = Checker::new();
        c.since("7.2");
        for body in [b"\x00\x7fshort".as_slice(), b"\x10\x03abc", b"\x63", b"\x04\x00"] {
            let mut payload = body.to_vec();
            redstart_persistence::rdb::finish_dump(&mut payload, 11);
            let text = String::from_utf8(crate::util::quote::quoted(&payload)).unwrap();
            c.check(&format!("RESTORE k 0 {text}"), "-ERR Bad data format");
        }
    }

    #[test]
    fn a_saved_data_set_comes_back() {
        let scratch = Scratch::new("save");
        let mut c = Checker::with(scratch.options());
        FILL.iter().for_each(|command| drop(c.run(command)));
        c.check("SAVE", "OK");
        let digest = whole_digest(&c.running.server);
        c.run("SELECT 3");
        c.run("SET other db");
        c.check("BGSAVE NONSENSE", "-ERR syntax error");
        // The oracle may still be busy with what another test asked of it.
        c.check_here("BGSAVE", "Background saving started");
        until("the save is over", || !c.running.server.persistence.is_saving());
        let whole = whole_digest(&c.running.server);
        assert_ne!(digest, whole);
        assert_eq!(c.running.server.stats.dirty.load(Ordering::Relaxed), 0);
        drop(c);
        let again = Server::start(scratch.options()).unwrap();
        until("it is loaded", || !again.server.loading.load(Ordering::Acquire));
        assert_eq!(whole_digest(&again.server), whole);
    }

    #[test]
    fn a_failed_save_refuses_writes_until_one_works() {
        let scratch = Scratch::new("misconf");
        let mut options = scratch.options();
        options.config.dbfilename = "no-such-dir/dump.rdb".to_owned();
        options.config.save = vec![SavePoint { seconds: 9999, changes: 1 }];
        let mut c = Checker::with(options);
        c.check_here("SET k v", "OK");
        c.check_here("BGSAVE", "Background saving started");
        until("the save is over", || !c.running.server.persistence.is_saving());
        let own = |c: &mut Checker, command: &str| c.running_only(command);
        assert!(own(&mut c, "SET k w").starts_with("-MISCONF Redis is configured to save RDB snapshots"));
        assert!(own(&mut c, "PING").starts_with("-MISCONF"));
        // Scripts are refused by what they declare; one that declares nothing runs until it writes.
        let command =
            "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Co";
        assert!(own(&mut c, "EVAL \"#!lua\\nreturn 1\" 0").starts_with(command));
        assert!(own(&mut c, "EVAL_RO \"#!lua\\nreturn 1\" 0").starts_with(command));
        c.check_here("EVAL \"#!lua flags=no-writes\\nreturn 1\" 0", ":1");
        c.check_here("EVAL \"return string.sub(redis.pcall('set', 'k', 'w').err, 1, 7)\" 0", "\"MISCONF\"");
        // A transaction may come to it after its commands were queued.
        c.check_here("CONFIG SET stop-writes-on-bgsave-error no", "OK");
        own(&mut c, "MULTI");
        own(&mut c, "CONFIG SET stop-writes-on-bgsave-error yes");
        own(&mut c, "EVAL \"#!lua\\nreturn 1\" 0");
        let script = "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                      Writable scripts are blocked. Use 'no-writes' flag for read only scripts.";
        c.check_here("EXEC", &format!("[OK, {script}]"));
        c.check_here("GET k", r#""v""#);
        std::fs::create_dir(scratch.0.join("no-such-dir")).unwrap();
        c.check_here("SAVE", "OK");
        c.check_here("SET k w", "OK");
    }

    #[test]
    fn shutdown_says_no_only_to_bad_options() {
        let mut c = Checker::new();
        c.check("SHUTDOWN SAVE NOSAVE", "-ERR syntax error");
        c.check("SHUTDOWN ABORT NOW", "-ERR syntax error");
        c.check("SHUTDOWN SOMETIMES", "-ERR syntax error");
        c.check("SHUTDOWN ABORT", "-ERR No shutdown in progress.");
        assert!(c.run("LASTSAVE").starts_with(":1"));
    }

    fn logging(scratch: &Scratch, fsync: AppendFsync) -> Options {
        let mut options = scratch.options();
        options.config.appendonly = true;
        options.config.appendfsync = fsync;
        options
    }

    /// A server started on what is on disk now, as after a kill.
    fn digest_after_kill(scratch: &Scratch, name: &str) -> String {
        let copy = Scratch::new(name);
        copy_dir(&scratch.0, &copy.0);
        let again = Server::start(logging(&copy, AppendFsync::No)).unwrap();
        until("it is loaded", || {
            assert!(!again.server.stop.has_failed());
            !again.server.loading.load(Ordering::Acquire)
        });
        whole_digest(&again.server)
    }

    fn copy_dir(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                std::fs::create_dir_all(&target).unwrap();
                copy_dir(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    /// Removing the last member counts its members, not the key besides. SMOVE counts at both ends.
    #[test]
    fn what_a_removal_counts() {
        let mut c = Checker::new();
        let cases: [(&[&str], &str, i64); 27] = [
            (&["RPUSH k a b"], "LPOP k 2", 2),
            (&["RPUSH k a"], "RPOPLPUSH k other", 1),
            (&["RPUSH k a a"], "LREM k 0 a", 2),
            (&["RPUSH k a b"], "LTRIM k 5 6", 2),
            (&["RPUSH k a b"], "LMPOP 1 k LEFT COUNT 9", 2),
            (&["RPUSH k a"], "BLPOP k 0", 1),
            (&["SADD k a b"], "SREM k a b c", 2),
            (&["SADD k a b"], "SPOP k 5", 2),
            (&["SADD k a"], "SMOVE k other a", 2),
            (&["HSET k f v g w"], "HDEL k f g x", 2),
            (&["ZADD k 1 a 2 b"], "ZREM k a b c", 2),
            (&["ZADD k 1 a 2 b"], "ZREM k a", 1),
            (&["ZADD k 1 a"], "ZPOPMIN k", 1),
            (&["ZADD k 1 a 2 b"], "ZPOPMAX k 2", 2),
            (&["ZADD k 1 a"], "BZPOPMIN k 0", 1),
            (&["ZADD k 1 a 2 b"], "ZMPOP 1 k MIN COUNT 9", 2),
            (&["ZADD k 1 a 2 b"], "BZMPOP 0 1 k MAX COUNT 9", 2),
            (&["ZADD k 1 a 2 b"], "ZREMRANGEBYRANK k 0 -1", 2),
            (&["ZADD k 1 a 2 b"], "ZREMRANGEBYSCORE k 0 5", 2),
            (&["ZADD k 0 a 0 b"], "ZREMRANGEBYLEX k - +", 2),
            (&["ZADD k 1 a"], "EVAL \"return redis.call('zpopmin','k')\" 0", 1),
            (&["SET k 1", "SET other 1"], "DEL k other nope", 2),
            (&["SET k 1"], "GETDEL k", 1),
            (&["SET k 1"], "EXPIRE k -1", 1),
            (&["ZADD k 1 a"], "ZINTERSTORE k 2 k nope", 1),
            (&["SADD k a"], "SINTERSTORE k k nope", 1),
            (&["XADD k 1-1 f v"], "XTRIM k MAXLEN 0", 1),
        ];
        for (setup, removal, expected) in cases {
            c.run("DEL k other");
            setup.iter().for_each(|command| drop(c.run(command)));
            let before = c.running.server.stats.dirty.load(Ordering::Relaxed);
            c.run(removal);
            let counted = c.running.server.stats.dirty.load(Ordering::Relaxed) - before;
            assert_eq!(counted, expected, "{removal}");
        }
    }

    fn wait_for_rewrite(c: &Checker) {
        // Both under one lock: a scheduled rewrite that begins between two looks would be seen by neither.
        let rewrites = || c.running.server.aof.figures().rewrites;
        let is_over = |now: Rewrites| now.since_s.is_none() && !now.scheduled;
        until("the rewrite is over", || is_over(rewrites()));
        assert!(rewrites().last_ok);
    }

    #[test]
    fn under_always_every_reply_is_on_disk() {
        let scratch = Scratch::new("always");
        let mut c = Checker::with(logging(&scratch, AppendFsync::Always));
        for (n, command) in FILL.iter().enumerate() {
            c.run(command);
            assert_eq!(
                whole_digest(&c.running.server),
                digest_after_kill(&scratch, &format!("always-{n}")),
                "{command}"
            );
        }
        c.run("MULTI");
        c.run("INCR i");
        c.run("SELECT 5");
        c.run("SET in other");
        c.run("EXEC");
        assert_eq!(whole_digest(&c.running.server), digest_after_kill(&scratch, "always-multi"));
    }

    #[test]
    fn a_rewritten_log_is_the_same_data_set() {
        let scratch = Scratch::new("rewrite");
        let mut c = Checker::with(logging(&scratch, AppendFsync::Always));
        FILL.iter().for_each(|command| drop(c.run(command)));
        c.run("SELECT 9");
        for preamble in [true, false] {
            let rewritten: Result<(), std::convert::Infallible> = c
                .running
                .server
                .config
                .update(|config| Ok(Config { aof_use_rdb_preamble: preamble, ..config.clone() }));
            rewritten.unwrap();
            c.check_here("BGREWRITEAOF", "Background append only file rewriting started");
            wait_for_rewrite(&c);
            c.run("RPUSH log more");
            let name = format!("rewrite-{preamble}");
            assert_eq!(whole_digest(&c.running.server), digest_after_kill(&scratch, &name));
        }
        let names = std::fs::read_dir(scratch.0.join("appendonlydir")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["appendonly.aof.3.base.aof", "appendonly.aof.3.incr.aof", "appendonly.aof.manifest"]);
    }

    #[test]
    fn the_log_is_switched_on_and_off() {
        let scratch = Scratch::new("switch");
        let mut options = logging(&scratch, AppendFsync::Always);
        options.config.appendonly = false;
        let mut c = Checker::with(options);
        c.run("SET before 1");
        c.check("CONFIG SET appendonly yes", "OK");
        wait_for_rewrite(&c);
        c.run("SET while 1");
        let logged = whole_digest(&c.running.server);
        c.check("CONFIG SET appendonly no", "OK");
        c.run("SET after 1");
        assert_eq!(logged, digest_after_kill(&scratch, "switch-off"));
        c.check("CONFIG SET appendonly yes", "OK");
        wait_for_rewrite(&c);
        assert_eq!(whole_digest(&c.running.server), digest_after_kill(&scratch, "switch-on"));
    }

    #[test]
    fn a_transaction_ends_before_the_log_begins() {
        let scratch = Scratch::new("switch-in-exec");
        let mut options = logging(&scratch, AppendFsync::Always);
        options.config.appendonly = false;
        options.config.enable_debug_command = ProtectedAction::Local;
        let mut c = Checker::with(options);
        c.check("DEBUG PAUSE-CRON 1", "OK");
        for command in ["MULTI", "INCR n", "CONFIG SET appendonly yes", "INCR n"] {
            c.run(command);
        }
        c.check("EXEC", "[:1, OK, :2]");
        let rewrites = c.running.server.aof.figures().rewrites;
        assert_eq!((rewrites.scheduled, rewrites.since_s, rewrites.count), (true, None, 0));
        c.check("DEBUG PAUSE-CRON 0", "OK");
        wait_for_rewrite(&c);
        c.run("INCR n");
        assert_eq!(whole_digest(&c.running.server), digest_after_kill(&scratch, "switch-in-exec-on"));
    }

    /// The first rewrite is still under way when the log is switched off and on again: what was written in between is
    /// not in its snapshot, so it must not become the base.
    #[test]
    fn a_rewrite_from_before_a_switch_is_called_off() {
        let scratch = Scratch::new("switch-twice");
        let mut options = logging(&scratch, AppendFsync::Always);
        options.config.appendonly = false;
        let mut c = Checker::with(options);
        for n in 0..20 {
            c.run(&format!("SET k:{n} {n}"));
        }
        c.check("CONFIG SET rdb-key-save-delay 100000", "OK");
        for n in 0..3 {
            c.check("CONFIG SET appendonly yes", "OK");
            c.check("CONFIG SET appendonly no", "OK");
            c.run(&format!("SET between:{n} 1"));
        }
        c.check("CONFIG SET appendonly yes", "OK");
        c.check("CONFIG SET rdb-key-save-delay 0", "OK");
        wait_for_rewrite(&c);
        c.run("SET after 1");
        assert_eq!(whole_digest(&c.running.server), digest_after_kill(&scratch, "switch-twice-on"));
    }

    #[test]
    fn loadaof_brings_the_same_back() {
        let scratch = Scratch::new("loadaof");
        let mut c = Checker::with(logging(&scratch, AppendFsync::EverySec));
        FILL.iter().for_each(|command| drop(c.run(command)));
        let before = whole_digest(&c.running.server);
        c.running.server.aof.queue.flush().unwrap();
        assert_eq!(before, digest_after_kill(&scratch, "loadaof-copy"));
    }
}
