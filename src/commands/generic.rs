//! Keys of any type: DEL, EXISTS, RENAME, COPY and MOVE, KEYS and SCAN, WAIT.

use crate::aof::NO_LOG;
use crate::command::args::Args;
use crate::command::call;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::scan::{self, ScanOptions};
use crate::command::session::Block;
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::value::{self, Entry};
use crate::keyspace::waiters::Acknowledgement;
use crate::replication::waits;
use crate::util::glob;
use rand::RngCore;
use redstart_types::table::Keyed;

pub const COMMANDS: &[Command] = &[
    Command::new("copy", -3, copy)
        .flags(DENYOOM | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS), KeySpec::at(2).flags(KEY_OW | KEY_UPDATE)])
        .since("6.2.0"),
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
    Command::new("keys", 2, keys)
        .scope(Scope::AllShards)
        .flags(READONLY)
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"]),
    Command::new("move", 3, move_key)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("randomkey", 1, randomkey).scope(Scope::AllShards).flags(READONLY).acl(acl::KEYSPACE).tips(&[
        "request_policy:all_shards",
        "response_policy:special",
        "nondeterministic_output",
    ]),
    Command::new("rename", 3, rename)
        .flags(WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE), KeySpec::at(2).flags(KEY_OW | KEY_UPDATE)]),
    Command::new("renamenx", 3, renamenx)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE), KeySpec::at(2).flags(KEY_OW | KEY_INSERT)]),
    Command::new("scan", -2, scan).scope(Scope::AllShards).flags(READONLY).acl(acl::KEYSPACE).since("2.8.0").tips(&[
        "nondeterministic_output",
        "request_policy:special",
        "response_policy:special",
    ]),
    Command::new("touch", -2, touch)
        .flags(FAST | READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RO)])
        .since("3.2.1")
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    Command::new("type", 2, type_of).flags(FAST | READONLY).acl(acl::KEYSPACE).keys(&[KeySpec::at(1).flags(KEY_RO)]),
    Command::new("unlink", -2, unlink)
        .flags(FAST | WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RM | KEY_DELETE)])
        .since("4.0.0")
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    Command::new("wait", 3, wait)
        .acl(acl::CONNECTION)
        .since("3.0.0")
        .tips(&["request_policy:all_shards", "response_policy:agg_min"]),
    Command::new("waitaof", 4, waitaof)
        .flags(NOSCRIPT)
        .acl(acl::CONNECTION)
        .since("7.2.0")
        .tips(&["request_policy:all_shards", "response_policy:agg_min"]),
];

/// `DEL key [key ...]`: integer, how many were there. Source: Redis 7.2 DEL.
fn del(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let lazily = ctx.config.lazyfree_lazy_user_del;
    delete_all(ctx, args, lazily)
}

/// `UNLINK key [key ...]`: integer, how many were there; big values are freed by another thread. Source: Redis 7.2
/// UNLINK.
fn unlink(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    delete_all(ctx, args, true)
}

fn delete_all(ctx: &mut Ctx, args: &mut Args, lazily: bool) -> CmdResult {
    let mut deleted = 0;
    while !args.is_empty() {
        let key = args.key()?;
        if ctx.db.discard(key, lazily) {
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
        found += i64::from(ctx.db.look(key).is_some());
    }
    ctx.reply.integer(found);
    Ok(())
}

/// `TOUCH key [key ...]`: integer, how many of them are there; their access time is now, CLIENT NO-TOUCH or not.
/// Source: Redis 7.2 TOUCH.
fn touch(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.db.access.touch = Some(call::touch(ctx.server, ctx.config, ctx.now_ms));
    let mut found = 0;
    while !args.is_empty() {
        let key = args.key()?;
        found += i64::from(ctx.db.read(key).is_some());
    }
    ctx.reply.integer(found);
    Ok(())
}

/// `TYPE key`: a status, the type's name or none. Source: Redis 7.2 TYPE.
fn type_of(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let name = ctx.db.look(key).map_or("none", |entry| value::kind_of(entry).name());
    ctx.reply.status(name);
    Ok(())
}

/// `RENAME key newkey`: OK; what was at `newkey` is gone. Errors: no such key. Source: Redis 7.2 RENAME.
fn rename(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    rename_if(ctx, args, |_| true)?;
    ctx.reply.ok();
    Ok(())
}

/// `RENAMENX key newkey`: 1, or 0 when `newkey` is there. Errors: no such key. Source: Redis 7.2 RENAMENX.
fn renamenx(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let is_renamed = rename_if(ctx, args, |exists| !exists)?;
    ctx.reply.integer(i64::from(is_renamed));
    Ok(())
}

/// Renames unless `may` says no, which hears whether the new name is taken.
fn rename_if(ctx: &mut Ctx, args: &mut Args, may: impl FnOnce(bool) -> bool) -> CmdResult<bool> {
    let (from, to) = (args.key()?, args.key()?);
    if ctx.db.write(from).is_none() {
        return Err(CmdError::NoSuchKey);
    }
    let is_taken = ctx.db.write(to).is_some();
    if !may(is_taken) {
        return Ok(false);
    }
    if from.bytes == to.bytes {
        return Ok(true);
    }
    let lazily = ctx.config.lazyfree_lazy_server_del;
    ctx.db.discard(to, lazily);
    let entry = ctx.db.take(from).expect("it was there a moment ago, under the same lock");
    ctx.db.put(to, entry);
    ctx.changed(from, KeyspaceEvents::GENERIC, "rename_from");
    ctx.changed_by(0, to, KeyspaceEvents::GENERIC, "rename_to");
    Ok(true)
}

/// `MOVE key db`: 1, or 0 when there is no such key or the other database has one. Errors: database out of range or
/// the same. Source: Redis 7.2 MOVE.
fn move_key(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let to = args.db_index()?;
    let to = database(ctx, to)?;
    if to == ctx.db.index {
        return Err(SAME_OBJECT);
    }
    let is_possible = ctx.db.write(key).is_some() && in_database(ctx, to, |ctx| ctx.db.write(key).is_none());
    if is_possible {
        let entry = ctx.db.take(key).expect("it was there a moment ago, under the same lock");
        ctx.changed(key, KeyspaceEvents::GENERIC, "move_from");
        in_database(ctx, to, |ctx| {
            ctx.db.put(key, entry);
            ctx.changed_by(0, key, KeyspaceEvents::GENERIC, "move_to");
        });
    }
    ctx.reply.integer(i64::from(is_possible));
    Ok(())
}

/// `COPY source destination [DB db] [REPLACE]`: 1, or 0 when there is no such key or the destination is taken. Errors:
/// source and destination are the same; database out of range. Source: Redis 7.2 COPY.
fn copy(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (from, to) = (args.key()?, args.key()?);
    let mut index = ctx.db.index;
    let mut replace = false;
    while !args.is_empty() {
        if args.flag("REPLACE") {
            replace = true;
        } else if args.remaining() >= 2 && args.flag("DB") {
            let wanted = args.db_index()?;
            index = database(ctx, wanted)?;
        } else {
            return Err(CmdError::Syntax);
        }
    }
    if index == ctx.db.index && from.bytes == to.bytes {
        return Err(SAME_OBJECT);
    }
    let copy = ctx.db.read(from).map(Entry::duplicate);
    let is_copied = copy.is_some_and(|entry| in_database(ctx, index, |ctx| put_copy(ctx, to, entry, replace)));
    ctx.reply.integer(i64::from(is_copied));
    Ok(())
}

fn put_copy(ctx: &mut Ctx, to: Key<'_>, entry: Entry, replace: bool) -> bool {
    if ctx.db.write(to).is_some() {
        if !replace {
            return false;
        }
        let lazily = ctx.config.lazyfree_lazy_server_del;
        ctx.db.discard(to, lazily);
    }
    ctx.db.put(to, entry);
    ctx.changed(to, KeyspaceEvents::GENERIC, "copy_to");
    true
}

const SAME_OBJECT: CmdError = CmdError::Text("ERR source and destination objects are the same");

/// A database's number. Errors: out of range.
fn database(ctx: &Ctx, index: i64) -> CmdResult<usize> {
    let index = usize::try_from(index).ok().filter(|index| *index < ctx.config.databases as usize);
    index.ok_or(CmdError::DbIndexOutOfRange)
}

/// Works on another database for a while.
fn in_database<'a, 'g, R>(ctx: &mut Ctx<'a, 'g>, index: usize, work: impl FnOnce(&mut Ctx<'a, 'g>) -> R) -> R {
    let own = std::mem::replace(&mut ctx.db.index, index);
    let result = work(ctx);
    ctx.db.index = own;
    result
}

/// `RANDOMKEY`: bulk string, or null when the database is empty. Source: Redis 7.2 RANDOMKEY.
fn randomkey(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    // On a replica keys whose time is over stay, and may be all there is.
    const TRIES: usize = 100;
    let mut rng = ctx.server.random.small();
    ctx.db.effects.apart = ctx.origin == Origin::Client;
    for _ in 0..TRIES {
        let Some(name) = random_key(ctx, &mut rng) else { break };
        let key = Key::new(ctx.server.shards.seed(), &name);
        // Whoever finds a key whose time is over deletes it.
        if ctx.db.look(key).is_some() {
            ctx.reply.bulk(&name);
            return Ok(());
        }
    }
    ctx.reply.null();
    Ok(())
}

fn random_key(ctx: &Ctx, rng: &mut impl RngCore) -> Option<Vec<u8>> {
    let index = ctx.db.index;
    let tables = || ctx.db.locked.iter().map(|shard| &shard.dbs[index].keys);
    let total: usize = tables().map(|keys| keys.len()).sum();
    let mut nth = (rng.next_u64() % (total as u64).max(1)) as usize;
    for keys in tables() {
        if nth < keys.len() {
            return keys.random(rng).map(|entry| entry.key().to_vec());
        }
        nth -= keys.len();
    }
    None
}

/// `KEYS pattern`: array of the names that match. Source: Redis 7.2 KEYS.
fn keys(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let pattern = args.bytes()?;
    let start = ctx.reply.begin();
    let mut count = 0;
    for shard in ctx.db.locked.iter() {
        for entry in shard.dbs[ctx.db.index].keys.iter() {
            if !ctx.db.is_over(entry) && (pattern == b"*" || glob::matches(pattern, entry.key())) {
                ctx.reply.bulk(entry.key());
                count += 1;
            }
        }
    }
    ctx.reply.end_array(start, count);
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: array of the next cursor and an array of names. A cursor
/// is a position in one shard's table, and in its low bits the shard; what the table promises, SCAN does. Errors:
/// invalid cursor; syntax. Source: Redis 7.2 SCAN.
fn scan(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let cursor = scan::parse_cursor(args.bytes()?)?;
    let mut options = ScanOptions::new();
    let mut kind_name = None;
    while !args.is_empty() {
        if args.remaining() >= 2 && args.flag("TYPE") {
            kind_name = Some(args.bytes()?);
        } else if !options.take(args)? {
            return Err(CmdError::Syntax);
        }
    }
    let mut found: Vec<Vec<u8>> = Vec::new();
    let next = options.run(cursor, |cursor| {
        let mut seen = 0;
        let next = scan_step(ctx, cursor, |entry| {
            seen += 1;
            if options.wants(entry.key()) {
                found.push(entry.key().to_vec());
            }
        });
        (next, seen)
    });
    let seed = ctx.server.shards.seed();
    ctx.db.effects.apart = ctx.origin == Origin::Client;
    found.retain(|name| {
        let key = Key::new(seed, name);
        // Whoever finds a key whose time is over deletes it, whatever its type.
        let Some(wanted) = kind_name else { return ctx.db.is_alive(key) };
        let kind = ctx.db.inspect(key).map(value::kind_of);
        kind.is_some_and(|kind| wanted.eq_ignore_ascii_case(kind.name().as_bytes()))
    });
    ctx.reply.array(2);
    ctx.reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    ctx.reply.array(found.len());
    found.iter().for_each(|name| ctx.reply.bulk(name));
    Ok(())
}

/// Visits one bucket; the cursor of the next one, 0 at the end.
fn scan_step(ctx: &Ctx, cursor: u64, visit: impl FnMut(&Entry)) -> u64 {
    let shards = ctx.server.shards.count() as u64;
    let shard = cursor % shards;
    let Some(locked) = ctx.db.locked.numbered(shard as usize) else { return 0 };
    let position = locked.dbs[ctx.db.index].keys.scan(cursor / shards, visit);
    match position {
        0 => (shard + 1) % shards,
        position => position * shards + shard,
    }
}

/// `WAIT numreplicas timeout`: integer, how many replicas have got the writes of this client; waits for that many, at
/// most `timeout` ms (0: for ever). Errors: no integer; negative timeout. Source: Redis 7.2 WAIT.
fn wait(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let replicas = args.int()?;
    let deadline_ms = deadline_ms(ctx, args)?;
    let replicas = usize::try_from(replicas).unwrap_or(0);
    wait_for(ctx, deadline_ms, Acknowledgement { written: ctx.client().written(), replicas, on_disk: None })
}

/// `WAITAOF numlocal numreplicas timeout`: array of two integers, whether the writes of this client are on this
/// server's disk, and on how many replicas'; waits as WAIT does. Errors: out of range; no append-only file. Source:
/// Redis 7.2 WAITAOF.
fn waitaof(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let local = args.int()?;
    if !(0..=1).contains(&local) {
        return Err(CmdError::Text("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = args.positive()?;
    let deadline_ms = deadline_ms(ctx, args)?;
    if local > 0 && !ctx.config.appendonly {
        return Err(CmdError::Text(NO_LOG));
    }
    let on_disk = Some(local > 0);
    wait_for(ctx, deadline_ms, Acknowledgement { written: ctx.client().written(), replicas, on_disk })
}

/// The next argument as a timeout in ms: when to give up (Unix ms), or None for 0.
fn deadline_ms(ctx: &Ctx, args: &mut Args) -> CmdResult<Option<i64>> {
    let timeout_ms = args.int().map_err(|_| CmdError::Text("ERR timeout is not an integer or out of range"))?;
    match timeout_ms {
        ..0 => Err(CmdError::TimeoutNegative),
        0 => Ok(None),
        timeout_ms => ctx.now_ms.checked_add(timeout_ms).map(Some).ok_or(CmdError::TimeoutOutOfRange),
    }
}

/// Answers how far the client's writes have got; waits if that is not far enough.
fn wait_for(ctx: &mut Ctx, deadline_ms: Option<i64>, wanted: Acknowledgement) -> CmdResult {
    let reached = waits::reached(&ctx.server.replication, &wanted);
    if wanted.is_enough(reached) || ctx.denies_blocking() {
        wanted.write(reached, ctx.reply);
        return Ok(());
    }
    ctx.block(Block::on_replicas(wanted, deadline_ms))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;
    use std::collections::HashSet;

    #[test]
    fn deleting_and_looking() {
        let mut c = Checker::new();
        c.check("MSET a 1 b 2 c 3", "OK");
        c.check("EXISTS a b nope a", ":3");
        c.check("TOUCH a nope", ":1");
        c.check("DEL a a nope", ":1");
        c.check("UNLINK b c", ":2");
        c.check("EXISTS b", ":0");
        c.check("TYPE a", "none");
        c.check("SET s 1", "OK");
        c.check("RPUSH l 1", ":1");
        c.check("ZADD z 1 a", ":1");
        c.check("XADD x 1-1 a b", "\"1-1\"");
        for (key, name) in [("s", "string"), ("l", "list"), ("z", "zset"), ("x", "stream")] {
            c.check(&format!("TYPE {key}"), name);
        }
        for n in 0..20 {
            c.run(&format!("RPUSH big {}", format!("{n} ").repeat(1000)));
        }
        c.check("UNLINK big", ":1");
        c.check("RPUSH big 1", ":1");
    }

    #[test]
    fn renaming() {
        let mut c = Checker::new();
        c.check("RENAME {t}a {t}b", "-ERR no such key");
        c.check("RENAME {t}a {t}a", "-ERR no such key");
        c.check("SET {t}a 1 EX 100", "OK");
        c.check("RPUSH {t}b x", ":1");
        c.check("RENAMENX {t}a {t}b", ":0");
        c.check("RENAMENX {t}a {t}a", ":0");
        c.check("RENAME {t}a {t}a", "OK");
        c.check("RENAME {t}a {t}b", "OK");
        c.check("GET {t}b", "\"1\"");
        c.check("TTL {t}b", ":100");
        c.check("EXISTS {t}a", ":0");
        c.check("SET {t}c 1", "OK");
        c.check("RENAME {t}c {t}b", "OK");
        c.check("TTL {t}b", ":-1");
        c.check("APPEND {t}b 2", ":2");
        c.check("RENAMENX {t}b {t}c", ":1");
        c.check("OBJECT ENCODING {t}c", "\"raw\"");
    }

    #[test]
    fn copying() {
        let mut c = Checker::new();
        c.check("COPY {t}a {t}b", ":0");
        c.check("COPY {t}a {t}a", "-ERR source and destination objects are the same");
        c.check("RPUSH {t}a 1 2", ":2");
        c.check("EXPIRE {t}a 100", ":1");
        c.check("COPY {t}a {t}b", ":1");
        c.check("RPUSH {t}a 3", ":3");
        c.check("LRANGE {t}b 0 -1", "[\"1\", \"2\"]");
        c.check("TTL {t}b", ":100");
        c.check("COPY {t}a {t}b", ":0");
        c.check("COPY {t}a {t}b REPLACE", ":1");
        c.check("LLEN {t}b", ":3");
        c.check("COPY {t}a {t}a DB 3", ":1");
        c.check("COPY {t}a {t}a DB 99", "-ERR DB index is out of range");
        c.check(
            "COPY {t}a {t}a DB 4294967296",
            "-ERR value is out of range, value must between -2147483648 and 2147483647",
        );
        c.check("COPY {t}a {t}a DB x", "-ERR value is not an integer or out of range");
        c.check("COPY {t}a {t}b FOO", "-ERR syntax error");
        c.check("COPY {t}a {t}b DB", "-ERR syntax error");
        c.check("SELECT 3", "OK");
        c.check("LLEN {t}a", ":3");
        c.check("TTL {t}a", ":100");
    }

    #[test]
    fn moving() {
        let mut c = Checker::new();
        c.check("MOVE a 3", ":0");
        c.check("SET a 1 EX 100", "OK");
        c.check("MOVE a 0", "-ERR source and destination objects are the same");
        c.check("MOVE a 16", "-ERR DB index is out of range");
        c.check("MOVE a -1", "-ERR DB index is out of range");
        c.check("MOVE a -2147483649", "-ERR value is out of range, value must between -2147483648 and 2147483647");
        c.check("MOVE a x", "-ERR value is not an integer or out of range");
        c.check("MOVE a 3", ":1");
        c.check("EXISTS a", ":0");
        c.check("SET a 2", "OK");
        c.check("MOVE a 3", ":0");
        c.check("SELECT 3", "OK");
        c.check("GET a", "\"1\"");
        c.check("TTL a", ":100");
    }

    #[test]
    fn names() {
        let mut c = Checker::new();
        c.check("RANDOMKEY", "nil");
        c.check("KEYS *", "[]");
        c.check("SET foo 1", "OK");
        c.check("RANDOMKEY", "\"foo\"");
        c.check("MSET bar 1 fob 2", "OK");
        c.check("KEYS b*", "[\"bar\"]");
        c.check("KEYS f?b", "[\"fob\"]");
        let seen: HashSet<String> = (0..100).map(|_| c.run("RANDOMKEY")).collect();
        assert_eq!(seen.len(), 3);
        c.check("SET gone 1 PX 1", "OK");
        std::thread::sleep(std::time::Duration::from_millis(5));
        c.check("KEYS g*", "[]");
        c.check("SCAN 0 MATCH g* COUNT 100", "[\"0\", []]");
    }

    /// Follows a cursor to its end.
    fn scan(c: &mut Checker, options: &str) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let reply = c.run(&format!("SCAN {cursor} {options}"));
            let (next, found) = reply[2..].split_once("\", [").unwrap();
            let found = found.trim_end_matches(']');
            names.extend(found.split(", ").filter(|name| !name.is_empty()).map(str::to_owned));
            if next == "0" {
                return names;
            }
            cursor = next.to_owned();
        }
    }

    #[test]
    fn scan_looks_at_keys_for_their_type() {
        let mut c = Checker::new();
        c.check("MSET a 1 b 2", "OK");
        c.check_lookups("SCAN 0", [0, 0]);
        c.check_lookups("SCAN 0 TYPE list", [2, 0]);
    }

    #[test]
    fn scan_finds_every_key_once_while_nothing_changes() {
        let mut c = Checker::new();
        for n in 0..1000 {
            c.run(&format!("SET key:{n} {n}"));
        }
        c.run("RPUSH list 1");
        for options in ["", "COUNT 1", "COUNT 7", "COUNT 5000"] {
            let names = scan(&mut c, options);
            assert_eq!(names.len(), 1001, "{options}");
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), 1001);
        }
        assert_eq!(scan(&mut c, "MATCH key:1??").len(), 100);
        assert_eq!(scan(&mut c, "TYPE list"), ["\"list\""]);
        assert_eq!(scan(&mut c, "TYPE LIST COUNT 1000 MATCH l*"), ["\"list\""]);
        assert!(scan(&mut c, "TYPE nosuch").is_empty());
    }

    #[test]
    fn a_small_database_comes_back_whole() {
        let mut c = Checker::new();
        c.check("MSET a 1 b 2 c 3", "OK");
        assert!(c.run("SCAN 0").starts_with("[\"0\", ["));
        c.check("SCAN x", "-ERR invalid cursor");
        c.check("SCAN 0 COUNT 0", "-ERR syntax error");
        c.check("SCAN 0 COUNT x", "-ERR value is not an integer or out of range");
        c.check("SCAN 0 FOO", "-ERR syntax error");
        c.check("SCAN 0 MATCH", "-ERR syntax error");
    }

    #[test]
    fn waiting_for_replicas_that_are_not_there() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("WAIT 0 0", ":0");
        c.check("WAIT 1 10", ":0");
        c.check("WAIT x 0", "-ERR value is not an integer or out of range");
        c.check("WAIT 1 x", "-ERR timeout is not an integer or out of range");
        c.check("WAIT 1 -1", "-ERR timeout is negative");
        c.check("WAITAOF 0 0 0", "[:0, :0]");
        c.check("WAITAOF 0 1 10", "[:0, :0]");
        c.check("WAITAOF 1 0 0", "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
        c.check("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1");
        c.check("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive");
        c.check("MULTI", "OK");
        c.check("WAIT 1 0", "QUEUED");
        c.check("EXEC", "[:0]");
    }

    #[test]
    fn events() {
        let mut c = Checker::new();
        c.check("CONFIG SET notify-keyspace-events KEA", "OK");
        c.check("SELECT 9", "OK");
        c.check("SET {t}a 1", "OK");
        c.check("PSUBSCRIBE __keyevent@*", "[\"psubscribe\", \"__keyevent@*\", :1]");
        c.other("SELECT 9", "OK");
        let mut expect = |command: &str, reply: &str, events: &[&str]| {
            c.other(command, reply);
            for event in events {
                let (event, key) = event.split_once(' ').unwrap();
                let (db, event) = event.split_once(':').unwrap();
                c.receive(&format!("[\"pmessage\", \"__keyevent@*\", \"__keyevent@{db}__:{event}\", \"{key}\"]"));
            }
        };
        expect("RENAME {t}a {t}b", "OK", &["9:rename_from {t}a", "9:rename_to {t}b"]);
        expect("COPY {t}b {t}a", ":1", &["9:copy_to {t}a"]);
        expect("MOVE {t}a 3", ":1", &["9:move_from {t}a", "3:move_to {t}a"]);
        expect("SET {t}b 5 EX 100", "OK", &["9:set {t}b", "9:expire {t}b"]);
        expect("PERSIST {t}b", ":1", &["9:persist {t}b"]);
        expect("GETEX {t}b PX 10000", "\"5\"", &["9:expire {t}b"]);
        expect("GETEX {t}b PERSIST", "\"5\"", &["9:persist {t}b"]);
        expect("EXPIRE {t}b -1", ":1", &["9:del {t}b"]);
        expect("MSETNX {t}a 1 {t}b 2", ":1", &["9:set {t}a", "9:set {t}b"]);
        expect("APPEND {t}a x", ":2", &["9:append {t}a"]);
        expect("SETRANGE {t}a 0 9", ":2", &["9:setrange {t}a"]);
        expect("INCRBYFLOAT {t}b 1", "\"3\"", &["9:incrbyfloat {t}b"]);
        expect("DECR {t}b", ":2", &["9:incrby {t}b"]);
        expect("UNLINK {t}a {t}b", ":2", &["9:del {t}a", "9:del {t}b"]);
    }
}
