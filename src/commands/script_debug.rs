//! EVAL under the debugger (SCRIPT DEBUG): in place, or in a server of its own.
//!
//! Redis forks, so that the script can do no harm. Here the session gets a thread and a private [`Server`], without sockets
//! or files, which is filled with a snapshot of the data set and then runs EVAL in place, as `SCRIPT DEBUG SYNC` has it.
//! Its client's connection is gone from the first server, as it is from the process that forked; the socket went along.

use crate::acl::Acl;
use crate::clients::Client;
use crate::command::args::{Args, Request};
use crate::command::call::Engine;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::{Debugging, LentSocket, ReplyMode, Session};
use crate::command::table::Registry;
use crate::commands::scripting::run_eval;
use crate::config::Config;
use crate::core::{Core, Parts};
use crate::keyspace::lock::MayWait;
use crate::os::process;
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::snapshot::load::{self, Purpose, Target};
use crate::snapshot::save;
use crate::snapshot::walker::Snapshot;
use crate::socket::tls::Tls;
use crate::socket::{Readiness, Socket};
use crate::util::rng::Random;
use redstart_script::{Console, Debugger};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Runs EVAL or EVAL_RO for a client that debugs its scripts. `args` begin with the script.
pub(super) fn eval(ctx: &mut Ctx, args: &mut Args, read_only: bool, debugging: Debugging) -> CmdResult {
    match ctx.session.lent_socket.take() {
        // The connection lends it to every command of such a client.
        None => run_eval(ctx, args, read_only, None),
        Some(lent) if debugging == Debugging::InPlace => in_place(ctx, args, read_only, lent),
        Some(lent) => aside(ctx, args, lent),
    }
}

/// The script runs here, and its client goes through it; everybody else waits. Then the connection ends.
fn in_place(ctx: &mut Ctx, args: &mut Args, read_only: bool, lent: Box<LentSocket>) -> CmdResult {
    let is_private = !Arc::ptr_eq(&lent.server, ctx.server);
    let server = ctx.server;
    let log = |what| {
        if !is_private {
            server.log.notice(format_args!("Redis synchronous debugging eval session {what}"));
        }
    };
    log("started");
    ctx.server.busy.set_debugged(true);
    let source = args.clone().bytes()?;
    let mut console = SocketConsole { lent, client: ctx.session.client.clone() };
    let mut debugger = Debugger::new(source, patience(ctx.config), &mut console);
    let result = run_eval(ctx, args, read_only, Some(&mut debugger));
    debugger.end();
    ctx.session.lent_socket = Some(console.lent);
    ctx.session.closing = true;
    ctx.server.busy.set_debugged(false);
    log("ended");
    result
}

/// How long a script may run without stopping.
fn patience(config: &Config) -> Duration {
    const DEFAULT_MS: u64 = 5000;
    Duration::from_millis(if config.busy_reply_threshold == 0 { DEFAULT_MS } else { config.busy_reply_threshold })
}

/// The script runs elsewhere, on a copy of the data set; this connection ends without a reply of its own.
fn aside(ctx: &mut Ctx, args: &mut Args, lent: Box<LentSocket>) -> CmdResult {
    let began = begin(ctx, args, lent);
    ctx.session.debugging = None;
    began.map_err(|(lent, reason)| {
        ctx.session.lent_socket = Some(lent);
        CmdError::owned(format!("ERR Fork() failed: can't run EVAL in debugging mode: {reason}"))
    })
}

/// The socket comes back when there is no session.
fn begin(ctx: &mut Ctx, args: &mut Args, lent: Box<LentSocket>) -> Result<(), (Box<LentSocket>, &'static str)> {
    let server = ctx.server;
    let Some(place) = Place::take(server) else { return Err((lent, "Resource temporarily unavailable")) };
    if !has_room(server, ctx.config) {
        return Err((lent, "Cannot allocate memory"));
    }
    let (sender, receiver) = std::sync::mpsc::channel::<Aside>();
    let run = move |may_wait| {
        if let Ok(aside) = receiver.recv() {
            aside.run(may_wait);
        }
        drop(place);
    };
    if server.background.spawn("ldb", run).is_err() {
        return Err((lent, "Resource temporarily unavailable"));
    }
    let data = Data::take(ctx);
    let session = Aside {
        reply: std::mem::replace(ctx.reply, Reply::new(ctx.reply.resp3)),
        lent,
        data,
        registry: ctx.registry.clone(),
        argv: args.argv().iter().map(|arg| arg.to_vec()).collect(),
        client: ctx.session.client.clone(),
        db: ctx.session.db,
        resp3: ctx.session.resp3,
        reply_mode: ctx.session.reply_mode,
    };
    sender.send(session).expect("the thread that has just been started waits for it");
    server.log.notice("Redis forked for debugging eval");
    Ok(())
}

/// Sessions at a time: each has a whole data set.
const SESSIONS: usize = 8;

/// One of the sessions that there may be.
struct Place(Arc<Server>);

impl Place {
    fn take(server: &Arc<Server>) -> Option<Place> {
        let place = Place(server.clone());
        (server.debug_sessions.fetch_add(1, Ordering::AcqRel) < SESSIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.debug_sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether there is memory for a second data set, and no key would have to go for it.
fn has_room(server: &Server, config: &Config) -> bool {
    let needed = server.used_memory.bytes();
    let is_within_limit = config.maxmemory == 0 || needed.saturating_mul(2) <= config.maxmemory;
    // Where the kernel does not tell, it is tried.
    is_within_limit && process::available_bytes().map_or(true, |available| needed < available)
}

/// The data set of the instant.
enum Data {
    /// To be written while clients go on.
    Snapshot(Snapshot),
    /// As an RDB file: written at once, because another snapshot was under way.
    Written(Vec<u8>),
}

impl Data {
    fn take(ctx: &mut Ctx) -> Data {
        let server = ctx.server;
        let other = server.persistence.has_snapshot_under_way() || server.aof.is_rewriting();
        if !other && let Some(mut snapshot) = Snapshot::begin(server, &server.persistence, ctx.db.locked) {
            snapshot.functions.clear();
            server.persistence.set_copying(true);
            return Data::Snapshot(snapshot);
        }
        let contents = save::Contents { data: true, functions: false, aof_base: false };
        let written = save::write_part(server, &plain(ctx.config), ctx.db.locked, Vec::new(), contents);
        Data::Written(written.expect("writing into memory does not fail"))
    }

    fn load(self, may_wait: MayWait, from: &Server, into: &Server) -> io::Result<()> {
        let config = plain(&from.config.load());
        match self {
            Data::Written(bytes) => load_from(may_wait, &bytes[..], into, &config),
            Data::Snapshot(snapshot) => {
                let (reader, writer) = io::pipe()?;
                let is_cancelled = || from.stop.is_requested();
                let outcome = std::thread::scope(|scope| {
                    // What goes wrong here shows at the other end, as a file that is cut.
                    let write =
                        || drop(save::write_snapshot(from, &config, snapshot, may_wait, writer, false, is_cancelled));
                    scope.spawn(write);
                    load_from(may_wait, io::BufReader::new(reader), into, &config)
                });
                from.persistence.set_copying(false);
                outcome
            }
        }
    }
}

fn load_from(may_wait: MayWait, bytes: impl io::Read, into: &Server, config: &Config) -> io::Result<()> {
    // Keys whose time is over are part of the data set as long as they are there.
    let purpose = Purpose { log_follows: true, merge: false, is_copy: true };
    let loaded =
        load::read(into, &into.persistence, config, bytes, &mut Target::Shards(&into.shards, may_wait), purpose);
    loaded.map(drop).map_err(|error| io::Error::other(error.to_string()))
}

/// How the copy is written: fast.
fn plain(config: &Config) -> Config {
    Config { rdbcompression: false, rdbchecksum: false, rdb_key_save_delay: 0, key_load_delay: 0, ..config.clone() }
}

/// A session in a server of its own, before it begins.
struct Aside {
    data: Data,
    registry: Arc<Registry>,
    lent: Box<LentSocket>,
    argv: Vec<Vec<u8>>,
    /// What is to be sent before EVAL's reply: what the client was owed, or the beginning of EXEC's.
    reply: Reply,
    client: Arc<Client>,
    db: usize,
    resp3: bool,
    reply_mode: ReplyMode,
}

impl Aside {
    fn run(self, may_wait: MayWait) {
        let Aside { data, registry, lent, argv, mut reply, client, db, resp3, reply_mode } = self;
        let server = lent.server.clone();
        let private = match private_server(may_wait, &server, &registry, data) {
            Ok(private) => Arc::new(private),
            Err(error) => {
                return server.log.warning(format_args!("Can't copy the data set to debug a script: {error}"));
            }
        };
        let mut engine = Engine::new(private.clone(), registry, 0, Some(may_wait));
        let mut session = Session::new(private.clients.nobody(0, engine.now_ms), true);
        session.account = client.account.lock().clone();
        session.select(db);
        session.resp3 = resp3;
        session.reply_mode = reply_mode;
        session.debugging = Some(Debugging::InPlace);
        session.lent_socket = Some(lent);
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        engine.execute(&mut session, &mut reply, Request { argv: &argv, encoded: None, first_hash: None });
        if let Some(lent) = session.lent_socket.take() {
            let mut console = SocketConsole { lent, client: session.client.clone() };
            reply.settle();
            while !reply.output.is_empty() {
                let piece = reply.output.first();
                console.send(piece);
                reply.output.advance(piece.len());
            }
            console.lent.socket.say_goodbye();
        }
        server.log.notice("Lua debugging session child exiting");
    }
}

/// A server that nobody can reach, with these data. It saves nothing, and no key goes for want of memory.
fn private_server(may_wait: MayWait, server: &Server, registry: &Registry, data: Data) -> io::Result<Server> {
    let config = Config { io_threads: 1, maxmemory: 0, save: Vec::new(), ..(*server.config.load()).clone() };
    let acl = Acl::new(registry.catalog(), config.requirepass.as_deref());
    let random = Random::new(None);
    let core = Core::new(Parts {
        config,
        log: server.log.clone(),
        clock: server.clock.clone(),
        hash_seed: random.hash_seed(),
        random,
        commands: registry.all().len(),
        faults: None,
        process: None,
    });
    let private = Server::new(core, acl, Tls::default());
    data.load(may_wait, server, &private)?;
    Ok(private)
}

/// A debugging client's socket, for a thread that may wait for it.
struct SocketConsole {
    lent: Box<LentSocket>,
    client: Arc<Client>,
}

/// How long a client may take to take what it is sent. Source: Redis 7.2.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// How often a waiting thread looks whether the session is over.
const LOOK: Duration = Duration::from_millis(50);

impl SocketConsole {
    /// Whether the client is to be waited for no longer. A signal ends the server once scripts have ended.
    fn is_abandoned(&mut self) -> bool {
        self.is_over() || self.lent.server.stop.is_signalled()
    }

    /// Does `step` again and again while there is no room for what it writes; false when it fails or time is over.
    fn persist(&mut self, deadline: Instant, mut step: impl FnMut(&mut dyn Socket) -> io::Result<()>) -> bool {
        loop {
            match step(&mut *self.lent.socket) {
                Ok(()) => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.lent.socket.wait_now(Readiness::Write, LOOK);
                }
                Err(_) => return false,
            }
            if Instant::now() >= deadline || self.is_over() {
                return false;
            }
        }
    }
}

impl Console for SocketConsole {
    fn send(&mut self, mut bytes: &[u8]) {
        let deadline = Instant::now() + SEND_LIMIT;
        while !bytes.is_empty() && !self.is_over() {
            let mut taken = 0;
            let write = |socket: &mut dyn Socket| socket.write_now(bytes).map(|len| taken = len);
            if !self.persist(deadline, write) || taken == 0 {
                return;
            }
            bytes = &bytes[taken..];
        }
        self.persist(deadline, |socket| socket.flush_now());
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        while !self.is_abandoned() {
            match self.lent.socket.read_now(buffer) {
                Ok(len) => return len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.lent.socket.wait_now(Readiness::Read, LOOK);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return 0,
            }
        }
        0
    }

    fn is_over(&mut self) -> bool {
        self.lent.server.stop.is_requested() || self.client.has(Client::KILLED)
    }
}
