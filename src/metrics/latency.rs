//! LATENCY's register: for each kind of event, the latest seconds in which one took long.
//!
//! An event is added when it took at least `latency-monitor-threshold`. A second has one sample, its worst. The lock is
//! the register's own; nothing is locked while it is held.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use parking_lot::Mutex;

use crate::config::{AppendFsync, Config};

/// Seconds kept for each kind of event.
const MAX_SAMPLES: usize = 160;

/// The worst event of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Unix time.
    pub time_s: i64,
    /// How long the event took.
    pub latency_ms: u64,
}

/// The latency events of one server.
#[derive(Default)]
pub struct LatencyMonitor(Mutex<BTreeMap<&'static str, Series>>);

/// Samples of one kind of event, oldest first; never empty.
#[derive(Default)]
struct Series {
    samples: VecDeque<Sample>,
    /// The worst since the last reset.
    max_ms: u64,
}

/// The last sample of one kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latest {
    /// The kind, such as `command`.
    pub event: &'static str,
    /// The latest second that had one.
    pub sample: Sample,
    /// The worst since the last reset.
    pub max_ms: u64,
}

impl LatencyMonitor {
    /// Adds an event. The caller has compared it with the threshold.
    pub fn add(&self, event: &'static str, latency_ms: u64, now_s: i64) {
        let mut events = self.0.lock();
        let series = events.entry(event).or_default();
        series.max_ms = series.max_ms.max(latency_ms);
        match series.samples.back_mut() {
            Some(last) if last.time_s == now_s => last.latency_ms = last.latency_ms.max(latency_ms),
            _ => {
                if series.samples.len() == MAX_SAMPLES {
                    series.samples.pop_front();
                }
                series.samples.push_back(Sample { time_s: now_s, latency_ms });
            }
        }
    }

    /// Forgets one kind of event. True if there was one.
    pub fn reset(&self, event: &[u8]) -> bool {
        let mut events = self.0.lock();
        let before = events.len();
        events.retain(|name, _| !name.as_bytes().eq_ignore_ascii_case(event));
        events.len() < before
    }

    /// Forgets everything; the number of kinds there were.
    pub fn reset_all(&self) -> usize {
        std::mem::take(&mut *self.0.lock()).len()
    }

    /// The samples of one kind of event, oldest first.
    pub fn history(&self, event: &[u8]) -> Vec<Sample> {
        self.series(event, |_, series| series.samples.iter().copied().collect()).unwrap_or_default()
    }

    /// The last sample of each kind of event.
    pub fn latest(&self) -> Vec<Latest> {
        let events = self.0.lock();
        let latest = |(event, series): (&&'static str, &Series)| {
            let sample = *series.samples.back()?;
            Some(Latest { event, sample, max_ms: series.max_ms })
        };
        events.iter().filter_map(latest).collect()
    }

    /// LATENCY GRAPH: a chart of the samples of one kind of event; `None` if there are none.
    pub fn graph(&self, event: &[u8], now_s: i64) -> Option<String> {
        self.series(event, |name, series| graph(name, series, now_s))
    }

    /// LATENCY DOCTOR: what happened, and what could be done about it.
    pub fn doctor(&self, config: &Config, now_s: i64) -> String {
        let events = self.0.lock();
        if events.is_empty() {
            return match config.latency_monitor_threshold {
                0 => {
                    "Latency monitoring is off. Turn it on with CONFIG SET latency-monitor-threshold <milliseconds>.\n"
                }
                _ => "No event has been slower than latency-monitor-threshold since the last reset.\n",
            }
            .into();
        }
        let mut report = String::from("Events slower than latency-monitor-threshold:\n\n");
        let mut advice: Vec<String> = Vec::new();
        for (number, (event, series)) in events.iter().enumerate() {
            report.push_str(&series.summary(number + 1, event, now_s));
            for advised in advice_on(event, config) {
                if !advice.contains(&advised) {
                    advice.push(advised);
                }
            }
        }
        if !advice.is_empty() {
            report.push_str("\nWhat may help:\n\n");
        }
        advice.iter().for_each(|advised| writeln!(report, "- {advised}").expect(STRING));
        report
    }

    fn series<T>(&self, event: &[u8], of: impl FnOnce(&str, &Series) -> T) -> Option<T> {
        let events = self.0.lock();
        let (name, series) = events.iter().find(|(name, _)| name.as_bytes() == event)?;
        Some(of(name, series))
    }
}

const STRING: &str = "writing to a String does not fail";

impl Series {
    fn summary(&self, number: usize, event: &str, now_s: i64) -> String {
        let count = self.samples.len().max(1) as u64;
        let mean = |values: &mut dyn Iterator<Item = u64>| values.sum::<u64>() / count;
        let average = mean(&mut self.samples.iter().map(|sample| sample.latency_ms));
        let deviation = mean(&mut self.samples.iter().map(|sample| sample.latency_ms.abs_diff(average)));
        let span_s = self.samples.front().map_or(0, |first| now_s - first.time_s).max(1);
        format!(
            "{number}. {event}: {count} latency spikes (average {average}ms, mean deviation {deviation}ms, \
             period {:.2} sec). Worst all time event {}ms.\n",
            span_s as f64 / count as f64,
            self.max_ms,
        )
    }
}

fn advice_on(event: &str, config: &Config) -> Vec<String> {
    let threshold_ms = config.latency_monitor_threshold;
    let slowlog_us = config.slowlog_log_slower_than;
    let slower_disk = || "Keep the data directory on a local disk, an SSD if fsync is what takes long.".to_owned();
    let busy_disk = || "See whether other programs keep the disk busy.".to_owned();
    match event {
        "command" if slowlog_us < 0 || slowlog_us / 1000 > i64::try_from(threshold_ms).unwrap_or(i64::MAX) => vec![
            format!("Let the slow log see these commands: CONFIG SET slowlog-log-slower-than {}.", threshold_ms * 1000),
            "Then look for them with SLOWLOG GET.".to_owned(),
        ],
        "command" => vec!["Look for the slow commands with SLOWLOG GET.".to_owned()],
        "fast-command" => {
            vec!["Commands that do little took long: the machine gives this process too little CPU time.".to_owned()]
        }
        "aof-fsync-always" if config.appendfsync == AppendFsync::Always => {
            vec!["appendfsync always waits for the disk; everysec does not.".to_owned(), slower_disk()]
        }
        event if event.starts_with("aof-") || event.starts_with("rdb-") => vec![slower_disk(), busy_disk()],
        "expire-cycle" | "expire-del" | "eviction-del" => vec![
            "Very many keys expire or are evicted at once: give them different times, or leave more room.".to_owned(),
        ],
        "eviction-cycle" => vec!["Leave more room below maxmemory, so that less has to be evicted at once.".to_owned()],
        _ => Vec::new(),
    }
}

/// The columns of a chart, and the rows of its bars.
const COLUMNS: usize = 80;
const ROWS: usize = 4;

/// The top of a bar by how much of its last row it fills; below the top a bar is `|`.
const TOPS: [char; 3] = ['_', 'o', '#'];

fn graph(event: &str, series: &Series, now_s: i64) -> String {
    let samples: Vec<Sample> = series.samples.iter().copied().collect();
    let high = samples.iter().map(|sample| sample.latency_ms).max().unwrap_or(0);
    let low = samples.iter().map(|sample| sample.latency_ms).min().unwrap_or(0);
    let mut out = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    writeln!(out, "{}", "-".repeat(COLUMNS)).expect(STRING);
    for (index, part) in samples.chunks(COLUMNS).enumerate() {
        if index > 0 {
            out.push('\n');
        }
        push_chart(&mut out, part, low, high, now_s);
    }
    out
}

fn push_chart(out: &mut String, samples: &[Sample], low: u64, high: u64, now_s: i64) {
    let steps = (TOPS.len() * ROWS) as u64;
    let height = |sample: &Sample| ((sample.latency_ms - low) * steps / (high - low).max(1)).min(steps - 1) as usize;
    for row in (0..ROWS).rev() {
        let bar = |sample: &Sample| match height(sample).checked_sub(row * TOPS.len()) {
            None => ' ',
            Some(filled) => TOPS.get(filled).copied().unwrap_or('|'),
        };
        out.extend(samples.iter().map(bar));
        out.push('\n');
    }
    // Below each bar stands, downwards, how long ago it was.
    let labels: Vec<Vec<char>> = samples.iter().map(|sample| age(now_s - sample.time_s).chars().collect()).collect();
    let longest = labels.iter().map(Vec::len).max().unwrap_or(0);
    writeln!(out, "{}", " ".repeat(samples.len())).expect(STRING);
    for row in 0..longest {
        out.extend(labels.iter().map(|label| label.get(row).copied().unwrap_or(' ')));
        out.push('\n');
    }
}

fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeps_its_worst() {
        let monitor = LatencyMonitor::default();
        monitor.add("command", 300, 10);
        monitor.add("command", 500, 10);
        monitor.add("command", 100, 10);
        monitor.add("command", 200, 11);
        let sample = |time_s, latency_ms| Sample { time_s, latency_ms };
        assert_eq!(monitor.history(b"command"), [sample(10, 500), sample(11, 200)]);
        assert_eq!(monitor.latest(), [Latest { event: "command", sample: sample(11, 200), max_ms: 500 }]);
        assert_eq!(monitor.history(b"fork"), []);
    }

    #[test]
    fn old_seconds_are_forgotten_but_the_worst_is_not() {
        let monitor = LatencyMonitor::default();
        for second in 0..200 {
            monitor.add("fork", 200 - second, second as i64);
        }
        let history = monitor.history(b"fork");
        assert_eq!((history.len(), history[0].time_s), (160, 40));
        assert_eq!(monitor.latest()[0].max_ms, 200);
    }

    #[test]
    fn resets() {
        let monitor = LatencyMonitor::default();
        monitor.add("command", 1, 1);
        monitor.add("fork", 1, 1);
        assert!(!monitor.reset(b"blabla"));
        assert!(monitor.reset(b"FORK"));
        assert_eq!((monitor.reset_all(), monitor.reset_all()), (1, 0));
    }

    #[test]
    fn graphs() {
        let monitor = LatencyMonitor::default();
        for (latency_ms, time_s) in [(300, 100), (400, 3000), (500, 4000)] {
            monitor.add("command", latency_ms, time_s);
        }
        let expected = "command - high 500 ms, low 300 ms (all time high 500 ms)\n".to_owned()
            + &"-".repeat(80)
            + "\n  #\n _|\n ||\n_||\n   \n111\nh6s\n m \n";
        assert_eq!(monitor.graph(b"command", 4001), Some(expected));
        assert_eq!(monitor.graph(b"fork", 1), None);
    }

    #[test]
    fn the_doctor_always_says_something() {
        let monitor = LatencyMonitor::default();
        let config = Config { latency_monitor_threshold: 10, slowlog_log_slower_than: -1, ..Config::default() };
        assert!(monitor.doctor(&Config::default(), 1).contains("is off"));
        assert!(monitor.doctor(&config, 1).contains("No event"));
        monitor.add("command", 30, 1);
        monitor.add("command", 10, 3);
        let report = monitor.doctor(&config, 5);
        let line = "1. command: 2 latency spikes (average 20ms, mean deviation 10ms, period 2.00 sec). \
                    Worst all time event 30ms.\n";
        assert!(report.contains(line), "{report}");
        assert!(report.contains("CONFIG SET slowlog-log-slower-than 10000"), "{report}");
    }
}
