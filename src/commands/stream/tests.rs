use crate::commands::testing::Checker;

/// A checker with the entries `1-0 a 1`, `2-0 a 2`, ... in the stream `s`.
fn with_entries(count: u64) -> Checker {
    let mut c = Checker::new();
    for ms in 1..=count {
        c.check(&format!("XADD s {ms}-0 a {ms}"), &format!("\"{ms}-0\""));
    }
    c
}

#[test]
fn xadd_gives_out_ids_that_rise() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("XADD s 5-1 a 1 b hello", "\"5-1\"");
    c.check("XADD s 5-1 a 1", "-ERR The ID specified in XADD is equal or smaller than the target stream top item");
    c.check("XADD s 4-* a 1", "-ERR The ID specified in XADD is equal or smaller than the target stream top item");
    c.check("XADD s 5-* a 1", "\"5-2\"");
    c.check("XADD s 7 a 1", "\"7-0\"");
    c.check("XADD s 0-0 a 1", "-ERR The ID specified in XADD must be greater than 0-0");
    c.check("XADD new 0 a 1", "-ERR The ID specified in XADD must be greater than 0-0");
    c.check("EXISTS new", ":0");
    c.check("XADD new 0-* a 1", "\"0-1\"");
    c.check("XADD s 7-18446744073709551615 a 1", "\"7-18446744073709551615\"");
    c.check("XADD s 7-* a 1", "-ERR The ID specified in XADD is equal or smaller than the target stream top item");
    c.check("XADD s 18446744073709551615-18446744073709551615 a 1", "\"18446744073709551615-18446744073709551615\"");
    c.check("XADD s * a 1", "-ERR The stream has exhausted the last possible ID, unable to add more items");
    c.check("XLEN s", ":5");
    assert!(c.run("XADD auto * a 1").ends_with("-0\""));
}

#[test]
fn xadd_refuses_what_it_cannot_read() {
    let mut c = Checker::new();
    c.check("XADD s * a", "-ERR wrong number of arguments for 'xadd' command");
    c.check("XADD s * a 1 b", "-ERR wrong number of arguments for 'xadd' command");
    c.check("XADD s NOMKSTREAM MAXLEN 3", "-ERR wrong number of arguments for 'xadd' command");
    c.check("XADD s 1-x a 1", "-ERR Invalid stream ID specified as stream command argument");
    c.check("XADD s - a 1", "-ERR Invalid stream ID specified as stream command argument");
    c.check("XADD s MAXLEN x 1-1 a 1", "-ERR value is not an integer or out of range");
    c.check("XADD s MAXLEN -1 1-1 a 1", "-ERR The MAXLEN argument must be >= 0.");
    c.check("XADD s MAXLEN ~ 1 LIMIT -1 1-1 a 1", "-ERR The LIMIT argument must be >= 0.");
    c.check("XADD s LIMIT 1 1-1 a 1", "-ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
    c.check("XADD s LIMIT 0 1-1 a 1", "-ERR syntax error, LIMIT cannot be used without the special ~ option");
    c.check("XADD s MAXLEN 1 LIMIT 1 1-1 a 1", "-ERR syntax error, LIMIT cannot be used without the special ~ option");
    c.check(
        "XADD s MAXLEN 1 MINID 1 1-1 a 1",
        "-ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
    );
    c.check("EXISTS s", ":0");
    c.check("XADD s NOMKSTREAM 1-1 a 1", "nil");
    c.check("EXISTS s", ":0");
    c.check("SET str x", "OK");
    for command in
        ["XADD str 1-1 a 1", "XLEN str", "XRANGE str - +", "XDEL str 1", "XTRIM str MAXLEN 0", "XACK str g 1"]
    {
        c.check(command, "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }
}

#[test]
fn xadd_trims() {
    let mut c = with_entries(5);
    c.check("XADD s MAXLEN = 3 6-0 a 6", "\"6-0\"");
    c.check("XRANGE s - +", r#"[["4-0", ["a", "4"]], ["5-0", ["a", "5"]], ["6-0", ["a", "6"]]]"#);
    c.check("XADD s MINID 6 7-0 a 7", "\"7-0\"");
    c.check("XRANGE s - +", r#"[["6-0", ["a", "6"]], ["7-0", ["a", "7"]]]"#);
    c.check("XADD s MAXLEN ~ 0 LIMIT 1 8-0 a 8", "\"8-0\"");
    c.check("XLEN s", ":3");
    c.check("XADD s MAXLEN 0 9-0 a 9", "\"9-0\"");
    c.check("XLEN s", ":0");
    c.check("EXISTS s", ":1");
}

#[test]
fn xrange_takes_every_form_of_id() {
    let mut c = with_entries(5);
    c.check("XADD s 5-7 a x a y", "\"5-7\"");
    c.check("XRANGE s 2 3", r#"[["2-0", ["a", "2"]], ["3-0", ["a", "3"]]]"#);
    c.check("XRANGE s (2 (4", r#"[["3-0", ["a", "3"]], ["4-0", ["a", "4"]]]"#);
    c.check("XRANGE s (2-0 (4-0", r#"[["3-0", ["a", "3"]]]"#);
    c.check("XRANGE s 5 + COUNT 1", r#"[["5-0", ["a", "5"]]]"#);
    c.check("XREVRANGE s + 5", r#"[["5-7", ["a", "x", "a", "y"]], ["5-0", ["a", "5"]]]"#);
    c.check("XREVRANGE s + - COUNT 1", r#"[["5-7", ["a", "x", "a", "y"]]]"#);
    c.check("XREVRANGE s (5-7 (4-0", r#"[["5-0", ["a", "5"]]]"#);
    c.check("XRANGE s + -", "[]");
    c.check("XRANGE s - + COUNT 0", "nil");
    c.check("XRANGE s - + COUNT -5", "nil");
    c.check("XRANGE none - +", "[]");
    c.check("XRANGE none - + COUNT 0", "[]");
    c.check("XRANGE s (18446744073709551615-18446744073709551615 +", "-ERR invalid start ID for the interval");
    c.check("XRANGE s - (0-0", "-ERR invalid end ID for the interval");
    c.check("XRANGE s (- +", "-ERR Invalid stream ID specified as stream command argument");
    c.check("XRANGE s - + COUNT", "-ERR syntax error");
    c.check("XRANGE s - + COUNT x", "-ERR value is not an integer or out of range");
    c.check("XRANGE s - + LIMIT 1", "-ERR syntax error");
}

#[test]
fn xdel_keeps_the_stream_and_its_last_id() {
    let mut c = with_entries(3);
    c.check("XDEL s 2-0 9-0 2-0", ":1");
    c.check("XDEL s 1-0 x", "-ERR Invalid stream ID specified as stream command argument");
    c.check("XRANGE s - +", r#"[["1-0", ["a", "1"]], ["3-0", ["a", "3"]]]"#);
    c.check("XDEL s 1-0 3-0", ":2");
    c.check("XDEL none 1", ":0");
    c.check("XLEN s", ":0");
    c.check("EXISTS s", ":1");
    c.check("XADD s 3-0 a 1", "-ERR The ID specified in XADD is equal or smaller than the target stream top item");
    c.check("XRANGE s - +", "[]");
}

#[test]
fn xtrim_exactly_and_by_nodes() {
    let mut c = Checker::new();
    c.run("CONFIG SET stream-node-max-entries 100 stream-node-max-bytes 4096");
    for ms in 1..=250 {
        c.run(&format!("XADD s {ms}-0 a {ms}"));
    }
    c.check("XTRIM s MAXLEN ~ 240", ":0");
    c.check("XTRIM s MAXLEN ~ 120 LIMIT 50", ":0");
    c.check("XTRIM s MAXLEN ~ 120 LIMIT 100", ":100");
    c.check("XTRIM s MINID ~ 200", ":0");
    c.check("XTRIM s MINID ~ 201", ":100");
    c.check("XTRIM s MINID = 220", ":19");
    c.check("XTRIM s MAXLEN 10", ":21");
    c.check("XTRIM s MAXLEN 10", ":0");
    c.check(
        "XTRIM s LIMIT 1 LIMIT 1",
        "-ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
    );
    c.check("XTRIM s LIMIT 0 LIMIT 0", "-ERR syntax error, XTRIM must be called with a trimming strategy");
    c.check("XTRIM s MAXLEN 1 LIMIT 1", "-ERR syntax error, LIMIT cannot be used without the special ~ option");
    c.check("XTRIM s MAXLEN", "-ERR wrong number of arguments for 'xtrim' command");
    c.check("XTRIM s MAXLEN ~", "-ERR value is not an integer or out of range");
    c.check("XTRIM s MAXLEN 1 NOMKSTREAM", "-ERR syntax error");
    c.check("XTRIM none MAXLEN 1", ":0");
    c.check("XLEN s", ":10");
}

#[test]
fn xsetid_never_goes_below_what_is_there() {
    let mut c = with_entries(3);
    c.since("7.2");
    c.check("XSETID s 2-0", "-ERR The ID specified in XSETID is smaller than the target stream top item");
    c.check("XSETID s 9-0 ENTRIESADDED 2 MAXDELETEDID 0-0", SETID_ADDED);
    c.check("XSETID s 9-0 ENTRIESADDED -1", "-ERR entries_added must be positive");
    c.check(
        "XSETID s 9-0 MAXDELETEDID 9-1",
        "-ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
    );
    c.check("XSETID s 9-0 ENTRIESADDED 30 MAXDELETEDID 8-0", "OK");
    c.check("XSETID s 7-0", "-ERR The ID specified in XSETID is smaller than current max_deleted_entry_id");
    c.check("XSETID s - ", "-ERR Invalid stream ID specified as stream command argument");
    c.check("XSETID s 10 FOO", "-ERR syntax error");
    c.check("XSETID none 1-1", "-ERR no such key");
    c.check("XADD s 9-* a 1", "\"9-1\"");
    c.check(
        "XINFO STREAM s",
        r#"["length", :4, "radix-tree-keys", :1, "radix-tree-nodes", :2, "last-generated-id", "9-1", "max-deleted-entry-id", "8-0", "entries-added", :31, "recorded-first-entry-id", "1-0", "groups", :0, "first-entry", ["1-0", ["a", "1"]], "last-entry", ["9-1", ["a", "1"]]]"#,
    );
}

const SETID_ADDED: &str = "-ERR The entries_added specified in XSETID is smaller than the target stream length";

#[test]
fn xread_reads_several_streams() {
    let mut c = with_entries(3);
    c.check("XADD t 1-1 b 1", "\"1-1\"");
    c.check("XREAD STREAMS s t 2-0 0", r#"[["s", [["3-0", ["a", "3"]]]], ["t", [["1-1", ["b", "1"]]]]]"#);
    c.check("XREAD COUNT 1 STREAMS s t 0 1-1", r#"[["s", [["1-0", ["a", "1"]]]]]"#);
    c.check("XREAD COUNT -1 STREAMS s 1", r#"[["s", [["2-0", ["a", "2"]], ["3-0", ["a", "3"]]]]]"#);
    c.check("XREAD STREAMS s t $ $", "nil");
    c.check("XREAD STREAMS s none 3 0", "nil");
    c.check("XREAD STREAMS s 18446744073709551615-18446744073709551615", "nil");
    c.check("XREAD BLOCK 1 STREAMS s 3", "nil");
}

#[test]
fn streams_are_looked_up_twice() {
    let mut c = with_entries(3);
    c.check_lookups("XREAD STREAMS s t 0 0", [2, 2]);
    c.check_lookups("XREAD STREAMS s $", [2, 0]);
    c.check("XGROUP CREATE s g 0", "OK");
    c.check_lookups("XREADGROUP GROUP g a STREAMS s >", [2, 0]);
}

/// Who waits for more is not disturbed by what else becomes of a stream.
#[test]
fn only_more_entries_wake_readers() {
    let mut c = with_entries(3);
    // Before, Redis did not look keys up once more for who waits, and the hits were others.
    c.since("7.2");
    c.check("XGROUP CREATE s g 0", "OK");
    c.send("XREAD BLOCK 0 STREAMS s $");
    c.run_other("CONFIG RESETSTAT");
    for command in ["PEXPIRE s 100000", "XDEL s 3-0", "XTRIM s MAXLEN 1", "XGROUP SETID s g 1", "XSETID s 5-0"] {
        c.run_other(command);
    }
    c.check_info("keyspace_hits", "0");
    c.other("MULTI", "OK");
    c.other("XADD s 5-1 a 1", "QUEUED");
    c.other("XADD s 5-2 a 2", "QUEUED");
    c.other("EXEC", "[\"5-1\", \"5-2\"]");
    c.receive(r#"[["s", [["5-1", ["a", "1"]], ["5-2", ["a", "2"]]]]]"#);
    c.check_info("keyspace_hits", "2");
}

#[test]
fn xread_refuses_what_it_cannot_read() {
    let mut c = with_entries(1);
    c.since("7.2");
    c.check(
        "XREAD STREAMS s t 0",
        "-ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.",
    );
    c.check(
        "XREADGROUP GROUP g c STREAMS s t 0",
        "-ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.",
    );
    c.check("XREAD COUNT 1 s 0", "-ERR syntax error");
    c.check("XREAD COUNT x STREAMS s 0", "-ERR value is not an integer or out of range");
    c.check("XREAD BLOCK x STREAMS s 0", "-ERR timeout is not an integer or out of range");
    c.check("XREAD BLOCK -1 STREAMS s 0", "-ERR timeout is negative");
    c.check("XREAD BLOCK 9223372036854775807 STREAMS s 0", "-ERR timeout is out of range");
    c.check(
        "XREAD GROUP g c STREAMS s 0",
        "-ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
    );
    c.check(
        "XREAD NOACK STREAMS s 0",
        "-ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
    );
    c.check(
        "XREAD STREAMS s >",
        "-ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
    );
    c.check("XREADGROUP NOACK COUNT 1 BLOCK 1 STREAMS s 0", "-ERR Missing GROUP option for XREADGROUP");
    c.check("XREAD STREAMS s -", "-ERR Invalid stream ID specified as stream command argument");
    c.check(
        "XREADGROUP GROUP g c STREAMS s >",
        "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option",
    );
    c.check("XGROUP CREATE s g $", "OK");
    c.check(
        "XREADGROUP GROUP g c STREAMS s $",
        "-ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
    );
}

#[test]
fn xread_blocks_until_there_is_something_behind_the_id() {
    let mut c = with_entries(2);
    c.send("XREAD BLOCK 5000 COUNT 1 STREAMS s t $ 5-0");
    c.other("XADD t 4-0 b 4", "\"4-0\"");
    c.other("XDEL s 2-0", ":1");
    c.other("XADD t 6-0 b 6", "\"6-0\"");
    c.receive(r#"[["t", [["6-0", ["b", "6"]]]]]"#);
    c.send("XREAD BLOCK 0 STREAMS s $");
    c.other("DEL s", ":1");
    c.other("SET s x", "OK");
    c.other("DEL s", ":1");
    c.other("XADD s 1-0 a 1", "\"1-0\"");
    c.other("XADD s 3-0 a 3", "\"3-0\"");
    c.receive(r#"[["s", [["3-0", ["a", "3"]]]]]"#);
    c.send("XREAD BLOCK 20 STREAMS s $");
    c.receive("nil");
}

#[test]
fn a_blocked_xread_sees_all_that_a_transaction_added() {
    let mut c = Checker::new();
    c.send("XREAD BLOCK 5000 STREAMS s 0");
    c.other("MULTI", "OK");
    c.other("XADD s 1-0 a 1", "QUEUED");
    c.other("XADD s 2-0 a 2", "QUEUED");
    c.other("XDEL s 1-0", "QUEUED");
    c.other("EXEC", r#"["1-0", "2-0", :1]"#);
    c.receive(r#"[["s", [["2-0", ["a", "2"]]]]]"#);
    c.check("MULTI", "OK");
    c.check("XREAD BLOCK 0 STREAMS s $", "QUEUED");
    c.check("EXEC", "[nil]");
}

#[test]
fn xreadgroup_delivers_once_and_remembers() {
    let mut c = with_entries(3);
    c.check("XGROUP CREATE s g 0", "OK");
    c.check("XREADGROUP GROUP g alice COUNT 2 STREAMS s >", r#"[["s", [["1-0", ["a", "1"]], ["2-0", ["a", "2"]]]]]"#);
    c.check("XREADGROUP GROUP g bob STREAMS s >", r#"[["s", [["3-0", ["a", "3"]]]]]"#);
    c.check("XREADGROUP GROUP g bob STREAMS s >", "nil");
    c.check("XREADGROUP GROUP g bob STREAMS s 0", r#"[["s", [["3-0", ["a", "3"]]]]]"#);
    c.check("XREADGROUP GROUP g carol STREAMS s 0", r#"[["s", []]]"#);
    c.check("XDEL s 1-0", ":1");
    c.check("XREADGROUP GROUP g alice STREAMS s 0", r#"[["s", [["1-0", nil], ["2-0", ["a", "2"]]]]]"#);
    c.check("XREADGROUP GROUP g alice COUNT 1 STREAMS s 1-0", r#"[["s", [["2-0", ["a", "2"]]]]]"#);
    c.check("XPENDING s g", r#"[:3, "1-0", "3-0", [["alice", "2"], ["bob", "1"]]]"#);
    c.check("XACK s g 1-0 2-0 2-0 9-9", ":2");
    c.check("XACK s none 1-0", ":0");
    c.check("XACK none g 1-0", ":0");
    c.check("XACK s g x", "-ERR Invalid stream ID specified as stream command argument");
    c.check("XPENDING s g", r#"[:1, "3-0", "3-0", [["bob", "1"]]]"#);
    c.check("XGROUP SETID s g 2-0", "OK");
    c.check("XREADGROUP GROUP g alice NOACK STREAMS s >", r#"[["s", [["3-0", ["a", "3"]]]]]"#);
    c.check("XPENDING s g", r#"[:1, "3-0", "3-0", [["bob", "1"]]]"#);
    c.check("XGROUP SETID s g 2-0", "OK");
    c.check("XREADGROUP GROUP g alice STREAMS s >", r#"[["s", [["3-0", ["a", "3"]]]]]"#);
    c.check("XPENDING s g", r#"[:1, "3-0", "3-0", [["alice", "1"]]]"#);
}

#[test]
fn a_name_that_is_an_option_does_not_hide_the_keys() {
    let mut c = with_entries(1);
    c.check("XGROUP CREATE s streams 0", "OK");
    c.check("XREADGROUP NOACK GROUP streams streams STREAMS s >", r#"[["s", [["1-0", ["a", "1"]]]]]"#);
    c.check("XREADGROUP NOACK NOACK GROUP streams streams STREAMS s 0", r#"[["s", []]]"#);
}

#[test]
fn a_blocked_xreadgroup_is_told_when_its_group_is_gone() {
    let mut c = Checker::new();
    c.since("7.2");
    for (end, reply) in [("XGROUP DESTROY s g", ":1"), ("DEL s", ":1")] {
        c.check("XGROUP CREATE s g $ MKSTREAM", "OK");
        c.send("XREADGROUP GROUP g c BLOCK 5000 STREAMS s >");
        c.other(end, reply);
        c.receive(NO_GROUP);
        c.run("DEL s");
    }
    c.check("XGROUP CREATE s g $ MKSTREAM", "OK");
    c.send("XREADGROUP GROUP g c BLOCK 5000 STREAMS s >");
    c.other("SET s x", "OK");
    c.receive("-WRONGTYPE Operation against a key holding the wrong kind of value");
}

#[test]
fn a_flush_ends_the_wait_of_a_group_only() {
    let mut c = Checker::new();
    c.since("7.2");
    c.check("XGROUP CREATE s g $ MKSTREAM", "OK");
    c.send("XREADGROUP GROUP g c BLOCK 5000 STREAMS s >");
    c.other("FLUSHALL", "OK");
    c.receive(NO_GROUP);
    c.send("XREAD BLOCK 5000 STREAMS s 5-0");
    c.other("FLUSHALL", "OK");
    c.other("XADD s 4-0 a 4", "\"4-0\"");
    c.other("XSETID s 6-0", "OK");
    c.other("XTRIM s MAXLEN 0", ":1");
    c.other("XADD s 7-0 a 7", "\"7-0\"");
    c.receive(r#"[["s", [["7-0", ["a", "7"]]]]]"#);
}

#[test]
fn a_command_that_waits_is_counted_once() {
    let mut c = Checker::new();
    c.run("CONFIG RESETSTAT");
    c.send("XREAD BLOCK 5000 STREAMS s 5-0");
    c.other("XADD s 4-0 a 4", "\"4-0\"");
    c.other("XADD s 6-0 a 6", "\"6-0\"");
    c.receive(r#"[["s", [["6-0", ["a", "6"]]]]]"#);
    c.check("XREADGROUP GROUP g c BLOCK 5 STREAMS s >", NO_GROUP);
    let stats = c.run("INFO commandstats");
    assert!(stats.contains("cmdstat_xread:calls=1,"), "{stats}");
    c.check("XREAD BLOCK 5 STREAMS s $", "nil");
    let stats = c.run("INFO commandstats");
    assert!(stats.contains("cmdstat_xread:calls=2,"), "{stats}");
}

const NO_GROUP: &str = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";

#[test]
fn blocked_readers_of_one_group_share_what_comes() {
    let mut c = Checker::new();
    c.check("XGROUP CREATE s g 0 MKSTREAM", "OK");
    c.send("XREADGROUP GROUP g alice BLOCK 5000 COUNT 10 STREAMS s >");
    c.other("XADD s 1-0 a 1", "\"1-0\"");
    c.receive(r#"[["s", [["1-0", ["a", "1"]]]]]"#);
    c.check("XREADGROUP GROUP g alice BLOCK 5000 STREAMS s 0", r#"[["s", [["1-0", ["a", "1"]]]]]"#);
    c.check("XREADGROUP GROUP g alice BLOCK 10 STREAMS s >", "nil");
}

#[test]
fn resp3_reads_are_maps() {
    let mut c = with_entries(2);
    c.run("HELLO 3");
    c.check("XREAD STREAMS s none 1-0 0", r#"{"s": [["2-0", ["a", "2"]]]}"#);
    c.check("XREAD STREAMS s $", "nil");
    c.check("XGROUP CREATE s g 0", "OK");
    c.check("XREADGROUP GROUP g c COUNT 1 STREAMS s >", r#"{"s": [["1-0", ["a", "1"]]]}"#);
    c.send("XREAD BLOCK 5000 STREAMS s $");
    c.other("XADD s 3-0 a 3", "\"3-0\"");
    c.receive(r#"{"s": [["3-0", ["a", "3"]]]}"#);
    c.check("XREAD BLOCK 5 STREAMS s $", "nil");
    c.check("XPENDING none g", "-NOGROUP No such key 'none' or consumer group 'g'");
    c.check(
        "XINFO GROUPS s",
        r#"[{"name": "g", "consumers": :1, "pending": :1, "last-delivered-id": "1-0", "entries-read": :1, "lag": :2}]"#,
    );
}

#[test]
fn xgroup_manages_groups_and_consumers() {
    let mut c = with_entries(2);
    let no_key = "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
                  MKSTREAM option to create an empty stream automatically.";
    c.check("XGROUP CREATE none g $", no_key);
    c.check("XGROUP DESTROY none g", no_key);
    c.check("XGROUP CREATE s g 1-0 ENTRIESREAD 1", "OK");
    c.check("XGROUP CREATE s g 1-0", "-BUSYGROUP Consumer Group name already exists");
    c.check("XGROUP CREATE new g $ MKSTREAM ENTRIESREAD -1", "OK");
    c.check("XLEN new", ":0");
    c.check("XGROUP CREATE s h 0 ENTRIESREAD -2", "-ERR value for ENTRIESREAD must be positive or -1");
    c.check("XGROUP CREATE s h + ", "-ERR Invalid stream ID specified as stream command argument");
    c.check(
        "XGROUP CREATE s h 0 FOO",
        "-ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.",
    );
    c.check(
        "XGROUP SETID s g 0 MKSTREAM",
        "-ERR unknown subcommand or wrong number of arguments for 'SETID'. Try XGROUP HELP.",
    );
    c.check("XGROUP SETID s g 0 ENTRIESREAD 1 ENTRIESREAD -3", "-ERR value for ENTRIESREAD must be positive or -1");
    c.check("XGROUP SETID s none 0", "-NOGROUP No such consumer group 'none' for key name 's'");
    c.check("XGROUP SETID s g + ENTRIESREAD 7", "OK");
    c.check("XGROUP SETID s g $", "OK");
    c.check("XGROUP CREATECONSUMER s g alice", ":1");
    c.check("XGROUP CREATECONSUMER s g alice", ":0");
    c.check("XGROUP CREATECONSUMER s none alice", "-NOGROUP No such consumer group 'none' for key name 's'");
    c.check("XGROUP SETID s g 0", "OK");
    c.check("XREADGROUP GROUP g bob STREAMS s >", r#"[["s", [["1-0", ["a", "1"]], ["2-0", ["a", "2"]]]]]"#);
    c.check("XGROUP DELCONSUMER s g bob", ":2");
    c.check("XGROUP DELCONSUMER s g bob", ":0");
    c.check("XPENDING s g", "[:0, nil, nil, nil]");
    c.check("XGROUP DESTROY s g", ":1");
    c.check("XGROUP DESTROY s g", ":0");
    c.check("XGROUP FOO", "-ERR unknown subcommand 'FOO'. Try XGROUP HELP.");
    c.check("XGROUP CREATE s", "-ERR wrong number of arguments for 'xgroup|create' command");
    assert!(
        c.run("XGROUP HELP").starts_with("[XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:, CREATE")
    );
    assert!(c.run("XINFO HELP").ends_with("HELP,     Print this help.]"));
}

#[test]
fn xpending_lists_what_is_due() {
    let mut c = with_entries(3);
    c.check("XGROUP CREATE s g 0", "OK");
    c.check("XPENDING s g", "[:0, nil, nil, nil]");
    c.run("XREADGROUP GROUP g alice COUNT 2 STREAMS s >");
    c.run("XREADGROUP GROUP g bob STREAMS s >");
    c.check("XCLAIM s g alice 0 1-0 TIME 1000 RETRYCOUNT 7 JUSTID", r#"["1-0"]"#);
    assert!(c.run("XPENDING s g - + 10").starts_with(r#"[["1-0", "alice", :1"#));
    c.check("XPENDING s g - + 0", "[]");
    c.check("XPENDING s g - + -1", "[]");
    c.check("XPENDING s g (1 + 10 nobody", "[]");
    c.check("XPENDING s g IDLE 99999999999999 - + 10", "[]");
    c.check("XPENDING s g 5 6 10 alice", "[]");
    c.check("XPENDING s g + - 10 alice", "[]");
    c.check("XPENDING s g - +", "-ERR syntax error");
    c.check("XPENDING s g IDLE 5 - +", "-ERR syntax error");
    c.check("XPENDING s g - + x", "-ERR value is not an integer or out of range");
    c.check("XPENDING s g (18446744073709551615-18446744073709551615 + 1", "-ERR invalid start ID for the interval");
    c.check("XPENDING s none", "-NOGROUP No such key 's' or consumer group 'none'");
    c.check("XPENDING s none - + 1", "-NOGROUP No such key 's' or consumer group 'none'");
}

#[test]
fn xclaim_takes_over() {
    let mut c = with_entries(4);
    c.check("XGROUP CREATE s g 0", "OK");
    c.run("XREADGROUP GROUP g alice COUNT 3 STREAMS s >");
    c.check("XCLAIM s g bob 99999999 1-0", "[]");
    c.check("XCLAIM s g bob 0 1-0 4-0", r#"[["1-0", ["a", "1"]]]"#);
    c.check("XCLAIM s g bob 0 4-0 FORCE JUSTID", r#"["4-0"]"#);
    c.check("XPENDING s g", r#"[:4, "1-0", "4-0", [["alice", "2"], ["bob", "2"]]]"#);
    c.check("XDEL s 2-0", ":1");
    c.check("XCLAIM s g bob 0 2-0 3-0 RETRYCOUNT 5 IDLE 100000", r#"[["3-0", ["a", "3"]]]"#);
    c.check("XPENDING s g", r#"[:3, "1-0", "4-0", [["bob", "3"]]]"#);
    c.check("XCLAIM s g bob 0 9-0 LASTID 9-0", "[]");
    c.check("XCLAIM s g bob x 1-0", "-ERR Invalid min-idle-time argument for XCLAIM");
    c.check("XCLAIM s g bob 0 1-0 IDLE x", "-ERR Invalid IDLE option argument for XCLAIM");
    c.check("XCLAIM s g bob 0 1-0 TIME x", "-ERR Invalid TIME option argument for XCLAIM");
    c.check("XCLAIM s g bob 0 1-0 RETRYCOUNT x", "-ERR Invalid RETRYCOUNT option argument for XCLAIM");
    c.check("XCLAIM s g bob 0 1-0 LASTID x", "-ERR Invalid stream ID specified as stream command argument");
    c.check("XCLAIM s g bob 0 1-0 FOO", "-ERR Unrecognized XCLAIM option 'FOO'");
    c.check("XCLAIM s none bob 0 1-0", "-NOGROUP No such key 's' or consumer group 'none'");
    c.check(
        "XINFO GROUPS s",
        r#"[["name", "g", "consumers", :2, "pending", :3, "last-delivered-id", "9-0", "entries-read", :3, "lag", :1]]"#,
    );
}

#[test]
fn xautoclaim_goes_through_what_is_pending() {
    let mut c = with_entries(5);
    c.check("XGROUP CREATE s g 0", "OK");
    c.run("XREADGROUP GROUP g alice STREAMS s >");
    c.check("XDEL s 2-0", ":1");
    c.check("XAUTOCLAIM s g bob 0 - COUNT 2", r#"["3-0", [["1-0", ["a", "1"]]], ["2-0"]]"#);
    c.check("XAUTOCLAIM s g bob 0 (3-0 COUNT 1 JUSTID", r#"["5-0", ["4-0"], []]"#);
    c.check("XAUTOCLAIM s g bob 0 5-0 JUSTID", r#"["0-0", ["5-0"], []]"#);
    c.check("XAUTOCLAIM s g bob 999999 0", r#"["0-0", [], []]"#);
    c.check("XPENDING s g", r#"[:4, "1-0", "5-0", [["alice", "1"], ["bob", "3"]]]"#);
    c.check("XAUTOCLAIM s g bob x 0", "-ERR Invalid min-idle-time argument for XAUTOCLAIM");
    c.check("XAUTOCLAIM s g bob 0 0 COUNT 0", "-ERR COUNT must be > 0");
    c.check("XAUTOCLAIM s g bob 0 0 COUNT x", "-ERR COUNT must be > 0");
    c.check("XAUTOCLAIM s g bob 0 0 COUNT 9223372036854775807", "-ERR COUNT must be > 0");
    c.check("XAUTOCLAIM s g bob 0 0 FOO", "-ERR syntax error");
    c.check("XAUTOCLAIM none g bob 0 0", "-NOGROUP No such key 'none' or consumer group 'g'");
}

#[test]
fn xinfo_shows_streams_groups_and_consumers() {
    let mut c = with_entries(3);
    c.check("XGROUP CREATE s g 0", "OK");
    c.check("XGROUP CREATE s arbitrary 2-0", "OK");
    c.check("XGROUP CREATECONSUMER s g idle", ":1");
    c.check("XDEL s 2-0", ":1");
    c.check(
        "XINFO GROUPS s",
        r#"[["name", "arbitrary", "consumers", :0, "pending", :0, "last-delivered-id", "2-0", "entries-read", nil, "lag", nil], ["name", "g", "consumers", :1, "pending", :0, "last-delivered-id", "0-0", "entries-read", nil, "lag", nil]]"#,
    );
    c.check("XREADGROUP GROUP g alice COUNT 1 STREAMS s >", r#"[["s", [["1-0", ["a", "1"]]]]]"#);
    c.check("XCLAIM s g alice 0 1-0 TIME 1000 RETRYCOUNT 7 JUSTID", r#"["1-0"]"#);
    let full = c.run("XINFO STREAM s FULL COUNT 1");
    assert!(full.contains(r#""entries", [["1-0", ["a", "1"]]], "groups", [["name", "arbitrary""#), "{full}");
    assert!(
        full.contains(r#""pel-count", :1, "pending", [["1-0", "alice", :1000, :7]], "consumers", [["name", "alice""#)
    );
    assert!(full.contains(r#""active-time", :-1, "pel-count", :0, "pending", []"#), "{full}");
    assert!(c.run("XINFO CONSUMERS s g").contains(r#""name", "idle", "pending", :0, "idle", :"#));
    c.check("XINFO STREAM none", "-ERR no such key");
    c.check("XINFO CONSUMERS s none", "-NOGROUP No such consumer group 'none' for key name 's'");
    c.check("XINFO STREAM s FOO", "-ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.");
    c.check("XINFO STREAM s FULL COUNT x", "-ERR value is not an integer or out of range");
    c.check("XINFO GROUPS", "-ERR wrong number of arguments for 'xinfo|groups' command");
}

/// What Redis 7.2.6 puts into its AOF for the same commands.
#[test]
fn the_log_says_what_was_done() {
    let mut c = Checker::new();
    let log = c.record();
    let steps: &[(&str, &[&str])] = &[
        ("XADD s 1-0 a 1", &["XADD s 1-0 a 1"]),
        ("XADD s 1-* a 2", &["XADD s 1-1 a 2"]),
        ("XADD s MAXLEN ~ 5 2-0 a 3", &["XADD s MAXLEN = 3 2-0 a 3"]),
        ("XADD s MINID ~ 1 3-* a 4", &["XADD s MINID = 1-0 3-0 a 4"]),
        ("XADD s MAXLEN = 4 4-0 a 5", &["XADD s MAXLEN = 4 4-0 a 5"]),
        ("XADD s NOMKSTREAM 5-0 a 6", &["XADD s NOMKSTREAM 5-0 a 6"]),
        ("XGROUP CREATE s g 0", &["XGROUP CREATE s g 0"]),
        (
            "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
            &["XCLAIM s g c 0 1-1 TIME now RETRYCOUNT 1 FORCE JUSTID LASTID 1-1"],
        ),
        ("XREADGROUP GROUP g c STREAMS s 0", &[]),
        (
            "XREADGROUP GROUP g d NOACK COUNT 1 STREAMS s >",
            &["MULTI", "XGROUP CREATECONSUMER s g d", "XGROUP SETID s g 2-0 ENTRIESREAD 3", "EXEC"],
        ),
        (
            "XCLAIM s g e 0 1-1 2-0 TIME 1000 FORCE",
            &[
                "MULTI",
                "XCLAIM s g e 0 1-1 TIME 1000 RETRYCOUNT 3 FORCE JUSTID LASTID 2-0",
                "XCLAIM s g e 0 2-0 TIME 1000 RETRYCOUNT 2 FORCE JUSTID LASTID 2-0",
                "EXEC",
            ],
        ),
        ("XDEL s 1-1", &["XDEL s 1-1"]),
        (
            "XAUTOCLAIM s g f 0 0 COUNT 2",
            &[
                "MULTI",
                "XCLAIM s g e 0 1-1 TIME 1000 RETRYCOUNT 3 FORCE JUSTID LASTID 2-0",
                "XCLAIM s g f 0 2-0 TIME now RETRYCOUNT 3 FORCE JUSTID LASTID 2-0",
                "EXEC",
            ],
        ),
        ("XCLAIM s g f 0 9-9 LASTID 9-9", &["XGROUP SETID s g 9-9 ENTRIESREAD 3"]),
        ("XACK s g 2-0", &["XACK s g 2-0"]),
        ("XACK s g 2-0", &[]),
        ("XTRIM s MAXLEN ~ 100", &[]),
        ("XTRIM s MAXLEN ~ 0", &["XTRIM s MAXLEN = 0"]),
        ("XTRIM s MINID ~ 100", &[]),
        ("XADD s 10-0 a 1", &["XADD s 10-0 a 1"]),
        ("XTRIM s MINID ~ 100", &["XTRIM s MINID = 18446744073709551615-18446744073709551615"]),
        ("XSETID s 100-1", &["XSETID s 100-1"]),
        ("XGROUP DESTROY s g", &["XGROUP DESTROY s g"]),
        ("XGROUP DESTROY s g", &[]),
    ];
    for (command, expected) in steps {
        c.run(command);
        // Times of delivery differ from run to run.
        let is_time = |word: &str| word.len() == 13 && word.bytes().all(|byte| byte.is_ascii_digit());
        let stable = |line: String| {
            let words: Vec<&str> = line.split(' ').map(|word| if is_time(word) { "now" } else { word }).collect();
            words.join(" ")
        };
        assert_eq!(log.take().into_iter().map(stable).collect::<Vec<_>>(), *expected, "{command}");
    }
}

#[test]
fn events_name_what_happened() {
    let mut c = Checker::new();
    c.other("CONFIG SET notify-keyspace-events KEA", "OK");
    c.check("PSUBSCRIBE __keyevent@*", r#"["psubscribe", "__keyevent@*", :1]"#);
    let steps = [
        ("XADD s 1-0 a 1", "xadd"),
        ("XADD s MAXLEN 1 2-0 a 1", "xadd xtrim"),
        ("XGROUP CREATE s g 0", "xgroup-create"),
        ("XREADGROUP GROUP g c STREAMS s >", "xgroup-createconsumer"),
        ("XGROUP CREATECONSUMER s g d", "xgroup-createconsumer"),
        ("XGROUP DELCONSUMER s g d", "xgroup-delconsumer"),
        ("XGROUP SETID s g 0", "xgroup-setid"),
        ("XCLAIM s g e 0 2-0", "xgroup-createconsumer"),
        ("XSETID s 9-0", "xsetid"),
        ("XDEL s 2-0", "xdel"),
        ("XADD s 10-0 a 1", "xadd"),
        ("XTRIM s MAXLEN 0", "xtrim"),
        ("XGROUP DESTROY s g", "xgroup-destroy"),
    ];
    for (command, events) in steps {
        c.run_other(command);
        for event in events.split(' ') {
            c.receive(&format!(r#"["pmessage", "__keyevent@*", "__keyevent@0__:{event}", "s"]"#));
        }
    }
    c.other("CONFIG SET notify-keyspace-events ''", "OK");
}

#[test]
fn errors_quote_bytes_as_they_came() {
    let mut c = Checker::new();
    c.run("XADD x 1-1 a b");
    c.run("XGROUP CREATE x g 0");
    c.check(r#"XGROUP SETID x "\xff" 0"#, r"-NOGROUP No such consumer group '\xff' for key name 'x'");
    c.check(r#"XPENDING x "\xff""#, r"-NOGROUP No such key 'x' or consumer group '\xff'");
    c.check(
        r#"XREADGROUP GROUP "a\x00b" c STREAMS "\xff" >"#,
        r"-NOGROUP No such key '\xff' or consumer group 'a' in XREADGROUP with GROUP option",
    );
    c.check(r#"XCLAIM x g c 0 1-1 "\xff""#, r"-ERR Unrecognized XCLAIM option '\xff'");
}
