//! What a `redis.call` costs: scripts of 12 calls, and one of none to compare with, against a host that does nothing, so that
//! all that is left is the engine.
//!
//! `cargo bench -p redstart-benches --bench script`

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

use redstart_script::{Engine, Host, Options, Resp, Tick, UnknownCommand};

/// Answers every command with the same reply.
struct Idle(&'static [u8]);

impl Host for Idle {
    fn call(&mut self, argv: &[&[u8]], reply: &mut Vec<u8>) {
        black_box(argv);
        reply.extend_from_slice(self.0);
    }
    fn set_resp(&mut self, _: Resp) {}
    fn acl_check(&mut self, _: &[&[u8]]) -> Result<bool, UnknownCommand> {
        Ok(true)
    }
    fn set_repl(&mut self, _: u8) {}
    fn log(&mut self, _: u8, _: &[u8]) {}
    fn tick(&mut self) -> Tick {
        Tick::Continue
    }
    fn script_error(&mut self, _: &[u8]) {}
}

const CALL: &str = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])";

fn scripts(c: &mut Criterion) {
    let mut group = c.benchmark_group("script");
    let mut engine = Engine::new(Options::default()).expect("there is memory for a Lua state");
    let mut bench = |name: &str, script: &str, reply: &'static [u8]| {
        let id = engine.load(script.as_bytes()).expect("the script is valid");
        let (keys, argv): ([&[u8]; 1], [&[u8]; 2]) = ([b"bull:queue:1234"], [b"field", b"value"]);
        let (mut out, mut host) = (Vec::new(), Idle(reply));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                engine.run(id, &keys, &argv, &mut host, Resp::V2, &mut out);
            });
        });
    };
    let times = |call: &str| format!("local call = redis.call {} return 1", format!("{call} ").repeat(12));
    bench("that does nothing", "return 1", b":1\r\n");
    for (what, reply) in
        [("integer", &b":1\r\n"[..]), ("string", b"$5\r\nhello\r\n"), ("nil", b"$-1\r\n"), ("status", b"+OK\r\n")]
    {
        bench(&format!("12 redis.calls, {what} replies"), &times(CALL), reply);
    }
    bench("12 calls of a local, 2 arguments", &times("call('INCR', KEYS[1])"), b":1\r\n");
    bench("12 calls with two numbers", &times("call('ZADD', 'key', 1711111111111, 0.5)"), b":1\r\n");
}

criterion_group! {
    name = benches;
    config = redstart_benches::criterion();
    targets = scripts
}
criterion_main!(benches);
