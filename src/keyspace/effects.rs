//! What commands have changed and who must hear of it: collected while locks are held, delivered before they fall.

use crate::clients::tracking::StaleRead;
use crate::config::{Config, KeyspaceEvents};
use crate::feed::Readers;
use crate::feed::records::Records;
use crate::keyspace::value::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// The effects of one top-level command, transaction or script: as many as it has, and nothing of them stays.
#[derive(Debug)]
pub struct Effects {
    /// Changes made (Redis's dirty count).
    pub dirty: u64,
    /// The records for the feed, in order.
    pub records: Records,
    /// The records are no transaction: keys that SCAN and RANDOMKEY happened to find expired.
    pub apart: bool,
    /// Keys that became ready for blocked clients, in order, each once: (database, key).
    pub ready: VecDeque<(usize, Box<[u8]>)>,
    /// Keyspace events that somebody wants, in order.
    pub events: Vec<KeyEvent>,
    /// Keys changed, while a client tracks keys.
    pub tracked: Vec<Box<[u8]>>,
    /// What clients had read of the first `looked_up` of those keys.
    pub stale: Vec<StaleRead>,
    /// Those of them that the client itself had read that changed them: it hears of them last.
    pub own_stale: Vec<StaleRead>,
    pub looked_up: usize,
    /// Whether any client tracks keys.
    pub tracking: bool,
    /// Who reads the records.
    pub readers: Arc<Readers>,
    /// Whether records are wanted at all.
    pub recording: bool,
    /// Which keyspace events are wanted (`notify-keyspace-events`).
    pub notify: KeyspaceEvents,
    /// Whether the server's own deletions are logged as UNLINK rather than DEL (`lazyfree-lazy-expire`).
    pub lazy_delete: bool,
    /// Whether INFO counts overwritten values as freed lazily (`lazyfree-lazy-server-del`).
    pub lazy_overwrite: bool,
    /// Values to be freed that INFO counts as freed lazily.
    pub garbage: Vec<Value>,
    /// The running command has said what the log says instead of it, if anything.
    pub has_spoken: bool,
    /// There was no memory left when the command began. Source: Redis 7.2 `pre_command_oom_state`.
    pub out_of_memory: bool,
    /// The time that TIME has told (Unix microseconds): it stands still within a script or a transaction.
    pub time_us: Option<i64>,
    /// Keys looked up and found, for INFO.
    pub hits: u64,
    /// Keys looked up and not found, for INFO.
    pub misses: u64,
    /// Keys deleted because their time was over, for INFO.
    pub expired: u64,
}

/// A keyspace event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvent {
    pub class: KeyspaceEvents,
    pub event: &'static str,
    pub db: usize,
    pub key: Box<[u8]>,
}

impl Effects {
    /// What the configuration says about effects holds from now on.
    pub fn follow(&mut self, config: &Config) {
        self.notify = config.notify_keyspace_events;
        self.lazy_delete = config.lazyfree_lazy_expire;
        self.lazy_overwrite = config.lazyfree_lazy_server_del;
    }

    /// Gives memory back that a command with very many effects has left. All of them are delivered.
    pub fn give_back(&mut self) {
        self.ready.shrink_to(KEPT);
        self.events.shrink_to(KEPT);
        self.tracked.shrink_to(KEPT);
        self.stale.shrink_to(KEPT);
        self.own_stale.shrink_to(KEPT);
        self.garbage.shrink_to(KEPT);
    }

    /// Frees a value. Whatever is large is left to another thread; here it is told whether INFO counts it as that.
    pub fn free(&mut self, value: Value, lazily: bool) {
        if lazily && value.allocations() > LAZY_ALLOCATIONS {
            self.garbage.push(value);
        }
    }
}

/// Room for so many effects of a kind stays from command to command.
const KEPT: usize = 256;

/// Allocations from which on a value counts as freed lazily. Source: Redis 7.2 LAZYFREE_THRESHOLD.
const LAZY_ALLOCATIONS: usize = 64;

impl Default for Effects {
    fn default() -> Self {
        Effects {
            dirty: 0,
            records: Records::default(),
            apart: false,
            ready: VecDeque::new(),
            events: Vec::new(),
            tracked: Vec::new(),
            stale: Vec::new(),
            own_stale: Vec::new(),
            looked_up: 0,
            tracking: false,
            readers: Arc::default(),
            recording: false,
            notify: KeyspaceEvents::NONE,
            lazy_delete: false,
            lazy_overwrite: false,
            garbage: Vec::new(),
            has_spoken: false,
            out_of_memory: false,
            time_us: None,
            hits: 0,
            misses: 0,
            expired: 0,
        }
    }
}
