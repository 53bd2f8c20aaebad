//! Bitmaps: single bits of strings, counting and searching them, combining strings, and integers inside a string.

use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::db::Expiry;
use crate::resp::reply::Reply;
use redstart_types::bitmap::{self, BitOp, FieldType, Overflow};
use redstart_types::number;
use std::ops::Range;

const READS: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)];

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::new("bitcount", -2, bitcount).flags(READONLY).acl(acl::BITMAP).keys(READS).since("2.6.0"),
    Command::new("bitfield", -2, bitfield)
        .flags(WRITE | DENYOOM)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::at(1)
            .flags(KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE)
            .notes("This command allows both access and modification of the key")])
        .variable_flags(bitfield_key_flags)
        .since("3.2.0"),
    Command::new("bitfield_ro", -2, bitfield_ro).flags(READONLY | FAST).acl(acl::BITMAP).keys(READS).since("6.0.0"),
    Command::new("bitop", -4, bitop)
        .flags(WRITE | DENYOOM)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::at(2).flags(KEY_OW | KEY_UPDATE), KeySpec::at(3).range(-1, 1, 0).flags(KEY_RO | KEY_ACCESS)])
        .since("2.6.0"),
    Command::new("bitpos", -3, bitpos).flags(READONLY).acl(acl::BITMAP).keys(READS).since("2.8.7"),
    Command::new("getbit", 3, getbit).flags(READONLY | FAST).acl(acl::BITMAP).keys(READS).since("2.2.0"),
    Command::new("setbit", 4, setbit)
        .flags(WRITE | DENYOOM)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_UPDATE)])
        .since("2.2.0"),
];

/// `GETBIT key offset`: integer reply, 0 or 1. Source: Redis 7.2 GETBIT.
fn getbit(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let offset = bit_offset(ctx, args.bytes()?)?;
    let string = ctx.db.string(key)?;
    let is_set = string.is_some_and(|string| bitmap::getbit(string.bytes(&mut itoa::Buffer::new()), offset));
    ctx.reply.integer(i64::from(is_set));
    Ok(())
}

/// `SETBIT key offset value`: integer reply, the bit's old value. The string grows with zeros as needed.
/// Source: Redis 7.2 SETBIT.
fn setbit(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let offset = bit_offset(ctx, args.bytes()?)?;
    let on = match args.int() {
        Ok(0) => false,
        Ok(1) => true,
        _ => return Err(CmdError::Text("ERR bit is not an integer or out of range")),
    };
    let touched = byte_range(offset, offset);
    let (grew, old) = ctx.db.edit_string(key, Some(touched), |bytes| {
        let grew = bitmap::grow_to(bytes, offset);
        (grew, bitmap::setbit(bytes, offset, on))
    })?;
    if grew || old != on {
        ctx.changed(key, KeyspaceEvents::STRING, "setbit");
    }
    ctx.reply.integer(i64::from(old));
    Ok(())
}

/// `BITCOUNT key [start end [BYTE | BIT]]`: integer reply, how many bits are 1. A missing key counts 0 before the
/// other arguments are looked at. Source: Redis 7.2 BITCOUNT.
fn bitcount(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let Some(string) = ctx.db.string(args.key()?)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = string.bytes(&mut digits);
    if !matches!(args.remaining(), 0 | 2 | 3) {
        return Err(CmdError::Syntax);
    }
    let count = if args.is_empty() {
        bitmap::count(bytes)
    } else {
        let (start, end) = (args.int()?, args.int()?);
        // Redis decides this one before it reads the unit.
        let is_backwards = start < 0 && end < 0 && start > end;
        let in_bits = !is_backwards && unit_is_bit(args)?;
        let unit_bits = if in_bits { 1 } else { 8 };
        let range = bitmap::resolve_range(start, end, bytes.len() as u64 * 8 / unit_bits);
        range
            .filter(|_| !is_backwards)
            .map_or(0, |(start, end)| bitmap::count_bits(bytes, start * unit_bits, end * unit_bits + unit_bits - 1))
    };
    ctx.reply.integer(count as i64);
    Ok(())
}

/// `BITPOS key bit [start [end [BYTE | BIT]]]`: integer reply, the position of the first bit of that value, or -1.
/// Without an end, a string is followed by endless zeros. Source: Redis 7.2 BITPOS.
fn bitpos(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let wanted = match args.int()? {
        0 => false,
        1 => true,
        _ => return Err(CmdError::Text("ERR The bit argument must be 1 or 0.")),
    };
    let Some(string) = ctx.db.string(key)? else {
        ctx.reply.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = string.bytes(&mut digits);
    if args.remaining() > 3 {
        return Err(CmdError::Syntax);
    }
    let start = if args.is_empty() { 0 } else { args.int()? };
    let (end, in_bits) = match args.rest() {
        [] => (None, false),
        [end] => (Some(*end), false),
        [end, ..] => {
            args.bytes()?;
            (Some(*end), unit_is_bit(args)?)
        }
    };
    let is_open = end.is_none();
    let end = end.map_or(Ok(-1), |end| number::parse_int(end).ok_or(CmdError::NotAnInteger))?;
    let unit_bits = if in_bits { 1 } else { 8 };
    let position = bitmap::resolve_range(start, end, bytes.len() as u64 * 8 / unit_bits).and_then(|(start, end)| {
        let found = bitmap::find_bit(bytes, wanted, start * unit_bits, end * unit_bits + unit_bits - 1);
        found.or_else(|| (is_open && !wanted).then_some(bytes.len() as u64 * 8))
    });
    ctx.reply.integer(position.map_or(-1, |position| position as i64));
    Ok(())
}

/// `BITOP AND | OR | XOR | NOT dst key [key ...]`: integer reply, the length of `dst` now, which is that of the longest
/// key; an empty result deletes it. Source: Redis 7.2 BITOP.
fn bitop(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let operation = BitOp::parse(args.bytes()?).ok_or(CmdError::Syntax)?;
    let destination = args.key()?;
    if operation == BitOp::Not && args.remaining() != 1 {
        return Err(CmdError::Text("ERR BITOP NOT must be called with a single source key."));
    }
    let keys = (0..args.remaining()).map(|_| args.key()).collect::<CmdResult<Vec<_>>>()?;
    // Counted, and those whose time is over deleted, one by one; then all are looked at together.
    keys.iter().try_for_each(|key| ctx.db.string(*key).map(drop))?;
    let mut digits = vec![itoa::Buffer::new(); keys.len()];
    let strings = keys.iter().map(|key| ctx.db.peek_string(*key));
    let sources: Vec<&[u8]> = strings
        .zip(&mut digits)
        .map(|(string, digits)| string.map_or(&[][..], |string| string.bytes(digits)))
        .collect();
    let result = bitmap::bitop(operation, &sources);
    let len = result.len();
    if len > 0 {
        ctx.db.set_raw_string(destination, result, Expiry::Clear);
        ctx.changed(destination, KeyspaceEvents::STRING, "set");
    } else if ctx.db.displace(destination) {
        ctx.deleted(destination);
    }
    ctx.reply.len(len);
    Ok(())
}

/// One operation of a BITFIELD.
#[derive(Clone, Copy)]
struct FieldOp {
    kind: FieldOpKind,
    field: FieldType,
    /// Of the field's first bit.
    offset: u64,
}

#[derive(Clone, Copy)]
enum FieldOpKind {
    Get,
    Set(i64, Overflow),
    IncrBy(i64, Overflow),
}

/// BITFIELD with nothing but GET only reads. What is no operation counts as one that writes.
fn bitfield_key_flags(argv: &[&[u8]]) -> u16 {
    let mut operations = argv.get(2..).unwrap_or_default();
    loop {
        operations = match operations {
            [] => return KEY_RO | KEY_ACCESS,
            [word, _, _, rest @ ..] if word.eq_ignore_ascii_case(b"get") => rest,
            [word, _, rest @ ..] if word.eq_ignore_ascii_case(b"overflow") => rest,
            _ => return KEY_RW | KEY_ACCESS | KEY_UPDATE,
        };
    }
}

/// `BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type offset increment
/// ...]`: an array with the value of each GET, the old value of each SET and the new one of each INCRBY; null where
/// FAIL held a write back. Source: Redis 7.2 BITFIELD. Unlike Redis, an offset `#n` that overflows is refused.
fn bitfield(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let operations = field_operations(ctx, args)?;
    let writes = operations.iter().filter(|operation| !matches!(operation.kind, FieldOpKind::Get));
    match writes.map(FieldOp::last_bit).max() {
        None => read_fields(ctx, key, &operations),
        Some(last_bit) => write_fields(ctx, key, &operations, last_bit),
    }
}

/// `BITFIELD_RO key [GET type offset ...]`: as BITFIELD. Source: Redis 7.2 BITFIELD_RO.
fn bitfield_ro(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let operations = field_operations(ctx, args)?;
    if operations.iter().any(|operation| !matches!(operation.kind, FieldOpKind::Get)) {
        return Err(CmdError::Text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(ctx, key, &operations)
}

fn read_fields(ctx: &mut Ctx, key: Key<'_>, operations: &[FieldOp]) -> CmdResult {
    let string = ctx.db.string(key)?;
    let mut digits = itoa::Buffer::new();
    let bytes = string.map_or(&[][..], |string| string.bytes(&mut digits));
    ctx.reply.array(operations.len());
    operations.iter().for_each(|operation| ctx.reply.integer(operation.field.read(bytes, operation.offset)));
    Ok(())
}

/// Runs operations of which the last bit written is `last_bit`: the string grows that far, whatever they do.
fn write_fields(ctx: &mut Ctx, key: Key<'_>, operations: &[FieldOp], last_bit: u64) -> CmdResult {
    let start = ctx.reply.begin();
    let reply = &mut *ctx.reply;
    let touched = operations.iter().map(|operation| byte_range(operation.offset, operation.last_bit()));
    let changes = ctx.db.edit_string(key, touched, |bytes| {
        let grew = bitmap::grow_to(bytes, last_bit);
        operations.iter().filter(|operation| operation.run(bytes, reply, grew)).count()
    })?;
    reply.end_array(start, operations.len());
    if changes > 0 {
        ctx.changed_by(changes, key, KeyspaceEvents::STRING, "setbit");
    }
    Ok(())
}

impl FieldOp {
    fn last_bit(&self) -> u64 {
        self.offset + u64::from(self.field.bits()) - 1
    }

    /// Runs the operation and answers; returns whether it counts as a change (any write does once the string `grew`).
    fn run(self, bytes: &mut [u8], reply: &mut Reply, grew: bool) -> bool {
        let old = self.field.read(bytes, self.offset);
        let (new, answer) = match self.kind {
            FieldOpKind::Get => {
                reply.integer(old);
                return false;
            }
            FieldOpKind::Set(value, overflow) => (self.field.fit_set(value, overflow), Some(old)),
            FieldOpKind::IncrBy(increment, overflow) => {
                let new = self.field.fit_incr(old, increment, overflow);
                (new, new)
            }
        };
        let Some((new, answer)) = new.zip(answer) else {
            reply.null();
            return false;
        };
        self.field.write(bytes, self.offset, new);
        reply.integer(answer);
        grew || old != new
    }
}

fn field_operations(ctx: &Ctx, args: &mut Args) -> CmdResult<Vec<FieldOp>> {
    let mut operations = Vec::with_capacity(args.remaining() / 3);
    let mut overflow = Overflow::Wrap;
    while !args.is_empty() {
        let remaining = args.remaining();
        let kind: fn(i64, Overflow) -> FieldOpKind = if remaining >= 3 && args.flag("GET") {
            |_, _| FieldOpKind::Get
        } else if remaining >= 4 && args.flag("SET") {
            FieldOpKind::Set
        } else if remaining >= 4 && args.flag("INCRBY") {
            FieldOpKind::IncrBy
        } else if remaining >= 2 && args.flag("OVERFLOW") {
            let modes = [Overflow::Wrap, Overflow::Sat, Overflow::Fail];
            let mode = args.one_of(&["WRAP", "SAT", "FAIL"]);
            overflow = modes[mode.ok_or(CmdError::Text("ERR Invalid OVERFLOW type specified"))?];
            continue;
        } else {
            return Err(CmdError::Syntax);
        };
        let field = FieldType::parse(args.bytes()?).ok_or(CmdError::Text(INVALID_TYPE))?;
        let offset = field_offset(ctx, args.bytes()?, field)?;
        let reads_only = matches!(kind(0, overflow), FieldOpKind::Get);
        let argument = if reads_only { 0 } else { args.int()? };
        operations.push(FieldOp { kind: kind(argument, overflow), field, offset });
    }
    Ok(operations)
}

/// A bit offset, or with `#` before it one in multiples of the field's width.
fn field_offset(ctx: &Ctx, text: &[u8], field: FieldType) -> CmdResult<u64> {
    let Some(index) = text.strip_prefix(b"#") else { return bit_offset(ctx, text) };
    let offset = number::parse_int(index).and_then(|index| index.checked_mul(i64::from(field.bits())));
    checked_offset(ctx, offset)
}

fn bit_offset(ctx: &Ctx, text: &[u8]) -> CmdResult<u64> {
    checked_offset(ctx, number::parse_int(text))
}

/// The bytes that hold these bits, both included.
fn byte_range(first_bit: u64, last_bit: u64) -> Range<usize> {
    (first_bit / 8) as usize..(last_bit / 8) as usize + 1
}

/// Refuses offsets behind the longest string a client may make; the log's were checked before.
fn checked_offset(ctx: &Ctx, offset: Option<i64>) -> CmdResult<u64> {
    let offset = offset.and_then(|offset| u64::try_from(offset).ok());
    offset
        .filter(|offset| ctx.origin == Origin::Log || offset / 8 < ctx.config.proto_max_bulk_len)
        .ok_or(CmdError::Text("ERR bit offset is not an integer or out of range"))
}

/// Reads `BYTE` or `BIT`, the last argument if there is one; whether it is BIT.
fn unit_is_bit(args: &mut Args) -> CmdResult<bool> {
    if args.is_empty() {
        return Ok(false);
    }
    let unit = args.one_of(&["BYTE", "BIT"]).ok_or(CmdError::Syntax)?;
    args.finish()?;
    Ok(unit == 1)
}

const INVALID_TYPE: &str =
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const BAD_OFFSET: &str = "-ERR bit offset is not an integer or out of range";

    #[test]
    fn setbit_and_getbit() {
        let mut c = Checker::new();
        c.check("SETBIT b 7 1", ":0");
        c.check("SETBIT b 7 0", ":1");
        c.check("SETBIT b 9 1", ":0");
        c.check("GET b", "\"\\x00@\"");
        c.check("GETBIT b 9", ":1");
        c.check("GETBIT b 100000", ":0");
        c.check("GETBIT none 1", ":0");
        c.check("SET n 12", "OK");
        c.check("GETBIT n 3", ":1");
        c.check("SETBIT n 7 1", ":1");
        c.check("SETBIT n 6 1", ":0");
        c.check("GET n", "\"32\"");
        c.check("SETBIT b -1 1", BAD_OFFSET);
        c.check("SETBIT b 4294967296 1", BAD_OFFSET);
        c.check("GETBIT b x", BAD_OFFSET);
        c.check("SETBIT b 1 2", "-ERR bit is not an integer or out of range");
        c.check("ZADD z 1 a", ":1");
        c.check("SETBIT z 1 1", WRONG_TYPE);
        c.check("GETBIT z 1", WRONG_TYPE);
    }

    #[test]
    fn bitcount() {
        let mut c = Checker::new();
        c.check("SET b foobar", "OK");
        c.check("BITCOUNT b", ":26");
        c.check("BITCOUNT b 1 1", ":6");
        c.check("BITCOUNT b 1 1 BYTE", ":6");
        c.check("BITCOUNT b 5 30 BIT", ":17");
        c.check("BITCOUNT b -2 -1", ":7");
        c.check("BITCOUNT b -1 -2", ":0");
        c.check("BITCOUNT b 0", "-ERR syntax error");
        c.check("BITCOUNT b 0 1 HEX", "-ERR syntax error");
        c.check("BITCOUNT b x 1", "-ERR value is not an integer or out of range");
        c.check("BITCOUNT none x", ":0");
    }

    #[test]
    fn bitpos() {
        let mut c = Checker::new();
        c.check("SET b \"\\xff\\xf0\\x00\"", "OK");
        c.check("BITPOS b 0", ":12");
        c.check("BITPOS b 1 2", ":-1");
        c.check("BITPOS b 1 7 15 BIT", ":7");
        c.check("BITPOS b 0 7 15 BIT", ":12");
        c.check("SET ones \"\\xff\\xff\"", "OK");
        c.check("BITPOS ones 0", ":16");
        c.check("BITPOS ones 0 1", ":16");
        c.check("BITPOS ones 0 0 -1", ":-1");
        c.check("BITPOS none 0", ":0");
        c.check("BITPOS none 1", ":-1");
        c.check("BITPOS b 2", "-ERR The bit argument must be 1 or 0.");
        c.check("BITPOS b 1 0 1 HEX", "-ERR syntax error");
        c.check("BITPOS b 1 0 1 BIT x", "-ERR syntax error");
    }

    #[test]
    fn bitop() {
        let mut c = Checker::new();
        c.check("MSET {t}a foobar {t}b abcd", "OK");
        c.check("BITOP AND {t}d {t}a {t}b {t}none", ":6");
        c.check("GET {t}d", "\"\\x00\\x00\\x00\\x00\\x00\\x00\"");
        c.check("BITOP or {t}d {t}a {t}b", ":6");
        c.check("GET {t}d", "\"goofar\"");
        c.check("BITOP XOR {t}d {t}a {t}a {t}b", ":6");
        c.check("GET {t}d", "\"abcd\\x00\\x00\"");
        c.check("BITOP NOT {t}d {t}b", ":4");
        c.check("BITOP NOT {t}d {t}none", ":0");
        c.check("EXISTS {t}d", ":0");
        c.check("BITOP NOT {t}d {t}a {t}b", "-ERR BITOP NOT must be called with a single source key.");
        c.check("BITOP NAND {t}d {t}a", "-ERR syntax error");
        c.check("ZADD {t}z 1 a", ":1");
        c.check("BITOP AND {t}d {t}a {t}z", WRONG_TYPE);
    }

    #[test]
    fn bitfield() {
        let mut c = Checker::new();
        c.check("BITFIELD b SET u8 0 255 GET i8 0 INCRBY u4 #1 2", "[:0, :-1, :1]");
        c.check("BITFIELD b GET u8 0 GET u63 4", "[:241, :576460752303423488]");
        c.check("BITFIELD b OVERFLOW SAT INCRBY u8 0 100 OVERFLOW FAIL INCRBY u8 0 1", "[:255, nil]");
        c.check("BITFIELD b OVERFLOW WRAP INCRBY u8 0 1 SET i8 0 -129", "[:0, :0]");
        c.check("BITFIELD b GET i8 0", "[:127]");
        c.check("BITFIELD i SET i64 0 9223372036854775807 INCRBY i64 0 1", "[:0, :-9223372036854775808]");
        c.check("BITFIELD b", "[]");
        c.check("BITFIELD_RO b GET u4 0", "[:7]");
        c.check("BITFIELD_RO none GET u4 0", "[:0]");
    }

    /// What a result would be stored under goes as it is, whether its time is over or not.
    #[test]
    fn nothing_to_store_deletes() {
        let mut c = Checker::with_lazy_expiry();
        let stores = [
            "BITOP NOT d none",
            "SINTERSTORE d none",
            "ZUNIONSTORE d 1 none",
            "ZRANGESTORE d none 0 1",
            "SORT none STORE d",
        ];
        for store in stores {
            c.check("SET d x EXAT 1", "OK");
            c.check(store, ":0");
            c.check("DBSIZE", ":0");
        }
        c.check_info("expired_keys", "0");
        c.expire_again();
    }

    #[test]
    fn bitfield_refuses() {
        let mut c = Checker::new();
        c.check("BITFIELD_RO b SET u4 0 1", "-ERR BITFIELD_RO only supports the GET subcommand");
        let bad_type =
            "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
        c.check("BITFIELD b GET u64 0", bad_type);
        c.check("BITFIELD b SET x8 0 1", bad_type);
        c.check("BITFIELD b GET u8 -1", BAD_OFFSET);
        c.check("BITFIELD b GET u8 #x", BAD_OFFSET);
        c.check("BITFIELD b SET u8 0 x", "-ERR value is not an integer or out of range");
        c.check("BITFIELD b OVERFLOW MAYBE SET u8 0 1", "-ERR Invalid OVERFLOW type specified");
        c.check("BITFIELD b SET u8 0", "-ERR syntax error");
        c.check_here("BITFIELD b SET i64 #1152921504606846976 1", BAD_OFFSET);
        c.check("EXISTS b", ":0");
    }

    /// As Redis 7.2.6 writes its AOF.
    #[test]
    fn the_log_gets_changes_only() {
        let mut c = Checker::new();
        let log = c.record();
        c.check("SETBIT b 7 1", ":0");
        c.check("SETBIT b 7 1", ":1");
        c.check("BITFIELD b SET u8 0 3", "[:1]");
        c.check("BITFIELD b SET u8 0 3", "[:3]");
        c.check("BITFIELD b GET u8 0", "[:3]");
        assert_eq!(log.take(), ["SETBIT b 7 1", "BITFIELD b SET u8 0 3"]);
    }
}
