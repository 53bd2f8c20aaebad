//! Values in every encoding that RDB has, made of bytes that mean nothing: listpack, ziplist, intset, zipmap, stream,
//! quicklist. Refused, or a value that every command can work with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart_fuzz::bench::Bench;
use redstart_fuzz::choices::Choices;
use redstart_fuzz::memory::bounded;
use redstart_fuzz::samples::finished;
use redstart_persistence::rdb::Kind;
use std::cell::RefCell;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

/// What is tried on a value that was taken.
const COMMANDS: &[&str] = &[
    "OBJECT ENCODING k",
    "DEBUG DIGEST-VALUE k",
    "DUMP k",
    "MEMORY USAGE k SAMPLES 0",
    "LRANGE k 0 -1",
    "LRANGE k -3 -2",
    "LPOS k a RANK -1",
    "LINSERT k BEFORE a b",
    "LSET k -1 x",
    "LREM k -1 a",
    "LPOP k",
    "RPUSH k new",
    "SMEMBERS k",
    "SPOP k",
    "SADD k new 7",
    "SREM k 1",
    "HGETALL k",
    "HSET k f v new x",
    "HDEL k f",
    "HRANDFIELD k -5",
    "ZRANGE k 0 -1 WITHSCORES",
    "ZRANGEBYLEX k - +",
    "ZRANK k a",
    "ZADD k 1 new 5 a",
    "ZPOPMIN k",
    "ZREMRANGEBYRANK k 0 0",
    "XRANGE k - +",
    "XREVRANGE k + - COUNT 2",
    "XINFO STREAM k FULL",
    "XPENDING k g1",
    "XADD k * f v",
    "XDEL k 1-1",
    "XTRIM k MAXLEN 1",
    "XREADGROUP GROUP g1 c1 STREAMS k >",
    "XAUTOCLAIM k g1 c1 0 0",
    "PFCOUNT k",
    "BITCOUNT k",
    "COPY k k2 REPLACE",
    "SORT k ALPHA",
    "TYPE k",
];

fn put_len(body: &mut Vec<u8>, len: usize) {
    body.push(0x80);
    body.extend_from_slice(&(len as u32).to_be_bytes());
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let kind = Kind::ALL[choices.below(Kind::ALL.len())];
    let framed = choices.byte() % 4;
    let blob = choices.rest();
    let mut body = vec![kind as u8];
    // Most encodings are one string, or a count of nodes and a string each.
    match framed {
        0 => body.extend_from_slice(blob),
        1 => {
            put_len(&mut body, blob.len());
            body.extend_from_slice(blob);
        }
        2 => {
            body.extend_from_slice(&[1, 2]);
            put_len(&mut body, blob.len());
            body.extend_from_slice(blob);
        }
        _ => {
            // A stream of one node; what follows the node is the blob's second half.
            let (node, rest) = blob.split_at(blob.len() / 2);
            body.extend_from_slice(&[1, 16]);
            body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
            put_len(&mut body, node.len());
            body.extend_from_slice(node);
            body.extend_from_slice(rest);
        }
    }
    let payload = finished(&body);
    BENCH.with_borrow_mut(|bench| {
        bench.own("FLUSHALL");
        let reply = bounded(payload.len(), || bench.run(0, &[b"RESTORE", b"k", b"0", &payload]));
        if reply == b"+OK\r\n" {
            bench.check_reload();
            COMMANDS.iter().for_each(|command| drop(bench.own(command)));
            bench.check_reload();
        }
    });
});
