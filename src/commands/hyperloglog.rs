//! HyperLogLogs: how many different elements, in a string of at most 12 KiB.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use redstart_types::hyperloglog::{self, Corrupted, Encoding, Registers};
use std::ops::Range;

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::new("pfadd", -2, pfadd)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HYPERLOGLOG)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_INSERT)])
        .since("2.8.9"),
    Command::new("pfcount", -2, pfcount)
        .flags(MAY_REPLICATE | READONLY)
        .acl(acl::HYPERLOGLOG)
        .keys(&[KeySpec::at(1)
            .range(-1, 1, 0)
            .flags(KEY_RW | KEY_ACCESS)
            .notes("RW because it may change the internal representation of the key, and propagate to replicas")])
        .since("2.8.9"),
    Command::new("pfdebug", 3, pfdebug)
        .flags(WRITE | DENYOOM | ADMIN)
        .acl(acl::HYPERLOGLOG)
        .keys(&[KeySpec::at(2).flags(KEY_RW | KEY_ACCESS)])
        .since("2.8.9"),
    Command::new("pfmerge", -2, pfmerge)
        .flags(WRITE | DENYOOM)
        .acl(acl::HYPERLOGLOG)
        .keys(&[
            KeySpec::at(1).flags(KEY_RW | KEY_ACCESS | KEY_INSERT),
            KeySpec::at(2).range(-1, 1, 0).flags(KEY_RO | KEY_ACCESS),
        ])
        .since("2.8.9"),
    Command::new("pfselftest", 1, pfselftest).flags(ADMIN).acl(acl::HYPERLOGLOG).since("2.8.9"),
];

/// Any byte of a value may change.
const WHOLE: Option<Range<usize>> = Some(0..usize::MAX);

const NOT_A_HYPERLOGLOG: CmdError = CmdError::Text("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupted> for CmdError {
    fn from(_: Corrupted) -> Self {
        CmdError::Text("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// `PFADD key [element ...]`: integer reply, 1 if the estimate may have changed or the key is new, else 0.
/// Source: Redis 7.2 PFADD.
fn pfadd(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let sparse_max_bytes = ctx.config.hll_sparse_max_bytes;
    let is_new = encoding(ctx, key)?.is_none();
    let changes = ctx.db.edit_string(key, WHOLE, |bytes| {
        if is_new {
            *bytes = hyperloglog::create();
        }
        let mut changes = usize::from(is_new);
        for element in args.rest() {
            changes += usize::from(hyperloglog::add(bytes, element, sparse_max_bytes)?);
        }
        if changes > 0 {
            hyperloglog::invalidate_cache(bytes);
        }
        Ok::<_, Corrupted>(changes)
    })??;
    if changes > 0 {
        ctx.changed_by(changes, key, KeyspaceEvents::STRING, "pfadd");
    }
    ctx.reply.integer(i64::from(changes > 0));
    Ok(())
}

/// `PFCOUNT key [key ...]`: integer reply, the estimated number of different elements of all keys together. For a
/// single key the estimate is kept in the value. Source: Redis 7.2 PFCOUNT.
fn pfcount(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 1 {
        let union = union(ctx, args)?;
        ctx.reply.integer(union.registers.estimate() as i64);
        return Ok(());
    }
    let key = args.key()?;
    if ctx.db.read(key).is_none() {
        ctx.reply.integer(0);
        return Ok(());
    }
    encoding(ctx, key)?;
    let (cardinality, is_cached) = ctx.db.edit_string(key, WHOLE, |bytes| {
        if let Some(cached) = hyperloglog::cached_cardinality(bytes) {
            return Ok((cached, true));
        }
        let cardinality = hyperloglog::estimate(bytes)?;
        hyperloglog::store_cardinality(bytes, cardinality);
        Ok::<_, Corrupted>((cardinality, false))
    })??;
    if !is_cached {
        // The value has changed, but no event says so.
        ctx.db.effects.dirty += 1;
        ctx.db.touched(key);
    }
    ctx.reply.integer(cardinality as i64);
    Ok(())
}

/// `PFMERGE dst [key ...]`: OK; `dst` now estimates what it and all keys have together. Source: Redis 7.2 PFMERGE.
fn pfmerge(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let sparse_max_bytes = ctx.config.hll_sparse_max_bytes;
    let destination = args.clone().key()?;
    let union = union(ctx, args)?;
    let is_new = ctx.db.peek(destination).is_none();
    ctx.db.edit_string(destination, WHOLE, |bytes| {
        if is_new {
            *bytes = hyperloglog::create();
        }
        if union.any_dense {
            hyperloglog::to_dense(bytes)?;
        }
        union.registers.store_into(bytes, sparse_max_bytes)
    })??;
    ctx.changed(destination, KeyspaceEvents::STRING, "pfadd");
    ctx.reply.ok();
    Ok(())
}

/// `PFDEBUG GETREG | DECODE | ENCODING | TODENSE key`: an array of the 16384 registers (a sparse value becomes dense),
/// the runs of a sparse value as text, its encoding as a status, or 1 if it became dense and 0 if it was.
/// Source: Redis 7.2 PFDEBUG.
fn pfdebug(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let subcommand = args.bytes()?;
    let key = args.key()?;
    let encoding = encoding(ctx, key)?.ok_or(CmdError::Text("ERR The specified key does not exist"))?;
    match subcommand.to_ascii_lowercase().as_slice() {
        b"getreg" => {
            make_dense(ctx, key, encoding)?;
            let mut registers = Registers::default();
            ctx.db.edit_string(key, WHOLE, |bytes| registers.merge(bytes))??;
            ctx.reply.array(registers.iter().len());
            registers.iter().for_each(|register| ctx.reply.integer(i64::from(register)));
        }
        b"decode" if encoding == Encoding::Dense => return Err(CmdError::Text("ERR HLL encoding is not sparse")),
        b"decode" => {
            let runs = ctx.db.edit_string(key, WHOLE, |bytes| hyperloglog::decode(bytes))??;
            ctx.reply.bulk(runs.as_bytes());
        }
        b"encoding" => ctx.reply.status(encoding.name()),
        b"todense" => {
            make_dense(ctx, key, encoding)?;
            ctx.reply.integer(i64::from(encoding == Encoding::Sparse));
        }
        _ => return Err(CmdError::quoting("ERR Unknown PFDEBUG subcommand '{}'", &[subcommand])),
    }
    Ok(())
}

/// `PFSELFTEST`: OK when estimates are as near as they should be and do not depend on the encoding.
/// Source: Redis 7.2 PFSELFTEST, which takes a hundred times as many elements.
fn pfselftest(ctx: &mut Ctx, _: &mut Args) -> CmdResult {
    let (seed, sparse_max_bytes) = (ctx.server.random.next_u64(), ctx.config.hll_sparse_max_bytes);
    let (mut sparse, mut dense) = (hyperloglog::create(), hyperloglog::create());
    hyperloglog::to_dense(&mut dense)?;
    let mut checkpoint = 1;
    for number in 1..=SELF_TEST_ELEMENTS {
        let element = (number ^ seed).to_le_bytes();
        hyperloglog::add(&mut sparse, &element, sparse_max_bytes)?;
        hyperloglog::add(&mut dense, &element, sparse_max_bytes)?;
        if number < checkpoint {
            continue;
        }
        let estimates = (hyperloglog::estimate(&sparse)?, hyperloglog::estimate(&dense)?);
        if estimates.0 != estimates.1 {
            return Err(CmdError::Text("ERR TESTFAILED dense/sparse disagree"));
        }
        let error = estimates.0.abs_diff(checkpoint);
        // Six standard errors of 1.04 / sqrt(16384).
        if error as f64 > (6.0 * 1.04 / 128.0 * checkpoint as f64).ceil() {
            let text = format!("ERR TESTFAILED Too big error. card:{checkpoint} abserr:{error}");
            return Err(CmdError::owned(text));
        }
        checkpoint *= 10;
    }
    ctx.reply.ok();
    Ok(())
}

/// The encoding of the HyperLogLog at a key; `None` without a key, an error for any other value.
fn encoding(ctx: &mut Ctx, key: Key<'_>) -> CmdResult<Option<Encoding>> {
    if ctx.db.write(key).is_none() {
        return Ok(None);
    }
    let string = ctx.db.peek_string(key).ok_or(CmdError::WrongType)?;
    let encoding = hyperloglog::encoding(string.bytes(&mut itoa::Buffer::new()));
    encoding.map(Some).ok_or(NOT_A_HYPERLOGLOG)
}

/// Several HyperLogLogs as one.
struct Union {
    registers: Registers,
    any_dense: bool,
}

/// The union of all keys left in the arguments; keys that do not exist have no elements.
fn union(ctx: &mut Ctx, args: &mut Args) -> CmdResult<Union> {
    let mut union = Union { registers: Registers::default(), any_dense: false };
    while !args.is_empty() {
        let Some(string) = ctx.db.string(args.key()?)? else { continue };
        let mut digits = itoa::Buffer::new();
        let bytes = string.bytes(&mut digits);
        let encoding = hyperloglog::encoding(bytes).ok_or(NOT_A_HYPERLOGLOG)?;
        union.any_dense |= encoding == Encoding::Dense;
        union.registers.merge(bytes)?;
    }
    Ok(union)
}

/// Makes a sparse value dense, which the log is told.
fn make_dense(ctx: &mut Ctx, key: Key<'_>, encoding: Encoding) -> CmdResult {
    if encoding == Encoding::Sparse {
        ctx.db.edit_string(key, WHOLE, hyperloglog::to_dense)??;
        ctx.db.effects.dirty += 1;
    }
    Ok(())
}

const SELF_TEST_ELEMENTS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    const NO_HLL: &str = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
    const CORRUPTED: &str = "-INVALIDOBJ Corrupted HLL object detected";

    #[test]
    fn pfadd_and_pfcount() {
        let mut c = Checker::new();
        c.check("PFADD h", ":1");
        c.check("PFADD h", ":0");
        c.check("PFADD h a b c", ":1");
        c.check("PFADD h a b c", ":0");
        c.check("PFCOUNT h", ":3");
        c.check(
            "GET h",
            "\"HYLL\\x01\\x00\\x00\\x00\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00`\\xf3\\x80P\\xb1\\x84K\\xfb\\x80BZ\"",
        );
        c.check("PFCOUNT none", ":0");
        c.check("PFADD {h}2 c d", ":1");
        c.check("PFCOUNT {h}2 none{h} h", ":4");
    }

    #[test]
    fn pfmerge() {
        let mut c = Checker::new();
        c.check("PFADD {h}1 a b c", ":1");
        c.check("PFADD {h}2 c d", ":1");
        c.check("PFMERGE {h}3 {h}1 {h}2 {h}none", "OK");
        c.check("PFCOUNT {h}3", ":4");
        c.check("PFDEBUG ENCODING {h}3", "sparse");
        c.check("PFMERGE {h}1", "OK");
        c.check("PFDEBUG TODENSE {h}2", ":1");
        c.check("PFMERGE {h}3 {h}2", "OK");
        c.check("PFDEBUG ENCODING {h}3", "dense");
        c.check("PFCOUNT {h}3", ":4");
    }

    #[test]
    fn pfdebug() {
        let mut c = Checker::new();
        c.check("PFDEBUG ENCODING h", "-ERR The specified key does not exist");
        c.check("PFADD h a b c", ":1");
        c.check("PFDEBUG DECODE h", "\"Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603\"");
        c.check("PFDEBUG NONSENSE h", "-ERR Unknown PFDEBUG subcommand 'NONSENSE'");
        let registers = c.run("PFDEBUG GETREG h");
        assert_eq!(registers.matches(':').count(), 16384);
        c.check("PFDEBUG ENCODING h", "dense");
        c.check("PFDEBUG TODENSE h", ":0");
        c.check("PFDEBUG DECODE h", "-ERR HLL encoding is not sparse");
    }

    #[test]
    fn other_values_are_refused() {
        let mut c = Checker::new();
        c.check("SET s HYLLnonsense", "OK");
        c.check("PFADD s a", NO_HLL);
        c.check("PFCOUNT s", NO_HLL);
        c.check("PFMERGE s s", NO_HLL);
        c.check("SET s 12", "OK");
        c.check("PFCOUNT s s", NO_HLL);
        c.check("ZADD z 1 a", ":1");
        c.check("PFADD z a", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }

    /// CVE-2019-10192 and CVE-2025-32023.
    #[test]
    fn damaged_values_are_refused() {
        let mut c = Checker::new();
        for runs in ["\\x7f\\xfe", "\\x7f\\xff\\x7f\\xff\\x80", "\\x00"] {
            let header = "HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80";
            c.check(&format!("SET h \"{header}{runs}\""), "OK");
            c.check("PFCOUNT h", CORRUPTED);
            c.check("PFCOUNT h h", CORRUPTED);
            c.check("PFMERGE h", CORRUPTED);
            c.check("PFDEBUG GETREG h", CORRUPTED);
        }
    }

    #[test]
    fn pfselftest() {
        Checker::new().check_here("PFSELFTEST", "OK");
    }

    /// As Redis 7.2.6 writes its AOF.
    #[test]
    fn the_log_gets_changes_only() {
        let mut c = Checker::new();
        let log = c.record();
        c.check("PFADD h a", ":1");
        c.check("PFADD h a", ":0");
        c.check("PFCOUNT h", ":1");
        c.check("PFCOUNT h", ":1");
        c.run("PFDEBUG GETREG h");
        assert_eq!(log.take(), ["PFADD h a", "PFCOUNT h", "PFDEBUG GETREG h"]);
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.run("PFADD p a");
        c.check(r#"PFDEBUG "\xff" p"#, r"-ERR Unknown PFDEBUG subcommand '\xff'");
    }
}
