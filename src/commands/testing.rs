//! The harness of the command tests: `check("INCR n", ":1")` against a server in this process and, with
//! `ORACLE=host:port` set, against a real Redis as well, so that no test asserts what Redis does not do.
//!
//! Replies are written as text: `OK` a status, `-ERR ...` an error, `:1` an integer, `"x"` a bulk string, `nil` null,
//! `[a, b]` an array, `{k: v}` a map, `~[a]` a set, `,1.5` a double, `#t`, `(123` a big number, `>[..]` a push. In a line
//! that is not UTF-8 bytes beyond ASCII are `\xHH`.
//! Commands are split as redis-cli splits a line, quotes and escapes included.

use crate::clients::Client;
use crate::config::ProtectedAction;
use crate::feed;
use crate::feed::records::Record;
use crate::run::start::{Options, Running};
use crate::server::Server;
use crate::util::clock::Clock;
use crate::util::quote;
use crate::util::sync::Mutex;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A fresh server with two clients, and the oracle's two if there is one.
pub(crate) struct Checker {
    pub(crate) running: Running,
    clock: Clock,
    own: [Peer; 2],
    oracle: Option<[Peer; 2]>,
}

/// Longest wait for anything: a test that waits in vain fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `is_so`; fails when it takes too long.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What entered a server's feed, as text.
#[derive(Clone, Default)]
pub(crate) struct FeedLog(Arc<Mutex<Vec<String>>>);

impl FeedLog {
    /// The records since the last call, each with spaces between its arguments.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl feed::Reader for FeedLog {
    fn append(&self, records: &[Record<'_>]) {
        let line = |record: &Record<'_>| {
            let text = String::from_utf8_lossy(record.command).into_owned();
            let words = text.split("\r\n").filter(|part| !part.is_empty() && !part.starts_with(['*', '$']));
            words.collect::<Vec<_>>().join(" ")
        };
        self.0.lock().extend(records.iter().map(line));
    }
}

/// One connection.
pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
}

impl Checker {
    /// A server with default configuration and a real clock.
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    /// A server started with these options; the oracle keeps its own.
    pub(crate) fn with(options: Options) -> Self {
        let clock = options.clock.clone();
        let running = Server::start(options).expect("a free port on 127.0.0.1");
        let address = running.addr().expect("it listens on TCP").to_string();
        let own = [Peer::connect(&address), Peer::connect(&address)];
        let oracle = std::env::var("ORACLE").ok().map(|address| {
            let mut peers = [Peer::connect(&address), Peer::connect(&address)];
            peers[0].run("FLUSHALL");
            // A test may have left it otherwise.
            peers[0].run("CONFIG SET slowlog-log-slower-than 10000");
            peers
        });
        Checker { running, clock, own, oracle }
    }

    /// Records what enters our feed from now on.
    pub(crate) fn record(&self) -> FeedLog {
        let log = FeedLog::default();
        self.running.server.feed.add_reader(Arc::new(log.clone()));
        log
    }

    /// Says that what follows holds from this version of Redis on (`7.2`): an older oracle is not asked.
    pub(crate) fn since(&mut self, version: &str) {
        let number = |text: &str| -> Vec<u32> { text.split('.').map_while(|part| part.parse().ok()).collect() };
        let Some(oracle) = &mut self.oracle else { return };
        let info = oracle[0].run("INFO server");
        let running = info.split("redis_version:").nth(1).and_then(|rest| rest.split("\\r").next()).unwrap_or("");
        if number(running) < number(version) {
            self.oracle = None;
        }
    }

    /// The first client sends `command`; the reply must be `expected`, from us and from the oracle.
    #[track_caller]
    pub(crate) fn check(&mut self, command: &str, expected: &str) {
        self.check_on(0, command, expected);
    }

    /// The same by the second client.
    #[track_caller]
    pub(crate) fn other(&mut self, command: &str, expected: &str) {
        self.check_on(1, command, expected);
    }

    /// A check of something that only we can be asked.
    #[track_caller]
    pub(crate) fn check_here(&mut self, command: &str, expected: &str) {
        assert_eq!(self.own[0].run(command), expected, "{command}");
    }

    /// Sends a command to our server alone, for replies that only it can give (cursors).
    pub(crate) fn running_only(&mut self, command: &str) -> String {
        self.own[0].run(command)
    }

    /// Sends a command to both without looking at the reply (set-up; random replies).
    pub(crate) fn run(&mut self, command: &str) -> String {
        if let Some(oracle) = &mut self.oracle {
            oracle[0].run(command);
        }
        self.own[0].run(command)
    }

    /// The same by the second client.
    pub(crate) fn run_other(&mut self, command: &str) -> String {
        if let Some(oracle) = &mut self.oracle {
            oracle[1].run(command);
        }
        self.own[1].run(command)
    }

    /// The first client sends `command`, which blocks: no reply is read. When it returns, the client is blocked, its
    /// script runs, or the command is over.
    #[track_caller]
    pub(crate) fn send(&mut self, command: &str) {
        let server = self.running.server.clone();
        let address = self.own[0].stream.get_ref().local_addr().expect("it is connected").to_string();
        let mut client = None;
        until("it is accepted", || {
            client = server.clients.iter().find(|client| client.addr == address);
            client.is_some()
        });
        let is_blocked = || client.as_ref().is_some_and(|client| client.has(Client::BLOCKED));
        let processed = || server.stats.sum(|worker| &worker.commands_processed);
        let before = processed();
        self.own[0].send(command);
        if let Some(oracle) = &mut self.oracle {
            oracle[0].send(command);
            // It takes what comes first first, once it has come.
            std::thread::sleep(Duration::from_millis(30));
        }
        until(command, || is_blocked() || server.busy.since_ms().is_some() || processed() != before);
    }

    /// The first client sends these at once; the replies, pushes among them, must be those.
    #[track_caller]
    pub(crate) fn check_pipeline(&mut self, commands: &[&str], expected: &[&str]) {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encoded(command)).collect();
        for peers in [&mut self.own].into_iter().chain(&mut self.oracle) {
            peers[0].stream.get_mut().write_all(&bytes).unwrap();
        }
        expected.iter().for_each(|expected| self.receive(expected));
    }

    /// A server whose keys expire only when they are looked at; [`Checker::expire_again`] ends that for the oracle.
    pub(crate) fn with_lazy_expiry() -> Self {
        let mut options = Options::default();
        options.config.enable_debug_command = ProtectedAction::Yes;
        let mut c = Self::with(options);
        c.run("DEBUG SET-ACTIVE-EXPIRE 0");
        c.run("CONFIG RESETSTAT");
        c
    }

    pub(crate) fn expire_again(&mut self) {
        self.run("DEBUG SET-ACTIVE-EXPIRE 1");
    }

    /// A figure of INFO, which the second client asks for.
    #[track_caller]
    pub(crate) fn check_info(&mut self, name: &str, expected: &str) {
        for peers in [&mut self.own].into_iter().chain(&mut self.oracle) {
            let info = peers[1].run("INFO everything");
            let figure = info.split(&format!("\\n{name}:")).nth(1).and_then(|rest| rest.split("\\r").next());
            assert_eq!(figure, Some(expected), "{name}");
        }
    }

    /// How many keys `command` counts as found, and as missed.
    #[track_caller]
    pub(crate) fn check_lookups(&mut self, command: &str, [found, missed]: [u32; 2]) {
        self.run("CONFIG RESETSTAT");
        self.run(command);
        self.check_info("keyspace_hits", &found.to_string());
        self.check_info("keyspace_misses", &missed.to_string());
    }

    /// The second client, which monitors, is shown this next; `[0 first]` stands for the first client's address.
    #[track_caller]
    pub(crate) fn other_is_shown(&mut self, expected: &str) {
        for (peers, who) in [&mut self.own].into_iter().chain(&mut self.oracle).zip(["", "(the oracle)"]) {
            let address = peers[0].stream.get_ref().local_addr().unwrap().to_string();
            let line = peers[1].receive();
            let shown = line.split_once(' ').map_or(&*line, |(_, shown)| shown).replace(&address, "first");
            assert_eq!(shown, expected, "{who}");
        }
    }

    /// Empties the slow log and the counters; from now on every command is slow.
    pub(crate) fn observe(&mut self) {
        for command in ["CONFIG SET slowlog-log-slower-than 0", "CONFIG RESETSTAT", "SLOWLOG RESET"] {
            self.run_other(command);
        }
    }

    /// The commands in the slow log since [`Checker::observe`], oldest first.
    #[track_caller]
    pub(crate) fn check_slow(&mut self, expected: &[&str]) {
        for (peers, who) in [&mut self.own].into_iter().chain(&mut self.oracle).zip(["", "(the oracle)"]) {
            let reply = peers[1].run("SLOWLOG GET -1");
            let argv = |entry: &str| Some(entry.split_once(", [")?.1.split_once("], ")?.0.replace("\", \"", " "));
            let mut slow: Vec<String> = reply.split("[:").skip(1).filter_map(argv).collect();
            slow.reverse();
            let slow: Vec<&str> = slow.iter().map(|line| line.trim_matches('"')).skip(1).collect();
            assert_eq!(slow, expected, "{who}");
        }
    }

    /// What is counted of a command (`calls=1,rejected_calls=0,failed_calls=0`), and that each call's time is known.
    #[track_caller]
    pub(crate) fn check_calls(&mut self, name: &str, expected: [u64; 3]) {
        let [calls, rejected, failed] = expected;
        let expected = format!("calls={calls},rejected_calls={rejected},failed_calls={failed}");
        for (peers, who) in [&mut self.own].into_iter().chain(&mut self.oracle).zip(["", "(the oracle)"]) {
            let info = peers[1].run("INFO commandstats");
            let line = info.split(&format!("\\ncmdstat_{name}:")).nth(1).and_then(|rest| rest.split("\\r").next());
            let counts: Vec<&str> = line.unwrap_or("").split(',').filter(|part| !part.starts_with("usec")).collect();
            assert_eq!(counts.join(","), expected, "{name} {who}");
            let histogram = peers[1].run(&format!("LATENCY HISTOGRAM {}", name.replace('|', " ")));
            let timed = format!("[\"{name}\", [\"calls\", :{calls}, ");
            assert!(calls == 0 || histogram.starts_with(&timed), "{histogram} {who}");
        }
    }

    /// Where our server and the oracle listen, for further clients.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let own = self.running.addr().expect("it listens on TCP").to_string();
        let oracle = self.oracle.as_ref().and_then(|peers| peers[0].stream.get_ref().peer_addr().ok());
        [own].into_iter().chain(oracle.map(|address| address.to_string())).collect()
    }

    /// The first client's CLIENT ID, here and at the oracle.
    pub(crate) fn ids(&mut self) -> [String; 2] {
        let id = |peers: &mut [Peer; 2]| peers[0].run("CLIENT ID").replace(':', "");
        [id(&mut self.own), self.oracle.as_mut().map(id).unwrap_or_default()]
    }

    /// The second client sends `command` with such an ID in place of `@`.
    #[track_caller]
    pub(crate) fn other_about(&mut self, [own, oracle]: &[String; 2], command: &str, expected: &str) {
        assert_eq!(self.own[1].run(&command.replace('@', own)), expected, "{command}");
        if let Some(peers) = &mut self.oracle {
            assert_eq!(peers[1].run(&command.replace('@', oracle)), expected, "{command} (the oracle)");
        }
    }

    /// Our second client sends `noise` again and again while our first one enters and leaves, the reply to `leave` being
    /// `left`. Nothing may come behind that reply: the client would take it for the next one.
    #[track_caller]
    pub(crate) fn check_silence_after(&mut self, noise: &str, enter: &str, leave: &str, left: &str) {
        let is_over = AtomicBool::new(false);
        let [leaver, noisy] = &mut self.own;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    noisy.run(noise);
                }
            });
            for _ in 0..300 {
                leaver.run(enter);
                leaver.send(leave);
                while leaver.receive() != left {}
                let reply = leaver.run("ECHO x");
                is_over.store(reply != "\"x\"", Ordering::Relaxed);
                assert_eq!(reply, "\"x\"", "after {leave}");
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }

    /// Lets time pass: a clock that the test turns is turned; the machine's, or the oracle's, is waited for.
    pub(crate) fn pass_ms(&mut self, ms: i64) {
        self.clock.advance_ms(ms);
        if matches!(self.clock, Clock::System) || self.oracle.is_some() {
            std::thread::sleep(Duration::from_millis(ms.unsigned_abs()));
        }
    }

    /// The second client sends `command` again and again, until the reply, from us and from the oracle, begins so.
    #[track_caller]
    pub(crate) fn until_other(&mut self, command: &str, beginning: &str) {
        for peers in self.oracle.iter_mut().chain([&mut self.own]) {
            until(command, || peers[1].run(command).starts_with(beginning));
        }
    }

    /// The first client sends `command`, which blocks, to us alone.
    pub(crate) fn send_here(&mut self, command: &str) {
        self.own[0].send(command);
    }

    /// The reply to it.
    pub(crate) fn receive_here(&mut self) -> String {
        self.own[0].receive()
    }

    /// A command of either client (0 or 1) to us alone.
    pub(crate) fn run_here(&mut self, client: usize, command: &str) -> String {
        self.own[client].run(command)
    }

    /// The next reply or push that the first client gets.
    #[track_caller]
    pub(crate) fn receive(&mut self, expected: &str) {
        assert_eq!(self.own[0].receive(), expected);
        if let Some(oracle) = &mut self.oracle {
            assert_eq!(oracle[0].receive(), expected, "(the oracle)");
        }
    }

    /// The next reply or push that the second client gets begins so.
    #[track_caller]
    pub(crate) fn other_receives(&mut self, beginning: &str) {
        for peers in [&mut self.own].into_iter().chain(&mut self.oracle) {
            let received = peers[1].receive();
            assert!(received.starts_with(beginning), "{received}");
        }
    }

    /// Whether our server has closed the first client's connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.own[0].stream.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    /// The next reply or push that the first client gets from us, whatever it is.
    pub(crate) fn next(&mut self) -> String {
        if let Some(oracle) = &mut self.oracle {
            oracle[0].receive();
        }
        self.own[0].receive()
    }

    #[track_caller]
    fn check_on(&mut self, peer: usize, command: &str, expected: &str) {
        assert_eq!(self.own[peer].run(command), expected, "{command}");
        if let Some(oracle) = &mut self.oracle {
            assert_eq!(oracle[peer].run(command), expected, "{command} (the oracle)");
        }
    }
}

/// A line that is not UTF-8, its bytes beyond ASCII as `\xHH`.
fn escaped(line: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("\\x{byte:02x}") };
    line.iter().map(shown).collect()
}

/// A command as RESP.
fn encoded(command: &str) -> Vec<u8> {
    let args = quote::split(command.as_bytes()).expect("quotes match up");
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(&arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Peer {
    pub(crate) fn connect(address: &str) -> Peer {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream: BufReader::new(stream) }
    }

    pub(crate) fn run(&mut self, command: &str) -> String {
        self.send(command);
        self.receive()
    }

    pub(crate) fn send(&mut self, command: &str) {
        self.stream.get_mut().write_all(&encoded(command)).unwrap();
    }

    fn receive(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("a reply in time");
        let line = String::from_utf8(line).unwrap_or_else(|error| escaped(error.as_bytes()));
        let line = line.trim_end_matches(['\r', '\n']);
        let (kind, rest) = line.split_at(line.len().min(1));
        match kind {
            "+" => rest.to_owned(),
            "-" | ":" | "," | "#" | "(" => line.to_owned(),
            "_" => "nil".to_owned(),
            "$" | "=" => self.bulk(rest),
            "*" => self.elements("", rest),
            "~" => self.elements("~", rest),
            ">" => self.elements(">", rest),
            "%" => {
                let pairs: usize = rest.parse().unwrap();
                let pairs: Vec<_> = (0..pairs).map(|_| format!("{}: {}", self.receive(), self.receive())).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            _ => panic!("no RESP: {line:?}"),
        }
    }

    fn bulk(&mut self, len: &str) -> String {
        let Ok(len) = len.parse::<usize>() else { return "nil".to_owned() };
        let mut bytes = vec![0; len + 2];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(quote::quoted(&bytes[..len])).unwrap()
    }

    fn elements(&mut self, sign: &str, len: &str) -> String {
        let Ok(len) = len.parse::<usize>() else { return "nil".to_owned() };
        let elements: Vec<_> = (0..len).map(|_| self.receive()).collect();
        format!("{sign}[{}]", elements.join(", "))
    }
}
