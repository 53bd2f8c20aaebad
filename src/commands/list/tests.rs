use crate::commands::testing::Checker;

#[test]
fn pushing_and_popping() {
    let mut c = Checker::new();
    c.check("LPUSH l b a", ":2");
    c.check("RPUSH l c 4", ":4");
    c.check("LRANGE l 0 -1", "[\"a\", \"b\", \"c\", \"4\"]");
    c.check("LPUSHX none x", ":0");
    c.check("RPUSHX none x", ":0");
    c.check("EXISTS none", ":0");
    c.check("LPUSHX l z", ":5");
    c.check("RPUSHX l 5 6", ":7");
    c.check("LLEN l", ":7");
    c.check("LPOP l", "\"z\"");
    c.check("RPOP l", "\"6\"");
    c.check("LPOP l 0", "[]");
    c.check("LPOP l 2", "[\"a\", \"b\"]");
    c.check("RPOP l 9", "[\"5\", \"4\", \"c\"]");
    c.check("EXISTS l", ":0");
    c.check("LPOP l", "nil");
    c.check("RPOP l 1", "nil");
    c.check("LLEN l", ":0");
    c.check("LPOP l -1", "-ERR value is out of range, must be positive");
    c.check("LPOP l x", "-ERR value is out of range, must be positive");
    c.check("LPOP l 1 2", "-ERR wrong number of arguments for 'lpop' command");
    c.check("SET s x", "OK");
    for command in ["LPUSH s a", "RPUSHX s a", "LPOP s", "LPOP s 0", "LLEN s", "LPUSHX s a"] {
        c.check(command, "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }
    c.check("RPUSH l", "-ERR wrong number of arguments for 'rpush' command");
}

#[test]
fn reading_by_index() {
    let mut c = Checker::new();
    c.check("RPUSH l a b c d", ":4");
    for (index, expected) in
        [("0", "\"a\""), ("3", "\"d\""), ("4", "nil"), ("-1", "\"d\""), ("-4", "\"a\""), ("-5", "nil")]
    {
        c.check(&format!("LINDEX l {index}"), expected);
    }
    c.check("LINDEX l -9223372036854775808", "nil");
    c.check("LINDEX l x", "-ERR value is not an integer or out of range");
    c.check("LINDEX none x", "nil");
    for (bounds, expected) in [
        ("0 0", "[\"a\"]"),
        ("1 2", "[\"b\", \"c\"]"),
        ("-2 -1", "[\"c\", \"d\"]"),
        ("-100 1", "[\"a\", \"b\"]"),
        ("2 100", "[\"c\", \"d\"]"),
        ("2 1", "[]"),
        ("4 9", "[]"),
        ("0 -5", "[]"),
        ("-9223372036854775808 9223372036854775807", "[\"a\", \"b\", \"c\", \"d\"]"),
    ] {
        c.check(&format!("LRANGE l {bounds}"), expected);
    }
    c.check("LRANGE none 0 -1", "[]");
    c.check("LRANGE none 0 x", "-ERR value is not an integer or out of range");
}

#[test]
fn editing() {
    let mut c = Checker::new();
    c.check("RPUSH l a b c b a", ":5");
    c.check("LSET l 1 x", "OK");
    c.check("LSET l -1 y", "OK");
    c.check("LSET l 5 y", "-ERR index out of range");
    c.check("LSET l -6 y", "-ERR index out of range");
    c.check("LSET l a y", "-ERR value is not an integer or out of range");
    c.check("LSET none 0 y", "-ERR no such key");
    c.check("LRANGE l 0 -1", "[\"a\", \"x\", \"c\", \"b\", \"y\"]");
    c.check("LINSERT l BEFORE c 1", ":6");
    c.check("LINSERT l after y 2", ":7");
    c.check("LINSERT l AFTER none 2", ":-1");
    c.check("LINSERT none AFTER c 2", ":0");
    c.check("LINSERT l beside c 2", "-ERR syntax error");
    c.check("LRANGE l 0 -1", "[\"a\", \"x\", \"1\", \"c\", \"b\", \"y\", \"2\"]");
    c.check("LTRIM l 1 -2", "OK");
    c.check("LRANGE l 0 -1", "[\"x\", \"1\", \"c\", \"b\", \"y\"]");
    c.check("LTRIM l 0 99", "OK");
    c.check("LLEN l", ":5");
    c.check("LTRIM l 3 1", "OK");
    c.check("EXISTS l", ":0");
    c.check("LTRIM none 0 1", "OK");
    c.check("LTRIM none 0 x", "-ERR value is not an integer or out of range");
}

#[test]
fn removing_by_value() {
    let mut c = Checker::new();
    c.check("RPUSH l 1 2 1 3 1 4 1", ":7");
    c.check("LREM l 1 1", ":1");
    c.check("LREM l -1 1", ":1");
    c.check("LRANGE l 0 -1", "[\"2\", \"1\", \"3\", \"1\", \"4\"]");
    c.check("LREM l 0 1", ":2");
    c.check("LREM l 0 1", ":0");
    c.check("LREM l -9223372036854775808 2", ":1");
    c.check("LREM l 5 3", ":1");
    c.check("LREM l x 3", "-ERR value is not an integer or out of range");
    c.check("LREM l 0 4", ":1");
    c.check("EXISTS l", ":0");
    c.check("LREM l 0 4", ":0");
}

#[test]
fn finding() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("RPUSH l a b c 1 2 3 c c", ":8");
    c.check("LPOS l a", ":0");
    c.check("LPOS l c", ":2");
    c.check("LPOS l none", "nil");
    c.check("LPOS l c RANK 2", ":6");
    c.check("LPOS l c RANK 4", "nil");
    c.check("LPOS l c RANK -1", ":7");
    c.check("LPOS l c RANK -1 COUNT 2", "[:7, :6]");
    c.check("LPOS l c COUNT 0", "[:2, :6, :7]");
    c.check("LPOS l c COUNT 1", "[:2]");
    c.check("LPOS l c COUNT 0 RANK 2", "[:6, :7]");
    c.check("LPOS l b COUNT 10 RANK 5", "[]");
    c.check("LPOS l c COUNT 0 MAXLEN 3", "[:2]");
    c.check("LPOS l c COUNT 0 MAXLEN 2 RANK -1", "[:7, :6]");
    c.check("LPOS l c MAXLEN 1", "nil");
    c.check("LPOS none c", "nil");
    c.check("LPOS none c COUNT 3", "[]");
    c.check("LPOS l c COUNT -1", "-ERR COUNT can't be negative");
    c.check("LPOS l c MAXLEN -1", "-ERR MAXLEN can't be negative");
    c.check("LPOS l c COUNT", "-ERR syntax error");
    c.check("LPOS l c WHAT 1", "-ERR syntax error");
    let zero = "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to \
                start from the end of the list";
    c.check("LPOS l c RANK 0", zero);
    let range = "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    c.check("LPOS l c RANK -9223372036854775808", range);
}

#[test]
fn moving() {
    let mut c = Checker::new();
    c.check("RPUSH {t}a 1 2 3", ":3");
    c.check("LMOVE {t}a {t}b LEFT RIGHT", "\"1\"");
    c.check("LMOVE {t}a {t}b right left", "\"3\"");
    c.check("RPOPLPUSH {t}a {t}b", "\"2\"");
    c.check("EXISTS {t}a", ":0");
    c.check("LRANGE {t}b 0 -1", "[\"2\", \"3\", \"1\"]");
    c.check("LMOVE {t}b {t}b LEFT RIGHT", "\"2\"");
    c.check("RPOPLPUSH {t}b {t}b", "\"2\"");
    c.check("LRANGE {t}b 0 -1", "[\"2\", \"3\", \"1\"]");
    c.check("LMOVE {t}a {t}b LEFT RIGHT", "nil");
    c.check("RPOPLPUSH {t}a {t}b", "nil");
    c.check("LMOVE {t}a {t}b LEFT MIDDLE", "-ERR syntax error");
    c.check("SET {t}s x", "OK");
    c.check("RPOPLPUSH {t}b {t}s", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    c.check("RPOPLPUSH {t}s {t}b", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    c.check("RPOPLPUSH {t}a {t}s", "nil");
    c.check("LLEN {t}b", ":3");
}

#[test]
fn popping_from_several_keys() {
    let mut c = Checker::new();
    c.check("RPUSH {t}b 1 2 3 4", ":4");
    c.check("LMPOP 2 {t}a {t}b LEFT", "[\"{t}b\", [\"1\"]]");
    c.check("LMPOP 2 {t}a {t}b right COUNT 2", "[\"{t}b\", [\"4\", \"3\"]]");
    c.check("BLMPOP 0 1 {t}b LEFT COUNT 10", "[\"{t}b\", [\"2\"]]");
    c.check("LMPOP 1 {t}b LEFT", "nil");
    c.check("EXISTS {t}b", ":0");
    c.check("LMPOP 0 {t}b LEFT", "-ERR numkeys should be greater than 0");
    c.check("LMPOP x {t}b LEFT", "-ERR numkeys should be greater than 0");
    c.check("LMPOP 2 {t}b LEFT", "-ERR syntax error");
    c.check("LMPOP 1 {t}b UP", "-ERR syntax error");
    c.check("LMPOP 1 {t}b LEFT COUNT 0", "-ERR count should be greater than 0");
    c.check("LMPOP 1 {t}b LEFT COUNT 1 COUNT 1", "-ERR syntax error");
    c.check("LMPOP 1 {t}b LEFT COUNT", "-ERR syntax error");
    c.check("BLMPOP x 1 {t}b LEFT", "-ERR timeout is not a float or out of range");
    c.check("BLMPOP -1 1 {t}b LEFT", "-ERR timeout is negative");
}

#[test]
fn blocking_commands_answer_at_once_when_they_can() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("RPUSH {t}b 1 2 3 4", ":4");
    c.check("BLPOP {t}a {t}b 0", "[\"{t}b\", \"1\"]");
    c.check("BRPOP {t}a {t}b 0", "[\"{t}b\", \"4\"]");
    c.check("BLMOVE {t}b {t}c LEFT LEFT 0", "\"2\"");
    c.check("BRPOPLPUSH {t}b {t}c 0", "\"3\"");
    c.check("LRANGE {t}c 0 -1", "[\"3\", \"2\"]");
    c.check("BLPOP {t}c x", "-ERR timeout is not a float or out of range");
    c.check("BLPOP {t}c -1", "-ERR timeout is negative");
    c.check("BLPOP {t}c 1e300", "-ERR timeout is out of range");
    c.check("BRPOPLPUSH {t}a {t}c -1", "-ERR timeout is negative");
    c.check("BLMOVE {t}a {t}c LEFT DOWN 1", "-ERR syntax error");
    c.check("SET {t}s x", "OK");
    c.check("BLPOP {t}s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    c.check("BLPOP {t}a 0.01", "nil");
    c.check("BLMOVE {t}a {t}c LEFT LEFT 0.01", "nil");
    c.check("MULTI", "OK");
    c.check("BLPOP {t}a 0", "QUEUED");
    c.check("BLMOVE {t}a {t}c LEFT LEFT 0", "QUEUED");
    c.check("BRPOPLPUSH {t}a {t}c 0", "QUEUED");
    c.check("BLMPOP 0 1 {t}a LEFT", "QUEUED");
    c.check("EXEC", "[nil, nil, nil, nil]");
}

#[test]
fn a_push_wakes_who_waits() {
    let mut c = Checker::new();
    c.send("BLPOP {t}a {t}b 5");
    c.other("RPUSH {t}b 1 2", ":2");
    c.receive("[\"{t}b\", \"1\"]");
    c.other("LRANGE {t}b 0 -1", "[\"2\"]");
    c.send("BRPOP {t}a 5");
    c.other("LPUSH {t}a x y", ":2");
    c.receive("[\"{t}a\", \"x\"]");
    c.other("DEL {t}a", ":1");
    c.send("BLMOVE {t}a {t}b LEFT RIGHT 5");
    c.other("RPUSH {t}a z", ":1");
    c.receive("\"z\"");
    c.other("LRANGE {t}b 0 -1", "[\"2\", \"z\"]");
    c.send("BLMPOP 5 2 {t}a {t}c RIGHT COUNT 2");
    c.other("RPUSH {t}c 1 2 3", ":3");
    c.receive("[\"{t}c\", [\"3\", \"2\"]]");
    c.send("BRPOPLPUSH {t}a {t}b 5");
    c.other("SET {t}a x", "OK");
    c.other("DEL {t}a", ":1");
    c.other("DEL {t}b", ":1");
    c.other("SET {t}b x", "OK");
    c.other("RPUSH {t}a z", ":1");
    c.receive("-WRONGTYPE Operation against a key holding the wrong kind of value");
    c.other("LLEN {t}a", ":1");
}

#[test]
fn a_transaction_wakes_after_its_end() {
    let mut c = Checker::new();
    c.send("BLPOP {t}a 5");
    c.other("MULTI", "OK");
    c.other("RPUSH {t}a 1", "QUEUED");
    c.other("DEL {t}a", "QUEUED");
    c.other("EXEC", "[:1, :1]");
    c.other("MULTI", "OK");
    c.other("RPUSH {t}a 2", "QUEUED");
    c.other("LPUSH {t}a 3", "QUEUED");
    c.other("EXEC", "[:1, :2]");
    c.receive("[\"{t}a\", \"3\"]");
}

#[test]
fn keys_of_other_shards_are_moved_to() {
    let mut c = Checker::new();
    for n in 0..20 {
        c.send(&format!("BLMOVE from{n} to{n} LEFT RIGHT 5"));
        c.other(&format!("RPUSH from{n} {n}"), ":1");
        c.receive(&format!("\"{n}\""));
        c.other(&format!("LRANGE to{n} 0 -1"), &format!("[\"{n}\"]"));
    }
}

#[test]
fn the_log_gets_what_redis_writes() {
    let mut c = Checker::new();
    let log = c.record();
    for command in [
        "RPUSH {t}l a b c d e f",
        "LMPOP 2 {t}x {t}l LEFT COUNT 2",
        "BLMPOP 0 1 {t}l RIGHT COUNT 10",
        "RPUSH {t}l 1 2 3",
        "BLPOP {t}x {t}l 0",
        "BRPOP {t}l 0",
        "BLMOVE {t}l {t}m LEFT RIGHT 0",
        "RPUSH {t}l 9",
        "BRPOPLPUSH {t}l {t}m 0",
        "LTRIM {t}m 0 100",
        "LTRIM {t}m 0 0",
        "LREM {t}m 0 zz",
        "LPOP {t}m 5",
    ] {
        c.run(command);
    }
    let expected = [
        "RPUSH {t}l a b c d e f",
        "LPOP {t}l 2",
        "RPOP {t}l 4",
        "RPUSH {t}l 1 2 3",
        "LPOP {t}l",
        "RPOP {t}l",
        "LMOVE {t}l {t}m LEFT RIGHT",
        "RPUSH {t}l 9",
        "RPOPLPUSH {t}l {t}m",
        "LTRIM {t}m 0 0",
        "LPOP {t}m 5",
    ];
    assert_eq!(log.take(), expected);
    c.send("BLMOVE {t}a {t}b LEFT RIGHT 5");
    c.other("RPUSH {t}a z", ":1");
    c.receive("\"z\"");
    assert_eq!(log.take(), ["RPUSH {t}a z", "LMOVE {t}a {t}b LEFT RIGHT"]);
}

#[test]
fn a_timeout_is_a_long_double() {
    let mut c = Checker::new();
    c.since("7.2");
    for (timeout, error) in [
        ("inf", "timeout is out of range"),
        ("1e400", "timeout is out of range"),
        ("-1e400", "timeout is negative"),
        ("1e5000", "timeout is not a float or out of range"),
        ("nan", "timeout is not a float or out of range"),
    ] {
        c.check(&format!("BLPOP nokey {timeout}"), &format!("-ERR {error}"));
    }
    c.check("BLPOP nokey 1e-400", "nil");
    c.check("BLPOP nokey 1e-5000", "-ERR timeout is not a float or out of range");
}
