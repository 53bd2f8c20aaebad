//! What is done to both servers: rows of commands of several clients, from a seed.

use crate::peer::Argv;
use redstart_fuzz::choices::Choices;
use redstart_fuzz::grammar::{Kept, grammar};
use std::fmt;

/// Clients that commands are sent by; the last two mostly listen.
pub const CLIENTS: usize = 5;
const TALKERS: usize = 3;

#[derive(Clone, Debug)]
pub struct Step {
    /// Commands sent at once, and the wait after them.
    pub client: usize,
    pub argvs: Vec<Argv>,
    pub wait_ms: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argv) in self.argvs.iter().enumerate() {
            let lead = if index == 0 { format!("{}> ", self.client) } else { "\n       ".to_owned() };
            write!(f, "{lead}{}", line(argv))?;
        }
        if self.wait_ms > 0 { write!(f, "   (and {} ms)", self.wait_ms) } else { Ok(()) }
    }
}

/// A command as redis-cli takes it.
fn line(argv: &Argv) -> String {
    let word = |arg: &Vec<u8>| {
        let is_plain = !arg.is_empty() && arg.iter().all(|byte| byte.is_ascii_graphic() && !b"'\"\\".contains(byte));
        let mut quoted = String::from("\"");
        for byte in arg {
            match byte {
                b'"' | b'\\' => quoted.push_str(&format!("\\{}", *byte as char)),
                b'\n' => quoted.push_str("\\n"),
                b' '..=b'~' => quoted.push(*byte as char),
                _ => quoted.push_str(&format!("\\x{byte:02x}")),
            }
        }
        if is_plain { String::from_utf8_lossy(arg).into_owned() } else { quoted + "\"" }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Random bytes (splitmix64), the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}

/// Makes steps.
pub struct Maker {
    random: Random,
    pub kept: Kept,
    /// What is to come before anything else.
    ahead: Vec<Step>,
    someone_waits: bool,
    has_small_limits: bool,
}

/// Payloads kept for RESTORE.
const MOST_KEPT: usize = 8;

impl Maker {
    pub fn new(seed: u64) -> Maker {
        let mut maker = Maker {
            random: Random(seed),
            kept: Kept::default(),
            ahead: Vec::new(),
            someone_waits: false,
            has_small_limits: false,
        };
        maker.begin();
        maker
    }

    /// How the clients are set up, and small limits in half of the rows.
    fn begin(&mut self) {
        let mut steps = Vec::new();
        let mut setup = |client: usize, words: &str| {
            let argv = words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            steps.push(Step { client, argvs: vec![argv], wait_ms: 0 });
        };
        let dice = self.random.next();
        for client in 0..CLIENTS {
            if dice >> client & 1 == 1 {
                setup(client, "HELLO 3");
            }
        }
        self.has_small_limits = dice >> 8 & 1 == 1;
        if self.has_small_limits {
            setup(0, "CONFIG SET hash-max-listpack-entries 3 hash-max-listpack-value 8 zset-max-listpack-entries 3");
            setup(0, "CONFIG SET set-max-listpack-entries 3 zset-max-listpack-value 8 set-max-listpack-value 8");
            setup(0, "CONFIG SET set-max-intset-entries 3 list-max-listpack-size 2 stream-node-max-entries 3");
        }
        if dice >> 9 & 1 == 1 {
            setup(0, "CONFIG SET notify-keyspace-events KEA");
            setup(CLIENTS - 1, "PSUBSCRIBE *");
        }
        match dice >> 10 & 3 {
            0 => {
                setup(CLIENTS - 2, "HELLO 3");
                setup(CLIENTS - 2, "CLIENT TRACKING ON BCAST");
            }
            1 => {
                setup(0, "HELLO 3");
                setup(0, "CLIENT TRACKING ON");
            }
            2 => {
                setup(CLIENTS - 2, "SUBSCRIBE __redis__:invalidate");
                setup(1, &format!("CLIENT TRACKING ON REDIRECT @id{}", CLIENTS - 2));
            }
            _ => {}
        }
        steps.reverse();
        self.ahead = steps;
    }

    /// Keeps the payload of a DUMP.
    pub fn keep(&mut self, payload: &[u8]) {
        if self.kept.payloads.len() < MOST_KEPT {
            self.kept.payloads.push(payload.to_vec());
        }
    }

    /// The next step; commands for those clients only that are not `busy`.
    pub fn next(&mut self, busy: &[bool], in_multi: &[bool]) -> Option<Step> {
        if let Some(step) = self.ahead.pop() {
            return Some(step);
        }
        self.someone_waits = busy.contains(&true);
        let client = match self.random.below(12) {
            0 => CLIENTS - 1 - self.random.below(2) as usize,
            _ => self.random.below(TALKERS as u64) as usize,
        };
        let is_free = |client: usize| !busy[client];
        let one = |words: &str| words.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Argv>();
        if busy.iter().take(TALKERS).all(|busy| *busy) {
            let blocked = self.random.below(TALKERS as u64);
            let end = if self.random.below(2) == 0 { "CLIENT UNBLOCK" } else { "CLIENT KILL ID" };
            let argvs = vec![one(&format!("{end} @id{blocked}"))];
            return (0..CLIENTS).rev().find(|client| is_free(*client)).map(|client| Step { client, argvs, wait_ms: 0 });
        }
        if !is_free(client) {
            return None;
        }
        let dice = self.random.below(1000);
        let other = self.random.below(CLIENTS as u64);
        let argvs = match dice {
            0..20 => vec![self.of(CALM)],
            20..35 => vec![self.of(CLIENT_COMMANDS).into_iter().map(|arg| about(arg, other)).collect()],
            35..60 => return self.expiring(client),
            60..110 => return self.transaction(client),
            110..170 => (0..2 + self.random.below(3)).filter_map(|_| self.queued()).collect(),
            _ if in_multi[client] => vec![self.queued()?],
            _ => vec![self.command()?],
        };
        // Who ends itself within EXEC gets no whole reply.
        if argvs.iter().any(|argv| has(argv, "kill")) && other as usize == client {
            return None;
        }
        let is_brief = argvs.iter().any(|argv| has(argv, BRIEF));
        let may_expire = argvs.iter().any(|argv| has(argv, "exec"));
        let wait_ms = if is_brief {
            25
        } else if may_expire {
            4
        } else {
            0
        };
        (!argvs.is_empty()).then_some(Step { client, argvs, wait_ms })
    }

    fn of(&mut self, lines: &[&str]) -> Argv {
        let line = lines[self.random.below(lines.len() as u64) as usize];
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    /// A key expires before the next command.
    fn expiring(&mut self, client: usize) -> Option<Step> {
        let key = self.of(&["s0", "l0", "h0", "e0", "z0", "x0", "s1", "l1", "x1"]).remove(0);
        Some(Step { client, argvs: vec![vec![b"PEXPIRE".to_vec(), key, b"1".to_vec()]], wait_ms: 4 })
    }

    fn transaction(&mut self, client: usize) -> Option<Step> {
        let mut steps = Vec::new();
        // An expiry that was queued passes.
        let mut say = |argv: Argv| {
            let wait_ms = if has(&argv, "exec") { 4 } else { 0 };
            steps.push(Step { client, argvs: vec![argv], wait_ms });
        };
        if self.random.below(3) == 0 {
            say(self.of(&["WATCH s0 l0 h0 e0 z0 x0", "WATCH s1 l1", "WATCH none z1"]));
        }
        if self.random.below(4) == 0
            && let Some(argv) = self.command()
        {
            say(argv);
        }
        say(self.of(&["MULTI"]));
        for _ in 0..1 + self.random.below(4) {
            if let Some(argv) = self.queued() {
                say(argv);
            }
        }
        say(self.of(&["EXEC", "EXEC", "EXEC", "EXEC", "DISCARD"]));
        steps.reverse();
        let first = steps.pop();
        self.ahead = steps;
        first
    }

    /// A command that is sent while replies are pending: Redis leaves out the error of an AUTH that fails then.
    fn queued(&mut self) -> Option<Argv> {
        self.command().filter(|argv| !has(argv, "auth"))
    }

    /// A command of the grammar that both servers must answer alike.
    fn command(&mut self) -> Option<Argv> {
        let bytes = self.random.bytes(400);
        let mut argv = grammar().command(&mut Choices::new(&bytes), &self.kept)?;
        for arg in &mut argv {
            *arg = without_clock(arg);
        }
        if has(&argv, "xadd") {
            argv.iter_mut().filter(|arg| *arg == b"*").for_each(|arg| *arg = LATE_ID.to_vec());
        }
        slow_down(&mut argv);
        scan_all(&mut argv);
        let is_rare = RARE.iter().any(|word| has(&argv, word));
        let is_kept = !is_rare || self.random.below(12) == 0;
        // Who waits for a key of another type is served when a result is stored over it; in Redis it goes on waiting.
        let serves_more = self.someone_waits && argv.iter().any(|arg| arg.to_ascii_lowercase().ends_with(b"store"));
        // Where scores differ, what is found in a skiplist depends on its levels, which Redis rolls dice for.
        let is_rolled = self.has_small_limits
            && ["ZLEXCOUNT", "ZRANGEBYLEX", "ZREVRANGEBYLEX", "ZREMRANGEBYLEX", "BYLEX"]
                .iter()
                .any(|word| has(&argv, word));
        (is_kept && !serves_more && !is_rolled && is_comparable(&argv)).then_some(argv)
    }
}

/// The timeout that passes; others do not.
const BRIEF: &str = "0.001";

/// Times to live and timeouts that would pass on one server a command earlier than on the other are made long.
fn slow_down(argv: &mut Argv) {
    let name = argv[0].to_ascii_lowercase();
    let lengthen = |arg: Option<&mut Vec<u8>>, brief: f64, to: &str| {
        let Some(arg) = arg else { return };
        let number = std::str::from_utf8(arg).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        if number > 0.0 && number < brief && arg != BRIEF.as_bytes() {
            *arg = to.as_bytes().to_vec();
        }
    };
    let last = argv.len() - 1;
    match name.as_slice() {
        b"blpop" | b"brpop" | b"bzpopmin" | b"bzpopmax" | b"brpoplpush" | b"blmove" => {
            lengthen(argv.get_mut(last), 60.0, "100")
        }
        b"blmpop" | b"bzmpop" => lengthen(argv.get_mut(1), 60.0, "100"),
        b"wait" => lengthen(argv.get_mut(2), 60_000.0, "100000"),
        b"waitaof" => lengthen(argv.get_mut(3), 60_000.0, "100000"),
        _ => {}
    }
    for at in 0..argv.len() {
        let value = match argv[at].to_ascii_lowercase().as_slice() {
            b"psetex" | b"pexpire" | b"setex" | b"expire" | b"restore" | b"restore-asking" => at + 2,
            b"px" | b"ex" | b"block" => at + 1,
            _ => continue,
        };
        lengthen(argv.get_mut(value), 200_000.0, "1000000");
    }
}

/// A scan starts at the beginning and goes to the end: cursors are other numbers here.
fn scan_all(argv: &mut Argv) {
    for at in 0..argv.len() {
        let cursor = match argv[at].to_ascii_lowercase().as_slice() {
            b"scan" => at + 1,
            b"hscan" | b"sscan" | b"zscan" => at + 2,
            _ => continue,
        };
        let is_number = |arg: &Vec<u8>| std::str::from_utf8(arg).is_ok_and(|text| text.parse::<i128>().is_ok());
        if argv.get(cursor).is_some_and(is_number) {
            argv[cursor] = b"0".to_vec();
            argv.extend([b"COUNT".to_vec(), b"10000".to_vec()]);
            return;
        }
    }
}

/// An ID in the future: `*` would give each server another one.
const LATE_ID: &[u8] = b"3000000000000-*";

/// A script without `*` for an ID.
fn without_clock(arg: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(arg) {
        Ok(text) if text.contains("'*'") => text.replace("'*'", "'3000000000000-*'").into_bytes(),
        _ => arg.to_vec(),
    }
}

fn about(arg: Vec<u8>, client: u64) -> Vec<u8> {
    if arg == b"@" { format!("@id{client}").into_bytes() } else { arg }
}

/// Whether a command has this word.
fn has(argv: &Argv, word: &str) -> bool {
    argv.iter().any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether both servers can be asked: nothing that takes minutes, or that is about the process.
fn is_comparable(argv: &Argv) -> bool {
    let numbers =
        || argv.iter().filter_map(|arg| std::str::from_utf8(arg).ok()?.trim_start_matches('#').parse::<i64>().ok());
    let is_long = numbers().any(|number| (20_000..1 << 33).contains(&number));
    let makes_long = ["setrange", "setbit", "bitfield", "lcs"].iter().any(|word| has(argv, word));
    // It could end the connection that compares, and 7.2.6 falls over an error that is an empty table.
    let is_deadly = has(argv, "kill") && has(argv, "client") || has(argv, "error({})");
    // Redis takes a lone `%` as a rule and falls over when it shows it.
    let is_lone_percent = has(argv, "setuser") && argv.iter().any(|arg| arg.ends_with(b"%"));
    // Redis does not count this one among the errors.
    let is_uncounted_error = has(argv, "debug") && has(argv, "error");
    // Redis answers twice when the second prefix overlaps with one behind it.
    let has_many_prefixes = argv.iter().filter(|arg| arg.eq_ignore_ascii_case(b"prefix")).count() > 2;
    let is_debugger = has(argv, "script") && has(argv, "debug");
    // Redis looks at the lower 32 bits of these.
    let is_wide_lset = has(argv, "lset") && numbers().any(|number| i32::try_from(number).is_err());
    let is_wide_wait =
        (has(argv, "wait") || has(argv, "waitaof")) && numbers().any(|number| i32::try_from(number).is_err());
    !is_lone_percent
        && !is_wide_wait
        && !is_deadly
        && !is_wide_lset
        && !is_debugger
        && !has_many_prefixes
        && !is_uncounted_error
        && !(makes_long && is_long)
        && !LEFT_OUT.iter().any(|word| has(argv, word))
}

/// Commands about the process, its memory and time, or that make the two differ for ever.
const LEFT_OUT: &[&str] = &[
    "pause",
    "monitor",
    "lolwut",
    "info",
    "memory",
    "latency",
    "slowlog",
    "time",
    "lastsave",
    "genpass",
    "replconf",
    "module",
    "help",
    "htstats",
    "htstats-key",
    "listpack",
    "set-active-expire",
    "freq",
    "maxmemory-policy",
    "rdbcompression",
    "lfu-decay-time",
    "lfu-log-factor",
    "quicklist-packed-threshold",
    "docs",
    "randomkey",
    "resetstat",
];

/// They would leave little to look at.
const RARE: &[&str] =
    &["flushall", "flushdb", "swapdb", "select", "quit", "command", "docs", "subscribe", "psubscribe", "ssubscribe"];

/// What frees a client from the state that random commands have brought it into.
const CALM: &[&str] = &[
    "RESET",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "DISCARD",
    "HELLO 3",
    "HELLO 2",
    "SELECT 0",
    "CLIENT TRACKING OFF",
    "CLIENT NO-TOUCH OFF",
    "EXEC",
    "UNWATCH",
];

/// `@`: the ID of some client.
const CLIENT_COMMANDS: &[&str] = &[
    "CLIENT UNBLOCK @",
    "CLIENT UNBLOCK @ ERROR",
    "CLIENT UNBLOCK @ TIMEOUT",
    "CLIENT KILL ID @",
    "CLIENT KILL ID @ SKIPME NO",
    "CLIENT TRACKING ON REDIRECT @",
    "CLIENT TRACKING ON REDIRECT @ BCAST PREFIX s PREFIX l",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKING ON OPTOUT NOLOOP",
    "CLIENT CACHING YES",
    "CLIENT CACHING NO",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT KILL TYPE pubsub",
    "CLIENT KILL USER alice",
];
