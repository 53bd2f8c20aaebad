//! Replicas that follow a server, over TCP: what they are sent, byte by byte, and what is told of them. The follower
//! here is a bare client; `conformance/replication` has real Redis servers follow.

mod common;

use common::{Client, config, start_with, until};
use redstart::config::{Config, OutputLimit, ProtectedAction};
use redstart::run::start::Running;

/// A server whose replicas are served at once and never pinged.
fn start() -> Running {
    start_with(Config {
        repl_ping_replica_period: 3600,
        repl_diskless_sync_delay: 0,
        enable_debug_command: ProtectedAction::Local,
        ..config()
    })
}

/// Follows by SYNC: the data set it gets.
fn follow(running: &Running) -> (Client, Vec<u8>) {
    let mut follower = Client::connect(running);
    follower.send(b"SYNC\r\n");
    let data = read_data(&mut follower);
    (follower, data)
}

/// Reads the data set behind its length; newlines before it are signs of life.
fn read_data(follower: &mut Client) -> Vec<u8> {
    let head = loop {
        let line = follower.line();
        if !line.is_empty() {
            break line;
        }
    };
    let len = head.strip_prefix('$').and_then(|len| len.parse().ok()).expect("a length");
    follower.bytes(len)
}

/// The next commands of the stream, as replies are displayed.
fn stream(follower: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| follower.reply().to_string()).collect()
}

fn field(client: &mut Client, section: &str, name: &str) -> String {
    let info = client.call(&["INFO", section]).text();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name} in {info}"))
}

#[test]
fn the_stream_follows_the_data_set() {
    let running = start();
    let mut client = Client::connect(&running);
    client.run("SET before 1");
    let (mut follower, data) = follow(&running);
    assert!(data.starts_with(b"REDIS0011"), "it is an RDB file");
    assert!(data.windows(6).any(|window| window == b"before"), "with the key");
    client.run("SET k v");
    client.run("INCR n");
    client.run("GET n");
    client.run("SELECT 3");
    client.run("LPUSH l a");
    client.run("PUBLISH channel message");
    assert_eq!(
        stream(&mut follower, 6),
        ["[SELECT 0]", "[SET k v]", "[INCR n]", "[SELECT 3]", "[LPUSH l a]", "[PUBLISH channel message]"]
    );
    for command in ["MULTI", "SET a 1", "SELECT 4", "SET b 2", "PUBLISH c m", "EXEC"] {
        client.run(command);
    }
    assert_eq!(
        stream(&mut follower, 6),
        ["[MULTI]", "[SET a 1]", "[SELECT 4]", "[SET b 2]", "[PUBLISH c m]", "[EXEC]"]
    );
    client.call(&["EVAL", "redis.call('incr', 'n'); redis.set_repl(redis.REPL_AOF); redis.call('incr', 'n')", "0"]);
    client.call(&["EVAL", "redis.set_repl(redis.REPL_REPLICA); redis.call('incr', 'n')", "0"]);
    client.run("SADD s m");
    client.run("SPOP s 1");
    client.run("SET k v EX 100");
    let last = stream(&mut follower, 6);
    assert_eq!(last[..4], ["[MULTI]", "[incr n]", "[EXEC]", "[incr n]"]);
    assert_eq!(last[4..], ["[SADD s m]", "[DEL s]"]);
    assert!(follower.reply().to_string().starts_with("[SET k v PXAT "));
    client.run("SET k v pxat 9999999999999");
    client.run("DEBUG REPLICATE fake command");
    assert_eq!(stream(&mut follower, 2), ["[SET k v pxat 9999999999999]", "[fake command]"]);
}

#[test]
fn a_replica_goes_on_where_it_was() {
    let running = start();
    let mut client = Client::connect(&running);
    let mut follower = Client::connect(&running);
    assert_eq!(follower.run("REPLCONF listening-port 7777 capa psync2"), "+OK");
    follower.send(b"PSYNC ? -1\r\n");
    let answer = follower.line();
    let words: Vec<&str> = answer.split(' ').collect();
    assert_eq!((words[0], words[2]), ("+FULLRESYNC", "0"));
    let id = words[1].to_owned();
    read_data(&mut follower);
    until("it is online", || field(&mut client, "replication", "slave0").contains("state=online"));
    client.run("SET a 1");
    assert_eq!(stream(&mut follower, 2), ["[SELECT 0]", "[SET a 1]"]);
    let offset: u64 = field(&mut client, "replication", "master_repl_offset").parse().unwrap();
    assert_eq!(offset, 23 + 27, "the bytes of two commands");
    follower.send(format!("REPLCONF ACK {offset}\r\n").as_bytes());
    let line = format!("ip=127.0.0.1,port=7777,state=online,offset={offset},lag=");
    until("it has told", || field(&mut client, "replication", "slave0").starts_with(&line));
    assert_eq!(client.run("ROLE"), format!("[master :{offset} [[127.0.0.1 7777 {offset}]]]"));
    assert!(client.run("CLIENT LIST TYPE replica").contains(" flags=S "));
    drop(follower);
    until("it is gone", || field(&mut client, "replication", "connected_slaves") == "0");
    client.run("SET b 2");
    let mut follower = Client::connect(&running);
    follower.run("REPLCONF capa psync2");
    follower.send(format!("PSYNC {id} {}\r\n", offset + 1).as_bytes());
    assert_eq!(follower.line(), format!("+CONTINUE {id}"));
    client.run("SET c 3");
    assert_eq!(stream(&mut follower, 2), ["[SET b 2]", "[SET c 3]"]);
    // Another history, and bytes that are not there yet, cost the whole data set.
    for known in [format!("{} 1", "a".repeat(40)), format!("{id} 1000")] {
        let mut other = Client::connect(&running);
        other.send(format!("PSYNC {known}\r\n").as_bytes());
        let answer = other.line();
        assert!(answer.starts_with(&format!("+FULLRESYNC {id} ")), "{known}: {answer}");
    }
    assert_eq!(field(&mut client, "stats", "sync_full"), "3");
    assert_eq!(field(&mut client, "stats", "sync_partial_ok"), "1");
    assert_eq!(field(&mut client, "stats", "sync_partial_err"), "2");
}

#[test]
fn an_end_mark_and_a_first_acknowledgement() {
    let running = start();
    let mut client = Client::connect(&running);
    client.run("SET k v");
    let mut follower = Client::connect(&running);
    follower.run("REPLCONF capa eof capa psync2");
    follower.send(b"PSYNC ? -1\r\n");
    assert!(follower.line().starts_with("+FULLRESYNC "));
    let head = follower.line();
    let mark = head.strip_prefix("$EOF:").expect("a mark").to_owned();
    assert_eq!(mark.len(), 40);
    let mut data = follower.bytes(9);
    while !data.ends_with(mark.as_bytes()) {
        data.extend(follower.bytes(1));
    }
    client.run("SET k w");
    // Nothing of the stream may follow the mark before the replica has shown that it has seen it.
    until("it is online", || field(&mut client, "replication", "slave0").contains("state=online"));
    follower.send(b"REPLCONF ACK 0\r\n");
    assert_eq!(stream(&mut follower, 2), ["[SELECT 0]", "[SET k w]"]);
    // An rdb-only replica is left alone with its data set.
    let mut copier = Client::connect(&running);
    copier.run("REPLCONF rdb-only 1 rdb-filter-only functions capa eof");
    copier.send(b"SYNC\r\n");
    assert!(copier.line().starts_with("$EOF:"));
    assert!(copier.is_closed());
}

#[test]
fn writes_wait_for_replicas() {
    let running = start();
    let mut client = Client::connect(&running);
    assert_eq!(client.run("WAIT 0 0"), ":0");
    assert_eq!(client.run("WAIT 1 20"), ":0");
    assert_eq!(client.run("CONFIG SET min-replicas-to-write 1"), "+OK");
    assert_eq!(client.run("SET k v"), "-NOREPLICAS Not enough good replicas to write.");
    let (mut follower, _) = follow(&running);
    until("it is a good one", || field(&mut client, "replication", "min_slaves_good_slaves") == "1");
    assert_eq!(client.run("SET k v"), "+OK");
    assert_eq!(stream(&mut follower, 2), ["[SELECT 0]", "[SET k v]"]);
    let offset = field(&mut client, "replication", "master_repl_offset");
    client.start("WAIT 1 0");
    assert_eq!(stream(&mut follower, 1), ["[REPLCONF GETACK *]"]);
    follower.send(format!("REPLCONF ACK {offset}\r\n").as_bytes());
    assert_eq!(client.reply().to_string(), ":1");
    assert_eq!(client.run("WAIT 1 0"), ":1");
    assert_eq!(client.run("WAIT 2 20"), ":1");
    assert_eq!(client.run("WAITAOF 0 1 20"), "[:0 :0]");
    follower.send(format!("REPLCONF ACK {offset} FACK {offset}\r\n").as_bytes());
    until("it is on its disk", || client.run("WAITAOF 0 1 20") == "[:0 :1]");
    // In a transaction nobody waits.
    client.run("MULTI");
    client.run("INCR n");
    client.run("WAIT 1 0");
    assert_eq!(client.run("EXEC"), "[:1 :1]");
    drop(follower);
    until("it is gone", || field(&mut client, "replication", "min_slaves_good_slaves") == "0");
    assert_eq!(client.run("SET k w"), "-NOREPLICAS Not enough good replicas to write.");
}

#[test]
fn the_end_waits_for_replicas() {
    let running = start();
    let (mut client, mut other) = (Client::connect(&running), Client::connect(&running));
    let mut follower = Client::connect(&running);
    follower.send(b"PSYNC ? -1\r\n");
    follower.line();
    read_data(&mut follower);
    client.run("SET k v");
    assert_eq!(other.run("SHUTDOWN ABORT"), "-ERR No shutdown in progress.");
    client.start("SHUTDOWN NOSAVE");
    until("it waits", || other.run("SHUTDOWN ABORT") == "+OK");
    assert_eq!(client.reply().to_string(), "-ERR Errors trying to SHUTDOWN. Check logs.");
    assert_eq!(other.run("SET k w"), "+OK");
    client.start("SHUTDOWN NOSAVE");
    until("it waits", || running.server.pause.until_ms(running.server.clock.now_ms()).is_some());
    assert_eq!(other.run("GET k"), "w");
    other.start("SET k x");
    let offset = running.server.replication.stream.end();
    follower.send(format!("REPLCONF ACK {offset}\r\n").as_bytes());
    assert!(client.is_closed() && other.is_closed());
    assert_eq!(running.server.replication.stream.end(), offset, "nothing was written");
    assert!(running.wait());
}

#[test]
fn a_replica_that_answers_or_does_not_read_is_closed() {
    let mut limits = config().client_output_buffer_limit;
    limits[1] = OutputLimit { hard_bytes: 1 << 20, soft_bytes: 0, soft_seconds: 0 };
    let running = start_with(Config {
        repl_diskless_sync_delay: 0,
        repl_backlog_size: 16 * 1024,
        client_output_buffer_limit: limits,
        ..config()
    });
    let mut client = Client::connect(&running);
    let (mut follower, _) = follow(&running);
    follower.send(b"PING\r\n");
    assert!(follower.is_closed());
    let (mut follower, _) = follow(&running);
    let value = "x".repeat(256 * 1024);
    // The kernel's buffers take some of it.
    for _ in 0..200 {
        client.call(&["SET", "k", &value]);
        if field(&mut client, "replication", "connected_slaves") == "0" {
            break;
        }
    }
    until("it is closed", || field(&mut client, "replication", "connected_slaves") == "0");
    let held: u64 = field(&mut client, "memory", "mem_total_replication_buffers").parse().unwrap();
    assert!(held < 1 << 20, "what nobody needs is not kept: {held}");
    assert!(follower.is_closed());
    let mut late = Client::connect(&running);
    late.send(b"PING\r\nSYNC\r\n");
    assert_eq!(late.line(), "+PONG");
    assert_eq!(late.line(), "-ERR SYNC and PSYNC are invalid with pending output");
}
