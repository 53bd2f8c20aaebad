//! MIGRATE's work: values on their way to another server, on a thread of their own.
//!
//! While a value is under way its key is held: commands that would change it wait in front of the engine, as if the
//! server were doing nothing else, and everybody else goes on. Connections to targets are kept for a while.

use crate::clients::Client;
use crate::util::sync::{Mutex, MutexGuard};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is under way from one server.
#[derive(Debug, Default)]
pub struct Migrations {
    held: Mutex<Held>,
    /// How many migrations are under way.
    active: AtomicUsize,
    /// How many have ended.
    ended: AtomicU64,
    sockets: Mutex<Vec<Socket>>,
    /// Held by the one thread that counts what its migration changes, in counters that bear one writer.
    counting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// The keys under way, of whichever database, and in how many migrations: as many as MIGRATE has named. O(log n) each.
    keys: BTreeMap<Arc<[u8]>, usize>,
    waiting: Vec<Arc<Client>>,
}

/// A connection to a target.
#[derive(Debug)]
struct Socket {
    target: Target,
    stream: Stream,
    /// The database selected there, if that is known.
    db: Option<i64>,
    used_at: Instant,
}

/// The bytes to and from a target.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Where values go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
}

/// Values to be sent.
#[derive(Debug)]
pub struct Transfer {
    pub target: Target,
    pub db: i64,
    /// For every single step.
    pub timeout: Duration,
    /// The arguments of AUTH, none without.
    pub auth: Vec<Vec<u8>>,
    /// What to connect with, if that is to be under TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub replace: bool,
    pub items: Vec<Item>,
}

/// One value.
#[derive(Debug)]
pub struct Item {
    pub key: Arc<[u8]>,
    /// 0: it does not expire.
    pub ttl_ms: i64,
    /// As DUMP gives it.
    pub payload: Vec<u8>,
}

/// How a transfer went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The keys that the target has taken.
    pub taken: Vec<Arc<[u8]>>,
    /// The error reply, if not all is well.
    pub error: Option<String>,
}

/// Most connections kept. Source: Redis 7.2.
const SOCKETS: usize = 64;
/// How long an unused connection is kept. Source: Redis 7.2.
const SOCKET_TTL: Duration = Duration::from_secs(10);
/// Most bytes of a reply's line.
const LINE_BYTES: usize = 1024;

impl Migrations {
    /// Whether anything is under way.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Waits until no other migration counts what it changes. Nothing else may be locked while this is held.
    pub fn counting(&self) -> MutexGuard<'_, ()> {
        self.counting.lock()
    }

    /// How many have ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Holds keys from now on. The shards of these must be locked.
    pub fn hold(&self, keys: &[Arc<[u8]>]) {
        let mut held = self.held.lock();
        keys.iter().for_each(|key| *held.keys.entry(key.clone()).or_default() += 1);
        self.active.fetch_add(1, Ordering::Release);
    }

    /// If `touches` says so of any held key, enters a client that is to be woken when a migration has ended; how many
    /// have ended so far.
    pub fn wait(&self, client: &Arc<Client>, touches: impl FnOnce(&dyn Fn(&[u8]) -> bool) -> bool) -> Option<u64> {
        let mut held = self.held.lock();
        if held.keys.is_empty() || !touches(&|key| held.keys.contains_key(key)) {
            return None;
        }
        held.waiting.push(client.clone());
        Some(self.ended())
    }

    /// Lets go of keys and wakes who waits.
    pub fn release(&self, keys: &[Arc<[u8]>]) {
        let mut held = self.held.lock();
        for key in keys {
            if let Entry::Occupied(mut known) = held.keys.entry(key.clone()) {
                *known.get_mut() -= 1;
                if *known.get() == 0 {
                    known.remove();
                }
            }
        }
        self.active.fetch_sub(1, Ordering::Release);
        self.ended.fetch_add(1, Ordering::Release);
        std::mem::take(&mut held.waiting).into_iter().for_each(|client| client.mailbox.wake());
    }

    /// Connections that are kept.
    pub fn sockets(&self) -> usize {
        self.sockets.lock().len()
    }

    /// Closes connections that have not been used for a while.
    pub fn close_unused(&self) {
        self.sockets.lock().retain(|socket| socket.used_at.elapsed() <= SOCKET_TTL);
    }

    /// Sends the values and waits for the answers. A kept connection may have been closed meanwhile: a broken one is
    /// tried once more, afresh, as long as nothing was answered.
    pub fn run(&self, transfer: &Transfer) -> Outcome {
        let mut may_retry = true;
        loop {
            let mut socket = match self.socket(transfer) {
                Ok(socket) => socket,
                // Redis finds a refused connection when it writes.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return failed("IOERR error or timeout writing to target instance");
                }
                Err(_) => return failed("IOERR error or timeout connecting to the client"),
            };
            let mut outcome = Outcome::default();
            let result = socket.send(transfer).map_err(|error| ("writing", error)).and_then(|selects| {
                socket.receive(transfer, selects, &mut outcome).map_err(|error| ("reading", error))
            });
            let Err((doing, error)) = result else {
                socket.db = Some(transfer.db).filter(|_| outcome.error.is_none());
                self.keep(socket);
                return outcome;
            };
            let is_timeout = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
            let is_fresh = outcome == Outcome::default();
            if is_fresh && may_retry && !is_timeout {
                may_retry = false;
                continue;
            }
            let text = || format!("IOERR error or timeout {doing} to target instance");
            outcome.error.get_or_insert_with(text);
            return outcome;
        }
    }

    /// A kept connection to the target, or a new one.
    fn socket(&self, transfer: &Transfer) -> io::Result<Socket> {
        let mut sockets = self.sockets.lock();
        let is_tls = transfer.tls.is_some();
        let fits = |socket: &Socket| socket.target == transfer.target && socket.stream.is_tls() == is_tls;
        if let Some(at) = sockets.iter().position(fits) {
            let socket = sockets.swap_remove(at);
            drop(sockets);
            set_timeout(socket.stream.tcp(), transfer.timeout)?;
            return Ok(socket);
        }
        drop(sockets);
        Socket::connect(transfer)
    }

    fn keep(&self, mut socket: Socket) {
        socket.used_at = Instant::now();
        let mut sockets = self.sockets.lock();
        if sockets.len() >= SOCKETS {
            sockets.swap_remove(0);
        }
        sockets.push(socket);
    }
}

fn failed(text: &str) -> Outcome {
    Outcome { taken: Vec::new(), error: Some(text.to_owned()) }
}

impl Socket {
    fn connect(transfer: &Transfer) -> io::Result<Socket> {
        let (target, timeout) = (&transfer.target, transfer.timeout);
        let mut last = io::Error::from(ErrorKind::NotFound);
        for address in (target.host.as_str(), target.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(tcp) => {
                    tcp.set_nodelay(true)?;
                    set_timeout(&tcp, timeout)?;
                    let stream = match &transfer.tls {
                        None => Stream::Tcp(tcp),
                        Some(tls) => Stream::secure(tcp, tls.clone(), address.ip())?,
                    };
                    return Ok(Socket { target: target.clone(), stream, db: None, used_at: Instant::now() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends AUTH, SELECT if that is needed, and a RESTORE for each value; whether SELECT was sent.
    fn send(&mut self, transfer: &Transfer) -> io::Result<bool> {
        let mut bytes = Vec::new();
        if !transfer.auth.is_empty() {
            let arguments: Vec<&[u8]> = transfer.auth.iter().map(Vec::as_slice).collect();
            append(&mut bytes, &[&[&b"AUTH"[..]], &arguments[..]].concat());
        }
        let selects = self.db != Some(transfer.db);
        if selects {
            append(&mut bytes, &[b"SELECT", transfer.db.to_string().as_bytes()]);
        }
        for item in &transfer.items {
            let ttl = item.ttl_ms.to_string();
            let restore: [&[u8]; 5] = [b"RESTORE", &item.key, ttl.as_bytes(), &item.payload, b"REPLACE"];
            append(&mut bytes, if transfer.replace { &restore } else { &restore[..4] });
        }
        self.stream.write_all(&bytes)?;
        Ok(selects)
    }

    /// Reads the answers into `outcome`.
    fn receive(&mut self, transfer: &Transfer, selects: bool, outcome: &mut Outcome) -> io::Result<()> {
        let auth = if transfer.auth.is_empty() { String::new() } else { self.line()? };
        let select = if selects { self.line()? } else { String::new() };
        for item in &transfer.items {
            let restore = self.line()?;
            match [&auth, &select, &restore].into_iter().find_map(|line| line.strip_prefix('-')) {
                None => outcome.taken.push(item.key.clone()),
                Some(error) => {
                    let text = || format!("ERR Target instance replied with error: {error}");
                    outcome.error.get_or_insert_with(text);
                }
            }
        }
        Ok(())
    }

    /// The next line without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < LINE_BYTES {
            self.stream.read_exact(&mut byte)?;
            match byte[0] {
                b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()),
                byte => line.push(byte),
            }
        }
        Err(ErrorKind::InvalidData.into())
    }
}

/// For every single step from now on.
fn set_timeout(tcp: &TcpStream, timeout: Duration) -> io::Result<()> {
    tcp.set_read_timeout(Some(timeout))?;
    tcp.set_write_timeout(Some(timeout))
}

impl Stream {
    /// Shakes hands.
    fn secure(mut tcp: TcpStream, tls: Arc<ClientConfig>, ip: IpAddr) -> io::Result<Stream> {
        let mut session = ClientConnection::new(tls, ip.into()).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(session, tcp))))
    }

    fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Tcp(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(tcp) => tcp.read_exact(bytes),
            Stream::Tls(tls) => tls.read_exact(bytes),
        }
    }
}

fn append(bytes: &mut Vec<u8>, argv: &[&[u8]]) {
    bytes.extend_from_slice(format!("*{}\r\n", argv.len()).as_bytes());
    for arg in argv {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
}
