//! Servers in this process and a small client for them, for the tests of this folder.
#![allow(dead_code, reason = "no test uses all of it")]

use redstart::config::Config;
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for anything: a test that waits in vain fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration for a test: a free port on 127.0.0.1, two workers, nothing saved.
pub(crate) fn config() -> Config {
    Config { port: 0, bind: vec!["127.0.0.1".to_owned()], save: Vec::new(), io_threads: 2, ..Config::default() }
}

/// A server with [`config`].
pub(crate) fn start() -> Running {
    start_with(config())
}

/// A server with this configuration.
pub(crate) fn start_with(config: Config) -> Running {
    Server::start(Options { config, ..Options::default() }).expect("the address is free")
}

/// Waits until `is_so`; fails when it takes too long.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A folder of a test's own, removed with the value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("redstart-{name}-{}", std::process::id()));
        // Left over by a process of the same number, if at all.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the folder of temporary files can be written");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test may have removed it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A RESP2 reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
}

impl Reply {
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Reply::Integer(value) => *value,
            other => panic!("an integer was expected, not {other}"),
        }
    }

    pub(crate) fn array(self) -> Vec<Reply> {
        match self {
            Reply::Array(replies) => replies,
            other => panic!("an array was expected, not {other}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("a string was expected, not {other}"),
        }
    }

    /// A string that holds a number.
    pub(crate) fn number(&self) -> i64 {
        self.text().parse().expect("a number")
    }
}

/// As tests write replies: `+OK`, `-ERR ..`, `:1`, `bytes`, `nil`, `[a b]`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(text) => write!(f, "+{text}"),
            Reply::Error(text) => write!(f, "-{text}"),
            Reply::Integer(value) => write!(f, ":{value}"),
            Reply::Bulk(bytes) => write!(f, "{}", String::from_utf8_lossy(bytes)),
            Reply::Null => write!(f, "nil"),
            Reply::Array(replies) => {
                let texts: Vec<String> = replies.iter().map(Reply::to_string).collect();
                write!(f, "[{}]", texts.join(" "))
            }
        }
    }
}

/// A connected socket of either kind.
trait Socket: Read + Write + Send {}
impl<T: Read + Write + Send> Socket for T {}

/// A client that sends commands and waits for their replies.
pub(crate) struct Client(BufReader<Box<dyn Socket>>);

impl Client {
    pub(crate) fn connect(running: &Running) -> Client {
        Client::connect_to(running.addr().expect("it listens on TCP"))
    }

    pub(crate) fn connect_to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        Client(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn connect_unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        Client(BufReader::new(Box::new(stream)))
    }

    /// A client that speaks through a socket of the test's own making.
    pub(crate) fn over(socket: impl Read + Write + Send + 'static) -> Client {
        Client(BufReader::new(Box::new(socket)))
    }

    /// Runs a command of words without spaces; its reply, as [`Reply`] is displayed.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.call(&words).to_string()
    }

    pub(crate) fn call(&mut self, args: &[&str]) -> Reply {
        self.send(&request(args));
        self.reply()
    }

    /// Runs a command of any bytes.
    pub(crate) fn call_bytes(&mut self, args: &[&[u8]]) -> Reply {
        self.send(&request_bytes(args));
        self.reply()
    }

    /// Sends a command without waiting for its reply.
    pub(crate) fn start(&mut self, command: &str) {
        self.send(&request(&command.split_whitespace().collect::<Vec<_>>()));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server reads");
    }

    /// Sends to a server that may have closed.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let line = self.line();
        let (kind, rest) = line.split_at_checked(1).expect("the server answers before it closes");
        let len = || rest.parse::<i64>().expect("a number");
        match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(len()),
            "$" | "*" if len() < 0 => Reply::Null,
            "$" => {
                let mut bytes = vec![0; usize::try_from(len()).expect("not negative") + 2];
                self.0.read_exact(&mut bytes).expect("the server sends the whole string");
                assert!(bytes.ends_with(b"\r\n"), "a string has the length it says");
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            "*" => Reply::Array((0..len()).map(|_| self.reply()).collect()),
            _ => panic!("this is no RESP2 reply: {line:?}"),
        }
    }

    /// The next line; empty when the server has closed.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers in time");
        line.trim_end().to_owned()
    }

    /// The next `len` bytes, whatever they are.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).expect("the server sends that much");
        bytes
    }

    /// Whether the server closes the connection; what it sends before is thrown away.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            }
        }
    }
}

/// A command as clients send it.
pub(crate) fn request(args: &[&str]) -> Vec<u8> {
    request_bytes(&args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>())
}

/// A command of any bytes as clients send it.
pub(crate) fn request_bytes(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Waits until `count` clients of the server are blocked.
pub(crate) fn until_blocked(running: &Running, count: usize) {
    let mut client = Client::connect(running);
    let wanted = format!("blocked_clients:{count}\r");
    until(&format!("{count} clients are blocked"), || {
        client.call(&["INFO", "clients"]).text().lines().any(|line| line == wanted.trim_end())
    });
}
