//! The memory of connections: what CLIENT LIST shows of it, `maxmemory-clients`, buffers given back.

mod common;

use common::{Client, config, request, start, start_with, until};
use redstart::clients::Client as Connected;
use redstart::config::Config;
use redstart::run::start::Running;

/// A field of a client's line in CLIENT LIST; None when there is no such client.
fn field(admin: &mut Client, client: &str, field: &str) -> Option<String> {
    let list = admin.run("CLIENT LIST");
    let wanted = format!(" name={client} ");
    let line = list.lines().find(|line| line.contains(&wanted))?;
    let prefix = format!("{field}=");
    line.split(' ').find_map(|word| word.strip_prefix(&prefix)).map(str::to_owned)
}

fn number(admin: &mut Client, client: &str, name: &str) -> usize {
    let value = field(admin, client, name).unwrap_or_else(|| panic!("{client} has a field {name}"));
    value.parse().expect("a number")
}

fn named(running: &Running, name: &str) -> Client {
    let mut client = Client::connect(running);
    assert_eq!(client.run(&format!("CLIENT SETNAME {name}")), "+OK");
    client
}

fn evicted(running: &Running) -> u64 {
    running.server.stats.evicted_clients.load(std::sync::atomic::Ordering::Relaxed)
}

/// Sends the beginning of a command with a long argument, without its end.
fn send_part(client: &mut Client, bytes: usize) {
    client.send(format!("*1\r\n${bytes}\r\n{}", "v".repeat(bytes)).as_bytes());
}

#[test]
fn figures_of_a_client_are_its_own() {
    let running = start();
    let (mut admin, mut client) = (named(&running, "admin"), named(&running, "it"));
    until("it rests", || number(&mut admin, "it", "tot-mem") < 3000);
    let idle = number(&mut admin, "it", "tot-mem");
    assert!((500..3000).contains(&idle), "{idle}");
    for (name, value) in [("qbuf", 0), ("argv-mem", 0), ("multi-mem", 0), ("obl", 0), ("omem", 0), ("rbs", 1024)] {
        assert_eq!(number(&mut admin, "it", name), value, "{name}");
    }
    // As they are sent: the request, and the lengths of its arguments.
    assert_eq!((number(&mut admin, "admin", "qbuf"), number(&mut admin, "admin", "argv-mem")), (26, 10));
    client.run("MULTI");
    client.run("SET key 12345");
    client.run("GET key");
    assert_eq!((number(&mut admin, "it", "multi-mem"), number(&mut admin, "it", "multi")), (17, 2));
    let queue = 17 + 2 * Connected::QUEUED_BYTES + 5 * Connected::ARG_BYTES;
    until("the queue is counted", || number(&mut admin, "it", "tot-mem") == idle + queue);
    client.run("DISCARD");
    client.run("WATCH a b");
    assert_eq!(client.run("PSUBSCRIBE p*"), "[psubscribe p* :1]");
    let kept = 4 + 3 * Connected::KEPT_BYTES;
    until("keys and names are counted", || number(&mut admin, "it", "tot-mem") == idle + kept);
    client.run("PUNSUBSCRIBE");
    client.run("UNWATCH");
    until("nothing is kept", || number(&mut admin, "it", "tot-mem") == idle);
    // Names of any length are its memory, too.
    let (long, name) = ("l".repeat(5000), "CLIENT SETINFO LIB-NAME");
    assert_eq!(client.run(&format!("{name} {long}")), "+OK");
    until("the name is counted", || (5000..5100).contains(&(number(&mut admin, "it", "tot-mem") - idle)));
    assert_eq!(client.run(&format!("{name} l")), "+OK");
    until("the old one is not", || number(&mut admin, "it", "tot-mem") == idle + 1);
}

/// What was counted twice: an unfinished request whose first arguments have come.
#[test]
fn an_unfinished_request_is_counted_once() {
    let running = start();
    let (mut admin, mut client) = (named(&running, "admin"), named(&running, "it"));
    client.send(format!("*3\r\n$4\r\nECHO\r\n$600000\r\n{}\r\n$600000\r\n", "v".repeat(600_000)).as_bytes());
    until("all has come", || number(&mut admin, "it", "qbuf") + number(&mut admin, "it", "argv-mem") >= 600_000);
    until("it is counted", || number(&mut admin, "it", "tot-mem") > 600_000);
    let total = number(&mut admin, "it", "tot-mem");
    assert!(total < 1_300_000, "{total} with room for the other half");
}

#[test]
fn redirections_and_waits_are_shown() {
    let running = start();
    let (mut admin, mut client) = (named(&running, "admin"), named(&running, "it"));
    assert_eq!(field(&mut admin, "it", "redir").as_deref(), Some("-1"));
    let target = admin.run("CLIENT ID");
    assert_eq!(client.run(&format!("CLIENT TRACKING ON BCAST REDIRECT {}", &target[1..])), "+OK");
    assert_eq!(field(&mut admin, "it", "redir").as_deref(), Some(&target[1..]));
    assert_eq!(field(&mut admin, "it", "flags").as_deref(), Some("tB"));
    client.start("BLPOP list 0");
    common::until_blocked(&running, 1);
    assert_eq!(number(&mut admin, "it", "argv-mem"), 10);
    assert_eq!(field(&mut admin, "it", "flags").as_deref(), Some("btB"));
    admin.run("RPUSH list x");
    client.reply();
    assert_eq!(number(&mut admin, "it", "argv-mem"), 0);
}

#[test]
fn an_argument_on_its_way_is_counted_and_its_room_given_back() {
    let running = start();
    let (mut admin, mut client) = (named(&running, "admin"), named(&running, "it"));
    send_part(&mut client, 1_000_000);
    until("all has come", || number(&mut admin, "it", "qbuf") == 1_000_000);
    until("it is counted", || (1_000_000..1_020_000).contains(&number(&mut admin, "it", "tot-mem")));
    until("it has been seen", || {
        let info = admin.call(&["INFO", "clients"]).text();
        let line = info.lines().find_map(|line| line.strip_prefix("client_recent_max_input_buffer:"));
        line.is_some_and(|bytes| bytes.parse::<usize>().expect("a number") >= 1_000_000)
    });
    client.send(b"\r\n");
    assert!(client.line().starts_with("-ERR unknown command"));
    until("the room is given back", || number(&mut admin, "it", "tot-mem") < 5000);
    assert_eq!(number(&mut admin, "it", "qbuf"), 0);
}

#[test]
fn the_largest_go_first_and_some_are_spared() {
    let running = start();
    let mut admin = named(&running, "admin");
    let sizes = [3_000_000, 1_000_000, 300_000, 100_000];
    let mut clients: Vec<Client> = sizes.iter().map(|size| named(&running, &format!("c{size}"))).collect();
    assert_eq!(clients[1].run("CLIENT NO-EVICT ON"), "+OK");
    for (client, size) in clients.iter_mut().zip(sizes) {
        send_part(client, size);
        until("it is counted", || number(&mut admin, &format!("c{size}"), "tot-mem") > size);
    }
    let left = |admin: &mut Client| sizes.map(|size| field(admin, &format!("c{size}"), "id").is_some());
    assert_eq!(left(&mut admin), [true; 4]);
    assert_eq!(admin.run("CONFIG SET maxmemory-clients 4300000"), "+OK");
    assert_eq!((left(&mut admin), evicted(&running)), ([false, true, true, true], 1));
    assert!(clients[0].is_closed());
    assert_eq!(admin.run("CONFIG SET maxmemory-clients 1200000"), "+OK");
    assert_eq!((left(&mut admin), evicted(&running)), ([false, true, false, true], 2));
    let info = admin.call(&["INFO", "stats"]).text();
    assert!(info.contains("\r\nevicted_clients:2\r\n"), "{info}");
    // A share of maxmemory; without maxmemory there is no limit.
    assert_eq!(admin.run("CONFIG SET maxmemory-clients 1%"), "+OK");
    assert_eq!(left(&mut admin), [false, true, false, true]);
    assert_eq!(admin.run("CLIENT NO-EVICT ON"), "+OK");
    assert_eq!(admin.run("CONFIG SET maxmemory 105000000"), "+OK");
    assert_eq!(left(&mut admin), [false, true, false, false]);
}

/// CVE-2026-23479 of Redis: a client closed for its memory while it was blocked was used afterwards.
#[test]
fn whoever_is_evicted_while_waiting_is_gone() {
    let running = start();
    let mut admin = named(&running, "admin");
    let mut waiting: Vec<Client> = (0..8).map(|n| named(&running, &format!("w{n}"))).collect();
    for client in &mut waiting {
        let long = "x".repeat(50_000);
        client.send(&request(&["BLPOP", "list", &long, "0"]));
    }
    common::until_blocked(&running, 8);
    assert_eq!(admin.run("CLIENT NO-EVICT ON"), "+OK");
    assert_eq!(admin.run("CONFIG SET maxmemory-clients 100000"), "+OK");
    until("most are gone", || admin.run("CLIENT LIST").lines().filter(|line| line.contains(" name=w")).count() <= 1);
    until("nobody else waits", || running.server.waits.blocked_clients.load(std::sync::atomic::Ordering::Relaxed) <= 1);
    assert_eq!(admin.run("RPUSH list a b c"), ":3");
    let left: i64 = admin.run("LLEN list")[1..].parse().expect("a number");
    assert!(left >= 2, "{left} of 3 elements are left after at most one waiter");
    assert_eq!(admin.run("PING"), "+PONG");
}

#[test]
fn replies_that_nobody_reads_cost_the_connection() {
    let running = start_with(Config { maxmemory_clients: 3_000_000, ..config() });
    let mut admin = named(&running, "admin");
    admin.run("SETRANGE k 200000 v");
    let mut deaf = named(&running, "deaf");
    let mut sent = 0;
    while field(&mut admin, "deaf", "id").is_some() {
        let before = number(&mut admin, "admin", "tot-mem");
        assert!(before < 100_000, "the admin is small: {before}");
        let _ = deaf.try_send(&request(&["GET", "k"]));
        sent += 1;
        assert!(sent < 500, "100 MB are kept for it");
    }
    assert_eq!(evicted(&running), 1);
    // One command whose reply is more than everybody may have together.
    let mut greedy = named(&running, "greedy");
    admin.run("SETRANGE k 5000000 v");
    greedy.send(&request(&["GET", "k"]).repeat(4));
    assert!(greedy.is_closed());
    assert!(running.server.clients.memory() < 100_000, "{}", running.server.clients.memory());
}

#[test]
fn the_sum_is_that_of_all() {
    let running = start();
    let mut admin = named(&running, "admin");
    let sum = |admin: &mut Client| {
        let list = admin.run("CLIENT LIST");
        let fields = list.split([' ', '\n']).filter_map(|word| word.strip_prefix("tot-mem="));
        fields.map(|bytes| bytes.parse::<usize>().expect("a number")).sum::<usize>()
    };
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&running)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.run("PING");
        if n % 2 == 0 {
            send_part(client, 10_000 * n);
        }
    }
    until("the figures agree", || sum(&mut admin) == running.server.clients.memory());
    drop(clients);
    until("they are gone", || admin.run("CLIENT LIST").lines().filter(|line| line.starts_with("id=")).count() <= 1);
    assert_eq!(sum(&mut admin), running.server.clients.memory());
    let memory = admin.call(&["INFO", "memory"]).text();
    let normal = memory.lines().find_map(|line| line.strip_prefix("mem_clients_normal:")).expect("it is there");
    assert_eq!(normal.parse::<usize>().expect("a number"), running.server.clients.memory());
}
