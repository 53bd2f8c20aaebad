//! One of the two servers: its process, and connections to it.

use crate::value::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub type Argv = Vec<Vec<u8>>;

/// A server that this process has started.
pub struct Peer {
    pub name: &'static str,
    process: Child,
    folder: PathBuf,
    port: u16,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Peer {
    pub fn start(name: &'static str, executable: &str) -> Peer {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let folder = std::env::temp_dir().join(format!("redstart-differ-{port}"));
        std::fs::create_dir_all(&folder).expect("temporary files can be written");
        let log = std::fs::File::create(folder.join("log")).expect("temporary files can be written");
        let process = Command::new(executable)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--enable-debug-command", "yes"])
            .arg("--dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file has more than one handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{executable}: {error}"));
        let peer = Peer { name, process, folder, port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "{executable} does not start:\n{}", peer.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        peer
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let report = log.find("BUG REPORT START").or(log.find("CRASH REPORT")).unwrap_or_default();
        log[report..].chars().take(3000).collect()
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    pub fn connect(&self) -> std::io::Result<Link> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut link = Link { stream, received: Vec::new(), is_closed: false, id: 0 };
        let id = link.ask(&[b"CLIENT", b"ID"])?;
        link.id = std::str::from_utf8(id.text()).ok().and_then(|id| id.parse().ok()).unwrap_or_default();
        Ok(link)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; its files are ours.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A connection.
pub struct Link {
    stream: TcpStream,
    /// What came and is not looked at yet.
    pub received: Vec<u8>,
    pub is_closed: bool,
    /// Its CLIENT ID.
    pub id: i64,
}

impl Link {
    pub fn send(&mut self, bytes: &[u8]) {
        if self.stream.set_nonblocking(false).and_then(|()| self.stream.write_all(bytes)).is_err() {
            self.is_closed = true;
        }
    }

    /// Takes what is there.
    pub fn take_in(&mut self) {
        if self.stream.set_nonblocking(true).is_err() {
            self.is_closed = true;
        }
        let mut buffer = [0; 65536];
        while !self.is_closed {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_closed = true,
            }
        }
    }

    /// Waits for the next value.
    pub fn next(&mut self) -> std::io::Result<Value> {
        self.stream.set_nonblocking(false)?;
        let mut buffer = [0; 65536];
        loop {
            let parsed = Value::parse(&self.received).map_err(std::io::Error::other)?;
            if let Some((value, rest)) = parsed {
                self.received = rest.to_vec();
                return Ok(value);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    pub fn ask(&mut self, argv: &[&[u8]]) -> std::io::Result<Value> {
        self.send(&encode(argv));
        self.next()
    }
}

/// A command as RESP.
pub fn encode<T: AsRef<[u8]>>(argv: &[T]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", argv.len()).into_bytes();
    for arg in argv {
        bytes.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        bytes.extend_from_slice(arg.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
