//! Servers inside a program: several side by side, a clock that the program turns, a seed, an orderly end.

mod common;

use common::{Client, Folder, config, start, start_with, until_blocked};
use redstart::config::Config;
use redstart::run::start::Options;
use redstart::server::Server;
use redstart::util::clock::Clock;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

#[test]
fn servers_in_one_process_do_not_see_each_other() {
    let servers = [start(), start(), start()];
    let mut clients: Vec<Client> = servers.iter().map(Client::connect).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.run("PING"), "+PONG");
        assert_eq!(client.run("EXISTS name"), ":0");
        assert_eq!(client.run(&format!("SET name server-{n}")), "+OK");
        assert_eq!(client.run(&format!("CONFIG SET hz {}", 20 + n)), "+OK");
    }
    assert_eq!(clients[0].run("SUBSCRIBE news"), "[subscribe news :1]");
    assert_eq!(clients[1].run("PUBLISH news hello"), ":0", "the subscriber is another server's");
    let sha = clients[1].call(&["SCRIPT", "LOAD", "return 1"]).text();
    assert_eq!(clients[2].run(&format!("SCRIPT EXISTS {sha}")), "[:0]");
    for (n, client) in clients.iter_mut().enumerate().skip(1) {
        assert_eq!(client.run("GET name"), format!("server-{n}"));
        assert_eq!(client.run("CONFIG GET hz"), format!("[hz {}]", 20 + n));
        assert_eq!(client.run("DBSIZE"), ":1");
    }
    let mut addresses: Vec<_> = servers.iter().map(|running| running.addr().unwrap()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);
}

#[test]
fn a_unix_socket_has_its_permissions_and_goes_with_the_server() {
    let folder = Folder::new("unix");
    let path = folder.0.join("redis.sock");
    let config = Config {
        bind: Vec::new(),
        dir: folder.0.clone(),
        unixsocket: Some("redis.sock".to_owned()),
        unixsocketperm: 0o720,
        ..config()
    };
    let running = start_with(config);
    assert_eq!(running.addr(), None, "it has no TCP address");
    let metadata = path.metadata().unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o720);
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.run("SET key value"), "+OK");
    assert_eq!(Client::connect_unix(&path).run("GET key"), "value");
    running.shutdown();
    assert!(client.is_closed());
    assert!(!path.exists(), "the socket file goes with the server");
}

#[test]
fn shutdown_closes_clients_and_frees_the_port() {
    let running = start();
    let address = running.addr().unwrap();
    let mut idle = Client::connect(&running);
    let mut blocked = Client::connect(&running);
    assert_eq!(idle.run("SET key 1"), "+OK");
    blocked.start("BLPOP nothing 0");
    until_blocked(&running, 1);
    running.shutdown();
    assert!(idle.is_closed());
    assert!(blocked.is_closed());
    drop(TcpListener::bind(address).expect("the port is free"));

    let again = start_with(Config { port: address.port(), ..config() });
    assert_eq!(again.addr(), Some(address));
    assert_eq!(Client::connect(&again).run("GET key"), "nil");
    drop(again);
    drop(TcpListener::bind(address).expect("dropping a server frees its port as well"));
}

#[test]
fn a_port_in_use_is_an_error() {
    let running = start();
    let config = Config { port: running.addr().unwrap().port(), ..config() };
    let error = Server::start(Options { config, ..Options::default() }).expect_err("the port is taken");
    assert!(error.contains("Address already in use"), "{error}");
    assert_eq!(Client::connect(&running).run("PING"), "+PONG");
}

/// 2033-05-18T03:33:20Z.
const NOW_MS: i64 = 2_000_000_000_000;

#[test]
fn time_passes_when_the_program_turns_the_clock() {
    let clock = Clock::stopped_at(NOW_MS);
    let options = Options { config: config(), clock: clock.clone(), ..Options::default() };
    let running = Server::start(options).unwrap();
    let mut client = Client::connect(&running);
    assert_eq!(client.run("TIME"), "[2000000000 0]");

    assert_eq!(client.run("SET session x EX 10"), "+OK");
    assert_eq!(client.run("PTTL session"), ":10000");
    assert_eq!(client.run("EXPIRETIME session"), ":2000000010");
    clock.advance_ms(9_999);
    assert_eq!(client.run("GET session"), "x");
    assert_eq!(client.run("PTTL session"), ":1");
    clock.advance_ms(1);
    assert_eq!(client.run("GET session"), "nil");

    assert_eq!(client.run("XADD log * n 1"), "2000000010000-0");
    assert_eq!(client.run("XADD log * n 2"), "2000000010000-1");
    clock.advance_ms(5);
    assert_eq!(client.run("XADD log * n 3"), "2000000010005-0");
    assert_eq!(client.call(&["EVAL", "return redis.call('time')", "0"]).to_string(), "[2000000010 5000]");
}

#[test]
fn expired_keys_go_without_being_asked_for() {
    let clock = Clock::stopped_at(NOW_MS);
    let options = Options { config: config(), clock: clock.clone(), ..Options::default() };
    let running = Server::start(options).unwrap();
    let mut client = Client::connect(&running);
    for n in 0..200 {
        assert_eq!(client.run(&format!("SET key:{n} x PX {}", 1000 + n)), "+OK");
    }
    assert_eq!(client.run("SET stays x"), "+OK");
    assert_eq!(client.run("DBSIZE"), ":201");
    clock.advance_ms(1099);
    common::until("100 keys are gone", || client.run("DBSIZE") == ":101");
    clock.advance_ms(3_600_000);
    common::until("200 keys are gone", || client.run("DBSIZE") == ":1");
}

#[test]
fn a_blocked_client_waits_for_the_clock() {
    let clock = Clock::stopped_at(NOW_MS);
    let options = Options { config: config(), clock: clock.clone(), ..Options::default() };
    let running = Server::start(options).unwrap();
    let mut popper = Client::connect(&running);
    let mut reader = Client::connect(&running);
    popper.start("BLPOP list 100");
    reader.start("XREAD BLOCK 5000 STREAMS log $");
    until_blocked(&running, 2);
    clock.advance_ms(5_000);
    assert_eq!(reader.reply().to_string(), "nil");
    clock.advance_ms(94_999);
    until_blocked(&running, 1);
    assert_eq!(Client::connect(&running).run("RPUSH list a"), ":1", "one millisecond is left");
    assert_eq!(popper.reply().to_string(), "[list a]");
    popper.start("BLPOP list 0.5");
    until_blocked(&running, 1);
    clock.advance_ms(500);
    assert_eq!(popper.reply().to_string(), "nil");
}

/// What a new server with this seed answers to commands that choose at random.
fn choices(seed: u64) -> Vec<String> {
    let running = Server::start(Options { config: config(), seed: Some(seed), ..Options::default() })
        .expect("a free port on 127.0.0.1");
    let mut client = Client::connect(&running);
    for n in 0..100 {
        assert_eq!(client.run(&format!("SET key:{n} {n}")), "+OK");
    }
    let mut choices: Vec<String> = (0..20).map(|_| client.run("RANDOMKEY")).collect();
    client.run("DEL set");
    for n in 0..200 {
        client.run(&format!("SADD set member:{n}"));
    }
    choices.push(client.run("SRANDMEMBER set 10"));
    choices.push(client.run("SPOP set 10"));
    choices.push(client.run("SCAN 0 COUNT 20"));
    choices
}

#[test]
fn a_seed_makes_chance_repeat() {
    let first = choices(7);
    assert_eq!(first, choices(7));
    assert_ne!(first, choices(8));
}
