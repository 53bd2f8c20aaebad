//! XREAD and XREADGROUP that wait, and what happens to their stream meanwhile: ten reports of 2026 about one server.

use super::{check, refused, server};
use crate::common::{Client, request, until_blocked};
use redstart::run::start::Running;

/// A client that waits with this command.
fn waiting(running: &Running, command: &str) -> Client {
    let mut client = Client::connect(running);
    client.start(command);
    until_blocked(running, 1);
    client
}

/// Garnet has no streams, without which there is no BullMQ, nor XTRIM, FCALL and SCRIPT KILL.
#[test]
fn breakage_04_streams_are_there() {
    let (_running, mut client) = server();
    for n in 1..=20 {
        check(
            &mut client,
            &["XADD", "events", "MAXLEN", "~", "10000", &format!("{n}-0"), "event", "added"],
            &format!("{n}-0"),
        );
    }
    check(&mut client, &["XTRIM", "events", "MAXLEN", "2"], ":18");
    check(&mut client, &["XREAD", "COUNT", "1", "STREAMS", "events", "0"], "[[events [[19-0 [event added]]]]]");
    for command in [
        "xadd",
        "xread",
        "xreadgroup",
        "xautoclaim",
        "xclaim",
        "xack",
        "xpending",
        "xtrim",
        "xdel",
        "xsetid",
        "xinfo|stream",
        "xgroup|create",
        "fcall",
        "script|kill",
    ] {
        let info = client.call(&["COMMAND", "INFO", command]).to_string();
        assert!(info.starts_with(&format!("[[{command} ")), "{command}: {info}");
    }
}

#[test]
fn breakage_10_count_holds_when_a_reader_is_woken() {
    let (running, mut client) = server();
    let mut reader = waiting(&running, "XREAD COUNT 2 BLOCK 0 STREAMS s $");
    check(
        &mut client,
        &["EVAL", "for n = 1, 5 do redis.call('XADD', KEYS[1], n .. '-0', 'n', n) end", "1", "s"],
        "nil",
    );
    assert_eq!(reader.reply().to_string(), "[[s [[1-0 [n 1]] [2-0 [n 2]]]]]");
    check(&mut client, &["XGROUP", "CREATE", "t", "g", "$", "MKSTREAM"], "+OK");
    let mut reader = waiting(&running, "XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS t >");
    check(
        &mut client,
        &["EVAL", "for n = 1, 3 do redis.call('XADD', KEYS[1], n .. '-0', 'n', n) end", "1", "t"],
        "nil",
    );
    assert_eq!(reader.reply().to_string(), "[[t [[1-0 [n 1]]]]]");
    check(&mut client, &["XPENDING", "t", "g"], "[:1 1-0 1-0 [[c 1]]]");
}

#[test]
fn breakage_10_an_id_below_the_one_asked_for_wakes_nobody() {
    let (running, mut client) = server();
    let mut reader = waiting(&running, "XREAD BLOCK 0 STREAMS s 10-0");
    check(&mut client, &["XADD", "s", "5-0", "f", "v"], "5-0");
    check(&mut client, &["XADD", "s", "10-0", "f", "v"], "10-0");
    until_blocked(&running, 1);
    check(&mut client, &["XADD", "s", "10-1", "f", "v"], "10-1");
    assert_eq!(reader.reply().to_string(), "[[s [[10-1 [f v]]]]]");
}

#[test]
fn breakage_10_an_emptied_stream_goes_on_where_it_was() {
    let (running, mut client) = server();
    for empty in [&["XDEL", "s", "1-0"][..], &["XTRIM", "s", "MAXLEN", "0"][..]] {
        check(&mut client, &["FLUSHALL"], "+OK");
        check(&mut client, &["XADD", "s", "1-0", "f", "v"], "1-0");
        let mut reader = waiting(&running, "XREAD BLOCK 0 STREAMS s $");
        check(&mut client, empty, ":1");
        until_blocked(&running, 1);
        refused(&mut client, &["XADD", "s", "1-0", "f", "w"], "ERR The ID specified in XADD is equal or smaller");
        check(&mut client, &["XADD", "s", "2-0", "f", "w"], "2-0");
        assert_eq!(reader.reply().to_string(), "[[s [[2-0 [f w]]]]]");
    }
    let mut reader = waiting(&running, "XREAD BLOCK 0 STREAMS s $");
    check(&mut client, &["XSETID", "s", "50-0"], "+OK");
    check(&mut client, &["XADD", "s", "50-1", "f", "x"], "50-1");
    assert_eq!(reader.reply().to_string(), "[[s [[50-1 [f x]]]]]");
}

/// A group's reader is told when its stream is gone; a plain reader waits on for the next one.
#[test]
fn breakage_10_a_stream_deleted_expired_overwritten_or_flushed() {
    let (running, mut client) = server();
    let gone = [
        (&["DEL", "s"][..], "-NOGROUP"),
        (&["UNLINK", "s"][..], "-NOGROUP"),
        (&["PEXPIRE", "s", "20"][..], "-NOGROUP"),
        (&["FLUSHALL"][..], "-NOGROUP"),
        (&["XGROUP", "DESTROY", "s", "g"][..], "-NOGROUP"),
        (&["RENAME", "s", "r"][..], "-NOGROUP"),
        (&["SET", "s", "x"][..], "-WRONGTYPE"),
    ];
    for (command, error) in gone {
        check(&mut client, &["FLUSHALL"], "+OK");
        check(&mut client, &["XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"], "+OK");
        let mut reader = waiting(&running, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        assert!(!client.call(command).to_string().starts_with('-'));
        let reply = reader.reply().to_string();
        assert!(reply.starts_with(error), "{command:?}: {reply}");
    }
    for command in [&["DEL", "s"][..], &["FLUSHDB"][..], &["PEXPIRE", "s", "1"][..]] {
        check(&mut client, &["FLUSHALL"], "+OK");
        check(&mut client, &["XADD", "s", "7-0", "f", "v"], "7-0");
        let mut reader = waiting(&running, "XREAD BLOCK 0 STREAMS s 7-0");
        assert!(!client.call(command).to_string().starts_with('-'));
        crate::common::until("it is gone", || client.run("EXISTS s") == ":0");
        until_blocked(&running, 1);
        check(&mut client, &["XADD", "s", "8-0", "f", "w"], "8-0");
        assert_eq!(reader.reply().to_string(), "[[s [[8-0 [f w]]]]]", "{command:?}");
    }
}

/// RESP3: a map of streams, also when the reader had to wait, and `_` when nothing came.
#[test]
fn breakage_10_resp3_replies_are_maps_when_they_waited_too() {
    let (running, mut client) = server();
    let mut reader = Client::connect(&running);
    reader.send(&request(&["HELLO", "3"]));
    skip_hello(&mut reader);
    reader.send(&request(&["XREAD", "BLOCK", "1", "STREAMS", "s", "$"]));
    assert_eq!(reader.line(), "_");
    reader.send(&request(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]));
    until_blocked(&running, 1);
    check(&mut client, &["XADD", "s", "1-1", "f", "v"], "1-1");
    let wanted = ["%1", "$1", "s", "*1", "*2", "$3", "1-1", "*2", "$1", "f", "$1", "v"];
    assert_eq!(wanted.map(|_| reader.line()), wanted);
    // At once: the same.
    reader.send(&request(&["XREAD", "BLOCK", "0", "STREAMS", "s", "0"]));
    assert_eq!(wanted.map(|_| reader.line()), wanted);
}

/// HELLO's map ends with the empty array of modules.
fn skip_hello(client: &mut Client) {
    while client.line() != "*0" {}
}
