//! What a `redis.call` costs: a script of 12 calls against a host that does nothing, so all that is left is the engine.
//!
//! `cargo bench -p redstart-benches --bench script`

use std::hint::black_box;
use std::time::Instant;

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

fn main() {
    let mut engine = Engine::new(Options::default()).expect("there is memory for a Lua state");
    let empty = time(&mut engine, "return 1", &mut Idle(b":1\r\n"));
    println!("a script that does nothing: {empty:.0} ns");
    for (what, reply) in
        [("integer", &b":1\r\n"[..]), ("string", b"$5\r\nhello\r\n"), ("nil", b"$-1\r\n"), ("status", b"+OK\r\n")]
    {
        let script = format!("{} return 1", format!("{CALL} ").repeat(12));
        let whole = time(&mut engine, &script, &mut Idle(reply));
        println!("12 redis.calls, {what:>7} replies: {whole:.0} ns, {:.0} ns a call", (whole - empty) / 12.0);
    }
    let local = format!("local call = redis.call {} return 1", "call('INCR', KEYS[1]) ".repeat(12));
    let whole = time(&mut engine, &local, &mut Idle(b":1\r\n"));
    println!("12 calls of a local, 2 arguments: {whole:.0} ns, {:.0} ns a call", (whole - empty) / 12.0);
    let numbers = format!("local call = redis.call {} return 1", "call('ZADD', 'key', 1711111111111, 0.5) ".repeat(12));
    let whole = time(&mut engine, &numbers, &mut Idle(b":1\r\n"));
    println!("12 calls with two numbers: {whole:.0} ns, {:.0} ns a call", (whole - empty) / 12.0);
}

/// Nanoseconds a run: the best of many rounds, short enough that most are not interrupted.
fn time(engine: &mut Engine, script: &str, host: &mut Idle) -> f64 {
    const RUNS: u32 = 500;
    let id = engine.load(script.as_bytes()).expect("the script is valid");
    let (keys, argv): ([&[u8]; 1], [&[u8]; 2]) = ([b"bull:queue:1234"], [b"field", b"value"]);
    let mut out = Vec::new();
    let round = |_| {
        let start = Instant::now();
        for _ in 0..RUNS {
            out.clear();
            engine.run(id, &keys, &argv, host, Resp::V2, &mut out);
        }
        start.elapsed().as_nanos() as f64 / f64::from(RUNS)
    };
    (0..400).map(round).fold(f64::INFINITY, f64::min)
}
