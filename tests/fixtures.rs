//! Files written by real servers, loaded by this one: what its clients then see is what those of the real server saw.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Folder, Reply, config, until};
use redstart::config::Config;
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use serde_json::{Map, Value as Json, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("persistence/tests/fixtures")
}

/// A server that loads what is in this folder; `None` if it refuses to.
fn load(folder: &Folder, appendonly: bool) -> Option<Running> {
    let config = Config {
        dir: folder.0.clone(),
        appendonly,
        enable_debug_command: redstart::config::ProtectedAction::Yes,
        ..config()
    };
    let running = Server::start(Options { config, load: true, ..Options::default() }).unwrap();
    let server = running.server.clone();
    until("the data set is loaded", || !server.loading.load(Ordering::Acquire) || server.stop.has_failed());
    (!server.stop.has_failed()).then_some(running)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A reply as `expected.json` has it: bytes are letters of Latin-1.
fn plain(reply: Reply) -> Json {
    match reply {
        Reply::Bulk(bytes) => Json::String(bytes.into_iter().map(char::from).collect()),
        Reply::Simple(text) | Reply::Error(text) => Json::String(text),
        Reply::Integer(number) => json!(number),
        Reply::Null => Json::Null,
        Reply::Array(replies) => replies.into_iter().map(plain).collect(),
    }
}

/// A reply of names and values as an object.
fn object(reply: Reply) -> Map<String, Json> {
    let flat = plain(reply);
    let pairs = flat.as_array().unwrap().chunks(2);
    pairs.map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone())).collect()
}

fn sorted(reply: Reply) -> Json {
    let mut members = plain(reply);
    members.as_array_mut().unwrap().sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    members
}

fn value(client: &mut Client, key: &str, kind: &str) -> Json {
    match kind {
        "string" => plain(client.call(&["GET", key])),
        "list" => plain(client.call(&["LRANGE", key, "0", "-1"])),
        "set" => sorted(client.call(&["SMEMBERS", key])),
        "hash" => Json::Object(object(client.call(&["HGETALL", key]))),
        "zset" => plain(client.call(&["ZRANGE", key, "0", "-1", "WITHSCORES"])),
        _ => stream(client, key),
    }
}

fn stream(client: &mut Client, key: &str) -> Json {
    let mut info = object(client.call(&["XINFO", "STREAM", key]));
    info.retain(|name, _| !name.starts_with("radix"));
    let groups = client.call(&["XINFO", "GROUPS", key]);
    let names: Vec<String> =
        groups.clone().array().into_iter().map(|group| object(group)["name"].as_str().unwrap().to_owned()).collect();
    let pending = names.into_iter().map(|name| {
        let entries = plain(client.call(&["XPENDING", key, &name, "-", "+", "1000"]));
        // Idle times differ from run to run.
        let kept = |entry: &Json| json!([entry[0], entry[1], entry[3]]);
        (name, entries.as_array().unwrap().iter().map(kept).collect())
    });
    let pending: Map<String, Json> = pending.collect();
    json!({
        "entries": plain(client.call(&["XRANGE", key, "-", "+"])), "info": info, "groups": plain(groups),
        "pending": pending,
    })
}

/// What the server holds, as `expected.json` has it.
fn contents(client: &mut Client) -> Map<String, Json> {
    let mut contents = Map::new();
    for db in 0..16 {
        client.call(&["SELECT", &db.to_string()]);
        for key in client.call(&["KEYS", "*"]).array() {
            let key = key.text();
            let Reply::Simple(kind) = client.call(&["TYPE", &key]) else { panic!("{key} has a type") };
            let expire_at_ms = client.call(&["PEXPIRETIME", &key]).integer();
            let entry = json!({
                "type": kind,
                "encoding": client.call(&["OBJECT", "ENCODING", &key]).text(),
                "ttl_at_ms": (expire_at_ms >= 0).then_some(expire_at_ms),
                "value": value(client, &key, &kind),
            });
            contents.insert(format!("{db}/{key}"), entry);
        }
    }
    contents
}

/// Whether everything is there, exactly as `expected.json` says.
fn check(running: &Running, what: &str) {
    let mut client = Client::connect(running);
    let found = contents(&mut client);
    let expected: Json =
        serde_json::from_slice(&fs::read(fixtures().join("redis-7.2.6/expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert_eq!((found.len(), expected.len()), (72, 72), "{what}");
    for (key, wanted) in expected {
        assert!(found[key] == *wanted, "{what}: {key} differs:\n{}\n{wanted}", found[key]);
    }
    client.call(&["SELECT", "0"]);
    assert_eq!(client.run("FCALL f 0 answer"), "answer", "{what}");
}

#[test]
fn rdb_files_of_three_servers() {
    let names =
        ["redis-7.2.6/dump.rdb", "redis-7.2.6/dump-uncompressed.rdb", "redis-7.4.1/dump.rdb", "valkey-8.0.1/dump.rdb"];
    for name in names {
        let folder = Folder::new("fixture-rdb");
        fs::copy(fixtures().join(name), folder.0.join("dump.rdb")).unwrap();
        let running = load(&folder, false).unwrap_or_else(|| panic!("{name} is refused"));
        check(&running, name);
        // What we make of it is the same again.
        let mut client = Client::connect(&running);
        assert_eq!(client.run("SAVE"), "+OK");
        check(&load(&folder, false).unwrap(), &format!("{name}, saved again"));
    }
}

#[test]
fn append_only_files_of_redis() {
    for name in ["redis-7.2.6/appendonlydir", "redis-7.2.6/rewritten-no-preamble/appendonlydir"] {
        let folder = Folder::new("fixture-aof");
        copy(&fixtures().join(name), &folder.0.join("appendonlydir"));
        let running = load(&folder, true).unwrap_or_else(|| panic!("{name} is refused"));
        check(&running, name);
        drop(running);
        check(&load(&folder, true).unwrap(), &format!("{name}, loaded again"));
    }
}

/// The digests are those of Redis 7.2.6 after loading the same file.
#[test]
fn files_of_older_servers() {
    for (name, digest) in [
        ("encodings.rdb", "e9abcce40e69c9faa766aba4e264e823edff741d"),
        ("hash-ziplist.rdb", "3ca39ed0cb3b979b5b125ae0d1e54f2c40b7c5e6"),
        ("hash-zipmap.rdb", "3ca39ed0cb3b979b5b125ae0d1e54f2c40b7c5e6"),
        ("list-quicklist.rdb", "3d77c75a5b6cc5319b4ecf6e95101ed07ddd139e"),
        ("zset-ziplist.rdb", "fa1ca919dcef4dea3e3e609298a9e329d3bb7c61"),
        ("scriptbackup.rdb", "0000000000000000000000000000000000000000"),
        ("corrupt_empty_keys.rdb", "0000000000000000000000000000000000000000"),
        ("rdb-preamble.aof", "8df647352882efa138f4854656f412a08448f22d"),
    ] {
        let folder = Folder::new("fixture-older");
        let is_log = name.ends_with("aof");
        fs::copy(
            fixtures().join("older").join(name),
            folder.0.join(if is_log { "appendonly.aof" } else { "dump.rdb" }),
        )
        .unwrap();
        let running = load(&folder, is_log).unwrap_or_else(|| panic!("{name} is refused"));
        assert_eq!(Client::connect(&running).run("DEBUG DIGEST"), format!("+{digest}"), "{name}");
    }
    let folder = Folder::new("fixture-corrupt");
    fs::copy(fixtures().join("older/corrupt_ziplist.rdb"), folder.0.join("dump.rdb")).unwrap();
    assert!(load(&folder, false).is_none(), "a corrupt ziplist is refused");
}

/// The smallest file of each version: a database, a key, a string. Checksums came with version 5.
#[test]
fn every_version_of_the_format() {
    for version in 0..=13 {
        let mut bytes = format!("REDIS{version:04}").into_bytes();
        bytes.extend_from_slice(b"\xfe\x00\x00\x01k\x05value\xff");
        bytes.extend_from_slice(if version >= 5 { &[0; 8] } else { &[] });
        let folder = Folder::new("fixture-version");
        fs::write(folder.0.join("dump.rdb"), bytes).unwrap();
        let running = load(&folder, false);
        assert_eq!(running.is_some(), (1..=12).contains(&version), "version {version}");
        if let Some(running) = running {
            assert_eq!(Client::connect(&running).run("GET k"), "value", "version {version}");
        }
    }
}
