//! What a command declares about itself: one [`Command`] value beside its handler.
//!
//! Facts (arity, flags, key specs, categories, tips, versions) are Redis 7.2's, compared with its own COMMAND output
//! by `tests/command_table.rs`.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::CmdResult;

/// Runs one command. A plain function: no lock can cross an `.await`.
pub type Handler = fn(&mut Ctx<'_, '_>, &mut Args<'_>) -> CmdResult;

/// What a command does with its key by its options: `KEY_*` flags.
pub type VariableFlags = fn(&[&[u8]]) -> u16;

/// Shows the position of each key of argv, and its `KEY_*` flags, to the function; none if argv does not fit the
/// command.
pub type FindKeys = fn(&[&[u8]], &mut dyn FnMut(usize, u16));

/// One entry of the command table.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Lower case; a subcommand is `container|name`.
    pub name: &'static str,
    /// Arguments with the name itself (and the container's); negative: at least that many.
    pub arity: i32,
    /// Runs it. A container's is called only without a subcommand, which the arity of all but COMMAND forbids.
    pub handler: Handler,
    /// A union of the constants of this module.
    pub flags: u32,
    /// Categories beyond those that follow from the flags.
    pub acl: u32,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// Finds the keys in argv where the specs cannot (`movablekeys`).
    pub find_keys: Option<FindKeys>,
    /// What it does with the key of a spec with [`KEY_VARIABLE`], which its options say: `KEY_*` flags.
    pub variable_flags: Option<VariableFlags>,
    /// Where its channels are, which ACL rules can forbid.
    pub channels: Channels,
    /// Which of its arguments SLOWLOG and MONITOR must not show.
    pub secrets: Secrets,
    /// Which shards must be locked when the keys do not say it all.
    pub scope: Scope,
    /// The first version of Redis that has it.
    pub since: &'static str,
    /// COMMAND's tips.
    pub tips: &'static [&'static str],
    /// Its subcommands, if it is a container.
    pub subcommands: &'static [Command],
}

/// Which shards a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of the keys that its key specs find.
    Keys,
    /// All: it touches keys that are not known before it runs.
    AllShards,
    /// EXEC: those of the queued commands and of the watched keys.
    Queue,
}

/// Which arguments are channels that a user must be allowed to use. Nobody is kept from leaving one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    None,
    /// The first one.
    First,
    /// All of them.
    All,
    /// All, and they are patterns.
    Patterns,
}

/// Which arguments are secret.
#[derive(Debug, Clone, Copy)]
pub enum Secrets {
    None,
    /// All from this position on.
    From(usize),
    /// Those of options, which begin at a position. Each has a name, a number of arguments, and how many of them are secret.
    Options(usize, &'static [(&'static str, usize, usize)]),
    /// From this position on names of directives, each with its value: the values of sensitive ones.
    Directives(usize),
}

pub const WRITE: u32 = 1;
pub const READONLY: u32 = 1 << 1;
pub const DENYOOM: u32 = 1 << 2;
pub const ADMIN: u32 = 1 << 3;
pub const PUBSUB: u32 = 1 << 4;
pub const NOSCRIPT: u32 = 1 << 5;
pub const BLOCKING: u32 = 1 << 6;
pub const LOADING: u32 = 1 << 7;
pub const STALE: u32 = 1 << 8;
pub const SKIP_MONITOR: u32 = 1 << 9;
pub const SKIP_SLOWLOG: u32 = 1 << 10;
pub const ASKING: u32 = 1 << 11;
pub const FAST: u32 = 1 << 12;
pub const NO_AUTH: u32 = 1 << 13;
pub const MOVABLEKEYS: u32 = 1 << 14;
pub const ALLOW_BUSY: u32 = 1 << 15;
pub const NO_ASYNC_LOADING: u32 = 1 << 16;
pub const NO_MULTI: u32 = 1 << 17;
pub const NO_MANDATORY_KEYS: u32 = 1 << 18;

// COMMAND does not show the following flags.

/// Only who `enable-debug-command` says may run it.
pub const PROTECTED_DEBUG: u32 = 1 << 19;
/// Only who `enable-module-command` says may run it.
pub const PROTECTED_MODULE: u32 = 1 << 20;
/// It may have effects elsewhere without [`WRITE`]. Source: Redis 7.2, CMD_MAY_REPLICATE.
pub const MAY_REPLICATE: u32 = 1 << 21;
/// It runs at once between MULTI and EXEC, too.
pub const NOT_QUEUED: u32 = 1 << 22;
/// It ends a transaction, so it runs even if there is no memory to queue anything.
pub const ENDS_MULTI: u32 = 1 << 23;
/// It runs while a RESP2 client is subscribed.
pub const WHILE_SUBSCRIBED: u32 = 1 << 24;
/// It answers what writers are told while they are refused because files cannot be written.
pub const TELLS_HEALTH: u32 = 1 << 25;
/// While its shards are held by a script it can be done later, and is never refused.
pub const WITHOUT_SHARDS: u32 = 1 << 26;

/// What CLIENT CACHING has said of the next command still holds after it.
pub const KEEPS_CACHING: u32 = 1 << 27;

/// Flag names in the order COMMAND prints them.
pub const FLAG_NAMES: &[(u32, &str)] = &[
    (WRITE, "write"),
    (READONLY, "readonly"),
    (DENYOOM, "denyoom"),
    (ADMIN, "admin"),
    (PUBSUB, "pubsub"),
    (NOSCRIPT, "noscript"),
    (BLOCKING, "blocking"),
    (LOADING, "loading"),
    (STALE, "stale"),
    (SKIP_MONITOR, "skip_monitor"),
    (SKIP_SLOWLOG, "skip_slowlog"),
    (ASKING, "asking"),
    (FAST, "fast"),
    (NO_AUTH, "no_auth"),
    (NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (NO_ASYNC_LOADING, "no_async_loading"),
    (NO_MULTI, "no_multi"),
    (MOVABLEKEYS, "movablekeys"),
    (ALLOW_BUSY, "allow_busy"),
];

/// ACL categories.
pub mod acl {
    pub const KEYSPACE: u32 = 1;
    pub const READ: u32 = 1 << 1;
    pub const WRITE: u32 = 1 << 2;
    pub const SET: u32 = 1 << 3;
    pub const SORTEDSET: u32 = 1 << 4;
    pub const LIST: u32 = 1 << 5;
    pub const HASH: u32 = 1 << 6;
    pub const STRING: u32 = 1 << 7;
    pub const BITMAP: u32 = 1 << 8;
    pub const HYPERLOGLOG: u32 = 1 << 9;
    pub const GEO: u32 = 1 << 10;
    pub const STREAM: u32 = 1 << 11;
    pub const PUBSUB: u32 = 1 << 12;
    pub const ADMIN: u32 = 1 << 13;
    pub const FAST: u32 = 1 << 14;
    pub const SLOW: u32 = 1 << 15;
    pub const BLOCKING: u32 = 1 << 16;
    pub const DANGEROUS: u32 = 1 << 17;
    pub const CONNECTION: u32 = 1 << 18;
    pub const TRANSACTION: u32 = 1 << 19;
    pub const SCRIPTING: u32 = 1 << 20;

    /// Category names in the order ACL CAT prints them.
    pub const NAMES: &[(u32, &str)] = &[
        (KEYSPACE, "keyspace"),
        (READ, "read"),
        (WRITE, "write"),
        (SET, "set"),
        (SORTEDSET, "sortedset"),
        (LIST, "list"),
        (HASH, "hash"),
        (STRING, "string"),
        (BITMAP, "bitmap"),
        (HYPERLOGLOG, "hyperloglog"),
        (GEO, "geo"),
        (STREAM, "stream"),
        (PUBSUB, "pubsub"),
        (ADMIN, "admin"),
        (FAST, "fast"),
        (SLOW, "slow"),
        (BLOCKING, "blocking"),
        (DANGEROUS, "dangerous"),
        (CONNECTION, "connection"),
        (TRANSACTION, "transaction"),
        (SCRIPTING, "scripting"),
    ];
}

/// One place where a command has keys. Source: Redis 7 key specifications.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// Where the search begins.
    pub begin: Begin,
    /// Which arguments from there on are keys.
    pub find: Find,
    /// A union of the `KEY_*` constants.
    pub flags: u16,
    /// COMMAND's remark on this spec, or "".
    pub notes: &'static str,
}

/// Where a key spec begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(i32),
    /// After this word, looked for from an argument on (negative: backwards from the end).
    Keyword(&'static str, i32),
    /// Cannot be said.
    Unknown,
}

/// Which arguments from the beginning on are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (relative to the beginning; negative: from the end), every `step`th; with a `limit` of n,
    /// only the first nth part of the arguments up to the end.
    Range { last: i32, step: i32, limit: i32 },
    /// As many as the argument at `count` says, from `first` on.
    KeyNum { count: i32, first: i32, step: i32 },
    /// Cannot be said.
    Unknown,
}

pub const KEY_RO: u16 = 1;
pub const KEY_RW: u16 = 1 << 1;
pub const KEY_OW: u16 = 1 << 2;
pub const KEY_RM: u16 = 1 << 3;
pub const KEY_ACCESS: u16 = 1 << 4;
pub const KEY_UPDATE: u16 = 1 << 5;
pub const KEY_INSERT: u16 = 1 << 6;
pub const KEY_DELETE: u16 = 1 << 7;
pub const KEY_NOT_KEY: u16 = 1 << 8;
pub const KEY_INCOMPLETE: u16 = 1 << 9;
pub const KEY_VARIABLE: u16 = 1 << 10;

/// Key flag names in the order COMMAND prints them.
pub const KEY_FLAG_NAMES: &[(u16, &str)] = &[
    (KEY_RO, "RO"),
    (KEY_RW, "RW"),
    (KEY_OW, "OW"),
    (KEY_RM, "RM"),
    (KEY_ACCESS, "access"),
    (KEY_UPDATE, "update"),
    (KEY_INSERT, "insert"),
    (KEY_DELETE, "delete"),
    (KEY_NOT_KEY, "not_key"),
    (KEY_INCOMPLETE, "incomplete"),
    (KEY_VARIABLE, "variable_flags"),
];

impl KeySpec {
    /// One key, the argument at `index`.
    pub const fn at(index: i32) -> Self {
        KeySpec { begin: Begin::Index(index), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: 0, notes: "" }
    }

    /// Keys behind a word.
    pub const fn after(keyword: &'static str, from: i32) -> Self {
        KeySpec { begin: Begin::Keyword(keyword, from), ..KeySpec::at(0) }
    }

    /// Keys that only the running command knows.
    pub const fn unknown() -> Self {
        KeySpec { begin: Begin::Unknown, find: Find::Unknown, ..KeySpec::at(0) }
    }

    /// See [`Find::Range`].
    pub const fn range(mut self, last: i32, step: i32, limit: i32) -> Self {
        self.find = Find::Range { last, step, limit };
        self
    }

    /// See [`Find::KeyNum`].
    pub const fn keynum(mut self, count: i32, first: i32, step: i32) -> Self {
        self.find = Find::KeyNum { count, first, step };
        self
    }

    /// Adds `KEY_*` flags.
    pub const fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// Adds COMMAND's remark.
    pub const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = notes;
        self
    }
}

impl Command {
    /// An entry with a name, an arity and a handler; the rest is added by the methods below.
    pub const fn new(name: &'static str, arity: i32, handler: Handler) -> Self {
        Command {
            name,
            arity,
            handler,
            flags: 0,
            acl: 0,
            keys: &[],
            find_keys: None,
            variable_flags: None,
            channels: Channels::None,
            secrets: Secrets::None,
            scope: Scope::Keys,
            since: "1.0.0",
            tips: &[],
            subcommands: &[],
        }
    }

    /// Adds flags, and the categories that follow from them.
    pub const fn flags(mut self, flags: u32) -> Self {
        self.flags |= flags;
        self
    }

    /// Adds categories.
    pub const fn acl(mut self, categories: u32) -> Self {
        self.acl |= categories;
        self
    }

    /// Says where the keys are.
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.keys = keys;
        self
    }

    /// See [`Command::find_keys`].
    pub const fn find_keys(mut self, find_keys: FindKeys) -> Self {
        self.find_keys = Some(find_keys);
        self
    }

    /// See [`Command::variable_flags`].
    pub const fn variable_flags(mut self, flags: VariableFlags) -> Self {
        self.variable_flags = Some(flags);
        self
    }

    /// See [`Channels`].
    pub const fn channels(mut self, channels: Channels) -> Self {
        self.channels = channels;
        self
    }

    /// See [`Secrets`].
    pub const fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// See [`Scope`].
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// The first version of Redis that has it.
    pub const fn since(mut self, version: &'static str) -> Self {
        self.since = version;
        self
    }

    /// COMMAND's tips.
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }

    /// Makes it a container.
    pub const fn subcommands(mut self, subcommands: &'static [Command]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// Whether it has this flag.
    #[inline]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether it runs a script or a function.
    pub const fn runs_script(&self) -> bool {
        self.acl & acl::SCRIPTING != 0 && self.has(SKIP_MONITOR)
    }

    /// Whether `argc` arguments are a number it takes.
    #[inline]
    pub const fn takes(&self, argc: usize) -> bool {
        if self.arity >= 0 { argc == self.arity as usize } else { argc >= self.arity.unsigned_abs() as usize }
    }

    /// All its ACL categories: the declared ones and those that follow from its flags.
    pub const fn categories(&self) -> u32 {
        let mut all = self.acl;
        if self.has(WRITE) {
            all |= acl::WRITE;
        }
        // Read-only scripting commands do not read by themselves.
        if self.has(READONLY) && self.acl & acl::SCRIPTING == 0 {
            all |= acl::READ;
        }
        if self.has(ADMIN) {
            all |= acl::ADMIN | acl::DANGEROUS;
        }
        if self.has(PUBSUB) {
            all |= acl::PUBSUB;
        }
        if self.has(BLOCKING) {
            all |= acl::BLOCKING;
        }
        if self.has(FAST) { all | acl::FAST } else { all | acl::SLOW }
    }
}
