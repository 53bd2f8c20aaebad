//! Numbers at the ends of their ranges, patterns, and keys that a command does not name where others do.

use crate::common::{Client, config, start, start_with};
use crate::is_alive;
use redstart::config::Config;

/// Runs commands and compares the replies with what stands beside them.
fn check(client: &mut Client, cases: &[(&str, &str)]) {
    for (command, expected) in cases {
        assert_eq!(client.run(command), *expected, "{command}");
    }
}

const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";
const OUT_OF_RANGE: &str = "-ERR value is out of range";
const BIT_OFFSET: &str = "-ERR bit offset is not an integer or out of range";
const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";

#[test]
fn bitfield_offsets_do_not_overflow() {
    // redis #15433: an offset of `#`n is n times the width.
    let running = start();
    let mut client = Client::connect(&running);
    for offset in ["#9223372036854775807", "#4611686018427387904", "#288230376151711744", "9223372036854775807", "-1"] {
        for command in ["SET i64 {} 1", "INCRBY i64 {} 1", "GET i64 {}", "SET u1 {} 1"] {
            // A bit at `#`n of one bit is only n bits away.
            let command = format!("BITFIELD k {}", command.replace("{}", offset));
            assert_eq!(client.run(&command), BIT_OFFSET, "{command}");
        }
    }
    check(&mut client, &[("BITFIELD_RO k GET i64 #9223372036854775807", BIT_OFFSET), ("EXISTS k", ":0")]);
}

#[test]
fn cve_2021_32761_bit_offsets_of_more_than_32_bits() {
    let running = start();
    let mut client = Client::connect(&running);
    check(
        &mut client,
        &[
            ("SET k abc", "+OK"),
            ("SETBIT k 4294967296 1", BIT_OFFSET),
            ("SETBIT k 18446744073709551616 1", BIT_OFFSET),
            ("GETBIT k 4294967295", ":0"),
            ("GETBIT k 4294967296", BIT_OFFSET),
            ("BITCOUNT k 0 9223372036854775807", ":10"),
            ("BITCOUNT k -9223372036854775808 9223372036854775807 BIT", ":10"),
            ("BITCOUNT k 9223372036854775807 -9223372036854775808", ":0"),
            ("BITPOS k 1 9223372036854775807", ":-1"),
            ("BITPOS k 0 -9223372036854775808 9223372036854775807 BIT", ":0"),
            ("BITFIELD k GET u8 4294967295 GET u8 16", "[:0 :99]"),
            ("GET k", "abc"),
        ],
    );
}

#[test]
fn scan_counts_do_not_overflow() {
    // redis #14982: ten times COUNT was computed.
    let running = start();
    let mut client = Client::connect(&running);
    let members: Vec<String> = (0..600).map(|n| format!("m{n}")).collect();
    client.run(&format!("SADD e {}", members.join(" ")));
    for count in ["9223372036854775807", "922337203685477581", "4611686018427387904"] {
        check(&mut client, &[(&format!("SCAN 0 COUNT {count}"), "[0 [e]]")]);
        let members = client.call(&["SSCAN", "e", "0", "COUNT", count]).array();
        assert_eq!(members[0].text(), "0");
        assert_eq!(members[1].clone().array().len(), 600);
    }
    check(
        &mut client,
        &[("SCAN 0 COUNT 9223372036854775808", NOT_AN_INTEGER), ("SCAN 0 COUNT 0", "-ERR syntax error")],
    );
}

#[test]
fn list_indices_are_not_cut_to_32_bits() {
    // redis #15407: LSET at 4294967296 changed the first element.
    let running = start();
    let mut client = Client::connect(&running);
    check(
        &mut client,
        &[
            ("RPUSH l a b c", ":3"),
            ("LSET l 4294967296 x", "-ERR index out of range"),
            ("LSET l -4294967297 x", "-ERR index out of range"),
            ("LSET l 9223372036854775807 x", "-ERR index out of range"),
            ("LSET l -9223372036854775808 x", "-ERR index out of range"),
            ("LINDEX l 4294967296", "nil"),
            ("LINDEX l -4294967297", "nil"),
            ("LRANGE l 4294967296 4294967297", "[]"),
            ("LRANGE l -9223372036854775808 9223372036854775807", "[a b c]"),
            ("LREM l 4294967296 z", ":0"),
            ("LPOS l c RANK 4294967297", "nil"),
            (
                "LPOS l a RANK -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
            ("LTRIM l 4294967296 -1", "+OK"),
            ("EXISTS l", ":0"),
        ],
    );
}

#[test]
fn cve_2023_28856_hincrbyfloat_makes_no_field_that_is_no_number() {
    let running = start();
    let mut client = Client::connect(&running);
    check(
        &mut client,
        &[
            ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity"),
            ("HINCRBYFLOAT h f -inf", "-ERR value is NaN or Infinity"),
            ("HINCRBYFLOAT h f nan", "-ERR value is not a valid float"),
            ("EXISTS h", ":0"),
            ("HSET h f 1", ":1"),
            ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity"),
            ("HGETALL h", "[f 1]"),
            ("INCRBYFLOAT s inf", "-ERR increment would produce NaN or Infinity"),
            ("EXISTS s", ":0"),
        ],
    );
}

#[test]
fn cve_2023_28425_msetnx_of_one_key_twice() {
    let running = start();
    let mut client = Client::connect(&running);
    check(
        &mut client,
        &[
            ("MSETNX k v k w k x", ":1"),
            ("GET k", "x"),
            ("MSETNX other 1 k 2 other 3", ":0"),
            ("EXISTS other", ":0"),
            ("MSET k v k w", "+OK"),
            ("GET k", "w"),
        ],
    );
}

#[test]
fn cve_2023_25155_and_cve_2023_22458_counts_of_random_members() {
    let running = start();
    let mut client = Client::connect(&running);
    check(&mut client, &[("SADD e a b", ":2"), ("HSET h f v g w", ":2"), ("ZADD z 1 a 2 b", ":2")]);
    for least in ["-9223372036854775808", "-9223372036854775809"] {
        let error = if least.ends_with('9') { NOT_AN_INTEGER } else { OUT_OF_RANGE };
        for command in ["SRANDMEMBER e", "HRANDFIELD h", "ZRANDMEMBER z"] {
            let reply = client.run(&format!("{command} {least}"));
            assert!(reply.starts_with(error) || reply.starts_with(OUT_OF_RANGE), "{command} {least}: {reply}");
        }
    }
    // With values there are twice as many elements: the count must leave room for that.
    for count in ["-4611686018427387905", "4611686018427387904", "-9223372036854775807", "9223372036854775807"] {
        check(&mut client, &[(&format!("HRANDFIELD h {count} WITHVALUES"), OUT_OF_RANGE)]);
        check(&mut client, &[(&format!("ZRANDMEMBER z {count} WITHSCORES"), OUT_OF_RANGE)]);
    }
    check(&mut client, &[("SPOP e -1", "-ERR value is out of range, must be positive"), ("SCARD e", ":2")]);
    is_alive(&running);
}

#[test]
fn cve_2022_35977_setrange_and_sort_with_huge_numbers() {
    let running = start();
    let mut client = Client::connect(&running);
    check(
        &mut client,
        &[
            ("SETRANGE k 9223372036854775807 x", TOO_LONG),
            ("SETRANGE k 9223372036854775806 xx", TOO_LONG),
            ("SETRANGE k 536870912 x", TOO_LONG),
            ("SETRANGE k -1 x", "-ERR offset is out of range"),
            ("EXISTS k", ":0"),
            ("SET k abc", "+OK"),
            ("SETRANGE k 9223372036854775807 x", TOO_LONG),
            ("GETRANGE k -9223372036854775808 9223372036854775807", "abc"),
            ("SUBSTR k 9223372036854775807 9223372036854775807", ""),
            ("RPUSH l 3 1 2", ":3"),
            ("SORT l LIMIT 0 9223372036854775807", "[1 2 3]"),
            ("SORT l LIMIT 1 9223372036854775807", "[2 3]"),
            ("SORT l LIMIT 9223372036854775807 9223372036854775807", "[]"),
            ("SORT l LIMIT -9223372036854775808 2", "[1 2]"),
            ("SORT_RO l LIMIT 9223372036854775806 10", "[]"),
            ("SORT l LIMIT 2 -9223372036854775808", "[3]"),
        ],
    );
}

#[test]
fn cve_2022_35951_xautoclaim_with_a_huge_count() {
    let running = start();
    let mut client = Client::connect(&running);
    const COUNT: &str = "-ERR COUNT must be > 0";
    check(
        &mut client,
        &[
            ("XADD x 1-1 f v", "1-1"),
            ("XGROUP CREATE x g 0", "+OK"),
            ("XREADGROUP GROUP g c STREAMS x >", "[[x [[1-1 [f v]]]]]"),
            ("XAUTOCLAIM x g d 0 0 COUNT 1152921504606846976", COUNT),
            ("XAUTOCLAIM x g d 0 0 COUNT 9223372036854775807", COUNT),
            ("XAUTOCLAIM x g d 0 0 COUNT -9223372036854775808", COUNT),
            ("XAUTOCLAIM x g d 0 0 COUNT 100000000 JUSTID", "[0-0 [1-1] []]"),
        ],
    );
}

#[test]
fn cve_2022_31144_xautoclaim_of_deleted_entries() {
    let running = start();
    let mut client = Client::connect(&running);
    client.run("XGROUP CREATE x g $ MKSTREAM");
    for n in 1..=50 {
        client.run(&format!("XADD x {n}-1 f v"));
    }
    client.run("XREADGROUP GROUP g c COUNT 50 STREAMS x >");
    for n in (1..=50).filter(|n| n % 5 > 0) {
        client.run(&format!("XDEL x {n}-1"));
    }
    // Deleted entries count as tried, not as claimed: COUNT 1 may find many of them before it finds an entry.
    let (mut cursor, mut claimed, mut deleted) = ("0-0".to_owned(), 0, 0);
    for _ in 0..100 {
        let reply = client.call(&["XAUTOCLAIM", "x", "g", "d", "0", &cursor, "COUNT", "1", "JUSTID"]).array();
        cursor = reply[0].text();
        claimed += reply[1].clone().array().len();
        deleted += reply[2].clone().array().len();
        if cursor == "0-0" {
            break;
        }
    }
    assert_eq!((claimed, deleted), (10, 40));
    assert_eq!(client.run("XPENDING x g"), "[:10 5-1 50-1 [[d 10]]]");
}

#[test]
fn cve_2021_32625_and_cve_2021_29477_lcs_of_long_strings() {
    let running = start();
    let mut client = Client::connect(&running);
    // The table of these would have 2^40 cells.
    for key in ["a", "b"] {
        client.call(&["SET", key, &"x".repeat(1 << 20)]);
    }
    const TOO_LARGE: &str = "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    check(&mut client, &[("LCS a b LEN", TOO_LARGE), ("LCS a b", TOO_LARGE), ("LCS a b IDX", TOO_LARGE)]);
    is_alive(&running);
}

#[test]
fn cve_2021_29478_cve_2021_32687_and_cve_2021_41099_large_intsets_and_strings() {
    const MEMBERS: usize = 70_000;
    let running = start();
    let mut client = Client::connect(&running);
    // More members than 16 bits count, each of 64 bits.
    check(&mut client, &[("CONFIG SET set-max-intset-entries 4294967295 proto-max-bulk-len 4294967295", "+OK")]);
    let members: Vec<String> = (0..MEMBERS).map(|n| (n as i64 * 10_000_000_000_000 - (1 << 62)).to_string()).collect();
    for members in members.chunks(1000) {
        client.run(&format!("SADD e {}", members.join(" ")));
    }
    let all = format!(":{MEMBERS}");
    check(
        &mut client,
        &[
            ("OBJECT ENCODING e", "intset"),
            ("COPY e copy", ":1"),
            ("SCARD copy", &all),
            ("SINTERCARD 2 e copy", &all),
            ("SUNIONSTORE union e copy", &all),
            ("SDIFF e copy", "[]"),
            ("SORT e LIMIT 0 1", "[-4611686018427387904]"),
        ],
    );
    let payload = crate::formats::dump(&mut client, "e");
    assert_eq!(client.call_bytes(&[b"RESTORE", b"again", b"0", &payload]).to_string(), "+OK");
    check(&mut client, &[("SDIFF e again", "[]"), ("SCARD again", &all), ("APPEND s x", ":1"), ("STRLEN s", ":1")]);
}

#[test]
fn cve_2021_32628_and_cve_2021_32627_collections_larger_than_their_packed_form_allows() {
    const VALUE: usize = 100_000;
    let running = start();
    let mut client = Client::connect(&running);
    check(
        &mut client,
        &[
            ("CONFIG SET hash-max-listpack-value 1000000000 zset-max-listpack-value 1000000000", "+OK"),
            ("CONFIG SET stream-node-max-bytes 4294967295 list-max-listpack-size 32767", "+OK"),
        ],
    );
    let value = "v".repeat(VALUE);
    for n in 0..100 {
        let name = format!("{value}{n}");
        client.call(&["HSET", "h", &n.to_string(), &value]);
        client.call(&["ZADD", "z", &n.to_string(), &name]);
        client.call(&["XADD", "x", &format!("{}-1", n + 1), "f", &value]);
        client.call(&["RPUSH", "l", &value]);
    }
    for key in ["h", "z", "x", "l"] {
        let payload = crate::formats::dump(&mut client, key);
        let again = format!("{key}2");
        assert_eq!(client.call_bytes(&[b"RESTORE", again.as_bytes(), b"0", &payload]).to_string(), "+OK");
        assert_eq!(crate::formats::dump(&mut client, &again), payload, "{key}");
    }
    check(&mut client, &[("HLEN h2", ":100"), ("ZCARD z2", ":100"), ("XLEN x2", ":100"), ("LLEN l2", ":100")]);
    check(&mut client, &[("HSTRLEN h2 99", ":100000"), ("ZRANGEBYSCORE z2 (99 +inf", "[]")]);
}

#[test]
fn cve_2024_31228_long_patterns_do_not_recurse() {
    let running = start();
    let mut client = Client::connect(&running);
    client.run("SET key 1");
    for pattern in ["*?".repeat(100_000), "*".repeat(500_000), "[a".repeat(100_000), "\\".repeat(200_000)] {
        for command in [&["KEYS"][..], &["SCAN", "0", "MATCH"], &["PUBSUB", "CHANNELS"], &["CONFIG", "GET"]] {
            let mut args = command.to_vec();
            args.push(&pattern);
            let reply = client.call(&args).to_string();
            assert!(reply.starts_with('['), "{command:?}: {reply}");
        }
        client.call(&["PSUBSCRIBE", &pattern]);
        Client::connect(&running).run("PUBLISH somewhere hello");
        client.call(&["PUNSUBSCRIBE", &pattern]);
        client.call(&["COMMAND", "LIST", "FILTERBY", "PATTERN", &pattern]);
        client.call(&["FUNCTION", "LIST", "LIBRARYNAME", &pattern]);
    }
    is_alive(&running);
}

#[test]
fn cve_2022_36021_patterns_of_many_stars_end_soon() {
    let running = start();
    let mut client = Client::connect(&running);
    client.call(&["SET", &"a".repeat(60), "1"]);
    // The client waits for a minute; the naive way takes years.
    let pattern = "a*".repeat(25) + "b";
    assert_eq!(client.call(&["KEYS", &pattern]).to_string(), "[]");
    assert_eq!(client.call(&["SCAN", "0", "MATCH", &pattern]).to_string(), "[0 []]");
}

#[test]
fn cve_2021_32672_the_script_debugger_reads_no_further_than_it_was_sent() {
    let running = start();
    let malformed: [&[u8]; 5] = [
        b"*2\r\n$4\r\nlist\r\n$100000\r\nx\r\n",
        b"*1\r\n$-5\r\nx\r\n",
        b"*99999999\r\n$1\r\na\r\n",
        b"*3\r\n$1\r\n",
        b"*\r\n$\r\n",
    ];
    for bytes in malformed {
        let mut client = Client::connect(&running);
        assert_eq!(client.run("SCRIPT DEBUG SYNC"), "+OK");
        assert!(client.call(&["EVAL", "return 1", "0"]).to_string().starts_with("[+* Stopped at 1"));
        // The session may end with it.
        let _ = client.try_send(bytes);
    }
    is_alive(&running);
}

#[test]
fn cve_2023_36824_keys_are_found_whatever_the_arguments() {
    let running = start();
    let mut client = Client::connect(&running);
    const NO_KEYS: &str = "-ERR The command has no key arguments";
    const INVALID: &str = "-ERR Invalid arguments specified for command";
    for (command, expected) in [
        ("EVAL s 2147483647 a b", "[]"),
        ("EVAL s -1 a b", "[]"),
        ("EVAL s 0", "[]"),
        ("ZUNIONSTORE d 2147483647 a", INVALID),
        ("SINTERCARD 9223372036854775807 a", INVALID),
        ("LMPOP 0 a LEFT", INVALID),
        ("BLMPOP 0 2 a b LEFT", "[a b]"),
        ("XREAD COUNT 1 STREAMS", INVALID),
        ("XREAD STREAMS a b 0 0", "[a b]"),
        ("XREADGROUP GROUP STREAMS c STREAMS x >", "[x]"),
        ("SORT a STORE b STORE c", "[a c]"),
        ("SORT a LIMIT STORE b", "[a]"),
        ("GEORADIUS a 0 0 1 m STORE b STOREDIST c", "[a b c]"),
        ("MIGRATE h 1 a 0 1 KEYS b", INVALID),
        ("MIGRATE h 1  0 1 KEYS b c", "[b c]"),
        ("PING", NO_KEYS),
    ] {
        let mut words = vec!["COMMAND", "GETKEYS"];
        words.extend(command.split(' '));
        let reply = client.call(&words).to_string();
        let is_error = expected.starts_with('-');
        assert!(if is_error { reply.starts_with("-ERR") } else { reply == expected }, "{command}: {reply}");
    }
    is_alive(&running);
}

#[test]
fn cve_2021_21309_lengths_of_more_than_32_bits() {
    let running = start_with(Config { proto_max_bulk_len: 8 << 30, ..config() });
    let mut announcing = Client::connect(&running);
    announcing.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4294967301\r\nhello\r\n");
    let mut client = Client::connect(&running);
    check(&mut client, &[("GET k", "nil"), ("CONFIG SET proto-max-bulk-len 536870912", "+OK")]);
    let mut refused = Client::connect(&running);
    refused.send(b"*1\r\n$4294967301\r\n");
    assert_eq!(refused.line(), "-ERR Protocol error: invalid bulk length");
    assert!(refused.is_closed());
}
