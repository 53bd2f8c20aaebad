//! Listening sockets, and the way of an accepted one to a worker.

use crate::clients::Origin;
use crate::command::session::Session;
use crate::config::{Config, os_reason};
use crate::net::accepting::Arrival;
use crate::net::connection::Connection;
use crate::net::conversation::Conversation;
use crate::net::worker::{Connections, Handle};
use crate::os::log::Log;
use crate::server::Server;
use crate::socket::Stream;
use crate::socket::tls_stream::TlsStream;
use crate::util::sync::Mutex;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The sockets a server listens on.
pub struct Listeners {
    pub tcp: Vec<std::net::TcpListener>,
    /// On `tls-port`.
    pub tls: Vec<std::net::TcpListener>,
    pub unix: Option<std::os::unix::net::UnixListener>,
    unix_path: Option<PathBuf>,
    /// The TCP port; 0 when there is no TCP listener.
    pub port: u16,
    any_port: bool,
    log: Log,
}

impl Listeners {
    /// Binds what the configuration asks for. Port 0 means no TCP to Redis; an embedded server asks for any free
    /// port with `any_port`. Errors name the address, in Redis's words. To listen nowhere is an error, too.
    pub fn bind(config: &Config, any_port: bool, log: &Log) -> Result<Listeners, String> {
        let (tcp, tls) = (Vec::new(), Vec::new());
        let log = log.clone();
        let mut listeners = Listeners { tcp, tls, unix: None, unix_path: None, port: 0, any_port, log };
        listeners.bind_port(false, config)?;
        listeners.bind_port(true, config)?;
        let unix_path = config.unixsocket.as_ref().map(|path| config.dir.join(path));
        let unix = unix_path.as_deref().map(|path| bind_unix(path, config)).transpose();
        listeners.unix = unix.map_err(|reason| format!("Failed opening Unix socket: {reason}"))?;
        listeners.unix_path = unix_path;
        let is_nowhere = listeners.tcp.is_empty() && listeners.tls.is_empty() && listeners.unix.is_none();
        if is_nowhere && !any_port {
            return Err("Configured to not listen anywhere, exiting.".to_owned());
        }
        Ok(listeners)
    }

    /// Binds `port`, or `tls-port`, at the addresses that the configuration asks for; those bound before must be closed.
    pub fn bind_port(&mut self, is_tls: bool, config: &Config) -> Result<(), String> {
        if is_tls {
            let wants = config.tls_port != 0;
            self.tls = if wants { bind_addresses(config, config.tls_port, &self.log)?.0 } else { Vec::new() };
            return Ok(());
        }
        // A port that was found free once is kept.
        let port = if config.port == 0 && self.any_port { self.port } else { config.port };
        let wants = port != 0 || self.any_port;
        (self.tcp, self.port) = if wants { bind_addresses(config, port, &self.log)? } else { (Vec::new(), 0) };
        Ok(())
    }
}

/// Listens on `port` at every address of `bind`; on any free port (the same at all of them) when it is 0. The port.
fn bind_addresses(config: &Config, mut port: u16, log: &Log) -> Result<(Vec<std::net::TcpListener>, u16), String> {
    let mut bound = Vec::new();
    for wanted in &config.bind {
        // `-` before an address: do without it where the machine does not have it.
        let (address, is_optional) = wanted.strip_prefix('-').map_or((wanted.as_str(), false), |a| (a, true));
        match bind_tcp(address, port, config.tcp_backlog) {
            Ok(listener) => {
                if port == 0 {
                    port = listener.local_addr().map_or(0, |address| address.port());
                }
                bound.push(listener);
            }
            Err(error) => {
                let reason =
                    format!("Could not create server TCP listening socket {address}:{port}: {}", bind_reason(&error));
                if !(is_optional && is_unavailable(&error)) {
                    return Err(reason);
                }
                log.warning(format_args!("Warning: {reason}"));
            }
        }
    }
    Ok((bound, port))
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if let Some(path) = &self.unix_path {
            self.log.notice("Removing the unix socket file.");
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(address: &str, port: u16, backlog: u32) -> io::Result<std::net::TcpListener> {
    let address = match address {
        "*" => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        "::*" => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        name => (name, port).to_socket_addrs()?.next().ok_or(ErrorKind::AddrNotAvailable)?,
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Binds under a private name first and gives it its permissions, so that nobody connects before they hold
/// (CVE-2023-45145).
fn bind_unix(path: &Path, config: &Config) -> Result<std::os::unix::net::UnixListener, String> {
    let len = path.as_os_str().len();
    if len > MAX_UNIX_PATH_LEN {
        return Err(format!("unix socket path too long ({len}), must be under {}", MAX_UNIX_PATH_LEN + 1));
    }
    if path.is_dir() {
        return Err(bind_reason(&io::Error::from_raw_os_error(libc::EADDRINUSE)));
    }
    let private = path.with_extension(format!("tmp{}", std::process::id()));
    // Left over by a process that died.
    let _ = std::fs::remove_file(&private);
    let bound = bind_private(&private, path, config);
    if bound.is_err() {
        // It may not even be there.
        let _ = std::fs::remove_file(&private);
    }
    bound.map_err(|error| bind_reason(&error))
}

fn bind_private(private: &Path, path: &Path, config: &Config) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(private)?)?;
    if config.unixsocketperm != 0 {
        std::fs::set_permissions(private, Permissions::from_mode(config.unixsocketperm))?;
    }
    socket.listen(i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    std::fs::rename(private, path)?;
    Ok(socket.into())
}

/// Hands accepted sockets to the workers, one after the other.
#[derive(Debug)]
pub struct Acceptor {
    pub server: Arc<Server>,
    pub connections: Arc<Connections>,
    pub workers: Vec<Handle>,
    next: usize,
}

impl Acceptor {
    /// An acceptor for running workers.
    pub fn new(server: Arc<Server>, connections: Arc<Connections>, workers: Vec<Handle>) -> Self {
        Acceptor { server, connections, workers, next: 0 }
    }

    /// Admits a connection or turns it away.
    pub fn admit(&mut self, arrival: Arrival) -> io::Result<()> {
        match arrival {
            Arrival::Tcp { socket, peer, is_tls } => self.admit_tcp(socket, peer, is_tls),
            Arrival::Unix(socket) => self.admit_unix(socket),
        }
    }

    fn admit_tcp(&mut self, socket: std::net::TcpStream, peer: SocketAddr, is_tls: bool) -> io::Result<()> {
        let config = self.server.config.load();
        // Under TLS words can be read only after a handshake: one too many is not given that.
        if self.is_full(&config) {
            return if is_tls { Ok(()) } else { refuse(Socket::from(socket), FULL) };
        }
        let denial = self.denies(&config, peer.ip()).then_some(PROTECTED);
        if let Some(denial) = denial.filter(|_| !is_tls) {
            return refuse(Socket::from(socket), denial);
        }
        let not_configured = || io::Error::other("TLS is not configured");
        let tls = is_tls.then(|| self.server.tls.accepting().ok_or_else(not_configured)).transpose()?;
        let socket_ref = SockRef::from(&socket);
        socket_ref.set_tcp_nodelay(true)?;
        if config.tcp_keepalive > 0 {
            let interval = Duration::from_secs(u64::from(config.tcp_keepalive / 3).max(1));
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(u64::from(config.tcp_keepalive)))
                .with_interval(interval)
                .with_retries(3);
            socket_ref.set_tcp_keepalive(&keepalive)?;
        }
        let laddr = socket.local_addr()?.to_string();
        let origin = Origin { addr: peer.to_string(), laddr, fd: socket.as_raw_fd(), unix_socket: false };
        socket.set_nonblocking(true)?;
        let worker = self.next_worker();
        let stream = {
            let _runtime = self.workers[worker].runtime.enter();
            let socket = tokio::net::TcpStream::from_std(socket)?;
            match tls {
                Some(tls) => Stream::Tls(Box::new(TlsStream::new(socket, tls)?)),
                None => Stream::Tcp(socket),
            }
        };
        self.adopt(stream, origin, worker, denial);
        Ok(())
    }

    fn admit_unix(&mut self, socket: std::os::unix::net::UnixStream) -> io::Result<()> {
        let config = self.server.config.load();
        if self.is_full(&config) {
            return refuse(Socket::from(socket), FULL);
        }
        let addr = format!("{}:0", config.unixsocket.as_deref().unwrap_or_default());
        let origin = Origin { addr: addr.clone(), laddr: addr, fd: socket.as_raw_fd(), unix_socket: true };
        socket.set_nonblocking(true)?;
        let worker = self.next_worker();
        let stream = {
            let _runtime = self.workers[worker].runtime.enter();
            Stream::Unix(tokio::net::UnixStream::from_std(socket)?)
        };
        self.adopt(stream, origin, worker, None);
        Ok(())
    }

    fn next_worker(&mut self) -> usize {
        self.next = (self.next + 1) % self.workers.len();
        self.next
    }

    /// Gives the connection to its worker, with `last_words` only to be told these.
    fn adopt(&self, stream: Stream, origin: Origin, worker: usize, last_words: Option<&str>) {
        let server = &self.server;
        server.stats.connections_received.fetch_add(1, Ordering::Relaxed);
        let account = server.acl.default_account().clone();
        let client = server.clients.add(origin, worker, server.clock.now_ms(), account);
        let id = client.id;
        let session = Session::new(client, !server.acl.requires_auth());
        let mut conversation = Conversation::new(session);
        if let Some(text) = last_words {
            conversation.dismiss(text);
        }
        let connection = Arc::new(Mutex::new(Connection::new(stream, conversation)));
        self.connections.write().insert(id, connection.clone());
        self.workers[worker].adopt(connection);
    }

    /// Whether there is no room for another client, which is counted. Source: Redis 7.2 `maxclients`.
    fn is_full(&self, config: &Config) -> bool {
        let is_full = self.server.clients.len() >= config.maxclients as usize;
        self.server.stats.rejected_connections.fetch_add(is_full.into(), Ordering::Relaxed);
        is_full
    }

    /// Whether this peer may not be served, which is counted. Source: Redis 7.2 `protected-mode`.
    fn denies(&self, config: &Config, peer: IpAddr) -> bool {
        let is_remote = !peer.to_canonical().is_loopback();
        let denies = config.protected_mode && is_remote && self.server.acl.default_account().user().nopass;
        self.server.stats.rejected_connections.fetch_add(denies.into(), Ordering::Relaxed);
        denies
    }
}

fn refuse(socket: Socket, text: &str) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // The peer is being turned away: whether it reads the reason is its own affair.
    let _ = socket.send(text.as_bytes());
    Ok(())
}

fn is_unavailable(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOPROTOOPT))
}

/// Why an address cannot be bound, as Redis tells it.
fn bind_reason(error: &io::Error) -> String {
    let text = os_reason(error);
    // A host that nobody knows is not bound at all.
    match text.strip_prefix("failed to lookup address information: ") {
        Some(reason) => reason.to_owned(),
        None => format!("bind: {text}"),
    }
}

/// The kernel's room for a path, without the zero at its end.
const MAX_UNIX_PATH_LEN: usize = 107;

const FULL: &str = "-ERR max number of clients reached\r\n";

const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password \
is set for the default user. In this mode connections are only accepted from the loopback interface. To accept \
connections from elsewhere, set a password for the default user, or disable protected mode with 'CONFIG SET \
protected-mode no' or in the configuration.\r\n";
