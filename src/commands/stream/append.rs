//! The log itself: XADD, XTRIM, XDEL, XSETID, XLEN.

use super::{parse_ids, reply_count, reply_id};
use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::config::{Config, KeyspaceEvents};
use redstart_types::number;
use redstart_types::stream::{AddError, Entries, NewId, NodeLimits, SetIdError, Stream, StreamId, Trim};

/// The options of XADD and XTRIM.
#[derive(Debug, Default)]
struct Options {
    trim: Option<TrimOption>,
    /// LIMIT: the most entries to remove.
    limit: Option<u64>,
    no_mkstream: bool,
    /// The ID of the new entry and its place in argv (XADD).
    id: Option<(NewId, usize)>,
}

/// MAXLEN or MINID, with what belongs to it.
#[derive(Debug)]
struct TrimOption {
    what: Trim,
    /// `~`: whole nodes only.
    approx: bool,
    /// The most entries to remove, 0 for all.
    limit: u64,
    /// Where in argv the threshold is; `~` or `=`, if given, stands before it.
    threshold_at: usize,
}

/// `XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]`:
/// bulk string, the ID of the new entry; null if NOMKSTREAM kept the key from being made.
/// The log gets the ID given out and, for `~`, the length or first ID that trimming left.
/// Source: Redis 7.2 XADD.
pub(super) fn xadd(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let argv = args.argv();
    let key = args.key()?;
    let options = Options::parse(argv, true)?.checked(ctx, true)?;
    let (wanted, id_at) = options.id.ok_or_else(|| args.arity_error())?;
    let fields = &argv[id_at + 1..];
    if fields.is_empty() || fields.len() % 2 == 1 {
        return Err(args.arity_error());
    }
    if wanted == NewId::Exact(StreamId::MIN) {
        return Err(CmdError::Text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let mut created = None;
    let stream = match ctx.db.write_as::<Stream>(key)? {
        Some(stream) => stream,
        None if options.no_mkstream => {
            ctx.reply.null();
            return Ok(());
        }
        None => created.insert(Stream::new()),
    };
    let pairs = fields.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let id = stream.entries.add(wanted, ctx.now_ms.cast_unsigned(), pairs, node_limits(ctx.config))?;
    let trimmed = options.trim.as_ref().map_or(0, |trim| trim.apply(&mut stream.entries));
    let left = options.trim.filter(|trim| trim.approx).map(|trim| trim.left(&stream.entries));
    if let Some(stream) = created {
        ctx.db.write_or_insert(key, || stream)?;
    }
    reply_id(ctx.reply, id);
    ctx.changed(key, KeyspaceEvents::STREAM, "xadd");
    ctx.db.wake(key);
    if trimmed > 0 {
        ctx.db.notify(KeyspaceEvents::STREAM, "xtrim", key);
    }
    propagate_exact(ctx, argv, left, Some((id_at, id)));
    Ok(())
}

/// `XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT count]`: integer reply, the entries removed.
/// Source: Redis 7.2 XTRIM.
pub(super) fn xtrim(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let argv = args.argv();
    let key = args.key()?;
    let options = Options::parse(argv, false)?.checked(ctx, false)?;
    let (Some(stream), Some(trim)) = (ctx.db.write_as::<Stream>(key)?, options.trim) else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let trimmed = trim.apply(&mut stream.entries);
    let left = trim.approx.then(|| trim.left(&stream.entries));
    if trimmed > 0 {
        ctx.changed_by(trimmed as usize, key, KeyspaceEvents::STREAM, "xtrim");
        propagate_exact(ctx, argv, left, None);
    }
    reply_count(ctx.reply, trimmed);
    Ok(())
}

/// `XDEL key id [id ...]`: integer reply, the entries deleted. The stream stays, even without entries.
/// Source: Redis 7.2 XDEL.
pub(super) fn xdel(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let deleted = stream.entries.delete(parse_ids(args.rest())?);
    if deleted > 0 {
        ctx.changed_by(deleted as usize, key, KeyspaceEvents::STREAM, "xdel");
    }
    reply_count(ctx.reply, deleted);
    Ok(())
}

/// `XSETID key last-id [ENTRIESADDED count] [MAXDELETEDID id]`: `+OK`. Source: Redis 7.2 XSETID.
pub(super) fn xsetid(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let last_id = StreamId::parse(args.bytes()?, 0)?;
    let (mut added, mut max_deleted_id) = (None, None);
    while !args.is_empty() {
        if args.flag("ENTRIESADDED") {
            let count = u64::try_from(args.int()?);
            added = Some(count.map_err(|_| CmdError::Text("ERR entries_added must be positive"))?);
        } else if args.flag("MAXDELETEDID") {
            let id = StreamId::parse(args.bytes()?, 0)?;
            if last_id < id {
                return Err(CmdError::Text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            max_deleted_id = Some(id);
        } else {
            return Err(CmdError::Syntax);
        }
    }
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(CmdError::NoSuchKey)?;
    stream.entries.set_id(last_id, added, max_deleted_id)?;
    ctx.reply.ok();
    super::changed_group(ctx, 1);
    ctx.db.notify(KeyspaceEvents::STREAM, "xsetid", key);
    Ok(())
}

/// `XLEN key`: integer reply, the number of entries. Source: Redis 7.2 XLEN.
pub(super) fn xlen(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let len = ctx.db.read_as::<Stream>(args.key()?)?.map_or(0, |stream| stream.entries.len());
    reply_count(ctx.reply, len);
    Ok(())
}

impl Options {
    /// Reads argv from behind the key; XADD's options stop at the ID.
    fn parse(argv: &[&[u8]], is_xadd: bool) -> CmdResult<Options> {
        let mut options = Options::default();
        let mut at = 2;
        while at < argv.len() && options.id.is_none() {
            let option = argv[at];
            let has_more = at + 1 < argv.len();
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            if has_more && (is("MAXLEN") || is("MINID")) {
                if options.trim.is_some() {
                    return Err(CmdError::Text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let trim = TrimOption::parse(argv, at)?;
                at = trim.threshold_at;
                options.trim = Some(trim);
            } else if has_more && is("LIMIT") {
                at += 1;
                options.limit = Some(not_negative(argv[at], "ERR The LIMIT argument must be >= 0.")?);
            } else if is_xadd && is("NOMKSTREAM") {
                options.no_mkstream = true;
            } else if is_xadd {
                options.id = Some((NewId::parse(option)?, at));
            } else {
                return Err(CmdError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// Refuses options that do not go together, and settles how much a `~` may remove. What comes from the log was
    /// made exact and has no limit.
    fn checked(mut self, ctx: &Ctx, is_xadd: bool) -> CmdResult<Options> {
        if self.trim.is_none() && self.limit.is_some_and(|limit| limit > 0) {
            return Err(CmdError::Text(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if self.trim.is_none() && !is_xadd {
            return Err(CmdError::Text("ERR syntax error, XTRIM must be called with a trimming strategy"));
        }
        if ctx.origin == Origin::Log {
            return Ok(self);
        }
        let approx = self.trim.as_ref().is_some_and(|trim| trim.approx);
        if self.limit.is_some() && !approx {
            return Err(CmdError::Text("ERR syntax error, LIMIT cannot be used without the special ~ option"));
        }
        if let Some(trim) = self.trim.as_mut().filter(|trim| trim.approx) {
            trim.limit = self.limit.unwrap_or_else(|| default_limit(ctx.config));
        }
        Ok(self)
    }
}

impl TrimOption {
    /// Reads `MAXLEN | MINID [= | ~] threshold`, of which the first is at `at` and has something behind it.
    fn parse(argv: &[&[u8]], at: usize) -> CmdResult<TrimOption> {
        let has_mark = at + 2 < argv.len() && matches!(argv[at + 1], b"~" | b"=");
        let threshold_at = if has_mark { at + 2 } else { at + 1 };
        let threshold = argv[threshold_at];
        let what = match argv[at].eq_ignore_ascii_case(b"MAXLEN") {
            true => Trim::MaxLen(not_negative(threshold, "ERR The MAXLEN argument must be >= 0.")?),
            false => Trim::MinId(StreamId::parse(threshold, 0)?),
        };
        Ok(TrimOption { what, approx: has_mark && argv[at + 1] == b"~", limit: 0, threshold_at })
    }

    fn apply(&self, entries: &mut Entries) -> u64 {
        entries.trim(self.what, self.approx, self.limit)
    }

    /// The exact threshold that leaves what this trimming left, and its place in argv.
    fn left(&self, entries: &Entries) -> (usize, Vec<u8>) {
        let threshold = match self.what {
            Trim::MaxLen(_) => entries.len().to_string().into_bytes(),
            Trim::MinId(_) => entries.front_id().text().to_vec(),
        };
        (self.threshold_at, threshold)
    }
}

impl From<AddError> for CmdError {
    fn from(error: AddError) -> Self {
        CmdError::Text(match error {
            AddError::Exhausted => "ERR The stream has exhausted the last possible ID, unable to add more items",
            AddError::NotGreater => "ERR The ID specified in XADD is equal or smaller than the target stream top item",
            AddError::TooLarge => "ERR Elements are too large to be stored",
        })
    }
}

impl From<SetIdError> for CmdError {
    fn from(error: SetIdError) -> Self {
        CmdError::Text(match error {
            SetIdError::BelowMaxDeleted => {
                "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"
            }
            SetIdError::BelowLastEntry => "ERR The ID specified in XSETID is smaller than the target stream top item",
            SetIdError::AddedBelowLen => {
                "ERR The entries_added specified in XSETID is smaller than the target stream length"
            }
        })
    }
}

/// Says in the log what was done rather than what was asked: the threshold that approximate trimming came to, and the
/// ID given out. Without either, the log gets the command as it is.
fn propagate_exact(ctx: &mut Ctx, argv: &[&[u8]], threshold: Option<(usize, Vec<u8>)>, id: Option<(usize, StreamId)>) {
    if !ctx.db.effects.recording {
        return;
    }
    let mut exact = argv.to_vec();
    if let Some((threshold_at, threshold)) = &threshold {
        exact[threshold_at - 1] = b"=";
        exact[*threshold_at] = threshold;
    }
    let id = id.map(|(id_at, id)| (id_at, id.text()));
    if let Some((id_at, id)) = &id {
        exact[*id_at] = id;
    }
    ctx.propagate_as(&exact);
}

/// The most entries that `~` removes without LIMIT: those of 100 nodes.
fn default_limit(config: &Config) -> u64 {
    match config.stream_node_max_entries.cast_unsigned().saturating_mul(100) {
        0 => 10_000,
        limit => limit.min(1_000_000),
    }
}

fn node_limits(config: &Config) -> NodeLimits {
    NodeLimits { max_bytes: config.stream_node_max_bytes, max_entries: config.stream_node_max_entries.cast_unsigned() }
}

fn not_negative(arg: &[u8], error: &'static str) -> CmdResult<u64> {
    let count = number::parse_int(arg).ok_or(CmdError::NotAnInteger)?;
    u64::try_from(count).map_err(|_| CmdError::Text(error))
}
