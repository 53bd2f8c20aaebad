//! Redstart and a real Redis, asked the same: `differ REDSTART REDIS [SECONDS [SEED]]`, both names of executables.
//!
//! Rows of commands of several clients, made from the command table by a seed, go to both servers. After each command what
//! every client was sent must be the same bytes; every so often the data sets, and at the end of a row the registers, must be
//! the same. What is random or has no order by nature may differ as far as `pair.rs` says. A row that shows a difference is
//! made short and printed, and the exit code is 1.

mod pair;
mod peer;
mod shrink;
mod state;
mod steps;
mod value;

use pair::{Mismatch, Pair, Run};
use peer::Peer;
use shrink::{replay, shrink};
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use steps::{Maker, Step};

/// Steps of a row.
const STEPS: usize = 300;
/// The same difference is made short and shown so often.
const SHOWN: usize = 1;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [redstart, redis, rest @ ..] = words.as_slice() else {
        eprintln!("differ REDSTART REDIS [SECONDS [SEED]]");
        return ExitCode::from(2);
    };
    let number = |index: usize, default: u64| rest.get(index).map_or(default, |word| word.parse().expect("a number"));
    let limit = Duration::from_secs(number(0, 60));
    let first_seed = number(1, 1);
    let start = || Pair { ours: Peer::start("redstart", redstart), theirs: Peer::start("redis", redis) };
    let mut pair = start();
    let began = Instant::now();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let (mut seed, mut steps_done) = (first_seed, 0);
    while began.elapsed() < limit {
        let (steps, found) = row(&pair, seed);
        steps_done += steps.len();
        // One that has ended, or hangs, is started anew.
        let is_over = pair.is_alive().is_err() || found.as_ref().is_some_and(|mismatch| mismatch.is_silence);
        if let Some(mismatch) = found {
            report(&mut pair, seed, steps, mismatch, &mut seen);
        }
        if is_over {
            drop(pair);
            pair = start();
        }
        seed += 1;
    }
    println!("{} rows, {steps_done} steps, {} kinds of differences", seed - first_seed, seen.len());
    if seen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One row of steps, up to the first difference.
fn row(pair: &Pair, seed: u64) -> (Vec<Step>, Option<Mismatch>) {
    let mut maker = Maker::new(seed);
    let mut steps = Vec::new();
    let mut run = match Run::new(pair) {
        Ok(run) => run,
        Err(mismatch) => return (steps, Some(mismatch)),
    };
    for _ in 0..STEPS {
        let Some(step) = maker.next(&run.busy(), run.in_multi()) else { continue };
        steps.push(step.clone());
        match run.step(&step) {
            Ok(replies) => {
                let is_dump = step.argvs[0][0].eq_ignore_ascii_case(b"dump");
                if let Some(value::Value::Bulk(_, Some(payload))) = replies.first()
                    && is_dump
                {
                    maker.keep(payload);
                }
            }
            Err(mismatch) => return (steps, Some(mismatch)),
        }
    }
    let found = run.finish().err();
    (steps, found)
}

/// Shows a difference that comes again, made short.
fn report(pair: &mut Pair, seed: u64, steps: Vec<Step>, mismatch: Mismatch, seen: &mut HashMap<String, usize>) {
    let died = pair.is_alive().err();
    let times = seen.entry(mismatch.about.clone()).or_default();
    if *times >= SHOWN {
        *times += 1;
        return;
    }
    let is_over = died.is_some() || mismatch.is_silence;
    let again = if is_over { None } else { replay(pair, &steps) };
    let steps = match &again {
        Some(again) if again.about == mismatch.about => shrink(pair, steps, &mismatch.about),
        None if !is_over => {
            seen.remove(&mismatch.about);
            println!("seed {seed}: {} did not come again\n", mismatch.about);
            return;
        }
        _ => steps,
    };
    *times += 1;
    let mismatch = died.or_else(|| if is_over { None } else { replay(pair, &steps) }).unwrap_or(mismatch);
    println!("seed {seed}: {}", mismatch.about);
    steps.iter().for_each(|step| println!("    {step}"));
    println!("  Redstart: {}\n  Redis:    {}\n", mismatch.ours, mismatch.theirs);
}
