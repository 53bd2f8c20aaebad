//! What is promised to be on disk: WAITAOF.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Folder, config, start_with, until_blocked};
use redstart::config::{AppendFsync, Config};
use redstart::server::Server;
use redstart::startup::{Options, Running};

/// A server that logs into `folder`.
fn logging(folder: &Folder, appendfsync: AppendFsync) -> Running {
    let config = Config { dir: folder.0.clone(), appendonly: true, appendfsync, ..config() };
    Server::start(Options { config, load: true, ..Options::default() }).unwrap()
}

#[test]
fn waitaof_tells_what_is_on_disk() {
    for (fsync, is_synced) in [(AppendFsync::Always, true), (AppendFsync::EverySec, true), (AppendFsync::No, false)] {
        let folder = Folder::new("waitaof");
        let running = logging(&folder, fsync);
        let mut client = Client::connect(&running);
        assert_eq!(client.run("WAITAOF 1 0 0"), "[:1 :0]", "{fsync:?}: nothing was written");
        assert_eq!(client.run("SET k v"), "+OK");
        // Replicas never come, so this waits to the end.
        let local = if is_synced { ":1" } else { ":0" };
        assert_eq!(client.run("WAITAOF 1 1 2000"), format!("[{local} :0]"), "{fsync:?}");
        assert_eq!(client.run("WAITAOF 1 0 100"), format!("[{local} :0]"), "{fsync:?}");
        assert_eq!(client.run("WAITAOF 0 0 0"), format!("[{local} :0]"), "{fsync:?}");
    }
}

/// Writes by every way a client has: each has to be seen, on disk or not.
fn check_means(fsync: AppendFsync, waits_ms: &str, then: &str) {
    let folder = Folder::new("waitaof-means");
    let running = logging(&folder, fsync);
    let wait = format!("WAITAOF 1 0 {waits_ms}");
    let mut client = Client::connect(&running);
    let mut other = Client::connect(&running);
    for write in ["RPUSH l a", "EVAL return{redis.call('INCR','n')} 0", "LPOP l"] {
        client.run(write);
        assert_eq!(client.run(&wait), then, "{fsync:?} {write}");
    }
    client.run("MULTI");
    client.run("INCR n");
    client.run("WAITAOF 1 0 0");
    assert_eq!(client.run("EXEC"), format!("[:2 {then}]"), "it tells at once of what came before");
    assert_eq!(client.run(&wait), then);
    // Somebody else finishes what this client has begun.
    let mut blocked = Client::connect(&running);
    blocked.start("BLPOP l 0");
    until_blocked(&running, 1);
    other.run("RPUSH l x");
    assert_eq!(blocked.reply().to_string(), "[l x]");
    assert_eq!(blocked.run(&wait), then);
}

#[test]
fn waitaof_waits_for_what_the_client_wrote_by_any_means() {
    check_means(AppendFsync::EverySec, "0", "[:1 :0]");
    check_means(AppendFsync::No, "50", "[:0 :0]");
}

#[test]
fn waitaof_ends_with_the_log() {
    let folder = Folder::new("waitaof-off");
    let running = logging(&folder, AppendFsync::No);
    let (mut client, mut other) = (Client::connect(&running), Client::connect(&running));
    client.run("SET k v");
    client.start("WAITAOF 1 0 0");
    until_blocked(&running, 1);
    assert_eq!(other.run("CONFIG SET appendonly no"), "+OK");
    let off = "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(client.reply().to_string(), off);
    assert_eq!(client.run("WAITAOF 1 0 0"), off);
    // Switched on again, what was written before is in the base.
    assert_eq!(other.run("CONFIG SET appendonly yes"), "+OK");
    assert_eq!(client.run("WAITAOF 1 0 0"), "[:1 :0]");
}

#[test]
fn waitaof_without_a_log() {
    let running = start_with(config());
    let mut client = Client::connect(&running);
    client.run("SET k v");
    assert_eq!(client.run("WAITAOF 0 0 0"), "[:0 :0]");
    assert_eq!(client.run("WAITAOF 0 1 1"), "[:0 :0]");
}
