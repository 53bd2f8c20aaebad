//! Strings: GET, SET and their relatives, counters, ranges, LCS.

use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::commands::expire;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::db::Expiry;
use crate::keyspace::value::StringRef;
use redstart_types::entry::NewContent;
use redstart_types::lcs::Lcs;
use redstart_types::long_double::LongDouble;
use redstart_types::number;

pub const COMMANDS: &[Command] = &[
    Command::new("append", 3, append)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_INSERT)])
        .since("2.0.0"),
    Command::new("decr", 2, decr)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("decrby", 3, decrby)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("get", 2, get)
        .flags(FAST | READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)]),
    Command::new("getdel", 2, getdel)
        .flags(FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_DELETE)])
        .since("6.2.0"),
    Command::new("getex", -2, getex)
        .flags(FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1)
            .flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)
            .notes("RW and UPDATE because it changes the TTL")])
        .since("6.2.0"),
    Command::new("getrange", 4, getrange)
        .flags(READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)])
        .since("2.4.0"),
    Command::new("getset", 3, getset)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("incr", 2, incr)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("incrby", 3, incrby)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)]),
    Command::new("incrbyfloat", 3, incrbyfloat)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)])
        .since("2.6.0"),
    Command::new("lcs", -3, lcs)
        .flags(READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).range(1, 1, 0).flags(KEY_RO | KEY_ACCESS)])
        .since("7.0.0"),
    Command::new("mget", -2, mget)
        .flags(FAST | READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_RO | KEY_ACCESS)])
        .tips(&["request_policy:multi_shard"]),
    Command::new("mset", -3, mset)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).range(-1, 2, 0).flags(KEY_OW | KEY_UPDATE)])
        .since("1.0.1")
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]),
    Command::new("msetnx", -3, msetnx)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).range(-1, 2, 0).flags(KEY_OW | KEY_INSERT)])
        .since("1.0.1"),
    Command::new("psetex", 4, psetex)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE)])
        .since("2.6.0"),
    Command::new("set", -3, set)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1)
            .flags(KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE)
            .notes("RW and ACCESS due to the optional `GET` argument")])
        .variable_flags(set_key_flags),
    Command::new("setex", 4, setex)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE)])
        .since("2.0.0"),
    Command::new("setnx", 3, setnx)
        .flags(DENYOOM | FAST | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_INSERT)]),
    Command::new("setrange", 4, setrange)
        .flags(DENYOOM | WRITE)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)])
        .since("2.2.0"),
    Command::new("strlen", 2, strlen)
        .flags(FAST | READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RO)])
        .since("2.2.0"),
    Command::new("substr", 4, substr)
        .flags(READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)]),
];

/// `GET key`: bulk string, or null. Errors: WRONGTYPE. Source: Redis 7.2 GET.
fn get(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    reply_string(ctx, key)
}

/// How SET and GETEX give an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// EX: seconds from now.
    Seconds,
    /// PX: milliseconds from now.
    Millis,
    /// EXAT: Unix time in seconds.
    UnixSeconds,
    /// PXAT: Unix time in milliseconds.
    UnixMillis,
}

const UNITS: [(&str, Unit); 4] =
    [("EX", Unit::Seconds), ("PX", Unit::Millis), ("EXAT", Unit::UnixSeconds), ("PXAT", Unit::UnixMillis)];

/// What SET was asked beside key and value, or GETEX beside the key.
#[derive(Debug, Default)]
struct Options<'a> {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    /// The unit and the text of the number.
    expire: Option<(Unit, &'a [u8])>,
}

impl<'a> Options<'a> {
    /// Reads all that is left. A unit may be repeated, the last one counts; two units exclude each other.
    fn parse(args: &mut Args<'a>, is_set: bool) -> CmdResult<Self> {
        let mut options = Options::default();
        while !args.is_empty() {
            if !options.take_word(args, is_set) {
                options.take_unit(args)?;
            }
        }
        Ok(options)
    }

    fn take_word(&mut self, args: &mut Args<'a>, is_set: bool) -> bool {
        let target = if is_set && !self.if_present && args.flag("NX") {
            &mut self.if_absent
        } else if is_set && !self.if_absent && args.flag("XX") {
            &mut self.if_present
        } else if is_set && args.flag("GET") {
            &mut self.get
        } else if is_set && self.expire.is_none() && args.flag("KEEPTTL") {
            &mut self.keep_ttl
        } else if !is_set && self.expire.is_none() && args.flag("PERSIST") {
            &mut self.persist
        } else {
            return false;
        };
        *target = true;
        true
    }

    fn take_unit(&mut self, args: &mut Args<'a>) -> CmdResult {
        let (_, unit) = *UNITS.iter().find(|(word, _)| args.flag(word)).ok_or(CmdError::Syntax)?;
        let is_other = self.expire.is_some_and(|(other, _)| other != unit);
        if self.keep_ttl || self.persist || is_other {
            return Err(CmdError::Syntax);
        }
        self.expire = Some((unit, args.bytes()?));
        Ok(())
    }

    /// When the key is to expire, Unix ms; None when that was not said.
    fn expire_at_ms(&self, ctx: &Ctx, command: &'static str) -> CmdResult<Option<i64>> {
        self.expire.map(|(unit, text)| expire_at_ms(ctx, unit, text, command)).transpose()
    }
}

/// SET ... GET reads.
fn set_key_flags(argv: &[&[u8]]) -> u16 {
    let reads = argv.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"get"));
    if reads { KEY_RW | KEY_ACCESS | KEY_UPDATE } else { KEY_OW | KEY_UPDATE }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`: OK, or null when NX or XX forbids it;
/// with GET the old value or null. Errors: syntax; invalid expire time; WRONGTYPE with GET. Source: Redis 7.2 SET.
fn set(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let value = args.bytes()?;
    let options = Options::parse(args, true)?;
    let expiry = match options.expire_at_ms(ctx, "set")? {
        Some(at) => Expiry::At(at),
        None if options.keep_ttl => Expiry::Keep,
        None => Expiry::Clear,
    };
    if options.get {
        reply_string(ctx, key)?;
    }
    let exists = (options.if_absent || options.if_present) && ctx.db.write(key).is_some();
    if (options.if_absent && exists) || (options.if_present && !exists) {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(());
    }
    // An absolute time in ms is logged as it was sent.
    if matches!(options.expire, Some((Unit::UnixMillis, _))) {
        set_and_notify(ctx, key, value, expiry);
    } else {
        store(ctx, key, value, expiry);
    }
    if options.get && ctx.db.effects.recording && options.expire.is_none() {
        let options = args.argv()[3..].iter().filter(|arg| !arg.eq_ignore_ascii_case(b"GET"));
        let logged: Vec<&[u8]> = args.argv()[..3].iter().chain(options).copied().collect();
        ctx.propagate_as(&logged);
    }
    if !options.get {
        ctx.reply.ok();
    }
    Ok(())
}

/// `text` as a time to expire at, Unix ms. Errors: not an integer; invalid expire time (not positive, or beyond
/// 2^63 ms).
fn expire_at_ms(ctx: &Ctx, unit: Unit, text: &[u8], command: &'static str) -> CmdResult<i64> {
    let value = number::parse_int(text).ok_or(CmdError::NotAnInteger)?;
    let in_ms = match unit {
        Unit::Seconds | Unit::UnixSeconds => value.checked_mul(1000),
        Unit::Millis | Unit::UnixMillis => Some(value),
    };
    let at = match unit {
        Unit::Seconds | Unit::Millis => in_ms.and_then(|ms| ms.checked_add(ctx.now_ms)),
        Unit::UnixSeconds | Unit::UnixMillis => in_ms,
    };
    at.filter(|_| value > 0).ok_or(CmdError::InvalidExpire(command))
}

/// Sets a key and says so; the log gets the absolute expiry.
fn store(ctx: &mut Ctx, key: Key<'_>, value: &[u8], expiry: Expiry) {
    set_and_notify(ctx, key, value, expiry);
    if let Expiry::At(at) = expiry
        && ctx.db.effects.recording
    {
        let mut digits = itoa::Buffer::new();
        ctx.propagate_as(&[b"SET", key.bytes, value, b"PXAT", digits.format(at).as_bytes()]);
    }
}

fn set_and_notify(ctx: &mut Ctx, key: Key<'_>, value: &[u8], expiry: Expiry) {
    ctx.db.set_string(key, value, expiry);
    ctx.changed(key, KeyspaceEvents::STRING, "set");
    if matches!(expiry, Expiry::At(_)) {
        ctx.db.notify(KeyspaceEvents::GENERIC, "expire", key);
    }
}

/// `SETNX key value`: 1 if the key was set, 0 if it was there. Source: Redis 7.2 SETNX.
fn setnx(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let value = args.bytes()?;
    let is_absent = ctx.db.write(key).is_none();
    if is_absent {
        store(ctx, key, value, Expiry::Clear);
    }
    ctx.reply.integer(i64::from(is_absent));
    Ok(())
}

/// `SETEX key seconds value`: OK. Errors: invalid expire time. Source: Redis 7.2 SETEX.
fn setex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    set_expiring(ctx, args, Unit::Seconds, "setex")
}

/// `PSETEX key milliseconds value`: OK. Errors: invalid expire time. Source: Redis 7.2 PSETEX.
fn psetex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    set_expiring(ctx, args, Unit::Millis, "psetex")
}

fn set_expiring(ctx: &mut Ctx, args: &mut Args, unit: Unit, command: &'static str) -> CmdResult {
    let key = args.key()?;
    let at = expire_at_ms(ctx, unit, args.bytes()?, command)?;
    let value = args.bytes()?;
    store(ctx, key, value, Expiry::At(at));
    ctx.reply.ok();
    Ok(())
}

/// `GETSET key value`: the old value or null. Errors: WRONGTYPE. Source: Redis 7.2 GETSET.
fn getset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let value = args.bytes()?;
    reply_string(ctx, key)?;
    store(ctx, key, value, Expiry::Clear);
    if ctx.db.effects.recording {
        ctx.propagate_as(&[b"SET", key.bytes, value]);
    }
    Ok(())
}

/// `GETDEL key`: the value or null; the key is gone. Errors: WRONGTYPE. Source: Redis 7.2 GETDEL.
fn getdel(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    reply_string(ctx, key)?;
    if ctx.db.delete(key) {
        ctx.deleted(key);
        ctx.propagate_as(&[b"DEL", key.bytes]);
    }
    Ok(())
}

/// `INCR key`: integer, the value after adding 1. Errors: as INCRBY. Source: Redis 7.2 INCR.
fn incr(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    add(ctx, key, 1)
}

/// `DECR key`: integer, the value after subtracting 1. Errors: as INCRBY. Source: Redis 7.2 DECR.
fn decr(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    add(ctx, key, -1)
}

/// `INCRBY key increment`: integer, the value after the addition. A missing key counts as 0. Keeps the expiry.
/// Errors: WRONGTYPE; value is not an integer or out of range; would overflow. Source: Redis 7.2 INCRBY.
fn incrby(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let increment = args.int()?;
    add(ctx, key, increment)
}

/// `DECRBY key decrement`: integer, the value after the subtraction. Errors: as INCRBY, and for a decrement that
/// has no negative. Source: Redis 7.2 DECRBY.
fn decrby(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let decrement = args.int()?;
    let increment = decrement.checked_neg().ok_or(CmdError::Text("ERR decrement would overflow"))?;
    add(ctx, key, increment)
}

fn add(ctx: &mut Ctx, key: Key<'_>, increment: i64) -> CmdResult {
    let sum = match ctx.db.write(key) {
        Some(entry) => {
            let current = StringRef::of(entry).ok_or(CmdError::WrongType)?.as_int().ok_or(CmdError::NotAnInteger)?;
            let sum = current.checked_add(increment).ok_or(CmdError::IncrOverflow)?;
            // In place: the entry has been found once, and an integer fits where an integer was.
            drop(entry.replace(NewContent::Int(sum)));
            sum
        }
        None => {
            ctx.db.set_int(key, increment, Expiry::Clear);
            increment
        }
    };
    ctx.changed(key, KeyspaceEvents::STRING, "incrby");
    ctx.reply.integer(sum);
    Ok(())
}

/// `MGET key [key ...]`: array of bulk strings, null for a key that is missing or no string. Source: Redis 7.2 MGET.
fn mget(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    ctx.reply.array(args.remaining());
    while !args.is_empty() {
        let key = args.key()?;
        match ctx.db.string(key) {
            Ok(Some(value)) => ctx.reply.bulk(value.bytes(&mut itoa::Buffer::new())),
            Ok(None) | Err(_) => ctx.reply.null(),
        }
    }
    Ok(())
}

/// `MSET key value [key value ...]`: OK. Source: Redis 7.2 MSET.
fn mset(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if !args.remaining().is_multiple_of(2) {
        return Err(args.arity_error());
    }
    while !args.is_empty() {
        let key = args.key()?;
        let value = args.bytes()?;
        ctx.db.set_string(key, value, Expiry::Clear);
        ctx.changed(key, KeyspaceEvents::STRING, "set");
    }
    ctx.reply.ok();
    Ok(())
}

/// `MSETNX key value [key value ...]`: 1 if all keys were set, 0 if one was there and none was. Source: Redis 7.2
/// MSETNX.
fn msetnx(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if !args.remaining().is_multiple_of(2) {
        return Err(args.arity_error());
    }
    let mut look = args.clone();
    while !look.is_empty() {
        let key = look.key()?;
        look.bytes()?;
        if ctx.db.write(key).is_some() {
            ctx.reply.integer(0);
            return Ok(());
        }
    }
    while !args.is_empty() {
        let key = args.key()?;
        let value = args.bytes()?;
        ctx.db.set_string(key, value, Expiry::Clear);
        ctx.changed(key, KeyspaceEvents::STRING, "set");
    }
    ctx.reply.integer(1);
    Ok(())
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`: the value or null; the expiry is changed as asked. A time
/// that is over deletes the key. Errors: syntax; WRONGTYPE; invalid expire time. Source: Redis 7.2 GETEX.
fn getex(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let options = Options::parse(args, false)?;
    if ctx.db.string(key)?.is_none() {
        ctx.reply.null();
        return Ok(());
    }
    let expire_at_ms = options.expire_at_ms(ctx, "getex")?;
    if let Some(value) = ctx.db.peek(key).and_then(StringRef::of) {
        ctx.reply.bulk(value.bytes(&mut itoa::Buffer::new()));
    }
    match expire_at_ms {
        Some(at) => expire::set_expiry(ctx, key, at),
        None if options.persist => drop(expire::clear_expiry(ctx, key)),
        None => {}
    }
    Ok(())
}

/// `INCRBYFLOAT key increment`: bulk string, the value after the addition, computed with 80-bit floats. A missing key
/// counts as 0. Keeps the expiry. Errors: WRONGTYPE; value is not a valid float; NaN or infinity. Source: Redis 7.2
/// INCRBYFLOAT.
fn incrbyfloat(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let current = match ctx.db.write(key) {
        Some(entry) => match StringRef::of(entry).ok_or(CmdError::WrongType)? {
            StringRef::Int(value) => LongDouble::from_int(value),
            StringRef::Bytes(text) => LongDouble::parse(text).ok_or(CmdError::NotAFloat)?,
        },
        None => LongDouble::from_int(0),
    };
    let increment = LongDouble::parse(args.bytes()?).ok_or(CmdError::NotAFloat)?;
    let sum = current + increment;
    if !sum.is_finite() {
        return Err(CmdError::Text("ERR increment would produce NaN or Infinity"));
    }
    let mut text = Vec::new();
    sum.append_to(&mut text);
    // Not stored as an integer even if it is one: OBJECT ENCODING says so.
    ctx.db.set_text(key, &text, Expiry::Keep);
    ctx.changed(key, KeyspaceEvents::STRING, "incrbyfloat");
    if ctx.db.effects.recording {
        // Another machine may compute another last digit.
        ctx.propagate_as(&[b"SET", key.bytes, &text, b"KEEPTTL"]);
    }
    ctx.reply.bulk(&text);
    Ok(())
}

/// `APPEND key value`: integer, the length after it. A missing key is made. Errors: WRONGTYPE; too long. Source:
/// Redis 7.2 APPEND.
fn append(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let value = args.bytes()?;
    let Some(entry) = ctx.db.write(key) else {
        ctx.db.set_string(key, value, Expiry::Clear);
        ctx.changed(key, KeyspaceEvents::STRING, "append");
        ctx.reply.len(value.len());
        return Ok(());
    };
    let len = StringRef::of(entry).ok_or(CmdError::WrongType)?.len();
    check_length(ctx, len, value.len())?;
    ctx.db.edit_string(key, None, |bytes| bytes.extend_from_slice(value))?;
    ctx.changed(key, KeyspaceEvents::STRING, "append");
    ctx.reply.len(len + value.len());
    Ok(())
}

/// `STRLEN key`: integer, 0 for a missing key. Errors: WRONGTYPE. Source: Redis 7.2 STRLEN.
fn strlen(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let len = ctx.db.string(key)?.map_or(0, StringRef::len);
    ctx.reply.len(len);
    Ok(())
}

/// `SETRANGE key offset value`: integer, the length after it; what lies between the old end and `offset` becomes zero
/// bytes. An empty value changes nothing. Errors: WRONGTYPE; offset is out of range; too long. Source: Redis 7.2
/// SETRANGE.
fn setrange(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let offset = usize::try_from(args.int()?).map_err(|_| CmdError::Text("ERR offset is out of range"))?;
    let value = args.bytes()?;
    let len = match ctx.db.write(key) {
        Some(entry) => StringRef::of(entry).ok_or(CmdError::WrongType)?.len(),
        None => 0,
    };
    if value.is_empty() {
        ctx.reply.len(len);
        return Ok(());
    }
    check_length(ctx, offset, value.len())?;
    let end = offset + value.len();
    let len = ctx.db.edit_string(key, Some(offset..end), |bytes| {
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(value);
        bytes.len()
    })?;
    ctx.changed(key, KeyspaceEvents::STRING, "setrange");
    ctx.reply.len(len);
    Ok(())
}

/// `GETRANGE key start end`: bulk string, the bytes from `start` to `end`, both included; negative ones count from the
/// end. Errors: WRONGTYPE. Source: Redis 7.2 GETRANGE.
fn getrange(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let (start, end) = (args.int()?, args.int()?);
    let Some(value) = ctx.db.string(key)? else {
        ctx.reply.bulk(b"");
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = value.bytes(&mut digits);
    ctx.reply.bulk(&bytes[byte_range(bytes.len(), start, end)]);
    Ok(())
}

/// `SUBSTR key start end`: the old name of GETRANGE. Source: Redis 7.2 SUBSTR.
fn substr(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    getrange(ctx, args)
}

/// What `LCS` was asked.
#[derive(Debug, Default)]
struct LcsOptions {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: i64,
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN]`: the longest common subsequence; with LEN its length;
/// with IDX a map of `matches` (ranges in both strings, last first) and `len`. Errors: values that are no strings;
/// LEN together with IDX; a table beyond proto-max-bulk-len. Source: Redis 7.2 LCS.
fn lcs(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key1, key2) = (args.key()?, args.key()?);
    let no_string = |_| CmdError::Text("ERR The specified keys must contain string values");
    // Both are looked up, whatever the first one is.
    let [a, b] = [key1, key2].map(|key| ctx.db.string(key).map(|found| found.map(StringRef::to_vec)));
    let (a, b) = (a.map_err(no_string)?.unwrap_or_default(), b.map_err(no_string)?.unwrap_or_default());
    let options = lcs_options(args)?;
    let cells = (a.len() as u128 + 1) * (b.len() as u128 + 1);
    if cells * size_of::<u32>() as u128 > u128::from(ctx.config.proto_max_bulk_len) {
        return Err(CmdError::Text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
    }
    let lcs = Lcs::new(&a, &b);
    if options.idx {
        reply_matches(ctx, &lcs, &options);
    } else if options.len {
        ctx.reply.len(lcs.len());
    } else {
        ctx.reply.bulk(&lcs.text());
    }
    Ok(())
}

fn lcs_options(args: &mut Args) -> CmdResult<LcsOptions> {
    let mut options = LcsOptions::default();
    while !args.is_empty() {
        match args.one_of(&["IDX", "LEN", "WITHMATCHLEN", "MINMATCHLEN"]) {
            Some(0) => options.idx = true,
            Some(1) => options.len = true,
            Some(2) => options.with_match_len = true,
            Some(_) if !args.is_empty() => options.min_match_len = args.int()?,
            _ => return Err(CmdError::Syntax),
        }
    }
    if options.len && options.idx {
        return Err(CmdError::Text("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

fn reply_matches(ctx: &mut Ctx, lcs: &Lcs<'_>, options: &LcsOptions) {
    let reply = &mut *ctx.reply;
    reply.map(2);
    reply.bulk(b"matches");
    let start = reply.begin();
    let mut count = 0;
    for found in lcs.matches().filter(|found| found.len as i64 >= options.min_match_len) {
        reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [found.a, found.b] {
            reply.array(2);
            reply.len(start);
            reply.len(start + found.len - 1);
        }
        if options.with_match_len {
            reply.len(found.len);
        }
        count += 1;
    }
    reply.end_array(start, count);
    reply.bulk(b"len");
    reply.len(lcs.len());
}

/// A string of `len` bytes may not grow by `more` beyond `proto-max-bulk-len`.
fn check_length(ctx: &Ctx, len: usize, more: usize) -> CmdResult {
    let fits = len.checked_add(more).is_some_and(|total| total as u64 <= ctx.config.proto_max_bulk_len);
    if fits || ctx.origin == Origin::Log { Ok(()) } else { Err(CmdError::StringTooLong) }
}

/// GETRANGE's indexes as a range of a string of `len` bytes.
fn byte_range(len: usize, start: i64, end: i64) -> std::ops::Range<usize> {
    let len = len as i64;
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let from_start = |at: i64| if at < 0 { (len.saturating_add(at)).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if start > end || len == 0 { 0..0 } else { start as usize..end as usize + 1 }
}

fn reply_string(ctx: &mut Ctx, key: Key<'_>) -> CmdResult {
    match ctx.db.string(key)? {
        Some(value) => ctx.reply.bulk(value.bytes(&mut itoa::Buffer::new())),
        None => ctx.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn set_get_and_their_options() {
        let mut c = Checker::new();
        c.check("GET s", "nil");
        c.check("SET s hello", "OK");
        c.check("GET s", "\"hello\"");
        c.check("SET s 1 NX", "nil");
        c.check("SET s 1 XX GET", "\"hello\"");
        c.check("SET s 2 EX 100", "OK");
        c.check("TTL s", ":100");
        c.check("SET s 3 KEEPTTL", "OK");
        c.check("TTL s", ":100");
        c.check("SET s 3", "OK");
        c.check("TTL s", ":-1");
        c.check("SET s 3 EX 0", "-ERR invalid expire time in 'set' command");
        c.check("SET s 3 NX XX", "-ERR syntax error");
        c.check("SET s 3 EX 1 PX 2", "-ERR syntax error");
        c.check("SET s 3 EX x", "-ERR value is not an integer or out of range");
    }

    #[test]
    fn counters() {
        let mut c = Checker::new();
        c.check("INCR n", ":1");
        c.check("INCRBY n 41", ":42");
        c.check("DECR n", ":41");
        c.check("DECRBY n 1", ":40");
        c.check("SET n 9223372036854775807", "OK");
        c.check("INCR n", "-ERR increment or decrement would overflow");
        c.check("DECRBY n -9223372036854775808", "-ERR decrement would overflow");
        c.check("SET n x", "OK");
        c.check("INCR n", "-ERR value is not an integer or out of range");
        c.check("INCRBY n 1.5", "-ERR value is not an integer or out of range");
        c.check("INCR", "-ERR wrong number of arguments for 'incr' command");
    }

    #[test]
    fn several_keys() {
        let mut c = Checker::new();
        c.check("MSET {t}a 1 {t}b 2", "OK");
        c.check("MGET {t}a {t}b {t}c", "[\"1\", \"2\", nil]");
        c.check("MSET {t}a", "-ERR wrong number of arguments for 'mset' command");
        c.check("GETSET {t}a x", "\"1\"");
        c.check("GETDEL {t}a", "\"x\"");
        c.check("GET {t}a", "nil");
        c.check("SETNX {t}a y", ":1");
        c.check("SETNX {t}a z", ":0");
        c.check("SETEX {t}a 100 v", "OK");
        c.check("PSETEX {t}a 100000 v", "OK");
        c.check("SETEX {t}a -1 v", "-ERR invalid expire time in 'setex' command");
    }

    #[test]
    fn options_of_set_are_read_before_anything_is_looked_at() {
        let mut c = Checker::new();
        c.check("RPUSH l a", ":1");
        c.check("SET l v GET", "-WRONGTYPE Operation against a key holding the wrong kind of value");
        c.check("SET l v GET EX 0", "-ERR invalid expire time in 'set' command");
        c.check("SET l v EX x FOO", "-ERR syntax error");
        c.check("SET l v EX 9223372036854775807", "-ERR invalid expire time in 'set' command");
        c.check("SET l v PX 9223372036854775807", "-ERR invalid expire time in 'set' command");
        c.check("SET k v EX 1 EX 100", "OK");
        c.check("TTL k", ":100");
        c.check("SET k v KEEPTTL EX 1", "-ERR syntax error");
        c.check("SET k v EX", "-ERR syntax error");
        c.check("SET k v nx get", "\"v\"");
        c.check("SET new v nx get", "nil");
        c.check("SET k w xx keepttl", "OK");
        c.check("TTL k", ":100");
        c.check("SET k v EXAT 4102444800", "OK");
        c.check("PEXPIRETIME k", ":4102444800000");
        c.check("SET k v PXAT 1", "OK");
        c.check("EXISTS k", ":0");
        c.check("SET l v", "OK");
        c.check("RPUSH m a", ":1");
        c.check("GETSET m v", "-WRONGTYPE Operation against a key holding the wrong kind of value");
        c.check("SETEX m 0 v", "-ERR invalid expire time in 'setex' command");
        c.check("SETEX m x v", "-ERR value is not an integer or out of range");
        c.check("PSETEX m 100000 v", "OK");
        c.check("TTL m", ":100");
        c.check("GETDEL l", "\"v\"");
    }

    #[test]
    fn getex() {
        let mut c = Checker::new();
        c.check("GETEX k EX 0", "nil");
        c.check("SET k v", "OK");
        c.check("GETEX k EX 100", "\"v\"");
        c.check("TTL k", ":100");
        c.check("GETEX k", "\"v\"");
        c.check("GETEX k PERSIST", "\"v\"");
        c.check("TTL k", ":-1");
        c.check("GETEX k PX 100000", "\"v\"");
        c.check("TTL k", ":100");
        c.check("GETEX k EX 0", "-ERR invalid expire time in 'getex' command");
        c.check("GETEX k KEEPTTL", "-ERR syntax error");
        c.check("GETEX k PERSIST EX 1", "-ERR syntax error");
        c.check("GETEX k EXAT 1", "\"v\"");
        c.check("EXISTS k", ":0");
        c.check("RPUSH l a", ":1");
        c.check("GETEX l EX 0", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }

    #[test]
    fn msetnx_sets_all_or_nothing() {
        let mut c = Checker::new();
        c.check("MSETNX {t}a 1 {t}b 2", ":1");
        c.check("MSETNX {t}c 1 {t}b 3", ":0");
        c.check("MGET {t}a {t}b {t}c", "[\"1\", \"2\", nil]");
        c.check("MSETNX {t}d 1 {t}d 2", ":1");
        c.check("GET {t}d", "\"2\"");
        c.check("MSETNX {t}a", "-ERR wrong number of arguments for 'msetnx' command");
    }

    #[test]
    fn incrbyfloat() {
        let mut c = Checker::new();
        c.check("INCRBYFLOAT n 10.5", "\"10.5\"");
        c.check("INCRBYFLOAT n 0.1", "\"10.6\"");
        c.check("INCRBYFLOAT n 5.0e3", "\"5010.60000000000000009\"");
        c.check("SET n 3", "OK");
        c.check("OBJECT ENCODING n", "\"int\"");
        c.check("INCRBYFLOAT n 1", "\"4\"");
        c.check("OBJECT ENCODING n", "\"embstr\"");
        c.check("INCR n", ":5");
        c.check("INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity");
        c.check("INCRBYFLOAT n x", "-ERR value is not a valid float");
        c.check("SET n x", "OK");
        c.check("INCRBYFLOAT n 1", "-ERR value is not a valid float");
        c.check("EXPIRE n 100", ":1");
        c.check("SET n 1 KEEPTTL", "OK");
        c.check("INCRBYFLOAT n -1.5", "\"-0.5\"");
        c.check("TTL n", ":100");
        c.check("RPUSH l a", ":1");
        c.check("INCRBYFLOAT l x", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }

    #[test]
    fn ranges() {
        let mut c = Checker::new();
        c.check("APPEND s Hello", ":5");
        c.check("OBJECT ENCODING s", "\"embstr\"");
        c.check("APPEND s ' World'", ":11");
        c.check("OBJECT ENCODING s", "\"raw\"");
        c.check("STRLEN s", ":11");
        for (range, expected) in [
            ("0 3", "Hell"),
            ("-3 -1", "rld"),
            ("0 -1", "Hello World"),
            ("5 3", ""),
            ("-1 -5", ""),
            ("-100 -90", "H"),
            ("-100 3", "Hell"),
            ("5 5000", " World"),
            ("11 12", ""),
            ("-9223372036854775808 9223372036854775807", "Hello World"),
        ] {
            c.check(&format!("GETRANGE s {range}"), &format!("\"{expected}\""));
            c.check(&format!("SUBSTR s {range}"), &format!("\"{expected}\""));
        }
        c.check("SETRANGE s 6 Redis", ":11");
        c.check("GET s", "\"Hello Redis\"");
        c.check("SETRANGE s 13 !", ":14");
        c.check("GET s", r#""Hello Redis\x00\x00!""#);
        c.check("SETRANGE t 0 ''", ":0");
        c.check("EXISTS t", ":0");
        c.check("SETRANGE t 1 x", ":2");
        c.check("OBJECT ENCODING t", "\"raw\"");
        c.check("SETRANGE t -1 x", "-ERR offset is out of range");
        let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        c.check("SETRANGE t 536870912 x", too_long);
        c.check("SETRANGE t 9223372036854775807 x", too_long);
        c.check("SETRANGE t 9223372036854775807 ''", ":2");
        c.check("SET n 12", "OK");
        c.check("APPEND n 3", ":3");
        c.check("GET n", "\"123\"");
        c.check("INCR n", ":124");
        c.check("GETRANGE n 1 1", "\"2\"");
        c.check("APPEND none 12", ":2");
        c.check("OBJECT ENCODING none", "\"int\"");
        c.check("STRLEN missing", ":0");
        c.check("GETRANGE missing 0 -1", "\"\"");
        c.check("RPUSH l a", ":1");
        for command in ["APPEND l x", "SETRANGE l 0 ''", "GETRANGE l 0 1", "STRLEN l", "INCR l", "SUBSTR l 0 1"] {
            c.check(command, "-WRONGTYPE Operation against a key holding the wrong kind of value");
        }
    }

    #[test]
    fn long_strings() {
        let mut c = Checker::new();
        for len in [4095, 4096, 4097, 100_000] {
            let text = "x".repeat(len);
            c.check(&format!("SET s {text}"), "OK");
            c.check("OBJECT ENCODING s", "\"raw\"");
            c.check("EXPIRE s 100", ":1");
            c.check("APPEND s yz", &format!(":{}", len + 2));
            c.check("TTL s", ":100");
            c.check("GET s", &format!("\"{text}yz\""));
            c.check(&format!("SETRANGE s {} abc", len + 5), &format!(":{}", len + 8));
            c.check(&format!("GETRANGE s {} -1", len), r#""yz\x00\x00\x00abc""#);
            c.check("GETSET s short", &format!("\"{text}yz\\x00\\x00\\x00abc\""));
        }
    }

    #[test]
    fn lcs() {
        let mut c = Checker::new();
        c.check("MSET {t}a ohmytext {t}b mynewtext", "OK");
        c.check("LCS {t}a {t}b", "\"mytext\"");
        c.check("LCS {t}a {t}b LEN", ":6");
        c.check("LCS {t}a {t}b IDX", "[\"matches\", [[[:4, :7], [:5, :8]], [[:2, :3], [:0, :1]]], \"len\", :6]");
        c.check(
            "LCS {t}a {t}b IDX MINMATCHLEN 4 WITHMATCHLEN",
            "[\"matches\", [[[:4, :7], [:5, :8], :4]], \"len\", :6]",
        );
        c.check("LCS {t}a {t}none", "\"\"");
        c.check("LCS {t}a {t}none IDX", "[\"matches\", [], \"len\", :0]");
        c.check("LCS {t}a {t}b IDX LEN", "-ERR If you want both the length and indexes, please just use IDX.");
        c.check("LCS {t}a {t}b MINMATCHLEN", "-ERR syntax error");
        c.check("LCS {t}a {t}b MINMATCHLEN x", "-ERR value is not an integer or out of range");
        c.check("RPUSH {t}l a", ":1");
        c.check("LCS {t}a {t}l FOO", "-ERR The specified keys must contain string values");
        c.check_lookups("LCS {t}l {t}none", [1, 1]);
        let long = "x".repeat(20_000);
        c.check(&format!("MSET {{t}}a {long} {{t}}b {long}"), "OK");
        c.check("LCS {t}a {t}b", "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
    }
}
