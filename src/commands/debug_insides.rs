//! DEBUG subcommands that show how values and clients are stored, in Redis's forms.

use crate::clients::Client;
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::Session;
use crate::keyspace::value::{Entry, Value};
use redstart_types::encoding::listpack::Listpack;
use redstart_types::encoding::quicklist::Chunk;
use redstart_types::entry::Content;
use redstart_types::number;
use std::io::Write;

/// `DEBUG SDSLEN key`: status, lengths and bytes of a key and of the string it holds. The entry that holds a key holds a
/// short string, too: the key counts with all of it that is not the string. Errors: no such key; no string; an integer.
pub(super) fn sdslen(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    // Also one whose time is over, as long as it is there.
    let entry = ctx.db.shard_db(key).keys.get(key.hash, key.bytes).ok_or(CmdError::NoSuchKey)?;
    let (len, spare, bytes, inline) = match entry.content() {
        Content::Str(text) => (text.len(), 0, text.len(), text.len()),
        Content::Object(value @ Value::String(text)) => {
            let bytes = value.memory_bytes(1);
            (text.len(), bytes - text.len() - text.head_bytes(), bytes, 0)
        }
        Content::Int(_) | Content::Object(_) => return Err(CmdError::Text("ERR Not an sds encoded string.")),
    };
    ctx.reply.status(&format!(
        "key_sds_len:{}, key_sds_avail:0, key_zmalloc: {}, val_sds_len:{len}, val_sds_avail:{spare}, val_zmalloc: {bytes}",
        key.bytes.len(),
        entry.memory_bytes() - inline,
    ));
    Ok(())
}

/// `DEBUG STRUCTSIZE`: bulk string, sizes of what corresponds to structures of Redis: of a value that is neither short nor
/// a number (`robj`), of a key's share of a table (`dictentry`); strings have no head of their own (`sdshdr`). Sizes of what
/// a client takes follow.
pub(super) fn structsize(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let mut sizes = format!("bits:{} robj:{} dictentry:{TABLE_BYTES} ", usize::BITS, size_of::<Value>());
    for width in [5, 8, 16, 32, 64] {
        sizes += &format!("sdshdr{width}:0 ");
    }
    sizes += &format!("client:{} session:{} ", size_of::<Client>(), size_of::<Session>());
    ctx.reply.bulk(sizes.as_bytes());
    Ok(())
}

/// What a key takes in a full bucket: a pointer and a tag.
const TABLE_BYTES: usize = size_of::<Option<Entry>>() + 1;

/// `DEBUG LISTPACK key`: status; the bytes of the value are printed. Errors: no such key; no listpack.
pub(super) fn listpack(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let list = match ctx.db.peek(key).ok_or(CmdError::NoSuchKey)?.content() {
        Content::Object(Value::List(list)) => list.as_listpack(),
        Content::Object(Value::Hash(hash)) => hash.as_listpack(),
        Content::Object(Value::Set(set)) => set.as_listpack(),
        Content::Object(Value::ZSet(zset)) => zset.as_listpack(),
        _ => None,
    };
    let mut text = Vec::new();
    show_listpack(list.ok_or(CmdError::Text("ERR Not a listpack encoded object."))?, &mut text);
    print(ctx, &text);
    ctx.reply.status("Listpack structure printed on stdout");
    Ok(())
}

/// `DEBUG QUICKLIST key [0 | 1]`: status; the chunks of a list are printed, with 1 their bytes too. Errors: no such key; no
/// quicklist.
pub(super) fn quicklist(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    const NO_QUICKLIST: CmdError = CmdError::Text("ERR Not a quicklist encoded object.");
    let key = args.key()?;
    let is_full = args.optional().and_then(number::parse_int).unwrap_or(0) != 0;
    let entry = ctx.db.peek(key).ok_or(CmdError::NoSuchKey)?;
    let Content::Object(Value::List(list)) = entry.content() else { return Err(NO_QUICKLIST) };
    let chunks = list.as_quicklist().ok_or(NO_QUICKLIST)?;
    let head = format!(
        "{{count : {}}}\n{{len : {}}}\n{{fill : {}}}\n{{compress : {}}}\n{{bookmark_count : 0}}\n",
        chunks.len(),
        chunks.chunks().len(),
        ctx.config.list_max_listpack_size,
        ctx.config.list_compress_depth,
    );
    let mut text = head.into_bytes();
    for (idx, chunk) in chunks.chunks().enumerate() {
        show_chunk(chunk, idx, is_full, &mut text);
    }
    print(ctx, &text);
    ctx.reply.status("Quicklist structure printed on stdout");
    Ok(())
}

fn show_chunk(chunk: &Chunk, idx: usize, is_full: bool, text: &mut Vec<u8>) {
    let (container, bytes) = match chunk {
        Chunk::Packed(list) => ("PACKED", list.total_bytes()),
        Chunk::Plain(value) => ("PLAIN", value.len()),
    };
    let head = format!(
        "{{quicklist node({idx})\n{{container : {container}, encoding: RAW, size: {bytes}, count: {}, recompress: 0, \
         attempted_compress: 0}}\n",
        chunk.len()
    );
    text.extend_from_slice(head.as_bytes());
    if !is_full {
        return;
    }
    match chunk {
        Chunk::Packed(list) => {
            text.extend_from_slice(b"{ listpack:\n");
            show_listpack(list, text);
            text.extend_from_slice(b"}\n");
        }
        Chunk::Plain(value) => {
            text.extend_from_slice(b"{ entry : ");
            text.extend_from_slice(value);
            text.extend_from_slice(b" }\n");
        }
    }
    text.extend_from_slice(b"}\n");
}

fn show_listpack(list: &Listpack, text: &mut Vec<u8>) {
    const SHOWN: usize = 40;
    let head = format!("{{total bytes {}}} {{num entries {}}}\n", list.total_bytes(), list.len());
    text.extend_from_slice(head.as_bytes());
    for (index, entry) in list.layout().enumerate() {
        let place = format!(
            "{{\n\taddr: 0x{:08x},\n\tindex: {index:2},\n\toffset: {},\n\thdr+entrylen+backlen: {:2},\n\thdrlen: {:3},\n\
             \tbacklen: {:2},\n\tpayload: {}\n\tbytes: ",
            entry.bytes.as_ptr().addr(),
            entry.offset,
            entry.bytes.len(),
            entry.head_len,
            entry.backlen_len,
            entry.bytes.len() - entry.head_len - entry.backlen_len,
        );
        text.extend_from_slice(place.as_bytes());
        entry.bytes.iter().for_each(|byte| text.extend_from_slice(format!("{byte:02x}|").as_bytes()));
        text.extend_from_slice(b"\n\t[str]");
        let value = entry.element.to_vec();
        text.extend_from_slice(&value[..value.len().min(SHOWN)]);
        if value.len() > SHOWN {
            text.extend_from_slice(b"...");
        }
        text.extend_from_slice(b"\n}\n");
    }
    text.extend_from_slice(b"{end}\n\n");
}

/// To the standard output of a process that the server has to itself; into the log otherwise.
fn print(ctx: &Ctx, text: &[u8]) {
    if ctx.server.process.is_none() {
        return ctx.server.log.raw(&String::from_utf8_lossy(text));
    }
    let mut out = std::io::stdout().lock();
    // Nobody may be there to read it any more.
    let _ = out.write_all(text).and_then(|()| out.flush());
}

/// `DEBUG CLIENT-EVICTION`: verbatim text, how many clients take how much memory; in classes, of which Redis closes those of
/// the highest first. Error: `maxmemory-clients` is 0.
pub(super) fn client_eviction(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.server.clients.memory_limit().is_none() {
        return Err(CmdError::Text("ERR maxmemory-clients is disabled."));
    }
    let mut classes = [(0, 0); CLASSES];
    for client in ctx.server.clients.iter().filter(|client| !client.has(Client::NO_EVICT | Client::REPLICA)) {
        let bytes = client.memory();
        let (sum, count) = &mut classes[class_of(bytes)];
        *sum += bytes;
        *count += 1;
    }
    let mut text = String::new();
    for (class, (bytes, count)) in classes.into_iter().enumerate() {
        let least = if class == 0 { 0 } else { 1_u64 << (class + FIRST_BITS - 1) };
        let most = match class {
            LAST_CLASS => format!("{:13}", "+"),
            _ => format!(" - {:10}", (1_u64 << (class + FIRST_BITS)) - 1),
        };
        text += &format!("bucket {least:10}{most}: tot-mem: {bytes:10}, clients: {count}\n");
    }
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Sizes of fewer bits are in the first class, those of more than [`LAST_BITS`] in the last. Source: Redis 7.2.
const FIRST_BITS: usize = 15;
const LAST_BITS: usize = 33;
const LAST_CLASS: usize = LAST_BITS - FIRST_BITS;
const CLASSES: usize = LAST_CLASS + 1;

fn class_of(bytes: usize) -> usize {
    let bits = (usize::BITS - bytes.leading_zeros()) as usize;
    bits.clamp(FIRST_BITS, LAST_BITS) - FIRST_BITS
}
