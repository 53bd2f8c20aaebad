//! Clients that wait: woken in time, served once, gone when they are gone.

use super::{check, refused, server};
use crate::common::{Client, Reply, request, until, until_blocked};
use std::collections::HashSet;
use std::thread;
use std::time::Duration;

/// In Dragonfly a push by a script did not wake the waiting worker, and replies before a blocking command in a pipeline were
/// held back until it ended: 15 to 50 s of latency for n8n and Bull.
#[test]
fn breakage_06_a_push_by_a_script_wakes_and_earlier_replies_are_sent() {
    let (running, mut client) = server();
    let mut waiter = Client::connect(&running);
    let mut pipeline = request(&["SET", "a", "1"]);
    pipeline.extend(request(&["GET", "a"]));
    pipeline.extend(request(&["BRPOPLPUSH", "wait", "active", "0"]));
    pipeline.extend(request(&["GET", "a"]));
    waiter.send(&pipeline);
    assert_eq!(waiter.reply().to_string(), "+OK");
    assert_eq!(waiter.reply().to_string(), "1");
    until_blocked(&running, 1);
    check(
        &mut client,
        &["EVAL", "redis.call('LPUSH', KEYS[1], 'job') return redis.call('LLEN', KEYS[1])", "1", "wait"],
        ":1",
    );
    assert_eq!(waiter.reply().to_string(), "job");
    assert_eq!(waiter.reply().to_string(), "1");
    for push in ["ZADD marker 0 0", "EVAL redis.call('ZADD',KEYS[1],0,'0') 1 marker"] {
        waiter.start("BZPOPMIN marker 0");
        until_blocked(&running, 1);
        assert!(!client.run(push).starts_with('-'));
        assert_eq!(waiter.reply().to_string(), "[marker 0 0]");
    }
}

/// Workers that loop over BRPOPLPUSH lost a reply in Dragonfly: the job lay in the active list and nobody had it.
#[test]
fn breakage_07_looping_brpoplpush_loses_nothing() {
    const JOBS: usize = 3000;
    const WORKERS: usize = 6;
    let (running, mut client) = server();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let mut client = Client::connect(&running);
            thread::spawn(move || {
                let active = format!("active:{worker}");
                let mut got = Vec::new();
                loop {
                    // Short waits: they run out, or are served at that very moment.
                    match client.call(&["BRPOPLPUSH", "wait", &active, "0.002"]) {
                        Reply::Bulk(job) if job == b"stop" => return got,
                        Reply::Bulk(job) => got.push(String::from_utf8(job).expect("a number")),
                        Reply::Null => {}
                        other => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    for job in 0..JOBS {
        client.call(&["LPUSH", "wait", &job.to_string()]);
        if job % 50 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    until("all jobs are taken", || client.run("LLEN wait") == ":0");
    client.call(&[&["LPUSH", "wait"][..], &["stop"; WORKERS][..]].concat());
    let mut seen = HashSet::new();
    for (worker, thread) in workers.into_iter().enumerate() {
        let mut got = thread.join().expect("a worker failed, see above");
        let listed = client.call(&["LRANGE", &format!("active:{worker}"), "1", "-1"]).array();
        got.reverse();
        let listed: Vec<String> = listed.iter().map(Reply::text).collect();
        assert_eq!(listed, got, "what lies in a worker's list is what it was told");
        seen.extend(got);
    }
    assert_eq!(seen.len(), JOBS);
}

/// A client that closed while it waited stayed in Dragonfly's books (CLOSE_WAIT), and took an element with it.
#[test]
fn breakage_08_a_waiting_client_that_closes_is_noticed() {
    let (running, mut client) = server();
    for command in ["BLPOP q 0", "BZPOPMIN q 0", "XREAD BLOCK 0 STREAMS q $", "BRPOPLPUSH q r 0", "WAIT 1 0"] {
        let mut waiter = Client::connect(&running);
        waiter.start(command);
        until_blocked(&running, 1);
        drop(waiter);
        until_blocked(&running, 0);
    }
    let connected =
        |client: &mut Client| client.run("CLIENT LIST").lines().filter(|line| line.starts_with("id=")).count();
    until("their connections are gone", || connected(&mut client) == 1);
    check(&mut client, &["RPUSH", "q", "kept"], ":1");
    check(&mut client, &["LRANGE", "q", "0", "-1"], "[kept]");
}

/// Before Redis 7.0.8 a wait of 1 ms was a wait of 0, which is for ever; Redis 5 and others took whole seconds only.
#[test]
fn breakage_11_a_millisecond_is_not_for_ever() {
    let (running, mut client) = server();
    for command in [
        "BZPOPMIN z 0.001",
        "BZPOPMAX z 0.0004",
        "BLPOP l 0.001",
        "BRPOP l 0.0005",
        "BLMOVE l m LEFT LEFT 0.001",
        "BLMPOP 0.001 1 l LEFT",
        "BZMPOP 0.001 1 z MIN",
        "BRPOPLPUSH l m 0.001",
        "XREAD BLOCK 1 STREAMS s $",
    ] {
        assert_eq!(client.run(command), "nil", "{command}");
    }
    let mut waiter = Client::connect(&running);
    waiter.start("BZPOPMIN z 0");
    until_blocked(&running, 1);
    thread::sleep(Duration::from_millis(50));
    until_blocked(&running, 1);
    check(&mut client, &["ZADD", "z", "1", "a"], ":1");
    assert_eq!(waiter.reply().to_string(), "[z a 1]");
    refused(&mut client, &["BLPOP", "l", "-1"], "ERR timeout is negative");
    refused(&mut client, &["BLPOP", "l", "abc"], "ERR timeout is not a float or out of range");
}

/// Managed services refuse CLIENT, with which BullMQ names its workers and finds them, also while a client waits.
#[test]
fn breakage_13_client_commands_work_while_others_wait() {
    let (running, mut client) = server();
    let mut waiter = Client::connect(&running);
    assert_eq!(waiter.run("CLIENT SETNAME bull:cXVldWU="), "+OK");
    let id = waiter.call(&["CLIENT", "ID"]).integer();
    waiter.start("BZPOPMIN marker 0");
    until_blocked(&running, 1);
    let list = client.call(&["CLIENT", "LIST"]).text();
    let line = list.lines().find(|line| line.contains("name=bull:cXVldWU= ")).expect("it is listed");
    assert!(line.contains(&format!("id={id} ")) && line.contains("cmd=bzpopmin"), "{line}");
    assert!(line.split(' ').all(|pair| pair.contains('=')), "{line}");
    check(&mut client, &["CLIENT", "SETINFO", "LIB-NAME", "ioredis"], "+OK");
    check(&mut client, &["CLIENT", "UNBLOCK", &id.to_string(), "ERROR"], ":1");
    assert_eq!(waiter.reply().to_string(), "-UNBLOCKED client unblocked via CLIENT UNBLOCK");
}

/// Upstash bills every command of workers that poll; a server that lets them wait is asked once in ten seconds.
#[test]
fn breakage_17_idle_workers_wait_instead_of_asking() {
    let (running, mut client) = server();
    let mut waiters: Vec<Client> = (0..10).map(|_| Client::connect(&running)).collect();
    waiters.iter_mut().for_each(|waiter| waiter.start("BZPOPMIN bull:q:marker 0"));
    until_blocked(&running, 10);
    let processed = |client: &mut Client| {
        let info = client.call(&["INFO", "stats"]).text();
        let line = info.lines().find(|line| line.starts_with("total_commands_processed:")).expect("it is there");
        line["total_commands_processed:".len()..].parse::<i64>().expect("a number")
    };
    let before = processed(&mut client);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(processed(&mut client) - before, 1, "only the INFO between");
    // A lock with a time of its own is there until then.
    check(&mut client, &["SET", "bull:q:1:lock", "token", "PX", "30000", "NX"], "+OK");
    check(&mut client, &["GET", "bull:q:1:lock"], "token");
}

/// kombu's use of the server: several lists at once, bindings in sets, unacknowledged messages in a hash and a sorted set.
#[test]
fn breakage_20_kombu_lists_bindings_and_unacknowledged_messages() {
    let (running, mut client) = server();
    let mut worker = Client::connect(&running);
    worker.start("BRPOP celery celery\u{6}\u{16}3 celery\u{6}\u{16}6 celery\u{6}\u{16}9 0");
    until_blocked(&running, 1);
    check(&mut client, &["SADD", "_kombu.binding.celery", "celery\u{6}\u{16}\u{6}\u{16}celery"], ":1");
    check(&mut client, &["LPUSH", "celery\u{6}\u{16}6", "low"], ":1");
    assert_eq!(worker.reply().to_string(), "[celery\u{6}\u{16}6 low]");
    for command in ["MULTI", "ZADD unacked_index 1795400000.25 tag", "HSET unacked tag payload"] {
        assert!(!worker.run(command).starts_with('-'));
    }
    assert_eq!(worker.run("EXEC"), "[:1 :1]");
    // Restored under a lock and WATCH, as after a visibility timeout.
    check(&mut client, &["SET", "unacked_mutex", "me", "NX", "EX", "300"], "+OK");
    check(
        &mut client,
        &["ZREVRANGEBYSCORE", "unacked_index", "1795400001", "0", "WITHSCORES", "LIMIT", "0", "10"],
        "[tag 1795400000.25]",
    );
    check(&mut client, &["WATCH", "unacked"], "+OK");
    check(&mut client, &["HGET", "unacked", "tag"], "payload");
    for command in ["MULTI", "ZREM unacked_index tag", "HDEL unacked tag", "RPUSH celery payload"] {
        assert!(!client.run(command).starts_with('-'));
    }
    assert_eq!(client.run("EXEC"), "[:1 :1 :1]");
    assert_eq!(worker.run("BRPOP celery 0"), "[celery payload]");
}
