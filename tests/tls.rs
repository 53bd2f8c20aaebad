//! Connections under TLS: certificates made for the test, rustls on the client's side.

mod common;

use common::{Client, Folder, PATIENCE, Reply, config, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use redstart::config::{Config, OutputLimit, TlsAuthClients};
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, version};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    authority_with(|_| {})
}

fn authority_with(change: impl FnOnce(&mut CertificateParams)) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Whoever has its issuer's name has issued itself.
    params.distinguished_name.push(rcgen::DnType::CommonName, "Authority");
    change(&mut params);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A certificate for localhost and its key, as PEM.
fn issue(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    (params.signed_by(&key, authority).expect("a certificate").pem(), key.serialize_pem())
}

/// A server with TLS, its files, and its authority.
struct Setup {
    server: Running,
    folder: Folder,
    authority: Authority,
    tls_port: u16,
}

impl Setup {
    fn new(name: &str, change: impl FnOnce(&mut Config)) -> Setup {
        let folder = Folder::new(name);
        let authority = authority();
        let (certificate, key) = issue(&authority);
        let write = |name: &str, text: &str| std::fs::write(folder.0.join(name), text).expect("it can be written");
        write("ca.crt", &authority.pem());
        write("own.crt", &certificate);
        write("own.key", &key);
        let mut config = Config {
            dir: folder.0.clone(),
            tls_port: ANY_PORT,
            tls_cert_file: Some("own.crt".to_owned()),
            tls_key_file: Some("own.key".to_owned()),
            tls_ca_cert_file: Some("ca.crt".to_owned()),
            tls_auth_clients: TlsAuthClients::No,
            ..config()
        };
        change(&mut config);
        let server = start(&mut config).expect("it has its files");
        Setup { server, folder, authority, tls_port: config.tls_port }
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.tls_port).into()
    }

    fn plain(&self) -> Client {
        Client::connect(&self.server)
    }

    /// What a client that trusts the authority needs; with a certificate of that authority if asked for.
    fn client_config(&self, has_certificate: bool) -> ClientConfig {
        let own = has_certificate.then(|| issue(&self.authority));
        client_config(&self.authority, own, &[&version::TLS13, &version::TLS12])
    }

    fn connect(&self) -> Client {
        Client::over(self.stream(Arc::new(self.client_config(false))))
    }

    fn stream(&self, config: Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
        let socket = TcpStream::connect(self.address()).expect("the server accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(ClientConnection::new(config, name).expect("a session"), socket)
    }

    /// Whether PING is answered; the handshake may fail.
    fn is_served(&self, config: ClientConfig) -> bool {
        let mut stream = self.stream(Arc::new(config));
        let mut reply = [0; 7];
        stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut reply)).is_ok() && reply == *b"+PONG\r\n"
    }
}

fn client_config(
    trusted: &Authority,
    own: Option<(String, String)>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("known versions");
    let builder = builder.with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("they belong together")
        }
    }
}

/// Stands for a port that is free.
const ANY_PORT: u16 = 1;

/// Starts a server; a port that somebody else has taken before it could is replaced by another one.
fn start(config: &mut Config) -> Result<Running, String> {
    for _ in 0..100 {
        if config.tls_port != 0 {
            config.tls_port = free_port();
        }
        match Server::start(Options { config: config.clone(), ..Options::default() }) {
            Err(error) if error.contains("Address already in use") => {}
            started => return started,
        }
    }
    panic!("no port stays free")
}

/// A port that nobody listens on just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn certificates_are_asked_for_as_configured() {
    let setup = Setup::new("tls-auth", |config| config.tls_auth_clients = TlsAuthClients::Yes);
    let stranger = || client_config(&setup.authority, Some(issue(&authority())), &[&version::TLS13]);
    let mut admin = setup.plain();
    for (mode, without, foreign) in [("yes", false, false), ("optional", true, false), ("no", true, true)] {
        assert_eq!(admin.run(&format!("CONFIG SET tls-auth-clients {mode}")), "+OK");
        assert!(setup.is_served(setup.client_config(true)), "{mode}: with a certificate");
        assert_eq!(setup.is_served(setup.client_config(false)), without, "{mode}: without one");
        assert_eq!(setup.is_served(stranger()), foreign, "{mode}: with a certificate of somebody else");
    }
    assert_eq!(
        admin.run("CONFIG SET tls-ca-cert-file own.key"),
        "-ERR CONFIG SET failed (possibly related to argument 'tls-ca-cert-file') - Unable to update TLS \
         configuration. Check server logs."
    );
}

/// An authority is a certificate, not only a key: one that OpenSSL would not take vouches for nobody.
#[test]
fn authorities_are_judged_like_other_certificates() {
    let setup = Setup::new("tls-authorities", |config| config.tls_auth_clients = TlsAuthClients::Yes);
    let mut admin = setup.plain();
    let mut serves = |vouching: &Authority, versions| {
        std::fs::write(setup.folder.0.join("other.crt"), vouching.pem()).expect("it can be written");
        assert_eq!(admin.run("CONFIG SET tls-ca-cert-file other.crt"), "+OK");
        setup.is_served(client_config(&setup.authority, Some(issue(vouching)), &[versions]))
    };
    for version in [&version::TLS12, &version::TLS13] {
        assert!(serves(&authority(), version));
        let over = authority_with(|params| params.not_after = rcgen::date_time_ymd(2021, 1, 1));
        assert!(!serves(&over, version), "its time is over");
        assert!(!serves(&authority_with(|params| params.is_ca = IsCa::ExplicitNoCa), version), "CA:FALSE");
        let own = authority();
        let shown = Some((own.pem(), own.key().serialize_pem()));
        assert!(
            serves(&own, version) && setup.is_served(client_config(&setup.authority, shown, &[version])),
            "its own"
        );
    }
}

#[test]
fn what_goes_in_comes_out() {
    let setup = Setup::new("tls-data", |config| config.unixsocket = Some("socket".to_owned()));
    let mut client = setup.connect();
    let large = "0123456789abcdef".repeat(256 * 1024);
    assert_eq!(client.call(&["SET", "large", &large]), Reply::Simple("OK".to_owned()));
    // More replies than fit anywhere, before the first is read.
    client.send(&common::request(&["GET", "large"]).repeat(8));
    for _ in 0..8 {
        assert_eq!(client.reply().text(), large);
    }
    for count in [1, 100, 5000] {
        client.send(&common::request(&["INCR", "n"]).repeat(count));
        assert!((0..count).all(|_| client.reply().integer() > 0));
    }
    assert_eq!(client.run("GET n"), "5101");
    assert_eq!(setup.plain().run("GET n"), "5101");
    let info = setup.plain().call(&["INFO", "server"]).text();
    let port = setup.tls_port;
    for line in
        ["listener1:name=unix,bind=socket\r\n".to_owned(), format!("listener2:name=tls,bind=127.0.0.1,port={port}\r\n")]
    {
        assert!(info.contains(&line), "{line}: {info}");
    }
    // A goodbye, so that the client can tell the end from a cut: `is_closed` takes nothing else for the end.
    assert_eq!(client.run("QUIT"), "+OK");
    assert!(client.is_closed());
}

#[test]
fn blocked_and_subscribed_clients_hear() {
    let setup = Setup::new("tls-wait", |_| {});
    let (mut waiting, mut subscriber, mut other) = (setup.connect(), setup.connect(), setup.plain());
    waiting.start("BLPOP list 0");
    common::until_blocked(&setup.server, 1);
    assert_eq!(subscriber.run("SUBSCRIBE news"), "[subscribe news :1]");
    assert_eq!(other.run("PUBLISH news today"), ":1");
    assert_eq!(subscriber.reply().to_string(), "[message news today]");
    assert_eq!(other.run("RPUSH list a"), ":1");
    assert_eq!(waiting.reply().to_string(), "[list a]");
    waiting.start("BLPOP list 0");
    common::until_blocked(&setup.server, 1);
    assert_eq!(other.run("CLIENT KILL TYPE normal"), ":1");
    assert!(waiting.is_closed());
}

/// MIGRATE between servers of one authority; one of another authority is not trusted, and a client without a certificate
/// not let in.
#[test]
fn values_migrate_under_tls() {
    let from = Setup::new("tls-from", |config| config.tls_cluster = true);
    let to = Setup::new("tls-to", |config| config.tls_auth_clients = TlsAuthClients::Yes);
    let read = |name: &str| std::fs::read(from.folder.0.join(name)).expect("it was written");
    let mut target = to.plain();
    let mut client = from.plain();
    assert_eq!(client.run("SET k v"), "+OK");
    let migrate = format!("MIGRATE 127.0.0.1 {} k 0 5000 REPLACE", to.tls_port);
    let refused = "-IOERR error or timeout connecting to the client";
    assert_eq!(client.run(&migrate), refused, "the authority is another one");
    for name in ["ca.crt", "own.crt", "own.key"] {
        std::fs::write(to.folder.0.join(name), read(name)).expect("it can be written");
    }
    assert_eq!(target.run("CONFIG SET tls-ca-cert-file ca.crt"), "+OK");
    assert_eq!(client.run(&migrate), "+OK");
    assert_eq!((client.run("EXISTS k"), target.run("GET k")), (":0".to_owned(), "v".to_owned()));
    assert_eq!(client.run("SET k w"), "+OK");
    assert_eq!(client.run(&migrate), "+OK", "over the same connection");
    assert_eq!(target.run("GET k"), "w");
    // A plain connection would be kept for the same address.
    assert_eq!(client.run("CONFIG SET tls-cluster no"), "+OK");
    assert_eq!(client.run("SET k x"), "+OK");
    assert!(client.run(&migrate).starts_with("-IOERR"), "what listens there speaks TLS");
    assert_eq!(target.run("GET k"), "w");
}

/// An address of this machine that is not the loopback interface's, if it has one. Nothing is sent.
fn other_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn who_is_not_served_is_told_after_the_handshake() {
    let Some(ip) = other_address() else { return };
    let setup = Setup::new("tls-denied", |config| {
        config.bind = vec!["*".to_owned()];
        config.protected_mode = true;
    });
    let stream = || {
        let socket = TcpStream::connect((ip, setup.tls_port)).expect("the server accepts");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        let name = ServerName::try_from("localhost").expect("a name");
        let config = Arc::new(setup.client_config(false));
        StreamOwned::new(ClientConnection::new(config, name).expect("a session"), socket)
    };
    let mut told = String::new();
    stream().read_to_string(&mut told).expect("it ends with a goodbye");
    assert!(told.starts_with("-DENIED Redis is running in protected mode"), "{told}");
    let mut admin = setup.connect();
    assert_eq!(admin.run("CONFIG SET requirepass secret"), "+OK");
    let mut client = Client::over(stream());
    assert_eq!(client.run("AUTH secret"), "+OK");
}

#[test]
fn files_are_read_again_by_config_set() {
    let setup = Setup::new("tls-reload", |_| {});
    let mut before = setup.connect();
    let certificate_of = |stream: &mut StreamOwned<ClientConnection, TcpStream>| {
        stream.write_all(b"PING\r\n").expect("the server reads");
        stream.read_exact(&mut [0; 7]).expect("the server answers");
        stream.conn.peer_certificates().expect("the server has one")[0].clone()
    };
    let config = Arc::new(setup.client_config(false));
    let first = certificate_of(&mut setup.stream(config.clone()));
    let (certificate, key) = issue(&setup.authority);
    let write = |name: &str, text: &str| std::fs::write(setup.folder.0.join(name), text).expect("it can be written");
    // A new certificate without its key: nothing changes.
    write("own.crt", &certificate);
    let refused = "-ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable to update TLS \
                   configuration. Check server logs.";
    assert_eq!(before.run("CONFIG SET tls-cert-file own.crt"), refused);
    assert_eq!(before.run("CONFIG SET tls-cert-file nowhere.crt"), refused);
    assert_eq!(before.run("CONFIG GET tls-cert-file"), "[tls-cert-file own.crt]");
    assert_eq!(certificate_of(&mut setup.stream(config.clone())), first);
    // The same name again reads the file again.
    write("own.key", &key);
    assert_eq!(before.run("CONFIG SET tls-key-file own.key"), "+OK");
    let fresh = Arc::new(setup.client_config(false));
    assert_ne!(certificate_of(&mut setup.stream(fresh)), first);
    assert_eq!(before.run("PING"), "+PONG");
}

#[test]
fn ports_are_switched_by_config_set() {
    let setup = Setup::new("tls-ports", |config| config.tls_port = 0);
    let mut admin = setup.plain();
    let plain_port = setup.server.addr().expect("it listens").port();
    let mut port = 0;
    until("a port is free", || {
        port = free_port();
        admin.run(&format!("CONFIG SET tls-port {port}")) == "+OK"
    });
    let setup = Setup { tls_port: port, ..setup };
    assert_eq!(setup.connect().run("PING"), "+PONG");
    let taken = format!("CONFIG SET tls-port {plain_port}");
    let refused = "-ERR CONFIG SET failed (possibly related to argument 'tls-port') - Unable to listen on this port. \
                   Check server logs.";
    assert_eq!(admin.run(&taken), refused);
    assert_eq!(setup.connect().run("PING"), "+PONG");
    assert_eq!(admin.run("CONFIG SET bind 127.0.0.1"), "+OK");
    assert_eq!(setup.connect().run("PING"), "+PONG");
    assert_eq!(admin.run("CONFIG SET tls-port 0"), "+OK");
    assert!(TcpStream::connect(setup.address()).is_err());
    assert_eq!(setup.plain().run("PING"), "+PONG");
}

#[test]
fn versions_and_ciphers_are_as_configured() {
    let setup = Setup::new("tls-versions", |_| {});
    let mut admin = setup.plain();
    let speaks = |version| setup.is_served(client_config(&setup.authority, None, &[version]));
    for (protocols, speaks_12, speaks_13) in
        [("TLSv1.2", true, false), ("TLSv1.3", false, true), ("TLSv1.1 TLSv1.2 TLSv1.3", true, true)]
    {
        assert_eq!(admin.call(&["CONFIG", "SET", "tls-protocols", protocols]).to_string(), "+OK");
        assert_eq!((speaks(&version::TLS12), speaks(&version::TLS13)), (speaks_12, speaks_13), "{protocols}");
    }
    let suite_of = |ciphers: &str| {
        let mut stream = setup.stream(Arc::new(client_config(&setup.authority, None, &[&version::TLS12])));
        stream.write_all(b"PING\r\n").expect(ciphers);
        stream.conn.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()))
    };
    for (ciphers, suite) in [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        ("ECDHE:!AES", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ] {
        assert_eq!(admin.call(&["CONFIG", "SET", "tls-ciphers", ciphers]).to_string(), "+OK");
        assert_eq!(suite_of(ciphers).as_deref(), Some(suite));
    }
    let order = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";
    assert_eq!(admin.call(&["CONFIG", "SET", "tls-ciphers", order]).to_string(), "+OK");
    assert_eq!(suite_of(order).as_deref(), Some("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"));
    assert_eq!(admin.run("CONFIG SET tls-prefer-server-ciphers yes"), "+OK");
    assert_eq!(suite_of(order).as_deref(), Some("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"));
    assert!(admin.run("CONFIG SET tls-ciphers AES128-SHA256").starts_with("-ERR CONFIG SET failed"));
    assert!(admin.run("CONFIG SET tls-protocols TLSv1").starts_with("-ERR CONFIG SET failed"));
}

#[test]
fn sessions_are_resumed_if_they_are_cached() {
    let setup = Setup::new("tls-sessions", |_| {});
    let mut admin = setup.plain();
    for versions in [&version::TLS12, &version::TLS13] {
        for (caching, resumed) in [("yes", HandshakeKind::Resumed), ("no", HandshakeKind::Full)] {
            assert_eq!(admin.run(&format!("CONFIG SET tls-session-caching {caching}")), "+OK");
            let config = Arc::new(client_config(&setup.authority, None, &[versions]));
            let kinds = [HandshakeKind::Full, resumed].map(|expected| {
                let mut stream = setup.stream(config.clone());
                stream.write_all(b"PING\r\n").expect("the server reads");
                stream.read_exact(&mut [0; 7]).expect("the server answers");
                (stream.conn.handshake_kind() == Some(expected), expected)
            });
            assert!(kinds.iter().all(|(as_expected, _)| *as_expected), "{caching} {versions:?}: {kinds:?}");
        }
    }
}

/// Whoever does not get on with the handshake holds up nobody, can be killed (CVE-2026-56684 of Valkey: that crashed
/// it), and is let go in the end.
#[test]
fn slow_handshakes_hold_up_nobody() {
    let setup = Setup::new("tls-slow", |config| config.io_threads = 1);
    let hello = client_hello(&setup);
    let half = &hello[..hello.len() / 2];
    let began = Instant::now();
    let connect = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(setup.address()).expect("the server accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        socket.write_all(bytes).expect("the server reads");
        socket
    };
    let mut silent: Vec<TcpStream> = (0..24).map(|n| connect([&[][..], half, &hello][n % 3])).collect();
    let mut admin = setup.connect();
    let list = admin.call(&["CLIENT", "LIST"]).text();
    assert_eq!(list.lines().count(), 25, "after {:?} of the 10 s that a handshake may take", began.elapsed());
    for line in list.lines().take(12) {
        let id = line.split_whitespace().next().and_then(|field| field.strip_prefix("id=")).expect("an id comes first");
        assert_eq!(admin.run(&format!("CLIENT KILL ID {id}")), ":1");
    }
    until("the killed are gone", || admin.call(&["CLIENT", "LIST"]).text().lines().count() == 13);
    for socket in &mut silent[..12] {
        // The server's part of the handshake, if it came so far, then the end.
        assert!(socket.read_to_end(&mut Vec::new()).is_ok_and(|len| len < 8192));
    }
    silent.drain(..12);
    for socket in &mut silent {
        assert!(socket.read_to_end(&mut Vec::new()).is_ok_and(|len| len < 8192));
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(8) && took < PATIENCE, "{took:?}");
    assert_eq!(admin.run("PING"), "+PONG");
}

/// Everything a client sends first.
fn client_hello(setup: &Setup) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(Arc::new(setup.client_config(false)), name).expect("a session");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("memory takes it");
    hello
}

#[test]
fn what_is_no_tls_ends_the_connection() {
    let setup = Setup::new("tls-garbage", |_| {});
    let hello = client_hello(&setup);
    let answer = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(setup.address()).expect("the server accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        // It may have closed already.
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        answer
    };
    // An alert (21) to those who speak TLS, nothing to others.
    assert_eq!(answer(b"PING\r\n"), b"");
    assert_eq!(answer(&[&hello[..5], &[0; 600]].concat()).first(), Some(&21));
    for cut in (0..hello.len()).step_by(7) {
        answer(&hello[..cut]);
    }
    for position in 0..hello.len().min(200) {
        let mut flipped = hello.clone();
        flipped[position] ^= 0x55;
        answer(&flipped);
    }
    let mut client = setup.connect();
    until("nobody else is left", || client.call(&["CLIENT", "LIST"]).text().lines().count() == 1);
}

/// With `port 0` and a runaway script, help must be able to come through a new TLS connection.
#[test]
fn a_script_is_killed_through_a_new_connection() {
    let setup = Setup::new("tls-busy", |config| {
        config.io_threads = 1;
        config.busy_reply_threshold = 50;
    });
    let (mut runaway, mut old) = (setup.connect(), setup.connect());
    assert_eq!(old.run("PING"), "+PONG");
    runaway.send(&common::request(&["EVAL", "while true do end", "0"]));
    until("the script is noticed", || old.run("PING").starts_with("-BUSY"));
    let mut helper = setup.connect();
    assert!(helper.run("GET k").starts_with("-BUSY"));
    assert_eq!(helper.run("SCRIPT KILL"), "+OK");
    assert!(runaway.reply().to_string().contains("Script killed by user with SCRIPT KILL"));
    assert_eq!(helper.run("PING"), "+PONG");
}

#[test]
fn a_server_needs_its_files() {
    let mut config = Config { tls_port: ANY_PORT, tls_cert_file: Some("/nowhere".to_owned()), ..config() };
    let refused = start(&mut config).expect_err("no key");
    assert_eq!(refused, "No tls-key-file configured!");
}

#[test]
fn scripts_are_debugged_under_tls() {
    let setup = Setup::new("tls-debugger", |config| config.io_threads = 1);
    let script = "local text = string.rep('x', 100000)\nredis.call('SET', 'k', text)\nreturn #text";
    for mode in ["YES", "SYNC"] {
        let mut client = setup.connect();
        assert_eq!(client.run(&format!("SCRIPT DEBUG {mode}")), "+OK");
        assert!(client.call(&["EVAL", script, "0"]).to_string().contains("* Stopped at 1"));
        assert!(client.run("step").contains("* Stopped at 2"));
        assert!(client.run("maxlen 0").contains("unlimited"));
        let shown = client.run("print text");
        assert_eq!(shown.matches('x').count(), 100_000);
        assert_eq!(client.run("continue"), "[+<endsession>]");
        assert_eq!(client.reply().to_string(), ":100000");
        assert!(client.is_closed());
    }
    assert_eq!(setup.plain().run("STRLEN k"), ":100000");
}

/// What waits for a client under TLS counts as any other's, and what is limited is limited.
#[test]
fn a_slow_reader_is_limited() {
    let limit = OutputLimit { hard_bytes: 4 << 20, soft_bytes: 0, soft_seconds: 0 };
    let setup = Setup::new("tls-slow", |config| config.client_output_buffer_limit = [limit; 3]);
    let mut admin = setup.plain();
    admin.call(&["SET", "k", &"x".repeat(100_000)]);
    admin.call(&["EVAL", "for i = 1, 300 do redis.call('HSET', 'h', i, string.rep('x', 100000)) end", "0"]);
    let stats = &setup.server.server.stats;
    for (closed, commands) in
        [common::request(&["GET", "k"]).repeat(300), common::request(&["HGETALL", "h"])].iter().enumerate()
    {
        let mut slow = setup.connect();
        assert_eq!(slow.run("PING"), "+PONG");
        // The server may close before all is sent.
        let _ = slow.try_send(commands);
        let mut most = 0;
        until("it is closed", || {
            most = most.max(setup.server.server.clients.memory());
            stats.output_buffer_disconnections.load(Ordering::Relaxed) == closed as u64 + 1
        });
        assert!(most < 12 << 20, "{most}");
    }
    assert_eq!(admin.run("PING"), "+PONG");
}
