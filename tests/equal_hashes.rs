//! Servers whose hashes are equal on purpose: they hold, show, expire, save and load the same data as one whose hashes
//! are as they should be.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Folder, config, until};
use redstart::config::{Config, ProtectedAction};
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use redstart::util::clock::Clock;
use redstart_types::seed::HashSeed;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Which bits of a hash are kept: none; those of the shard and the tag; a few at the top.
const KEPT: [u64; 3] = [0, 0xffff, 7 << 61];
const COUNT: usize = if cfg!(debug_assertions) { 1500 } else { 20_000 };
const NOW_MS: i64 = 1_700_000_000_000;

fn start(kept: u64, config: Config) -> Running {
    let config = Config { enable_debug_command: ProtectedAction::Yes, ..config };
    let hash_seed = Some(HashSeed::new([1, 2]).keeping(kept));
    let options = Options { config, hash_seed, load: true, clock: Clock::stopped_at(NOW_MS), ..Options::default() };
    let running = Server::start(options).unwrap();
    let server = running.server.clone();
    until("the data set is loaded", || !server.loading.load(Ordering::Acquire));
    running
}

/// Keys with and without expiry, and a collection of each type that has a table.
fn fill(client: &mut Client) {
    for n in 0..COUNT {
        client.run(&format!("SET key:{n} {n}"));
        client.run(&format!("HSET hash field:{n} {n}"));
        client.run(&format!("SADD set member:{n}"));
        client.run(&format!("ZADD zset {n} member:{n}"));
    }
    for n in (0..COUNT).step_by(3) {
        client.run(&format!("DEL key:{n}"));
        client.run(&format!("HDEL hash field:{n}"));
        client.run(&format!("SREM set member:{n}"));
        client.run(&format!("ZREM zset member:{n}"));
        client.run(&format!("SET volatile:{n} 1 PX {}", 1000 + n % 7));
    }
    client.run("COPY hash hash:2");
    client.run("RENAME key:1 key:renamed");
}

/// What a whole scan shows, each element once: names, fields or members.
fn scan(client: &mut Client, command: &str, step: usize) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let reply = client.run(&format!("{command} {cursor} COUNT 20"));
        let (next, shown) = reply[1..].split_once(" [").unwrap();
        found.extend(shown.trim_end_matches(']').split_whitespace().step_by(step).map(str::to_owned));
        if next == "0" {
            found.sort_unstable();
            return found;
        }
        cursor = next.to_owned();
    }
}

const SCANS: [(&str, usize); 4] = [("SCAN", 1), ("HSCAN hash", 2), ("SSCAN set", 1), ("ZSCAN zset", 2)];

#[test]
fn the_data_is_the_same() {
    let ordinary = start(u64::MAX, config());
    let mut model = Client::connect(&ordinary);
    fill(&mut model);
    for kept in KEPT {
        let folder = Folder::new(&format!("equal-hashes-{kept:x}"));
        let running = start(kept, Config { dir: folder.0.clone(), ..config() });
        let mut client = Client::connect(&running);
        fill(&mut client);
        for (command, step) in SCANS {
            let shown = scan(&mut client, command, step);
            assert_eq!(shown, scan(&mut model, command, step), "{command}");
        }
        for command in ["DBSIZE", "DEBUG DIGEST", "GET key:renamed", "EXISTS key:3 key:4", "HLEN hash:2"] {
            assert_eq!(client.run(command), model.run(command), "{command}");
        }
        for command in ["RANDOMKEY", "HRANDFIELD hash 100", "SRANDMEMBER set -100", "ZRANDMEMBER zset 100", "KEYS *"] {
            assert_ne!(client.run(command), "nil", "{command}");
        }
        assert_eq!(client.run("DEBUG RELOAD"), "+OK");
        assert_eq!(client.run("DEBUG DIGEST"), model.run("DEBUG DIGEST"));
        let dump = client.call(&["DUMP", "hash"]);
        let common::Reply::Bulk(dump) = dump else { panic!("a hash can be dumped") };
        assert_eq!(client.call_bytes(&[b"RESTORE", b"again", b"0", &dump]).to_string(), "+OK");
        assert_eq!(client.run("HLEN again"), model.run("HLEN hash"));
        assert_eq!(client.run("FLUSHALL"), "+OK");
        assert_eq!(client.run("DBSIZE"), ":0");
    }
}

#[test]
fn keys_expire_by_themselves() {
    for kept in KEPT {
        let running = start(kept, config());
        let mut client = Client::connect(&running);
        for n in 0..COUNT {
            // Many at one time, and so with one hash and one time; some more than once.
            client.run(&format!("SET key:{n} {n} PX {}", 1000 + n % 3));
            if n % 5 == 0 {
                client.run(&format!("PEXPIRE key:{n} 1002"));
            }
        }
        client.run("PERSIST key:7");
        running.server.clock.advance_ms(1001);
        until("those of the first two times have expired", || {
            client.run("DBSIZE") == format!(":{}", 1 + (0..COUNT).filter(|n| n % 3 == 2 || n % 5 == 0).count())
        });
        running.server.clock.advance_ms(10);
        until("all have expired", || client.run("DBSIZE") == ":1");
        assert!(client.run("INFO keyspace").contains("keys=1,expires=0"));
    }
}

#[test]
fn a_save_has_the_instant() {
    for kept in KEPT {
        let folder = Folder::new(&format!("equal-hashes-save-{kept:x}"));
        let config = Config { dir: folder.0.clone(), ..config() };
        let running = start(kept, config.clone());
        let mut client = Client::connect(&running);
        fill(&mut client);
        let wanted: Vec<_> = SCANS.iter().map(|(command, step)| scan(&mut client, command, *step)).collect();
        assert!(client.run("BGSAVE").starts_with("+Background"));
        for n in 0..COUNT {
            client.run(&format!("DEL key:{n}"));
            client.run(&format!("HDEL hash field:{}", COUNT - n));
            client.run(&format!("SADD set new:{n}"));
            client.run(&format!("ZREM zset member:{n}"));
        }
        until("the save is over", || client.run("INFO persistence").contains("rdb_bgsave_in_progress:0"));
        drop(running);
        let again = start(u64::MAX, config);
        let mut client = Client::connect(&again);
        let saved: Vec<_> = SCANS.iter().map(|(command, step)| scan(&mut client, command, *step)).collect();
        assert!(saved == wanted, "{kept:x}");
    }
}

#[test]
fn a_whole_key_of_chance_is_drawn() {
    let cursors = |_| {
        let running = start_ordinary();
        let mut client = Client::connect(&running);
        (0..1000).for_each(|n| drop(client.run(&format!("SADD set member:{n}"))));
        client.run("SSCAN set 0 COUNT 1")
    };
    let different: BTreeSet<String> = (0..4).map(cursors).collect();
    assert_eq!(different.len(), 4, "each server has its own order of elements");
}

fn start_ordinary() -> Running {
    Server::start(Options { config: config(), ..Options::default() }).unwrap()
}
