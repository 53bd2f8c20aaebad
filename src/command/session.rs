//! What one connection is in the middle of: its database, transaction, subscriptions, wait.

use crate::acl::Account;
use crate::clients::Client;
use crate::clients::pubsub::Topic;
use crate::command::table::CommandRef;
use crate::keyspace::value::Kind;
use crate::keyspace::waiters::{Acknowledgement, TimeoutReply, Wait, Waiter};
use crate::replication::replica::{Replica, Wishes};
use crate::server::Server;
use crate::socket::Socket;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The state of one connection that commands see and change.
#[derive(Debug)]
pub struct Session {
    pub client: Arc<Client>,
    /// Who it is: what its commands may do.
    pub account: Arc<Account>,
    /// The worker that runs it: whose counters to use.
    pub worker: usize,
    /// The selected database.
    pub db: usize,
    pub resp3: bool,
    /// Whether it has logged in, or did not have to when it came. Otherwise only AUTH, HELLO, RESET and QUIT are allowed
    /// as long as the default user is not open to everybody.
    pub authenticated: bool,
    /// Between MULTI and EXEC.
    pub multi: Option<Box<Multi>>,
    pub watch: Option<Box<Watch>>,
    pub subscriptions: Option<Box<Subscriptions>>,
    pub reply_mode: ReplyMode,
    /// What the command under way tells its client whatever the mode is.
    pub pushes: Vec<u8>,
    /// What CLIENT CACHING said for the next command.
    pub caching: Option<bool>,
    /// A pause holds the next command back until this time (Unix ms).
    pub paused_until_ms: Option<i64>,
    /// It was told LOADING, and its next command waits until then, Unix ms.
    pub asks_again_at_ms: i64,
    /// Keys under way to another server hold the next command back; how many migrations had ended then.
    pub held_since: Option<u64>,
    /// Close once the replies so far are out.
    pub closing: bool,
    /// Set by a handler that waits; taken by the engine. Boxed, as few connections ever wait.
    pub block: Option<Box<Block>>,
    /// How long the command that is about to wait has run so far.
    pub ran_nanos: u64,
    /// Waiting now.
    pub waiter: Option<Arc<Waiter>>,
    /// What REPLCONF has told of the replica that it will be.
    pub wishes: Option<Box<Wishes>>,
    /// It is a replica: it pulls what it is sent.
    pub replica: Option<Arc<Replica>>,
    /// SCRIPT DEBUG: its scripts are debugged.
    pub debugging: Option<Debugging>,
    /// The client's socket, while commands run that may need it: those of a client that debugs scripts.
    pub lent_socket: Option<Box<LentSocket>>,
}

/// How scripts are debugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debugging {
    /// In a server of its own, whose data are a copy.
    Aside,
    /// In place: everybody else waits.
    InPlace,
}

/// A client's socket, lent by the driver of its connection to a command that may keep it.
#[derive(Debug)]
pub struct LentSocket {
    pub socket: Box<dyn Socket>,
    /// The server that the client came to.
    pub server: Arc<Server>,
}

/// Work that begins once the client waits; whoever does it answers the waiter.
pub struct Deferred(pub Box<Work>);

type Work = dyn FnOnce(&Arc<Server>, Arc<Waiter>) + Send;

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

/// A transaction being put together.
#[derive(Debug, Default)]
pub struct Multi {
    pub queue: Vec<Queued>,
    /// A command was refused: EXEC will be too.
    pub aborted: bool,
    /// What the queued commands may do: the union of their flags.
    pub flags: u32,
}

/// One queued command.
#[derive(Debug)]
pub struct Queued {
    pub command: CommandRef,
    pub argv: Vec<Box<[u8]>>,
}

/// The keys that WATCH looks at.
#[derive(Debug, Default)]
pub struct Watch {
    /// (database, key, whether it was there when it was watched), each once. Who changes one of them tells the client.
    /// Bounded by what the client names, which counts as its memory.
    pub keys: Vec<(usize, Box<[u8]>, bool)>,
}

/// What a client is subscribed to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    topics: [BTreeSet<Box<[u8]>>; 3],
}

/// CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The command after this one is not answered.
    SkipNext,
    /// This one is not answered.
    Skip,
}

/// A wait that a handler asks for.
#[derive(Debug)]
pub struct Block {
    pub wait: Wait,
    /// Unix time in ms; None waits for ever.
    pub deadline_ms: Option<i64>,
    pub on_timeout: TimeoutReply,
    /// The arguments to run the command with again, if they are not those it was sent (XREAD's `$`).
    pub argv: Option<Vec<Box<[u8]>>>,
    /// What another thread is to do.
    pub work: Option<Deferred>,
}

impl Block {
    /// Waits until one of the keys holds a `kind`, and runs the command again.
    pub fn on_keys(keys: &[&[u8]], kind: Kind, deadline_ms: Option<i64>) -> Self {
        let keys = keys.iter().map(|key| Box::from(*key)).collect();
        let wait = Wait::Keys { keys, kind, or_deletion: false };
        Block { wait, deadline_ms, on_timeout: TimeoutReply::NullArray, argv: None, work: None }
    }

    /// Waits until what is wanted is acknowledged.
    pub fn on_replicas(wanted: Acknowledgement, deadline_ms: Option<i64>) -> Self {
        let on_timeout = TimeoutReply::Integer(0);
        Block { wait: Wait::Replicas(wanted), deadline_ms, on_timeout, argv: None, work: None }
    }

    /// Waits for what another thread answers.
    pub fn on_thread(work: impl FnOnce(&Arc<Server>, Arc<Waiter>) + Send + 'static) -> Self {
        let (wait, work) = (Wait::Thread(Instant::now()), Some(Deferred(Box::new(work))));
        Block { wait, deadline_ms: None, on_timeout: TimeoutReply::Null, argv: None, work }
    }
}

impl Session {
    /// A new connection's session.
    pub fn new(client: Arc<Client>, authenticated: bool) -> Self {
        let account = client.account.lock().clone();
        Session {
            worker: client.worker,
            client,
            account,
            db: 0,
            resp3: false,
            authenticated,
            multi: None,
            watch: None,
            subscriptions: None,
            reply_mode: ReplyMode::On,
            pushes: Vec::new(),
            caching: None,
            paused_until_ms: None,
            asks_again_at_ms: 0,
            closing: false,
            block: None,
            held_since: None,
            ran_nanos: 0,
            waiter: None,
            wishes: None,
            replica: None,
            debugging: None,
            lent_socket: None,
        }
    }

    /// A session in which another thread finishes a blocked client's command.
    pub fn of_waiter(waiter: &Waiter, worker: usize) -> Self {
        let mut session = Session::new(waiter.client.clone(), true);
        session.worker = worker;
        session.db = waiter.db;
        session.resp3 = waiter.resp3;
        session.ran_nanos = waiter.ran_nanos.load(Ordering::Relaxed);
        session
    }

    /// Makes it another user's.
    pub fn become_user(&mut self, account: Arc<Account>, authenticated: bool) {
        *self.client.account.lock() = account.clone();
        self.account = account;
        self.authenticated = authenticated;
    }

    /// Selects a database.
    pub fn select(&mut self, db: usize) {
        self.db = db;
        self.client.db.store(db, Ordering::Relaxed);
    }

    /// Whether nothing more may run before the client's socket has been lent.
    pub fn needs_socket(&self) -> bool {
        self.debugging.is_some() && self.lent_socket.is_none()
    }

    /// The command under way has not been run: the connection's worker is to come to it again.
    pub fn come_again(&mut self) {
        self.paused_until_ms = Some(i64::MAX);
        self.held_since = Some(AT_ONCE);
    }

    /// Switches the protocol. The reply under way must be switched too.
    pub fn set_resp3(&mut self, resp3: bool) {
        self.resp3 = resp3;
        self.client.resp3.store(resp3, Ordering::Relaxed);
    }

    /// How many channels and patterns (not shard channels) the client is subscribed to.
    pub fn subscribed(&self) -> usize {
        self.subscriptions.as_ref().map_or(0, |all| all.of(Topic::Channel).len() + all.of(Topic::Pattern).len())
    }

    /// Whether a RESP2 client may only send subscription commands now.
    pub fn in_pubsub_mode(&self) -> bool {
        !self.resp3 && self.subscriptions.as_ref().is_some_and(|all| all.topics.iter().any(|names| !names.is_empty()))
    }
}

impl Subscriptions {
    /// The names of one kind.
    pub fn of(&self, topic: Topic) -> &BTreeSet<Box<[u8]>> {
        &self.topics[topic as usize]
    }

    /// The same, to change them.
    pub fn of_mut(&mut self, topic: Topic) -> &mut BTreeSet<Box<[u8]>> {
        &mut self.topics[topic as usize]
    }
}

/// Instead of a number of migrations in [`Session::held_since`]: none has to end.
const AT_ONCE: u64 = u64::MAX;

/// Forgets the commands queued since MULTI.
pub fn discard(session: &mut Session) {
    session.multi = None;
    session.client.ended_multi();
}
