//! A server with `maxmemory`, in a process of its own: what other tests allocate would count as well.

use redstart::config::Config;
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use redstart_types::seed::HashSeed;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

#[global_allocator]
static ALLOCATOR: redstart::memory::allocator::Allocator = redstart::memory::allocator::Allocator;

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(running: &Running) -> Client {
        let stream = TcpStream::connect(running.addr().expect("it listens on TCP")).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        Client(BufReader::new(stream))
    }

    /// Sends a line; the first line of the reply.
    fn run(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("the server reads");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers");
        line.trim_end().to_owned()
    }
}

fn used(running: &Running) -> u64 {
    running.server.read_memory().allocated
}

/// Allows 500 KB more than is used and sets keys of 1 KB until that would be more than twice as much.
fn fill(policy: &str, expire: &str, lazily: bool, hash_seed: Option<HashSeed>) {
    let config = Config {
        port: 0,
        bind: vec!["127.0.0.1".to_owned()],
        save: Vec::new(),
        io_threads: 2,
        lazyfree_lazy_eviction: lazily,
        ..Config::default()
    };
    let running = Server::start(Options { config, hash_seed, ..Options::default() }).expect("a free port on 127.0.0.1");
    let mut client = Client::connect(&running);
    assert_eq!(client.run("SET stays 1"), "+OK");
    let limit = used(&running) + 500_000;
    assert_eq!(client.run(&format!("CONFIG SET maxmemory-policy {policy} maxmemory {limit}")), "+OK");
    let value = "x".repeat(1000);
    for n in 0..1200 {
        assert_eq!(client.run(&format!("SET key:{n} {value} {expire}")), "+OK", "{policy}");
    }
    let used = used(&running);
    assert!(used < limit + 100_000, "{policy}: {used} bytes are used, {limit} allowed");
    assert!(used > limit - 200_000, "{policy}: {used} bytes are used, {limit} allowed");
    assert!(running.server.stats.sum(|worker| &worker.evicted_keys) > 500);
    if !expire.is_empty() {
        assert_eq!(client.run("GET stays"), "$1");
    }
}

#[test]
fn keys_go_when_they_must_and_only_then() {
    each_policy_makes_room();
    no_key_goes_for_what_waits_to_be_freed();
}

fn each_policy_makes_room() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        fill(policy, "", false, None);
    }
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        fill(policy, "EX 1000", false, None);
    }
    fill("allkeys-lru", "", true, None);
    // Hashes of which most are equal.
    for kept in [0, 0xffff] {
        let hash_seed = Some(HashSeed::new([1, 2]).keeping(kept));
        fill("allkeys-lru", "", false, hash_seed);
        fill("volatile-random", "EX 1000", false, hash_seed);
        fill("volatile-ttl", "EX 1000", false, hash_seed);
    }
}

/// A huge key is deleted at the limit: while it waits to be freed it is used memory, but no other key goes for it and no
/// write is refused.
fn no_key_goes_for_what_waits_to_be_freed() {
    for policy in ["allkeys-lru", "noeviction"] {
        let config = Config { port: 0, bind: vec!["127.0.0.1".to_owned()], save: Vec::new(), ..Config::default() };
        let running = Server::start(Options { config, ..Options::default() }).expect("a free port on 127.0.0.1");
        let mut client = Client::connect(&running);
        for n in 0..1000 {
            let fields: String = (0..300).map(|field| format!(" field:{n}:{field} value")).collect();
            assert_eq!(client.run(&format!("HSET huge{fields}")), ":300");
            assert_eq!(client.run(&format!("SET key:{n} value")), "+OK");
        }
        let limit = used(&running) + 3_000_000;
        assert_eq!(client.run(&format!("CONFIG SET maxmemory-policy {policy} maxmemory {limit}")), "+OK");
        assert_eq!(client.run("DEL huge"), ":1");
        let value = "x".repeat(10_000);
        for n in 0..1000 {
            assert_eq!(client.run(&format!("SET key:{n} {value}")), "+OK", "{policy}");
        }
        assert_eq!(client.run("DBSIZE"), ":1000", "{policy}");
    }
}
