use crate::commands::testing::Checker;
use std::collections::HashSet;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

fn elements(reply: &str) -> HashSet<&str> {
    reply.trim_matches(['~', '[', ']']).split(", ").filter(|element| !element.is_empty()).collect()
}

#[test]
fn members() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("SADD s b a b", ":2");
    c.check("SADD s a 1", ":1");
    c.check("SADD s a", ":0");
    c.check("SMEMBERS s", "[\"b\", \"a\", \"1\"]");
    c.check("SCARD s", ":3");
    c.check("SISMEMBER s 1", ":1");
    c.check("SISMEMBER s 01", ":0");
    c.check("SMISMEMBER s a c 1", "[:1, :0, :1]");
    c.check("SMISMEMBER none a", "[:0]");
    c.check("SREM s a c 1", ":2");
    c.check("SREM s b", ":1");
    c.check("EXISTS s", ":0");
    c.check("SREM s b", ":0");
    c.check("SMEMBERS s", "[]");
    c.check("SCARD s", ":0");
    c.check("SISMEMBER s a", ":0");
    c.check("SADD i 3 1 2", ":3");
    c.check("SMEMBERS i", "[\"1\", \"2\", \"3\"]");
    c.check("SET x y", "OK");
    for command in ["SADD x a", "SREM x a", "SCARD x", "SMEMBERS x", "SISMEMBER x a", "SMISMEMBER x a", "SPOP x"] {
        c.check(command, WRONG_TYPE);
    }
    for command in ["SPOP x 2", "SRANDMEMBER x", "SRANDMEMBER x 2", "SSCAN x 0", "SINTER x", "SINTERCARD 1 x"] {
        c.check(command, WRONG_TYPE);
    }
}

#[test]
fn moving() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("SADD {t}a 1 2 x", ":3");
    c.check("SADD {t}b x", ":1");
    c.check("SMOVE {t}a {t}b none", ":0");
    c.check("SMOVE {t}a {t}b 1", ":1");
    c.check("SMOVE {t}a {t}b x", ":1");
    c.check("SMOVE {t}a {t}a 2", ":1");
    c.check("SMOVE {t}a {t}a none", ":0");
    c.check("SMOVE {t}a {t}c 2", ":1");
    c.check("EXISTS {t}a", ":0");
    c.check("SMEMBERS {t}b", "[\"x\", \"1\"]");
    c.check("SMEMBERS {t}c", "[\"2\"]");
    c.check("SET {t}s x", "OK");
    c.check("SMOVE {t}none {t}s x", ":0");
    c.check("SMOVE {t}b {t}s x", WRONG_TYPE);
    c.check("SMOVE {t}s {t}b x", WRONG_TYPE);
    c.check("SMOVE {t}b {t}s none", WRONG_TYPE);
}

#[test]
fn algebra() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("SADD {t}a 1 2 3 4", ":4");
    c.check("SADD {t}b 3 4 5", ":3");
    c.check("SADD {t}c 4 x", ":2");
    c.check("SINTER {t}a {t}b", "[\"3\", \"4\"]");
    c.check("SINTER {t}a {t}b {t}c", "[\"4\"]");
    c.check("SINTER {t}a {t}none", "[]");
    c.check("SINTER {t}a {t}a", "[\"1\", \"2\", \"3\", \"4\"]");
    c.check("SUNION {t}a {t}b {t}c {t}none", "[\"1\", \"2\", \"3\", \"4\", \"5\", \"x\"]");
    c.check("SDIFF {t}a {t}b {t}none", "[\"1\", \"2\"]");
    c.check("SDIFF {t}a {t}b {t}a", "[]");
    c.check("SDIFF {t}none {t}b", "[]");
    c.check("SINTERSTORE {t}d {t}a {t}b", ":2");
    c.check("SMEMBERS {t}d", "[\"3\", \"4\"]");
    c.check("SUNIONSTORE {t}d {t}b {t}c", ":4");
    c.check("SDIFFSTORE {t}d {t}b {t}c", ":2");
    c.check("SMEMBERS {t}d", "[\"3\", \"5\"]");
    c.check("SDIFFSTORE {t}d {t}b {t}b", ":0");
    c.check("EXISTS {t}d", ":0");
    c.check("SET {t}d x", "OK");
    c.check("SINTERSTORE {t}d {t}a {t}none", ":0");
    c.check("EXISTS {t}d", ":0");
    c.check("SET {t}s x", "OK");
    for command in ["SINTER {t}none {t}s", "SUNION {t}a {t}s", "SDIFF {t}a {t}s", "SINTERSTORE {t}d {t}none {t}s"] {
        c.check(command, WRONG_TYPE);
    }
    c.check("SUNIONSTORE {t}s {t}a", ":4");
    c.check("SINTERCARD 2 {t}a {t}b", ":2");
    c.check("SINTERCARD 2 {t}a {t}b LIMIT 1", ":1");
    c.check("SINTERCARD 2 {t}a {t}b LIMIT 0", ":2");
    c.check("SINTERCARD 2 {t}a {t}none", ":0");
    c.check("SINTERCARD 0 {t}a", "-ERR numkeys should be greater than 0");
    c.check("SINTERCARD x {t}a", "-ERR numkeys should be greater than 0");
    c.check("SINTERCARD 2 {t}a", "-ERR Number of keys can't be greater than number of args");
    c.check("SINTERCARD 1 {t}a {t}b", "-ERR syntax error");
    c.check("SINTERCARD 1 {t}a LIMIT -1", "-ERR LIMIT can't be negative");
    c.check("SINTERCARD 1 {t}a LIMIT x", "-ERR LIMIT can't be negative");
}

#[test]
fn replies_of_resp3() {
    let mut c = Checker::new();
    c.run("HELLO 3");
    c.check("SADD {t}a 1 2", ":2");
    c.check("SMEMBERS {t}a", "~[\"1\", \"2\"]");
    c.check("SMEMBERS none", "~[]");
    for command in ["SINTER", "SUNION", "SDIFF"] {
        c.check(&format!("{command} {{t}}a"), "~[\"1\", \"2\"]");
    }
    c.check("SINTER {t}a {t}none", "~[]");
    c.check("SRANDMEMBER {t}a 0", "[]");
    c.check("SRANDMEMBER {t}a 5", "[\"1\", \"2\"]");
    c.check("SISMEMBER {t}a 1", ":1");
    c.check("SPOP {t}a 5", "~[\"1\", \"2\"]");
    c.check("SPOP {t}a 5", "~[]");
    c.check("SPOP {t}a", "nil");
}

#[test]
fn scanning() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("SADD s a b ab", ":3");
    c.check("SSCAN s 0", "[\"0\", [\"a\", \"b\", \"ab\"]]");
    c.check("SSCAN s 0 MATCH a* COUNT 1", "[\"0\", [\"a\", \"ab\"]]");
    c.check("SADD i 1 10 2", ":3");
    c.check("SSCAN i 0 MATCH 1*", "[\"0\", [\"1\", \"10\"]]");
    c.check("SSCAN none 0", "[\"0\", []]");
    c.check("SSCAN s x", "-ERR invalid cursor");
    c.check("SSCAN none \"\\x00x\"", "[\"0\", []]");
    c.check("SSCAN s 0 WHAT", "-ERR syntax error");
    for n in 0..1000 {
        c.run(&format!("SADD many m{n}"));
    }
    let (mut cursor, mut seen) = ("0".to_owned(), HashSet::new());
    loop {
        let reply = c.running_only(&format!("SSCAN many {cursor} COUNT 50"));
        let (next, found) = reply[1..].split_once(", ").expect("two elements");
        cursor = next.trim_matches('"').to_owned();
        seen.extend(elements(found).into_iter().map(str::to_owned));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 1000);
}

#[test]
fn random_members() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("SRANDMEMBER s", "nil");
    c.check("SRANDMEMBER s 2", "[]");
    c.check("SPOP s", "nil");
    c.check("SPOP s 2", "[]");
    c.check("SADD s a", ":1");
    c.check("SRANDMEMBER s", "\"a\"");
    c.check("SRANDMEMBER s -2", "[\"a\", \"a\"]");
    c.check("SRANDMEMBER s 2", "[\"a\"]");
    c.check("SRANDMEMBER s 2 3", "-ERR syntax error");
    c.check("SRANDMEMBER s x", "-ERR value is not an integer or out of range");
    let range = "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    c.check("SRANDMEMBER s -9223372036854775808", range);
    c.check("SPOP s 0", "[]");
    c.check("SADD t a b", ":2");
    c.check_lookups("SPOP t 1", [0, 0]);
    c.check_lookups("SPOP t 1", [1, 0]);
    c.check("SPOP s -1", "-ERR value is out of range, must be positive");
    c.check("SPOP s 1 2", "-ERR syntax error");
    c.check("SPOP s", "\"a\"");
    c.check("EXISTS s", ":0");
    c.check("SADD s a b", ":2");
    c.check("SPOP s 2", "[\"a\", \"b\"]");
    c.check("EXISTS s", ":0");
}

#[test]
fn what_is_popped_is_gone() {
    for (prefix, len, count) in [("m", 100, 30), ("m", 100, 95), ("", 400, 30), ("", 400, 390), ("m", 2000, 1990)] {
        let mut c = Checker::new();
        for n in 0..len {
            c.run(&format!("SADD s {prefix}{n}"));
        }
        let some = c.run(&format!("SRANDMEMBER s {count}"));
        assert_eq!(elements(&some).len(), count);
        let popped = c.run(&format!("SPOP s {count}"));
        assert_eq!(elements(&popped).len(), count);
        c.check("SCARD s", &format!(":{}", len - count));
        let rest = c.run("SMEMBERS s");
        assert!(elements(&rest).is_disjoint(&elements(&popped)));
    }
}

#[test]
fn the_log_gets_what_redis_writes() {
    let mut c = Checker::new();
    let log = c.record();
    for command in [
        "SADD s 1 2 3",
        "SADD s 1",
        "SPOP s 10",
        "SADD s a",
        "SPOP s",
        "SADD s a b",
        "SREM s a b c",
        "SADD {t}p 1 2",
        "SMOVE {t}p {t}q 1",
        "SINTERSTORE {t}d {t}p {t}q",
        "SUNIONSTORE {t}d {t}p {t}q",
        "SDIFFSTORE {t}d {t}p {t}p",
    ] {
        c.run(command);
    }
    let expected = [
        "SADD s 1 2 3",
        "DEL s",
        "SADD s a",
        "SREM s a",
        "SADD s a b",
        "SREM s a b c",
        "SADD {t}p 1 2",
        "SMOVE {t}p {t}q 1",
        "SUNIONSTORE {t}d {t}p {t}q",
        "SDIFFSTORE {t}d {t}p {t}p",
    ];
    assert_eq!(log.take(), expected);
    c.run("SADD s 1 2 3 4 5");
    log.take();
    let popped = c.running_only("SPOP s 2");
    let popped: Vec<_> = popped.trim_matches(['[', ']', '"']).split("\", \"").collect();
    assert_eq!(log.take(), [format!("SREM s {}", popped.join(" "))]);
}
