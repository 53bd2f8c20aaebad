//! Files written by real servers hold exactly what `expected.json` says; older and damaged ones load or fail as Redis
//! 7.2 does.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Contents, describe, elements, expected, fixture, read_all, text};
use redstart_persistence::rdb::{ChecksumState, Part, RdbErrorKind, Record};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs::{File, read};

fn load(name: &str) -> Contents {
    read_all(File::open(fixture(name)).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn check_whole_data_set(name: &str) {
    let wanted: Json = serde_json::from_slice(&read(fixture("redis-7.2.6/expected.json")).unwrap()).unwrap();
    let wanted = wanted.as_object().unwrap();
    let contents = load(name);
    let found: BTreeMap<String, Json> =
        contents.keys.iter().map(|e| (format!("{}/{}", e.key.db, text(&e.key.key)), describe(e))).collect();
    assert_eq!(wanted.len(), 72);
    assert_eq!(found.len(), 72);
    for (key, entry) in wanted {
        assert!(found[key] == expected(entry), "{name}: {key} differs");
    }
    assert_eq!(contents.records.last(), Some(&Record::Eof(ChecksumState::Good)), "{name}");
    let functions =
        contents.records.iter().filter(|r| matches!(r, Record::Function(code) if code.starts_with(b"#!lua")));
    assert_eq!(functions.count(), 1, "{name}");
}

#[test]
fn redis_7_2() {
    check_whole_data_set("redis-7.2.6/dump.rdb");
    check_whole_data_set("redis-7.2.6/dump-uncompressed.rdb");
}

#[test]
fn redis_7_4() {
    check_whole_data_set("redis-7.4.1/dump.rdb");
}

#[test]
fn valkey_8() {
    check_whole_data_set("valkey-8.0.1/dump.rdb");
}

#[test]
fn empty_aof_base() {
    let contents = load("redis-7.2.6/appendonlydir/appendonly.aof.1.base.rdb");
    assert!(contents.keys.is_empty());
    let aof_base = contents
        .records
        .iter()
        .any(|r| matches!(r, Record::Aux { name, value } if name == b"aof-base" && value == b"1"));
    assert!(aof_base);
}

#[test]
fn older_encodings() {
    let flat = |name: &str, key: &str| {
        let contents = load(name);
        let entry = contents.keys.iter().find(|e| e.key.key == key.as_bytes()).unwrap_or_else(|| panic!("{key}"));
        elements(&entry.parts).iter().map(|e| text(e)).collect::<Vec<_>>()
    };
    assert_eq!(flat("older/hash-zipmap.rdb", "hash"), ["f1", "v1", "f2", "v2"]);
    assert_eq!(flat("older/hash-ziplist.rdb", "hash"), ["f1", "v1", "f2", "v2"]);
    assert_eq!(flat("older/zset-ziplist.rdb", "zset"), ["one", "1", "two", "2"]);
    assert_eq!(flat("older/list-quicklist.rdb", "list"), ["7"]);
}

#[test]
fn all_encodings_of_redis_2() {
    let contents = load("older/encodings.rdb");
    let names: Vec<String> = contents.keys.iter().map(|e| text(&e.key.key)).collect();
    // Lengths as LLEN, SCARD, HLEN and ZCARD of Redis 7.2.6 give them.
    let collections = [
        ("list", 24),
        ("list_zipped", 8),
        ("set", 8),
        ("set_zipped_1", 4),
        ("set_zipped_2", 4),
        ("set_zipped_3", 6),
        ("hash", 2 * 11),
        ("hash_zipped", 2 * 3),
        ("zset", 2 * 12),
        ("zset_zipped", 2 * 3),
    ];
    for (key, len) in collections {
        let at = names.iter().position(|name| name == key).unwrap_or_else(|| panic!("{key} in {names:?}"));
        assert_eq!(elements(&contents.keys[at].parts).len(), len, "{key}");
    }
    for key in ["string", "number", "compressible"] {
        assert!(names.iter().any(|name| name == key), "{key}");
    }
}

#[test]
fn scripts_in_aux_fields_are_read_over() {
    let contents = load("older/scriptbackup.rdb");
    let scripts = contents.records.iter().filter(|r| matches!(r, Record::Aux { name, .. } if name == b"lua"));
    assert!(scripts.count() > 0);
}

#[test]
fn empty_keys_have_no_elements() {
    let contents = load("older/corrupt_empty_keys.rdb");
    let is_empty = |e: &common::Entry| e.parts.iter().all(|p| matches!(p, Part::Packed(_, bytes) if bytes.len() == 7));
    assert_eq!(contents.keys.len(), 9);
    assert!(contents.keys.iter().all(is_empty));
}

#[test]
fn damaged_ziplist_is_named() {
    let error = read_all(File::open(fixture("older/corrupt_ziplist.rdb")).unwrap()).unwrap_err();
    assert!(matches!(error.kind, RdbErrorKind::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("ziplist integrity check failed."), "{error}");
}

#[test]
fn preamble_leaves_the_tail() {
    let mut reader = redstart_persistence::rdb::Reader::new(
        File::open(fixture("older/rdb-preamble.aof")).unwrap(),
        Default::default(),
    )
    .unwrap();
    while !matches!(reader.record().unwrap(), Record::Eof(ChecksumState::Good)) {}
    let mut tail = Vec::new();
    std::io::Read::read_to_end(&mut reader.into_rest(), &mut tail).unwrap();
    assert!(tail.starts_with(b"*"), "{}", text(&tail));
}
