//! Commands made from the command table: every command and subcommand that the server has, with arguments of the kinds
//! that COMMAND DOCS gives, and then bent a little. A new command is among them without a change here.

use crate::choices::Choices;
use redstart::command::spec::{Command, WRITE, acl};
use redstart::commands::registry;
use serde_json::Value;
use std::sync::OnceLock;

/// The commands and their arguments.
pub struct Grammar {
    entries: Vec<Entry>,
    /// Indices of the entries that change data.
    writes: Vec<usize>,
    /// Those of transactions and scripts, which the others run in.
    wrappers: Vec<usize>,
}

struct Entry {
    command: &'static Command,
    /// Its name, and its container's.
    words: Vec<&'static str>,
    args: Vec<Arg>,
}

/// An argument as COMMAND DOCS describes it.
struct Arg {
    name: String,
    kind: Kind,
    token: Option<String>,
    optional: bool,
    multiple: bool,
    /// The token stands before each value.
    multiple_token: bool,
    args: Vec<Arg>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Text,
    Integer,
    Double,
    UnixTime,
    Pattern,
    Token,
    OneOf,
    Block,
}

/// Values kept from one command to the next of an input: payloads of DUMP.
#[derive(Default)]
pub struct Kept {
    pub payloads: Vec<Vec<u8>>,
}

type Argv = Vec<Vec<u8>>;

const DOCS: &str = include_str!("../../../src/commands/docs.json");

/// The grammar of the whole table.
pub fn grammar() -> &'static Grammar {
    static GRAMMAR: OnceLock<Grammar> = OnceLock::new();
    GRAMMAR.get_or_init(Grammar::new)
}

impl Grammar {
    fn new() -> Grammar {
        let docs: Value = serde_json::from_str(DOCS).expect("docs.json is part of the program");
        let entry = |command: &&'static Command| Entry {
            command,
            words: command.name.split('|').collect(),
            args: arguments(&docs[command.name]),
        };
        let registry = registry();
        let entries: Vec<Entry> = registry.all().iter().map(entry).collect();
        let changes = |(index, entry): (usize, &Entry)| entry.command.has(WRITE).then_some(index);
        let writes = entries.iter().enumerate().filter_map(changes).collect();
        let wraps =
            |entry: &Entry| entry.command.acl & (acl::TRANSACTION | acl::SCRIPTING) != 0 && entry.words.len() == 1;
        let wrappers = (0..entries.len()).filter(|index| wraps(&entries[*index])).collect();
        Grammar { entries, writes, wrappers }
    }

    /// A command that may be run: see [`is_tame`].
    pub fn command(&self, choices: &mut Choices<'_>, kept: &Kept) -> Option<Argv> {
        let index = if choices.chance(32) { choices.one_index(&self.wrappers) } else { self.any(choices) };
        let mut argv = self.arguments_of(index, choices, kept, 0);
        while choices.chance(32) {
            bend(&mut argv, choices);
        }
        let words: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        is_tame(&words).then_some(argv)
    }

    /// The index of any entry; every second time of one that changes data.
    fn any(&self, choices: &mut Choices<'_>) -> usize {
        if choices.chance(128) { choices.one_index(&self.writes) } else { choices.below(self.entries.len()) }
    }

    fn arguments_of(&self, index: usize, choices: &mut Choices<'_>, kept: &Kept, depth: usize) -> Argv {
        let entry = &self.entries[index];
        let mut maker = Maker { grammar: self, entry, kept, keys_due: None, depth, argv: Vec::new() };
        maker.argv.extend(entry.words.iter().map(|word| word.as_bytes().to_vec()));
        for arg in &entry.args {
            maker.argument(arg, choices);
        }
        if entry.args.is_empty() {
            maker.undescribed(choices);
        }
        maker.argv
    }
}

fn arguments(docs: &Value) -> Vec<Arg> {
    let list = docs["arguments"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|arg| {
            let flag = |name: &str| arg["flags"].as_array().is_some_and(|all| all.iter().any(|flag| flag == name));
            Arg {
                name: arg["name"].as_str().unwrap_or_default().to_owned(),
                kind: match arg["type"].as_str() {
                    Some("key") => Kind::Key,
                    Some("integer") => Kind::Integer,
                    Some("double") => Kind::Double,
                    Some("unix-time") => Kind::UnixTime,
                    Some("pattern") => Kind::Pattern,
                    Some("pure-token") => Kind::Token,
                    Some("oneof") => Kind::OneOf,
                    Some("block") => Kind::Block,
                    _ => Kind::Text,
                },
                token: arg["token"].as_str().map(str::to_owned),
                optional: flag("optional"),
                multiple: flag("multiple"),
                multiple_token: flag("multiple_token"),
                args: arguments(arg),
            }
        })
        .collect()
}

/// Makes the arguments of one command.
struct Maker<'g> {
    grammar: &'g Grammar,
    entry: &'g Entry,
    kept: &'g Kept,
    /// What `numkeys` has just promised.
    keys_due: Option<usize>,
    /// Commands inside commands.
    depth: usize,
    argv: Argv,
}

impl Maker<'_> {
    fn push(&mut self, value: impl AsRef<[u8]>) {
        self.argv.push(value.as_ref().to_vec());
    }

    fn argument(&mut self, arg: &Arg, choices: &mut Choices<'_>) {
        let due = if arg.kind == Kind::Key { self.keys_due.take() } else { None };
        let is_wanted = due.is_some() || arg.name == "arg";
        if arg.optional && !is_wanted && choices.chance(140) {
            return;
        }
        let times = due.unwrap_or_else(|| if arg.multiple && choices.chance(110) { 1 + choices.below(4) } else { 1 });
        for time in 0..times {
            if let Some(token) = &arg.token
                && arg.kind != Kind::Token
                && (time == 0 || arg.multiple_token)
            {
                self.push(token);
            }
            self.value(arg, choices);
        }
    }

    fn value(&mut self, arg: &Arg, choices: &mut Choices<'_>) {
        match arg.kind {
            Kind::Key => {
                let key = self.key(choices);
                self.push(key);
            }
            Kind::Token => self.push(arg.token.as_deref().unwrap_or_default()),
            Kind::OneOf if !arg.args.is_empty() => self.argument(&arg.args[choices.below(arg.args.len())], choices),
            Kind::OneOf | Kind::Block => arg.args.iter().for_each(|arg| self.argument(arg, choices)),
            Kind::Integer if arg.name == "numkeys" => {
                let count = 1 + choices.below(3);
                self.keys_due = Some(count);
                self.push(count.to_string());
            }
            Kind::Integer | Kind::Double if choices.chance(128) => self.push(choices.one_of(SMALL)),
            Kind::Integer => self.push(choices.one_of(INTEGERS)),
            Kind::Double => self.push(choices.one_of(DOUBLES)),
            Kind::UnixTime => self.push(choices.one_of(TIMES)),
            Kind::Pattern => self.push(choices.one_of(PATTERNS)),
            Kind::Text => self.text(&arg.name, choices),
        }
    }

    /// One of a few keys; mostly one that holds what the command is for.
    fn key(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let kinds = [
            (acl::STRING | acl::BITMAP, 's'),
            (acl::LIST, 'l'),
            (acl::HASH, 'h'),
            (acl::SET, 'e'),
            (acl::SORTEDSET | acl::GEO, 'z'),
            (acl::STREAM, 'x'),
            (acl::HYPERLOGLOG, 'p'),
        ];
        let own = kinds.iter().find(|(categories, _)| self.entry.command.acl & categories != 0);
        let letter = match own {
            Some((_, letter)) if !choices.chance(30) => *letter,
            _ => kinds[choices.below(kinds.len())].1,
        };
        format!("{letter}{}", choices.below(3)).into_bytes()
    }

    fn text(&mut self, name: &str, choices: &mut Choices<'_>) {
        let is_stream = self.entry.command.acl & acl::STREAM != 0;
        let known: &[&str] = match name {
            "id" | "start" | "end" if is_stream && choices.chance(128) => &["*", "1-1", "2-1", "0", "-", "+"],
            "id" | "lastid" | "last-id" | "max-deleted-id" => STREAM_IDS,
            "start" | "end" | "stop" | "min" | "max" | "threshold" if is_stream => STREAM_IDS,
            "start" | "stop" | "min" | "max" => RANGES,
            "group" | "consumer" => &["g1", "g2", "c1", "c2", ""],
            "script" if choices.chance(160) => &["return redis.pcall(unpack(ARGV))"],
            "script" => SCRIPTS,
            "sha1" => &["e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "x", ""],
            "function" => &["f1", "f2", "g1", "none"],
            "function-code" => LIBRARIES,
            "library-name" | "library-name-pattern" => &["one", "two", "*", "none"],
            "category" => &["string", "write", "all", "dangerous", "none"],
            "rule" => RULES,
            "username" | "clientname" => &["default", "alice", "bob", ""],
            "parameter" => PARAMETERS,
            "section" => &["all", "everything", "commandstats", "keyspace", "clients", "none"],
            "subcommand" => DEBUG,
            "type" => &["string", "list", "set", "zset", "hash", "stream", "none"],
            "command" | "command-name" if self.depth == 0 => {
                let index = self.grammar.any(choices);
                let nested = self.grammar.arguments_of(index, choices, self.kept, 1);
                return self.argv.extend(nested);
            }
            "arg" if self.entry.command.name.starts_with("eval") && self.depth == 0 => {
                let index = self.grammar.any(choices);
                let nested = self.grammar.arguments_of(index, choices, self.kept, 1);
                return self.argv.extend(nested);
            }
            "serialized-value" if !self.kept.payloads.is_empty() => {
                let payload = &self.kept.payloads[choices.below(self.kept.payloads.len())];
                return self.push(payload);
            }
            "value" | "increment" | "min-idle-time" if choices.chance(128) => SMALL,
            _ => VALUES,
        };
        if choices.chance(20) {
            let raw = choices.raw(40);
            self.push(raw);
        } else {
            self.push(choices.one_of(known));
        }
    }

    /// Arguments of a command that has no description: so many that its arity is met, and sometimes more.
    fn undescribed(&mut self, choices: &mut Choices<'_>) {
        let least = usize::from(self.entry.command.arity.unsigned_abs() as u16);
        let more = if self.entry.command.arity < 0 && choices.chance(128) { choices.below(3) } else { 0 };
        let names: &[&str] = if self.entry.command.name == "debug" { DEBUG } else { VALUES };
        while self.argv.len() < least + more {
            match choices.below(3) {
                0 => self.push(choices.one_of(names)),
                1 => self.push(choices.one_of(INTEGERS)),
                _ => {
                    let key = self.key(choices);
                    self.push(key);
                }
            }
        }
    }
}

/// Changes one argument, or the list of them.
fn bend(argv: &mut Argv, choices: &mut Choices<'_>) {
    if argv.len() < 2 {
        return;
    }
    let at = 1 + choices.below(argv.len() - 1);
    match choices.below(8) {
        0 => argv[at] = choices.raw(64).to_vec(),
        1 => argv[at] = choices.one_of(INTEGERS).as_bytes().to_vec(),
        2 => argv[at] = choices.one_of(VALUES).as_bytes().to_vec(),
        3 => argv[at] = choices.one_of(DOUBLES).as_bytes().to_vec(),
        4 => drop(argv.remove(at)),
        5 => argv.insert(at, argv[at].clone()),
        6 => {
            let other = 1 + choices.below(argv.len() - 1);
            argv.swap(at, other);
        }
        _ => {
            let bit = choices.below(8);
            let arg = &mut argv[at];
            if !arg.is_empty() {
                let index = choices.below(arg.len());
                arg[index] ^= 1 << bit;
            }
        }
    }
}

/// Whether a command can be run here: it leaves the process, its files and other machines alone, and does not ask for a
/// reply that is as long as a number in it says (Redis gives such replies too).
pub fn is_tame(argv: &[&[u8]]) -> bool {
    let lower = |index: usize| {
        let word = argv.get(index).copied().unwrap_or_default();
        String::from_utf8_lossy(word).to_ascii_lowercase()
    };
    let name = lower(0);
    let is_huge = |index: usize| {
        let number =
            argv.get(index).and_then(|arg| std::str::from_utf8(arg).ok()).and_then(|arg| arg.parse::<i64>().ok());
        number.is_some_and(|number| (i64::MIN + 1..-2000).contains(&number))
    };
    match name.as_str() {
        // They end the process, write files or speak to others.
        "shutdown" | "save" | "bgsave" | "bgrewriteaof" | "migrate" | "replicaof" | "slaveof" | "failover"
        | "psync" | "sync" => false,
        // The default user is the one that the checks are made as.
        "acl" => !matches!(lower(1).as_str(), "save" | "load") && (lower(1) != "setuser" || lower(2) != "default"),
        // In a transaction it leaves the reply of EXEC short, in Redis too.
        "client" => lower(1) != "reply",
        "module" => !lower(1).starts_with("load"),
        "srandmember" | "zrandmember" | "hrandfield" => !is_huge(2),
        "debug" => DEBUG.contains(&lower(1).to_ascii_uppercase().as_str()),
        "config" if lower(1) == "set" => argv[2..].chunks(2).all(|pair| {
            let name = String::from_utf8_lossy(pair[0]).to_ascii_lowercase();
            PARAMETERS.contains(&name.as_str())
        }),
        "config" => lower(1) != "rewrite",
        // A command inside another one.
        "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro" => {
            (3..argv.len().min(8)).all(|from| is_tame(&argv[from..]))
        }
        _ => true,
    }
}

const DEBUG: &[&str] = &[
    "DIGEST",
    "DIGEST-VALUE",
    "ERROR",
    "HELP",
    "HTSTATS",
    "HTSTATS-KEY",
    "LISTPACK",
    "LOG",
    "OBJECT",
    "PROTOCOL",
    "QUICKLIST-PACKED-THRESHOLD",
    "SET-ACTIVE-EXPIRE",
    "SET-DISABLE-DENY-SCRIPTS",
    "STRINGMATCH-LEN",
];

/// Directives that CONFIG SET may change here.
const PARAMETERS: &[&str] = &[
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "list-max-listpack-size",
    "list-compress-depth",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "hll-sparse-max-bytes",
    "stream-node-max-entries",
    "stream-node-max-bytes",
    "notify-keyspace-events",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-expire",
    "maxmemory-policy",
    "lfu-decay-time",
    "lfu-log-factor",
    "rdbcompression",
    "sanitize-dump-payload",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "latency-monitor-threshold",
    "latency-tracking",
    "tracking-table-max-keys",
    "acllog-max-len",
];

const SMALL: &[&str] = &["1", "0", "2", "3", "-1", "10", "7"];

const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "10",
    "-2",
    "-10",
    "64",
    "100",
    "127",
    "128",
    "255",
    "256",
    "512",
    "1000",
    "4096",
    "8191",
    "8192",
    "-100",
    "-128",
    "-1000",
    "32767",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "1700000000000",
    "1700000000",
    "4611686018427387904",
    "00",
    "+1",
    " 1",
    "1 ",
    "u8",
    "i64",
    "u64",
    "#1",
    "#9223372036854775807",
    "x",
];

// No -0: a listpack keeps it as 0, a skiplist as it is, in Redis too, so a digest depends on the encoding.
const DOUBLES: &[&str] = &[
    "0",
    "1",
    "-1",
    "1.5",
    "0.001",
    "3.14",
    "1e3",
    "1e308",
    "-1e308",
    "1e-308",
    "5e-324",
    "inf",
    "-inf",
    "nan",
    "9007199254740993",
    "0.1",
    "85.05112878",
    "-85.05112878",
    "180",
    "-180",
    "181",
    "1e400",
    "0x10",
    "",
    "1.7976931348623157e308",
];

const TIMES: &[&str] = &[
    "1700000000",
    "1700000001",
    "1700000000000",
    "1700000000500",
    "1700000001000",
    "0",
    "1",
    "-1",
    "9223372036854775",
    "9223372036854775807",
    "-9223372036854775808",
];

const PATTERNS: &[&str] = &[
    "*",
    "?",
    "s*",
    "[a-z]*",
    "[^s]?",
    "\\*",
    "[",
    "[\\",
    "*0",
    "**a**",
    "h?->f*",
    "l1",
    "x*->",
    "#",
    "nosort",
    "__keyspace@0__:*",
    "",
];

const STREAM_IDS: &[&str] = &[
    "*",
    "0",
    "0-0",
    "0-1",
    "1-1",
    "1-*",
    "1-2",
    "2-1",
    "5-5",
    "$",
    ">",
    "-",
    "+",
    "(1-1",
    "(0",
    "(+",
    "1",
    "2",
    "1700000000000-0",
    "18446744073709551615-18446744073709551615",
    "18446744073709551615-*",
    "(18446744073709551615-18446744073709551615",
    "18446744073709551616-0",
    "1-",
    "-1",
    "1-1-1",
    "",
];

const RANGES: &[&str] =
    &["-inf", "+inf", "(1", "(0", "0", "1", "-1", "2", "[a", "(a", "[b", "-", "+", "[", "(", "nan", "(inf", "5", "x"];

const VALUES: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "1",
    "2",
    "3",
    "10",
    "-5",
    "12345678901",
    "",
    "0",
    "foo",
    "bar",
    "a b",
    "\r\n",
    "\0",
    "3.0e3",
    "f1",
    "f2",
    "x0",
    "s0",
    "9223372036854775807",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u{ff}\u{fe}",
    "ON",
    "off",
    "yes",
    "no",
    "KEA",
    "allkeys-lfu",
    "clamp",
    "nosanitize-payload",
    "*",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
     0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
];

const SCRIPTS: &[&str] = &[
    "return 1",
    "return redis.call(unpack(ARGV))",
    "return redis.pcall(unpack(ARGV))",
    "redis.pcall(unpack(ARGV)) return redis.pcall(unpack(ARGV))",
    "redis.setresp(3) return redis.pcall(unpack(ARGV))",
    "redis.set_repl(redis.REPL_NONE) redis.set_repl(redis.REPL_ALL) return redis.call('incr', 's0')",
    "return {KEYS, ARGV, 1.5, true, false, {ok='fine'}, {err='no'}}",
    "#!lua flags=no-writes\nreturn redis.pcall(unpack(ARGV))",
    "#!lua flags=allow-oom,allow-stale\nreturn redis.call('rpush', 'l0', 'a', 'b')",
    "return redis.error_reply('MY\\r\\nerror')",
    "return cjson.encode(redis.pcall(unpack(ARGV)))",
    "return cmsgpack.unpack(cmsgpack.pack(redis.pcall(unpack(ARGV))))",
    "for i = 1, 200 do redis.call('rpush', 'l1', i) redis.call('hset', 'h1', i, i) redis.call('zadd', 'z1', i, i) redis.call('sadd', 'e1', 'm' .. i) redis.call('xadd', 'x1', '*', i, i) end",
    "for i = 1, 600 do redis.call('pfadd', 'p0', i) redis.call('sadd', 'e0', i) end return 1",
    "return redis.acl_check_cmd(unpack(ARGV))",
    "error({})",
    "return redis.sha1hex(ARGV[1])",
    "return nil +",
];

const LIBRARIES: &[&str] = &[
    "#!lua name=one\nredis.register_function('f1', function(keys, args) return redis.pcall(unpack(args)) end)",
    "#!lua name=two\nredis.register_function{function_name='f2', callback=function(keys, args) return #keys end, flags={'no-writes'}}",
    "#!lua name=one\nredis.register_function('g1', function() return redis.call('incr', 's1') end)",
    "#!lua name=bad\nreturn 1",
    "#!lua\n",
    "",
];

const RULES: &[&str] = &[
    "on",
    "off",
    "nopass",
    ">secret",
    "<secret",
    "~*",
    "%R~s*",
    "%W~l*",
    "%RW~",
    "&*",
    "resetchannels",
    "resetkeys",
    "reset",
    "+@all",
    "-@all",
    "+get",
    "-set",
    "+config|get",
    "-@dangerous",
    "allkeys",
    "allcommands",
    "nocommands",
    "(+get ~s*)",
    "(+get",
    "(%R~a +set) (-@all",
    "clearselectors",
    "#e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "#x",
    "%",
    "%R",
    "sanitize-payload",
    "skip-sanitize-payload",
];
