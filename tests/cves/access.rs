//! Keys that a user may not reach, whatever the command that names them.

use crate::common::{Client, start};
use redstart::run::start::Running;

/// A client of a new user with these rules, and one that may do everything.
fn limited(running: &Running, rules: &str) -> (Client, Client) {
    let mut all = Client::connect(running);
    assert_eq!(all.run(&format!("ACL SETUSER limited on >secret {rules}")), "+OK");
    let mut limited = Client::connect(running);
    assert_eq!(limited.run("AUTH limited secret"), "+OK");
    (limited, all)
}

#[test]
fn cve_2023_41053_sort_ro_reads_only_what_its_user_may_read() {
    let running = start();
    let (mut limited, mut all) = limited(&running, "+@all ~mine:*");
    all.run("RPUSH mine:list 1 2");
    all.run("MSET other:1 secret other:2 secret");
    all.run("RPUSH other:list 1");
    for command in [
        "SORT_RO other:list",
        "SORT_RO mine:list BY other:*",
        "SORT_RO mine:list GET other:*",
        "SORT_RO mine:list GET mine:* GET other:*",
        "SORT mine:list GET other:*",
        "SORT mine:list STORE other:copy",
        "SORT mine:list STORE mine:copy STORE other:copy",
    ] {
        let reply = limited.run(command);
        assert!(reply.starts_with("-NOPERM") || reply.contains("denied due to insufficient ACL"), "{command}: {reply}");
    }
    assert_eq!(limited.run("SORT_RO mine:list"), "[1 2]");
    assert_eq!(all.run("EXISTS other:copy mine:copy"), ":0");
}

#[test]
fn every_key_of_sort_georadius_and_xread_is_checked() {
    // redis #15478: the check and the command disagreed about which arguments are keys.
    let running = start();
    let (mut limited, mut all) = limited(&running, "+@all ~mine:*");
    all.run("GEOADD mine:places 13.361389 38.115556 Palermo");
    all.run("XADD other:stream 1-1 f v");
    all.run("SET other:key secret");
    for command in [
        "GEORADIUS mine:places 15 37 200 km STORE mine:a STORE other:b",
        "GEORADIUS mine:places 15 37 200 km STORE other:a STORE mine:b",
        "GEORADIUS mine:places 15 37 200 km STORE mine:a STOREDIST other:b",
        "GEORADIUSBYMEMBER mine:places Palermo 200 km STOREDIST mine:a STORE other:b",
        "GEOSEARCHSTORE other:a mine:places FROMLONLAT 15 37 BYRADIUS 200 km",
        "XREAD COUNT 1 STREAMS other:stream 0",
        "XREAD STREAMS mine:streams other:stream 0 0",
        "XREADGROUP GROUP STREAMS STREAMS STREAMS other:stream 0",
        "BITOP NOT other:b mine:a",
        "ZUNIONSTORE mine:a 2 mine:places other:places",
        "ZUNION 1 other:places",
        "LMPOP 2 mine:list other:list LEFT",
        "COPY other:key mine:copy",
        "RENAME mine:places other:places",
        "OBJECT ENCODING other:key",
        "MEMORY USAGE other:key",
        "DUMP other:key",
        "EVAL return 1 other:key",
        "MIGRATE 127.0.0.1 1 other:key 0 10",
        "XINFO STREAM other:stream",
        "PFDEBUG GETREG other:hll",
    ] {
        let reply = limited.run(command);
        assert!(reply.starts_with("-NOPERM") || reply.starts_with("-ERR"), "{command}: {reply}");
    }
    let script = "return redis.call('get', 'other:key')";
    let reply = limited.call(&["EVAL", script, "0"]).to_string();
    assert!(reply.contains("permission") || reply.contains("NOPERM"), "{reply}");
    assert_eq!(all.run("KEYS *other*").matches("other:").count(), 2, "nothing has been made");
}

#[test]
fn broadcasts_name_only_keys_that_their_reader_may_read() {
    // redis #15371
    let running = start();
    let (mut limited, mut all) = limited(&running, "+@all ~mine:* %W~written:*");
    assert!(limited.run("CLIENT ID").starts_with(':'));
    let mut listener = Client::connect(&running);
    let id = listener.run("CLIENT ID");
    assert_eq!(limited.run(&format!("CLIENT TRACKING ON BCAST REDIRECT {}", &id[1..])), "+OK");
    listener.run("SUBSCRIBE __redis__:invalidate");
    for command in ["SET other:key 1", "SET written:key 1", "MSET mine:first 1 other:second 2", "SET mine:last 1"] {
        assert_eq!(all.run(command), "+OK");
    }
    assert_eq!(listener.reply().to_string(), "[message __redis__:invalidate [mine:first]]");
    assert_eq!(listener.reply().to_string(), "[message __redis__:invalidate [mine:last]]");
}
