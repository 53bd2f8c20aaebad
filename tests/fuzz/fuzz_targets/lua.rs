//! What scripts can hand to the libraries of Lua: JSON, MessagePack, packed structs, patterns, formats, numbers, and
//! source text; and what a client can type that debugs a script.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart_fuzz::choices::Choices;
use redstart_fuzz::memory::bounded;
use redstart_fuzz::resp;
use redstart_script::{Console, Debugger, Engine, Host, Options, Resp, Tick, UnknownCommand};
use std::cell::RefCell;
use std::time::Duration;

/// What a Lua state may hold.
const STATE_BYTES: usize = 48 << 20;
/// Looks at the clock before a script is killed: about ten million instructions.
const TICKS: usize = 100;

thread_local! {
    static ENGINE: RefCell<Engine> = RefCell::new(engine());
}

fn engine() -> Engine {
    Engine::new(Options { max_state_bytes: STATE_BYTES, ..Options::default() }).expect("a state")
}

/// A server that answers every command with its last argument.
#[derive(Default)]
struct Echo {
    ticks: usize,
}

impl Host for Echo {
    fn call(&mut self, argv: &[&[u8]], reply: &mut Vec<u8>) {
        let last = argv.last().copied().unwrap_or_default();
        reply.extend_from_slice(format!("${}\r\n", last.len()).as_bytes());
        reply.extend_from_slice(last);
        reply.extend_from_slice(b"\r\n");
    }

    fn set_resp(&mut self, _version: Resp) {}

    fn acl_check(&mut self, _argv: &[&[u8]]) -> Result<bool, UnknownCommand> {
        Err(UnknownCommand)
    }

    fn set_repl(&mut self, _flags: u8) {}

    fn log(&mut self, _level: u8, _message: &[u8]) {}

    fn tick(&mut self) -> Tick {
        self.ticks += 1;
        if self.ticks > TICKS { Tick::Kill } else { Tick::Continue }
    }

    fn script_error(&mut self, _error: &[u8]) {}
}

/// A client that types the input, a part at a time, while it debugs [`DEBUGGED`].
struct Typist<'a> {
    bytes: &'a [u8],
    at_once: usize,
}

impl Console for Typist<'_> {
    fn send(&mut self, bytes: &[u8]) {
        assert_eq!(resp::count(bytes), 1, "{}", bytes.escape_ascii());
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.bytes.len().min(self.at_once).min(buffer.len());
        let (now, later) = self.bytes.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.bytes = later;
        len
    }

    fn is_over(&mut self) -> bool {
        false
    }
}

const DEBUGGED: &str = "local t = {1, 'x', {y = true}}\nlocal function f(a)\n  return redis.call('echo', a)\nend\n\
    for i = 1, 3 do\n  t[i] = f(i)\nend\nredis.debug(t, f)\nreturn t";

/// Each takes the input's bytes as `ARGV[1]` and, cut in two, as `ARGV[2]` and `ARGV[3]`.
const SCRIPTS: &[&str] = &[
    "local v = cjson.decode(ARGV[1]) local t = cjson.encode(v) assert(cjson.encode(cjson.decode(t)) == t) return v",
    "return {cmsgpack.unpack(ARGV[1])}",
    "return cmsgpack.pack(cmsgpack.unpack(ARGV[1]))",
    "return {cmsgpack.unpack_one(ARGV[2], #ARGV[3])}",
    "return {cmsgpack.unpack_limit(ARGV[2], 3, #ARGV[3])}",
    "return {struct.unpack(ARGV[2], ARGV[3])}",
    "return struct.pack(ARGV[2], ARGV[3], 1, 2.5, ARGV[3], -7)",
    "return struct.size(ARGV[1])",
    "return {string.find(ARGV[3], ARGV[2])}",
    "return {string.gsub(ARGV[3], ARGV[2], '%0-%1')}",
    "return string.format(ARGV[1], 1, 2.5, 'three', -4, 5)",
    "return string.format('%q', ARGV[1])",
    "local f = loadstring(ARGV[1]) if f then setfenv(f, {}) return f() end",
    "return redis.call('echo', ARGV[1])",
    "return {err = ARGV[1]}",
    "return redis.error_reply(ARGV[1])",
    "return redis.status_reply(ARGV[1])",
    "return {map = {[ARGV[1]] = ARGV[2]}, double = tonumber(ARGV[1])}",
    "local n = tonumber(ARGV[1]) or #ARGV[1] return {bit.tohex(n, -n), bit.bswap(n), bit.lshift(n, n), bit.arshift(n, -n), bit.tobit(n)}",
    "return tostring(tonumber(ARGV[1], #ARGV[2] + 2))",
];

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let which = choices.below(SCRIPTS.len() + 2);
    let cut = usize::from(choices.byte());
    let bytes = choices.rest();
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let is_debugged = which > SCRIPTS.len();
    let script =
        if is_debugged { DEBUGGED.as_bytes() } else { SCRIPTS.get(which).map_or(bytes, |script| script.as_bytes()) };
    ENGINE.with_borrow_mut(|engine| {
        let out = bounded(input.len() + (STATE_BYTES >> 2), || {
            let mut out = Vec::new();
            match engine.load(script) {
                Ok(id) if is_debugged => {
                    let mut typist = Typist { bytes, at_once: cut + 1 };
                    let mut debugger = Debugger::new(script, Duration::MAX, &mut typist);
                    let host = &mut Echo::default();
                    engine.debug(id, &[b"k"], &[bytes], host, Resp::V3, &mut out, &mut debugger);
                    debugger.end();
                }
                Ok(id) => engine.run(id, &[b"k"], &[bytes, first, second], &mut Echo::default(), Resp::V3, &mut out),
                Err(error) => {
                    out.push(b'-');
                    out.extend_from_slice(error.text());
                    out.extend_from_slice(b"\r\n");
                }
            }
            out
        });
        assert_eq!(resp::count(&out), 1, "{}", out.escape_ascii());
        if engine.script_count() > 500 {
            drop(engine.flush());
        }
    });
});
