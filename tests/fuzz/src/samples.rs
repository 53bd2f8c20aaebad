//! DUMP payloads of every encoding that this server writes and that older ones wrote.

use crate::bench::Bench;
use redstart_persistence::rdb::{ReadOptions, Reader, Record, WRITTEN_VERSION, finish_dump};

/// What makes one key `k` of each encoding.
const MAKERS: &[&[&str]] = &[
    &["SET k 123"],
    &["SET k some-text-of-a-string"],
    &["SETRANGE k 3000 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
    &["RPUSH k a bb 3 -400 70000 5000000000 9223372036854775807 some-longer-element-of-a-list"],
    &["CONFIG SET list-max-listpack-size 2", "RPUSH k a b c d 1 2 3 some-longer-element-of-a-list"],
    &[
        "DEBUG QUICKLIST-PACKED-THRESHOLD 4b",
        "RPUSH k a bb some-plain-element 4 another-plain-element",
        "DEBUG QUICKLIST-PACKED-THRESHOLD 0",
    ],
    &["SADD k 1 2 300"],
    &["SADD k 1 70000 5000000000"],
    &["SADD k a b 3 dd"],
    &["CONFIG SET set-max-listpack-entries 1", "SADD k a b 3 some-longer-member-of-a-set"],
    &["HSET k f 1 g two h 3.5"],
    &["CONFIG SET hash-max-listpack-entries 1", "HSET k f 1 g two h some-longer-value-of-a-hash"],
    &["ZADD k 1 a 2.5 b -inf c 1e300 d"],
    &["CONFIG SET zset-max-listpack-entries 1", "ZADD k 1 a 2.5 b -inf c 1e300 some-longer-member"],
    &["XADD k 1-1 f v", "XADD k 1-2 f w", "XADD k 2-1 g x h y", "XDEL k 1-2"],
    &[
        "CONFIG SET stream-node-max-entries 2",
        "XADD k 1-1 f v",
        "XADD k 1-2 f w",
        "XADD k 2-1 g x h y",
        "XGROUP CREATE k g1 0",
        "XGROUP CREATE k g2 $ ENTRIESREAD 2",
        "XREADGROUP GROUP g1 c1 COUNT 2 STREAMS k >",
        "XREADGROUP GROUP g1 c2 STREAMS k >",
        "XACK k g1 1-1",
        "XGROUP CREATECONSUMER k g2 idle",
    ],
    &["PFADD k a b c d e"],
    &["PFADD k a b c d e", "PFDEBUG TODENSE k"],
    &["GEOADD k 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"],
];

/// Files with keys in older encodings.
const OLDER: &[&[u8]] = &[
    include_bytes!("../../../persistence/tests/fixtures/older/encodings.rdb"),
    include_bytes!("../../../persistence/tests/fixtures/older/hash-ziplist.rdb"),
    include_bytes!("../../../persistence/tests/fixtures/older/hash-zipmap.rdb"),
    include_bytes!("../../../persistence/tests/fixtures/older/list-quicklist.rdb"),
    include_bytes!("../../../persistence/tests/fixtures/older/zset-ziplist.rdb"),
];

/// The string in a bulk reply.
pub fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let head = reply.windows(2).position(|pair| pair == b"\r\n")? + 2;
    reply.starts_with(b"$").then(|| reply.get(head..reply.len() - 2)).flatten()
}

/// The payloads, without their last ten bytes (version and checksum).
pub fn payloads() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for makers in MAKERS {
        let mut bench = Bench::new();
        for command in *makers {
            let reply = bench.own(command);
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
        let reply = bench.run(0, &[b"DUMP", b"k"]);
        let payload = bulk(&reply).expect("the key is there");
        all.push(payload[..payload.len() - 10].to_vec());
    }
    OLDER.iter().for_each(|file| all.extend(values_of(file)));
    all
}

/// A payload as RESTORE takes it.
pub fn finished(body: &[u8]) -> Vec<u8> {
    let mut payload = body.to_vec();
    finish_dump(&mut payload, WRITTEN_VERSION as u16);
    payload
}

/// The values in an RDB file, each behind its type.
fn values_of(file: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut reader = Reader::new(file, ReadOptions { checksum: false, ..ReadOptions::default() }).expect("an RDB file");
    loop {
        match reader.record().expect("a good file") {
            Record::Key(key) => {
                let from = reader.offset() as usize;
                while reader.part().expect("a good value").is_some() {}
                let value = &file[from..reader.offset() as usize];
                values.push([&[key.kind as u8], value].concat());
            }
            Record::Eof(_) => return values,
            _ => {}
        }
    }
}
