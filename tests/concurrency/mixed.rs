//! Everything at once over few keys: single keys and several, transactions, WATCH, scripts, blocking commands. Every
//! result is kept and the history checked: registers, counters and lists behave as if one client were served at a
//! time. `CONCURRENCY_SECONDS` says for how long (2 unless it is set).

use crate::common::{Client, Reply};
use crate::history::{self, Event, Model};
use crate::{SEED, THREADS, on_all, start};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the clients work.
fn duration() -> Duration {
    let seconds = std::env::var("CONCURRENCY_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(2))
}

/// Operations of all clients in one round; a round's history is checked before the next begins.
const ROUND: usize = 2000;

/// Runs `act` on [`THREADS`] clients for a while and checks what they did, round by round.
fn run<M>(initial: M::State, prepare: &[&str], act: fn(&mut Recorder<'_, M::Op>, &mut StdRng))
where
    M: Model,
    M::Op: Send + 'static,
{
    let running = start();
    let until = Instant::now() + duration();
    let (mut rounds, mut operations) = (0, 0);
    while Instant::now() < until {
        let mut client = Client::connect(&running);
        client.run("FLUSHALL");
        for command in prepare {
            assert!(!client.run(command).starts_with('-'), "{command}");
        }
        let clock = Arc::new(AtomicU64::new(0));
        let histories = on_all(&running, move |thread, client, random| {
            // Another row of choices in each round.
            *random = StdRng::seed_from_u64(SEED + (rounds * THREADS + thread) as u64);
            let mut recorder =
                Recorder { client, number: thread, clock: clock.clone(), last_value: 0, events: Vec::new() };
            while recorder.events.len() < ROUND / THREADS {
                act(&mut recorder, random);
            }
            recorder.events
        });
        let events: Vec<Event<M::Op>> = histories.into_iter().flatten().collect();
        operations += events.len();
        rounds += 1;
        if let Err(reason) = history::check::<M>(initial.clone(), &events) {
            panic!("round {rounds}, seed {SEED}: {reason}");
        }
    }
    println!("{operations} operations in {rounds} rounds");
}

/// A client that remembers what it did, and when.
struct Recorder<'c, Op> {
    client: &'c mut Client,
    number: usize,
    clock: Arc<AtomicU64>,
    last_value: i64,
    events: Vec<Event<Op>>,
}

impl<Op> Recorder<'_, Op> {
    /// Runs commands, sent together; the replies become an operation.
    fn record(&mut self, commands: &[&[&str]], op: impl FnOnce(Vec<Reply>) -> Option<Op>) {
        let requests: Vec<u8> = commands.iter().flat_map(|args| crate::common::request(args)).collect();
        let called = self.clock.fetch_add(1, Ordering::SeqCst);
        self.client.send(&requests);
        let replies: Vec<Reply> = commands.iter().map(|_| self.client.reply()).collect();
        let error = replies.iter().find(|reply| matches!(reply, Reply::Error(_)));
        assert_eq!(error, None, "{commands:?}");
        let returned = self.clock.fetch_add(1, Ordering::SeqCst);
        let client = self.number;
        self.events.extend(op(replies).map(|op| Event { client, called, returned, op }));
    }

    /// A value that nobody else writes.
    fn value(&mut self) -> i64 {
        self.last_value += 1;
        (self.number as i64 + 1) * 1_000_000 + self.last_value
    }
}

/// A bulk string as a number; 0 for null.
fn number(reply: &Reply) -> i64 {
    if *reply == Reply::Null { 0 } else { reply.number() }
}

fn numbers(reply: Reply) -> Vec<i64> {
    reply.array().iter().map(|reply| if let Reply::Integer(value) = reply { *value } else { number(reply) }).collect()
}

/// Numbers in strings: registers, counters, accounts.
struct Numbers;

const KEYS: [&str; 4] = ["n:0", "n:1", "n:2", "n:3"];

#[derive(Debug)]
enum NumberOp {
    /// What these keys held at one moment.
    Read(Vec<(usize, i64)>),
    /// These keys get these values at one moment.
    Write(Vec<(usize, i64)>),
    /// The key held the first value and got the second.
    Exchange(usize, i64, i64),
    /// It did not hold this value (or it did, and got the other).
    CompareAndSet { key: usize, expected: i64, value: i64, done: bool },
    /// The key has this value after the addition.
    Add { key: usize, by: i64, after: i64 },
    /// So much goes from one key to another, if it is there; what both hold then.
    Transfer { from: usize, to: usize, amount: i64, after: [i64; 2] },
}

impl Model for Numbers {
    type State = [i64; KEYS.len()];
    type Op = NumberOp;

    fn step(state: &Self::State, op: &NumberOp) -> Option<Self::State> {
        let mut next = *state;
        let fits = match op {
            NumberOp::Read(seen) => seen.iter().all(|(key, value)| state[*key] == *value),
            NumberOp::Write(values) => {
                values.iter().for_each(|(key, value)| next[*key] = *value);
                true
            }
            NumberOp::Exchange(key, before, value) => std::mem::replace(&mut next[*key], *value) == *before,
            NumberOp::CompareAndSet { key, expected, value, done } => {
                if *done {
                    next[*key] = *value;
                }
                (state[*key] == *expected) == *done
            }
            NumberOp::Add { key, by, after } => {
                next[*key] += by;
                next[*key] == *after
            }
            NumberOp::Transfer { from, to, amount, after } => {
                if state[*from] >= *amount {
                    next[*from] -= amount;
                    next[*to] += amount;
                }
                [next[*from], next[*to]] == *after
            }
        };
        fits.then_some(next)
    }

    fn only_looks(op: &NumberOp) -> bool {
        matches!(op, NumberOp::Read(_) | NumberOp::CompareAndSet { done: false, .. })
    }
}

const COMPARE_AND_SET: &str = "\
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[2])
return 1";

const TRANSFER: &str = "\
local amount = tonumber(ARGV[1])
if tonumber(redis.call('get', KEYS[1])) >= amount then
  redis.call('decrby', KEYS[1], amount)
  redis.call('incrby', KEYS[2], amount)
end
return redis.call('mget', KEYS[1], KEYS[2])";

/// One operation on numbers.
fn act_on_numbers(recorder: &mut Recorder<'_, NumberOp>, random: &mut StdRng) {
    let key = random.random_range(0..KEYS.len());
    let other = (key + random.random_range(1..KEYS.len())) % KEYS.len();
    let (name, other_name) = (KEYS[key], KEYS[other]);
    let (value, other_value) = (recorder.value(), recorder.value());
    let (text, other_text) = (value.to_string(), other_value.to_string());
    let by = random.random_range(1..100);
    match random.random_range(0..11) {
        0 => recorder.record(&[&["GET", name]], |replies| Some(NumberOp::Read(vec![(key, number(&replies[0]))]))),
        1 => recorder.record(&[&["SET", name, &text]], |_| Some(NumberOp::Write(vec![(key, value)]))),
        2 => recorder.record(&[&["SET", name, &text, "GET"]], |replies| {
            Some(NumberOp::Exchange(key, number(&replies[0]), value))
        }),
        3 => recorder.record(&[&["INCRBY", name, &by.to_string()]], |replies| {
            Some(NumberOp::Add { key, by, after: replies[0].integer() })
        }),
        4 => recorder.record(&[&["MGET", name, other_name]], |mut replies| {
            let seen = numbers(replies.remove(0));
            Some(NumberOp::Read(vec![(key, seen[0]), (other, seen[1])]))
        }),
        5 => recorder.record(&[&["MSET", name, &text, other_name, &other_text]], |_| {
            Some(NumberOp::Write(vec![(key, value), (other, other_value)]))
        }),
        6 => recorder
            .record(&[&["MULTI"], &["SET", name, &text], &["SET", other_name, &other_text], &["EXEC"]], |_| {
                Some(NumberOp::Write(vec![(key, value), (other, other_value)]))
            }),
        7 => recorder.record(&[&["MULTI"], &["GET", other_name], &["GET", name], &["EXEC"]], |mut replies| {
            let seen = numbers(replies.remove(3));
            Some(NumberOp::Read(vec![(other, seen[0]), (key, seen[1])]))
        }),
        8 => {
            let mut expected = 0;
            recorder.record(&[&["GET", name]], |replies| {
                expected = number(&replies[0]);
                Some(NumberOp::Read(vec![(key, expected)]))
            });
            recorder.record(&[&["EVAL", COMPARE_AND_SET, "1", name, &expected.to_string(), &text]], |replies| {
                Some(NumberOp::CompareAndSet { key, expected, value, done: replies[0].integer() == 1 })
            });
        }
        9 => recorder.record(&[&["EVAL", TRANSFER, "2", name, other_name, &by.to_string()]], |mut replies| {
            let after = numbers(replies.remove(0));
            Some(NumberOp::Transfer { from: key, to: other, amount: by, after: [after[0], after[1]] })
        }),
        _ => {
            let mut expected = 0;
            recorder.record(&[&["WATCH", name], &["GET", name]], |replies| {
                expected = number(&replies[1]);
                Some(NumberOp::Read(vec![(key, expected)]))
            });
            recorder.record(&[&["MULTI"], &["SET", name, &text], &["EXEC"]], |replies| {
                // What was watched has not changed since. (An EXEC that did nothing says nothing.)
                let is_done = replies[2] != Reply::Null;
                is_done.then_some(NumberOp::CompareAndSet { key, expected, value, done: true })
            });
        }
    }
}

#[test]
fn numbers_change_as_if_one_client_were_served_at_a_time() {
    run::<Numbers>([0; KEYS.len()], &["MSET n:0 0 n:1 0 n:2 0 n:3 0"], act_on_numbers);
}

/// Two lists.
struct Lists;

const LISTS: [&str; 2] = ["list:0", "list:1"];

#[derive(Debug)]
enum ListOp {
    /// A push to the head, with the length after it.
    Push { list: usize, value: i64, len: i64 },
    /// A pop from the tail of the first of these lists that has an element; `None` when none had.
    Pop { lists: Vec<usize>, popped: Option<(usize, i64)> },
    /// From the tail of one list to the head of the other.
    Move { from: usize, to: usize, value: Option<i64> },
    /// The elements of both at one moment.
    Read([Vec<i64>; 2]),
}

impl Model for Lists {
    type State = [VecDeque<i64>; 2];
    type Op = ListOp;

    fn step(state: &Self::State, op: &ListOp) -> Option<Self::State> {
        // Most operations do not fit most states: a state is copied only for those that do.
        let last = |list: &usize| state[*list].back().copied();
        let fits = match op {
            ListOp::Push { list, len, .. } => state[*list].len() as i64 + 1 == *len,
            ListOp::Pop { lists, popped } => {
                lists.iter().find_map(|list| last(list).map(|value| (*list, value))) == *popped
            }
            ListOp::Move { from, value, .. } => last(from) == *value,
            ListOp::Read(seen) => seen.iter().zip(state).all(|(seen, list)| list.iter().eq(seen)),
        };
        fits.then(|| {
            let mut next = state.clone();
            match op {
                ListOp::Push { list, value, .. } => next[*list].push_front(*value),
                ListOp::Pop { popped: Some((list, _)), .. } => drop(next[*list].pop_back()),
                ListOp::Move { from, to, value: Some(value) } => {
                    next[*from].pop_back();
                    next[*to].push_front(*value);
                }
                ListOp::Pop { popped: None, .. } | ListOp::Move { value: None, .. } | ListOp::Read(_) => {}
            }
            next
        })
    }

    fn only_looks(op: &ListOp) -> bool {
        matches!(op, ListOp::Read(_) | ListOp::Pop { popped: None, .. } | ListOp::Move { value: None, .. })
    }
}

const POP: &str = "return redis.call('rpop', KEYS[1])";

/// One operation on the lists.
fn act_on_lists(recorder: &mut Recorder<'_, ListOp>, random: &mut StdRng) {
    let list = random.random_range(0..LISTS.len());
    let other = 1 - list;
    let value = recorder.value();
    let text = value.to_string();
    let one = |replies: Vec<Reply>| match &replies[0] {
        Reply::Null => None,
        reply => Some(reply.number()),
    };
    // All is read often: orders of pushes that nobody has told apart yet multiply, and the check with them.
    match random.random_range(0..14) {
        0..=2 => recorder.record(&[&["LPUSH", LISTS[list], &text]], |replies| {
            Some(ListOp::Push { list, value, len: replies[0].integer() })
        }),
        3 => recorder.record(&[&["MULTI"], &["LPUSH", LISTS[list], &text], &["EXEC"]], |mut replies| {
            let len = numbers(replies.remove(2))[0];
            Some(ListOp::Push { list, value, len })
        }),
        4 | 5 => recorder.record(&[&["RPOP", LISTS[list]]], |replies| {
            Some(ListOp::Pop { lists: vec![list], popped: one(replies).map(|value| (list, value)) })
        }),
        6 => recorder.record(&[&["EVAL", POP, "1", LISTS[list]]], |replies| {
            Some(ListOp::Pop { lists: vec![list], popped: one(replies).map(|value| (list, value)) })
        }),
        7 | 8 => recorder.record(&[&["BRPOP", LISTS[list], LISTS[other], "0.02"]], |mut replies| {
            let popped = match replies.remove(0) {
                Reply::Null => None,
                reply => {
                    let parts = reply.array();
                    let from = LISTS.iter().position(|name| *name == parts[0].text());
                    Some((from.expect("one of the lists"), parts[1].number()))
                }
            };
            Some(ListOp::Pop { lists: vec![list, other], popped })
        }),
        9 => recorder.record(&[&["BLMOVE", LISTS[list], LISTS[other], "RIGHT", "LEFT", "0.02"]], |replies| {
            Some(ListOp::Move { from: list, to: other, value: one(replies) })
        }),
        10 => recorder.record(&[&["LMOVE", LISTS[list], LISTS[other], "RIGHT", "LEFT"]], |replies| {
            Some(ListOp::Move { from: list, to: other, value: one(replies) })
        }),
        _ => recorder.record(
            &[&["MULTI"], &["LRANGE", LISTS[0], "0", "-1"], &["LRANGE", LISTS[1], "0", "-1"], &["EXEC"]],
            |mut replies| {
                let mut both = replies.remove(3).array().into_iter().map(numbers);
                Some(ListOp::Read([both.next().unwrap_or_default(), both.next().unwrap_or_default()]))
            },
        ),
    }
}

#[test]
fn lists_change_as_if_one_client_were_served_at_a_time() {
    run::<Lists>(Default::default(), &[], act_on_lists);
}
