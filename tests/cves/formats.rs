//! Payloads and files made to hurt.

use crate::common::{Client, Reply, start};
use crate::is_alive;
use redstart_persistence::rdb::{WRITTEN_VERSION, finish_dump};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

/// DUMP of a key.
pub(crate) fn dump(client: &mut Client, key: &str) -> Vec<u8> {
    match client.call(&["DUMP", key]) {
        Reply::Bulk(payload) => payload,
        other => panic!("{key} is not there: {other}"),
    }
}

/// Gives a value (a type and what follows it) version and checksum, and restores it as `k`; the reply.
fn restore(client: &mut Client, value: &[u8]) -> String {
    let mut payload = value.to_vec();
    finish_dump(&mut payload, WRITTEN_VERSION as u16);
    client.call_bytes(&[b"RESTORE", b"k", b"0", &payload, b"REPLACE"]).to_string()
}

const BAD: &str = "-ERR Bad data format";

/// Changes every byte of a value to those that say most in the old formats; whatever is taken must be usable.
fn flip_everything(value: &[u8], commands: &[&str]) {
    let running = start();
    let mut client = Client::connect(&running);
    assert_eq!(restore(&mut client, value), "+OK", "the value itself is good");
    for at in 1..value.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xc0, 0xf0, 0xfd, 0xfe, 0xff] {
            let mut flipped = value.to_vec();
            flipped[at] = byte;
            let reply = restore(&mut client, &flipped);
            assert!(reply == "+OK" || reply == BAD, "{reply}");
            if reply == "+OK" {
                commands.iter().for_each(|command| drop(client.run(command)));
            }
        }
        let reply = restore(&mut client, &value[..at]);
        assert_eq!(reply, BAD, "cut at {at}");
    }
    is_alive(&running);
}

#[test]
fn cve_2026_25243_restore_of_zipmaps() {
    // Two pairs, the second with a free byte behind its value.
    let map = b"\x02\x01a\x02\x00xy\x03key\x03\x01val\0\xff";
    let value = [&[9, map.len() as u8], &map[..]].concat();
    flip_everything(&value, &["HGETALL k", "HSET k new 1", "HDEL k a", "DUMP k"]);
    // Lengths of four bytes that lead far away.
    let running = start();
    let mut client = Client::connect(&running);
    for map in [
        &b"\x01\xfe\xff\xff\xff\xffa\x01\0b\xff"[..],
        b"\x01\x01a\xfe\xff\xff\xff\x7f\0b\xff",
        b"\xfe\x01a",
        b"\xff",
        b"",
    ] {
        let value = [&[9, map.len() as u8], map].concat();
        let reply = restore(&mut client, &value);
        assert!(reply == BAD, "{map:?}: {reply}");
    }
}

#[test]
fn restore_of_ziplists_and_listpacks_with_flipped_bytes() {
    // A ziplist of "a", 5 and "hello": its bytes, its last entry, its count, and the entries.
    let entries = b"\x00\x01a\x03\xf6\x02\x05hello";
    let mut list = Vec::new();
    list.extend_from_slice(&(10 + entries.len() as u32 + 1).to_le_bytes());
    list.extend_from_slice(&15_u32.to_le_bytes());
    list.extend_from_slice(&3_u16.to_le_bytes());
    list.extend_from_slice(entries);
    list.push(0xff);
    flip_everything(
        &[&[10, list.len() as u8], &list[..]].concat(),
        &["LRANGE k 0 -1", "LPOP k", "RPUSH k x", "DUMP k"],
    );
    let running = start();
    let mut client = Client::connect(&running);
    client.run("HSET h field value number 12345 long some-longer-value");
    let payload = dump(&mut client, "h");
    let commands = ["HGETALL k", "HSET k new 1", "HDEL k field", "DUMP k"];
    flip_everything(&payload[..payload.len() - 10], &commands);
}

#[test]
fn cve_2026_63639_one_pending_entry_of_two_consumers() {
    let running = start();
    let mut client = Client::connect(&running);
    for command in ["XADD x 1-1 f v", "XADD x 2-1 f v", "XGROUP CREATE x g 0"] {
        client.run(command);
    }
    client.run("XREADGROUP GROUP g one COUNT 1 STREAMS x >");
    client.run("XREADGROUP GROUP g two COUNT 1 STREAMS x >");
    client.run("CONFIG SET rdbcompression no");
    let payload = dump(&mut client, "x");
    let value = &payload[..payload.len() - 10];
    assert_eq!(restore(&mut client, value), "+OK");
    let raw = |ms: u64| [ms.to_be_bytes(), 1_u64.to_be_bytes()].concat();
    // The last time an entry is named is among those of its consumer.
    let last = |id: &[u8]| value.windows(16).rposition(|bytes| bytes == id).expect("it is there");
    let (first, second) = (last(&raw(1)), last(&raw(2)));
    for (at, id) in [(second, raw(1)), (first, raw(2)), (second, raw(3))] {
        let mut shared = value.to_vec();
        shared[at..at + 16].copy_from_slice(&id);
        assert_eq!(restore(&mut client, &shared), BAD, "an entry belongs to one consumer, and there is one");
    }
    // Nor may the group name one twice.
    flip_everything(
        value,
        &[
            "XINFO STREAM k FULL",
            "XPENDING k g",
            "XAUTOCLAIM k g one 0 0",
            "XGROUP DELCONSUMER k g two",
            "XGROUP DESTROY k g",
        ],
    );
}

#[test]
fn cve_2026_25588_cve_2026_25589_and_cve_2026_62356_values_of_modules_are_refused() {
    let running = start();
    let mut client = Client::connect(&running);
    // A module's type, its name as 64 bits, values and the end.
    for kind in [6, 7] {
        for rest in [
            &b"\x81\x01\x02\x03\x04\x05\x06\x07\x08\x02\x05\x05\x03abc\x00"[..],
            b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
            b"",
        ] {
            assert_eq!(restore(&mut client, &[&[kind], rest].concat()), BAD);
        }
    }
    is_alive(&running);
}

#[test]
fn cve_2025_27151_check_tools_take_paths_of_any_length() {
    for program in ["redis-check-aof", "redis-check-rdb"] {
        for path in ["/".repeat(100_000), "a/".repeat(3000) + "appendonly.aof.manifest"] {
            let run = Command::new(env!("CARGO_BIN_EXE_redstart")).arg0(program).arg(&path).output();
            let status = run.expect("the binary starts").status;
            assert_eq!(status.signal(), None, "{program} is not killed");
            assert_eq!(status.code(), Some(1));
        }
    }
}
