//! This server as a master: its replicas, the stream they follow, and who waits for what they have got.
//!
//! A replica is a client's connection that has said PSYNC. It gets the data set as of one instant ([`full_sync`]), or
//! only what it lacks, and from there on the [`stream`], which is a reader of the feed while somebody follows or did
//! not long ago. The connection itself pulls the bytes ([`replica`]); nobody ever writes into its reply buffer.
//!
//! Lock order: shards, the feed, the stream; and the register, then a replica's state, then the stream.

pub mod full_sync;
pub mod replica;
pub mod stream;
pub mod waits;

use crate::aof::Aof;
use crate::clients::Client;
use crate::config::Config;
use crate::core::Core;
use crate::feed::Reader;
use crate::feed::records::{Record, Target};
use crate::snapshot::state::Persistence;
use crate::util::sync::Mutex;
use replica::{Phase, Replica};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use stream::{History, Limits, Refusal, Stream};

/// The replicas of one server, and what they follow.
pub struct Replication {
    core: Arc<Core>,
    saves: Arc<Persistence>,
    aof: Arc<Aof>,
    pub stream: Arc<Stream>,
    /// The replicas are to be asked how far they are, once that is possible.
    asks: AtomicBool,
    register: Mutex<Register>,
    /// How many replicas there are, in whatever phase.
    count: AtomicUsize,
    /// How many are online and were heard of within `min-replicas-max-lag`.
    good: AtomicUsize,
    pub full_syncs: AtomicU64,
    pub partial_syncs: AtomicU64,
    pub refused_partial_syncs: AtomicU64,
    /// Bytes sent to replicas.
    pub sent_bytes: AtomicU64,
}

#[derive(Debug)]
struct Register {
    replicas: Vec<Arc<Replica>>,
    /// The feed's name for the stream's reader.
    reader: Option<u64>,
    /// A data set is being written or sent.
    is_syncing: bool,
    /// After a full sync that failed: none begins before this, Unix ms.
    not_before_ms: i64,
    /// Since when there has been no replica, Unix seconds.
    none_since_s: i64,
    /// When the periodic work was last done, Unix seconds.
    last_tick_s: i64,
    /// Ticks so far.
    ticks: u64,
}

impl Replication {
    /// Nobody follows yet. The log is told whom to tell of its progress.
    pub fn new(core: Arc<Core>, saves: Arc<Persistence>, aof: Arc<Aof>) -> Arc<Self> {
        let register = Register {
            replicas: Vec::new(),
            reader: None,
            is_syncing: false,
            not_before_ms: 0,
            none_since_s: 0,
            last_tick_s: 0,
            ticks: 0,
        };
        let replication = Arc::new(Replication {
            stream: Arc::new(Stream::new(core.random.hex(40), core.feed.offset.clone())),
            core,
            saves,
            aof,
            asks: AtomicBool::new(false),
            register: Mutex::new(register),
            count: AtomicUsize::new(0),
            good: AtomicUsize::new(0),
            full_syncs: AtomicU64::new(0),
            partial_syncs: AtomicU64::new(0),
            refused_partial_syncs: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        });
        let own = Arc::downgrade(&replication);
        let progressed = Box::new(move || {
            if let Some(replication) = own.upgrade() {
                waits::serve(&replication);
            }
        });
        // A new log's cell is empty.
        let _ = replication.aof.progressed.set(progressed);
        replication
    }

    /// The replicas, oldest first.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.register.lock().replicas.clone()
    }

    /// The replicas that have not acknowledged the whole stream. Those that never acknowledge anything do not count.
    pub fn lagging(&self) -> impl Iterator<Item = Arc<Replica>> {
        let end = self.stream.end();
        self.replicas().into_iter().filter(move |replica| !replica.is_old && replica.acknowledged() != end)
    }

    /// How many replicas there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How many replicas are online and were heard of lately.
    pub fn good(&self) -> usize {
        self.good.load(Ordering::Acquire)
    }

    /// The names of the history.
    pub fn history(&self) -> History {
        self.stream.history()
    }

    /// Enters a replica that is to take the whole data set.
    fn enter(&self, replica: Arc<Replica>) {
        let mut register = self.register.lock();
        register.replicas.push(replica);
        self.count.store(register.replicas.len(), Ordering::Release);
    }

    /// A replica's connection is gone.
    pub fn leave(&self, replica: &Replica, now_s: i64) {
        replica.leave();
        self.stream.detach(replica);
        let mut register = self.register.lock();
        register.replicas.retain(|other| other.client.id != replica.client.id);
        register.none_since_s = now_s;
        self.count.store(register.replicas.len(), Ordering::Release);
    }

    /// CONFIG RESETSTAT.
    pub fn reset_counters(&self) {
        for counter in [&self.full_syncs, &self.partial_syncs, &self.refused_partial_syncs, &self.sent_bytes] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Counts the good replicas again.
    pub fn count_good(&self, config: &Config, now_s: i64) {
        let most_s = i64::from(config.min_replicas_max_lag);
        let is_good = |replica: &&Arc<Replica>| {
            let is_good = replica.phase() == Phase::Online && replica.lag_s(now_s) <= most_s;
            replica.set_good(is_good);
            is_good
        };
        let good = self.register.lock().replicas.iter().filter(is_good).count();
        self.good.store(good, Ordering::Release);
    }

    /// Begins to record the stream if it is not recorded. All shards must be locked.
    fn begin_stream(&self, config: &Config) {
        let mut register = self.register.lock();
        if register.reader.is_none() {
            self.stream.begin(self.core.random.hex(40), Limits::new(config));
            register.reader = Some(self.core.feed.add_reader(Arc::new(StreamReader(self.stream.clone()))));
            let id = self.stream.history().id;
            self.core.log.notice(format_args!(
                "Replication backlog created, my new replication IDs are '{id}' and '{}'",
                "0".repeat(40)
            ));
        }
    }

    /// Frees the backlog once nobody has followed for `repl-backlog-ttl`.
    fn end_stream(&self, config: &Config, now_s: i64) {
        let mut register = self.register.lock();
        let ttl_s = i64::try_from(config.repl_backlog_ttl).unwrap_or(i64::MAX);
        let is_due = ttl_s > 0 && register.replicas.is_empty() && now_s - register.none_since_s > ttl_s;
        if let Some(reader) = register.reader.filter(|_| is_due) {
            self.core.feed.remove_reader(reader);
            register.reader = None;
            self.stream.end_history(self.core.random.hex(40));
            self.core
                .log
                .notice(format_args!("Replication backlog freed after {ttl_s} seconds without connected replicas."));
        }
    }
}

/// The stream as a reader of the feed.
struct StreamReader(Arc<Stream>);

impl Reader for StreamReader {
    fn target(&self) -> Target {
        Target::Replicas
    }

    fn append(&self, records: &[Record<'_>]) {
        self.0.append(records);
    }
}

/// A client asks to follow: PSYNC with the history it knows and the first byte it lacks, or SYNC with neither.
pub fn follow(replication: &Arc<Replication>, config: &Config, replica: &Arc<Replica>, known: Option<(&str, i64)>) {
    replication.core.log.notice(format_args!("Replica {replica} asks for synchronization"));
    replica.client.set(Client::REPLICA, true);
    if let Some((id, from)) = known {
        if resume(replication, replica, id, from) {
            replication.partial_syncs.fetch_add(1, Ordering::Relaxed);
            replication.count_good(config, replication.core.clock.now_ms() / 1000);
            return;
        }
        if !id.starts_with('?') {
            replication.refused_partial_syncs.fetch_add(1, Ordering::Relaxed);
        }
    }
    replication.full_syncs.fetch_add(1, Ordering::Relaxed);
    replication.enter(replica.clone());
    let is_delayed = config.repl_diskless_sync && replica.wishes.eof && config.repl_diskless_sync_delay > 0;
    if is_delayed {
        replication.core.log.notice("Delay next BGSAVE for diskless SYNC");
    } else {
        full_sync::start(replication, config);
    }
}

/// Lets the replica go on from the byte `from` of the history `id`, if that is kept.
fn resume(replication: &Replication, replica: &Arc<Replica>, id: &str, from: i64) -> bool {
    let Ok(from_byte) = u64::try_from(from) else { return false };
    let now_s = replication.core.clock.now_ms() / 1000;
    let answer = match replica.wishes.psync2 {
        true => format!("+CONTINUE {}\r\n", replication.history().id),
        false => "+CONTINUE\r\n".to_owned(),
    };
    match replication.stream.resume(replica, id, from_byte) {
        Ok(()) => {
            replica.put(answer.into_bytes().into());
            replica.put_online(false, now_s);
            replication.enter(replica.clone());
            let waiting = replication.stream.end() + 1 - from_byte;
            replication.core.log.notice(format_args!(
                "Partial resynchronization request from {replica} accepted. Sending {waiting} bytes of backlog starting \
                 from offset {from}."
            ));
            return true;
        }
        Err(Refusal::OtherHistory) if id.starts_with('?') => {
            replication.core.log.notice(format_args!("Full resync requested by replica {replica}"));
        }
        Err(Refusal::OtherHistory) => {
            let own = replication.history();
            replication.core.log.notice(format_args!(
                "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{id}', my \
                 replication IDs are '{}' and '{}')",
                own.id, own.former_id
            ));
        }
        Err(Refusal::PastFormer(until)) => replication.core.log.notice(format_args!(
            "Partial resynchronization not accepted: Requested offset for second ID was {from}, but I can reply up to \
             {until}"
        )),
        Err(Refusal::NotKept) => replication.core.log.notice(format_args!(
            "Unable to partial resync with replica {replica} for lack of backlog (Replica request was: {from})."
        )),
    }
    false
}

/// The periodic work, several times a second: directives come into force, and once a second replicas are pinged, those
/// not heard of are closed, and data sets are written for those that wait.
pub fn tick(replication: &Arc<Replication>, config: &Config, now_ms: i64) {
    replication.stream.set_limits(Limits::new(config));
    waits::ask_if_wanted(replication);
    let now_s = now_ms / 1000;
    let ticks = {
        let mut register = replication.register.lock();
        if register.last_tick_s == now_s {
            return;
        }
        register.last_tick_s = now_s;
        register.ticks += 1;
        register.ticks
    };
    if replication.count() > 0 && ticks.is_multiple_of(u64::from(config.repl_ping_replica_period.max(1))) {
        replication.stream.append_command(&[b"PING"]);
    }
    for replica in replication.replicas() {
        replica.put_newline_if_waiting();
        let is_silent = replica.lag_s(now_s) > i64::from(config.repl_timeout);
        if replica.phase() == Phase::Online && !replica.is_old && is_silent {
            replication.core.log.warning(format_args!("Disconnecting timedout replica (streaming sync): {replica}"));
            replica.client.mailbox.put(|letters| letters.kill = true);
        }
    }
    replication.end_stream(config, now_s);
    full_sync::start_when_due(replication, config, now_ms);
    replication.count_good(config, now_s);
}
