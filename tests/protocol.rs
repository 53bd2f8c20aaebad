//! What a connection does with bytes, well-formed and not, and the limits that end it.

mod common;

use common::{Client, Reply, config, request, start, start_with, until, until_blocked};
use redstart::config::{Config, OutputLimit};
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use redstart::util::clock::Clock;
use std::sync::atomic::Ordering;

/// A server whose clients must authenticate.
fn start_with_password() -> Running {
    start_with(Config { requirepass: Some(b"secret".to_vec()), ..config() })
}

/// Sends `bytes` on a connection of its own; the last line before the server closes it.
fn refused(running: &Running, bytes: &[u8]) -> String {
    let mut client = Client::connect(running);
    client.send(bytes);
    let line = client.line();
    assert!(client.is_closed(), "after {line}");
    line
}

#[test]
fn before_authentication_requests_are_small() {
    let running = start_with_password();
    let long = "x".repeat(16 * 1024);
    let mut client = Client::connect(&running);
    assert_eq!(client.run("GET a"), "-NOAUTH Authentication required.");
    assert_eq!(client.run("MSET 1 2 3 4 5 6 7 8 9"), "-NOAUTH Authentication required.", "10 are allowed");
    assert_eq!(client.run(&format!("GET {long}")), "-NOAUTH Authentication required.", "16 KiB are allowed");
    assert_eq!(refused(&running, b"*11\r\n"), "-ERR Protocol error: unauthenticated multibulk length");
    assert_eq!(refused(&running, b"*2\r\n$3\r\nGET\r\n$16385\r\n"), "-ERR Protocol error: unauthenticated bulk length");

    // What follows AUTH in the same pipeline is read with the limits of a known client.
    let mut pipeline = request(&["AUTH", "secret"]);
    pipeline.extend(request(&["DEL", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]));
    pipeline.extend(request(&["SET", "long", &format!("{long}{long}")]));
    client.send(&pipeline);
    assert_eq!(client.reply().to_string(), "+OK");
    assert_eq!(client.reply().to_string(), ":0");
    assert_eq!(client.reply().to_string(), "+OK");
}

#[test]
fn a_protocol_error_is_said_and_ends_the_connection() {
    let running = start();
    let cases: [(&[u8], &str); 9] = [
        (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
        (b"*abc\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$4 \r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"SET key \"value\r\n", "unbalanced quotes in request"),
        (b"SET key \"value\"tail\r\n", "unbalanced quotes in request"),
        (b"GET 'a\r\n", "unbalanced quotes in request"),
    ];
    for (bytes, text) in cases {
        let said = refused(&running, bytes);
        assert_eq!(said, format!("-ERR Protocol error: {text}"), "{}", String::from_utf8_lossy(bytes));
    }
    // Exactly one byte too many: with bytes left to read, closing would reset the connection.
    let endless = [b'a'; 64 * 1024 + 1];
    assert_eq!(refused(&running, &endless), "-ERR Protocol error: too big inline request");
    let mut header = endless;
    header[0] = b'*';
    assert_eq!(refused(&running, &header), "-ERR Protocol error: too big mbulk count string");
    let mut bulk = vec![b'1'; 64 * 1024 + 5];
    bulk[..5].copy_from_slice(b"*1\r\n$");
    assert_eq!(refused(&running, &bulk), "-ERR Protocol error: too big bulk count string");
}

#[test]
fn commands_before_a_protocol_error_are_answered() {
    let running = start();
    let mut client = Client::connect(&running);
    let mut bytes = request(&["SET", "key", "1"]);
    bytes.extend(request(&["INCR", "key"]));
    bytes.extend(b"*1\r\n!\r\n");
    bytes.extend(request(&["INCR", "key"]));
    client.send(&bytes);
    assert_eq!(client.reply().to_string(), "+OK");
    assert_eq!(client.reply().to_string(), ":2");
    assert_eq!(client.reply().to_string(), "-ERR Protocol error: expected '$', got '!'");
    assert!(client.is_closed());
    assert_eq!(Client::connect(&running).run("GET key"), "2", "nothing behind the error is run");
}

#[test]
fn inline_commands() {
    let running = start();
    let mut client = Client::connect(&running);
    client.send(
        b"PING\r\nPING\n\r\n*0\r\n*-1\r\n  SET   key  \"a b\\x41\\n\"  \r\nGET key\r\nset key 'it\\'s'\r\nGET key\n",
    );
    for reply in ["+PONG", "+PONG", "+OK", "a bA\n", "+OK", "it's"] {
        assert_eq!(client.reply().to_string(), reply);
    }
    client.send(b"INCR n\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\nINCR n\r\n");
    for n in 1..=3 {
        assert_eq!(client.reply().integer(), n);
    }
}

#[test]
fn a_pipeline_may_be_cut_at_every_byte() {
    let running = start();
    let mut pipeline = request(&["SET", "key", "some\r\nvalue"]);
    pipeline.extend(b"APPEND key \"!\"\r\n");
    pipeline.extend(request(&["GET", "key"]));
    pipeline.extend(b"*0\r\n");
    pipeline.extend(request(&["MGET", "key", "", "nothing"]));
    let expected = ["+OK", ":12", "some\r\nvalue!", "[some\r\nvalue! nil nil]"];
    let mut client = Client::connect(&running);
    for cut in 1..pipeline.len() {
        client.send(&pipeline[..cut]);
        // The first part has been taken in when a command sent later by another connection of each worker is through.
        for _ in 0..2 {
            assert_eq!(Client::connect(&running).run("PING"), "+PONG");
        }
        client.send(&pipeline[cut..]);
        for reply in expected {
            assert_eq!(client.reply().to_string(), reply, "cut at {cut}");
        }
    }
    for byte in &pipeline {
        client.send(&[*byte]);
    }
    for reply in expected {
        assert_eq!(client.reply().to_string(), reply, "byte by byte");
    }
}

#[test]
fn ten_thousand_commands_in_one_pipeline() {
    const COUNT: i64 = 10_000;
    let running = start();
    let mut client = Client::connect(&running);
    let mut pipeline = Vec::new();
    for n in 0..COUNT / 2 {
        pipeline.extend(request(&["INCR", "n"]));
        pipeline.extend(request(&["ECHO", &n.to_string()]));
    }
    client.send(&pipeline);
    for n in 0..COUNT / 2 {
        assert_eq!(client.reply().integer(), n + 1);
        assert_eq!(client.reply().number(), n);
    }
    assert_eq!(client.run("PING"), "+PONG", "nothing else was answered");
}

#[test]
fn replies_before_a_blocking_command_are_sent_at_once() {
    let running = start();
    let mut client = Client::connect(&running);
    let mut pipeline = request(&["SET", "key", "1"]);
    pipeline.extend(request(&["INCR", "key"]));
    pipeline.extend(request(&["BLPOP", "list", "0"]));
    pipeline.extend(request(&["INCR", "key"]));
    client.send(&pipeline);
    assert_eq!(client.reply().to_string(), "+OK");
    assert_eq!(client.reply().to_string(), ":2");
    until_blocked(&running, 1);
    let mut pusher = Client::connect(&running);
    assert_eq!(pusher.run("GET key"), "2", "what follows waits");
    assert_eq!(pusher.run("RPUSH list a"), ":1");
    assert_eq!(client.reply().to_string(), "[list a]");
    assert_eq!(client.reply().to_string(), ":3");
}

#[test]
fn a_pipeline_with_a_blocking_command_may_be_cut_at_every_byte() {
    let running = start();
    let mut client = Client::connect(&running);
    let mut pusher = Client::connect(&running);
    let mut pipeline = request(&["BLPOP", "list", "0"]);
    let blocking = pipeline.len();
    pipeline.extend(request(&["SET", "key", "1"]));
    pipeline.extend(request(&["INCR", "key"]));
    pipeline.extend(b"INCR key\r\n");
    for cut in blocking..=pipeline.len() {
        client.send(&pipeline[..cut]);
        until_blocked(&running, 1);
        // The rest comes while it is blocked, or after.
        if cut % 2 == 0 {
            client.send(&pipeline[cut..]);
        }
        assert_eq!(pusher.run("RPUSH list a"), ":1");
        assert_eq!(client.reply().to_string(), "[list a]", "cut at {cut}");
        if cut % 2 == 1 {
            client.send(&pipeline[cut..]);
        }
        for reply in ["+OK", ":2", ":3"] {
            assert_eq!(client.reply().to_string(), reply, "cut at {cut}");
        }
    }
}

#[test]
fn a_push_by_a_script_wakes_a_blocked_client() {
    let running = start();
    let mut pusher = Client::connect(&running);
    for script in ["return redis.call('rpush', KEYS[1], 'a')", "redis.call('rpush', 'queue', 'a') return 1"] {
        let mut popper = Client::connect(&running);
        popper.start("BRPOP queue 0");
        until_blocked(&running, 1);
        assert_eq!(pusher.call(&["EVAL", script, "1", "queue"]), Reply::Integer(1));
        assert_eq!(popper.reply().to_string(), "[queue a]", "{script}");
    }
    let mut popper = Client::connect(&running);
    popper.start("BZPOPMIN marker 0");
    until_blocked(&running, 1);
    pusher.call(&["EVAL", "redis.call('zadd', KEYS[1], 0, '0')", "1", "marker"]);
    assert_eq!(popper.reply().to_string(), "[marker 0 0]");
}

#[test]
fn a_client_that_goes_while_blocked_is_forgotten() {
    let running = start();
    let mut client = Client::connect(&running);
    let mut blocked = Client::connect(&running);
    assert_eq!(blocked.run("CLIENT SETNAME goes"), "+OK");
    blocked.start("BLMOVE from to LEFT RIGHT 0");
    until_blocked(&running, 1);
    assert!(client.run("CLIENT LIST").contains("name=goes"));
    drop(blocked);
    until("it is not listed", || !client.run("CLIENT LIST").contains("name=goes"));
    until_blocked(&running, 0);
    assert_eq!(client.run("RPUSH from a"), ":1");
    assert_eq!(client.run("LRANGE from 0 -1"), "[a]", "nobody takes an element for it");
    assert_eq!(client.run("EXISTS to"), ":0");
}

#[test]
fn nothing_is_lost_when_many_loop_on_brpoplpush() {
    const WORKERS: usize = 4;
    const JOBS: usize = 300;
    let running = start();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let mut client = Client::connect(&running);
            std::thread::spawn(move || {
                let mut taken = Vec::new();
                loop {
                    let job = client.run(&format!("BRPOPLPUSH wait active:{worker} 0"));
                    if job == "stop" {
                        return taken;
                    }
                    assert_eq!(
                        client.run(&format!("LREM active:{worker} 1 {job}")),
                        ":1",
                        "the reply is what was moved"
                    );
                    taken.push(job);
                }
            })
        })
        .collect();
    let mut client = Client::connect(&running);
    for job in 0..JOBS {
        client.run(&format!("LPUSH wait job:{job}"));
    }
    for _ in 0..WORKERS {
        client.run("LPUSH wait stop");
    }
    let mut taken: Vec<String> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    taken.sort();
    let mut pushed: Vec<String> = (0..JOBS).map(|job| format!("job:{job}")).collect();
    pushed.sort();
    assert_eq!(taken, pushed);
    assert_eq!(client.run("EXISTS wait"), ":0");
}

#[test]
fn proto_max_bulk_len_bounds_an_argument() {
    let running = start();
    let mut client = Client::connect(&running);
    assert_eq!(client.run("CONFIG SET proto-max-bulk-len 1mb"), "+OK");
    let fits = "x".repeat(1 << 20);
    assert_eq!(client.call(&["SET", "key", &fits]).to_string(), "+OK");
    assert_eq!(client.run("APPEND key x"), "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",);
    assert_eq!(refused(&running, b"*2\r\n$3\r\nGET\r\n$1048577\r\n"), "-ERR Protocol error: invalid bulk length");
}

#[test]
fn an_unfinished_command_larger_than_the_query_buffer_ends_the_connection() {
    let running = start();
    let mut client = Client::connect(&running);
    assert_eq!(client.run("CONFIG SET client-query-buffer-limit 1mb"), "+OK");
    assert_eq!(client.call(&["SET", "key", &"x".repeat(900_000)]).to_string(), "+OK");
    let mut greedy = Client::connect(&running);
    greedy.send(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3000000\r\n");
    let part = [b'x'; 1 << 18];
    for _ in 0..8 {
        // The server may have closed already.
        if greedy.try_send(&part).is_err() {
            break;
        }
    }
    assert!(greedy.is_closed());
    assert_eq!(client.run("STRLEN key"), ":900000");
    assert_eq!(running.server.stats.query_buffer_disconnections.load(Ordering::Relaxed), 1);
}

#[test]
fn a_subscriber_that_does_not_read_is_closed() {
    let mut config = config();
    config.client_output_buffer_limit[2] = OutputLimit { hard_bytes: 1 << 20, soft_bytes: 0, soft_seconds: 0 };
    let running = start_with(config);
    let mut deaf = Client::connect(&running);
    assert_eq!(deaf.run("SUBSCRIBE news"), "[subscribe news :1]");
    let mut publisher = Client::connect(&running);
    let message = "x".repeat(1 << 18);
    let mut sent = 0;
    // The kernel's buffers take the first few megabytes.
    while publisher.call(&["PUBLISH", "news", &message]).integer() == 1 {
        sent += 1;
        assert!(sent < 400, "100 MB are kept for it");
    }
    assert_eq!(running.server.stats.output_buffer_disconnections.load(Ordering::Relaxed), 1);
    assert!(deaf.is_closed());
}

#[test]
fn a_subscriber_over_the_soft_limit_is_closed_when_its_time_is_over() {
    let mut config = config();
    config.client_output_buffer_limit[2] = OutputLimit { hard_bytes: 0, soft_bytes: 1 << 20, soft_seconds: 60 };
    let clock = Clock::stopped_at(1_000_000);
    let running = Server::start(Options { config, clock: clock.clone(), ..Options::default() }).unwrap();
    let mut deaf = Client::connect(&running);
    assert_eq!(deaf.run("SUBSCRIBE news"), "[subscribe news :1]");
    let mut publisher = Client::connect(&running);
    let message = "x".repeat(1 << 18);
    let mut sent = 0;
    // Silence follows as soon as more than the limit waits.
    while !publisher.run("CLIENT LIST").split(' ').any(|field| is_output_over(field, 1 << 21)) {
        assert_eq!(publisher.call(&["PUBLISH", "news", &message]).integer(), 1);
        sent += 1;
        assert!(sent < 400, "100 MB went somewhere");
    }
    clock.advance_ms(60_000);
    assert_eq!(publisher.run("PUBSUB NUMSUB news"), "[news :1]");
    clock.advance_ms(10_000);
    until("it is closed", || publisher.run("PUBSUB NUMSUB news") == "[news :0]");
    assert_eq!(running.server.stats.output_buffer_disconnections.load(Ordering::Relaxed), 1);
    assert!(deaf.is_closed());
}

/// Whether a field of CLIENT LIST is `omem=` and more than `bytes`.
fn is_output_over(field: &str, bytes: usize) -> bool {
    field.strip_prefix("omem=").is_some_and(|len| len.parse::<usize>().expect("a number") > bytes)
}

#[test]
fn replies_are_not_kept_for_a_stranger_who_does_not_read() {
    let running = start_with_password();
    let mut deaf = Client::connect(&running);
    let pipeline = b"GET a\r\n".repeat(1 << 15);
    let mut sent = 0;
    while deaf.try_send(&pipeline).is_ok() {
        sent += 1;
        assert!(sent < 200, "200 MB are kept for it");
    }
    until("it is closed", || running.server.stats.output_buffer_disconnections.load(Ordering::Relaxed) == 1);
    assert!(deaf.is_closed());

    // One that reads may ask as much as it likes.
    let mut client = Client::connect(&running);
    let pipeline = b"GET a\r\n".repeat(1000);
    for _ in 0..5 {
        client.send(&pipeline);
        for _ in 0..1000 {
            assert_eq!(client.reply().to_string(), "-NOAUTH Authentication required.");
        }
    }
}

#[test]
fn too_many_clients_are_told_so() {
    let running = start_with(Config { maxclients: 2, ..config() });
    let mut first = Client::connect(&running);
    let mut second = Client::connect(&running);
    assert_eq!(first.run("PING"), "+PONG");
    assert_eq!(second.run("PING"), "+PONG");
    let mut third = Client::connect(&running);
    assert_eq!(third.line(), "-ERR max number of clients reached");
    assert!(third.is_closed());
    assert!(first.call(&["INFO", "stats"]).text().contains("rejected_connections:1\r\n"));
    drop(second);
    until("there is room again", || first.call(&["INFO", "clients"]).text().contains("connected_clients:1\r\n"));
    assert_eq!(Client::connect(&running).run("PING"), "+PONG");
}

#[test]
fn idle_clients_are_closed_after_timeout() {
    let clock = Clock::stopped_at(1_000_000);
    let options = Options { config: Config { timeout: 60, ..config() }, clock: clock.clone(), ..Options::default() };
    let running = Server::start(options).unwrap();
    let mut idle = Client::connect(&running);
    let mut subscriber = Client::connect(&running);
    let mut blocked = Client::connect(&running);
    assert_eq!(idle.run("PING"), "+PONG");
    assert_eq!(subscriber.run("SUBSCRIBE news"), "[subscribe news :1]");
    blocked.start("BLPOP list 0");
    until_blocked(&running, 1);
    clock.advance_ms(60_000);
    assert_eq!(idle.run("PING"), "+PONG", "60 seconds are not too long");
    clock.advance_ms(61_000);
    assert!(idle.is_closed());
    let mut client = Client::connect(&running);
    assert_eq!(client.run("PUBLISH news hello"), ":1", "subscribers may be silent");
    assert_eq!(subscriber.reply().to_string(), "[message news hello]");
    assert_eq!(client.run("RPUSH list a"), ":1");
    assert_eq!(blocked.reply().to_string(), "[list a]", "so may those who wait");
}

#[test]
fn ipv6_loopback() {
    if let Err(error) = std::net::TcpListener::bind("[::1]:0") {
        eprintln!("not tested: this machine has no IPv6 loopback address: {error}");
        return;
    }
    let running = start_with(Config { bind: vec!["::1".to_owned()], ..config() });
    let address = running.addr().unwrap();
    assert!(address.is_ipv6());
    let mut client = Client::connect_to(address);
    assert_eq!(client.run("PING"), "+PONG");
    assert!(client.run("CLIENT LIST").contains(&format!("laddr=[::1]:{}", address.port())));
}

/// Every request by HTTP has these words before its body, which could be commands.
#[test]
fn requests_by_http_end_the_connection_before_anything_else_runs() {
    for io_threads in [1, 4] {
        let running = start_with(Config { io_threads, ..config() });
        let array = |words: &[&str]| [request(words), request(&["SET", "smuggled", "1"])].concat();
        let cases: [Vec<u8>; 9] = [
            b"POST / HTTP/1.1\r\n\r\nSET smuggled 1\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET smuggled 1\r\n".to_vec(),
            b"hOsT: x\r\nSET smuggled 1\r\n".to_vec(),
            array(&["post", "a"]),
            array(&["Host:"]),
            b"MULTI\r\nSET smuggled 1\r\nPOST\r\nEXEC\r\n".to_vec(),
            b"HELLO 3\r\nPOST\r\nSET smuggled 1\r\n".to_vec(),
            b"SUBSCRIBE news\r\nPOST\r\nSET smuggled 1\r\n".to_vec(),
            b"PING\r\nPING\r\nPOST\r\nSET smuggled 1\r\n".to_vec(),
        ];
        for bytes in cases {
            let mut client = Client::connect(&running);
            client.send(&bytes);
            assert!(client.is_closed(), "{}", bytes.escape_ascii());
        }
        let mut client = Client::connect(&running);
        assert_eq!(client.run("EXISTS smuggled"), ":0");
        assert!(client.run("POSTS").starts_with("-ERR unknown command"));
        assert!(client.run("host:x").starts_with("-ERR unknown command"));
    }
}

#[test]
fn requests_by_http_are_refused_in_every_state_of_the_server() {
    let running = start_with_password();
    let is_refused = || {
        let mut client = Client::connect(&running);
        client.send(b"POST / HTTP/1.1\r\nAUTH secret\r\nSET smuggled 1\r\n");
        client.is_closed()
    };
    assert!(is_refused(), "nobody has authenticated");
    let mut admin = Client::connect(&running);
    assert_eq!(admin.run("AUTH secret"), "+OK");
    assert_eq!(admin.run("CLIENT PAUSE 500"), "+OK");
    assert!(is_refused(), "in a pause");
    assert_eq!(admin.run("EXISTS smuggled"), ":0");
}
