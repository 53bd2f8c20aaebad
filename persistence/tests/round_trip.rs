//! What the writer writes, the reader reads; what is cut or damaged gives an error and nothing worse.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Contents, Entry, fixture, read_all};
use proptest::prelude::*;
use redstart_persistence::rdb::{
    ChecksumState, Encoder, Family, Key, KeyMeta, Kind, Packed, Part, ReadOptions, Reader, Record, Str, StreamId,
    StreamMeta, WriteOptions, Writer,
};

/// Writes what was read, with the counts in front of the parts.
fn write_all(contents: &Contents, options: WriteOptions) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), options);
    for record in &contents.records {
        match record {
            Record::Aux { name, value } => writer.encoder().aux(std::str::from_utf8(name).unwrap(), value),
            Record::Function(code) => writer.encoder().function(code),
            _ => {}
        }
    }
    let mut db = None;
    for entry in &contents.keys {
        if db != Some(entry.key.db) {
            db = Some(entry.key.db);
            writer.encoder().select_db(entry.key.db);
        }
        write_key(writer.encoder(), entry);
        writer.drain().unwrap();
    }
    writer.finish().unwrap()
}

fn write_key(encoder: &mut Encoder, entry: &Entry) {
    let Key { key, expire_at_ms, lru_idle_s, lfu_freq, kind, .. } = &entry.key;
    let meta = KeyMeta { expire_at_ms: *expire_at_ms, lru_idle_s: *lru_idle_s, lfu_freq: *lfu_freq };
    encoder.key(key, *kind, &meta);
    let packed = |p: &Part| matches!(p, Part::Packed(..) | Part::String(_));
    if kind.family() == Family::Stream {
        return write_stream(encoder, *kind, &entry.parts);
    }
    if !entry.parts.iter().all(packed) || entry.parts.is_empty() {
        encoder.count(entry.parts.len() as u64);
    }
    for part in &entry.parts {
        encoder.part(*kind, part);
    }
}

fn write_stream(encoder: &mut Encoder, kind: Kind, parts: &[Part]) {
    let count = |wanted: fn(&Part) -> bool, from: usize, stop: fn(&Part) -> bool| {
        parts[from..].iter().take_while(|p| !stop(p)).filter(|p| wanted(p)).count() as u64
    };
    let never = |_: &Part| false;
    let group = |p: &Part| matches!(p, Part::Group { .. });
    let consumer = |p: &Part| matches!(p, Part::Consumer { .. });
    encoder.count(count(|p| matches!(p, Part::StreamNode { .. }), 0, never));
    let mut in_pending = false;
    for (at, part) in parts.iter().enumerate() {
        if in_pending && !matches!(part, Part::Pending { .. }) {
            encoder.count(count(consumer, at, group));
            in_pending = false;
        }
        encoder.part(kind, part);
        match part {
            Part::StreamMeta(_) => encoder.count(count(group, 0, never)),
            Part::Group { .. } => {
                encoder.count(count(|p| matches!(p, Part::Pending { .. }), at + 1, group));
                in_pending = true;
            }
            Part::Consumer { .. } => {
                encoder.count(count(
                    |p| matches!(p, Part::Owned(_)),
                    at + 1,
                    |p| matches!(p, Part::Consumer { .. } | Part::Group { .. }),
                ));
            }
            _ => {}
        }
    }
    if in_pending {
        encoder.count(0);
    }
}

#[test]
fn golden_file_survives_rewriting() {
    for name in ["redis-7.2.6/dump.rdb", "redis-7.2.6/dump-uncompressed.rdb", "redis-7.4.1/dump.rdb"] {
        let original = std::fs::read(fixture(name)).unwrap();
        let contents = read_all(&*original).unwrap();
        let plain = WriteOptions { compression: false, ..WriteOptions::default() };
        for options in [WriteOptions::default(), plain] {
            let written = write_all(&contents, options);
            assert!(written.starts_with(b"REDIS0011"));
            assert!(read_all(&*written).unwrap().keys == contents.keys, "{name}");
        }
        let ours = write_all(&contents, WriteOptions::default()).len();
        let redis = std::fs::read(fixture("redis-7.2.6/dump.rdb")).unwrap().len();
        assert!(ours < redis + redis / 10, "compresses about as well as Redis: {ours} against {redis}");
    }
}

#[test]
fn checksum_may_be_left_out_or_overlooked() {
    let contents = Contents { keys: vec![string_entry(b"k", b"v")], ..Contents::default() };
    let options = WriteOptions { checksum: false, ..WriteOptions::default() };
    let mut bytes = write_all(&contents, options);
    assert_eq!(read_all(&*bytes).unwrap().records, [Record::SelectDb(0), Record::Eof(ChecksumState::Disabled)]);
    *bytes.last_mut().unwrap() = 7;
    assert!(read_all(&*bytes).is_err());
    let mut reader = Reader::new(&*bytes, ReadOptions { checksum: false, ..ReadOptions::default() }).unwrap();
    while reader.record().unwrap() != Record::Eof(ChecksumState::Unchecked) {}
}

#[test]
fn versions_outside_one_to_twelve_are_refused() {
    for (header, ok) in
        [("REDIS0000", false), ("REDIS0001", true), ("REDIS0012", true), ("REDIS0013", false), ("REDIS-001", false)]
    {
        assert_eq!(Reader::new(header.as_bytes(), ReadOptions::default()).is_ok(), ok, "{header}");
    }
    let error = Reader::new(&b"REDIS0080"[..], ReadOptions::default()).err().unwrap();
    assert_eq!(error.to_string(), "offset 9: Can't handle RDB format version 80");
    let error = Reader::new(&b"RADIS0011"[..], ReadOptions::default()).err().unwrap();
    assert_eq!(error.kind.to_string(), "Wrong signature trying to load DB from file");
}

#[test]
fn field_expiry_of_redis_7_4_is_refused_only_where_it_is_used() {
    let hash = |ttl: u8| {
        let mut bytes = b"REDIS0012\x18\x01h".to_vec();
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[1, ttl, 1, b'f', 1, b'v', 0xff]);
        let crc = redstart_persistence::rdb::crc64(0, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    };
    let contents = read_all(&*hash(0)).unwrap();
    assert_eq!(contents.keys[0].parts, [Part::Field { field: b"f".to_vec(), value: b"v".to_vec() }]);
    let error = read_all(&*hash(5)).unwrap_err();
    assert!(error.to_string().contains("HEXPIRE of Redis 7.4"), "{error}");
    let error = read_all(&b"REDIS0012\x19\x01h\0\0\0\0\0\0\0\0\x01x"[..]).unwrap_err();
    assert!(error.to_string().contains("HEXPIRE of Redis 7.4"), "{error}");
}

#[test]
fn module_data_is_skipped_with_its_name() {
    // MODULE_AUX of type id 1 << 10 ("AAAAAAAAB"), when = 2, one of each mark; then a module value.
    let body = b"\x01\x05\x02\x07\x03\0\0\0\0\x04\0\0\0\0\0\0\0\0\x05\x03abc\0";
    let mut bytes = b"REDIS0009\xf7\x44\x00\x02\x02".to_vec();
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(b"\x07\x01m\x44\x00");
    bytes.extend_from_slice(body);
    bytes.push(0xff);
    bytes.extend_from_slice(&[0; 8]);
    let contents = read_all(&*bytes).unwrap();
    assert_eq!(contents.records[0], Record::ModuleAux { name: "AAAAAAAAB".to_owned() });
    assert_eq!(contents.keys[0].parts, [Part::Module { name: "AAAAAAAAB".to_owned() }]);
}

#[test]
fn values_may_be_left_unread() {
    let original = std::fs::read(fixture("redis-7.2.6/dump.rdb")).unwrap();
    let mut reader = Reader::new(&*original, ReadOptions::default()).unwrap();
    let mut keys = 0;
    loop {
        match reader.record().unwrap() {
            Record::Key(_) => {
                keys += 1;
                if keys % 2 == 0 {
                    reader.part().unwrap();
                }
            }
            Record::Eof(state) => {
                assert_eq!(state, ChecksumState::Good);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(keys, 72);
}

fn string_entry(key: &[u8], value: &[u8]) -> Entry {
    let key =
        Key { db: 0, key: key.to_vec(), expire_at_ms: None, lru_idle_s: None, lfu_freq: None, kind: Kind::String };
    Entry { key, parts: vec![common::str_part(value)] }
}

/// One key of every kind that is written, with every field set.
fn one_of_each() -> Contents {
    let id = |ms, seq| StreamId { ms, seq };
    let b = |s: &str| s.as_bytes().to_vec();
    let stream = vec![
        Part::StreamNode { master_id: id(1, 1), listpack: b("opaque") },
        Part::StreamMeta(StreamMeta {
            len: 1,
            last_id: id(1, 1),
            first_id: Some(id(1, 1)),
            max_deleted_id: id(0, 9),
            entries_added: 3,
        }),
        Part::Group { name: b("none"), last_id: id(0, 0), entries_read: Some(-1) },
        Part::Group { name: b("g"), last_id: id(1, 1), entries_read: Some(2) },
        Part::Pending { id: id(1, 1), delivery_time_ms: 12, delivery_count: 3 },
        Part::Consumer { name: b("idle"), seen_time_ms: 5, active_time_ms: -1 },
        Part::Consumer { name: b("c"), seen_time_ms: 6, active_time_ms: 7 },
        Part::Owned(id(1, 1)),
    ];
    let values = [
        (Kind::String, vec![Part::String(Str::Int(-300))]),
        (Kind::String, vec![common::str_part(&[b'a'; 100])]),
        (Kind::List, vec![Part::Element(b("x")), Part::Element(b(""))]),
        (
            Kind::Quicklist2,
            vec![Part::ListNode { packed: true, bytes: b("lp") }, Part::ListNode { packed: false, bytes: b("big") }],
        ),
        (Kind::Set, vec![Part::Element(b("m"))]),
        (Kind::SetIntset, vec![Part::Packed(Packed::Intset, b("intset"))]),
        (Kind::SetListpack, vec![Part::Packed(Packed::Listpack, b("lp"))]),
        (Kind::Hash, vec![Part::Field { field: b("f"), value: b("12") }]),
        (Kind::HashListpack, vec![Part::Packed(Packed::Listpack, b("lp"))]),
        (
            Kind::Zset2,
            vec![Part::Member { member: b("m"), score: -0.5 }, Part::Member { member: b("n"), score: f64::INFINITY }],
        ),
        (Kind::ZsetListpack, vec![Part::Packed(Packed::Listpack, b("lp"))]),
        (Kind::Stream3, stream),
    ];
    let mut contents = Contents::default();
    for (n, (kind, parts)) in values.into_iter().enumerate() {
        let n = n as u64;
        let key = Key {
            db: n / 4,
            key: n.to_string().into_bytes(),
            expire_at_ms: n.is_multiple_of(3).then_some(1 << 40),
            lru_idle_s: (n % 3 == 1).then_some(n * 1000),
            lfu_freq: (n % 3 == 2).then_some(9),
            kind,
        };
        contents.keys.push(Entry { key, parts });
    }
    contents.records.push(Record::Function(b("#!lua name=x\n")));
    contents.records.push(Record::Aux { name: b("redis-ver"), value: b("7.2.6") });
    contents
}

#[test]
fn one_of_each_kind_round_trips() {
    let contents = one_of_each();
    let read = read_all(&*write_all(&contents, WriteOptions::default())).unwrap();
    // Small integers come back as integers wherever they were strings.
    let normal = |entry: &Entry| {
        let mut entry = entry.clone();
        for part in &mut entry.parts {
            if let Part::String(Str::Int(value)) = part {
                *part = common::str_part(value.to_string().as_bytes());
            }
        }
        entry
    };
    assert_eq!(read.keys.iter().map(normal).collect::<Vec<_>>(), contents.keys.iter().map(normal).collect::<Vec<_>>());
}

#[test]
fn a_cut_at_every_byte_is_a_short_read() {
    let bytes = write_all(&one_of_each(), WriteOptions::default());
    for len in 0..bytes.len() {
        let error = read_all(&bytes[..len]).unwrap_err();
        assert!(error.is_short_read(), "cut at {len}: {error}");
        assert!(error.offset <= len as u64);
    }
    assert!(read_all(&*bytes).is_ok());
}

/// A reader that gives one byte at a time finds what one big read finds.
#[test]
fn size_of_reads_does_not_matter() {
    struct Dribble<'a>(&'a [u8]);
    impl std::io::Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(1);
            std::io::Read::read(&mut self.0, &mut buffer[..len])
        }
    }
    let bytes = write_all(&one_of_each(), WriteOptions::default());
    assert_eq!(read_all(Dribble(&bytes)).unwrap(), read_all(&*bytes).unwrap());
}

/// Each claims more than any machine has: reserving it would abort.
#[test]
fn hostile_lengths_cost_no_memory() {
    let huge = [0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let mut files: Vec<Vec<u8>> = Kind::ALL
        .iter()
        .map(|kind| [b"REDIS0012".as_slice(), &[*kind as u8], b"\x01k", &huge, &huge, &huge].concat())
        .collect();
    // A string, and a compressed one, that claim to be endless; a key; an aux field.
    files.push([b"REDIS0011\x00\x01k".as_slice(), &huge, &[b'x'; 1000]].concat());
    files.push([b"REDIS0011\x00\x01k\xc3\x0a".as_slice(), &huge, &[0xff; 10]].concat());
    files.push([b"REDIS0011\x00\x01k\xc3".as_slice(), &huge, &huge].concat());
    files.push([b"REDIS0011\x00".as_slice(), &huge, b"abc"].concat());
    files.push([b"REDIS0011\xfa".as_slice(), &huge, b"abc"].concat());
    for file in files {
        assert!(read_all(&*file).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bytes_never_panic(at in 0usize..700, mask in 1u8..=255, also in 0usize..700) {
        let mut bytes = write_all(&one_of_each(), WriteOptions::default());
        let len = bytes.len();
        bytes[at % len] ^= mask;
        bytes[also % len] = mask;
        let _: Result<_, _> = read_all(&*bytes);
    }

    #[test]
    fn foreign_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..300), version in 1u32..13) {
        let file = [format!("REDIS{version:04}").as_bytes(), &tail].concat();
        let _: Result<_, _> = read_all(&*file);
    }

    #[test]
    fn strings_round_trip(value in proptest::collection::vec(0u8..5, 0..400), n in any::<i64>()) {
        let mut contents = Contents::default();
        contents.keys.push(string_entry(b"bytes", &value));
        contents.keys.push(string_entry(b"int", n.to_string().as_bytes()));
        let read = read_all(&*write_all(&contents, WriteOptions::default())).unwrap();
        let bytes = |at: usize| match &read.keys[at].parts[..] {
            [Part::String(value)] => value.clone().into_bytes(),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(bytes(0), value);
        prop_assert_eq!(bytes(1), n.to_string().into_bytes());
    }
}
