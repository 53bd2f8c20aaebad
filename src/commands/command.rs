//! COMMAND: the command table, told to clients.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::command::table::{CommandRef, key_positions, spec_positions};
use crate::commands::help;
use crate::resp::reply::Reply;
use crate::util::glob;
use serde_json::Value as Json;
use std::sync::OnceLock;

pub const COMMANDS: &[Command] = &[Command::new("command", -1, command)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .since("2.8.13")
    .tips(&["nondeterministic_output_order"])
    .subcommands(&[
        Command::new("command|count", 2, command_count).flags(LOADING | STALE).acl(acl::CONNECTION).since("2.8.13"),
        Command::new("command|docs", -2, command_docs)
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .since("7.0.0")
            .tips(&["nondeterministic_output_order"]),
        Command::new("command|getkeys", -3, command_getkeys)
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .since("2.8.13"),
        Command::new("command|getkeysandflags", -3, command_getkeysandflags)
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .since("7.0.0"),
        Command::new("command|help", 2, command_help).flags(LOADING | STALE).acl(acl::CONNECTION).since("5.0.0"),
        Command::new("command|info", -2, command_info)
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .since("2.8.13")
            .tips(&["nondeterministic_output_order"]),
        Command::new("command|list", -2, command_list)
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .since("7.0.0")
            .tips(&["nondeterministic_output_order"]),
    ])];

/// `COMMAND`: array of all commands, as COMMAND INFO tells them. Source: Redis 7.2 COMMAND.
fn command(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let all: Vec<CommandRef> = ctx.registry.commands().collect();
    ctx.reply.array(all.len());
    all.iter().for_each(|found| describe(ctx.reply, found.command));
    Ok(())
}

/// `COMMAND COUNT`: integer. Source: Redis 7.2 COMMAND COUNT.
fn command_count(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.len(ctx.registry.commands().count());
    Ok(())
}

/// `COMMAND INFO [name ...]`: array of descriptions, null for a name unknown; all commands without names.
/// Source: Redis 7.2 COMMAND INFO.
fn command_info(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.is_empty() {
        return command(ctx, args);
    }
    ctx.reply.array(args.remaining());
    while let Some(name) = args.optional() {
        match named(ctx, name) {
            Some(found) => describe(ctx.reply, found.command),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`: array of names.
/// Source: Redis 7.2 COMMAND LIST.
fn command_list(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut wanted: Box<dyn Fn(&Command) -> bool> = Box::new(|_| true);
    if !args.is_empty() {
        if args.remaining() != 3 || !args.flag("FILTERBY") {
            return Err(CmdError::Syntax);
        }
        let filter = args.one_of(&["MODULE", "ACLCAT", "PATTERN"]).ok_or(CmdError::Syntax)?;
        let value = args.bytes()?.to_vec();
        wanted = match filter {
            0 => Box::new(|_| false),
            1 => {
                let name = value.to_ascii_lowercase();
                let category = acl::NAMES.iter().find(|(_, known)| known.as_bytes() == name).map_or(0, |(bit, _)| *bit);
                Box::new(move |command| command.categories() & category != 0)
            }
            _ => Box::new(move |command| glob::matches_ignore_case(&value, command.name.as_bytes())),
        };
    }
    let mut names = Vec::new();
    for found in ctx.registry.commands() {
        let with_subcommands = std::iter::once(found.command).chain(found.command.subcommands);
        names.extend(with_subcommands.filter(|command| wanted(command)).map(|command| command.name));
    }
    ctx.reply.array(names.len());
    names.iter().for_each(|name| ctx.reply.bulk(name.as_bytes()));
    Ok(())
}

/// `COMMAND DOCS [name ...]`: map of name to documentation; unknown names are left out. Source: Redis 7.2 COMMAND DOCS.
fn command_docs(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut wanted: Vec<&Command> = Vec::new();
    if args.is_empty() {
        wanted.extend(ctx.registry.commands().map(|found| found.command));
    }
    while let Some(name) = args.optional() {
        wanted.extend(named(ctx, name).map(|found| found.command));
    }
    ctx.reply.map(wanted.len());
    for command in wanted {
        ctx.reply.bulk(command.name.as_bytes());
        document(ctx.reply, command);
    }
    Ok(())
}

/// `COMMAND GETKEYS command [arg ...]`: array of the keys in those arguments. Errors: invalid command; wrong number
/// of arguments; no keys. Source: Redis 7.2 COMMAND GETKEYS.
fn command_getkeys(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let keys = keys_of(ctx, args)?;
    ctx.reply.array(keys.len());
    keys.iter().for_each(|(key, _)| ctx.reply.bulk(key));
    Ok(())
}

/// `COMMAND GETKEYSANDFLAGS command [arg ...]`: array of key and its flags. Errors: as GETKEYS.
/// Source: Redis 7.2 COMMAND GETKEYSANDFLAGS.
fn command_getkeysandflags(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let keys = keys_of(ctx, args)?;
    ctx.reply.array(keys.len());
    for (key, flags) in keys {
        ctx.reply.array(2);
        ctx.reply.bulk(key);
        write_flags(ctx.reply, KEY_FLAG_NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name));
    }
    Ok(())
}

fn keys_of<'a>(ctx: &Ctx, args: &mut Args<'a>) -> CmdResult<Vec<(&'a [u8], u16)>> {
    let argv = args.rest();
    let found = ctx.registry.resolve(argv).map_err(|_| CmdError::Text("ERR Invalid command specified"))?;
    if found.command.keys.iter().all(|spec| spec.flags & KEY_NOT_KEY != 0) {
        return Err(CmdError::Text("ERR The command has no key arguments"));
    }
    if !found.command.takes(argv.len()) {
        return Err(CmdError::Text("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    key_positions(found.command, argv, |position, flags| keys.push((argv[position], flags)));
    let fits = found.command.keys.iter().all(|spec| spec_positions(spec, argv, |_| {}));
    if !fits && found.command.find_keys.is_none() {
        keys.clear();
    }
    if keys.is_empty() && !found.command.has(NO_MANDATORY_KEYS) {
        return Err(CmdError::Text("ERR Invalid arguments specified for command"));
    }
    Ok(keys)
}

/// A command by name; a subcommand is `container|name`.
fn named(ctx: &Ctx, name: &[u8]) -> Option<CommandRef> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let container = ctx.registry.find(parts.next()?)?;
    match parts.next() {
        Some(subcommand) => ctx.registry.subcommand(container.command, subcommand),
        None => Some(container),
    }
}

fn describe(reply: &mut Reply, command: &Command) {
    let (first, last, step) = key_range(command);
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(i64::from(command.arity));
    write_flags(reply, FLAG_NAMES.iter().filter(|(bit, _)| command.has(*bit)).map(|(_, name)| *name));
    [first, last, step].iter().for_each(|number| reply.integer(i64::from(*number)));
    let categories = command.categories();
    let names: Vec<String> =
        acl::NAMES.iter().filter(|(bit, _)| categories & bit != 0).map(|(_, name)| format!("@{name}")).collect();
    write_flags(reply, names.iter().map(String::as_str));
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| describe_keys(reply, spec));
    // Redis has an array of some, and a set of none.
    match command.subcommands.len() {
        0 => reply.set(0),
        count => reply.array(count),
    }
    command.subcommands.iter().for_each(|subcommand| describe(reply, subcommand));
}

fn describe_keys(reply: &mut Reply, spec: &KeySpec) {
    reply.map(if spec.notes.is_empty() { 3 } else { 4 });
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    write_flags(reply, KEY_FLAG_NAMES.iter().filter(|(bit, _)| spec.flags & bit != 0).map(|(_, name)| *name));
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => write_spec(reply, "index", &[("index", i64::from(index))]),
        Begin::Keyword(word, from) => {
            write_spec_head(reply, "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            reply.bulk(b"startfrom");
            reply.integer(i64::from(from));
        }
        Begin::Unknown => write_spec(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            write_spec(reply, "range", &[("lastkey", last.into()), ("keystep", step.into()), ("limit", limit.into())]);
        }
        Find::KeyNum { count, first, step } => {
            let numbers = [("keynumidx", count.into()), ("firstkey", first.into()), ("keystep", step.into())];
            write_spec(reply, "keynum", &numbers);
        }
        Find::Unknown => write_spec(reply, "unknown", &[]),
    }
}

fn write_spec(reply: &mut Reply, kind: &str, numbers: &[(&str, i64)]) {
    write_spec_head(reply, kind, numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(*number);
    }
}

fn write_spec_head(reply: &mut Reply, kind: &str, pairs: usize) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(pairs);
}

fn write_flags<'n>(reply: &mut Reply, names: impl Iterator<Item = &'n str>) {
    let names: Vec<&str> = names.collect();
    reply.set(names.len());
    names.iter().for_each(|name| reply.status(name));
}

/// First key, last key and step, as clients knew them before key specs: what the specs with fixed positions make
/// when they follow each other.
pub fn key_range(command: &Command) -> (i32, i32, i32) {
    let fixed = |spec: &KeySpec| match (spec.begin, spec.find) {
        (Begin::Index(index), Find::Range { last, step, .. }) => {
            Some((index, if last >= 0 { index + last } else { last }, step))
        }
        _ => None,
    };
    if let [spec] = command.keys {
        return fixed(spec).unwrap_or((0, 0, 0));
    }
    let mut range: Option<(i32, i32)> = None;
    for (first, last, step) in command.keys.iter().filter_map(fixed) {
        if step != 1 || range.is_some_and(|(_, before)| before != first - 1) {
            continue;
        }
        // A last key counted from the end lies behind every other.
        range = Some((range.map_or(first, |(start, _)| start), last));
    }
    range.map_or((0, 0, 0), |(first, last)| (first, last, 1))
}

/// The facts behind COMMAND DOCS. A constant, parsed at the first use.
fn docs() -> &'static Json {
    static DOCS: OnceLock<Json> = OnceLock::new();
    DOCS.get_or_init(|| serde_json::from_str(include_str!("docs.json")).expect("docs.json is part of the program"))
}

fn document(reply: &mut Reply, command: &Command) {
    let facts = &docs()[command.name];
    let start = reply.begin();
    let mut pairs = 0;
    for name in ["summary", "since", "group", "complexity", "doc_flags", "deprecated_since", "replaced_by", "history"] {
        match &facts[name] {
            Json::String(text) => {
                reply.bulk(name.as_bytes());
                reply.bulk(text.as_bytes());
            }
            Json::Array(flags) if name == "doc_flags" => {
                reply.bulk(name.as_bytes());
                write_flags(reply, flags.iter().filter_map(Json::as_str));
            }
            Json::Array(changes) => {
                reply.bulk(name.as_bytes());
                reply.set(changes.len());
                changes.iter().for_each(|change| write_change(reply, change));
            }
            _ => continue,
        }
        pairs += 1;
    }
    if let Some(arguments) = facts["arguments"].as_array() {
        reply.bulk(b"arguments");
        write_arguments(reply, arguments);
        pairs += 1;
    }
    if !command.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        for subcommand in command.subcommands {
            reply.bulk(subcommand.name.as_bytes());
            document(reply, subcommand);
        }
        pairs += 1;
    }
    reply.end_map(start, pairs);
}

/// A version, and what it changed.
fn write_change(reply: &mut Reply, change: &Json) {
    let parts = change.as_array().map_or(&[][..], Vec::as_slice);
    reply.array(parts.len());
    parts.iter().filter_map(Json::as_str).for_each(|part| reply.bulk(part.as_bytes()));
}

fn write_arguments(reply: &mut Reply, arguments: &[Json]) {
    reply.array(arguments.len());
    for argument in arguments {
        let Some(fields) = argument.as_object() else { continue };
        reply.map(fields.len());
        for name in [
            "name",
            "type",
            "display_text",
            "key_spec_index",
            "token",
            "summary",
            "since",
            "deprecated_since",
            "flags",
            "arguments",
        ] {
            let Some(value) = fields.get(name) else { continue };
            reply.bulk(name.as_bytes());
            match value {
                Json::Number(number) => reply.integer(number.as_i64().unwrap_or_default()),
                Json::Array(flags) if name == "flags" => {
                    reply.set(flags.len());
                    flags.iter().filter_map(Json::as_str).for_each(|flag| reply.status(flag));
                }
                Json::Array(inner) => write_arguments(reply, inner),
                value => reply.bulk(value.as_str().unwrap_or_default().as_bytes()),
            }
        }
    }
}

/// `COMMAND HELP`: array of lines. Source: Redis 7.2 COMMAND HELP.
fn command_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "COMMAND",
        &[
            ("(no subcommand)", "Everything about all commands."),
            ("COUNT", "How many commands there are."),
            ("LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]", "The names of commands."),
            ("INFO [<command-name> ...]", "Everything about some commands."),
            ("DOCS [<command-name> ...]", "The documentation of commands."),
            ("GETKEYS <full-command>", "The keys in a command."),
            ("GETKEYSANDFLAGS <full-command>", "The keys in a command, and what it does with them."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn facts_of_a_command() {
        let mut c = Checker::new();
        c.check(
            "COMMAND INFO get nosuch",
            "[[\"get\", :2, [readonly, fast], :1, :1, :1, [@read, @string, @fast], [], [[\"flags\", [RO, access], \
             \"begin_search\", [\"type\", \"index\", \"spec\", [\"index\", :1]], \"find_keys\", [\"type\", \"range\", \
             \"spec\", [\"lastkey\", :0, \"keystep\", :1, \"limit\", :0]]]], []], nil]",
        );
        c.run("HELLO 3");
        assert!(c.run("COMMAND INFO ping").ends_with(
            "~[@fast, @connection], ~[\"request_policy:all_shards\", \
            \"response_policy:all_succeeded\"], ~[], ~[]]]"
        ));
        c.run("HELLO 2");
        c.check("COMMAND LIST FILTERBY PATTERN incrb?", "[\"incrby\"]");
        c.check("COMMAND LIST FILTERBY MODULE x", "[]");
        assert!(c.run("COMMAND COUNT").starts_with(':'));
        assert!(c.run("COMMAND HELP").contains("COMMAND <subcommand>"));
        assert!(c.run("COMMAND").contains("[\"ping\", :-1, "));
        c.check("COMMAND LIST FILTERBY NOPE x", "-ERR syntax error");
    }

    #[test]
    fn keys_of_a_command() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("COMMAND GETKEYS MSET a 1 b 2", "[\"a\", \"b\"]");
        c.check("COMMAND GETKEYSANDFLAGS SET a 1", "[[\"a\", [OW, update]]]");
        c.check("COMMAND GETKEYSANDFLAGS SET a 1 GET", "[[\"a\", [RW, access, update]]]");
        let reads = "[[\"b\", [RO, access]]]";
        let writes = "[[\"b\", [RW, access, update]]]";
        c.check("COMMAND GETKEYSANDFLAGS BITFIELD b GET u8 0 OVERFLOW SAT get u8 8", reads);
        c.check("COMMAND GETKEYSANDFLAGS BITFIELD b GET u8 0 SET u8 8 1", writes);
        c.check("COMMAND GETKEYSANDFLAGS BITFIELD b GET u8", writes);
        c.check("COMMAND GETKEYSANDFLAGS BITFIELD b nope", writes);
        c.check("COMMAND GETKEYS SORT a BY b* STORE c", "[\"a\", \"c\"]");
        c.check("COMMAND GETKEYS EVAL x 1 k arg", "[\"k\"]");
        c.check("COMMAND GETKEYS EVAL x 0", "[]");
        // What does not fit has no keys.
        c.check("COMMAND GETKEYS EVAL x 5 k", "[]");
        c.check("COMMAND GETKEYS EVAL x -1 k", "[]");
        c.check("COMMAND GETKEYS ZUNIONSTORE d 0 a", "-ERR Invalid arguments specified for command");
        c.check("COMMAND GETKEYS GEORADIUS k 1 2 3 m ASC STORE", "[\"k\"]");
        c.check("COMMAND GETKEYS SPUBLISH c m", "-ERR The command has no key arguments");
        c.check("COMMAND GETKEYS PING", "-ERR The command has no key arguments");
        c.check("COMMAND GETKEYS NOPE a", "-ERR Invalid command specified");
        c.check("COMMAND GETKEYS GET", "-ERR Invalid number of arguments specified for command");
    }

    #[test]
    fn every_command_is_documented() {
        let docs = super::docs().as_object().expect("a map by name");
        let names: Vec<&str> = crate::commands::registry().all().iter().map(|command| command.name).collect();
        assert_eq!(docs.len(), names.len());
        for name in names {
            let facts = &docs[name];
            let summary = facts["summary"].as_str().unwrap_or_default();
            assert!(summary.ends_with('.') && (10..100).contains(&summary.len()), "{name}: {summary}");
            for field in ["since", "group"] {
                assert!(facts[field].is_string(), "{name} has no {field}");
            }
        }
    }

    #[test]
    fn documentation() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        let docs = c.run("COMMAND DOCS get");
        for part in
            ["\"since\": \"1.0.0\"", "\"group\": \"string\"", "\"complexity\": \"O(1)\"", "{\"name\": \"key\", "]
        {
            assert!(docs.contains(part), "{part} in {docs}");
        }
        let docs = c.run("COMMAND DOCS hmset");
        for part in ["\"doc_flags\": ~[deprecated], \"deprecated_since\": \"4.0.0\"", "\"replaced_by\": \"`HSET`"] {
            assert!(docs.contains(part), "{part} in {docs}");
        }
        let docs = c.run_here(0, "COMMAND DOCS expire");
        assert!(docs.contains("\"history\": ~[[\"7.0.0\", \"`NX`, `XX`, `GT`, `LT`\"]], \"arguments\": [{"), "{docs}");
    }

    #[test]
    fn a_command_that_there_is_not_is_null() {
        let mut c = Checker::new();
        c.check("COMMAND INFO nosuch", "[nil]");
        // RESP2 has two nulls: this is the one of strings.
        let mut stream = std::net::TcpStream::connect(c.running.addr().unwrap()).unwrap();
        std::io::Write::write_all(&mut stream, b"COMMAND INFO nosuch\r\n").unwrap();
        let mut reply = [0; 9];
        std::io::Read::read_exact(&mut stream, &mut reply).unwrap();
        assert_eq!(&reply, b"*1\r\n$-1\r\n");
    }
}
