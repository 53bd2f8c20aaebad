//! INFO: what the server is and does, as lines of text.

use crate::aof::Mode;
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::CmdResult;
use crate::command::spec::*;
use crate::config::Supervised;
use crate::memory::{self, AllocatorStats, human};
use crate::metrics::histogram::Distribution;
use crate::metrics::sampler::Metric;
use crate::metrics::stats::{CommandStats, Counter};
use crate::os::banner;
use crate::os::process;
use crate::os::supervisor::Supervisor;
use crate::replication::replica::{Phase, Replica};
use crate::server::Server;
use crate::util::text;
use redstart_types::deadlines::RECORD_BYTES;
use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[Command::new("info", -1, info)
    .flags(LOADING | STALE)
    .acl(acl::DANGEROUS)
    .scope(Scope::AllShards)
    .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])];

/// A section: its name in the arguments, when it is shown, and who writes it.
struct Section {
    name: &'static str,
    shown: Shown,
    write: fn(&Ctx, &mut Lines),
}

/// When a section is part of the answer, other than when it is asked for by name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Without arguments, with `default`, `all` and `everything`.
    Always,
    /// With `all` and `everything`.
    InAll,
    /// Only by name.
    ByName,
}

const SECTIONS: &[Section] = &[
    Section { name: "server", shown: Shown::Always, write: server },
    Section { name: "clients", shown: Shown::Always, write: clients },
    Section { name: "memory", shown: Shown::Always, write: memory },
    Section { name: "persistence", shown: Shown::Always, write: persistence },
    Section { name: "stats", shown: Shown::Always, write: stats },
    Section { name: "replication", shown: Shown::Always, write: replication },
    Section { name: "cpu", shown: Shown::Always, write: cpu },
    Section { name: "modules", shown: Shown::Always, write: |_, lines| lines.head("Modules") },
    Section { name: "commandstats", shown: Shown::InAll, write: commandstats },
    Section { name: "errorstats", shown: Shown::Always, write: errorstats },
    Section { name: "latencystats", shown: Shown::InAll, write: latencystats },
    Section { name: "cluster", shown: Shown::Always, write: cluster },
    Section { name: "keyspace", shown: Shown::Always, write: keyspace },
    Section { name: "debug", shown: Shown::ByName, write: debug },
];

/// `INFO [section ...]`: verbatim text of `field:value` lines under `# Section` heads. Sections may also be `default`,
/// `all` and `everything`; unknown ones are left out. Source: Redis 7.2 INFO.
fn info(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let wanted = |section: &Section| {
        let shown = section.shown;
        args.is_empty() && shown == Shown::Always
            || args.rest().iter().any(|argument| match argument.to_ascii_lowercase().as_slice() {
                b"default" => shown == Shown::Always,
                b"all" | b"everything" => shown != Shown::ByName,
                name => name == section.name.as_bytes(),
            })
    };
    let mut lines = Lines::default();
    SECTIONS.iter().filter(|section| wanted(section)).for_each(|section| (section.write)(ctx, &mut lines));
    ctx.reply.verbatim("txt", &lines.0);
    Ok(())
}

/// The text under way.
#[derive(Default)]
struct Lines(Vec<u8>);

const VECTOR: &str = "writing to a vector does not fail";

impl Lines {
    fn head(&mut self, title: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        write!(self.0, "{gap}# {title}\r\n").expect(VECTOR);
    }

    fn put(&mut self, field: &str, value: impl Display) {
        write!(self.0, "{field}:{value}\r\n").expect(VECTOR);
    }

    /// A size and the same for people.
    fn bytes(&mut self, field: &str, bytes: u64) {
        self.put(field, bytes);
        self.put(&format!("{field}_human"), human(bytes));
    }

    /// Fields of features that this server does not have: they are always 0.
    fn zeros(&mut self, fields: &[&str]) {
        fields.iter().for_each(|field| self.put(field, 0));
    }
}

fn server(ctx: &Ctx, lines: &mut Lines) {
    let (server, config) = (ctx.server, ctx.config);
    let now_us = server.clock.now_us();
    let uptime_s = (now_us / 1000 - server.started_at_ms).max(0) / 1000;
    lines.head("Server");
    lines.put("redis_version", banner::REDIS_VERSION);
    lines.put("redis_git_sha1", "00000000");
    lines.put("redis_git_dirty", 0);
    lines.put("redis_build_id", format_args!("redstart-{}", banner::VERSION));
    lines.put("redis_mode", banner::mode(config));
    lines.put("os", process::operating_system());
    lines.put("arch_bits", usize::BITS);
    lines.put("monotonic_clock", "POSIX clock_gettime");
    lines.put("multiplexing_api", "epoll");
    lines.put("atomicvar_api", "rust-atomic");
    lines.put("gcc_version", "0.0.0");
    lines.put("process_id", std::process::id());
    let supervisor = server.process.as_ref().and_then(|process| process.supervisor.as_ref());
    lines.put("process_supervised", supervisor.map_or(Supervised::No, Supervisor::kind).name());
    lines.put("run_id", &server.run_id);
    let port = server.port.load(Ordering::Relaxed);
    lines.put("tcp_port", if port != 0 { port } else { usize::from(config.tls_port) });
    lines.put("server_time_usec", now_us);
    lines.put("uptime_in_seconds", uptime_s);
    lines.put("uptime_in_days", uptime_s / 86_400);
    lines.put("hz", config.hz);
    lines.put("configured_hz", config.hz);
    lines.put("lru_clock", (now_us / 1_000_000) & 0xff_ffff);
    let path = |path: Option<&std::path::Path>| path.map_or_else(String::new, |path| path.display().to_string());
    let process = server.process.as_ref();
    lines.put("executable", path(process.map(|process| process.executable.as_path())));
    lines.put("config_file", path(process.and_then(|process| process.config_file.as_deref())));
    lines.put("io_threads_active", u8::from(config.io_threads > 1));
    if let Some(until_ms) = server.stop.waits_until_ms() {
        lines.put("shutdown_in_milliseconds", until_ms - now_us / 1000);
    }
    listeners(ctx, lines);
}

fn listeners(ctx: &Ctx, lines: &mut Lines) {
    let port = ctx.server.port.load(Ordering::Relaxed);
    let bind: String = ctx.config.bind.iter().map(|address| format!(",bind={address}")).collect();
    let tcp = (port != 0).then(|| format!("name=tcp{bind},port={port}"));
    let unix = ctx.config.unixsocket.as_ref().map(|path| format!("name=unix,bind={path}"));
    let tls = (ctx.config.tls_port != 0).then(|| format!("name=tls{bind},port={}", ctx.config.tls_port));
    for (number, listener) in [tcp, unix, tls].into_iter().flatten().enumerate() {
        lines.put(&format!("listener{number}"), listener);
    }
}

fn clients(ctx: &Ctx, lines: &mut Lines) {
    let Server { core, replication, tracking, .. } = &**ctx.server;
    let awaited = ctx.db.locked.iter().flat_map(|shard| &shard.dbs).map(|db| db.waiters.counts());
    let (keys, on_nokey) = awaited.fold((0, 0), |sum, keys| (sum.0 + keys.0, sum.1 + keys.1));
    lines.head("Clients");
    lines.put("connected_clients", core.clients.len().saturating_sub(replication.count()));
    lines.put("cluster_connections", 0);
    lines.put("maxclients", ctx.config.maxclients);
    let recent = core.clients.recent.most();
    lines.put("client_recent_max_input_buffer", recent[0]);
    lines.put("client_recent_max_output_buffer", recent[1]);
    lines.put("blocked_clients", ctx.server.waits.blocked_clients.load(Ordering::Relaxed));
    lines.put("tracking_clients", tracking.counts()[0]);
    lines.put("clients_in_timeout_table", ctx.server.waits.with_deadline());
    lines.put("total_blocking_keys", keys);
    lines.put("total_blocking_keys_on_nokey", on_nokey);
}

/// Where memory goes, in bytes.
pub(crate) struct MemoryUse {
    pub(crate) allocator: AllocatorStats,
    /// Of what is allocated, all but the Lua states: `used_memory`.
    pub(crate) used: u64,
    pub(crate) peak: u64,
    pub(crate) startup: u64,
    /// Buffers of clients but replicas.
    pub(crate) clients: u64,
    /// The replication backlog, and what is kept beyond it for slow replicas, who share it.
    pub(crate) backlog: u64,
    pub(crate) replicas: u64,
    pub(crate) aof_buffer: u64,
    /// Sources of scripts and of functions.
    pub(crate) scripts: u64,
    pub(crate) functions: u64,
    /// The tables of each database.
    pub(crate) tables: Vec<TableUse>,
}

/// The memory of one database's tables, without keys and values.
pub(crate) struct TableUse {
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    /// Of the order in which keys expire.
    pub(crate) expires_bytes: u64,
}

impl TableUse {
    /// Adds up a database's parts in all shards.
    fn measure(ctx: &Ctx, index: usize) -> Self {
        let mut used = TableUse { keys: 0, bytes: 0, expires_bytes: 0 };
        for db in ctx.db.locked.iter().map(|shard| &shard.dbs[index]) {
            used.keys += db.keys.len() as u64;
            used.bytes += db.keys.memory_bytes() as u64;
            used.expires_bytes += (db.expires_len() * RECORD_BYTES) as u64;
        }
        used
    }
}

impl MemoryUse {
    /// Adds it up; all shards are locked.
    pub(crate) fn measure(ctx: &Ctx) -> Self {
        let server = ctx.server;
        let allocator = server.read_memory();
        let databases = ctx.config.databases as usize;
        let replicas = server.replication.stream.beyond_backlog();
        MemoryUse {
            allocator,
            used: allocator.allocated.saturating_sub(server.lua_bytes() as u64),
            peak: server.peak_memory.load(Ordering::Relaxed),
            startup: server.startup_memory.load(Ordering::Relaxed),
            clients: server.clients.memory() as u64,
            backlog: server.replication.stream.backlog().held_bytes.saturating_sub(replicas),
            replicas,
            aof_buffer: server.aof.figures().buffer_bytes as u64,
            scripts: server.scripts.counts().source_bytes as u64,
            functions: server.functions.counts().source_bytes as u64,
            tables: (0..databases).map(|index| TableUse::measure(ctx, index)).collect(),
        }
    }

    /// What is not keys and values.
    pub(crate) fn overhead(&self) -> u64 {
        let parts = [self.clients, self.backlog, self.replicas, self.aof_buffer, self.scripts, self.functions];
        let tables = self.tables.iter().map(|table| table.bytes + table.expires_bytes);
        self.startup + parts.iter().sum::<u64>() + tables.sum::<u64>()
    }

    /// Keys and values.
    pub(crate) fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead())
    }

    /// Per cent of what was allocated since the start that is keys and values.
    pub(crate) fn dataset_percent(&self) -> f64 {
        let since_start = self.used.saturating_sub(self.startup);
        100.0 * ratio(self.dataset(), since_start)
    }
}

/// `a / b`, 0 where there is nothing to compare with.
pub(crate) fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn memory(ctx: &Ctx, lines: &mut Lines) {
    let used = MemoryUse::measure(ctx);
    let AllocatorStats { allocated, active, resident } = used.allocator;
    let rss = process::resident_bytes().unwrap_or(0);
    lines.head("Memory");
    lines.bytes("used_memory", used.used);
    lines.bytes("used_memory_rss", rss);
    lines.bytes("used_memory_peak", used.peak);
    lines.put("used_memory_peak_perc", format_args!("{:.2}%", 100.0 * ratio(used.used, used.peak)));
    lines.put("used_memory_overhead", used.overhead());
    lines.put("used_memory_startup", used.startup);
    lines.put("used_memory_dataset", used.dataset());
    lines.put("used_memory_dataset_perc", format_args!("{:.2}%", used.dataset_percent()));
    lines.put("allocator_allocated", allocated);
    lines.put("allocator_active", active);
    lines.put("allocator_resident", resident);
    lines.bytes("total_system_memory", process::machine_bytes().unwrap_or(0));
    script_memory(ctx, lines);
    lines.bytes("maxmemory", ctx.config.maxmemory);
    lines.put("maxmemory_policy", ctx.config.maxmemory_policy);
    let mut overhead = |ratio_field: &str, bytes_field: &str, outer: u64, inner: u64| {
        lines.put(ratio_field, format_args!("{:.2}", ratio(outer, inner)));
        lines.put(bytes_field, outer as i64 - inner as i64);
    };
    overhead("allocator_frag_ratio", "allocator_frag_bytes", active, allocated);
    overhead("allocator_rss_ratio", "allocator_rss_bytes", resident, active);
    overhead("rss_overhead_ratio", "rss_overhead_bytes", rss, resident);
    overhead("mem_fragmentation_ratio", "mem_fragmentation_bytes", rss, used.used);
    lines.put("mem_not_counted_for_evict", ctx.server.queued_bytes());
    lines.put("mem_replication_backlog", used.backlog);
    lines.put("mem_total_replication_buffers", used.backlog + used.replicas);
    lines.put("mem_clients_slaves", used.replicas);
    lines.put("mem_clients_normal", used.clients);
    lines.zeros(&["mem_cluster_links"]);
    lines.put("mem_aof_buffer", used.aof_buffer);
    lines.put("mem_allocator", memory::ALLOCATOR);
    lines.put("active_defrag_running", 0);
    lines.put("lazyfree_pending_objects", ctx.server.reclaimer.pending());
    lines.put("lazyfreed_objects", ctx.server.reclaimer.freed());
}

/// The memory of scripts and functions. Source: Redis 7.2 INFO memory.
fn script_memory(ctx: &Ctx, lines: &mut Lines) {
    let scripts = ctx.server.scripts.counts();
    let functions = ctx.server.functions.counts();
    lines.put("used_memory_lua", scripts.vm_bytes);
    lines.put("used_memory_vm_eval", scripts.vm_bytes);
    lines.put("used_memory_lua_human", human(scripts.vm_bytes as u64));
    lines.put("used_memory_scripts_eval", scripts.source_bytes);
    lines.put("number_of_cached_scripts", scripts.scripts);
    lines.put("number_of_functions", functions.functions);
    lines.put("number_of_libraries", functions.libraries);
    lines.put("used_memory_vm_functions", functions.vm_bytes);
    lines.bytes("used_memory_vm_total", (scripts.vm_bytes + functions.vm_bytes) as u64);
    lines.put("used_memory_functions", functions.source_bytes);
    lines.bytes("used_memory_scripts", (scripts.source_bytes + functions.source_bytes) as u64);
}

fn persistence(ctx: &Ctx, lines: &mut Lines) {
    let server = ctx.server;
    lines.head("Persistence");
    lines.put("loading", u8::from(server.loading.load(Ordering::Relaxed)));
    lines.zeros(&["async_loading"]);
    snapshot(server, lines);
    lines.put("rdb_changes_since_last_save", server.stats.dirty.load(Ordering::Relaxed));
    let saves = server.persistence.saves();
    let now_s = ctx.now_ms / 1000;
    let load = &server.persistence.loading;
    lines.put("rdb_bgsave_in_progress", u8::from(saves.since_s.is_some()));
    lines.put("rdb_last_save_time", saves.last_save_s);
    lines.put("rdb_last_bgsave_status", if saves.last_ok { "ok" } else { "err" });
    lines.put("rdb_last_bgsave_time_sec", saves.last_took_s.unwrap_or(-1));
    lines.put("rdb_current_bgsave_time_sec", saves.since_s.map_or(-1, |since_s| now_s - since_s));
    lines.put("rdb_saves", saves.count);
    lines.put("rdb_last_cow_size", server.persistence.last_save_kept.load(Ordering::Relaxed));
    lines.put("rdb_last_load_keys_expired", load.keys_expired.load(Ordering::Relaxed));
    lines.put("rdb_last_load_keys_loaded", load.keys_loaded.load(Ordering::Relaxed));
    let aof = server.aof.figures();
    let rewrites = aof.rewrites;
    lines.put("aof_enabled", u8::from(aof.mode != Mode::Off));
    lines.put("aof_rewrite_in_progress", u8::from(rewrites.since_s.is_some()));
    lines.put("aof_rewrite_scheduled", u8::from(rewrites.scheduled));
    lines.put("aof_last_rewrite_time_sec", rewrites.last_took_s.unwrap_or(-1));
    lines.put("aof_current_rewrite_time_sec", rewrites.since_s.map_or(-1, |since_s| now_s - since_s));
    lines.put("aof_last_bgrewrite_status", if rewrites.last_ok { "ok" } else { "err" });
    lines.put("aof_rewrites", rewrites.count);
    lines.put("aof_rewrites_consecutive_failures", rewrites.failures);
    lines.put("aof_last_write_status", if server.aof.refuses_writes().is_none() { "ok" } else { "err" });
    lines.put("aof_last_cow_size", server.persistence.last_rewrite_kept.load(Ordering::Relaxed));
    lines.zeros(&["module_fork_in_progress", "module_fork_last_cow_size"]);
    if aof.mode != Mode::Off {
        lines.put("aof_current_size", aof.current_bytes);
        lines.put("aof_base_size", aof.base_bytes);
        lines.put("aof_pending_rewrite", u8::from(rewrites.scheduled));
        lines.put("aof_buffer_length", aof.buffer_bytes);
        lines.put("aof_pending_bio_fsync", u8::from(aof.is_syncing));
        lines.put("aof_delayed_fsync", server.aof.delayed_syncs.load(Ordering::Relaxed));
    }
    if server.loading.load(Ordering::Relaxed) {
        loading(ctx, lines);
    }
}

/// How far the snapshot under way has come. Nothing is copied on write: these are the old values it keeps.
fn snapshot(server: &Server, lines: &mut Lines) {
    let (kept, progress) = (&server.persistence.kept, &server.persistence.progress);
    let is_under_way = server.persistence.is_saving() || server.aof.is_rewriting();
    let now = |figure: u64| if is_under_way { figure } else { 0 };
    let (done, total) = (progress.keys_done.load(Ordering::Relaxed), progress.keys_total.load(Ordering::Relaxed));
    lines.put("current_cow_peak", now(kept.peak_bytes() as u64));
    lines.put("current_cow_size", now(kept.bytes() as u64));
    lines.zeros(&["current_cow_size_age"]);
    lines.put("current_fork_perc", format!("{:.2}", now(done) as f64 / total.max(1) as f64 * 100.0));
    lines.put("current_save_keys_processed", now(done));
    lines.put("current_save_keys_total", now(total));
}

/// How far loading has come.
fn loading(ctx: &Ctx, lines: &mut Lines) {
    let load = &ctx.server.persistence.loading;
    let now_s = (ctx.now_ms / 1000).unsigned_abs();
    lines.put("loading_start_time", load.start_s.load(Ordering::Relaxed));
    lines.put("loading_total_bytes", load.total_bytes.load(Ordering::Relaxed));
    lines.put("loading_rdb_used_mem", load.saved_used_memory.load(Ordering::Relaxed));
    lines.put("loading_loaded_bytes", load.loaded_bytes.load(Ordering::Relaxed));
    lines.put("loading_loaded_perc", format!("{:.2}", load.percent()));
    lines.put("loading_eta_seconds", load.eta_s(now_s));
}

fn stats(ctx: &Ctx, lines: &mut Lines) {
    let server = ctx.server;
    let stats = &server.stats;
    let kilobytes = |metric: Metric| format!("{:.2}", server.sampler.rate(metric) as f64 / 1024.0);
    lines.head("Stats");
    lines.put("total_connections_received", stats.connections_received.load(Ordering::Relaxed));
    lines.put("total_commands_processed", stats.sum(|worker| &worker.commands_processed));
    lines.put("instantaneous_ops_per_sec", server.sampler.rate(Metric::Commands));
    lines.put("total_net_input_bytes", stats.sum(|worker| &worker.net_input_bytes));
    lines.put("total_net_output_bytes", stats.sum(|worker| &worker.net_output_bytes));
    lines.put("total_net_repl_input_bytes", 0);
    lines.put("total_net_repl_output_bytes", server.replication.sent_bytes.load(Ordering::Relaxed));
    lines.put("instantaneous_input_kbps", kilobytes(Metric::NetInput));
    lines.put("instantaneous_output_kbps", kilobytes(Metric::NetOutput));
    lines.put("instantaneous_input_repl_kbps", "0.00");
    lines.put("instantaneous_output_repl_kbps", "0.00");
    lines.put("rejected_connections", stats.rejected_connections.load(Ordering::Relaxed));
    lines.put("sync_full", server.replication.full_syncs.load(Ordering::Relaxed));
    lines.put("sync_partial_ok", server.replication.partial_syncs.load(Ordering::Relaxed));
    lines.put("sync_partial_err", server.replication.refused_partial_syncs.load(Ordering::Relaxed));
    key_stats(ctx, lines);
    let [channels, patterns, shard_channels] = server.pubsub.counts();
    lines.put("pubsub_channels", channels);
    lines.put("pubsub_patterns", patterns);
    lines.put("pubsubshard_channels", shard_channels);
    lines.zeros(&["latest_fork_usec"]);
    // What Redis forks for.
    lines.put("total_forks", server.persistence.saves().begun + server.aof.figures().rewrites.count);
    lines.put("migrate_cached_sockets", server.migrations.sockets());
    lines.zeros(&["slave_expires_tracked_keys"]);
    lines.zeros(&["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]);
    lines.zeros(&["total_active_defrag_time", "current_active_defrag_time"]);
    let [_, keys, prefixes, items] = server.tracking.counts();
    lines.put("tracking_total_keys", keys);
    lines.put("tracking_total_items", items);
    lines.put("tracking_total_prefixes", prefixes);
    lines.put("unexpected_error_replies", 0);
    lines.put("total_error_replies", stats.sum(|worker| &worker.error_replies));
    lines.put("dump_payload_sanitizations", stats.sanitized_payloads.load(Ordering::Relaxed));
    lines.put("total_reads_processed", stats.sum(|worker| &worker.reads));
    lines.put("total_writes_processed", stats.sum(|worker| &worker.writes));
    // All threads of one do not count as threads.
    let threaded = |counted: u64| if ctx.config.io_threads > 1 { counted } else { 0 };
    lines.put("io_threaded_reads_processed", threaded(stats.sum(|worker| &worker.reads)));
    lines.put("io_threaded_writes_processed", threaded(stats.sum(|worker| &worker.writes)));
    lines.zeros(&["reply_buffer_shrinks", "reply_buffer_expands"]);
    let command_micros = server.command_micros();
    lines.put("eventloop_cycles", server.cycles());
    lines.put("eventloop_duration_sum", command_micros + server.cron_micros());
    lines.put("eventloop_duration_cmd_sum", command_micros);
    let cycles = server.sampler.rate(Metric::Cycles);
    lines.put("instantaneous_eventloop_cycles_per_sec", cycles);
    // A cycle takes some time, if less than a microsecond.
    let micros = server.sampler.rate(Metric::CycleMicros).checked_div(cycles).map_or(0, |micros| micros.max(1));
    lines.put("instantaneous_eventloop_duration_usec", micros);
    for (reason, count) in ["auth", "cmd", "key", "channel"].iter().zip(ctx.server.acl.log.counts()) {
        lines.put(&format!("acl_access_denied_{reason}"), count);
    }
}

fn key_stats(ctx: &Ctx, lines: &mut Lines) {
    let stats = &ctx.server.stats;
    lines.put("expired_keys", stats.sum(|worker| &worker.expired_keys));
    lines.put("expired_stale_perc", "0.00");
    lines.put("expired_time_cap_reached_count", stats.expire_cut_short.load(Ordering::Relaxed));
    lines.put("expire_cycle_cpu_milliseconds", stats.expire_nanos.load(Ordering::Relaxed) / 1_000_000);
    lines.put("evicted_keys", stats.sum(|worker| &worker.evicted_keys));
    lines.put("evicted_clients", ctx.server.stats.evicted_clients.load(Ordering::Relaxed));
    let since_us = stats.memory_exceeded_since_us.load(Ordering::Relaxed);
    let exceeded_us = if since_us == 0 { 0 } else { (ctx.server.clock.now_us() - since_us).max(0).unsigned_abs() };
    lines.put("total_eviction_exceeded_time", (stats.memory_exceeded_us.load(Ordering::Relaxed) + exceeded_us) / 1000);
    lines.put("current_eviction_exceeded_time", exceeded_us / 1000);
    lines.put("keyspace_hits", stats.sum(|worker| &worker.keyspace_hits));
    lines.put("keyspace_misses", stats.sum(|worker| &worker.keyspace_misses));
}

fn replication(ctx: &Ctx, lines: &mut Lines) {
    lines.head("Replication");
    let replication = &ctx.server.replication;
    let replicas = replication.replicas();
    lines.put("role", "master");
    lines.put("connected_slaves", replicas.len());
    if ctx.config.min_replicas_to_write > 0 && ctx.config.min_replicas_max_lag > 0 {
        lines.put("min_slaves_good_slaves", replication.good());
    }
    replicas.iter().enumerate().for_each(|(number, replica)| replica_line(ctx, lines, number, replica));
    let (history, backlog) = (replication.history(), replication.stream.backlog());
    lines.put("master_failover_state", "no-failover");
    lines.put("master_replid", history.id);
    lines.put("master_replid2", history.former_id);
    lines.put("master_repl_offset", replication.stream.end());
    lines.put("second_repl_offset", history.until.map_or(-1, |until| until as i64));
    lines.put("repl_backlog_active", u8::from(backlog.active));
    lines.put("repl_backlog_size", ctx.config.repl_backlog_size);
    lines.put("repl_backlog_first_byte_offset", backlog.first);
    lines.put("repl_backlog_histlen", backlog.len);
}

fn replica_line(ctx: &Ctx, lines: &mut Lines, number: usize, replica: &Replica) {
    let (state, lag_s) = match replica.phase() {
        Phase::Waiting | Phase::Saving => ("wait_bgsave", 0),
        Phase::Sending if replica.wishes.eof && ctx.config.repl_diskless_sync => ("wait_bgsave", 0),
        Phase::Sending => ("send_bulk", 0),
        Phase::Online => ("online", replica.lag_s(ctx.now_ms / 1000).max(0)),
        Phase::Done => ("rdb_transmitted", 0),
    };
    lines.put(
        &format!("slave{number}"),
        format_args!(
            "ip={},port={},state={state},offset={},lag={lag_s}",
            replica.ip(),
            replica.wishes.port,
            replica.acknowledged()
        ),
    );
}

fn cpu(_ctx: &Ctx, lines: &mut Lines) {
    lines.head("CPU");
    let mut put = |suffix: &str, time: std::io::Result<process::CpuTime>| {
        let time = time.unwrap_or_default();
        lines.put(&format!("used_cpu_sys{suffix}"), format_args!("{:.6}", time.system.as_secs_f64()));
        lines.put(&format!("used_cpu_user{suffix}"), format_args!("{:.6}", time.user.as_secs_f64()));
    };
    put("", process::cpu_time());
    put("_children", process::cpu_time_of_children());
    put("_main_thread", process::cpu_time_of_main_thread());
}

/// Calls each command that was ever called or refused, with its sums over all workers.
fn each_command(ctx: &Ctx, mut each: impl FnMut(&str, &dyn Fn(fn(&CommandStats) -> &Counter) -> u64, usize)) {
    let stats = &ctx.server.stats;
    for (id, command) in ctx.registry.all().iter().enumerate() {
        let sum = |counter: fn(&CommandStats) -> &Counter| stats.sum(|worker| counter(&worker.commands[id]));
        if sum(|command| &command.calls) + sum(|command| &command.rejected) + sum(|command| &command.failed) > 0 {
            each(command.name, &sum, id);
        }
    }
}

fn commandstats(ctx: &Ctx, lines: &mut Lines) {
    lines.head("Commandstats");
    each_command(ctx, |name, sum, _| {
        let (calls, micros) = (sum(|command| &command.calls), sum(|command| &command.nanos) / 1000);
        lines.put(
            &format!("cmdstat_{name}"),
            format_args!(
                "calls={calls},usec={micros},usec_per_call={:.2},rejected_calls={},failed_calls={}",
                ratio(micros, calls),
                sum(|command| &command.rejected),
                sum(|command| &command.failed),
            ),
        );
    });
}

fn errorstats(ctx: &Ctx, lines: &mut Lines) {
    lines.head("Errorstats");
    for (code, count) in ctx.server.errors.all() {
        // A code may be any word that a script has made up.
        let is_unsafe = |byte: u8| matches!(byte, b'#' | b':' | b'\r' | b'\n');
        lines.0.extend_from_slice(b"errorstat_");
        lines.0.extend(text::until_nul(&code).iter().map(|byte| if is_unsafe(*byte) { b'_' } else { *byte }));
        write!(lines.0, ":count={count}\r\n").expect(VECTOR);
    }
}

fn latencystats(ctx: &Ctx, lines: &mut Lines) {
    lines.head("Latencystats");
    if !ctx.config.latency_tracking {
        return;
    }
    for (id, command) in ctx.registry.all().iter().enumerate() {
        let distribution = ctx.server.latency_of(id);
        if distribution.total() > 0 {
            let field = format!("latency_percentiles_usec_{}", command.name);
            lines.put(&field, percentiles(&distribution, &ctx.config.latency_tracking_info_percentiles));
        }
    }
}

fn percentiles(distribution: &Distribution, percentiles: &[f64]) -> String {
    let one = |percentile: &f64| {
        let micros = distribution.percentile(*percentile) as f64 / 1000.0;
        format!("p{percentile}={micros:.3}")
    };
    percentiles.iter().map(one).collect::<Vec<_>>().join(",")
}

fn cluster(ctx: &Ctx, lines: &mut Lines) {
    lines.head("Cluster");
    lines.put("cluster_enabled", u8::from(ctx.config.cluster_enabled));
}

fn keyspace(ctx: &Ctx, lines: &mut Lines) {
    const SAMPLES_A_SHARD: usize = 16;
    lines.head("Keyspace");
    for index in 0..ctx.config.databases as usize {
        let (mut keys, mut expires, mut ttl_ms, mut sampled) = (0, 0, 0_i64, 0);
        for db in ctx.db.locked.iter().map(|shard| &shard.dbs[index]) {
            keys += db.keys.len();
            expires += db.expires_len();
            let (sum_ms, count) = db.sample_ttl_ms(ctx.now_ms, SAMPLES_A_SHARD);
            ttl_ms = ttl_ms.saturating_add(sum_ms);
            sampled += count;
        }
        if keys > 0 {
            let average_ms = ttl_ms.checked_div(sampled).unwrap_or(0);
            lines.put(&format!("db{index}"), format_args!("keys={keys},expires={expires},avg_ttl={average_ms}"));
        }
    }
}

fn debug(ctx: &Ctx, lines: &mut Lines) {
    lines.head("Debug");
    lines.put("eventloop_duration_aof_sum", 0);
    lines.put("eventloop_duration_cron_sum", ctx.server.cron_micros());
    lines.put("eventloop_duration_max", ctx.server.stats.longest_cron_us.load(Ordering::Relaxed));
    let most = ctx.server.stats.workers().iter().map(|worker| worker.most_commands_a_batch.value()).max();
    lines.put("eventloop_cmd_per_cycle_max", most.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, until};
    use crate::config::Config;
    use crate::run::start::Options;

    fn field(info: &str, name: &str) -> Option<String> {
        let start = info.find(&format!("\\n{name}:"))? + name.len() + 3;
        Some(info[start..].split("\\r").next()?.to_owned())
    }

    #[test]
    fn sections() {
        let mut c = Checker::new();
        let heads = |info: &str| info.matches("# ").count();
        for (command, count) in [
            ("INFO", 11),
            ("INFO default", 11),
            ("INFO all", 13),
            ("INFO everything", 13),
            ("INFO SERVER memory", 2),
            ("INFO cpu all", 13),
            ("INFO nonsense", 0),
            ("INFO debug", 1),
        ] {
            assert_eq!(heads(&c.run(command)), count, "{command}");
        }
        c.check("INFO nonsense", "\"\"");
        c.check("INFO cluster", "\"# Cluster\\r\\ncluster_enabled:0\\r\\n\"");
    }

    #[test]
    fn every_field_of_redis_is_there() {
        let mut c = Checker::new();
        let info = c.run("INFO everything");
        for name in REDIS_FIELDS.split_ascii_whitespace() {
            assert!(field(&info, name).is_some(), "{name} in {info}");
        }
    }

    /// With these and Redis's other fields, redis_exporter finds all it knows of Redis 7.2.
    #[test]
    fn with_a_log_its_figures_are_there() {
        let dir = std::env::temp_dir().join(format!("redstart-info-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = Config { appendonly: true, dir: dir.clone(), ..Options::default().config };
        let mut c = Checker::with(Options { config, load: true, ..Options::default() });
        let info = c.running_only("INFO persistence");
        for name in "aof_current_size aof_base_size aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync \
            aof_delayed_fsync"
            .split_ascii_whitespace()
        {
            assert!(field(&info, name).is_some(), "{name} in {info}");
        }
        drop(c);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn work_of_the_main_loop_is_told() {
        let mut c = Checker::new();
        c.run("SET soon v PX 1");
        until("the key is gone", || field(&c.run("INFO stats"), "expired_keys").unwrap() != "0");
        // Counted when the round that found the key is over.
        let nanos = &c.running.server.stats.expire_nanos;
        until("its time is told", || nanos.load(std::sync::atomic::Ordering::Relaxed) > 0);
    }

    #[test]
    fn commands_and_errors_are_counted() {
        let mut c = Checker::new();
        c.run("CONFIG RESETSTAT");
        c.run("SET k v");
        c.run("SET k v");
        c.run("SET k");
        c.run("INCR k");
        c.run("NOSUCH");
        c.run("SELECT 3");
        c.run("SET k2 v EX 100");
        let info = c.run("INFO everything");
        let set = field(&info, "cmdstat_set").unwrap();
        assert!(set.starts_with("calls=3,usec=") && set.ends_with(",rejected_calls=1,failed_calls=0"), "{set}");
        let incr = field(&info, "cmdstat_incr").unwrap();
        assert!(incr.starts_with("calls=1,") && incr.ends_with(",rejected_calls=0,failed_calls=1"), "{incr}");
        assert_eq!(field(&info, "errorstat_ERR").unwrap(), "count=3");
        assert_eq!(field(&info, "total_error_replies").unwrap(), "3");
        let latency = field(&info, "latency_percentiles_usec_set").unwrap();
        assert!(latency.starts_with("p50=") && latency.contains(",p99=") && latency.contains(",p99.9="), "{latency}");
        assert_eq!(field(&info, "db0").unwrap(), "keys=1,expires=0,avg_ttl=0");
        let db3 = field(&info, "db3").unwrap();
        assert!(db3.starts_with("keys=1,expires=1,avg_ttl="), "{db3}");
    }

    /// The fields of Redis 7.2's `INFO everything` on a fresh server.
    const REDIS_FIELDS: &str = "
        redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits monotonic_clock
        multiplexing_api atomicvar_api gcc_version process_id process_supervised run_id tcp_port
        server_time_usec uptime_in_seconds uptime_in_days hz configured_hz lru_clock executable config_file
        io_threads_active connected_clients cluster_connections maxclients client_recent_max_input_buffer
        client_recent_max_output_buffer blocked_clients tracking_clients clients_in_timeout_table
        total_blocking_keys total_blocking_keys_on_nokey used_memory used_memory_human used_memory_rss
        used_memory_rss_human used_memory_peak used_memory_peak_human used_memory_peak_perc
        used_memory_overhead used_memory_startup used_memory_dataset used_memory_dataset_perc
        allocator_allocated allocator_active allocator_resident total_system_memory
        total_system_memory_human used_memory_lua used_memory_vm_eval used_memory_lua_human
        used_memory_scripts_eval number_of_cached_scripts number_of_functions number_of_libraries
        used_memory_vm_functions used_memory_vm_total used_memory_vm_total_human used_memory_functions
        used_memory_scripts used_memory_scripts_human maxmemory maxmemory_human maxmemory_policy
        allocator_frag_ratio allocator_frag_bytes allocator_rss_ratio allocator_rss_bytes
        rss_overhead_ratio rss_overhead_bytes mem_fragmentation_ratio mem_fragmentation_bytes
        mem_not_counted_for_evict mem_replication_backlog mem_total_replication_buffers mem_clients_slaves
        mem_clients_normal mem_cluster_links mem_aof_buffer mem_allocator active_defrag_running
        lazyfree_pending_objects lazyfreed_objects loading async_loading current_cow_peak current_cow_size
        current_cow_size_age current_fork_perc current_save_keys_processed current_save_keys_total
        rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status
        rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_saves rdb_last_cow_size
        rdb_last_load_keys_expired rdb_last_load_keys_loaded aof_enabled aof_rewrite_in_progress
        aof_rewrite_scheduled aof_last_rewrite_time_sec aof_current_rewrite_time_sec
        aof_last_bgrewrite_status aof_rewrites aof_rewrites_consecutive_failures aof_last_write_status
        aof_last_cow_size module_fork_in_progress module_fork_last_cow_size total_connections_received
        total_commands_processed instantaneous_ops_per_sec total_net_input_bytes total_net_output_bytes
        total_net_repl_input_bytes total_net_repl_output_bytes instantaneous_input_kbps
        instantaneous_output_kbps instantaneous_input_repl_kbps instantaneous_output_repl_kbps
        rejected_connections sync_full sync_partial_ok sync_partial_err expired_keys expired_stale_perc
        expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys evicted_clients
        total_eviction_exceeded_time current_eviction_exceeded_time keyspace_hits keyspace_misses
        pubsub_channels pubsub_patterns pubsubshard_channels latest_fork_usec total_forks
        migrate_cached_sockets slave_expires_tracked_keys active_defrag_hits active_defrag_misses
        active_defrag_key_hits active_defrag_key_misses total_active_defrag_time current_active_defrag_time
        tracking_total_keys tracking_total_items tracking_total_prefixes unexpected_error_replies
        total_error_replies dump_payload_sanitizations total_reads_processed total_writes_processed
        io_threaded_reads_processed io_threaded_writes_processed reply_buffer_shrinks reply_buffer_expands
        eventloop_cycles eventloop_duration_sum eventloop_duration_cmd_sum
        instantaneous_eventloop_cycles_per_sec instantaneous_eventloop_duration_usec acl_access_denied_auth
        acl_access_denied_cmd acl_access_denied_key acl_access_denied_channel role connected_slaves
        master_failover_state master_replid master_replid2 master_repl_offset second_repl_offset
        repl_backlog_active repl_backlog_size repl_backlog_first_byte_offset repl_backlog_histlen
        used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children used_cpu_sys_main_thread
        used_cpu_user_main_thread cluster_enabled";
}
