//! One server: a field per register and engine; no logic of its own.

pub mod metrics;

use crate::acl::Acl;
use crate::aof::Aof;
use crate::clients::monitors::Monitors;
use crate::clients::pubsub::PubSub;
use crate::clients::tracking::Tracking;
use crate::cluster::migration::Migrations;
use crate::config::Config;
use crate::core::Core;
use crate::keyspace::watches::Watches;
use crate::metrics::latency::LatencyMonitor;
use crate::metrics::sampler::Sampler;
use crate::metrics::slowlog::Slowlog;
use crate::metrics::stats::ErrorStats;
use crate::replication::Replication;
use crate::scripts::ScriptRegister;
use crate::snapshot::state::Persistence;
use crate::socket::tls::Tls;
use crate::util::sync::Mutex;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, mpsc};
use tokio::sync::mpsc::UnboundedSender;

/// Everything that belongs to one server. Shared by its threads.
pub struct Server {
    pub core: Arc<Core>,
    pub acl: Acl,
    /// Held while clients are closed for `maxmemory-clients`: the time (Unix ms) before which nobody is looked for.
    pub next_client_eviction_ms: Mutex<i64>,
    /// What connections on `tls-port` are accepted with.
    pub tls: Tls,
    pub pubsub: PubSub,
    pub tracking: Tracking,
    pub monitors: Monitors,
    pub persistence: Arc<Persistence>,
    pub aof: Arc<Aof>,
    pub replication: Arc<Replication>,
    pub migrations: Migrations,
    pub errors: ErrorStats,
    pub slowlog: Slowlog,
    pub latency: LatencyMonitor,
    pub watches: Watches,
    /// The scripts of EVAL. Used after shard locks are taken.
    pub scripts: ScriptRegister,
    /// Scripts that are being debugged in servers of their own.
    pub debug_sessions: AtomicUsize,
    /// The data set is being loaded.
    pub loading: AtomicBool,
    /// The most memory that was ever used.
    pub peak_memory: AtomicU64,
    /// What was used once the server had started.
    pub startup_memory: AtomicU64,
    pub sampler: Sampler,
    /// 40 hexadecimal digits, new with every start.
    pub run_id: String,
    pub started_at_ms: i64,
    /// The TCP port in use (0: none), known once the listener is bound.
    pub port: AtomicUsize,
    /// When a request by HTTP was last logged, Unix ms.
    pub cross_protocol_logged_ms: AtomicI64,
    /// The watchdog runs.
    pub is_watched: AtomicBool,
    /// Held while the configuration is changed, so that changes do not cross.
    pub reconfiguring: Mutex<()>,
    /// The way to the main loop, once it runs.
    pub main_loop: OnceLock<UnboundedSender<Rebind>>,
}

/// A wish to listen elsewhere, for the main loop, which owns the listeners.
#[derive(Debug)]
pub struct Rebind {
    pub config: Arc<Config>,
    pub doors: Doors,
    /// Told when it is done; on an error the old addresses are listened on again.
    pub answer: mpsc::SyncSender<Result<(), String>>,
}

/// Which listeners are to be opened anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    All,
    /// On `port`.
    Plain,
    /// On `tls-port`.
    Tls,
}

impl Deref for Server {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.run_id)
    }
}

impl Server {
    /// A server without threads or sockets.
    pub fn new(core: Core, acl: Acl, tls: Tls) -> Server {
        let core = Arc::new(core);
        let now_ms = core.clock.now_ms();
        let persistence = Arc::new(Persistence::new(now_ms / 1000));
        let aof = Arc::new(Aof::new(core.clone(), persistence.clone()));
        let replication = Replication::new(core.clone(), persistence.clone(), aof.clone());
        Server {
            run_id: core.random.hex(40),
            started_at_ms: now_ms,
            core,
            acl,
            tls,
            persistence,
            aof,
            replication,
            next_client_eviction_ms: Default::default(),
            pubsub: Default::default(),
            tracking: Default::default(),
            monitors: Default::default(),
            migrations: Default::default(),
            errors: Default::default(),
            slowlog: Default::default(),
            latency: Default::default(),
            watches: Default::default(),
            scripts: Default::default(),
            debug_sessions: AtomicUsize::new(0),
            loading: AtomicBool::new(false),
            peak_memory: AtomicU64::new(0),
            startup_memory: AtomicU64::new(0),
            sampler: Default::default(),
            port: AtomicUsize::new(0),
            cross_protocol_logged_ms: AtomicI64::new(i64::MIN),
            is_watched: AtomicBool::new(false),
            reconfiguring: Default::default(),
            main_loop: Default::default(),
        }
    }

    /// Tells the init system, if it waits for this process, how far the server has come.
    pub fn tell_supervisor(&self, line: &str) {
        if let Some(supervisor) = self.process.as_ref().and_then(|process| process.supervisor.as_ref()) {
            supervisor.tell(line, &self.log);
        }
    }

    /// Whether commands that need memory must be refused.
    pub fn is_over_maxmemory(&self, config: &Config) -> bool {
        let used = self.used_memory.bytes();
        config.maxmemory > 0
            && used > config.maxmemory
            && used.saturating_sub(self.uncounted_bytes()) > config.maxmemory
    }

    /// Until when (Unix ms) a writer waits, because a snapshot keeps as much of what is being changed as it may, or
    /// garbage is made faster than it is freed.
    #[inline]
    pub fn writers_wait_until_ms(&self, config: &Config, now_ms: i64) -> Option<i64> {
        const LOOK_AGAIN_MS: i64 = 2;
        let slack_bytes = if config.maxmemory == 0 { u64::MAX } else { config.maxmemory / 8 };
        let is_full = self.persistence.kept.bytes() as u64 > config.snapshot_buffer_limit;
        (is_full || self.reclaimer.is_outrun(slack_bytes)).then_some(now_ms + LOOK_AGAIN_MS)
    }

    /// Whether fewer replicas follow than `min-replicas-to-write` asks for.
    pub fn lacks_replicas(&self, config: &Config) -> bool {
        let wanted = config.min_replicas_to_write as usize;
        wanted > 0 && config.min_replicas_max_lag > 0 && self.replication.good() < wanted
    }
}
