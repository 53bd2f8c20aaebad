//! What reaches the server before anybody knows who it is, and what is written back.

use crate::common::{Client, Folder, config, request, start, start_with, until, until_blocked};
use crate::is_alive;
use redstart::config::Config;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn cve_2026_27623_requests_of_both_kinds_around_empty_ones() {
    let empty = [&b"\r\n"[..], b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"\n"];
    let full = [&b"PING\r\n"[..], b"*1\r\n$4\r\nPING\r\n"];
    for password in [None, Some(b"secret".to_vec())] {
        let expected = if password.is_some() { "-NOAUTH Authentication required." } else { "+PONG" };
        let running = start_with(Config { requirepass: password, ..config() });
        let mut client = Client::connect(&running);
        for first in empty {
            for request in full {
                for second in empty {
                    client.send(&[first, request, second, request].concat());
                    assert_eq!((client.line(), client.line()), (expected.to_owned(), expected.to_owned()));
                }
            }
        }
    }
}

#[test]
fn cve_2021_32675_little_may_be_announced_before_authentication() {
    let running = start_with(Config { requirepass: Some(b"secret".to_vec()), ..config() });
    for (bytes, error) in [
        (&b"*11\r\n"[..], "-ERR Protocol error: unauthenticated multibulk length"),
        (b"*1048576\r\n", "-ERR Protocol error: unauthenticated multibulk length"),
        (b"*2\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length"),
    ] {
        let mut client = Client::connect(&running);
        client.send(bytes);
        assert_eq!(client.line(), error);
        assert!(client.is_closed());
    }
    let mut client = Client::connect(&running);
    assert_eq!(client.run("AUTH secret"), "+OK");
    assert_eq!(client.call(&["SET", "k", &"v".repeat(20_000)]).to_string(), "+OK");
}

#[test]
fn cve_2025_21605_replies_to_a_stranger_are_not_kept_without_limit() {
    let running = start_with(Config { requirepass: Some(b"secret".to_vec()), ..config() });
    let mut client = Client::connect(&running);
    let requests = b"PING\r\n".repeat(10_000);
    // It reads nothing: sooner or later the server must hang up.
    let error = (0..1000).find_map(|_| client.try_send(&requests).err()).expect("60 MB of requests are not answered");
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    is_alive_after("AUTH secret", &running);
}

fn is_alive_after(command: &str, running: &redstart::run::start::Running) {
    let mut client = Client::connect(running);
    assert_eq!(client.run(command), "+OK");
    assert_eq!(client.run("PING"), "+PONG");
}

#[test]
fn cve_2025_46686_a_request_of_many_arguments_counts_as_its_bytes() {
    let running = start_with(Config { client_query_buffer_limit: 1 << 20, ..config() });
    let mut client = Client::connect(&running);
    // Never whole: the server has to keep what it has.
    client.send(b"*1000000\r\n");
    let arguments = b"$1\r\nx\r\n".repeat(10_000);
    let refused = (0..90).any(|_| client.try_send(&arguments).is_err());
    assert!(refused || client.is_closed(), "6 MB of arguments are kept under a limit of 1 MB");
    is_alive(&running);
}

#[test]
fn cve_2025_67733_what_errors_quote_breaks_no_line() {
    let running = start();
    let mut client = Client::connect(&running);
    let evil = "x\r\n+OK\r\n:1\r\n";
    for args in [
        &[evil][..],
        &["NOSUCH", evil],
        &["CLIENT", evil],
        &["CONFIG", "SET", evil, "1"],
        &["CONFIG", "SET", "maxmemory-policy", evil],
        &["OBJECT", evil, "k"],
        &["EVAL", evil, "0"],
        &["EVAL", "return redis.error_reply(ARGV[1])", "0", evil],
        &["EVAL", "return {ok = ARGV[1]}", "0", evil],
        &["EVAL", "error(ARGV[1])", "0", evil],
        &["EVAL", "return redis.call(ARGV[1])", "0", evil],
        &["FUNCTION", "LOAD", evil],
        &["FUNCTION", "LOAD", &format!("#!lua name={evil}")],
        &["FCALL", evil, "0"],
        &["XGROUP", "SETID", "x", evil, "0"],
        &["XREADGROUP", "GROUP", evil, "c", "STREAMS", "x", ">"],
        &["HELLO", "3", "SETNAME", evil],
        &["HELLO", evil],
        &["DEBUG", evil],
        &["ACL", evil],
        &["ACL", "SETUSER", "alice", evil],
        &["AUTH", evil, evil],
        &["MEMORY", evil],
        &["LATENCY", "GRAPH", evil],
        &["PUBLISH", evil],
        &["SUBSCRIBE"],
        &["BITFIELD", "k", "GET", evil, "0"],
        &["CLUSTER", evil],
        &["MODULE", "LOAD", evil],
        &["SET", "k", "v", evil],
    ] {
        // Were one reply two, the next would not be its own.
        client.send(&request(args));
        client.send(&request(&["ECHO", "mine"]));
        client.reply();
        assert_eq!(client.reply().to_string(), "mine", "{args:?}");
    }
}

#[test]
fn cve_2023_41056_replies_of_every_size_while_buffers_shrink() {
    let running = start();
    let mut client = Client::connect(&running);
    let sizes: Vec<usize> = (0..18).flat_map(|power| [(1 << power) - 1, 1 << power, 5]).collect();
    for size in &sizes {
        client.call(&["SET", &format!("k{size}"), &"v".repeat(*size)]);
    }
    for round in 0..20 {
        let sizes = sizes.iter().cycle().skip(round * 7).step_by(round + 1).take(100);
        let requests: Vec<u8> = sizes.clone().flat_map(|size| request(&["GET", &format!("k{size}")])).collect();
        client.send(&requests);
        for size in sizes {
            assert_eq!(client.reply().text().len(), *size);
        }
    }
}

#[test]
fn cve_2023_45145_nobody_connects_before_the_permissions_hold() {
    let folder = Folder::new("permissions");
    let path = folder.0.join("redis.sock");
    let looked = path.clone();
    // Looks as often as it can, so that it sees the socket as early as it is there.
    let watcher = std::thread::spawn(move || {
        loop {
            if let Ok(metadata) = std::fs::metadata(&looked) {
                return metadata.permissions().mode() & 0o777;
            }
        }
    });
    let config = Config {
        bind: Vec::new(),
        unixsocket: Some(path.to_string_lossy().into_owned()),
        unixsocketperm: 0o700,
        ..config()
    };
    let running = start_with(config);
    assert_eq!(watcher.join().expect("it sees the socket"), 0o700);
    assert_eq!(Client::connect_unix(&path).run("PING"), "+PONG");
    drop(running);
}

#[test]
fn cve_2025_48367_connections_that_fail_before_they_are_accepted() {
    let running = start();
    let address = running.addr().expect("it listens on TCP");
    for _ in 0..200 {
        let stream = std::net::TcpStream::connect(address).expect("the queue is long enough");
        // Closing sends a reset at once.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }
    is_alive(&running);
}

#[test]
fn cve_2026_56684_clients_killed_in_the_middle_of_something() {
    let running = start();
    let mut killer = Client::connect(&running);
    for round in 0..30 {
        let mut half = Client::connect(&running);
        let id = half.run("CLIENT ID");
        half.send(b"*2\r\n$3\r\nGET\r\n$10");
        let mut blocked = Client::connect(&running);
        let blocked_id = blocked.run("CLIENT ID");
        blocked.start("BLPOP list other 0");
        until_blocked(&running, 1);
        if round % 2 == 0 {
            // Being served and being killed at once.
            killer.send(
                &[request(&["LPUSH", "list", "a"]), request(&["CLIENT", "KILL", "ID", &blocked_id[1..]])].concat(),
            );
            killer.reply();
            killer.reply();
        } else {
            assert_eq!(killer.run(&format!("CLIENT KILL ID {}", &blocked_id[1..])), ":1");
        }
        assert_eq!(killer.run(&format!("CLIENT KILL ID {}", &id[1..])), ":1");
        assert!(half.is_closed());
        assert!(blocked.is_closed());
        killer.run("DEL list");
    }
    until("nobody is blocked", || killer.call(&["INFO", "clients"]).text().contains("blocked_clients:0\r\n"));
}

/// From the reply to CLIENT KILL on, the client is not listed, and what it waited for goes to others.
#[test]
fn a_client_that_is_killed_is_gone_at_once() {
    let running = start();
    let mut killer = Client::connect(&running);
    for round in 0..200 {
        let mut blocked = Client::connect(&running);
        let id = blocked.run("CLIENT ID");
        blocked.start("BLPOP list 0");
        until_blocked(&running, 1);
        let kill = request(&["CLIENT", "KILL", "ID", &id[1..]]);
        killer.send(&[kill, request(&["RPUSH", "list", "a"]), request(&["CLIENT", "LIST", "ID", &id[1..]])].concat());
        assert_eq!(killer.reply().integer(), 1);
        assert_eq!(killer.reply().integer(), 1);
        assert_eq!(killer.reply().text(), "", "round {round}");
        assert_eq!(killer.run("LPOP list"), "a", "round {round}");
        assert!(blocked.is_closed());
        until_blocked(&running, 0);
    }
}

#[test]
fn cve_2026_23479_a_blocked_client_is_evicted_as_it_is_served() {
    let running = start();
    let mut pusher = Client::connect(&running);
    assert_eq!(pusher.run("CLIENT NO-EVICT ON"), "+OK");
    for round in 0..10 {
        let mut first = Client::connect(&running);
        let mut second = Client::connect(&running);
        for (blocked, client) in [&mut first, &mut second].into_iter().enumerate() {
            client.start("BLPOP list 0");
            until_blocked(&running, blocked + 1);
        }
        // What waits behind the blocking command makes this client the largest.
        second.send(&request(&["GET", &"q".repeat(3 << 20)]));
        let push = [request(&["CONFIG", "SET", "maxmemory-clients", "1mb"]), request(&["RPUSH", "list", "a", "b"])];
        pusher.send(&push.concat());
        assert_eq!(pusher.reply().to_string(), "+OK");
        assert_eq!(pusher.reply().to_string(), ":2");
        assert_eq!(first.reply().to_string(), "[list a]", "round {round}");
        assert!(second.is_closed());
        // The other element went to the client that was evicted, or stays.
        let left = pusher.run("LRANGE list 0 -1");
        assert!(left == "[]" || left == "[b]", "{left}");
        assert_eq!(pusher.run("CONFIG SET maxmemory-clients 0"), "+OK");
        pusher.run("DEL list");
    }
    assert!(pusher.call(&["INFO", "stats"]).text().contains("evicted_clients:10\r\n"));
    is_alive(&running);
}

#[test]
fn cve_2026_23631_no_replica_is_served_while_a_script_runs() {
    let running = start_with(Config { busy_reply_threshold: 20, ..config() });
    let mut script = Client::connect(&running);
    // It has written, so it cannot be killed: the server's end must end it.
    script.send(&request(&["EVAL", "redis.call('set', 'a', '1') while redis.call('get', 'a') == '1' do end", "0"]));
    let mut client = Client::connect(&running);
    until("the script is noticed", || client.run("PING").starts_with("-BUSY"));
    for command in ["SYNC", "PSYNC ? -1", "REPLICAOF NO ONE", "REPLICAOF 127.0.0.1 1", "FAILOVER", "FUNCTION FLUSH"] {
        let reply = client.run(command);
        assert!(reply.starts_with("-BUSY"), "{command}: {reply}");
    }
    assert!(client.run("SCRIPT KILL").starts_with("-UNKILLABLE"));
    client.start("SHUTDOWN NOSAVE");
    assert!(client.is_closed());
    running.shutdown();
    assert!(script.is_closed(), "the end of the server is the end of the script");
}
