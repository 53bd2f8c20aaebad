//! A snapshot is of its instant, whatever clients do meanwhile.

use super::*;
use crate::commands::testing::{Peer, until};
use crate::config::{Config, ProtectedAction};
use crate::keyspace::value;
use crate::run::start::{Options, Running};
use crate::server::Server;
use crate::snapshot::load::{self, Purpose, Target};
use crate::snapshot::{convert, digest, save};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use redstart_persistence::rdb::{Encoder, WriteOptions};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;

/// Database, key, expiry and something that tells the value from all others.
type Contents = BTreeMap<(usize, Vec<u8>), (Option<i64>, String)>;

fn contents(locked: &Locked<'_>, fingerprint: fn(&Entry) -> String) -> Contents {
    let databases = locked.iter().flat_map(|shard| shard.dbs.iter().enumerate());
    let entries = databases.flat_map(|(db, part)| part.keys.iter().map(move |entry| (db, entry)));
    entries.map(|(db, entry)| ((db, entry.key().to_vec()), (entry.expire_at_ms(), fingerprint(entry)))).collect()
}

fn digest_of(entry: &Entry) -> String {
    digest::value(entry).hex()
}

/// Much faster than the digest, which also knows nothing of consumer groups.
fn fingerprint(entry: &Entry) -> String {
    let content = entry.content();
    let sum = match &content {
        Content::Object(Value::List(list)) => hash_of(&list.iter().map(|element| element.to_vec()).collect::<Vec<_>>()),
        Content::Object(Value::Set(set)) => {
            set.iter().map(|member| hash_of(&member.to_vec())).fold(0, u64::wrapping_add)
        }
        Content::Object(Value::Hash(hash)) => {
            let fields = hash.iter().map(|(field, value)| hash_of(&(field.to_vec(), value.to_vec())));
            fields.fold(0, u64::wrapping_add)
        }
        Content::Object(Value::ZSet(zset)) => {
            let members = zset.iter().map(|entry| hash_of(&(entry.member.to_vec(), entry.score.to_bits())));
            members.fold(0, u64::wrapping_add)
        }
        _ => {
            let mut encoder = Encoder::new(WriteOptions { compression: false, ..WriteOptions::default() });
            convert::encode(&mut encoder, convert::natural_kind(&content), &content);
            hash_of(&encoder.bytes())
        }
    };
    format!("{} {sum:x}", value::kind_of(entry).name())
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A file on a slow disk, so that the walk takes long enough for clients to change much.
struct SlowDisk {
    bytes: Vec<u8>,
    delay: Duration,
}

impl SlowDisk {
    fn new(delay_ms: u64) -> Self {
        SlowDisk { bytes: Vec::new(), delay: Duration::from_millis(delay_ms) }
    }
}

impl Write for SlowDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(self.delay);
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn server(io_threads: usize, limit_bytes: u64) -> Running {
    let options = Options::default();
    let config = Config { io_threads, snapshot_buffer_limit: limit_bytes, ..options.config };
    Server::start(Options { config, ..options }).expect("a free port on 127.0.0.1")
}

fn client(running: &Running) -> Peer {
    Peer::connect(&running.addr().expect("it listens on TCP").to_string())
}

/// Keys of every type, small and big, and some in a second database.
fn fill(running: &Running) {
    let mut client = client(running);
    let lua = "for i = 1, 9000 do redis.call('SET', 'k' .. i, string.rep('v', i % 90)) end \
        for i = 1, 300 do redis.call('HSET', 'h' .. i, 'a', 1, 'b', 2) redis.call('RPUSH', 'l' .. i, 1, 2, 3) \
        redis.call('SADD', 's' .. i, 1, 'x') redis.call('ZADD', 'z' .. i, 1, 'a', 2, 'b') \
        redis.call('XADD', 'x' .. i, '1-' .. i, 'f', 'v') redis.call('PEXPIRE', 'k' .. i, 100 * i) end \
        for i = 1, 4000 do redis.call('HSET', 'bh', 'f' .. i, i) redis.call('SADD', 'bs', 'm' .. i) \
        redis.call('ZADD', 'bz', i, 'm' .. i) redis.call('RPUSH', 'bl', 'e' .. i) \
        if i <= 1500 then redis.call('XADD', 'bx', '1-' .. i, 'f', i) redis.call('HSET', 'bh2', 'f' .. i, i) end end \
        redis.call('XGROUP', 'CREATE', 'bx', 'g', '0') \
        for _, k in ipairs({'bh', 'bs', 'bz', 'bl', 'bx'}) do redis.call('PEXPIREAT', k, 4102444800000) end \
        for i = 1, 9 do redis.call('SET', 'long' .. i, string.rep('long' .. i, 7000 * i)) end \
        redis.call('SELECT', 1) for i = 1, 2000 do redis.call('SET', 'k' .. i, i) end \
        for i = 1, 3000 do redis.call('ZADD', 'bz', i, 'n' .. i) end return 1";
    assert_eq!(client.run(&format!("EVAL \"{lua}\" 0")), ":1");
}

/// One random command over the keys that [`fill`] made.
fn command(rng: &mut SmallRng) -> String {
    let n: u32 = rng.random_range(1..9000);
    let (i, e) = (n % 300 + 1, n % 4000 + 1);
    let (long, at) = (n % 9 + 1, rng.random_range(0..200_000));
    let big = ["h", "s", "z", "l", "x"][rng.random_range(0..5)];
    let kind = ["k", "h", "l", "s", "z", "x"][rng.random_range(0..6)];
    match rng.random_range(0..50) {
        0..8 => format!("SET k{n} new{n}"),
        8 => format!("APPEND k{n} more"),
        9 => format!("INCRBY k{} 3", 9000 + i),
        10 => format!("SETRANGE k{n} 2 xyz"),
        11 => format!("DEL {kind}{i} k{n}"),
        12 => format!("PEXPIRE {kind}{i} {}", rng.random_range(1..50)),
        13 => format!("PERSIST k{i}"),
        14 => format!("HSET bh f{e} changed new{n} v"),
        15 => format!("HDEL bh f{e} f{}", e + 1),
        16 => format!("HINCRBY h{i} a 2"),
        17 => format!("SADD bs m{e} new{n}"),
        18 => format!("SREM bs m{e}"),
        19 => "SPOP bs 5".to_owned(),
        20 => format!("ZADD bz {e} m{n} 1 new{n}"),
        21 => format!("ZINCRBY bz 7 m{e}"),
        22 => format!("ZREMRANGEBYSCORE bz {e} {}", e + 3),
        23 => "ZPOPMIN bz 3".to_owned(),
        24 => format!("LSET bl {} changed", e % 3000),
        25 => format!("RPUSH bl new{n}"),
        26 => "LPOP bl 3".to_owned(),
        27 => format!("LINSERT bl BEFORE e{e} between"),
        28 => format!("XADD bx * f {n}"),
        29 => format!("XDEL bx 1-{}", e % 5000),
        30 => "XREADGROUP GROUP g c COUNT 3 STREAMS bx >".to_owned(),
        31 => format!("XACK bx g 1-{}", e % 50),
        32 => format!("RENAME {kind}{i} {kind}{}", i + 1),
        33 => format!("COPY b{big} copy{big}"),
        34 => format!("MOVE k{n} 1"),
        35 => format!("SUNIONSTORE s{i} s{} s{}", i + 1, i + 2),
        36 => format!("SORT l{i} STORE l{}", i + 1),
        37 => format!("LPUSH l{i} {n}"),
        38 => format!("ZADD z{i} {n} c{n}"),
        39 => format!("SADD s{i} {n}"),
        40 => format!("SETEX k{n} 100 v"),
        41 => format!("GETDEL k{n}"),
        42 => format!("SETRANGE long{long} {at} {}", "x".repeat(at % 9000)),
        43 => format!("APPEND long{long} more"),
        44 => format!("SETBIT long{long} {} 1", at * 8),
        45 => format!("BITFIELD long{long} SET u8 {} 255 INCRBY u8 0 1", at * 8),
        46 => format!("RENAME long{long} long{}", (n + 1) % 9 + 1),
        47 => format!("SET long{long} {}", "y".repeat(at)),
        _ => rare(rng, big, n),
    }
}

/// Commands that move or remove much, less often.
fn rare(rng: &mut SmallRng, big: &str, n: u32) -> String {
    match rng.random_range(0..400) {
        0..60 => format!("RENAME b{big} moved{big}"),
        60..160 => format!("RENAME moved{big} b{big}"),
        160..180 => format!("MOVE b{big} 1"),
        180..190 => format!("DEL b{big}"),
        190..200 => format!("UNLINK moved{big}"),
        200..205 => format!("SET b{big} overwritten"),
        205..250 => "SWAPDB 0 1".to_owned(),
        250..252 => "FLUSHDB".to_owned(),
        252..254 => "FLUSHALL ASYNC".to_owned(),
        254..300 => format!("RENAME bh2 bh{}", n % 5),
        _ => format!("SELECT {}", n % 2),
    }
}

/// Tells the clients that the work is done, or has failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets `clients` run random commands until `work` is done.
fn meanwhile<R>(
    running: &Running,
    clients: u64,
    seed: u64,
    command: fn(&mut SmallRng) -> String,
    work: impl FnOnce() -> R,
) -> R {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..clients {
            let (mut peer, is_done) = (client(running), &is_done);
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed << 8 | number);
                while !is_done.load(Ordering::Relaxed) {
                    peer.run(&command(&mut rng));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(5));
        let _done = Done(&is_done);
        work()
    })
}

fn all(server: &Server) -> Locked<'_> {
    server.shards.lock(server.shards.all(), MayWait::of_thread())
}

fn begin(server: &Server) -> (Contents, Snapshot) {
    let mut locked = all(server);
    let wanted = contents(&locked, fingerprint);
    (wanted, Snapshot::begin(server, &server.persistence, &mut locked).expect("no other is under way"))
}

/// Takes a snapshot and loads it into another server: what it should be, and what it is.
fn snapshot_and_load(running: &Running, walkers: usize, delay_ms: u64) -> (Contents, Contents) {
    let server = &running.server;
    let config = server.config.load();
    let (wanted, mut snapshot) = begin(server);
    snapshot.walkers = walkers;
    let out = SlowDisk::new(delay_ms);
    let may_wait = MayWait::of_thread();
    let file = save::write_snapshot(server, &config, snapshot, may_wait, out, false, || false);
    let file = file.unwrap().bytes;
    let loaded = Server::start(Options::default()).expect("a free port on 127.0.0.1");
    loaded.server.switches.set_active_expire(false);
    let target = &mut Target::Shards(&loaded.server.shards, may_wait);
    let purpose = Purpose { log_follows: true, ..Purpose::default() };
    load::read(&loaded.server, &loaded.server.persistence, &config, file.as_slice(), target, purpose)
        .expect("the file is valid");
    (wanted, contents(&all(&loaded.server), fingerprint))
}

#[track_caller]
fn assert_same(wanted: &Contents, found: &Contents, what: &str) {
    let missing: Vec<_> = wanted.iter().filter(|(key, value)| found.get(*key) != Some(value)).take(5).collect();
    let extra: Vec<_> = found.keys().filter(|key| !wanted.contains_key(*key)).take(5).collect();
    let names = missing.iter().map(|((db, key), _)| format!("{db}:{}", String::from_utf8_lossy(key)));
    let names: Vec<_> = names.chain(extra.iter().map(|(db, key)| format!("{db}+{}", key.escape_ascii()))).collect();
    assert!(names.is_empty(), "{what}: {names:?} of {} and {} keys", wanted.len(), found.len());
}

#[test]
fn a_snapshot_is_of_its_instant_whatever_clients_do_meanwhile() {
    for (seed, io_threads, walkers) in [(1, 1, 1), (2, 2, 1), (3, 2, 3)] {
        let running = server(io_threads, 1 << 30);
        fill(&running);
        let what = format!("seed {seed}, {io_threads} workers, {walkers} walkers");
        let (wanted, found) = meanwhile(&running, 3, seed, command, || snapshot_and_load(&running, walkers, 3));
        assert_same(&wanted, &found, &what);
        assert_eq!(running.server.persistence.kept.bytes(), 0, "{what}");
        // Nothing is left over from the first.
        let (wanted, found) = snapshot_and_load(&running, walkers, 0);
        assert_same(&wanted, &found, &format!("{what}, the second"));
    }
}

#[test]
fn writers_wait_while_too_much_is_kept() {
    const LIMIT: usize = 20_000;
    // One command of each client, which may be the first to see that a key is over.
    const BEYOND: usize = 20_000;
    let running = server(1, LIMIT as u64);
    // What expires meanwhile is kept beyond the limit: it is in memory already.
    running.server.switches.set_active_expire(false);
    fill(&running);
    let writes = |rng: &mut SmallRng| format!("SET k{} {}", rng.random_range(1..9000), "v".repeat(200));
    let (wanted, found) = meanwhile(&running, 3, 1, writes, || snapshot_and_load(&running, 1, 100));
    assert_same(&wanted, &found, "with a limit");
    let peak = running.server.persistence.kept.peak_bytes();
    assert!((LIMIT..LIMIT + BEYOND).contains(&peak), "the limit was met and held: {peak}");
}

#[test]
fn a_long_string_changed_meanwhile_keeps_the_pages_that_are_touched() {
    // One longer than any that is compressed, and one that is.
    const LENS: [usize; 2] = [17 << 20, 3 << 20];
    let running = server(1, 1 << 30);
    let mut own = client(&running);
    for len in LENS {
        own.run(&format!("SETRANGE long{len} {} x", len - 1));
    }
    let writes = |rng: &mut SmallRng| {
        let long = LENS[rng.random_range(0..2)];
        // In a hundred places, however many writes there are.
        let at = long / 100 * rng.random_range(0..100);
        match rng.random_range(0..3) {
            0 => format!("SETRANGE long{long} {at} {}", "y".repeat(rng.random_range(1..100))),
            1 => format!("SETBIT long{long} {} 1", 8 * at),
            _ => format!("APPEND long{long} z"),
        }
    };
    let (wanted, found) = meanwhile(&running, 1, 1, writes, || snapshot_and_load(&running, 1, 1));
    assert_same(&wanted, &found, "long strings");
    let kept = &running.server.persistence.kept;
    assert!((4096..4 << 20).contains(&kept.peak_bytes()), "some pages, but far from all: {}", kept.peak_bytes());
    assert_eq!(kept.bytes(), 0);
}

#[test]
fn a_snapshot_that_fails_leaves_nothing_behind() {
    struct FullDisk;
    impl Write for FullDisk {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let running = server(1, 1 << 30);
    fill(&running);
    let server = &running.server;
    let (config, may_wait) = (server.config.load(), MayWait::of_thread());
    meanwhile(&running, 2, 7, command, || {
        let (_, mut snapshot) = begin(server);
        snapshot.walkers = 2;
        assert!(Snapshot::begin(server, &server.persistence, &mut all(server)).is_none(), "one at a time");
        let failed = save::write_snapshot(server, &config, snapshot, may_wait, FullDisk, false, || false);
        assert_eq!(failed.err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
        let (_, snapshot) = begin(server);
        let looks = AtomicUsize::new(0);
        let is_cancelled = || looks.fetch_add(1, Ordering::Relaxed) > 20;
        let out = SlowDisk::new(1);
        let called_off = save::write_snapshot(server, &config, snapshot, may_wait, out, false, is_cancelled);
        assert_eq!(called_off.err().map(|error| error.kind()), Some(io::ErrorKind::Interrupted));
    });
    assert_eq!(server.persistence.kept.bytes(), 0);
    let (wanted, found) = meanwhile(&running, 2, 8, command, || snapshot_and_load(&running, 1, 3));
    assert_same(&wanted, &found, "the next");
}

#[test]
fn a_log_rewritten_under_writers_loses_nothing() {
    for (seed, aof_use_rdb_preamble) in [(1, true), (2, false)] {
        let dir = std::env::temp_dir().join(format!("redstart-rewrite-{seed}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let options = Options::default();
        let enable_debug_command = ProtectedAction::Yes;
        let config = Config { aof_use_rdb_preamble, enable_debug_command, dir: dir.clone(), ..options.config };
        let config = Config { appendonly: true, io_threads: 2, ..config };
        let running = Server::start(Options { config, load: true, ..options }).expect("a free port on 127.0.0.1");
        let server = &running.server;
        server.switches.set_active_expire(false);
        fill(&running);
        let mut own = client(&running);
        meanwhile(&running, 3, seed, command, || {
            for _ in 0..2 {
                assert_eq!(own.run("BGREWRITEAOF"), "Background append only file rewriting started");
                until("the rewrite is over", || !server.aof.is_rewriting());
                assert!(server.aof.figures().rewrites.last_ok);
            }
        });
        let wanted = contents(&all(server), digest_of);
        assert_eq!(own.run("DEBUG LOADAOF"), "OK");
        assert_same(&wanted, &contents(&all(server), digest_of), &format!("preamble {aof_use_rdb_preamble}"));
        drop(running);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
