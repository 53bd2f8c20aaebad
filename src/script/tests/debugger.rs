//! Sessions of the script debugger: what a client is told. The words are Redis's.

#![allow(clippy::unwrap_used)]

mod common;

use common::{FakeHost, engine, show};
use redstart_script::{Console, Debugger, Resp};
use std::collections::VecDeque;
use std::time::Duration;

/// A client that has typed everything beforehand: each command comes by itself.
#[derive(Default)]
struct Typist {
    typed: VecDeque<Vec<u8>>,
    shown: Vec<u8>,
    is_over: bool,
}

impl Console for Typist {
    fn send(&mut self, bytes: &[u8]) {
        self.shown.extend_from_slice(bytes);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let Some(bytes) = self.typed.pop_front() else { return 0 };
        let (now, later) = bytes.split_at(bytes.len().min(buffer.len()));
        buffer[..now.len()].copy_from_slice(now);
        if !later.is_empty() {
            self.typed.push_front(later.to_vec());
        }
        now.len()
    }

    fn is_over(&mut self) -> bool {
        self.is_over
    }
}

fn encoded(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
    bytes.into_bytes()
}

/// What a client is shown that types these bytes, and the script's reply.
fn session(script: &str, typed: Vec<Vec<u8>>, patience: Duration) -> (String, String) {
    let mut typist = Typist { typed: typed.into(), ..Typist::default() };
    let reply = run(script, &mut typist, patience);
    (show(&typist.shown), reply)
}

fn run(script: &str, typist: &mut Typist, patience: Duration) -> String {
    let mut engine = engine();
    let id = engine.load(script.as_bytes()).unwrap();
    let mut debugger = Debugger::new(script.as_bytes(), patience, typist);
    let (mut host, mut out) = (FakeHost::default(), Vec::new());
    engine.debug(id, &[b"key"], &[b"arg"], &mut host, Resp::V2, &mut out, &mut debugger);
    debugger.end();
    // The state is as it was: the next script runs by itself.
    let next = engine.load(b"return tostring(redis.breakpoint())").unwrap();
    let mut after = Vec::new();
    engine.run(next, &[], &[], &mut host, Resp::V2, &mut after);
    assert_eq!(show(&after), r"$5\r\nfalse\r\n");
    show(&out)
}

/// The lines that a client is shown from its first command on, without their RESP.
fn typing(script: &str, typed: &[&str]) -> Vec<String> {
    let (shown, _) = session(script, typed.iter().map(|line| encoded(line)).collect(), Duration::MAX);
    let lines = shown.split(r"\r\n").filter_map(|line| line.strip_prefix('+'));
    lines.skip(2).map(str::to_owned).collect()
}

const SUM: &str = "local a = 1\nlocal b = 2\nreturn a + b";

#[test]
fn from_line_to_line() {
    let (shown, reply) = session(SUM, vec![encoded("s"), encoded("NEXT"), encoded("step")], Duration::MAX);
    let stops = [(1, "local a = 1"), (2, "local b = 2"), (3, "return a + b")];
    let stops =
        stops.map(|(n, line)| format!(r"*2\r\n+* Stopped at {n}, stop reason = step over\r\n+-> {n}   {line}\r\n"));
    assert_eq!(shown, stops.concat() + r"*1\r\n+<endsession>\r\n");
    assert_eq!(reply, r":3\r\n");
}

#[test]
fn breakpoints() {
    let shown = typing(SUM, &["b 3", "b 3 9", "b 1", "b -1 -1 x 0", "b", "b 2", "c", "w"]);
    let expected = [
        "   2   local b = 2",
        "  #3   return a + b",
        "Wrong line number.",
        "Wrong line number.",
        "->#1   local a = 1",
        "   2   local b = 2",
        "Breakpoint removed.",
        "No breakpoint in the specified line.",
        "Invalid argument:\\'x\\'",
        "All breakpoints removed.",
        "No breakpoints set. Use \\'b <line>\\' to add one.",
        "-> 1   local a = 1",
        "  #2   local b = 2",
        "   3   return a + b",
    ];
    assert_eq!(shown[..14], expected);
    assert_eq!(shown[14..16], ["* Stopped at 2, stop reason = break point", "->#2   local b = 2"]);
    // Nothing is forgotten when one of several goes.
    let shown = typing(SUM, &["b 1 2 3", "b -1", "b"]);
    assert_eq!(
        shown[7..],
        ["Breakpoint removed.", "2 breakpoints set:", "  #2   local b = 2", "  #3   return a + b", "<endsession>"]
    );
}

#[test]
fn values() {
    let script = "local t = {1, 'x', {y = true}}\nlocal n = nil\nreturn redis.breakpoint()";
    let shown =
        typing(script, &["p t", "n", "p", "p t", "n", "p", "print KEYS", "p none", "m 60", "e string.rep('x', 100)"]);
    let table = r#"{1; \"x\"; {[\"y\"]=true}}"#;
    assert_eq!(shown[0], "No such variable.");
    assert_eq!(shown[3..5], [format!("<value> t = {table}"), format!("<value> {table}")]);
    assert_eq!(shown[7..9], [format!("<value> t = {table}"), "<value> n = nil".to_owned()]);
    assert_eq!(
        shown[9..12],
        [r#"<value> {\"key\"}"#, "No such variable.", "<value> replies are truncated at 60 bytes."]
    );
    assert_eq!(shown[12], format!(r#"<retval> \"{} ..."#, "x".repeat(50)));
}

#[test]
fn what_a_table_holds_may_have_no_end() {
    let script = "local t = {}\nfor i = 1, 10 do t[i] = t end\nlocal s = {s = 1}\ns.s = s\nreturn 1";
    let shown = typing(script, &["b 5", "c", "p t", "m 0", "p t", "p s"]);
    assert!(shown.iter().any(|line| line.starts_with("<value> {{{{") && line.ends_with(" ...")));
    assert!(shown.iter().any(|line| line.len() > 16 << 20 && line.len() < 40 << 20));
    assert!(shown.iter().any(|line| line.contains("<max recursion level reached! Nested table?>")));
}

#[test]
fn commands_and_their_replies() {
    let script = "redis.call('set', 'k', 1)\nlocal e = redis.pcall('incr', 'k', 'x')\nreturn redis.call('nosuch')";
    let shown = typing(script, &["s", "s", "s"]);
    let told: Vec<&String> = shown.iter().filter(|line| line.starts_with('<')).collect();
    assert_eq!(told[..2], ["<redis> set k 1", r#"<reply> \"+OK\""#]);
    assert_eq!(told[2], "<redis> incr k x");
    let shown = typing(SUM, &["r set k v", "redis get k", "r lrange none 0 1", "redis nosuch", "r"]);
    let unknown = r#"<error> -ERR Unknown Redis command called from script"#;
    assert_eq!(shown[..2], ["<redis> set k v", r#"<reply> \"+OK\""#]);
    assert_eq!(shown[2..6], ["<redis> get k", r#"<reply> \"v\""#, "<redis> lrange none 0 1", "<reply> []"]);
    assert_eq!(shown[6..8], ["<redis> nosuch", unknown]);
    assert!(shown[9].starts_with("<error> Unknown Redis Lua debugger command"), "{}", shown[9]);
}

#[test]
fn code_of_the_client() {
    let shown = typing(
        SUM,
        &["e 1/3", "e local x = 5 return x", "e x y", "e error('boo')", "e error({err = 'MINE'})", "e error({})"],
    );
    assert_eq!(shown[..3], ["<retval> 0.333333", "<retval> 5", "<error> ldb_eval:1: \\'=\\' expected near \\'y\\'"]);
    assert_eq!(shown[3..6], ["<error> ldb_eval:1: boo", "<error> MINE", "<error> {}"]);
}

#[test]
fn functions_under_way() {
    let script = "local function f(x)\n  return x + 1\nend\nlocal y = f(1)\nreturn y";
    let shown = typing(script, &["b 2", "c", "t"]);
    assert_eq!(shown[5..9], ["In f:", "->#2     return x + 1", "From top level:", "   4   local y = f(1)"]);
}

#[test]
fn ends() {
    for (typed, error) in [
        (encoded("abort"), "-ERR script aborted for user request "),
        (b"PING\r\n".to_vec(), "-ERR protocol error "),
        ([b"*2\r\n$1\r\n".to_vec(), vec![b'1'; 1 << 20]].concat(), "-ERR protocol error "),
        ([b"*1\r\n$1".to_vec(), vec![b'1'; 1 << 20]].concat(), "-ERR max client buffer reached "),
    ] {
        let (shown, reply) = session(SUM, vec![typed], Duration::MAX);
        assert!(reply.starts_with(error) && reply.ends_with(r", on @user_script:1.\r\n"), "{reply}");
        assert!(shown.ends_with(r"*1\r\n+<endsession>\r\n"));
    }
    // A client that is gone: the script runs on.
    assert_eq!(session(SUM, Vec::new(), Duration::MAX).1, r":3\r\n");
}

#[test]
fn a_script_without_end_stops_for_its_client_or_ends_without() {
    let script = "while true do end";
    let (shown, reply) = session(script, vec![encoded("c"), encoded("a")], Duration::ZERO);
    assert!(shown.contains("* Stopped at 1, stop reason = timeout reached, infinite loop?"), "{shown}");
    assert!(reply.starts_with("-ERR script aborted for user request "), "{reply}");
    let (_, reply) = session(script, vec![encoded("c")], Duration::ZERO);
    assert!(reply.starts_with("-ERR timeout during Lua debugging with client closing connection "), "{reply}");
    for typed in ["c", "e while true do end"] {
        let mut typist = Typist { typed: VecDeque::from([encoded(typed)]), is_over: true, ..Typist::default() };
        let reply = run(script, &mut typist, Duration::MAX);
        assert!(reply.starts_with("-ERR Script killed by user with SCRIPT KILL... "), "{reply}");
    }
}
