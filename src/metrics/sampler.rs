//! Rates of the last moments: INFO's `instantaneous_` fields.

use crate::util::sync::Mutex;

/// What rates are kept of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Commands run.
    Commands,
    /// Bytes received.
    NetInput,
    /// Bytes sent.
    NetOutput,
    /// Rounds of work: batches of commands, and ticks of the cron.
    Cycles,
    /// Microseconds spent in them.
    CycleMicros,
}

const METRICS: usize = 5;

/// Samples kept, one each 100 ms or so.
const SAMPLES: usize = 16;

/// The samples of one server.
#[derive(Debug, Default)]
pub struct Sampler(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    last_ms: Option<i64>,
    last: [u64; METRICS],
    /// Per second.
    rates: [[u64; SAMPLES]; METRICS],
    next: usize,
}

impl Sampler {
    /// Takes the present counts, one a metric in the order of [`Metric`].
    pub fn sample(&self, now_ms: i64, counts: [u64; METRICS]) {
        let mut samples = self.0.lock();
        if let Some(last_ms) = samples.last_ms.replace(now_ms) {
            let elapsed_ms = u64::try_from(now_ms - last_ms).unwrap_or(0).max(1);
            let next = samples.next;
            for (metric, count) in counts.into_iter().enumerate() {
                // Counts start at 0 again with CONFIG RESETSTAT.
                let grown = count.saturating_sub(samples.last[metric]);
                samples.rates[metric][next] = grown * 1000 / elapsed_ms;
            }
            samples.next = (next + 1) % SAMPLES;
        }
        samples.last = counts;
    }

    /// The mean of the samples, per second.
    pub fn rate(&self, metric: Metric) -> u64 {
        self.0.lock().rates[metric as usize].iter().sum::<u64>() / SAMPLES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_means_of_the_last_samples() {
        let sampler = Sampler::default();
        for tick in 0..17 {
            sampler.sample(1000 + 100 * tick, [tick as u64 * 5, 0, 0, 1, 0]);
        }
        assert_eq!(sampler.rate(Metric::Commands), 50);
        assert_eq!(sampler.rate(Metric::Cycles), 0);
        // A reset counter is no negative rate.
        sampler.sample(3000, [0; 5]);
        assert!(sampler.rate(Metric::Commands) < 50);
    }
}
