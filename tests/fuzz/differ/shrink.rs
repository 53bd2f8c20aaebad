//! Makes a row of steps on which the servers differ as short as it can be.

use crate::pair::{Mismatch, Pair, Run};
use crate::steps::Step;
use std::time::{Duration, Instant};

/// What the servers first differ in.
pub fn replay(pair: &Pair, steps: &[Step]) -> Option<Mismatch> {
    let mut run = match Run::new(pair) {
        Ok(run) => run,
        Err(mismatch) => return Some(mismatch),
    };
    for step in steps {
        if let Err(mismatch) = run.step(step) {
            return Some(mismatch);
        }
    }
    run.finish().err()
}

/// How long the search may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// The shortest row found that still shows the same mismatch.
pub fn shrink(pair: &Pair, mut steps: Vec<Step>, about: &str) -> Vec<Step> {
    let began = Instant::now();
    let still = |steps: &[Step]| {
        began.elapsed() < PATIENCE && replay(pair, steps).is_some_and(|mismatch| mismatch.about == about)
    };
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if still(&fewer) { steps = fewer } else { at += size }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    for at in 0..steps.len() {
        shorten(&mut steps, at, &still);
    }
    steps
}

/// Takes commands and arguments out of the step.
fn shorten(steps: &mut Vec<Step>, at: usize, still: &impl Fn(&[Step]) -> bool) {
    let commands = |step: &Step| step.argvs.clone();
    let with = |steps: &[Step], argvs| {
        let mut steps = steps.to_vec();
        steps[at].argvs = argvs;
        steps
    };
    for index in (0..commands(&steps[at]).len()).rev() {
        let mut argvs = commands(&steps[at]);
        if argvs.len() > 1 {
            argvs.remove(index);
            let fewer = with(steps, argvs.clone());
            if still(&fewer) {
                *steps = fewer;
                continue;
            }
        }
        for arg in (1..commands(&steps[at])[index].len()).rev() {
            let mut argvs = commands(&steps[at]);
            argvs[index].remove(arg);
            let fewer = with(steps, argvs);
            if still(&fewer) {
                *steps = fewer;
            }
        }
    }
}
