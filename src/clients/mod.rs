//! The register of connected clients: what every thread may know of a connection, and the mailbox through which
//! other threads speak to it.
//!
//! Clients are entered by id in a B-tree, so that who comes and goes costs O(log n), and its memory comes
//! back. `maxclients` bounds it. While there is a limit to their memory, those who may be closed for it are
//! also entered by size, in classes of powers of two: finding one of the largest does not look at all.

pub mod monitors;
pub mod pubsub;
pub mod tracking;

use crate::acl::Account;
use crate::config::{ClientClass, Config};
use crate::resp::output::{BLOCK_BYTES, Output};
use crate::util::clock::Clock;
use crate::util::sync::{Mutex, RwLock};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

/// One connection, as others see it. The connection itself updates the counters.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    /// `ip:port`, or the unix socket's path and `:0`.
    pub addr: String,
    /// The address it connected to.
    pub laddr: String,
    /// The socket's descriptor, for CLIENT LIST only.
    pub fd: i32,
    /// The worker it lives on.
    pub worker: usize,
    pub created_ms: i64,
    pub last_interaction_ms: AtomicI64,
    /// Where the log stood after its last write, in bytes ever added to it.
    pub log_position: AtomicU64,
    /// Where the replication stream stood then.
    pub stream_offset: AtomicU64,
    pub db: AtomicUsize,
    pub resp3: AtomicBool,
    /// A union of the `Client::*` constants.
    pub flags: AtomicU32,
    /// The id of the last command, `u16::MAX` before the first.
    pub last_command: AtomicU16,
    /// Commands queued by MULTI; -1 outside.
    pub multi_len: AtomicI64,
    /// Channels, patterns and shard channels subscribed to.
    pub subscriptions: [AtomicUsize; 3],
    /// Bytes of requests not run yet, and room for more.
    pub query_buffer: [AtomicUsize; 2],
    /// Lengths of the arguments under way: of a command that arrives in part, that asks for them, or that waits.
    pub argv_bytes: AtomicUsize,
    /// Lengths of the arguments that MULTI has queued.
    pub multi_bytes: AtomicUsize,
    /// The number of its WATCH under way, or of the next one, and of the last one of which a key has changed.
    watch: AtomicU64,
    changed_watch: AtomicU64,
    /// What the queue takes beside these.
    multi_overhead: AtomicUsize,
    /// What is kept for it: watched keys, names of subscriptions, tracked prefixes, its own names.
    kept_bytes: AtomicUsize,
    /// Bytes waiting to be sent, but those in the mailbox.
    pub output_buffer: AtomicUsize,
    /// Since when the soft output limit is exceeded, Unix ms; 0 when it is not.
    soft_since_ms: AtomicI64,
    /// The most bytes of replies there were at once of late.
    pub output_peak: AtomicUsize,
    /// All its memory when it was last counted, and what of that is in the sum of all clients.
    memory: AtomicUsize,
    counted: AtomicUsize,
    /// The class of sizes in which it is entered; 0 in none.
    size_class: AtomicU8,
    /// What the mailbox holds, and is in that sum.
    mail_memory: AtomicUsize,
    pub mailbox: Mailbox,
    names: Mutex<Names>,
    /// Its user. Its session has the same one.
    pub account: Mutex<Arc<Account>>,
}

/// Where a client's writes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// In the replication stream.
    pub offset: u64,
    /// Among the bytes for the append-only file.
    pub log_bytes: u64,
}

/// What a client says of itself.
#[derive(Debug, Default, Clone)]
pub struct Names {
    pub name: Vec<u8>,
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
}

impl Names {
    fn bytes(&self) -> usize {
        self.name.capacity() + self.lib_name.capacity() + self.lib_ver.capacity()
    }
}

impl Client {
    /// Came through a unix socket.
    pub const UNIX_SOCKET: u32 = 1;
    /// In MONITOR.
    pub const MONITOR: u32 = 1 << 1;
    /// Waits in a blocking command.
    pub const BLOCKED: u32 = 1 << 2;
    /// Will be closed once its replies are out.
    pub const CLOSING: u32 = 1 << 3;
    /// CLIENT NO-EVICT on.
    pub const NO_EVICT: u32 = 1 << 4;
    /// CLIENT NO-TOUCH on.
    pub const NO_TOUCH: u32 = 1 << 5;
    /// CLIENT TRACKING on.
    pub const TRACKING: u32 = 1 << 6;
    /// A replica.
    pub const REPLICA: u32 = 1 << 8;
    /// Closed because clients used too much memory (`maxmemory-clients`).
    pub const EVICTED: u32 = 1 << 9;
    /// Closed by somebody else: what it still waits for goes to others.
    pub const KILLED: u32 = 1 << 10;

    /// CLIENT UNBLOCK has ended its wait: what it still waits for goes to others.
    pub const UNBLOCKED: u32 = 1 << 11;

    /// Instead of the number of its last command: it has sent none, or there is none of that name.
    pub const NO_COMMAND: u16 = u16::MAX;

    /// What a key or name kept for a client takes beside its bytes: its places with the client and in the server.
    pub const KEPT_BYTES: usize = 96;

    /// What a queued command takes beside its arguments' bytes, and each argument: places in lists, and the allocator's
    /// size classes.
    pub const QUEUED_BYTES: usize = 64;
    pub const ARG_BYTES: usize = 24;

    fn new(id: u64, origin: Origin, worker: usize, now_ms: i64, account: Arc<Account>) -> Client {
        Client {
            id,
            addr: origin.addr,
            laddr: origin.laddr,
            fd: origin.fd,
            worker,
            created_ms: now_ms,
            last_interaction_ms: AtomicI64::new(now_ms),
            log_position: AtomicU64::new(0),
            stream_offset: AtomicU64::new(0),
            db: AtomicUsize::new(0),
            resp3: AtomicBool::new(false),
            flags: AtomicU32::new(if origin.unix_socket { Client::UNIX_SOCKET } else { 0 }),
            last_command: AtomicU16::new(Self::NO_COMMAND),
            multi_len: AtomicI64::new(-1),
            subscriptions: Default::default(),
            query_buffer: Default::default(),
            argv_bytes: AtomicUsize::new(0),
            multi_bytes: AtomicUsize::new(0),
            watch: AtomicU64::new(1),
            changed_watch: AtomicU64::new(0),
            multi_overhead: AtomicUsize::new(0),
            kept_bytes: AtomicUsize::new(0),
            output_buffer: AtomicUsize::new(0),
            soft_since_ms: AtomicI64::new(0),
            output_peak: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            size_class: AtomicU8::new(0),
            mail_memory: AtomicUsize::new(0),
            mailbox: Mailbox::default(),
            names: Mutex::default(),
            account: Mutex::new(account),
        }
    }

    /// The number of its WATCH under way, or of the next one.
    pub fn watch(&self) -> u64 {
        self.watch.load(Ordering::Acquire)
    }

    /// A key of this WATCH has changed.
    pub fn note_change(&self, watch: u64) {
        self.changed_watch.fetch_max(watch, Ordering::AcqRel);
    }

    /// Whether a watched key has changed: the next EXEC will fail.
    pub fn has_changed_watch(&self) -> bool {
        self.changed_watch.load(Ordering::Acquire) == self.watch()
    }

    /// Its WATCH ends; its number.
    pub fn end_watch(&self) -> u64 {
        self.watch.fetch_add(1, Ordering::AcqRel)
    }

    /// Where its writes end.
    pub fn written(&self) -> Written {
        let (offset, log_bytes) = (&self.stream_offset, &self.log_position);
        Written { offset: offset.load(Ordering::Relaxed), log_bytes: log_bytes.load(Ordering::Relaxed) }
    }

    /// Whether it comes from this machine.
    pub fn is_local(&self) -> bool {
        let ip = self.addr.parse::<std::net::SocketAddr>().map(|addr| addr.ip().to_canonical());
        self.has(Self::UNIX_SOCKET) || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// A key or a name is kept for it.
    pub fn keep(&self, name: &[u8]) {
        self.kept_bytes.fetch_add(name.len() + Self::KEPT_BYTES, Ordering::Relaxed);
    }

    /// It is kept no longer.
    pub fn forget(&self, name: &[u8]) {
        self.kept_bytes.fetch_sub(name.len() + Self::KEPT_BYTES, Ordering::Relaxed);
    }

    /// What its transaction, its watched keys and its names take.
    pub fn state_bytes(&self) -> usize {
        let parts = [&self.multi_bytes, &self.multi_overhead, &self.kept_bytes];
        parts.into_iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }

    /// MULTI has queued a command.
    pub fn queued(&self, queue_len: usize, argv: &[&[u8]]) {
        self.multi_len.store(queue_len as i64, Ordering::Relaxed);
        self.multi_bytes.fetch_add(argv.iter().map(|arg| arg.len()).sum(), Ordering::Relaxed);
        self.multi_overhead.fetch_add(Self::QUEUED_BYTES + argv.len() * Self::ARG_BYTES, Ordering::Relaxed);
    }

    /// Its transaction has ended.
    pub fn ended_multi(&self) {
        self.multi_len.store(-1, Ordering::Relaxed);
        self.multi_bytes.store(0, Ordering::Relaxed);
        self.multi_overhead.store(0, Ordering::Relaxed);
    }

    /// What it says of itself.
    pub fn names(&self) -> Names {
        self.names.lock().clone()
    }

    /// Changes what it says of itself.
    pub fn rename(&self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names.lock();
        let before = names.bytes();
        change(&mut names);
        // Two's complement: a difference either way.
        self.kept_bytes.fetch_add(names.bytes().wrapping_sub(before), Ordering::Relaxed);
    }

    /// All its memory when it was last counted, in bytes.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed) + self.mail_memory.load(Ordering::Relaxed)
    }

    /// Bytes waiting to be sent.
    pub fn output_bytes(&self) -> usize {
        self.output_buffer.load(Ordering::Relaxed) + self.mailbox.inner.lock().output.len()
    }

    /// Which of the output limits holds for it.
    pub fn class(&self) -> ClientClass {
        if self.has(Self::REPLICA) {
            return ClientClass::Replica;
        }
        let is_subscriber = self.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0);
        if is_subscriber { ClientClass::Pubsub } else { ClientClass::Normal }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Sets or clears a flag.
    pub fn set(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }
}

/// What other threads have for a connection. The connection empties it whenever it is woken.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<Letters>,
    filled: AtomicBool,
    /// Wakes the connection's task.
    waker: Mutex<Option<Waker>>,
}

/// The contents of a [`Mailbox`].
#[derive(Debug, Default)]
pub struct Letters {
    /// Encoded pushes (messages, invalidations, MONITOR lines) and the reply of a served waiter, in order.
    pub output: Output,
    /// The blocking command has been answered: its reply is in `output`.
    pub unblocked: bool,
    /// CLIENT UNBLOCK: end the wait as on timeout (false) or with an error (true).
    pub unblock: Option<bool>,
    /// How many bytes of `output` are invalidations (client tracking).
    pub invalidation_bytes: usize,
    /// Close the connection.
    pub kill: bool,
    /// Close it because it does not read what it is sent.
    pub overrun: bool,
    /// The connection is gone, or is to be closed: nothing is appended any more.
    is_closed: bool,
    /// Give buffers back that are larger than they need to be.
    pub give_back: bool,
}

impl Mailbox {
    /// Changes the contents and wakes the connection.
    pub fn put<T>(&self, change: impl FnOnce(&mut Letters) -> T) -> T {
        let result = change(&mut self.inner.lock());
        self.filled.store(true, Ordering::Release);
        self.wake();
        result
    }

    /// Names the task to wake. To be called before looking into the mailbox.
    pub fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Makes the connection look around: its clock or its state may have changed.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }
}

/// All connections of one server.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: RwLock<BTreeMap<u64, Arc<Client>>>,
    /// Those who may be closed for their memory: class of the size, and id. Kept while there is a limit.
    by_size: Mutex<BTreeSet<(u8, u64)>>,
    last_id: AtomicU64,
    /// The memory of all of them but replicas, in bytes.
    memory: AtomicUsize,
    /// What it may be; 0 for no limit.
    memory_limit: AtomicUsize,
    /// Of invalidations that connections have not taken out of their mailboxes yet.
    undelivered_bytes: AtomicUsize,
    /// `client-output-buffer-limit`, by class.
    output_limits: [OutputLimits; 3],
    clock: Clock,
    pub recent: RecentBuffers,
}

/// The output limits of a class of clients; 0 for none.
#[derive(Debug, Default)]
struct OutputLimits {
    hard_bytes: AtomicU64,
    soft_bytes: AtomicU64,
    soft_ms: AtomicU64,
}

/// The largest buffers of any client in the last seconds: requests, and replies. Seen ten times a second.
#[derive(Debug, Default)]
pub struct RecentBuffers(Mutex<[(i64, [usize; 2]); RECENT_SECONDS]>);

const RECENT_SECONDS: usize = 8;

impl RecentBuffers {
    /// Notes the largest buffers now.
    pub fn note(&self, now_s: i64, bytes: [usize; 2]) {
        let mut seconds = self.0.lock();
        let slot = &mut seconds[now_s.rem_euclid(RECENT_SECONDS as i64) as usize];
        let before = if slot.0 == now_s { slot.1 } else { [0; 2] };
        *slot = (now_s, [before[0].max(bytes[0]), before[1].max(bytes[1])]);
    }

    /// The largest of late, in bytes.
    pub fn most(&self) -> [usize; 2] {
        let seconds = self.0.lock();
        [0, 1].map(|kind| seconds.iter().map(|(_, bytes)| bytes[kind]).max().unwrap_or(0))
    }
}

/// So many bytes no output limit counts: a client has room for them from the start. Source: Redis 7.2.
const UNLIMITED_BYTES: usize = BLOCK_BYTES;

/// Where a new connection comes from.
#[derive(Debug)]
pub struct Origin {
    pub addr: String,
    pub laddr: String,
    pub fd: i32,
    pub unix_socket: bool,
}

impl Clients {
    /// Nobody is connected yet.
    pub fn new(clock: Clock) -> Self {
        Clients { clock, ..Clients::default() }
    }

    /// Enters a new connection, which begins as this user.
    pub fn add(&self, origin: Origin, worker: usize, now_ms: i64, account: Arc<Account>) -> Arc<Client> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, origin, worker, now_ms, account));
        self.by_id.write().insert(id, client.clone());
        client
    }

    /// A client that is no connection and is not entered: the server's own, which may do everything.
    pub fn nobody(&self, worker: usize, now_ms: i64) -> Arc<Client> {
        let origin = Origin { addr: String::new(), laddr: String::new(), fd: -1, unix_socket: false };
        Arc::new(Client::new(0, origin, worker, now_ms, Arc::new(Account::of_server())))
    }

    /// Strikes a connection off.
    pub fn remove(&self, client: &Client) {
        // In this order: the sum is never that of more than there are to be seen.
        client.mailbox.put(|letters| {
            letters.is_closed = true;
            self.count_mail(client, 0);
        });
        self.count(client, 0);
        self.enter_size(client, 0);
        self.by_id.write().remove(&client.id);
    }

    /// Counts a connection's memory as `bytes` from now on. For the connection itself only.
    #[inline]
    pub fn count_memory(&self, client: &Client, bytes: usize) {
        client.memory.store(bytes, Ordering::Relaxed);
        let counts = !client.has(Client::EVICTED | Client::REPLICA);
        let now = if counts { bytes } else { 0 };
        if client.counted.load(Ordering::Relaxed) != now {
            self.count(client, now);
        }
    }

    /// Puts `bytes` of a connection into the sum. In one step, for it may be struck off by another thread at the same time.
    fn count(&self, client: &Client, bytes: usize) {
        let before = client.counted.swap(bytes, Ordering::Relaxed);
        // Two's complement: the sum of all differences is the sum.
        self.memory.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
        self.note_size(client);
    }

    /// Sees to it that a client is entered by its size, or is not if it may not be closed. To be called when either changes.
    #[inline]
    pub fn note_size(&self, client: &Client) {
        if self.memory_limit().is_some() && client.size_class.load(Ordering::Relaxed) != size_class(client) {
            self.enter_size(client, size_class(client));
        }
    }

    fn enter_size(&self, client: &Client, class: u8) {
        if class == 0 && client.size_class.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut by_size = self.by_size.lock();
        // Who is being struck off by another thread stays out.
        let class = if client.has(Client::KILLED) { 0 } else { class };
        let before = client.size_class.swap(class, Ordering::Relaxed);
        by_size.remove(&(before, client.id));
        if class > 0 {
            by_size.insert((class, client.id));
        }
    }

    /// One of those who take most and may be closed for it: no other takes twice as much.
    pub fn largest(&self) -> Option<Arc<Client>> {
        loop {
            let (class, id) = *self.by_size.lock().last()?;
            match self.find(id) {
                Some(client) if size_class(&client) > 0 => return Some(client),
                Some(client) => self.enter_size(&client, 0),
                // It is being struck off.
                None => drop(self.by_size.lock().remove(&(class, id))),
            }
        }
    }

    /// Puts what a mailbox holds into the sum; it is locked.
    fn count_mail(&self, client: &Client, bytes: usize) {
        let before = client.mail_memory.swap(bytes, Ordering::Relaxed);
        if before != bytes {
            self.memory.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
            self.note_size(client);
        }
    }

    /// The memory of all connections but replicas, in bytes.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// What the memory of all connections may be; 0 for no limit.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.memory_limit.store(bytes, Ordering::Relaxed);
        self.all().iter().for_each(|client| self.enter_size(client, if bytes > 0 { size_class(client) } else { 0 }));
    }

    /// The limit, if there is one.
    #[inline]
    pub fn memory_limit(&self) -> Option<usize> {
        Some(self.memory_limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Whether they take more than they may.
    #[inline]
    pub fn is_over_memory_limit(&self) -> bool {
        self.memory_limit().is_some_and(|limit| self.memory() > limit)
    }

    /// Puts `client-output-buffer-limit` into force.
    pub fn set_output_limits(&self, config: &Config) {
        for (limits, limit) in self.output_limits.iter().zip(&config.client_output_buffer_limit) {
            limits.hard_bytes.store(limit.hard_bytes, Ordering::Relaxed);
            limits.soft_bytes.store(limit.soft_bytes, Ordering::Relaxed);
            limits.soft_ms.store(limit.soft_seconds.saturating_mul(1000), Ordering::Relaxed);
        }
    }

    /// Bytes of replies from which on a client is closed.
    pub fn hard_limit(&self, client: &Client) -> Option<usize> {
        let bytes = self.output_limits[client.class() as usize].hard_bytes.load(Ordering::Relaxed);
        usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).and_then(|bytes| bytes.checked_add(UNLIMITED_BYTES))
    }

    /// Whether a client for which so many bytes wait is to be closed: they are over the hard limit, or have been over the
    /// soft one for too long. To be asked whenever they become more, and now and then.
    #[inline]
    pub fn is_over_output_limit(&self, client: &Client, waiting: usize) -> bool {
        if waiting <= UNLIMITED_BYTES {
            client.soft_since_ms.store(0, Ordering::Relaxed);
            return false;
        }
        self.is_over_limit_of_class(client, waiting)
    }

    fn is_over_limit_of_class(&self, client: &Client, waiting: usize) -> bool {
        let class = client.class();
        let limits = &self.output_limits[class as usize];
        let counted = if class == ClientClass::Replica { waiting } else { waiting - UNLIMITED_BYTES } as u64;
        let is_over = |limit: &AtomicU64| (1..=counted).contains(&limit.load(Ordering::Relaxed));
        // The stream itself sees to the hard limit of replicas.
        if is_over(&limits.hard_bytes) && class != ClientClass::Replica {
            return true;
        }
        if !is_over(&limits.soft_bytes) {
            client.soft_since_ms.store(0, Ordering::Relaxed);
            return false;
        }
        let now_ms = self.clock.now_ms();
        let since = client.soft_since_ms.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        let over_ms = now_ms - since.err().unwrap_or(now_ms);
        over_ms.max(0).unsigned_abs() > limits.soft_ms.load(Ordering::Relaxed)
    }

    /// Looks whether a client's soft limit is over by now, though nothing is sent any more.
    pub fn check_output_limit(&self, client: &Client) {
        if self.is_over_output_limit(client, client.output_bytes()) {
            client.mailbox.put(|letters| self.close_for_output(client, letters));
        }
    }

    /// Appends encoded bytes to what is to be sent to a client, unless it is to be closed for what waits already.
    pub fn send(&self, client: &Client, bytes: &[u8]) {
        self.append(client, |letters| letters.output.push(bytes));
    }

    /// The same with a message that others get as well.
    pub fn send_shared(&self, client: &Client, message: &Bytes) {
        self.append(client, |letters| letters.output.push_shared(message));
    }

    /// Sends a message of client tracking.
    pub fn send_invalidation(&self, client: &Client, bytes: &[u8]) {
        self.append(client, |letters| {
            letters.output.push(bytes);
            letters.invalidation_bytes += bytes.len();
            self.undelivered_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        });
    }

    /// Answers a client's blocking command.
    pub fn answer(&self, client: &Client, reply: &[u8]) {
        client.mailbox.put(|letters| {
            letters.unblocked = true;
            self.append_to(client, letters, |letters| letters.output.push(reply));
        });
    }

    fn append(&self, client: &Client, append: impl FnOnce(&mut Letters)) {
        client.mailbox.put(|letters| self.append_to(client, letters, append));
    }

    fn append_to(&self, client: &Client, letters: &mut Letters, append: impl FnOnce(&mut Letters)) {
        if letters.is_closed {
            return;
        }
        append(letters);
        let waiting = client.output_buffer.load(Ordering::Relaxed) + letters.output.len();
        if self.is_over_output_limit(client, waiting) {
            self.close_for_output(client, letters);
        }
        self.count_mail(client, letters.output.memory());
    }

    /// Has a client closed that does not read what it is sent. What waits in its mailbox is freed at once.
    fn close_for_output(&self, client: &Client, letters: &mut Letters) {
        letters.overrun = true;
        self.delivered(letters.invalidation_bytes);
        self.count_mail(client, 0);
        (letters.output, letters.invalidation_bytes, letters.is_closed) = (Output::default(), 0, true);
    }

    /// Takes everything out of a connection's mailbox, if there is anything. For the connection itself.
    pub fn take_letters(&self, client: &Client) -> Option<Letters> {
        if !client.mailbox.filled.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut inner = client.mailbox.inner.lock();
        let left = Letters { is_closed: inner.is_closed, ..Letters::default() };
        let letters = std::mem::replace(&mut *inner, left);
        self.taken(client, &letters.output);
        Some(letters)
    }

    /// Takes out the bytes to be sent alone; the rest stays for the connection's next turn.
    pub fn take_output(&self, client: &Client) -> Output {
        if !client.mailbox.filled.load(Ordering::Acquire) {
            return Output::default();
        }
        let mut inner = client.mailbox.inner.lock();
        let output = std::mem::take(&mut inner.output);
        self.taken(client, &output);
        output
    }

    /// What was in the mailbox, which is locked, is the connection's from now on.
    fn taken(&self, client: &Client, output: &Output) {
        client.output_buffer.fetch_add(output.len(), Ordering::Relaxed);
        self.count_mail(client, 0);
    }

    /// A connection has ended: nobody takes its letters any more. What it was still to be sent.
    pub fn close_mailbox(&self, client: &Client) -> Output {
        let letters =
            client.mailbox.put(|letters| std::mem::replace(letters, Letters { is_closed: true, ..Letters::default() }));
        self.delivered(letters.invalidation_bytes);
        letters.output
    }

    /// A connection has taken so many bytes of such messages.
    pub fn delivered(&self, bytes: usize) {
        if bytes > 0 {
            self.undelivered_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of such messages on their way to connections: memory that comes back by itself. Were keys evicted for it,
    /// their invalidations would have more keys evicted.
    pub fn undelivered_bytes(&self) -> usize {
        self.undelivered_bytes.load(Ordering::Relaxed)
    }

    /// Closes a connection for somebody else: from now on nobody sees it, and nothing is served to it. Its worker takes it
    /// down.
    pub fn kill(&self, client: &Client) {
        client.set(Client::KILLED, true);
        self.remove(client);
        client.mailbox.put(|letters| letters.kill = true);
    }

    /// Closes a connection to win back its memory. Its counts no longer matter.
    pub fn evict(&self, client: &Client) {
        client.set(Client::EVICTED, true);
        self.kill(client);
    }

    /// The connection of this id.
    pub fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.read().get(&id).cloned()
    }

    /// All connections, by id.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.read().values().cloned().collect()
    }

    /// All connections, by id. A connection may come or go meanwhile.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Client>> {
        self.all().into_iter()
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.by_id.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The class of a client's size, one for each power of two; 0 if it may not be closed for that.
fn size_class(client: &Client) -> u8 {
    let is_exempt = client.has(Client::NO_EVICT | Client::REPLICA | Client::KILLED);
    let class = usize::BITS - client.memory().max(1).leading_zeros();
    if is_exempt { 0 } else { class as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Struck off by one thread while its own counts it: the sum must not keep, nor lose, any of it.
    #[test]
    fn the_sum_outlives_who_is_struck_off_as_it_is_counted() {
        let clients = Clients::default();
        let account = Arc::new(Account::of_server());
        for round in 0..300 {
            let origin = Origin { addr: String::new(), laddr: String::new(), fd: -1, unix_socket: false };
            let client = clients.add(origin, 0, 0, account.clone());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for bytes in 1..2000 {
                        clients.count_memory(&client, bytes);
                        if client.has(Client::EVICTED) {
                            break;
                        }
                    }
                    clients.remove(&client);
                });
                std::thread::sleep(std::time::Duration::from_micros(round % 50));
                clients.evict(&client);
            });
            assert_eq!((clients.memory(), clients.len()), (0, 0), "round {round}");
        }
    }
}
