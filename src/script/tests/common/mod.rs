//! A host for scripts under test: a handful of commands with Redis's replies, and a log of what was asked.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;

use redstart_script::{Engine, Functions, Host, Options, Resp, Tick, UnknownCommand};

/// Keys and lists, in memory.
#[derive(Default)]
pub(crate) struct FakeHost {
    pub(crate) strings: HashMap<Vec<u8>, Vec<u8>>,
    pub(crate) lists: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    pub(crate) resp: Resp,
    pub(crate) repl: Vec<u8>,
    pub(crate) logs: Vec<(u8, Vec<u8>)>,
    pub(crate) errors: Vec<Vec<u8>>,
    pub(crate) ticks: usize,
    /// The tick that kills; 0 for none.
    pub(crate) kill_at: usize,
}

impl Host for FakeHost {
    fn call(&mut self, argv: &[&[u8]], reply: &mut Vec<u8>) {
        let name = argv[0].to_ascii_lowercase();
        let text = match (&name[..], &argv[1..]) {
            (b"ping", []) => "+PONG\r\n".to_owned(),
            (b"echo", [message]) => return bulk(reply, message),
            (b"set", [key, value]) => {
                self.strings.insert(key.to_vec(), value.to_vec());
                "+OK\r\n".to_owned()
            }
            (b"get", [key]) => match self.strings.get(*key) {
                Some(value) => return bulk(reply, value),
                None if self.resp == Resp::V3 => "_\r\n".to_owned(),
                None => "$-1\r\n".to_owned(),
            },
            (b"incr", [key]) => self.incr(key),
            (b"rpush", [key, values @ ..]) if !values.is_empty() => {
                let list = self.lists.entry(key.to_vec()).or_default();
                list.extend(values.iter().map(|value| value.to_vec()));
                format!(":{}\r\n", list.len())
            }
            (b"lrange", [key, _, _]) => {
                let list = self.lists.get(*key).cloned().unwrap_or_default();
                reply.extend(format!("*{}\r\n", list.len()).bytes());
                return list.iter().for_each(|value| bulk(reply, value));
            }
            (b"debug", [_, kind]) => protocol(self.resp, kind).to_owned(),
            (b"multi" | b"subscribe" | b"eval", _) => {
                "-ERR This Redis command is not allowed from script\r\n".to_owned()
            }
            (b"raw", [bytes]) => return reply.extend_from_slice(bytes),
            (b"set" | b"get" | b"incr" | b"lrange" | b"echo", _) => {
                "-ERR Wrong number of args calling Redis command from script\r\n".to_owned()
            }
            _ => "-ERR Unknown Redis command called from script\r\n".to_owned(),
        };
        reply.extend_from_slice(text.as_bytes());
    }

    fn set_resp(&mut self, version: Resp) {
        self.resp = version;
    }

    fn acl_check(&mut self, argv: &[&[u8]]) -> Result<bool, UnknownCommand> {
        match argv[0] {
            b"get" => Ok(true),
            b"set" => Ok(false),
            _ => Err(UnknownCommand),
        }
    }

    fn set_repl(&mut self, flags: u8) {
        self.repl.push(flags);
    }

    fn log(&mut self, level: u8, message: &[u8]) {
        self.logs.push((level, message.to_vec()));
    }

    fn tick(&mut self) -> Tick {
        self.ticks += 1;
        if self.kill_at > 0 && self.ticks >= self.kill_at { Tick::Kill } else { Tick::Continue }
    }

    fn script_error(&mut self, error: &[u8]) {
        self.errors.push(error.to_vec());
    }
}

impl FakeHost {
    fn incr(&mut self, key: &[u8]) -> String {
        let old = self.strings.get(key).map_or("0", |value| std::str::from_utf8(value).unwrap());
        match old.parse::<i64>() {
            Ok(old) => {
                self.strings.insert(key.to_vec(), (old + 1).to_string().into_bytes());
                format!(":{}\r\n", old + 1)
            }
            Err(_) => "-ERR value is not an integer or out of range\r\n".to_owned(),
        }
    }
}

fn bulk(reply: &mut Vec<u8>, bytes: &[u8]) {
    reply.extend(format!("${}\r\n", bytes.len()).bytes());
    reply.extend_from_slice(bytes);
    reply.extend_from_slice(b"\r\n");
}

/// The replies of Redis's `DEBUG PROTOCOL`, which has one of each type.
fn protocol(resp: Resp, kind: &[u8]) -> &'static str {
    match (kind, resp) {
        (b"string", _) => "$11\r\nHello World\r\n",
        (b"integer", _) => ":12345\r\n",
        (b"double", Resp::V2) => "$5\r\n3.141\r\n",
        (b"double", Resp::V3) => ",3.141\r\n",
        (b"null", Resp::V2) => "$-1\r\n",
        (b"null", Resp::V3) => "_\r\n",
        (b"array", _) => "*3\r\n:0\r\n:1\r\n:2\r\n",
        (b"set", Resp::V2) => "*3\r\n:0\r\n:1\r\n:2\r\n",
        (b"set", Resp::V3) => "~3\r\n:0\r\n:1\r\n:2\r\n",
        (b"map", Resp::V2) => "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n",
        (b"map", Resp::V3) => "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n",
        (b"attrib", Resp::V2) => "$39\r\nSome real reply following the attribute\r\n",
        (b"attrib", Resp::V3) => {
            "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n"
        }
        (b"verbatim", Resp::V2) => "$25\r\nThis is a verbatim\nstring\r\n",
        (b"verbatim", Resp::V3) => "=29\r\ntxt:This is a verbatim\nstring\r\n",
        (b"true", Resp::V2) => ":1\r\n",
        (b"true", Resp::V3) => "#t\r\n",
        (b"false", Resp::V2) => ":0\r\n",
        (b"false", Resp::V3) => "#f\r\n",
        (b"bignum", Resp::V2) => "$37\r\n1234567999999999999999999999999999999\r\n",
        (b"bignum", Resp::V3) => "(1234567999999999999999999999999999999\r\n",
        _ => "-ERR Wrong protocol type name\r\n",
    }
}

pub(crate) fn engine() -> Engine {
    Engine::new(Options::default()).unwrap()
}

pub(crate) fn functions() -> Functions {
    Functions::new(Options::default()).unwrap()
}

/// EVAL for a client that speaks `client`.
pub(crate) fn eval_as(
    engine: &mut Engine,
    host: &mut FakeHost,
    client: Resp,
    script: &[u8],
    args: &[&[u8]],
) -> Vec<u8> {
    let mut out = Vec::new();
    host.resp = Resp::V2;
    match engine.load(script) {
        Ok(id) => engine.run(id, &[], args, host, client, &mut out),
        Err(error) => out = [b"-", error.text(), b"\r\n"].concat(),
    }
    out
}

/// EVAL in a fresh engine, as text; bytes that are no ASCII are escaped.
pub(crate) fn eval(script: &str) -> String {
    show(&eval_as(&mut engine(), &mut FakeHost::default(), Resp::V2, script.as_bytes(), &[]))
}

pub(crate) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Undoes [`show`].
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'\\' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let (escaped, len) = match tail[0] {
            b'n' => (b'\n', 1),
            b'r' => (b'\r', 1),
            b't' => (b'\t', 1),
            b'x' => (u8::from_str_radix(std::str::from_utf8(&tail[1..3]).unwrap(), 16).unwrap(), 3),
            other => (other, 1),
        };
        out.push(escaped);
        rest = &tail[len..];
    }
    out
}
