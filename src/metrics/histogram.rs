//! How long something takes, as a distribution: what LATENCY HISTOGRAM and INFO latencystats are made of.
//!
//! From 1 ns to 1 s, each doubling is cut into 128 equal buckets, so a value is known to 0.8 %:
//!
//! ```text
//! value (ns)   0..256 in steps of 1 | 256..512 in steps of 2 | 512..1024 in steps of 4 | ... | up to 2^30
//! ```
//!
//! One thread at a time records; any thread reads. 24 kB from the first record on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest value told from larger ones, in nanoseconds.
const MAX_NANOS: u64 = 1_000_000_000;

/// Bits of a value below its leading one that choose the bucket.
const BITS: u32 = 7;

const BUCKETS: usize = bucket_of(MAX_NANOS) + 1;

/// Counts of recorded values.
#[derive(Debug, Default)]
pub struct Histogram(OnceLock<Box<[AtomicU64]>>);

impl Histogram {
    /// Counts a value. Values above a second count as one second. O(1).
    #[inline]
    pub fn record(&self, nanos: u64) {
        let counts = self.0.get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
        let count = &counts[bucket_of(nanos.clamp(1, MAX_NANOS))];
        // There is one writer, so this needs no atomic addition.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Forgets all values.
    pub fn reset(&self) {
        self.0.get().into_iter().flatten().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

/// The values of several histograms together.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    counts: Vec<u64>,
    total: u64,
}

impl Distribution {
    /// Adds the values of a histogram.
    pub fn add(&mut self, histogram: &Histogram) {
        let Some(counts) = histogram.0.get() else { return };
        self.counts.resize(BUCKETS, 0);
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            let count = count.load(Ordering::Relaxed);
            *sum += count;
            self.total += count;
        }
    }

    /// Number of values.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value, in nanoseconds, that `percentile` per cent do not exceed; 0 if there is none.
    pub fn percentile(&self, percentile: f64) -> u64 {
        let rank = (percentile.clamp(0.0, 100.0) / 100.0 * self.total as f64 + 0.5) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        bucket.map_or(0, largest_in)
    }

    /// `(microseconds, how many values take no longer)` for 1.024 us and each doubling of it, where the number grows.
    pub fn doublings(&self) -> Vec<(u64, u64)> {
        let mut steps = Vec::new();
        let mut counts = self.counts.iter().enumerate().peekable();
        let (mut below, mut told) = (0, 0);
        for bound in (10..).map(|exponent| bucket_of(1 << exponent)) {
            while let Some((_, count)) = counts.next_if(|(bucket, _)| *bucket <= bound) {
                below += count;
            }
            if below > told {
                steps.push((largest_in(bound) / 1000, below));
                told = below;
            }
            if counts.peek().is_none() || below == self.total {
                return steps;
            }
        }
        steps
    }
}

const fn bucket_of(nanos: u64) -> usize {
    let Some(exponent) = nanos.checked_ilog2() else { return 0 };
    let shift = exponent.saturating_sub(BITS);
    ((shift as usize) << BITS) + (nanos >> shift) as usize
}

/// The largest value that falls into a bucket.
fn largest_in(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> BITS).saturating_sub(1);
    ((bucket + 1 - (shift << BITS)) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(values: &[u64]) -> Distribution {
        let histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        let mut all = Distribution::default();
        all.add(&histogram);
        all.add(&Histogram::default());
        all
    }

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let values = (1..5000).chain((5000..MAX_NANOS).step_by(999_983)).chain([MAX_NANOS]);
        let mut last = 0;
        for value in values {
            let bucket = bucket_of(value);
            assert!(bucket >= last && bucket < BUCKETS);
            let largest = largest_in(bucket);
            assert!(largest >= value && largest - value <= value / 128, "{value} {largest}");
            assert!(bucket_of(largest) == bucket && bucket_of(largest + 1) == bucket + 1, "{value}");
            last = bucket;
        }
    }

    #[test]
    fn percentiles() {
        let all = distribution(&(1..=100).collect::<Vec<_>>());
        assert_eq!((all.percentile(50.0), all.percentile(99.0), all.percentile(100.0)), (50, 99, 100));
        assert_eq!(all.percentile(0.0), 1);
        assert_eq!(distribution(&[]).percentile(50.0), 0);
        assert_eq!(distribution(&[1000]).percentile(50.0), 1003);
    }

    #[test]
    fn doublings_are_those_of_redis() {
        let all = distribution(&[100, 900, 1500, 30_000, 33_000, 40_000, 700_000, u64::MAX]);
        assert_eq!(all.total(), 8);
        assert_eq!(all.doublings(), [(1, 2), (2, 3), (33, 5), (66, 6), (1056, 7), (1_082_130, 8)]);
        assert_eq!(distribution(&[]).doublings(), []);
    }

    #[test]
    fn reset_forgets() {
        let histogram = Histogram::default();
        histogram.reset();
        histogram.record(5);
        histogram.reset();
        let mut all = Distribution::default();
        all.add(&histogram);
        assert_eq!((all.total(), all.doublings()), (0, Vec::new()));
    }
}
