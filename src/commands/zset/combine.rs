//! Union, intersection and difference of sorted sets, and of sets as sorted sets whose scores are all 1.

use super::{entries_head, entry, limits, store};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::keyspace::Key;
use crate::keyspace::db::Db;
use crate::keyspace::value::{Kind, kind_of};
use redstart_types::encoding::listpack::Element;
use redstart_types::set::Set;
use redstart_types::zset::{Entry, ZSet};
use std::cmp::Ordering;
use std::collections::HashMap;

/// `ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`: an array of
/// members, each followed by its score with WITHSCORES (RESP3: arrays of two). Source: Redis 7.2 ZUNION.
pub(super) fn zunion(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Operation::Union)
}

/// `ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`: as ZUNION.
/// Source: Redis 7.2 ZINTER.
pub(super) fn zinter(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Operation::Inter)
}

/// `ZDIFF numkeys key [key ...] [WITHSCORES]`: what the first key has and no other; as ZUNION.
/// Source: Redis 7.2 ZDIFF.
pub(super) fn zdiff(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read(ctx, args, Operation::Diff)
}

/// `ZUNIONSTORE dst numkeys key [key ...] [WEIGHTS ...] [AGGREGATE ...]`: integer reply, how many members `dst` has
/// now; none deletes it. Source: Redis 7.2 ZUNIONSTORE.
pub(super) fn zunionstore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read_and_store(ctx, args, Operation::Union, "zunionstore")
}

/// `ZINTERSTORE dst numkeys key [key ...] [WEIGHTS ...] [AGGREGATE ...]`: as ZUNIONSTORE.
/// Source: Redis 7.2 ZINTERSTORE.
pub(super) fn zinterstore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read_and_store(ctx, args, Operation::Inter, "zinterstore")
}

/// `ZDIFFSTORE dst numkeys key [key ...]`: as ZUNIONSTORE. Source: Redis 7.2 ZDIFFSTORE.
pub(super) fn zdiffstore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    read_and_store(ctx, args, Operation::Diff, "zdiffstore")
}

/// `ZINTERCARD numkeys key [key ...] [LIMIT limit]`: integer reply, how many members all keys have, counted up to
/// `limit` (0: all). Source: Redis 7.2 ZINTERCARD.
pub(super) fn zintercard(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let request = Request::parse(ctx, args, Operation::Inter, Form::Count)?;
    let inputs = request.inputs(&ctx.db);
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    ctx.reply.len(intersection(&inputs, request.aggregate).take(limit).count());
    Ok(())
}

fn read(ctx: &mut Ctx, args: &mut Args, operation: Operation) -> CmdResult {
    let request = Request::parse(ctx, args, operation, Form::Read)?;
    let result = request.run(&ctx.db, operation);
    entries_head(ctx.reply, result.len(), request.with_scores);
    for (score, member) in &result {
        entry(ctx.reply, Entry { member: Element::Bytes(member), score: *score }, request.with_scores);
    }
    Ok(())
}

fn read_and_store(ctx: &mut Ctx, args: &mut Args, operation: Operation, event: &'static str) -> CmdResult {
    let destination = args.key()?;
    let request = Request::parse(ctx, args, operation, Form::Store)?;
    let result = request.run(&ctx.db, operation);
    let limits = limits(ctx);
    let longest = result.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
    let mut zset = ZSet::for_members(result.len(), longest, &limits);
    for (score, member) in &result {
        zset.insert(member, *score, &limits);
    }
    store(ctx, destination, zset, 1, event)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// How the scores that a member has in several inputs become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn apply(self, score: f64, other: f64) -> f64 {
        match self {
            Self::Sum => zero_if_nan(score + other),
            Self::Min if other < score => other,
            Self::Max if other > score => other,
            Self::Min | Self::Max => score,
        }
    }
}

/// What becomes of a result; it decides which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Read,
    Store,
    Count,
}

/// The keys and options of a command.
struct Request<'a> {
    keys: Vec<Key<'a>>,
    /// One for each key.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// The most members that ZINTERCARD counts; 0 for all.
    limit: usize,
}

impl<'a> Request<'a> {
    /// Reads the keys, looks whether they hold sets or sorted sets, and then reads the options, as Redis does.
    fn parse(ctx: &mut Ctx, args: &mut Args<'a>, operation: Operation, form: Form) -> CmdResult<Self> {
        let numkeys = args.int()?;
        if numkeys < 1 {
            let name = ctx.command.command.name;
            return Err(CmdError::owned(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let numkeys = usize::try_from(numkeys).ok().filter(|count| *count <= args.remaining());
        let numkeys = numkeys.ok_or(CmdError::Syntax)?;
        let keys = (0..numkeys).map(|_| args.key()).collect::<CmdResult<Vec<_>>>()?;
        for key in &keys {
            let kind = ctx.db.read(*key).map(kind_of);
            if kind.is_some_and(|kind| kind != Kind::Set && kind != Kind::ZSet) {
                return Err(CmdError::WrongType);
            }
        }
        let weights = vec![1.0; numkeys];
        let mut request = Self { keys, weights, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        while !args.is_empty() {
            request.parse_option(args, operation != Operation::Diff, form)?;
        }
        Ok(request)
    }

    fn parse_option(&mut self, args: &mut Args, has_weights: bool, form: Form) -> CmdResult {
        let aggregates = has_weights && form != Form::Count;
        if aggregates && args.remaining() > self.keys.len() && args.flag("WEIGHTS") {
            for weight in &mut self.weights {
                *weight = args.float().map_err(|_| CmdError::Text("ERR weight value is not a float"))?;
            }
        } else if aggregates && args.remaining() >= 2 && args.flag("AGGREGATE") {
            let aggregates = [Aggregate::Sum, Aggregate::Min, Aggregate::Max];
            self.aggregate = aggregates[args.one_of(&["SUM", "MIN", "MAX"]).ok_or(CmdError::Syntax)?];
        } else if form == Form::Read && args.flag("WITHSCORES") {
            self.with_scores = true;
        } else if form == Form::Count && args.remaining() >= 2 && args.flag("LIMIT") {
            self.limit = args.positive().map_err(|_| CmdError::Text("ERR LIMIT can't be negative"))?;
        } else {
            return Err(CmdError::Syntax);
        }
        Ok(())
    }

    /// The values at the keys, each with its weight.
    fn inputs<'z>(&self, db: &'z Db) -> Vec<Input<'z>> {
        let values = self.keys.iter().map(|key| match (db.peek_as::<ZSet>(*key), db.peek_as::<Set>(*key)) {
            (Ok(Some(zset)), _) => Value::ZSet(zset),
            (_, Ok(Some(set))) => Value::Set(set),
            _ => Value::Missing,
        });
        values.zip(&self.weights).map(|(value, weight)| Input { value, weight: *weight }).collect()
    }

    /// The members of the result with their scores, in order.
    fn run(&self, db: &Db, operation: Operation) -> Vec<(f64, Vec<u8>)> {
        let mut inputs = self.inputs(db);
        let mut result = match operation {
            Operation::Union => union(&mut inputs, self.aggregate),
            Operation::Inter => {
                intersection(&inputs, self.aggregate).map(|(score, member)| (score, member.to_vec())).collect()
            }
            Operation::Diff => difference(&inputs),
        };
        let order = |a: &(f64, Vec<u8>), b: &(f64, Vec<u8>)| match a.0.partial_cmp(&b.0) {
            Some(Ordering::Equal) | None => a.1.cmp(&b.1),
            Some(unequal) => unequal,
        };
        result.sort_unstable_by(order);
        result
    }
}

/// One key's value.
enum Value<'z> {
    Missing,
    Set(&'z Set),
    ZSet(&'z ZSet),
}

struct Input<'z> {
    value: Value<'z>,
    weight: f64,
}

impl<'z> Input<'z> {
    fn len(&self) -> usize {
        match self.value {
            Value::Missing => 0,
            Value::Set(set) => set.len(),
            Value::ZSet(zset) => zset.len(),
        }
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Entry<'z>> + 'z> {
        match self.value {
            Value::Missing => Box::new(std::iter::empty()),
            Value::Set(set) => Box::new(set.iter().map(|member| Entry { member, score: 1.0 })),
            Value::ZSet(zset) => Box::new(zset.iter()),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.value {
            Value::Missing => None,
            Value::Set(set) => set.contains(member).then_some(1.0),
            Value::ZSet(zset) => zset.score(member),
        }
    }
}

/// All members of all inputs. The order in which scores are added up is Redis's: the smallest input first.
fn union(inputs: &mut [Input<'_>], aggregate: Aggregate) -> Vec<(f64, Vec<u8>)> {
    inputs.sort_by_key(Input::len);
    let largest = inputs.last().map_or(0, Input::len);
    let mut scores: HashMap<Vec<u8>, f64> = HashMap::new();
    scores.reserve(largest);
    let mut digits = itoa::Buffer::new();
    for input in inputs {
        for entry in input.entries() {
            let score = zero_if_nan(input.weight * entry.score);
            let member = entry.member.text(&mut digits);
            match scores.get_mut(member) {
                Some(sum) => *sum = aggregate.apply(*sum, score),
                None => drop(scores.insert(member.to_vec(), score)),
            }
        }
    }
    scores.into_iter().map(|(member, score)| (score, member)).collect()
}

/// The members that all inputs have, found by walking the smallest one.
fn intersection<'z>(inputs: &[Input<'z>], aggregate: Aggregate) -> impl Iterator<Item = (f64, Element<'z>)> {
    let mut sorted: Vec<_> = inputs.iter().collect();
    sorted.sort_by_key(|input| input.len());
    let mut sorted = sorted.into_iter();
    let smallest = sorted.next();
    let others: Vec<_> = sorted.collect();
    smallest.into_iter().flat_map(|smallest| smallest.entries().map(|entry| (smallest.weight, entry))).filter_map(
        move |(weight, entry)| {
            let mut digits = itoa::Buffer::new();
            let member = entry.member.text(&mut digits);
            let mut score = zero_if_nan(weight * entry.score);
            for other in &others {
                score = aggregate.apply(score, other.score(member)? * other.weight);
            }
            Some((score, entry.member))
        },
    )
}

/// The members of the first input that no other has.
fn difference(inputs: &[Input<'_>]) -> Vec<(f64, Vec<u8>)> {
    let Some((first, others)) = inputs.split_first() else { return Vec::new() };
    let mut digits = itoa::Buffer::new();
    let mut result = Vec::new();
    for entry in first.entries() {
        let member = entry.member.text(&mut digits);
        if others.iter().all(|other| other.score(member).is_none()) {
            result.push((entry.score, member.to_vec()));
        }
    }
    result
}

fn zero_if_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    fn with_two() -> Checker {
        let mut c = Checker::new();
        c.check("ZADD a 1 one 2 two 3 three", ":3");
        c.check("ZADD b 10 two 20 three 30 four", ":3");
        c
    }

    #[test]
    fn zunion() {
        let mut c = with_two();
        c.check("ZUNION 2 a b", "[\"one\", \"two\", \"three\", \"four\"]");
        c.check("ZUNION 2 a b WITHSCORES", "[\"one\", \"1\", \"two\", \"12\", \"three\", \"23\", \"four\", \"30\"]");
        c.check(
            "ZUNION 2 a b WEIGHTS 2 -1 AGGREGATE MIN WITHSCORES",
            "[\"four\", \"-30\", \"three\", \"-20\", \"two\", \"-10\", \"one\", \"2\"]",
        );
        c.check("ZUNION 2 none nothing", "[]");
        c.run("HELLO 3");
        c.check("ZUNION 1 a WITHSCORES", "[[\"one\", ,1], [\"two\", ,2], [\"three\", ,3]]");
    }

    #[test]
    fn zinter_and_zdiff() {
        let mut c = with_two();
        c.check("ZINTER 2 a b WITHSCORES", "[\"two\", \"12\", \"three\", \"23\"]");
        c.check("ZINTER 2 a b AGGREGATE MAX WITHSCORES", "[\"two\", \"10\", \"three\", \"20\"]");
        c.check("ZINTER 2 a none", "[]");
        c.check("ZDIFF 2 a b WITHSCORES", "[\"one\", \"1\"]");
        c.check("ZDIFF 3 a none nothing", "[\"one\", \"two\", \"three\"]");
        c.check("ZDIFF 2 a a", "[]");
        c.check("ZDIFF 2 a b WEIGHTS 1 2", "-ERR syntax error");
    }

    #[test]
    fn stores() {
        let mut c = with_two();
        c.check("ZUNIONSTORE d 2 a b AGGREGATE MAX", ":4");
        c.check("ZRANGE d 0 -1 WITHSCORES", "[\"one\", \"1\", \"two\", \"10\", \"three\", \"20\", \"four\", \"30\"]");
        c.check("ZINTERSTORE d 2 d a WEIGHTS 0 1", ":3");
        c.check("ZRANGE d 0 -1 WITHSCORES", "[\"one\", \"1\", \"two\", \"2\", \"three\", \"3\"]");
        c.check("ZDIFFSTORE d 2 a b", ":1");
        c.check("ZINTERSTORE d 2 a none", ":0");
        c.check("EXISTS d", ":0");
        c.check("ZUNIONSTORE d 1 a WITHSCORES", "-ERR syntax error");
    }

    #[test]
    fn infinite_scores_do_not_become_nan() {
        let mut c = Checker::new();
        c.check("ZADD a inf x 0 y", ":2");
        c.check("ZADD b -inf x", ":1");
        c.check("ZUNION 2 a b WITHSCORES", "[\"x\", \"0\", \"y\", \"0\"]");
        c.check("ZINTER 2 a b WITHSCORES", "[\"x\", \"0\"]");
        c.check("ZUNION 1 a WEIGHTS 0 WITHSCORES", "[\"x\", \"0\", \"y\", \"0\"]");
    }

    #[test]
    fn zintercard() {
        let mut c = with_two();
        c.check("ZINTERCARD 2 a b", ":2");
        c.check("ZINTERCARD 2 a b LIMIT 1", ":1");
        c.check("ZINTERCARD 2 a b LIMIT 0", ":2");
        c.check("ZINTERCARD 2 a none", ":0");
        c.check("ZINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative");
        c.check("ZINTERCARD 2 a b WITHSCORES", "-ERR syntax error");
    }

    #[test]
    fn refused() {
        let mut c = with_two();
        c.check("ZUNIONSTORE d 0 a", "-ERR at least 1 input key is needed for 'zunionstore' command");
        c.check("ZINTERCARD 0 a", "-ERR at least 1 input key is needed for 'zintercard' command");
        c.check("ZUNION x a", "-ERR value is not an integer or out of range");
        c.check("ZUNION 3 a b", "-ERR syntax error");
        c.check("ZUNION 2 a b WEIGHTS 1", "-ERR syntax error");
        c.check("ZUNION 2 a b WEIGHTS 1 x", "-ERR weight value is not a float");
        c.check("ZUNION 2 a b AGGREGATE AVG", "-ERR syntax error");
        c.check("SET s x", "OK");
        c.check("ZUNION 2 a s NONSENSE", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }
}
