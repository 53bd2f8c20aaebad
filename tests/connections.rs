//! Very many connections at once, most of them idle. In a process of its own: it raises the limit of open files.

mod common;

use common::{Client, config, request, start_with, until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use redstart::config::Config;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Connections wanted; both ends are in this process.
const WANTED: usize = 2000;
/// Other descriptors of this process.
const OTHERS: usize = 100;

/// Raises the limit of open files; how many connections fit.
fn room() -> usize {
    let needed = (2 * WANTED + OTHERS) as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has this limit");
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).expect("up to the hard limit it may be raised");
    }
    let files = usize::try_from(soft.max(needed.min(hard))).unwrap_or(usize::MAX);
    WANTED.min(files.saturating_sub(OTHERS) / 2)
}

#[test]
fn thousands_of_idle_connections_answer() {
    let count = room();
    assert!(count >= 200, "the hard limit of open files leaves room for {count} connections only");
    if count < WANTED {
        eprintln!("with {count} connections instead of {WANTED}: the hard limit of open files is low");
    }
    let running = start_with(Config { tcp_backlog: 4096, ..config() });
    let address = running.addr().unwrap();
    let mut idle: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut client = Client::connect(&running);
    let all = format!("connected_clients:{}\r\n", count + 1);
    until("all are connected", || client.call(&["INFO", "clients"]).text().contains(&all));
    assert_eq!(client.run("CLIENT LIST").matches("addr=").count(), 2 * (count + 1), "addr and laddr of each");

    // All ask before any answer is read.
    for (n, stream) in idle.iter_mut().enumerate() {
        stream.write_all(&request(&["ECHO", &format!("{n:04}")])).unwrap();
    }
    for (n, stream) in idle.iter_mut().enumerate() {
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *format!("$4\r\n{n:04}\r\n").as_bytes());
    }

    // A publication reaches every one of them.
    for stream in &mut idle {
        stream.write_all(&request(&["SUBSCRIBE", "news"])).unwrap();
    }
    let expected = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    until("all have subscribed", || client.run("PUBSUB NUMSUB news") == format!("[news :{count}]"));
    assert_eq!(client.run("PUBLISH news hi"), format!(":{count}"));
    for stream in &mut idle {
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }

    drop(idle);
    until("all are gone", || client.call(&["INFO", "clients"]).text().contains("connected_clients:1\r\n"));
    assert_eq!(client.run("PUBSUB NUMSUB news"), "[news :0]");
    assert_eq!(client.run("PING"), "+PONG");
}
