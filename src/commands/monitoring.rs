//! Looking at a running server: LATENCY, MEMORY, MONITOR, SLOWLOG.

use crate::clients::Client;
use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::commands::info::{MemoryUse, ratio};
use crate::keyspace::value;
use crate::memory::AllocatorStats;
use crate::metrics::histogram::Distribution;
use crate::os::process;
use redstart_types::number;

pub const COMMANDS: &[Command] = &[
    Command::new("latency", -2, container).since("2.8.13").subcommands(&[
        Command::new("latency|doctor", 2, latency_doctor)
            .flags(ADMIN | LOADING | NOSCRIPT | STALE)
            .since("2.8.13")
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        Command::new("latency|graph", 3, latency_graph)
            .flags(ADMIN | LOADING | NOSCRIPT | STALE)
            .since("2.8.13")
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        Command::new("latency|help", 2, latency_help).flags(LOADING | STALE).since("2.8.13"),
        Command::new("latency|histogram", -2, latency_histogram)
            .flags(ADMIN | LOADING | NOSCRIPT | STALE)
            .since("7.0.0")
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        Command::new("latency|history", 3, latency_history)
            .flags(ADMIN | LOADING | NOSCRIPT | STALE)
            .since("2.8.13")
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        Command::new("latency|latest", 2, latency_latest)
            .flags(ADMIN | LOADING | NOSCRIPT | STALE)
            .since("2.8.13")
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        Command::new("latency|reset", -2, latency_reset)
            .flags(ADMIN | LOADING | NOSCRIPT | STALE)
            .since("2.8.13")
            .tips(&["request_policy:all_nodes", "response_policy:agg_sum"]),
    ]),
    Command::new("memory", -2, container).since("4.0.0").subcommands(&[
        Command::new("memory|doctor", 2, memory_doctor).scope(Scope::AllShards).since("4.0.0").tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ]),
        Command::new("memory|help", 2, memory_help).flags(LOADING | STALE).since("4.0.0"),
        Command::new("memory|malloc-stats", 2, memory_malloc_stats).since("4.0.0").tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ]),
        Command::new("memory|purge", 2, memory_purge)
            .since("4.0.0")
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        Command::new("memory|stats", 2, memory_stats).scope(Scope::AllShards).since("4.0.0").tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ]),
        Command::new("memory|usage", -3, memory_usage)
            .flags(READONLY)
            .keys(&[KeySpec::at(2).flags(KEY_RO)])
            .since("4.0.0"),
    ]),
    Command::new("monitor", 1, monitor).flags(ADMIN | LOADING | NOSCRIPT | STALE),
    Command::new("slowlog", -2, container).since("2.2.12").subcommands(&[
        Command::new("slowlog|get", -2, slowlog_get)
            .flags(ADMIN | LOADING | STALE)
            .since("2.2.12")
            .tips(&["request_policy:all_nodes", "nondeterministic_output"]),
        Command::new("slowlog|help", 2, slowlog_help).flags(LOADING | STALE).since("6.2.0"),
        Command::new("slowlog|len", 2, slowlog_len).flags(ADMIN | LOADING | STALE).since("2.2.12").tips(&[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ]),
        Command::new("slowlog|reset", 2, slowlog_reset)
            .flags(ADMIN | LOADING | STALE)
            .since("2.2.12")
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    ]),
];

/// A container without a subcommand. The engine answers unknown ones.
fn container(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `MONITOR`: OK, then a status line for each command any client runs; no reply at all if it monitors already, or is a
/// replica. From then on the client may not touch keys. Source: Redis 7.2 MONITOR.
fn monitor(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.origin != Origin::Client {
        return Err(CmdError::Text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if ctx.client().has(Client::MONITOR | Client::REPLICA) {
        return Ok(());
    }
    ctx.server.monitors.add(&ctx.session.client);
    ctx.reply.ok();
    Ok(())
}

/// `SLOWLOG GET [count]`: array of the latest slow commands, latest first: id, Unix time, microseconds, arguments,
/// address and name of the client. 10 of them, -1 for all. Source: Redis 7.2 SLOWLOG GET.
fn slowlog_get(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 1 {
        return Err(args.subcommand_error());
    }
    let count = match args.optional() {
        None => 10,
        Some(count) => number::parse_int(count)
            .filter(|count| *count >= -1)
            .ok_or(CmdError::Text("ERR count should be greater than or equal to -1"))?,
    };
    let entries = ctx.server.slowlog.latest(usize::try_from(count).unwrap_or(usize::MAX));
    ctx.reply.array(entries.len());
    for entry in entries {
        ctx.reply.array(6);
        ctx.reply.integer(entry.id);
        ctx.reply.integer(entry.time_s);
        ctx.reply.integer(entry.duration_us);
        ctx.reply.array(entry.argv.len());
        entry.argv.iter().for_each(|argument| ctx.reply.bulk(argument));
        ctx.reply.bulk(entry.addr.as_bytes());
        ctx.reply.bulk(&entry.client_name);
    }
    Ok(())
}

/// `SLOWLOG LEN`: integer, entries in the slow log. Source: Redis 7.2 SLOWLOG LEN.
fn slowlog_len(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.len(ctx.server.slowlog.len());
    Ok(())
}

/// `SLOWLOG RESET`: OK; the slow log is empty. Source: Redis 7.2 SLOWLOG RESET.
fn slowlog_reset(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.server.slowlog.reset();
    ctx.reply.ok();
    Ok(())
}

fn slowlog_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    super::help(
        ctx,
        "SLOWLOG",
        &[
            (
                "GET [<count>]",
                "The latest <count> slow commands (10 if not given, all for -1), each with\n\
                 id, time, microseconds, arguments, address and name of the client.",
            ),
            ("LEN", "The number of entries."),
            ("RESET", "Remove all entries."),
        ],
    )
}

/// `LATENCY LATEST`: array of event, Unix time, milliseconds, most milliseconds ever. Source: Redis 7.2 LATENCY LATEST.
fn latency_latest(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let latest = ctx.server.latency.latest();
    ctx.reply.array(latest.len());
    for event in latest {
        ctx.reply.array(4);
        ctx.reply.bulk(event.event.as_bytes());
        ctx.reply.integer(event.sample.time_s);
        ctx.reply.integer(event.sample.latency_ms as i64);
        ctx.reply.integer(event.max_ms as i64);
    }
    Ok(())
}

/// `LATENCY HISTORY event`: array of Unix time and milliseconds, oldest first. Source: Redis 7.2 LATENCY HISTORY.
fn latency_history(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let samples = ctx.server.latency.history(args.bytes()?);
    ctx.reply.array(samples.len());
    for sample in samples {
        ctx.reply.array(2);
        ctx.reply.integer(sample.time_s);
        ctx.reply.integer(sample.latency_ms as i64);
    }
    Ok(())
}

/// `LATENCY RESET [event ...]`: integer, how many kinds of events were forgotten. Source: Redis 7.2 LATENCY RESET.
fn latency_reset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let latency = &ctx.server.latency;
    let forgotten = match args.rest() {
        [] => latency.reset_all(),
        events => events.iter().filter(|event| latency.reset(event)).count(),
    };
    ctx.reply.len(forgotten);
    Ok(())
}

/// `LATENCY GRAPH event`: verbatim text, a chart. Error: no samples. Source: Redis 7.2 LATENCY GRAPH.
fn latency_graph(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let event = args.bytes()?;
    let graph = ctx.server.latency.graph(event, ctx.now_ms / 1000);
    let none = || CmdError::quoting("ERR No samples available for event '{}'", &[event]);
    ctx.reply.verbatim("txt", graph.ok_or_else(none)?.as_bytes());
    Ok(())
}

/// `LATENCY DOCTOR`: verbatim text; other advice than Redis's. Source: Redis 7.2 LATENCY DOCTOR.
fn latency_doctor(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let report = ctx.server.latency.doctor(ctx.config, ctx.now_ms / 1000);
    ctx.reply.verbatim("txt", report.as_bytes());
    Ok(())
}

/// `LATENCY HISTOGRAM [command ...]`: map of command to a map of `calls` and `histogram_usec`, itself a map of
/// microseconds to calls that took no longer. A container stands for its subcommands. Source: Redis 7.2
/// LATENCY HISTOGRAM.
fn latency_histogram(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let names: Vec<Vec<u8>> = args.rest().iter().map(|name| name.to_ascii_lowercase()).collect();
    let is_meant = |name: &[u8], wanted: &[u8]| {
        name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"|"))
    };
    let start = ctx.reply.begin();
    let mut shown = 0;
    for (id, command) in ctx.registry.all().iter().enumerate() {
        let name = command.name.as_bytes();
        if !names.is_empty() && !names.iter().any(|wanted| is_meant(name, wanted)) {
            continue;
        }
        let distribution = ctx.server.latency_of(id);
        if distribution.total() > 0 {
            ctx.reply.bulk(name);
            reply_histogram(ctx, &distribution);
            shown += 1;
        }
    }
    ctx.reply.end_map(start, shown);
    Ok(())
}

fn reply_histogram(ctx: &mut Ctx, distribution: &Distribution) {
    let steps = distribution.doublings();
    ctx.reply.map(2);
    ctx.reply.bulk(b"calls");
    ctx.reply.integer(distribution.total() as i64);
    ctx.reply.bulk(b"histogram_usec");
    ctx.reply.map(steps.len());
    for (micros, calls) in steps {
        ctx.reply.integer(micros as i64);
        ctx.reply.integer(calls as i64);
    }
}

fn latency_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    super::help(
        ctx,
        "LATENCY",
        &[
            ("DOCTOR", "What was slow, and what may help."),
            ("GRAPH <event>", "A chart of one kind of event."),
            ("HISTORY <event>", "Times and durations of one kind of event."),
            ("LATEST", "The latest event of each kind."),
            ("RESET [<event> ...]", "Forget the named kinds of events, or all."),
            ("HISTOGRAM [<command> ...]", "How long calls took: of the named commands, or of all."),
        ],
    )
}

/// `MEMORY USAGE key [SAMPLES count]`: integer, bytes of key and value; null if there is no such key. Lists, sorted sets and
/// streams are judged by the first `count` of their parts (5 if not told otherwise, 0 for all); of others what they take is
/// known. Source: Redis 7.2 MEMORY USAGE.
fn memory_usage(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let mut samples = value::MEMORY_SAMPLES;
    while !args.is_empty() {
        if !args.flag("SAMPLES") || args.is_empty() {
            return Err(CmdError::Syntax);
        }
        samples = match args.int()? {
            ..0 => return Err(CmdError::Syntax),
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(usize::MAX),
        };
    }
    match ctx.db.peek(key) {
        Some(entry) => {
            let bytes = value::memory_bytes(entry, samples);
            ctx.reply.len(bytes);
        }
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `MEMORY STATS`: map of fields to integers and doubles. Source: Redis 7.2 MEMORY STATS.
fn memory_stats(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let used = MemoryUse::measure(ctx);
    let AllocatorStats { allocated, active, resident } = used.allocator;
    let rss = process::resident_bytes().unwrap_or(0);
    let keys: u64 = used.tables.iter().map(|table| table.keys).sum();
    let start = ctx.reply.begin();
    let mut fields = Fields { ctx, count: 0 };
    fields.integer("peak.allocated", used.peak);
    fields.integer("total.allocated", used.used);
    fields.integer("startup.allocated", used.startup);
    fields.integer("replication.backlog", used.backlog);
    fields.integer("clients.slaves", used.replicas);
    fields.integer("clients.normal", used.clients);
    fields.integer("cluster.links", 0);
    fields.integer("aof.buffer", used.aof_buffer);
    fields.integer("lua.caches", used.scripts);
    fields.integer("functions.caches", used.functions);
    for (index, table) in used.tables.iter().enumerate().filter(|(_, table)| table.keys > 0) {
        fields.count += 1;
        fields.ctx.reply.bulk(format!("db.{index}").as_bytes());
        fields.ctx.reply.map(2);
        fields.ctx.reply.bulk(b"overhead.hashtable.main");
        fields.ctx.reply.integer(table.bytes as i64);
        fields.ctx.reply.bulk(b"overhead.hashtable.expires");
        fields.ctx.reply.integer(table.expires_bytes as i64);
    }
    fields.integer("overhead.total", used.overhead());
    fields.integer("keys.count", keys);
    fields.integer("keys.bytes-per-key", used.used.saturating_sub(used.startup).checked_div(keys).unwrap_or(0));
    fields.integer("dataset.bytes", used.dataset());
    fields.double("dataset.percentage", used.dataset_percent());
    fields.double("peak.percentage", 100.0 * ratio(used.used, used.peak));
    fields.integer("allocator.allocated", allocated);
    fields.integer("allocator.active", active);
    fields.integer("allocator.resident", resident);
    fields.overhead("allocator-fragmentation.ratio", "allocator-fragmentation.bytes", active, allocated);
    fields.overhead("allocator-rss.ratio", "allocator-rss.bytes", resident, active);
    fields.overhead("rss-overhead.ratio", "rss-overhead.bytes", rss, resident);
    fields.overhead("fragmentation", "fragmentation.bytes", rss, used.used);
    let count = fields.count;
    ctx.reply.end_map(start, count);
    Ok(())
}

/// Pairs of a map under way.
struct Fields<'r, 'a, 'g> {
    ctx: &'r mut Ctx<'a, 'g>,
    count: usize,
}

impl Fields<'_, '_, '_> {
    fn integer(&mut self, name: &str, value: u64) {
        self.count += 1;
        self.ctx.reply.bulk(name.as_bytes());
        self.ctx.reply.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn double(&mut self, name: &str, value: f64) {
        self.count += 1;
        self.ctx.reply.bulk(name.as_bytes());
        self.ctx.reply.double(value);
    }

    /// How much larger `outer` is than `inner`, as a ratio and in bytes.
    fn overhead(&mut self, ratio_name: &str, bytes_name: &str, outer: u64, inner: u64) {
        self.double(ratio_name, ratio(outer, inner));
        self.count += 1;
        self.ctx.reply.bulk(bytes_name.as_bytes());
        self.ctx.reply.integer(outer as i64 - inner as i64);
    }
}

/// `MEMORY DOCTOR`: verbatim text; other words than Redis's. Source: Redis 7.2 MEMORY DOCTOR.
fn memory_doctor(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    const SMALL_BYTES: u64 = 5 << 20;
    const LARGE_CLIENT_BYTES: u64 = 200 << 10;
    const MANY_SCRIPTS: usize = 1000;
    let used = MemoryUse::measure(ctx);
    let AllocatorStats { allocated, active, resident } = used.allocator;
    let mut report = String::new();
    if allocated < SMALL_BYTES {
        report.push_str("There is too little data to tell anything from.\n");
    } else {
        let clients = ctx.server.clients.len().max(1) as u64;
        let looks = [
            (
                used.clients / clients > LARGE_CLIENT_BYTES,
                "Clients take more than 200 KB each: they send or ask for much, or do not read their replies.",
            ),
            (
                ctx.server.scripts.counts().scripts > MANY_SCRIPTS,
                "More than 1000 scripts are kept: EVAL with values written into its text makes a new one each time.",
            ),
            (
                ratio(used.peak, allocated) > 1.5,
                "The peak was more than 1.5 times what is used now: the allocator may keep pages it once needed.",
            ),
            (
                ratio(active, allocated) > 1.1 && active - allocated > 10 << 20,
                "More than a tenth of the allocator's pages is unused space between values.",
            ),
            (
                ratio(resident, active) > 1.1 && resident - active > 10 << 20,
                "The allocator holds pages it does not use: MEMORY PURGE gives them back.",
            ),
        ];
        for (_, text) in looks.iter().filter(|(found, _)| *found) {
            report.push_str(&format!("- {text}\n"));
        }
        if report.is_empty() {
            report.push_str("No problem found.\n");
        }
    }
    ctx.reply.verbatim("txt", report.as_bytes());
    Ok(())
}

/// `MEMORY MALLOC-STATS`: verbatim text, the allocator's numbers. Source: Redis 7.2 MEMORY MALLOC-STATS.
fn memory_malloc_stats(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let AllocatorStats { allocated, active, resident } = ctx.server.read_memory();
    let text = format!(
        "___ {} ___\nAllocated: {allocated}, active: {active}, resident: {resident}\n",
        crate::memory::ALLOCATOR
    );
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// `MEMORY PURGE`: OK; the allocator has given back the pages it does not use. Source: Redis 7.2 MEMORY PURGE.
fn memory_purge(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    crate::memory::purge().map_err(|_| CmdError::Text("ERR Error purging dirty pages"))?;
    ctx.reply.ok();
    Ok(())
}

fn memory_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    super::help(
        ctx,
        "MEMORY",
        &[
            ("DOCTOR", "What is wrong with the memory, if anything."),
            ("MALLOC-STATS", "The allocator's own numbers."),
            ("PURGE", "Give unused pages back to the system."),
            ("STATS", "Where memory goes."),
            ("USAGE <key> [SAMPLES <count>]", "Bytes of a key and its value."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, Peer, until};
    use crate::run::start::Options;

    #[test]
    fn the_slow_log() {
        let mut c = Checker::new();
        c.run("SLOWLOG RESET");
        c.check("SLOWLOG LEN", ":0");
        c.check("CONFIG SET slowlog-log-slower-than 0", "OK");
        c.check("PING", "PONG");
        c.check("CONFIG SET slowlog-log-slower-than 60000000", "OK");
        c.check("SLOWLOG LEN", ":2");
        let entries = c.run("SLOWLOG GET 1");
        assert!(entries.starts_with("[[:"), "{entries}");
        assert!(entries.contains("[\"PING\"], \"127.0.0.1:"), "{entries}");
        c.check("SLOWLOG GET 1 2", "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.");
        c.check("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1");
        c.check("SLOWLOG GET x", "-ERR count should be greater than or equal to -1");
        c.check("SLOWLOG RESET", "OK");
        c.check("SLOWLOG GET", "[]");
        c.check("SLOWLOG", "-ERR wrong number of arguments for 'slowlog' command");
        assert!(c.run("SLOWLOG HELP").starts_with("[SLOWLOG <subcommand>"));
    }

    #[test]
    fn latency_events() {
        let mut c = Checker::new();
        c.check("LATENCY RESET", ":0");
        c.check("LATENCY LATEST", "[]");
        c.check("LATENCY HISTORY command", "[]");
        c.check("LATENCY RESET command fork", ":0");
        c.check("LATENCY GRAPH command", "-ERR No samples available for event 'command'");
        c.running.server.latency.add("command", 5, 1000);
        c.check_here("LATENCY HISTORY command", "[[:1000, :5]]");
        c.check_here("LATENCY LATEST", "[[\"command\", :1000, :5, :5]]");
        assert!(c.run("LATENCY GRAPH command").starts_with("\"command - high 5 ms, low 5 ms"));
        assert!(c.run("LATENCY DOCTOR").len() > 2);
        c.check_here("LATENCY RESET", ":1");
        c.check("LATENCY HELP xxx", "-ERR wrong number of arguments for 'latency|help' command");
    }

    #[test]
    fn latency_histograms() {
        let mut c = Checker::new();
        c.check("CONFIG RESETSTAT", "OK");
        c.check("LATENCY HISTOGRAM blabla", "[]");
        c.check("SET a b", "OK");
        c.check("SET a b", "OK");
        let set = c.run("LATENCY HISTOGRAM blabla set");
        assert!(set.starts_with("[\"set\", [\"calls\", :2, \"histogram_usec\", [:"), "{set}");
        let config = c.run("LATENCY HISTOGRAM config");
        assert!(config.starts_with("[\"config|resetstat\", [\"calls\", :1, "), "{config}");
        let all = c.run("LATENCY HISTOGRAM");
        assert!(all.contains("\"config|resetstat\"") && all.contains("\"latency|histogram\""), "{all}");
    }

    #[test]
    fn memory_of_keys() {
        let mut c = Checker::new();
        c.check("MEMORY USAGE none", "nil");
        c.check("SET small 1", "OK");
        c.check("MEMORY USAGE small SAMPLES -1", "-ERR syntax error");
        c.check("MEMORY USAGE small FOO", "-ERR syntax error");
        c.run(&format!("SET large {}", "x".repeat(100_000)));
        let usage = |reply: String| reply.trim_start_matches(':').parse::<u64>().unwrap();
        let (small, large) = (usage(c.run("MEMORY USAGE small")), usage(c.run("MEMORY USAGE large SAMPLES 0")));
        assert!((10..100).contains(&small) && (100_000..140_000).contains(&large), "{small} {large}");
        c.check("MEMORY PURGE", "OK");
        assert!(c.run("MEMORY HELP").starts_with("[MEMORY <subcommand>"));
        let stats = c.run("MEMORY STATS");
        assert!(stats.contains("\"db.0\", [\"overhead.hashtable.main\", :"), "{stats}");
        assert!(stats.contains("\"keys.count\", :2"), "{stats}");
        assert!(c.run("MEMORY MALLOC-STATS").contains("jemalloc"));
        assert!(c.run("MEMORY DOCTOR").len() > 10);
    }

    /// A value is judged by some of its parts unless all are to be looked at.
    #[test]
    fn memory_of_long_values() {
        let mut c = Checker::new();
        let numbers: Vec<String> = (0..20_000).map(|number| format!("{number} element-{number}")).collect();
        c.run(&format!("RPUSH list {}", numbers.join(" ")));
        c.run(&format!("ZADD zset {}", numbers.join(" ")));
        for number in 0..1000 {
            c.run(&format!("XADD stream {number}-1 field {}", "v".repeat(100)));
        }
        let mut usage = |command: String| c.run(&command)[1..].parse::<f64>().unwrap();
        for (key, least) in [("list", 200_000.0), ("zset", 500_000.0), ("stream", 100_000.0)] {
            let all = usage(format!("MEMORY USAGE {key} SAMPLES 0"));
            assert!(all > least, "{key}: {all}");
            for few in [format!("MEMORY USAGE {key}"), format!("MEMORY USAGE {key} SAMPLES 1")] {
                let judged = usage(few);
                assert!((0.7..1.4).contains(&(judged / all)), "{key}: {judged} of {all}");
            }
            assert!(usage(format!("MEMORY USAGE {key} SAMPLES 9223372036854775807")) == all, "{key}");
        }
    }

    #[test]
    fn monitoring() {
        let mut c = Checker::new();
        c.check("MULTI", "OK");
        c.check("MONITOR", "QUEUED");
        c.check("EXEC", "[-ERR MONITOR isn't allowed for DENY BLOCKING client]");
        c.check("MONITOR", "OK");
        c.other("SET k \"a b\"", "OK");
        let line = c.next();
        assert!(line.contains("[0 127.0.0.1:") && line.ends_with("] \"SET\" \"k\" \"a b\""), "{line}");
    }

    fn monitored() -> Checker {
        let mut c = Checker::new();
        c.since("7.2");
        c.other("MONITOR", "OK");
        c
    }

    #[test]
    fn monitors_are_shown_what_has_run() {
        let mut c = monitored();
        c.check(r#"SET k "a\"\\\n\x00\xff b""#, "OK");
        c.other_is_shown(r#"[0 first] "SET" "k" "a\"\\\n\x00\xff b""#);
        c.check("SELECT 3", "OK");
        c.other_is_shown(r#"[3 first] "SELECT" "3""#);
        c.check("SELECT 99", "-ERR DB index is out of range");
        c.other_is_shown(r#"[3 first] "SELECT" "99""#);
        // What does not run, and what administrators do, is not shown.
        c.run("NOSUCH x");
        c.run("GET");
        c.run("CONFIG GET port");
        c.run("CONFIG NOSUCH");
        c.run("ACL SETUSER x >secret");
        c.run("CLIENT LIST");
        c.run("SLOWLOG LEN");
        c.run("DEBUG SLEEP 0");
        c.run("ACL DELUSER x");
        c.check("CLIENT SETNAME me", "OK");
        c.other_is_shown(r#"[3 first] "CLIENT" "SETNAME" "me""#);
    }

    #[test]
    fn monitors_are_shown_what_scripts_run_once_and_behind_the_script() {
        let mut c = monitored();
        let script = "redis.call('set', KEYS[1], 'v') redis.pcall('lpush', KEYS[1], 'x') redis.pcall('get') \
                      redis.pcall('config', 'get', 'port') return redis.call('select', 2)";
        c.check(&format!("EVAL \"{script}\" 1 k"), "OK");
        c.other_is_shown(&format!("[0 first] \"EVAL\" \"{script}\" \"1\" \"k\""));
        c.other_is_shown(r#"[0 lua] "set" "k" "v""#);
        c.other_is_shown(r#"[0 lua] "lpush" "k" "x""#);
        c.other_is_shown(r#"[2 lua] "select" "2""#);
        c.run("EVALSHA nosuch 0");
        c.other_is_shown(r#"[0 first] "EVALSHA" "nosuch" "0""#);
        c.run("FCALL nosuch 0");
        c.other_is_shown(r#"[0 first] "FCALL" "nosuch" "0""#);
        c.run("SET k v");
        c.other_is_shown(r#"[0 first] "SET" "k" "v""#);
        c.run("EVAL \"return redis.pcall('migrate', '127.0.0.1', '1', 'k', '0', '9', 'AUTH', 'secret')\" 0");
        c.other_receives("1");
        c.other_is_shown(r#"[0 lua] "migrate" "127.0.0.1" "1" "k" "0" "9" "AUTH" "(redacted)""#);
    }

    #[test]
    fn monitors_are_shown_a_transaction_in_its_order() {
        let mut c = monitored();
        c.check("MULTI", "OK");
        c.check("SET k v", "QUEUED");
        c.check("SELECT 1", "QUEUED");
        c.check("CONFIG GET nosuch", "QUEUED");
        c.check("GET k", "QUEUED");
        c.check("EXEC", "[OK, OK, [], nil]");
        for line in ["[0 first] \"MULTI\"", "[0 first] \"SET\" \"k\" \"v\"", "[1 first] \"SELECT\" \"1\""] {
            c.other_is_shown(line);
        }
        c.other_is_shown("[1 first] \"GET\" \"k\"");
        c.other_is_shown("[1 first] \"EXEC\"");
        // The end of a transaction is shown whatever comes of it.
        c.check("MULTI", "OK");
        c.check("EXEC x", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command");
        c.other_is_shown("[1 first] \"MULTI\"");
        c.other_is_shown("[1 first] \"EXEC\" \"x\"");
    }

    #[test]
    fn monitors_are_shown_a_waiter_once() {
        let mut c = monitored();
        c.send("BLPOP k 0");
        c.other_is_shown(r#"[0 first] "BLPOP" "k" "0""#);
        for address in c.addresses() {
            assert_eq!(Peer::connect(&address).run("RPUSH k v"), ":1");
        }
        c.receive("[\"k\", \"v\"]");
        c.other_receives("1");
        c.check("PING", "PONG");
        c.other_is_shown(r#"[0 first] "PING""#);
    }

    #[test]
    fn monitors_see_no_password() {
        let mut c = monitored();
        for (command, shown) in [
            ("AUTH u secret", r#""AUTH" "(redacted)" "(redacted)""#),
            (
                "HELLO 2 SETNAME auth AUTH default secret",
                r#""HELLO" "2" "SETNAME" "auth" "AUTH" "(redacted)" "(redacted)""#,
            ),
            (
                "MIGRATE 127.0.0.1 1 auth 0 9 AUTH2 u secret",
                r#""MIGRATE" "127.0.0.1" "1" "auth" "0" "9" "AUTH2" "(redacted)" "(redacted)""#,
            ),
        ] {
            c.run(command);
            c.other_is_shown(&format!("[0 first] {shown}"));
        }
    }

    /// Its own lines come behind its replies, and none comes behind that of RESET.
    #[test]
    fn a_monitor_touches_no_key() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("MONITOR", "OK");
        let refused = "-ERR Replica can't interact with the keyspace";
        for command in ["GET k", "SET k v", "PUBLISH c m", "EVAL 'return 1' 0", "DBSIZE", "BLPOP k 0", "SORT k"] {
            c.check(command, refused);
        }
        c.check_pipeline(&["PING", "MONITOR", "RESET", "GET k", "PING"], &["PONG"]);
        assert!(c.next().ends_with("\"PING\""));
        c.receive("RESET");
        c.receive("nil");
        c.receive("PONG");
        c.check("MONITOR", "OK");
        c.check("MULTI", "OK");
        assert!(c.next().ends_with("\"MULTI\""));
        c.check("GET k", refused);
        c.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
        assert!(c.next().ends_with("\"EXEC\""));
        c.check("QUIT", "OK");
        assert!(c.is_closed());
    }

    #[test]
    fn no_line_follows_reset() {
        for io_threads in [1, 4] {
            let mut options = Options::default();
            options.config.io_threads = io_threads;
            Checker::with(options).check_silence_after("PING", "MONITOR", "RESET", "RESET");
        }
    }

    #[test]
    fn the_slow_log_shows_commands_of_scripts_and_transactions() {
        let mut c = Checker::new();
        c.since("7.2");
        c.observe();
        let script =
            "for i = 1, 2 do redis.call('rpush', 'l', i) end redis.pcall('get') return redis.call('llen', 'l')";
        c.check(&format!("EVAL \"{script}\" 0"), ":2");
        c.check("MULTI", "OK");
        c.check("LLEN l", "QUEUED");
        c.check("EXEC", "[:2]");
        let eval = format!("EVAL {script} 0");
        c.check_slow(&["rpush l 1", "rpush l 2", "llen l", &eval, "MULTI", "LLEN l"]);
        c.check_calls("rpush", [2, 0, 0]);
        c.check_calls("llen", [2, 0, 0]);
        c.check_calls("get", [0, 1, 0]);
        c.check_calls("exec", [1, 0, 0]);
        // A script's commands have no client.
        assert!(c.run_other("SLOWLOG GET -1").contains("[\"rpush\", \"l\", \"1\"], \"\", \"\"]"));
    }

    #[test]
    fn a_wait_that_ends_is_a_call() {
        let mut c = Checker::new();
        c.since("7.2");
        let ids = c.ids();
        c.observe();
        c.check("BLPOP k 0.01", "nil");
        c.check("XREAD BLOCK 10 STREAMS x $", "nil");
        c.check("WAIT 1 10", ":0");
        c.send("XREAD BLOCK 0 STREAMS x $");
        c.other("XADD x 1-1 f v", "\"1-1\"");
        c.receive("[[\"x\", [[\"1-1\", [\"f\", \"v\"]]]]]");
        c.send("BLPOP k 0");
        c.other_about(&ids, "CLIENT UNBLOCK @ ERROR", ":1");
        c.receive("-UNBLOCKED client unblocked via CLIENT UNBLOCK");
        c.check_calls("blpop", [2, 0, 1]);
        c.check_calls("xread", [2, 0, 0]);
        c.check_calls("wait", [1, 0, 0]);
        c.run_other("SLOWLOG RESET");
        c.check("BLPOP k 0.01", "nil");
        c.send("XREAD BLOCK 0 STREAMS x $");
        c.other("XADD x 1-2 f v", "\"1-2\"");
        c.receive("[[\"x\", [[\"1-2\", [\"f\", \"v\"]]]]]");
        c.check("WAIT 1 10", ":0");
        let expected = ["BLPOP k 0.01", "XADD x 1-2 f v", "XREAD BLOCK 0 STREAMS x $", "WAIT 1 10"];
        c.check_slow(&expected);
    }

    /// A client that waits for an acknowledgement asked for it, whether it hears of it or not.
    #[test]
    fn who_leaves_while_waiting() {
        let mut c = Checker::new();
        c.since("7.2");
        c.observe();
        for address in c.addresses() {
            for command in ["BLPOP k 0", "WAIT 1 0"] {
                let mut peer = Peer::connect(&address);
                peer.run("PING");
                peer.send(command);
                let mut looking = Peer::connect(&address);
                until("it waits", || looking.run("INFO clients").contains("blocked_clients:1"));
                drop(peer);
                until("it is gone", || looking.run("INFO clients").contains("blocked_clients:0"));
            }
        }
        c.check_calls("wait", [1, 0, 0]);
    }

    #[test]
    fn what_is_refused_or_fails_is_counted_so() {
        let mut c = Checker::new();
        c.since("7.2");
        c.observe();
        c.run("GET");
        c.run("SET k v NOPE");
        c.run("SET k v");
        c.run("LPUSH k x");
        c.run("NOSUCH");
        c.run("EVAL \"return redis.call('lpush', 'k', 'y')\" 0");
        c.check_slow(&[
            "SET k v NOPE",
            "SET k v",
            "LPUSH k x",
            "lpush k y",
            "EVAL return redis.call('lpush', 'k', 'y') 0",
        ]);
        c.check_calls("get", [0, 1, 0]);
        c.check_calls("set", [2, 0, 1]);
        c.check_calls("lpush", [2, 0, 2]);
        c.check_calls("eval", [1, 0, 1]);
        c.check_info("errorstat_ERR", "count=3");
        c.check_info("errorstat_WRONGTYPE", "count=2");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(r#"LATENCY GRAPH "\xff""#, r"-ERR No samples available for event '\xff'");
        c.check("SLOWLOG get 1 2", "-ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.");
    }
}
