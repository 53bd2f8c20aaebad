//! MIGRATE: keys move to another server.

use crate::cluster::migration::{Item, Outcome, Target, Transfer};
use crate::command::args::Args;
use crate::command::call::Engine;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::Block;
use crate::command::spec::*;
use crate::command::table::Registry;
use crate::commands::persistence;
use crate::core::background;
use crate::feed::records;
use crate::keyspace::Key;
use crate::keyspace::lock::{MayWait, ShardSet};
use crate::keyspace::waiters::Waiter;
use crate::resp::reply::Reply;
use crate::server::Server;
use redstart_types::number;
use std::sync::Arc;
use std::time::Duration;

pub const COMMANDS: &[Command] = &[Command::new("migrate", -6, migrate)
    .flags(MOVABLEKEYS | WRITE)
    .secrets(Secrets::Options(6, &[("keys", usize::MAX, 0), ("auth", 1, 1), ("auth2", 2, 2)]))
    .acl(acl::DANGEROUS | acl::KEYSPACE)
    .keys(&[
        KeySpec::at(3).flags(KEY_RW | KEY_ACCESS | KEY_DELETE),
        KeySpec::after("KEYS", -2).range(-1, 1, 0).flags(KEY_RW | KEY_ACCESS | KEY_DELETE | KEY_INCOMPLETE),
    ])
    .find_keys(find_keys)
    .since("2.6.0")
    .tips(&["nondeterministic_output"])];

/// The key, or those behind KEYS, which no option's argument is taken for.
fn find_keys(argv: &[&[u8]], each: &mut dyn FnMut(usize, u16)) {
    let flags = KEY_RW | KEY_ACCESS | KEY_DELETE;
    let mut at = 6;
    while let Some(word) = argv.get(at) {
        match word.to_ascii_lowercase().as_slice() {
            b"keys" if argv[3].is_empty() => return (at + 1..argv.len()).for_each(|key| each(key, flags)),
            // A syntax error.
            b"keys" => return,
            b"auth" => at += 2,
            b"auth2" => at += 3,
            _ => at += 1,
        }
    }
    if argv.len() > 3 {
        each(3, flags);
    }
}

/// What MIGRATE's options say.
#[derive(Default)]
struct Options {
    copy: bool,
    replace: bool,
    auth: Vec<Vec<u8>>,
    /// The keys follow.
    keys: bool,
}

/// `MIGRATE host port key | "" destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username password]
/// [KEYS key [key ...]]`: OK once the target has the keys and, without COPY, this server has not; `NOKEY` if there is
/// none. The client waits, and so does who would change these keys; nobody else. Errors: syntax; IOERR; what the target
/// says. Under TLS with `tls-cluster`. Source: Redis 7.2 MIGRATE.
fn migrate(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (host, port, key) = (args.bytes()?, args.bytes()?, args.key()?);
    let (db, timeout) = (args.bytes()?, args.bytes()?);
    let options = parse_options(args, key)?;
    let timeout_ms = number::parse_int(timeout).ok_or(CmdError::NotAnInteger)?;
    let db = number::parse_int(db).ok_or(CmdError::NotAnInteger)?;
    let mut items = Vec::new();
    if options.keys {
        while !args.is_empty() {
            let key = args.key()?;
            items.extend(item(ctx, key));
        }
    } else {
        items.extend(item(ctx, key));
    }
    if items.is_empty() {
        ctx.reply.status("NOKEY");
        return Ok(());
    }
    let target = Target {
        host: String::from_utf8_lossy(host).into_owned(),
        // What is no port cannot be connected to.
        port: number::parse_int(port).and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
    };
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).unwrap_or(1000));
    let tls = if ctx.config.tls_cluster { ctx.server.tls.connecting() } else { None };
    let transfer = Transfer { target, db, timeout, auth: options.auth, tls, replace: options.replace, items };
    if ctx.denies_blocking() {
        let outcome = ctx.server.migrations.run(&transfer);
        let keys: Vec<Vec<u8>> = if options.copy { Vec::new() } else { taken(&outcome) };
        let deleted: Vec<Key> = keys.iter().map(|name| args.as_key(name)).collect();
        delete(ctx, &deleted, Ctx::propagate_as);
        if deleted.is_empty() {
            ctx.propagate_nothing();
        }
        answer(&outcome, ctx.reply);
        return Ok(());
    }
    depart(ctx, transfer, options.copy)
}

fn parse_options(args: &mut Args, key: Key<'_>) -> CmdResult<Options> {
    let mut options = Options::default();
    while !args.is_empty() && !options.keys {
        match args.one_of(&["COPY", "REPLACE", "AUTH", "AUTH2", "KEYS"]) {
            Some(0) => options.copy = true,
            Some(1) => options.replace = true,
            Some(2) => options.auth = vec![args.bytes()?.to_vec()],
            Some(3) if args.remaining() > 1 => options.auth = vec![args.bytes()?.to_vec(), args.bytes()?.to_vec()],
            Some(4) if key.bytes.is_empty() => options.keys = true,
            Some(4) => {
                let text = "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string";
                return Err(CmdError::Text(text));
            }
            _ => return Err(CmdError::Syntax),
        }
    }
    Ok(options)
}

/// A key's value as it will be sent.
fn item(ctx: &mut Ctx, key: Key<'_>) -> Option<Item> {
    let now_ms = ctx.now_ms;
    let entry = ctx.db.read(key)?;
    let ttl_ms = entry.expire_at_ms().map_or(0, |at| (at - now_ms).max(1));
    Some(Item { key: key.bytes.into(), ttl_ms, payload: persistence::dump_payload(entry, ctx.config) })
}

/// Holds the keys, lets the client wait, and has a thread do the rest.
fn depart(ctx: &mut Ctx, transfer: Transfer, copy: bool) -> CmdResult {
    let keys: Vec<Arc<[u8]>> = transfer.items.iter().map(|item| item.key.clone()).collect();
    ctx.server.migrations.hold(&keys);
    let (registry, db) = (ctx.registry.clone(), ctx.db.index);
    ctx.block(Block::on_thread(move |server, waiter| {
        let own = (server.clone(), waiter.clone(), keys.clone());
        let work = move |may_wait| {
            let (server, waiter, keys) = own;
            server.reclaimer.collect(|| travel(&server, registry, may_wait, &waiter, &transfer, copy, db));
            server.migrations.release(&keys);
        };
        if background::spawn("migrate", work).is_err() {
            server.migrations.release(&keys);
            server.waits.answer(&server.clients, &waiter, b"-IOERR error or timeout connecting to the client\r\n");
        }
    }))
}

/// Sends the values, deletes what the target has taken, and answers the client.
fn travel(
    server: &Arc<Server>,
    registry: Arc<Registry>,
    may_wait: MayWait,
    waiter: &Arc<Waiter>,
    transfer: &Transfer,
    copy: bool,
    db: usize,
) {
    let outcome = server.migrations.run(transfer);
    let names = if copy { Vec::new() } else { taken(&outcome) };
    if !names.is_empty() {
        let keys: Vec<Key> = names.iter().map(|name| Key::new(server.shards.seed(), name)).collect();
        let mut shards = ShardSet::NONE;
        keys.iter().for_each(|key| shards.add(server.shards.shard_of(key.hash)));
        let mut locked = server.shards.lock(shards, may_wait);
        if locked.iter().any(|shard| shard.cross_shard_waiters > 0) {
            drop(locked);
            locked = server.shards.lock(server.shards.all(), may_wait);
        }
        if server.stop.is_requested() {
            // The final save has the keys: that they are gone from here must not be told.
            return;
        }
        // Several migrations may end at a time, and one thread at a time may count.
        let _counting = server.migrations.counting();
        let mut engine = Engine::new(server.clone(), registry, server.stats.migration_worker(), Some(may_wait));
        engine.with_db(&mut locked, db, |ctx| {
            delete(ctx, &keys, |ctx, argv| ctx.db.effects.records.push(db, records::Target::Everybody, argv));
        });
    }
    let mut reply = Reply::new(waiter.resp3);
    answer(&outcome, &mut reply);
    server.waits.answer(&server.clients, waiter, &reply.buf);
}

fn taken(outcome: &Outcome) -> Vec<Vec<u8>> {
    outcome.taken.iter().map(|key| key.to_vec()).collect()
}

/// Deletes keys that the target has; the log hears of all in one DEL.
fn delete<'a, 'g>(ctx: &mut Ctx<'a, 'g>, keys: &[Key<'_>], log: impl FnOnce(&mut Ctx<'a, 'g>, &[&[u8]])) {
    let mut argv: Vec<&[u8]> = vec![b"DEL"];
    for key in keys {
        // It may have expired or been evicted meanwhile.
        if ctx.db.delete(*key) {
            ctx.deleted(*key);
            argv.push(key.bytes);
        }
    }
    if argv.len() > 1 {
        log(ctx, &argv);
    }
}

fn answer(outcome: &Outcome, reply: &mut Reply) {
    match &outcome.error {
        Some(error) => reply.error(error),
        None => reply.ok(),
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, Peer};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    fn port(c: &Checker) -> u16 {
        c.running.addr().expect("it listens on TCP").port()
    }

    #[test]
    fn what_it_refuses() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("MIGRATE 127.0.0.1 1 k 0 100", "NOKEY");
        c.check("MIGRATE 127.0.0.1 1 \"\" 0 100 KEYS a b", "NOKEY");
        c.check("MIGRATE 127.0.0.1 1 k 0 100 NOPE", "-ERR syntax error");
        c.check("MIGRATE 127.0.0.1 1 k 0 100 AUTH", "-ERR syntax error");
        c.check("MIGRATE 127.0.0.1 1 k 0 100 AUTH2 user", "-ERR syntax error");
        let error = "-ERR When using MIGRATE KEYS option, the key argument must be set to the empty string";
        c.check("MIGRATE 127.0.0.1 1 k 0 100 KEYS a", error);
        c.check("MIGRATE 127.0.0.1 1 k x 100", "-ERR value is not an integer or out of range");
        c.run("SET k v");
        c.check("MIGRATE 127.0.0.1 1 k 0 100", "-IOERR error or timeout writing to target instance");
        c.check("GET k", "\"v\"");
        c.check("COMMAND GETKEYS MIGRATE 127.0.0.1 1 \"\" 0 100 AUTH keys KEYS a b", "[\"a\", \"b\"]");
        c.check("COMMAND GETKEYS MIGRATE 127.0.0.1 1 k 0 100 COPY", "[\"k\"]");
    }

    #[test]
    fn keys_move() {
        let target = Checker::new();
        let mut there = Peer::connect(&target.running.addr().unwrap().to_string());
        let mut c = Checker::new();
        let log = c.record();
        let to = format!("MIGRATE 127.0.0.1 {}", port(&target));
        c.run("MSET a 1 b 2 c 3");
        c.run("PEXPIRE b 100000");
        c.run("RPUSH l x y");
        log.take();
        c.check_here(&format!("{to} \"\" 3 60000 KEYS a b nokey l"), "OK");
        assert_eq!(log.take(), ["DEL a b l"]);
        c.check_here("EXISTS a b l", ":0");
        assert_eq!(there.run("DBSIZE"), ":0");
        there.run("SELECT 3");
        assert_eq!(there.run("LRANGE l 0 -1"), "[\"x\", \"y\"]");
        let ttl: i64 = there.run("PTTL b")[1..].parse().unwrap();
        assert!((90_000..=100_000).contains(&ttl), "{ttl}");
        c.check_here(&format!("{to} c 3 60000 COPY"), "OK");
        c.check_here("GET c", "\"3\"");
        let busy = "-ERR Target instance replied with error: BUSYKEY Target key name already exists.";
        c.check_here(&format!("{to} c 3 60000"), busy);
        c.check_here("GET c", "\"3\"");
        c.check_here(&format!("{to} c 3 60000 REPLACE"), "OK");
        c.check_here("EXISTS c", ":0");
        assert!(c.run_here(0, "INFO stats").contains("migrate_cached_sockets:1"));
        // What is there already stays here; the rest has moved.
        c.run("MSET c 4 d 5");
        c.check_here(&format!("{to} \"\" 3 60000 KEYS c d"), busy);
        c.check_here("MGET c d", "[\"4\", nil]");
        // In a transaction nothing is put off.
        c.run_here(0, "MULTI");
        c.run_here(0, &format!("{to} c 3 60000 REPLACE"));
        c.run_here(0, "EXISTS c");
        c.check_here("EXEC", "[OK, :0]");
        c.run("SET e 1");
        let denied = "-ERR Target instance replied with error: ERR AUTH <password> called without any password \
                      configured for the default user. Are you sure your configuration is correct?";
        c.check_here(&format!("{to} e 3 60000 AUTH secret"), denied);
        there.run("CONFIG SET requirepass secret");
        c.check_here(&format!("{to} e 3 60000 REPLACE AUTH secret"), "OK");
        c.run("SET e 1");
        c.check_here(&format!("{to} e 3 60000 REPLACE AUTH2 default secret"), "OK");
    }

    #[test]
    fn who_would_change_a_key_under_way_waits() {
        let mut c = Checker::new();
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("MIGRATE 127.0.0.1 {}", target.local_addr().unwrap().port());
        c.run("MSET k v other w");
        c.send_here(&format!("{to} k 0 60000"));
        let (mut stream, _) = target.accept().unwrap();
        let mut bytes = [0; 256];
        let len = stream.read(&mut bytes).unwrap();
        let sent = String::from_utf8_lossy(&bytes[..len]).into_owned();
        assert!(
            sent.starts_with("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*4\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n"),
            "{sent}"
        );
        // Everything else goes on.
        assert_eq!(c.run_here(1, "GET k"), "\"v\"");
        assert_eq!(c.run_here(1, "SET other x"), "OK");
        let mut writer = Peer::connect(&c.running.addr().unwrap().to_string());
        let mut script = Peer::connect(&c.running.addr().unwrap().to_string());
        let writing = std::thread::spawn(move || writer.run("APPEND k z"));
        let running = std::thread::spawn(move || script.run("EVAL \"return redis.call('exists', 'k')\" 0"));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!writing.is_finished() && !running.is_finished(), "they wait");
        stream.write_all(b"+OK\r\n+OK\r\n").unwrap();
        assert_eq!(c.receive_here(), "OK");
        // The key is gone: it is made anew.
        assert_eq!(writing.join().unwrap(), ":1");
        assert!([":0", ":1"].contains(&running.join().unwrap().as_str()));
        c.check_here("GET k", "\"z\"");
        // A target that does not answer.
        c.send_here(&format!("{to} k 0 200"));
        assert_eq!(c.receive_here(), "-IOERR error or timeout reading to target instance");
        c.check_here("GET k", "\"z\"");
        c.check_here("SET k v", "OK");
    }
}
