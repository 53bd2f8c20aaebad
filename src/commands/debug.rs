//! DEBUG: what tests of servers need. Guarded by `enable-debug-command`.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::commands::{config, debug_insides as insides, persistence};
use crate::config::LogLevel;
use crate::keyspace::db::{Expiry, lru_idle_seconds};
use crate::keyspace::value::{self, Value};
use crate::memory;
use crate::os::process;
use crate::util::{glob, text};
use rand::Rng;
use redstart_types::entry::Content;
use redstart_types::number;
use std::fmt::Write;
use std::time::Duration;

pub const COMMANDS: &[Command] = &[Command::new("debug", -2, debug)
    .flags(ADMIN | LOADING | NOSCRIPT | PROTECTED_DEBUG | STALE)
    .scope(Scope::AllShards)];

/// One subcommand: its name, how many arguments it takes, and who answers.
struct Subcommand {
    name: &'static str,
    least: usize,
    most: usize,
    run: fn(&mut Ctx, &mut Args) -> CmdResult,
}

const ANY: usize = usize::MAX;

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "AOF-FLUSH-SLEEP", least: 1, most: 1, run: aof_flush_sleep },
    Subcommand { name: "ASSERT", least: 0, most: 0, run: assert },
    Subcommand { name: "CHANGE-REPL-ID", least: 0, most: 0, run: change_repl_id },
    Subcommand { name: "CLIENT-EVICTION", least: 0, most: 0, run: insides::client_eviction },
    Subcommand { name: "CLUSTERLINK", least: 3, most: 3, run: clusterlink },
    Subcommand { name: "CONFIG-REWRITE-FORCE-ALL", least: 0, most: 0, run: config_rewrite_force_all },
    Subcommand { name: "CRASH-AND-RECOVER", least: 0, most: ANY, run: crash_and_recover },
    Subcommand { name: "DIGEST", least: 0, most: 0, run: persistence::debug_digest },
    Subcommand { name: "DIGEST-VALUE", least: 0, most: ANY, run: persistence::debug_digest_value },
    Subcommand { name: "DROP-CLUSTER-PACKET-FILTER", least: 1, most: 1, run: drop_cluster_packet_filter },
    Subcommand { name: "ERROR", least: 1, most: 1, run: error },
    Subcommand { name: "HELP", least: 0, most: 0, run: help },
    Subcommand { name: "HTSTATS", least: 1, most: 2, run: htstats },
    Subcommand { name: "HTSTATS-KEY", least: 1, most: 2, run: htstats_key },
    Subcommand { name: "LEAK", least: 1, most: 1, run: leak },
    Subcommand { name: "LISTPACK", least: 1, most: 1, run: insides::listpack },
    Subcommand { name: "LOADAOF", least: 0, most: 0, run: persistence::debug_loadaof },
    Subcommand { name: "LOG", least: 1, most: 1, run: log },
    Subcommand { name: "MALLCTL", least: 1, most: 1, run: mallctl },
    Subcommand { name: "MALLCTL-STR", least: 1, most: 2, run: mallctl_str },
    Subcommand { name: "OBJECT", least: 1, most: 1, run: object },
    Subcommand { name: "OOM", least: 0, most: ANY, run: oom },
    Subcommand { name: "PANIC", least: 0, most: 0, run: panic },
    Subcommand { name: "PAUSE-CRON", least: 1, most: 1, run: pause_cron },
    Subcommand { name: "POPULATE", least: 1, most: 3, run: populate },
    Subcommand { name: "PROTOCOL", least: 1, most: 1, run: protocol },
    Subcommand { name: "QUICKLIST", least: 1, most: 2, run: insides::quicklist },
    Subcommand { name: "QUICKLIST-PACKED-THRESHOLD", least: 1, most: 1, run: quicklist_packed_threshold },
    Subcommand { name: "RELOAD", least: 0, most: ANY, run: persistence::debug_reload },
    Subcommand { name: "REPLICATE", least: 1, most: ANY, run: replicate },
    Subcommand { name: "REPLYBUFFER", least: 2, most: 2, run: replybuffer },
    Subcommand { name: "RESTART", least: 0, most: ANY, run: restart },
    Subcommand { name: "SDSLEN", least: 1, most: 1, run: insides::sdslen },
    Subcommand { name: "SEGFAULT", least: 0, most: 0, run: segfault },
    Subcommand { name: "SET-ACTIVE-EXPIRE", least: 1, most: 1, run: set_active_expire },
    Subcommand { name: "SET-DISABLE-DENY-SCRIPTS", least: 1, most: 1, run: set_disable_deny_scripts },
    Subcommand { name: "SET-SKIP-CHECKSUM-VALIDATION", least: 1, most: 1, run: set_skip_checksum_validation },
    Subcommand { name: "SLEEP", least: 1, most: 1, run: sleep },
    Subcommand { name: "STRINGMATCH-TEST", least: 0, most: 0, run: stringmatch_test },
    Subcommand { name: "STRUCTSIZE", least: 0, most: 0, run: insides::structsize },
];

/// `DEBUG subcommand [argument ...]`. Everybody waits meanwhile. Errors: not allowed; unknown subcommand.
/// Source: Redis 7.2 DEBUG.
fn debug(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let name = args.bytes()?;
    let count = args.remaining();
    let found = SUBCOMMANDS
        .iter()
        .find(|known| known.name.as_bytes().eq_ignore_ascii_case(name) && (known.least..=known.most).contains(&count));
    let unknown = || {
        let text = "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.";
        CmdError::quoting(text, &[text::first(128, name)])
    };
    (found.ok_or_else(unknown)?.run)(ctx, args)
}

/// A number as C's `atoi` reads it: other than 0 is on.
fn switch(args: &mut Args) -> CmdResult<bool> {
    Ok(number::parse_int(args.bytes()?).unwrap_or(0) != 0)
}

fn set_active_expire(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.server.switches.set_active_expire(switch(args)?);
    ctx.reply.ok();
    Ok(())
}

fn pause_cron(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.server.switches.set_cron_paused(switch(args)?);
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG REPLYBUFFER PEAK-RESET-TIME NEVER|RESET|ms` and `RESIZING 0|1`: OK.
fn replybuffer(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let switches = &ctx.server.switches;
    match args.one_of(&["PEAK-RESET-TIME", "RESIZING"]) {
        Some(0) if args.flag("NEVER") => switches.set_reply_peak_ms(Some(-1)),
        Some(0) if args.flag("RESET") => switches.set_reply_peak_ms(None),
        Some(0) => switches.set_reply_peak_ms(Some(args.int()?)),
        Some(_) => switches.set_buffers_kept(!switch(args)?),
        None => return Err(args.subcommand_error()),
    }
    ctx.reply.ok();
    Ok(())
}

fn quicklist_packed_threshold(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let bytes = crate::config::memory(args.bytes()?).filter(|bytes| *bytes <= MAX_PACKED_BYTES);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    ctx.server.switches.set_plain_bytes(bytes.ok_or(CmdError::Text(BAD_THRESHOLD))?);
    ctx.reply.ok();
    Ok(())
}

/// A listpack's size has 32 bits; its own bytes need a little of that.
const MAX_PACKED_BYTES: u64 = (1 << 32) - (1 << 20);
const BAD_THRESHOLD: &str = "ERR argument must be a memory value bigger than 1 and smaller than 4gb";

fn set_disable_deny_scripts(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.server.switches.set_deny_scripts_ignored(switch(args)?);
    ctx.reply.ok();
    Ok(())
}

fn set_skip_checksum_validation(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.server.persistence.skip_checksum(switch(args)?);
    ctx.reply.ok();
    Ok(())
}

fn aof_flush_sleep(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let micros = number::parse_int(args.bytes()?).unwrap_or(0);
    ctx.server.switches.set_aof_flush_sleep_us(u64::try_from(micros).unwrap_or(0));
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG SLEEP seconds`: OK after a while in which nobody reaches a key. Decimals are allowed.
fn sleep(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let seconds = args.float().unwrap_or(0.0);
    std::thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    ctx.reply.ok();
    Ok(())
}

fn log(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let line = text::fill("DEBUG LOG: {}", &[args.bytes()?]);
    ctx.server.log.bytes(LogLevel::Warning, &line);
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG ERROR text`: an error with this text.
fn error(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(CmdError::owned(args.bytes()?))
}

/// `DEBUG REPLICATE arg ...`: OK; replicas are sent these words as a command, whatever they are.
fn replicate(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.server.replication.stream.append_command(args.rest());
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG CHANGE-REPL-ID`: OK; the data's history has a new name, so no replica can go on where it was.
fn change_repl_id(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.server.log.notice("Changing replication IDs after receiving change-repl-id");
    ctx.server.replication.stream.rename(ctx.server.random.hex(40));
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG STRINGMATCH-TEST`: a status once random patterns have been matched with random texts.
fn stringmatch_test(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    const ROUNDS: usize = 20_000;
    let mut random = ctx.server.random.small();
    let mut text = |most: usize| -> Vec<u8> {
        let len = random.random_range(0..most);
        (0..len).map(|_| b"ab*?[]^-\\"[random.random_range(0..9)]).collect()
    };
    for _ in 0..ROUNDS {
        std::hint::black_box(glob::matches(&text(32), &text(48)));
    }
    ctx.reply.status("Apparently Redis did not crash: test passed");
    Ok(())
}

fn segfault(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.server.crash(libc::SIGSEGV)
}

fn assert(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.server.fail_assertion("DEBUG ASSERT was called")
}

/// A real panic, as a mistake in the server would be.
fn panic(_ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    panic!("Guru Meditation: DEBUG PANIC was called")
}

/// `DEBUG OOM`: asks for more memory than there can be, and ends as a server does that gets none.
fn oom(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    const BYTES: usize = isize::MAX as usize;
    if Vec::<u8>::new().try_reserve_exact(BYTES).is_err() {
        ctx.server.log.warning(format_args!("Out Of Memory allocating {BYTES} bytes!"));
        panic!("Guru Meditation: Redis aborting for OUT OF MEMORY. Allocating {BYTES} bytes!");
    }
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG LEAK string`: OK; so much memory is lost.
fn leak(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    args.bytes()?.to_vec().leak();
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG RESTART [ms]`: no reply; the configuration file is written, the server ends as by SHUTDOWN NOW, and its program
/// begins anew. Error: it could not, which is told in the log.
fn restart(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let delay = restart_delay(args)?;
    let process = ctx.server.process.as_ref();
    if process.is_some_and(|process| process.config_file.is_some()) && config::rewrite_file(ctx.server, false).is_err()
    {
        ctx.server.log.warning("Can't restart: configuration rewrite process failed");
        return Err(CmdError::Text(NOT_RESTARTED));
    }
    if !ctx.server.restart(delay, ctx.db.locked) {
        return Err(CmdError::Text(NOT_RESTARTED));
    }
    ctx.session.closing = true;
    Ok(())
}

/// `DEBUG CRASH-AND-RECOVER [ms]`: no reply; the program begins anew, as after a crash. Error: it could not.
fn crash_and_recover(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let delay = restart_delay(args)?;
    ctx.server.crash_and_recover(delay);
    Err(CmdError::Text(NOT_RESTARTED))
}

const NOT_RESTARTED: &str = "ERR failed to restart the server. Check server logs.";

fn restart_delay(args: &mut Args) -> CmdResult<Duration> {
    let ms = if args.is_empty() { 0 } else { args.int()? };
    Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// `DEBUG CLUSTERLINK KILL direction node`: refused, as by a Redis that is no node of a cluster.
fn clusterlink(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.flag("KILL") {
        return Err(CmdError::Text("ERR Debug option only available for cluster mode enabled setup!"));
    }
    Err(CmdError::Text("ERR unknown subcommand or wrong number of arguments for 'CLUSTERLINK'. Try DEBUG HELP."))
}

/// `DEBUG DROP-CLUSTER-PACKET-FILTER type`: OK, as from a Redis that is no node of a cluster: there are no packets.
fn drop_cluster_packet_filter(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    args.int()?;
    ctx.reply.ok();
    Ok(())
}

fn config_rewrite_force_all(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    config::rewrite_file(ctx.server, true)?;
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG POPULATE count [prefix] [size]`: OK; there are keys `prefix:0` and so on with values `value:0` and so on, of
/// that many bytes. Keys that are there stay. Nothing is logged.
fn populate(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let count = args.positive()?;
    let prefix = args.optional().unwrap_or(b"key");
    let size = if args.is_empty() { 0 } else { args.positive()? };
    if !has_room_for_table(count as u64) {
        return Err(CmdError::Text("ERR OOM in dictTryExpand"));
    }
    for number in 0..count {
        // Everybody waits, who ends the server as well.
        if number % POPULATED_AT_ONCE == 0 && (ctx.server.stop.is_requested() || ctx.server.stop.is_signalled()) {
            return Err(CmdError::Text("ERR the server ends"));
        }
        let name = [prefix, format!(":{number}").as_bytes()].concat();
        let key = args.as_key(&name);
        if ctx.db.peek(key).is_some() {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        ctx.db.set_string(key, &value, Expiry::Clear);
        ctx.db.touched(key);
    }
    ctx.propagate_nothing();
    ctx.reply.ok();
    Ok(())
}

/// Keys that DEBUG POPULATE makes between two looks at whether the server is to end.
const POPULATED_AT_ONCE: usize = 4096;

/// Whether there is memory for a table of so many keys, by Redis's count: 8 bytes for each of the next power of two.
fn has_room_for_table(keys: u64) -> bool {
    let bytes = keys.checked_next_power_of_two().and_then(|slots| slots.checked_mul(8));
    // Where the kernel does not tell, it is tried.
    bytes.is_some_and(|bytes| process::available_bytes().map_or(true, |available| bytes < available))
}

/// `DEBUG OBJECT key`: status, how the value is stored.
fn object(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    // Also one whose time is over, as long as it is there.
    let entry = ctx.db.shard_db(key).keys.get(key.hash, key.bytes).ok_or(CmdError::NoSuchKey)?;
    let idle_s = lru_idle_seconds(entry.lru(), ctx.now_ms);
    let mut text = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_s}",
        entry,
        value::encoding_name(entry),
        persistence::serialized_len(entry, ctx.config),
        entry.lru(),
    );
    if let Content::Object(Value::List(list)) = entry.content()
        && let Some(quicklist) = list.as_quicklist()
    {
        let nodes = quicklist.chunks().count();
        write!(
            text,
            " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{}",
            list.len() as f64 / nodes.max(1) as f64,
            ctx.config.list_max_listpack_size,
            u8::from(ctx.config.list_compress_depth != 0),
            list.memory_bytes(usize::MAX),
        )
        .expect("writing to a String does not fail");
    }
    ctx.reply.status(&text);
    Ok(())
}

/// `DEBUG HTSTATS db [full]`: verbatim text on the tables of a database.
fn htstats(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let index = usize::try_from(args.int()?).ok().filter(|index| *index < ctx.config.databases as usize);
    let index = index.ok_or(CmdError::Text("ERR Out of range database"))?;
    let parts = || ctx.db.locked.iter().map(|shard| &shard.dbs[index]);
    let keys = parts().map(|db| db.keys.len()).sum();
    let capacity = parts().map(|db| db.keys.capacity()).sum();
    let expires = parts().map(|db| db.expires_len()).sum();
    let text =
        format!("[Dictionary HT]\n{}[Expires HT]\n{}", table_stats(capacity, keys), table_stats(expires, expires));
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// `DEBUG HTSTATS-KEY key [full]`: verbatim text on the table of a value. Error: it has none.
fn htstats_key(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let entry = ctx.db.peek(key).ok_or(CmdError::NoSuchKey)?;
    let len = match entry.content() {
        Content::Object(Value::Set(set)) if set.encoding_name() == "hashtable" => Some(set.len()),
        Content::Object(Value::Hash(hash)) if hash.encoding_name() == "hashtable" => Some(hash.len()),
        Content::Object(Value::ZSet(zset)) if zset.encoding_name() == "skiplist" => Some(zset.len()),
        _ => None,
    };
    let len =
        len.ok_or(CmdError::Text("ERR The value stored at the specified key is not represented using an hash table"))?;
    ctx.reply.verbatim("txt", table_stats(len, len).as_bytes());
    Ok(())
}

/// There is one table, always: it grows without a second one.
fn table_stats(capacity: usize, elements: usize) -> String {
    if elements == 0 {
        return "No stats available for empty dictionaries\n".to_owned();
    }
    format!("Hash table 0 stats (main hash table):\n table size: {capacity}\n number of elements: {elements}\n")
}

/// `DEBUG MALLCTL name`: integer, one of the allocator's numbers.
fn mallctl(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let name = args.bytes()?;
    let value = std::str::from_utf8(name).ok().and_then(memory::mallctl);
    let value = value.ok_or(CmdError::Text("ERR No such file or directory"))?;
    ctx.reply.len(value);
    Ok(())
}

/// `DEBUG MALLCTL-STR name`: bulk string, one of the allocator's texts. `DEBUG MALLCTL-STR thread.tcache.flush VOID`: OK;
/// the thread that serves this client keeps no free memory for itself.
fn mallctl_str(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let name = String::from_utf8_lossy(args.bytes()?);
    let failed = |reason: &dyn std::fmt::Display| CmdError::owned(format!("ERR {name}: {reason}"));
    if args.is_empty() {
        let text = memory::mallctl_text(&name).ok_or_else(|| failed(&"no such text"))?;
        ctx.reply.bulk(text);
        return Ok(());
    }
    if name != "thread.tcache.flush" || args.bytes()? != b"VOID" {
        return Err(failed(&"not permitted"));
    }
    memory::flush_thread().map_err(|error| failed(&error))?;
    ctx.reply.ok();
    Ok(())
}

/// `DEBUG PROTOCOL type`: a sample reply of this type.
fn protocol(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let kind = args.bytes()?.to_ascii_lowercase();
    let resp3 = ctx.session.resp3;
    let reply = &mut *ctx.reply;
    match kind.as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12_345),
        // Redis's sample, which is not meant to be pi.
        b"double" => reply.double("3.141".parse().unwrap_or_default()),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if resp3 {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if !resp3 => return Err(CmdError::Text("ERR RESP2 is not supported by this command")),
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        _ => {
            return Err(CmdError::Text(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    super::help(
        ctx,
        "DEBUG",
        &[
            ("AOF-FLUSH-SLEEP <microseconds>", "Wait before each write of the append-only file."),
            ("ASSERT", "End as after a broken invariant."),
            ("CHANGE-REPL-ID", "Give the data's history a new name."),
            ("CLIENT-EVICTION", "How many clients take how much memory (maxmemory-clients)."),
            ("CONFIG-REWRITE-FORCE-ALL", "CONFIG REWRITE, with directives at their default too."),
            ("CRASH-AND-RECOVER [<milliseconds>]", "Begin anew as after a crash, after a while."),
            ("DIGEST", "A digest of all databases."),
            ("DIGEST-VALUE <key> [<key> ...]", "Digests of values."),
            ("ERROR <string>", "An error reply."),
            ("HTSTATS <dbid> [full]", "The tables of a database."),
            ("HTSTATS-KEY <key> [full]", "The table of a value."),
            ("LEAK <string>", "Lose so much memory."),
            ("LISTPACK <key>", "Print the bytes of a listpack to the standard output."),
            ("LOADAOF", "Bring the append-only file to disk and load it again."),
            ("LOG <message>", "Write a line to the log."),
            ("MALLCTL <name>", "One of the allocator's numbers."),
            ("MALLCTL-STR <name> [VOID]", "One of the allocator's texts; or let it do what the name says."),
            ("OBJECT <key>", "How a value is stored."),
            ("OOM", "End as when there is no memory."),
            ("PANIC", "End as after a broken invariant."),
            ("PAUSE-CRON <0|1>", "Stop the periodic work, or go on with it."),
            ("REPLYBUFFER PEAK-RESET-TIME <NEVER|RESET|ms>", "How long a client's largest reply is remembered."),
            ("REPLYBUFFER RESIZING <0|1>", "Whether clients' buffers are given back when they are too large."),
            ("POPULATE <count> [<prefix>] [<size>]", "Make keys named key:<number>."),
            (
                "PROTOCOL <type>",
                "A sample reply: string, integer, double, bignum, null, array, set, map, attrib, push, verbatim, true, false.",
            ),
            ("QUICKLIST-PACKED-THRESHOLD <size>", "Elements of lists from this size on have a chunk of their own."),
            ("QUICKLIST <key> [<0|1>]", "Print the chunks of a list, with 1 their bytes too, to the standard output."),
            ("RELOAD [MERGE] [NOFLUSH] [NOSAVE]", "Save the data set and load it again."),
            ("REPLICATE <string> ...", "Send replicas a command."),
            (
                "RESTART [<milliseconds>]",
                "Write the configuration file, end as by SHUTDOWN, and begin anew after a while.",
            ),
            ("SDSLEN <key>", "Lengths and bytes of a key and of its string."),
            ("SEGFAULT", "End as after a crash."),
            ("SET-ACTIVE-EXPIRE <0|1>", "Leave keys whose time is over until they are met, or do not."),
            ("SET-DISABLE-DENY-SCRIPTS <0|1>", "Let scripts run every command, or do not."),
            ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", "Load data without looking at its checksum, or do not."),
            ("SLEEP <seconds>", "Keep everybody waiting."),
            ("STRINGMATCH-TEST", "Match random patterns with random texts."),
            ("STRUCTSIZE", "Sizes of this server's structures."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;
    use crate::config::{Config, ProtectedAction};
    use crate::run::start::Options;

    fn checker() -> Checker {
        let defaults = Options::default();
        let config = Config { enable_debug_command: ProtectedAction::Local, ..defaults.config };
        Checker::with(Options { config, ..defaults })
    }

    #[test]
    fn it_must_be_allowed() {
        let mut c = Checker::new();
        let refused = c.running_only("DEBUG SLEEP 0");
        assert!(refused.starts_with("-ERR DEBUG command not allowed. If"), "{refused}");
    }

    #[test]
    fn odds_and_ends() {
        let mut c = checker();
        c.check("DEBUG SLEEP 0.01", "OK");
        c.check("DEBUG SLEEP", "-ERR unknown subcommand or wrong number of arguments for 'SLEEP'. Try DEBUG HELP.");
        c.check("DEBUG QUICKLIST-PACKED-THRESHOLD 1b", "OK");
        c.check("RPUSH l a b", ":2");
        c.check("LSET l 0 xyz", "OK");
        c.check("LRANGE l 0 -1", "[\"xyz\", \"b\"]");
        c.check("DEBUG QUICKLIST-PACKED-THRESHOLD 0", "OK");
        let wrong = "-ERR argument must be a memory value bigger than 1 and smaller than 4gb";
        c.check("DEBUG QUICKLIST-PACKED-THRESHOLD 4gb", wrong);
        c.check("DEBUG QUICKLIST-PACKED-THRESHOLD x", wrong);
        c.check("DEBUG NOPE a", "-ERR unknown subcommand or wrong number of arguments for 'NOPE'. Try DEBUG HELP.");
        c.check("DEBUG LOG hello", "OK");
        c.check("DEBUG REPLICATE fake command", "OK");
        c.check("DEBUG CHANGE-REPL-ID", "OK");
        // It keeps Redis busy for a while.
        c.check_here("DEBUG STRINGMATCH-TEST", "Apparently Redis did not crash: test passed");
        c.check("DEBUG ERROR 'MY oops'", "-MY oops");
        c.check("DEBUG SET-ACTIVE-EXPIRE 0", "OK");
        c.check("DEBUG SET-ACTIVE-EXPIRE 1", "OK");
        c.check("DEBUG PAUSE-CRON 0", "OK");
        for (words, reply) in [
            ("PEAK-RESET-TIME NEVER", "OK"),
            ("PEAK-RESET-TIME 100", "OK"),
            ("PEAK-RESET-TIME RESET", "OK"),
            ("PEAK-RESET-TIME x", "-ERR value is not an integer or out of range"),
            ("RESIZING 0", "OK"),
            ("RESIZING 1", "OK"),
        ] {
            c.check(&format!("DEBUG REPLYBUFFER {words}"), reply);
        }
        c.check("DEBUG SET-DISABLE-DENY-SCRIPTS 0", "OK");
        c.check("DEBUG SET-SKIP-CHECKSUM-VALIDATION 0", "OK");
        c.check("DEBUG AOF-FLUSH-SLEEP 0", "OK");
        assert!(c.run("DEBUG HELP").starts_with("[DEBUG <subcommand>"));
    }

    #[test]
    fn keys_are_made_and_shown() {
        let mut c = checker();
        c.check("DEBUG POPULATE 3 x 10", "OK");
        c.check("DBSIZE", ":3");
        c.check("GET x:2", "\"value:2\\x00\\x00\\x00\"");
        c.check("DEBUG POPULATE 2", "OK");
        // Only 7.2 looks whether there is room; 7.0 goes on until it has all memory.
        c.check_here("DEBUG POPULATE 1000000000000000", "-ERR OOM in dictTryExpand");
        c.check("GET key:1", "\"value:1\"");
        c.check("DEBUG OBJECT none", "-ERR no such key");
        let shown = c.run("DEBUG OBJECT key:1");
        assert!(shown.contains(" refcount:1 encoding:embstr serializedlength:8 lru:"), "{shown}");
        c.run("RPUSH l a b");
        assert!(!c.run("DEBUG OBJECT l").contains("ql_nodes"));
        c.run("CONFIG SET list-max-listpack-size 1");
        c.run("RPUSH l c");
        assert!(c.run("DEBUG OBJECT l").contains(" ql_nodes:2 ql_avg_node:1.50 ql_listpack_max:1 ql_compressed:0"));
        c.run("DEL l");
        assert!(c.run("DEBUG HTSTATS 0").contains("number of elements: 5"));
        c.check("DEBUG HTSTATS 99", "-ERR Out of range database");
        c.check(
            "DEBUG HTSTATS-KEY key:1",
            "-ERR The value stored at the specified key is not represented using an hash table",
        );
        c.check("DEBUG MALLCTL-STR thread.tcache.flush VOID", "OK");
        c.check_here("DEBUG MALLCTL-STR thread.tcache.flush", "-ERR thread.tcache.flush: no such text");
        c.check_here("DEBUG MALLCTL-STR version VOID", "-ERR version: not permitted");
        assert!(c.run("DEBUG MALLCTL-STR version").starts_with("\"5."));
        c.check("DEBUG DIGEST-VALUE none", "[0000000000000000000000000000000000000000]");
    }

    #[test]
    fn insides() {
        let mut c = checker();
        // Before, small lists were no listpacks.
        c.since("7.2");
        c.run("SET str hello");
        c.run("SET int 12");
        c.run("HSET h a 1 b xyz");
        c.run("RPUSH l a b");
        c.check("DEBUG LISTPACK h", "Listpack structure printed on stdout");
        c.check("DEBUG LISTPACK l", "Listpack structure printed on stdout");
        c.check("DEBUG LISTPACK str", "-ERR Not a listpack encoded object.");
        c.check("DEBUG LISTPACK none", "-ERR no such key");
        c.check("DEBUG QUICKLIST l", "-ERR Not a quicklist encoded object.");
        c.check("DEBUG QUICKLIST h 1", "-ERR Not a quicklist encoded object.");
        c.check("DEBUG QUICKLIST none", "-ERR no such key");
        c.check("CONFIG SET list-max-listpack-size 1", "OK");
        c.run("RPUSH l c");
        c.check("DEBUG QUICKLIST l", "Quicklist structure printed on stdout");
        c.check("DEBUG QUICKLIST l 1", "Quicklist structure printed on stdout");
        c.run("CONFIG SET list-max-listpack-size -2");
        c.check("DEBUG SDSLEN int", "-ERR Not an sds encoded string.");
        c.check("DEBUG SDSLEN h", "-ERR Not an sds encoded string.");
        c.check("DEBUG SDSLEN none", "-ERR no such key");
        let shown = c.run("DEBUG SDSLEN str");
        assert!(shown.starts_with("key_sds_len:3, key_sds_avail:0, key_zmalloc: "), "{shown}");
        assert!(shown.contains(", val_sds_len:5, val_sds_avail:0, val_zmalloc: "), "{shown}");
        c.running_only(&format!("SET long {}", "x".repeat(5000)));
        c.running_only("APPEND long y");
        let shown = c.running_only("DEBUG SDSLEN long");
        assert!(shown.contains("val_sds_len:5001, val_sds_avail:") && !shown.contains("val_sds_avail:0"), "{shown}");
        assert!(c.run("DEBUG STRUCTSIZE").starts_with("\"bits:64 robj:"));
        c.check("DEBUG LEAK foo", "OK");
        c.check("DEBUG CLIENT-EVICTION", "-ERR maxmemory-clients is disabled.");
        c.run("CONFIG SET maxmemory-clients 100mb");
        let shown = c.run("DEBUG CLIENT-EVICTION");
        assert!(
            shown.starts_with("\"bucket          0 -      32767: tot-mem: ") && shown.contains(", clients: 2"),
            "{shown}"
        );
        assert!(shown.contains("bucket 4294967296+            : tot-mem:          0, clients: 0"), "{shown}");
        c.run("CONFIG SET maxmemory-clients 0");
    }

    #[test]
    fn what_belongs_to_clusters_or_ends_the_server() {
        let mut c = checker();
        c.check("DEBUG CLUSTERLINK KILL to x", "-ERR Debug option only available for cluster mode enabled setup!");
        c.check("DEBUG DROP-CLUSTER-PACKET-FILTER -1", "OK");
        c.check("DEBUG DROP-CLUSTER-PACKET-FILTER x", "-ERR value is not an integer or out of range");
        c.check("DEBUG RESTART x", "-ERR value is not an integer or out of range");
        c.check("DEBUG CRASH-AND-RECOVER x", "-ERR value is not an integer or out of range");
        // This program is not the server's own.
        c.check_here("DEBUG RESTART", "-ERR failed to restart the server. Check server logs.");
        c.check_here("DEBUG CRASH-AND-RECOVER 5", "-ERR failed to restart the server. Check server logs.");
    }

    #[test]
    fn sample_replies() {
        let mut c = checker();
        for (kind, reply) in [
            ("string", "\"Hello World\""),
            ("integer", ":12345"),
            ("double", "\"3.141\""),
            ("bignum", "\"1234567999999999999999999999999999999\""),
            ("null", "nil"),
            ("array", "[:0, :1, :2]"),
            ("set", "[:0, :1, :2]"),
            ("map", "[:0, :0, :1, :1, :2, :0]"),
            ("true", ":1"),
            ("attrib", "\"Some real reply following the attribute\""),
            ("push", "-ERR RESP2 is not supported by this command"),
            ("verbatim", "\"This is a verbatim\\nstring\""),
        ] {
            c.check(&format!("DEBUG PROTOCOL {kind}"), reply);
        }
        c.run("HELLO 3");
        c.check("DEBUG PROTOCOL set", "~[:0, :1, :2]");
        c.check("DEBUG PROTOCOL map", "{:0: #f, :1: #t, :2: #f}");
        c.check("DEBUG PROTOCOL double", ",3.141");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = checker();
        c.check(r#"DEBUG "\xff""#, r"-ERR unknown subcommand or wrong number of arguments for '\xff'. Try DEBUG HELP.");
        c.check(r#"DEBUG ERROR "a\xff\r\nb""#, r"-a\xff  b");
        c.check("DEBUG MALLCTL nosuch", "-ERR No such file or directory");
    }
}
