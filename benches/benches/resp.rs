//! Requests that arrive, and replies that go.
//!
//! `cargo bench -p redstart-benches --bench resp`

use criterion::{Criterion, criterion_group, criterion_main};
use redstart::resp::reply::Reply;
use redstart::resp::request::{Limits, Parsed, Parser};
use std::hint::black_box;

const LIMITS: Limits = Limits { max_bulk_len: 512 << 20, authenticated: true };
const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000001234\r\n$32\r\nvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\r\n";

/// The number of arguments of all commands in `buffer`.
fn parse(parser: &mut Parser, mut buffer: &[u8]) -> usize {
    let mut args = 0;
    while let Parsed::Command { used } = parser.parse(buffer, LIMITS) {
        args += parser.args(buffer).count();
        parser.next();
        buffer = &buffer[used..];
    }
    args
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let mut parser = Parser::default();
    let pipeline = SET.repeat(16);
    group.bench_function("16 SETs", |b| b.iter(|| assert_eq!(parse(&mut parser, black_box(&pipeline)), 48)));
    let many = [&b"*1001\r\n$4\r\nSADD\r\n"[..], &b"$8\r\nmember:1\r\n".repeat(1000)].concat();
    group.bench_function("1000 members", |b| b.iter(|| assert_eq!(parse(&mut parser, black_box(&many)), 1001)));
    group.bench_function("inline", |b| {
        b.iter(|| {
            parser.parse(black_box(b"SET key value\r\n"), LIMITS);
            let args = parser.inline_args();
            parser.next();
            args
        });
    });
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    let mut write = |name: &str, write: &dyn Fn(&mut Reply)| {
        let mut reply = Reply::new(false);
        group.bench_function(name, |b| {
            b.iter(|| {
                reply.buf.clear();
                write(&mut reply);
                reply.buf.len()
            });
        });
    };
    write("OK", &|reply| reply.ok());
    write("an integer", &|reply| reply.integer(black_box(1234)));
    write("a string of 32 bytes", &|reply| reply.bulk(black_box(&[b'v'; 32])));
    write("a double", &|reply| reply.double(black_box(3.25)));
    write("an array of 100 strings", &|reply| {
        reply.array(100);
        (0..100).for_each(|_| reply.bulk(black_box(b"an element")));
    });
}

criterion_group! {
    name = benches;
    config = redstart_benches::criterion();
    targets = requests, replies
}
criterion_main!(benches);
