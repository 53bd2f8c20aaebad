//! SORT and SORT_RO: the elements of a list, set or sorted set, ordered by themselves or by other keys.

use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::permission;
use crate::command::spec::{
    Command, DENYOOM, KEY_ACCESS, KEY_OW, KEY_RO, KEY_UPDATE, KeySpec, MOVABLEKEYS, READONLY, Scope, WRITE, acl,
};
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::keyspace::db::Expiry;
use crate::keyspace::limits;
use crate::keyspace::value::Value;
use redstart_types::encoding::listpack::Element;
use redstart_types::entry::Content;
use redstart_types::hash::Hash;
use redstart_types::list::{End, List};
use redstart_types::number;
use std::cmp::Ordering;
use std::ops::Range;

/// The family's part of the command table.
pub const COMMANDS: &[Command] = &[
    Command::new("sort", -2, sort)
        .flags(WRITE | DENYOOM | MOVABLEKEYS)
        .acl(acl::SET | acl::SORTEDSET | acl::LIST | acl::DANGEROUS)
        .keys(&[
            SOURCE,
            PATTERNS,
            KeySpec::unknown().flags(KEY_OW | KEY_UPDATE).notes(
                "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in \
                 the argument array",
            ),
        ])
        .find_keys(sort_keys)
        .scope(Scope::AllShards),
    Command::new("sort_ro", -2, sort_ro)
        .flags(READONLY | MOVABLEKEYS)
        .acl(acl::SET | acl::SORTEDSET | acl::LIST | acl::DANGEROUS)
        .keys(&[SOURCE, PATTERNS])
        .scope(Scope::AllShards)
        .since("7.0.0"),
];

const SOURCE: KeySpec = KeySpec::at(1).flags(KEY_RO | KEY_ACCESS);
const PATTERNS: KeySpec = KeySpec::unknown().flags(KEY_RO | KEY_ACCESS).notes(
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key \
     we sort",
);

/// What a SORT asks for.
#[derive(Debug, Default)]
struct Request<'a> {
    by: Option<Pattern<'a>>,
    get: Vec<Pattern<'a>>,
    descending: bool,
    /// Compare texts, not numbers.
    alpha: bool,
    /// Leave the elements as they are: BY names no other keys.
    unsorted: bool,
    /// LIMIT: offset and count, the latter negative for all.
    limit: (i64, i64),
    store: Option<&'a [u8]>,
}

/// A BY or GET pattern, which names a value for each element.
#[derive(Debug, Clone, Copy)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// `prefix*suffix`, or `prefix*suffix->field` for a field of a hash.
    Key { prefix: &'a [u8], suffix: &'a [u8], field: Option<&'a [u8]> },
    /// A pattern without `*` names nothing.
    Nothing,
}

/// What an element is ordered by.
#[derive(Debug)]
enum Weight {
    Score(f64),
    /// None, for a missing key, comes first.
    Text(Option<Vec<u8>>),
    /// The element's own text.
    Own,
}

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE dest]`:
/// array of elements, or of what the GET patterns name (null where there is nothing); with STORE, integer reply, the
/// length of the list stored. Texts are compared byte by byte, as Redis does in the C locale.
/// Source: Redis 7.2 SORT.
fn sort(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let request = Request::parse(ctx, args, true)?;
    run(ctx, args, key, request)
}

/// `SORT_RO key ...`: SORT without STORE. Source: Redis 7.2 SORT_RO.
fn sort_ro(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let request = Request::parse(ctx, args, false)?;
    run(ctx, args, key, request)
}

fn run(ctx: &mut Ctx, args: &Args, key: Key, mut request: Request) -> CmdResult {
    let mut elements = request.load(ctx, key)?;
    let range = request.range(elements.len());
    if !request.unsorted {
        let mut weighted = Vec::with_capacity(elements.len());
        for element in elements {
            let weight = request.weigh(ctx, args, &element)?;
            weighted.push((element, weight));
        }
        let descending = request.descending;
        weighted.sort_by(|a, b| if descending { compare(b, a) } else { compare(a, b) });
        elements = weighted.into_iter().map(|(element, _)| element).collect();
    }
    match request.store {
        Some(destination) => store(ctx, args, &request, destination, &elements[range]),
        None => reply(ctx, args, &request, &elements[range]),
    }
    Ok(())
}

fn reply(ctx: &mut Ctx, args: &Args, request: &Request, elements: &[Vec<u8>]) {
    ctx.reply.array(elements.len() * request.get.len().max(1));
    for element in elements {
        if request.get.is_empty() {
            ctx.reply.bulk(element);
        }
        for pattern in &request.get {
            let value = pattern.look_up(ctx, args, element);
            ctx.reply.bulk_or_null(value.as_deref());
        }
    }
}

fn store(ctx: &mut Ctx, args: &Args, request: &Request, destination: &[u8], elements: &[Vec<u8>]) {
    let limits = limits::list(ctx.config);
    let mut list = List::new();
    for element in elements {
        if request.get.is_empty() {
            list.push(End::Tail, element, &limits);
        }
        for pattern in &request.get {
            let value = pattern.look_up(ctx, args, element).unwrap_or_default();
            list.push(End::Tail, &value, &limits);
        }
    }
    let (key, len) = (args.as_key(destination), list.len());
    if len > 0 {
        ctx.db.set_value(key, Value::List(list), Expiry::Clear);
        ctx.changed_by(len, key, KeyspaceEvents::LIST, "sortstore");
    } else if ctx.db.displace(key) {
        ctx.deleted(key);
    }
    ctx.reply.len(len);
}

impl<'a> Request<'a> {
    fn parse(ctx: &Ctx, args: &mut Args<'a>, may_store: bool) -> CmdResult<Self> {
        // Which keys BY and GET name is known only from the elements.
        let reads_all_keys = permission::reads_all_keys(ctx.session, ctx.command, args.argv());
        let mut request = Request { limit: (0, -1), ..Request::default() };
        while !args.is_empty() {
            let more = args.remaining() - 1;
            if args.flag("ASC") {
                request.descending = false;
            } else if args.flag("DESC") {
                request.descending = true;
            } else if args.flag("ALPHA") {
                request.alpha = true;
            } else if more >= 2 && args.flag("LIMIT") {
                request.limit = (args.int()?, args.int()?);
            } else if may_store && more >= 1 && args.flag("STORE") {
                request.store = Some(args.bytes()?);
            } else if more >= 1 && args.flag("BY") {
                let text = args.bytes()?;
                let pattern = Pattern::parse(text);
                if text.contains(&b'*') && !reads_all_keys {
                    return Err(CmdError::Text("ERR BY option of SORT denied due to insufficient ACL permissions."));
                }
                // Once a BY says not to sort, a later one does not take that back.
                request.unsorted |= !matches!(pattern, Pattern::Key { .. });
                request.by = Some(pattern);
            } else if more >= 1 && args.flag("GET") {
                if !reads_all_keys {
                    return Err(CmdError::Text("ERR GET option of SORT denied due to insufficient ACL permissions."));
                }
                request.get.push(Pattern::parse(args.bytes()?));
            } else {
                return Err(CmdError::Syntax);
            }
        }
        Ok(request)
    }

    /// The elements in the order their type keeps them in. Those of a set, which has none, get one all the same where
    /// the result must not depend on the server: when it is stored, and in scripts.
    fn load(&mut self, ctx: &mut Ctx, key: Key) -> CmdResult<Vec<Vec<u8>>> {
        let Some(entry) = ctx.db.read(key) else { return Ok(Vec::new()) };
        let Content::Object(value) = entry.content() else { return Err(CmdError::WrongType) };
        let mut elements: Vec<Vec<u8>> = match value {
            Value::List(list) => list.iter().map(Element::to_vec).collect(),
            Value::ZSet(zset) => zset.iter().map(|entry| entry.member.to_vec()).collect(),
            Value::Set(set) => {
                if self.unsorted && (self.store.is_some() || ctx.origin == Origin::Script) {
                    (self.unsorted, self.alpha, self.by) = (false, true, None);
                }
                return Ok(set.iter().map(Element::to_vec).collect());
            }
            _ => return Err(CmdError::WrongType),
        };
        if self.unsorted && self.descending {
            elements.reverse();
        }
        Ok(elements)
    }

    /// Which of `len` elements LIMIT leaves.
    fn range(&self, len: usize) -> Range<usize> {
        let (offset, count) = self.limit;
        let start = usize::try_from(offset.max(0)).map_or(len, |offset| offset.min(len));
        let count = usize::try_from(count).map_or(len, |count| count.min(len));
        start..(start + count).min(len)
    }

    fn weigh(&self, ctx: &mut Ctx, args: &Args, element: &[u8]) -> CmdResult<Weight> {
        let Some(by) = self.by else {
            return if self.alpha { Ok(Weight::Own) } else { number_of(element).map(Weight::Score) };
        };
        let value = by.look_up(ctx, args, element);
        match (self.alpha, value) {
            (true, text) => Ok(Weight::Text(text)),
            (false, None) => Ok(Weight::Score(0.0)),
            (false, Some(text)) => number_of(&text).map(Weight::Score),
        }
    }
}

impl<'a> Pattern<'a> {
    fn parse(pattern: &'a [u8]) -> Self {
        if pattern == b"#" {
            return Pattern::Element;
        }
        let Some(star) = pattern.iter().position(|&byte| byte == b'*') else { return Pattern::Nothing };
        let (prefix, rest) = (&pattern[..star], &pattern[star + 1..]);
        match rest.windows(2).position(|pair| pair == b"->").filter(|arrow| arrow + 2 < rest.len()) {
            Some(arrow) => Pattern::Key { prefix, suffix: &rest[..arrow], field: Some(&rest[arrow + 2..]) },
            None => Pattern::Key { prefix, suffix: rest, field: None },
        }
    }

    /// What the pattern names for `element`: None where there is no such key or field, or another type.
    fn look_up(&self, ctx: &mut Ctx, args: &Args, element: &[u8]) -> Option<Vec<u8>> {
        match *self {
            Pattern::Element => Some(element.to_vec()),
            Pattern::Nothing => None,
            Pattern::Key { prefix, suffix, field } => {
                let key = [prefix, element, suffix].concat();
                let key = args.as_key(&key);
                match field {
                    Some(field) => Some(ctx.db.read_as::<Hash>(key).ok()??.get(field)?.to_vec()),
                    None => Some(ctx.db.string(key).ok()??.to_vec()),
                }
            }
        }
    }
}

/// The keys of SORT that its arguments name: the one to sort and, the last one counts, the one to store into.
fn sort_keys(argv: &[&[u8]], each: &mut dyn FnMut(usize, u16)) {
    let mut destination = None;
    let mut at = 2;
    while at < argv.len() {
        let is = |word: &str| argv[at].eq_ignore_ascii_case(word.as_bytes());
        if is("STORE") && at + 1 < argv.len() {
            destination = Some(at + 1);
        }
        at += match () {
            () if is("LIMIT") => 3,
            () if is("BY") || is("GET") || is("STORE") => 2,
            () => 1,
        };
    }
    if argv.len() > 1 {
        each(1, KEY_RO | KEY_ACCESS);
    }
    if let Some(destination) = destination {
        each(destination, KEY_OW | KEY_UPDATE);
    }
}

/// The order of elements with their weights. Equal numbers fall back on the elements, so that the result is the same
/// everywhere; equal texts of other keys stay in the order they were in.
fn compare((a, a_weight): &(Vec<u8>, Weight), (b, b_weight): &(Vec<u8>, Weight)) -> Ordering {
    match (a_weight, b_weight) {
        (Weight::Score(x), Weight::Score(y)) => x.partial_cmp(y).unwrap_or(Ordering::Equal).then_with(|| a.cmp(b)),
        (Weight::Text(x), Weight::Text(y)) => x.cmp(y),
        _ => a.cmp(b),
    }
}

/// A weight's number. The empty text counts as 0, blanks may stand in front and a NUL is the end, as C's strtod has it.
fn number_of(text: &[u8]) -> CmdResult<f64> {
    match text.split(|byte| *byte == 0).next().unwrap_or_default() {
        [] => Ok(0.0),
        text => number::parse_double(text.trim_ascii_start())
            .ok_or(CmdError::Text("ERR One or more scores can't be converted into double")),
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    fn with_list() -> Checker {
        let mut c = Checker::new();
        c.check("RPUSH l 3 1 10 2", ":4");
        for (element, weight, text) in [(1, "5", "one"), (2, "4", "two"), (3, "7", "three"), (10, "1e1", "ten")] {
            c.run(&format!("SET w_{element} {weight}"));
            c.run(&format!("HSET h_{element} text {text} weight {weight}"));
        }
        c
    }

    #[test]
    fn sort_orders_numbers_and_texts() {
        let mut c = with_list();
        c.check("SORT l", r#"["1", "2", "3", "10"]"#);
        c.check("SORT l DESC", r#"["10", "3", "2", "1"]"#);
        c.check("SORT l ALPHA", r#"["1", "10", "2", "3"]"#);
        c.check("SORT_RO l ALPHA DESC", r#"["3", "2", "10", "1"]"#);
        c.check("SORT l LIMIT 1 2", r#"["2", "3"]"#);
        c.check("SORT l LIMIT -1 2", r#"["1", "2"]"#);
        c.check("SORT l LIMIT 9 2", "[]");
        c.check("SORT l LIMIT 3 -5", r#"["10"]"#);
        c.check("SORT l LIMIT 9223372036854775807 9223372036854775807", "[]");
        c.check("SORT l LIMIT 1 9223372036854775807", r#"["2", "3", "10"]"#);
        c.check("SORT none", "[]");
        c.check("SORT none LIMIT 0 5 GET # DESC", "[]");
        c.check("RPUSH texts a '' b", ":3");
        c.check("SORT texts", "-ERR One or more scores can't be converted into double");
        c.check("SORT texts ALPHA", r#"["", "a", "b"]"#);
        c.check(r#"RPUSH nuls "2\x00x" 1 "\x00""#, ":3");
        c.check("SORT nuls", r#"["\x00", "1", "2\x00x"]"#);
        c.check("SADD set 5 3 4", ":3");
        c.check("SORT set", r#"["3", "4", "5"]"#);
        c.check("ZADD zset 1 30 2 20 3 10", ":3");
        c.check("SORT zset", r#"["10", "20", "30"]"#);
    }

    #[test]
    fn sort_by_other_keys() {
        let mut c = with_list();
        c.check("SORT l BY w_*", r#"["2", "1", "3", "10"]"#);
        c.check("SORT l BY h_*->weight DESC", r#"["10", "3", "1", "2"]"#);
        c.check("SORT l BY h_*->text ALPHA", r#"["1", "10", "3", "2"]"#);
        c.check("SORT l BY none_* ", r#"["1", "10", "2", "3"]"#);
        c.check("SORT l BY h_*", r#"["1", "10", "2", "3"]"#);
        c.check("SORT l BY h_*->text", "-ERR One or more scores can't be converted into double");
        c.check("SORT l BY nosort", r#"["3", "1", "10", "2"]"#);
        c.check("SORT l BY nosort DESC LIMIT 1 2", r#"["10", "1"]"#);
        c.check("SORT l BY nosort BY w_* ", r#"["3", "1", "10", "2"]"#);
        c.check("ZADD zset 1 30 2 20 3 10", ":3");
        c.check("SORT zset BY nosort DESC LIMIT 0 2", r#"["10", "20"]"#);
        c.check("SORT zset BY nosort ASC LIMIT 1 1", r#"["20"]"#);
        c.check("SET w_2 ''", "OK");
        c.check("SORT l BY w_*", r#"["2", "1", "3", "10"]"#);
    }

    #[test]
    fn sort_gets_and_stores() {
        let mut c = with_list();
        c.check(
            "SORT l GET # GET w_* GET h_*->text GET none_* LIMIT 0 2",
            r#"["1", "5", "one", nil, "2", "4", "two", nil]"#,
        );
        c.check("SORT l GET plain", "[nil, nil, nil, nil]");
        c.check("SORT l GET h_*-> LIMIT 0 1", "[nil]");
        c.check("SORT l GET w_* GET none_* STORE out", ":8");
        c.check("LRANGE out 0 -1", r#"["5", "", "4", "", "7", "", "1e1", ""]"#);
        c.check("SORT none STORE out", ":0");
        c.check("EXISTS out", ":0");
        c.check("SADD set b a c", ":3");
        c.check("SORT set BY nosort STORE out", ":3");
        c.check("LRANGE out 0 -1", r#"["a", "b", "c"]"#);
        c.check("SORT l STORE l", ":4");
        c.check("LRANGE l 0 -1", r#"["1", "2", "3", "10"]"#);
    }

    #[test]
    fn sort_refuses_what_it_cannot_read() {
        let mut c = with_list();
        c.check("SORT l FOO", "-ERR syntax error");
        c.check("SORT l LIMIT 1", "-ERR syntax error");
        c.check("SORT l LIMIT a b", "-ERR value is not an integer or out of range");
        c.check("SORT l GET", "-ERR syntax error");
        c.check("SORT_RO l STORE out", "-ERR syntax error");
        c.check("SORT w_1", "-WRONGTYPE Operation against a key holding the wrong kind of value");
        c.check("SORT h_1", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }
}
