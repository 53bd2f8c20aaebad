//! Every directive of Redis 7.2: one entry gives the field of [`Config`], its default, its name, the values it accepts
//! and who may change it when.
//!
//! Fields are named after their directives and keep their units (stated where the name does not). Sizes are bytes; 0
//! means "no limit" or "off" unless said otherwise.

use std::fmt;
use std::path::PathBuf;

use super::setting::{Rule, Setting, Unit};
use super::values::*;

/// One directive: how it is called and what may be done with it.
pub struct Directive {
    /// Its name in Redis 7.2.
    pub name: &'static str,
    /// Its name in older versions, still accepted.
    pub alias: Option<&'static str>,
    pub(super) flags: u16,
    pub(super) rule: Rule,
    field: fn(&Config) -> &dyn Setting,
    field_mut: fn(&mut Config) -> &mut dyn Setting,
}

impl Directive {
    /// The directive called `name`, or called so once; in any case of letters.
    pub fn find(name: &[u8]) -> Option<&'static Directive> {
        let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
        DIRECTIVES.iter().find(|directive| is(directive.name) || directive.alias.is_some_and(is))
    }

    /// The value as CONFIG GET shows it.
    pub fn get(&self, config: &Config) -> Vec<u8> {
        (self.field)(config).print(&self.rule)
    }

    /// Takes the value from the words of a configuration line. On an error `config` is unchanged; the text is Redis's.
    pub fn set_words(&self, config: &mut Config, words: &[&[u8]]) -> Result<(), String> {
        (self.field_mut)(config).parse(&self.rule, words)
    }

    /// Takes the value as CONFIG SET has it: one argument, cut at each space where the directive has several words.
    pub fn set(&self, config: &mut Config, value: &[u8]) -> Result<(), String> {
        match value {
            _ if !self.has(MULTI) => self.set_words(config, &[value]),
            b"" => self.set_words(config, &[]),
            _ => self.set_words(config, &value.split(|byte| *byte == b' ').collect::<Vec<_>>()),
        }
    }

    /// The value as `redis.conf` says it: one entry a line, without the name.
    pub(super) fn lines(&self, config: &Config) -> Vec<Vec<u8>> {
        (self.field)(config).lines(&self.rule)
    }

    /// True if all of `flags` are set.
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// True if the value is a secret that must not reach logs, MONITOR or SLOWLOG.
    pub fn is_sensitive(&self) -> bool {
        self.has(SENSITIVE)
    }
}

impl fmt::Debug for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Can be changed while the server runs.
pub(super) const MODIFIABLE: u16 = 0;
/// Only the configuration file and the command line set it.
pub(super) const IMMUTABLE: u16 = 1;
/// The value is a secret.
pub(super) const SENSITIVE: u16 = 1 << 1;
/// Takes several words.
pub(super) const MULTI: u16 = 1 << 2;
/// CONFIG GET shows it only by its full name.
pub(super) const HIDDEN: u16 = 1 << 3;
/// CONFIG SET needs `enable-protected-configs`.
pub(super) const PROTECTED: u16 = 1 << 4;
/// CONFIG SET is refused while the data set loads.
pub(super) const DENY_LOADING: u16 = 1 << 5;
/// Names a file whose content may have changed: setting the same value counts as a change.
pub(super) const VOLATILE: u16 = 1 << 6;
/// CONFIG REWRITE writes it even at its default.
pub(super) const ALWAYS_WRITTEN: u16 = 1 << 7;

macro_rules! directives {
    ($($(#[$doc:meta])+ $field:ident: $type:ty = $default:expr, $name:literal $(| $alias:literal)?, $rule:expr, $flags:expr;)+) => {
        /// The configuration of one server. `Config::default()` is what Redis 7.2 starts with.
        #[derive(Clone, PartialEq)]
        pub struct Config { $($(#[$doc])+ pub $field: $type,)+ }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// All directives, in the order CONFIG GET and CONFIG REWRITE list them.
        pub static DIRECTIVES: &[Directive] = &[$(Directive {
            name: $name,
            alias: directives!(@alias $($alias)?),
            flags: $flags,
            rule: $rule,
            field: |config| &config.$field,
            field_mut: |config| &mut config.$field,
        },)+];
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
}

/// Shows what differs from the defaults, without secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Config::default();
        let mut out = f.debug_struct("Config");
        for directive in DIRECTIVES {
            let value = directive.get(self);
            if directive.is_sensitive() && !value.is_empty() {
                out.field(directive.name, &"(secret)");
            } else if value != directive.get(&default) {
                out.field(directive.name, &String::from_utf8_lossy(&value));
            }
        }
        out.finish_non_exhaustive()
    }
}

const INT: i128 = i32::MAX as i128;
const LONG: i128 = i64::MAX as i128;
const ANY: Rule = Rule::Any;
const PORT: Rule = plain(0, 65535);

const fn plain(min: i128, max: i128) -> Rule {
    Rule::Number { unit: Unit::Plain, min, max }
}

const fn bytes(min: i128, max: i128) -> Rule {
    Rule::Number { unit: Unit::Memory, min, max }
}

const fn text(value: &str) -> Option<String> {
    assert!(value.is_empty(), "a directive that may be unset is unset by default");
    None
}

directives! {
    // Network.
    /// Addresses to listen on. `*` and `::*` stand for all; `-` before one: no error if it is not there.
    bind: Vec<String> = vec!["*".into(), "-::*".into()], "bind", ANY, MODIFIABLE | MULTI;
    /// Address that outgoing connections (to a master, to a cluster node) come from.
    bind_source_addr: Option<String> = text(""), "bind-source-addr", ANY, MODIFIABLE;
    /// Refuse connections from other hosts while no password is set.
    protected_mode: bool = true, "protected-mode", ANY, MODIFIABLE;
    /// TCP port; 0 = none.
    port: u16 = 6379, "port", PORT, MODIFIABLE;
    /// Length of the queue of connections not yet accepted.
    tcp_backlog: u32 = 511, "tcp-backlog", plain(0, INT), IMMUTABLE;
    /// Path of the Unix socket.
    unixsocket: Option<String> = text(""), "unixsocket", ANY, IMMUTABLE;
    /// Its mode; 0 = as the umask gives it.
    unixsocketperm: u32 = 0, "unixsocketperm", Rule::Number { unit: Unit::Octal, min: 0, max: 0o777 }, IMMUTABLE;
    /// Seconds without a command after which a client is disconnected.
    timeout: u32 = 0, "timeout", plain(0, INT), MODIFIABLE;
    /// Seconds between keep-alive probes.
    tcp_keepalive: u32 = 300, "tcp-keepalive", plain(0, INT), MODIFIABLE;
    /// Mark (`SO_MARK`) of the listening sockets.
    socket_mark_id: u32 = 0, "socket-mark-id", plain(0, u32::MAX as i128), IMMUTABLE;
    /// Most clients at a time.
    maxclients: u32 = 10_000, "maxclients", plain(1, u32::MAX as i128), MODIFIABLE;

    // TLS.
    /// TCP port for TLS; 0 = none.
    tls_port: u16 = 0, "tls-port", PORT, MODIFIABLE;
    /// Certificate, PEM.
    tls_cert_file: Option<String> = text(""), "tls-cert-file", ANY, MODIFIABLE | VOLATILE;
    /// Its key.
    tls_key_file: Option<String> = text(""), "tls-key-file", ANY, MODIFIABLE | VOLATILE;
    /// The key's passphrase.
    tls_key_file_pass: Option<String> = text(""), "tls-key-file-pass", ANY, MODIFIABLE | SENSITIVE;
    /// Certificate for outgoing connections.
    tls_client_cert_file: Option<String> = text(""), "tls-client-cert-file", ANY, MODIFIABLE | VOLATILE;
    /// Its key.
    tls_client_key_file: Option<String> = text(""), "tls-client-key-file", ANY, MODIFIABLE | VOLATILE;
    /// The key's passphrase.
    tls_client_key_file_pass: Option<String> = text(""), "tls-client-key-file-pass", ANY, MODIFIABLE | SENSITIVE;
    /// Diffie-Hellman parameters.
    tls_dh_params_file: Option<String> = text(""), "tls-dh-params-file", ANY, MODIFIABLE | VOLATILE;
    /// Certificates of the authorities that peers are checked against.
    tls_ca_cert_file: Option<String> = text(""), "tls-ca-cert-file", ANY, MODIFIABLE | VOLATILE;
    /// A directory of them.
    tls_ca_cert_dir: Option<String> = text(""), "tls-ca-cert-dir", ANY, MODIFIABLE | VOLATILE;
    /// Whether clients must show a certificate.
    tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, "tls-auth-clients", ANY, MODIFIABLE;
    /// Use TLS to the master.
    tls_replication: bool = false, "tls-replication", ANY, MODIFIABLE;
    /// Use TLS on the cluster bus.
    tls_cluster: bool = false, "tls-cluster", ANY, MODIFIABLE;
    /// Protocol versions, parted by blanks.
    tls_protocols: Option<String> = text(""), "tls-protocols", ANY, MODIFIABLE;
    /// Ciphers of TLS 1.2 and before.
    tls_ciphers: Option<String> = text(""), "tls-ciphers", ANY, MODIFIABLE;
    /// Ciphers of TLS 1.3.
    tls_ciphersuites: Option<String> = text(""), "tls-ciphersuites", ANY, MODIFIABLE;
    /// The server's order of ciphers counts, not the client's.
    tls_prefer_server_ciphers: bool = false, "tls-prefer-server-ciphers", ANY, MODIFIABLE;
    /// Let clients resume sessions.
    tls_session_caching: bool = true, "tls-session-caching", ANY, MODIFIABLE;
    /// Sessions kept.
    tls_session_cache_size: u32 = 20_480, "tls-session-cache-size", plain(0, INT), MODIFIABLE;
    /// Seconds a session is kept.
    tls_session_cache_timeout: u32 = 300, "tls-session-cache-timeout", plain(0, INT), MODIFIABLE;

    // General.
    /// Run in the background.
    daemonize: bool = false, "daemonize", ANY, IMMUTABLE;
    /// The init system to report to.
    supervised: Supervised = Supervised::No, "supervised", ANY, IMMUTABLE;
    /// File the process id is written to.
    pidfile: Option<String> = text(""), "pidfile", ANY, IMMUTABLE;
    /// The least important line that is logged.
    loglevel: LogLevel = LogLevel::Notice, "loglevel", ANY, MODIFIABLE;
    /// Log file; empty = standard output.
    logfile: String = String::new(), "logfile", ANY, IMMUTABLE;
    /// Log to syslog too.
    syslog_enabled: bool = false, "syslog-enabled", ANY, IMMUTABLE;
    /// The program's name in syslog.
    syslog_ident: String = "redis".into(), "syslog-ident", ANY, IMMUTABLE;
    /// The facility in syslog.
    syslog_facility: SyslogFacility = SyslogFacility::Local0, "syslog-facility", ANY, IMMUTABLE;
    /// Report a crash in the log.
    crash_log_enabled: bool = true, "crash-log-enabled", ANY, MODIFIABLE;
    /// Test the memory after a crash.
    crash_memcheck_enabled: bool = true, "crash-memcheck-enabled", ANY, MODIFIABLE;
    /// Number of databases.
    databases: u32 = 16, "databases", plain(1, INT), IMMUTABLE;
    /// Show the logo even if the log is not a terminal.
    always_show_logo: bool = false, "always-show-logo", ANY, IMMUTABLE;
    /// Change the process's title.
    set_proc_title: bool = true, "set-proc-title", ANY, IMMUTABLE;
    /// What to change it to.
    proc_title_template: String = "{title} {listen-addr} {server-mode}".into(), "proc-title-template", Rule::Text(check::proc_title), MODIFIABLE;
    /// Warnings not to stop at.
    ignore_warnings: String = String::new(), "ignore-warnings", ANY, MODIFIABLE;
    /// Locale SORT ALPHA compares in; only the byte order of `C` is there.
    locale_collate: String = String::new(), "locale-collate", Rule::Text(check::locale), MODIFIABLE;
    /// Who may set protected directives.
    enable_protected_configs: ProtectedAction = ProtectedAction::No, "enable-protected-configs", ANY, IMMUTABLE;
    /// Who may use DEBUG.
    enable_debug_command: ProtectedAction = ProtectedAction::No, "enable-debug-command", ANY, IMMUTABLE;
    /// Who may use MODULE.
    enable_module_command: ProtectedAction = ProtectedAction::No, "enable-module-command", ANY, IMMUTABLE;
    /// Where relative paths start.
    dir: PathBuf = current_dir(), "dir", ANY, MODIFIABLE | PROTECTED | DENY_LOADING | ALWAYS_WRITTEN;

    // Threads and periodic work.
    /// Number of workers.
    io_threads: usize = 1, "io-threads", plain(1, 128), IMMUTABLE;
    /// Accepted; a worker always reads its own connections.
    io_threads_do_reads: bool = false, "io-threads-do-reads", ANY, IMMUTABLE;
    /// CPUs of the workers, such as `0-3,8`.
    server_cpulist: Option<String> = text(""), "server_cpulist", ANY, IMMUTABLE;
    /// CPUs of the background threads.
    bio_cpulist: Option<String> = text(""), "bio_cpulist", ANY, IMMUTABLE;
    /// CPUs of the AOF rewrite.
    aof_rewrite_cpulist: Option<String> = text(""), "aof_rewrite_cpulist", ANY, IMMUTABLE;
    /// CPUs of snapshots.
    bgsave_cpulist: Option<String> = text(""), "bgsave_cpulist", ANY, IMMUTABLE;
    /// Rounds of periodic work a second.
    hz: u32 = 10, "hz", Rule::Clamped { low: 1, high: 500 }, MODIFIABLE;
    /// More rounds when there are many clients.
    dynamic_hz: bool = true, "dynamic-hz", ANY, MODIFIABLE;
    /// Accepted; growing a table never stops the world here.
    activerehashing: bool = true, "activerehashing", ANY, MODIFIABLE;
    /// How hard to look for expired keys, 1 to 10.
    active_expire_effort: u32 = 1, "active-expire-effort", plain(1, 10), MODIFIABLE;
    /// Keep transparent huge pages off; nothing to do where no process is forked.
    disable_thp: bool = true, "disable-thp", ANY, IMMUTABLE;
    /// Let the allocator give memory back in the background.
    jemalloc_bg_thread: bool = true, "jemalloc-bg-thread", ANY, MODIFIABLE;
    /// Whether to set the kernel's out-of-memory score.
    oom_score_adj: OomScoreAdj = OomScoreAdj::No, "oom-score-adj", ANY, MODIFIABLE;
    /// Scores of a master, a replica, a saving child.
    oom_score_adj_values: [i32; 3] = [0, 200, 800], "oom-score-adj-values", ANY, MODIFIABLE | MULTI;
    /// Milliseconds the server may hang before the watchdog logs where.
    watchdog_period: u32 = 0, "watchdog-period", plain(0, INT), MODIFIABLE | HIDDEN;

    // Security.
    /// Password of the default user.
    requirepass: Option<Vec<u8>> = None, "requirepass", ANY, MODIFIABLE | SENSITIVE;
    /// File of ACL users.
    aclfile: String = String::new(), "aclfile", ANY, IMMUTABLE;
    /// Refused commands that ACL LOG keeps.
    acllog_max_len: u64 = 128, "acllog-max-len", plain(0, LONG), MODIFIABLE;
    /// Channels of a new user.
    acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::ResetChannels, "acl-pubsub-default", ANY, MODIFIABLE;
    /// When payloads are verified in depth.
    sanitize_dump_payload: SanitizeDumpPayload = SanitizeDumpPayload::No, "sanitize-dump-payload", ANY, MODIFIABLE;

    // Memory.
    /// Bytes the data set may use.
    maxmemory: u64 = 0, "maxmemory", bytes(0, u64::MAX as i128), MODIFIABLE;
    /// Which keys go when it is full.
    maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::NoEviction, "maxmemory-policy", ANY, MODIFIABLE;
    /// Keys looked at for each one evicted.
    maxmemory_samples: u32 = 5, "maxmemory-samples", plain(1, INT), MODIFIABLE;
    /// How long eviction may take before commands go on, 0 to 100.
    maxmemory_eviction_tenacity: u32 = 10, "maxmemory-eviction-tenacity", plain(0, 100), MODIFIABLE;
    /// Bytes all clients together may use; negative: that many per cent of `maxmemory`.
    maxmemory_clients: i64 = 0, "maxmemory-clients", Rule::Number { unit: Unit::MemoryOrPercent, min: -100, max: LONG }, MODIFIABLE;
    /// Steepness of the LFU counter.
    lfu_log_factor: u32 = 10, "lfu-log-factor", plain(0, INT), MODIFIABLE;
    /// Minutes after which the LFU counter loses one.
    lfu_decay_time: u32 = 1, "lfu-decay-time", plain(0, INT), MODIFIABLE;
    /// Free evicted values in the background.
    lazyfree_lazy_eviction: bool = false, "lazyfree-lazy-eviction", ANY, MODIFIABLE;
    /// Free expired values in the background.
    lazyfree_lazy_expire: bool = false, "lazyfree-lazy-expire", ANY, MODIFIABLE;
    /// Free overwritten values in the background.
    lazyfree_lazy_server_del: bool = false, "lazyfree-lazy-server-del", ANY, MODIFIABLE;
    /// DEL works as UNLINK.
    lazyfree_lazy_user_del: bool = false, "lazyfree-lazy-user-del", ANY, MODIFIABLE;
    /// FLUSHALL, FLUSHDB and SCRIPT FLUSH work as with ASYNC.
    lazyfree_lazy_user_flush: bool = false, "lazyfree-lazy-user-flush", ANY, MODIFIABLE;
    /// Move values to reduce fragmentation; not there.
    activedefrag: bool = false, "activedefrag", Rule::OnlyNo(check::NO_DEFRAG), MODIFIABLE;
    /// Bytes of fragmentation that are ignored.
    active_defrag_ignore_bytes: u64 = 100 << 20, "active-defrag-ignore-bytes", bytes(1, LONG), MODIFIABLE;
    /// Per cent of fragmentation at which defragmentation starts.
    active_defrag_threshold_lower: u32 = 10, "active-defrag-threshold-lower", plain(0, 1000), MODIFIABLE;
    /// Per cent of fragmentation at which it works hardest.
    active_defrag_threshold_upper: u32 = 100, "active-defrag-threshold-upper", plain(0, 1000), MODIFIABLE;
    /// Least per cent of CPU it uses.
    active_defrag_cycle_min: u32 = 1, "active-defrag-cycle-min", plain(1, 99), MODIFIABLE;
    /// Most per cent of CPU it uses.
    active_defrag_cycle_max: u32 = 25, "active-defrag-cycle-max", plain(1, 99), MODIFIABLE;
    /// Fields of a collection it does at once.
    active_defrag_max_scan_fields: u64 = 1000, "active-defrag-max-scan-fields", plain(1, LONG), MODIFIABLE;

    // Encodings.
    /// Fields up to which a hash is packed.
    hash_max_listpack_entries: usize = 512, "hash-max-listpack-entries" | "hash-max-ziplist-entries", plain(0, LONG), MODIFIABLE;
    /// Bytes of a field or value up to which a hash is packed.
    hash_max_listpack_value: usize = 64, "hash-max-listpack-value" | "hash-max-ziplist-value", bytes(0, LONG), MODIFIABLE;
    /// Elements of a list node; -1 to -5: 4 to 64 kb.
    list_max_listpack_size: i32 = -2, "list-max-listpack-size" | "list-max-ziplist-size", plain(i32::MIN as i128, INT), MODIFIABLE;
    /// List nodes at each end that stay uncompressed; 0 = all.
    list_compress_depth: u32 = 0, "list-compress-depth", plain(0, INT), MODIFIABLE;
    /// Members up to which a set of integers is packed.
    set_max_intset_entries: usize = 512, "set-max-intset-entries", plain(0, LONG), MODIFIABLE;
    /// Members up to which another set is packed.
    set_max_listpack_entries: usize = 128, "set-max-listpack-entries", plain(0, LONG), MODIFIABLE;
    /// Bytes of a member up to which a set is packed.
    set_max_listpack_value: usize = 64, "set-max-listpack-value", plain(0, LONG), MODIFIABLE;
    /// Members up to which a sorted set is packed.
    zset_max_listpack_entries: usize = 128, "zset-max-listpack-entries" | "zset-max-ziplist-entries", plain(0, LONG), MODIFIABLE;
    /// Bytes of a member up to which a sorted set is packed.
    zset_max_listpack_value: usize = 64, "zset-max-listpack-value" | "zset-max-ziplist-value", bytes(0, LONG), MODIFIABLE;
    /// Bytes of a sparse HyperLogLog.
    hll_sparse_max_bytes: usize = 3000, "hll-sparse-max-bytes", bytes(0, LONG), MODIFIABLE;
    /// Bytes of a stream node.
    stream_node_max_bytes: usize = 4096, "stream-node-max-bytes", bytes(0, LONG), MODIFIABLE;
    /// Entries of a stream node.
    stream_node_max_entries: i64 = 100, "stream-node-max-entries", plain(0, LONG), MODIFIABLE;

    // Clients.
    /// When clients that do not read are disconnected; index: `ClientClass`.
    client_output_buffer_limit: [OutputLimit; 3] = output_limits(), "client-output-buffer-limit", ANY, MODIFIABLE | MULTI;
    /// Bytes of one request not yet complete.
    client_query_buffer_limit: u64 = 1 << 30, "client-query-buffer-limit", bytes(1 << 20, LONG), MODIFIABLE;
    /// Bytes of one argument.
    proto_max_bulk_len: u64 = 512 << 20, "proto-max-bulk-len", bytes(1 << 20, LONG), MODIFIABLE;
    /// Keys remembered for client tracking.
    tracking_table_max_keys: usize = 1_000_000, "tracking-table-max-keys", plain(0, LONG), MODIFIABLE;
    /// Event classes published to `__key*__` channels.
    notify_keyspace_events: KeyspaceEvents = KeyspaceEvents::NONE, "notify-keyspace-events", ANY, MODIFIABLE;

    // Snapshots.
    /// When to save.
    save: Vec<SavePoint> = save_points(), "save", ANY, MODIFIABLE | MULTI | ALWAYS_WRITTEN;
    /// Refuse writes after a failed save.
    stop_writes_on_bgsave_error: bool = true, "stop-writes-on-bgsave-error", ANY, MODIFIABLE;
    /// Compress strings with LZF.
    rdbcompression: bool = true, "rdbcompression", ANY, MODIFIABLE;
    /// Write and check the CRC-64.
    rdbchecksum: bool = true, "rdbchecksum", ANY, IMMUTABLE;
    /// Name of the snapshot.
    dbfilename: String = "dump.rdb".into(), "dbfilename", Rule::Text(check::dbfilename), MODIFIABLE | PROTECTED;
    /// Remove RDB files that were made only for replicas.
    rdb_del_sync_files: bool = false, "rdb-del-sync-files", ANY, MODIFIABLE;
    /// Flush to disk every 4 MB while saving.
    rdb_save_incremental_fsync: bool = true, "rdb-save-incremental-fsync", ANY, MODIFIABLE;
    /// Microseconds to wait after each key saved (negative: keys for each microsecond); for tests.
    rdb_key_save_delay: i32 = 0, "rdb-key-save-delay", plain(i32::MIN as i128, INT), MODIFIABLE | HIDDEN;
    /// Microseconds to wait after each key loaded (negative: keys for each microsecond); for tests.
    key_load_delay: i32 = 0, "key-load-delay", plain(i32::MIN as i128, INT), MODIFIABLE | HIDDEN;
    /// Bytes loaded between two looks at the clients.
    loading_process_events_interval_bytes: u64 = 2 << 20, "loading-process-events-interval-bytes", plain(1024, INT), MODIFIABLE | HIDDEN;

    // Append-only file.
    /// Keep one.
    appendonly: bool = false, "appendonly", ANY, MODIFIABLE | DENY_LOADING;
    /// How its files' names begin.
    appendfilename: String = "appendonly.aof".into(), "appendfilename", Rule::Text(check::appendfilename), IMMUTABLE;
    /// The directory they are in, inside `dir`.
    appenddirname: String = "appendonlydir".into(), "appenddirname", Rule::Text(check::appenddirname), IMMUTABLE;
    /// When it is flushed to disk.
    appendfsync: AppendFsync = AppendFsync::EverySec, "appendfsync", ANY, MODIFIABLE;
    /// Do not flush while a snapshot or a rewrite is written.
    no_appendfsync_on_rewrite: bool = false, "no-appendfsync-on-rewrite", ANY, MODIFIABLE;
    /// Per cent of growth since the last rewrite that starts the next.
    auto_aof_rewrite_percentage: u32 = 100, "auto-aof-rewrite-percentage", plain(0, INT), MODIFIABLE;
    /// Bytes below which no rewrite starts by itself.
    auto_aof_rewrite_min_size: u64 = 64 << 20, "auto-aof-rewrite-min-size", bytes(0, LONG), MODIFIABLE;
    /// Load a file whose last command is cut.
    aof_load_truncated: bool = true, "aof-load-truncated", ANY, MODIFIABLE;
    /// The base file is an RDB.
    aof_use_rdb_preamble: bool = true, "aof-use-rdb-preamble", ANY, MODIFIABLE;
    /// Write the time in between.
    aof_timestamp_enabled: bool = false, "aof-timestamp-enabled", ANY, MODIFIABLE;
    /// Flush to disk every 4 MB while rewriting.
    aof_rewrite_incremental_fsync: bool = true, "aof-rewrite-incremental-fsync", ANY, MODIFIABLE;
    /// Keep files of the past; for tests.
    aof_disable_auto_gc: bool = false, "aof-disable-auto-gc", ANY, MODIFIABLE | HIDDEN;
    /// Bytes of old values that a snapshot keeps in memory while clients change them; past it, writers wait for the
    /// disk. Not of Redis.
    snapshot_buffer_limit: u64 = 128 << 20, "snapshot-buffer-limit", bytes(1 << 20, LONG), MODIFIABLE | HIDDEN;
    /// The version of RDB files: 11, or 9 or 10 to go back to an older Redis. Not of Redis.
    rdb_version: u32 = 11, "rdb-version", plain(9, 11), MODIFIABLE | HIDDEN;
    /// Put a checksum line in front of each batch of commands in the log. Not of Redis.
    aof_checksum: bool = true, "aof-checksum", ANY, MODIFIABLE | HIDDEN;

    // Shutdown.
    /// Seconds to wait for replicas.
    shutdown_timeout: u32 = 10, "shutdown-timeout", plain(0, INT), MODIFIABLE;
    /// What SIGINT does.
    shutdown_on_sigint: ShutdownFlags = ShutdownFlags::default(), "shutdown-on-sigint", ANY, MODIFIABLE | MULTI;
    /// What SIGTERM does.
    shutdown_on_sigterm: ShutdownFlags = ShutdownFlags::default(), "shutdown-on-sigterm", ANY, MODIFIABLE | MULTI;
    /// End with an exit code, not with a signal, after a broken invariant; for tests.
    use_exit_on_panic: bool = false, "use-exit-on-panic", ANY, MODIFIABLE | HIDDEN;

    // Scripts, slow log, latency.
    /// Milliseconds after which a running script answers others with BUSY.
    busy_reply_threshold: u64 = 5000, "busy-reply-threshold" | "lua-time-limit", plain(0, LONG), MODIFIABLE;
    /// Microseconds above which a command is slow; -1 = never.
    slowlog_log_slower_than: i64 = 10_000, "slowlog-log-slower-than", plain(-1, LONG), MODIFIABLE;
    /// Slow commands kept.
    slowlog_max_len: u64 = 128, "slowlog-max-len", plain(0, LONG), MODIFIABLE;
    /// Milliseconds above which an event is kept for LATENCY.
    latency_monitor_threshold: u64 = 0, "latency-monitor-threshold", plain(0, LONG), MODIFIABLE;
    /// Keep the latency distribution of each command.
    latency_tracking: bool = true, "latency-tracking", ANY, MODIFIABLE;
    /// The percentiles INFO latencystats shows.
    latency_tracking_info_percentiles: Vec<f64> = vec![50.0, 99.0, 99.9], "latency-tracking-info-percentiles", ANY, MODIFIABLE | MULTI | ALWAYS_WRITTEN;

    // Replication.
    /// The master to copy.
    replicaof: Option<MasterAddress> = None, "replicaof" | "slaveof", ANY, IMMUTABLE | MULTI | ALWAYS_WRITTEN;
    /// User to authenticate as at the master.
    masteruser: Option<String> = text(""), "masteruser", ANY, MODIFIABLE | SENSITIVE;
    /// Password for the master.
    masterauth: Option<Vec<u8>> = None, "masterauth", ANY, MODIFIABLE | SENSITIVE;
    /// Answer reads while the link to the master is down.
    replica_serve_stale_data: bool = true, "replica-serve-stale-data" | "slave-serve-stale-data", ANY, MODIFIABLE;
    /// Refuse writes from clients.
    replica_read_only: bool = true, "replica-read-only" | "slave-read-only", ANY, MODIFIABLE;
    /// Leave eviction to the master.
    replica_ignore_maxmemory: bool = true, "replica-ignore-maxmemory" | "slave-ignore-maxmemory", ANY, MODIFIABLE;
    /// Keep on replicating when the disk fails.
    replica_ignore_disk_write_errors: bool = false, "replica-ignore-disk-write-errors", ANY, MODIFIABLE;
    /// Free the old data set in the background before a full sync.
    replica_lazy_flush: bool = false, "replica-lazy-flush" | "slave-lazy-flush", ANY, MODIFIABLE;
    /// Chance to be made master by a sentinel: lower is likelier, 0 = never.
    replica_priority: u32 = 100, "replica-priority" | "slave-priority", plain(0, INT), MODIFIABLE;
    /// Tell sentinels about this replica.
    replica_announced: bool = true, "replica-announced", ANY, MODIFIABLE;
    /// Address to give to the master.
    replica_announce_ip: Option<String> = text(""), "replica-announce-ip" | "slave-announce-ip", ANY, MODIFIABLE;
    /// Port to give to the master; 0 = the real one.
    replica_announce_port: u16 = 0, "replica-announce-port" | "slave-announce-port", PORT, MODIFIABLE;
    /// Send RDBs straight to replicas, without a file.
    repl_diskless_sync: bool = true, "repl-diskless-sync", ANY, MODIFIABLE;
    /// Seconds to wait for more replicas before that.
    repl_diskless_sync_delay: u32 = 5, "repl-diskless-sync-delay", plain(0, INT), MODIFIABLE;
    /// Number of replicas that ends the wait.
    repl_diskless_sync_max_replicas: u32 = 0, "repl-diskless-sync-max-replicas", plain(0, INT), MODIFIABLE;
    /// Where a replica puts the RDB it receives.
    repl_diskless_load: ReplDisklessLoad = ReplDisklessLoad::Disabled, "repl-diskless-load", ANY, MODIFIABLE | DENY_LOADING;
    /// Let the kernel join small packets to replicas.
    repl_disable_tcp_nodelay: bool = false, "repl-disable-tcp-nodelay", ANY, MODIFIABLE;
    /// Seconds between PINGs to replicas.
    repl_ping_replica_period: u32 = 10, "repl-ping-replica-period" | "repl-ping-slave-period", plain(1, INT), MODIFIABLE;
    /// Seconds without data after which the link counts as broken.
    repl_timeout: u32 = 60, "repl-timeout", plain(1, INT), MODIFIABLE;
    /// Bytes of past commands kept for partial syncs.
    repl_backlog_size: u64 = 1 << 20, "repl-backlog-size", bytes(1, LONG), MODIFIABLE;
    /// Seconds without replicas after which the backlog is freed; 0 = never.
    repl_backlog_ttl: u64 = 3600, "repl-backlog-ttl", plain(0, LONG), MODIFIABLE;
    /// Writes need this many replicas.
    min_replicas_to_write: u32 = 0, "min-replicas-to-write" | "min-slaves-to-write", plain(0, INT), MODIFIABLE;
    /// Seconds since such a replica was last heard of, at most.
    min_replicas_max_lag: u32 = 10, "min-replicas-max-lag" | "min-slaves-max-lag", plain(0, INT), MODIFIABLE;
    /// What happens when a replicated command fails.
    propagation_error_behavior: PropagationErrorBehavior = PropagationErrorBehavior::Ignore, "propagation-error-behavior", ANY, MODIFIABLE;

    // Cluster.
    /// Be a cluster node.
    cluster_enabled: bool = false, "cluster-enabled", ANY, IMMUTABLE;
    /// File the node keeps its view of the cluster in.
    cluster_config_file: String = "nodes.conf".into(), "cluster-config-file", ANY, IMMUTABLE;
    /// Milliseconds without an answer after which a node counts as failing.
    cluster_node_timeout: u64 = 15_000, "cluster-node-timeout", plain(0, LONG), MODIFIABLE;
    /// Milliseconds between PINGs to a node; 0 = by itself; for tests.
    cluster_ping_interval: u64 = 0, "cluster-ping-interval", plain(0, LONG), MODIFIABLE | HIDDEN;
    /// Port of the bus; 0 = `port` + 10000.
    cluster_port: u16 = 0, "cluster-port", PORT, IMMUTABLE;
    /// How stale a replica may be to fail over, in node timeouts.
    cluster_replica_validity_factor: u32 = 10, "cluster-replica-validity-factor" | "cluster-slave-validity-factor", plain(0, INT), MODIFIABLE;
    /// Replicas a master keeps before one may migrate.
    cluster_migration_barrier: u32 = 1, "cluster-migration-barrier", plain(0, INT), MODIFIABLE;
    /// Replicas may migrate to masters without one.
    cluster_allow_replica_migration: bool = true, "cluster-allow-replica-migration", ANY, MODIFIABLE;
    /// Answer only while every slot is covered.
    cluster_require_full_coverage: bool = true, "cluster-require-full-coverage", ANY, MODIFIABLE;
    /// Never fail over to this replica.
    cluster_replica_no_failover: bool = false, "cluster-replica-no-failover" | "cluster-slave-no-failover", ANY, MODIFIABLE;
    /// Answer reads while the cluster is down.
    cluster_allow_reads_when_down: bool = false, "cluster-allow-reads-when-down", ANY, MODIFIABLE;
    /// Serve shard channels while the cluster is down.
    cluster_allow_pubsubshard_when_down: bool = true, "cluster-allow-pubsubshard-when-down", ANY, MODIFIABLE;
    /// Bytes waiting for one node.
    cluster_link_sendbuf_limit: u64 = 0, "cluster-link-sendbuf-limit", bytes(0, u64::MAX as i128), MODIFIABLE;
    /// Address to give to other nodes.
    cluster_announce_ip: Option<String> = text(""), "cluster-announce-ip", ANY, MODIFIABLE;
    /// Port to give to other nodes.
    cluster_announce_port: u16 = 0, "cluster-announce-port", PORT, MODIFIABLE;
    /// TLS port to give to other nodes.
    cluster_announce_tls_port: u16 = 0, "cluster-announce-tls-port", PORT, MODIFIABLE;
    /// Bus port to give to other nodes.
    cluster_announce_bus_port: u16 = 0, "cluster-announce-bus-port", PORT, MODIFIABLE;
    /// Host name to give to other nodes.
    cluster_announce_hostname: Option<String> = text(""), "cluster-announce-hostname", Rule::Text(check::hostname), MODIFIABLE;
    /// Name for people.
    cluster_announce_human_nodename: Option<String> = text(""), "cluster-announce-human-nodename", Rule::Text(check::nodename), MODIFIABLE;
    /// What redirections name.
    cluster_preferred_endpoint_type: ClusterEndpoint = ClusterEndpoint::Ip, "cluster-preferred-endpoint-type", ANY, MODIFIABLE;
}

fn current_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| "/".into())
}

fn save_points() -> Vec<SavePoint> {
    [(3600, 1), (300, 100), (60, 10_000)].map(|(seconds, changes)| SavePoint { seconds, changes }).into()
}

fn output_limits() -> [OutputLimit; 3] {
    [
        OutputLimit::default(),
        OutputLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 },
        OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 },
    ]
}

/// What text directives refuse, in Redis's words.
mod check {
    use crate::config::proc_title;

    type Check = Result<(), &'static str>;

    pub(super) const NO_DEFRAG: &str = "Active defragmentation cannot be enabled: it is not part of this server";

    pub(super) fn dbfilename(name: &[u8]) -> Check {
        base_name(name, "dbfilename can't be a path, just a filename")
    }

    pub(super) fn appendfilename(name: &[u8]) -> Check {
        not_empty(name, "appendfilename can't be empty")?;
        base_name(name, "appendfilename can't be a path, just a filename")
    }

    pub(super) fn appenddirname(name: &[u8]) -> Check {
        not_empty(name, "appenddirname can't be empty")?;
        base_name(name, "appenddirname can't be a path, just a dirname")
    }

    pub(super) fn proc_title(template: &[u8]) -> Check {
        match std::str::from_utf8(template).is_ok_and(proc_title::is_valid) {
            true => Ok(()),
            false => Err("template format is invalid or contains unknown variables"),
        }
    }

    /// Only the names of the byte order.
    pub(super) fn locale(name: &[u8]) -> Check {
        match name {
            b"" | b"C" | b"POSIX" | b"C.UTF-8" | b"C.utf8" => Ok(()),
            _ => Err("Invalid locale name"),
        }
    }

    pub(super) fn hostname(name: &[u8]) -> Check {
        if name.len() >= 256 {
            return Err("Hostnames must be less than 256 characters");
        }
        match name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
            true => Ok(()),
            false => Err("Hostnames may only contain alphanumeric characters, hyphens or dots"),
        }
    }

    pub(super) fn nodename(name: &[u8]) -> Check {
        match name.iter().any(|byte| b"!#$%&()*+:;<>?@[]^{|}~".contains(byte)) {
            true => Err("Announced human node name contained invalid character"),
            false => Ok(()),
        }
    }

    fn base_name(name: &[u8], reason: &'static str) -> Check {
        if name.contains(&b'/') || name.contains(&b'\\') { Err(reason) } else { Ok(()) }
    }

    fn not_empty(name: &[u8], reason: &'static str) -> Check {
        if name.is_empty() { Err(reason) } else { Ok(()) }
    }
}
