//! `--check-system` and `--test-memory`: what an operator asks before trusting a machine.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;

/// One look at the machine: its name, and what it found if it could look.
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// `None`: cannot be told here. `Err`: what is wrong and what to do.
    pub outcome: Option<Result<(), String>>,
}

/// Looks at the settings of the running kernel that cost speed or connections.
pub fn check_system() -> Vec<Check> {
    let look = |name, path: &str, judge: fn(&str) -> Result<(), String>| Check {
        name,
        outcome: fs::read_to_string(path).ok().map(|text| judge(text.trim())),
    };
    vec![
        look("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource", judge_clock_source),
        look("huge-pages", "/sys/kernel/mm/transparent_hugepage/enabled", judge_huge_pages),
        look("accept-queue", "/proc/sys/net/core/somaxconn", judge_accept_queue),
        look("open-files", "/proc/self/limits", judge_open_files),
    ]
}

/// The report on some checks, and whether all is well.
pub fn report(checks: &[Check]) -> (String, bool) {
    let mut text = String::new();
    for Check { name, outcome } in checks {
        let outcome = match outcome {
            None => "skipped",
            Some(Ok(())) => "OK",
            Some(Err(problem)) => &format!("WARNING:\n{problem}"),
        };
        writeln!(text, "[{name}]...{outcome}").expect("writing to a String does not fail");
    }
    let fine = checks.iter().all(|check| !matches!(check.outcome, Some(Err(_))));
    (text, fine)
}

fn judge_clock_source(source: &str) -> Result<(), String> {
    match source {
        "hpet" | "acpi_pm" | "xen" => Err(format!(
            "Reading the time is slow with the clock source '{source}'. A faster one may be listed in \
             available_clocksource beside it; 'tsc' is best."
        )),
        _ => Ok(()),
    }
}

fn judge_huge_pages(enabled: &str) -> Result<(), String> {
    if !enabled.contains("[never]") {
        return Ok(());
    }
    Err("Transparent huge pages are off. Data sets of many megabytes are served faster with 'madvise'.".into())
}

fn judge_accept_queue(length: &str) -> Result<(), String> {
    match length.parse::<u32>() {
        Ok(length) if length < 511 => Err(format!(
            "At most {length} connections may wait to be accepted, whatever tcp-backlog says. Raise net.core.somaxconn."
        )),
        _ => Ok(()),
    }
}

fn judge_open_files(limits: &str) -> Result<(), String> {
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_ascii_whitespace().nth(4)?.parse::<u64>().ok());
    match hard {
        Some(files) if files < 10_032 => {
            Err(format!("This process may open {files} files at most, fewer than 10000 clients need (ulimit -n)."))
        }
        _ => Ok(()),
    }
}

/// Writes patterns over that many megabytes and reads them back. The error names the first word that differs.
pub fn test_memory(megabytes: u64, passes: u32) -> Result<(), String> {
    let words = usize::try_from(megabytes).ok().and_then(|megabytes| megabytes.checked_mul((1 << 20) / 8));
    let words = words.ok_or("that is more memory than there can be")?;
    let mut memory: Vec<u64> = Vec::new();
    memory.try_reserve_exact(words).map_err(|error| error.to_string())?;
    memory.resize(words, 0);
    // Each word holds its own number first (stuck address lines), then all bits in both states.
    let patterns: [fn(u64) -> u64; 4] =
        [|index| index, |index| !index, |_| 0x5555_5555_5555_5555, |_| 0xaaaa_aaaa_aaaa_aaaa];
    for _ in 0..passes {
        for pattern in patterns {
            memory.iter_mut().zip(0..).for_each(|(word, index)| *word = pattern(index));
            black_box(&mut memory);
            if let Some((index, word)) = (0..).zip(&memory).find(|(index, word)| pattern(*index) != **word) {
                return Err(format!("word {index} holds {word:#018x}, not {:#018x}", pattern(index)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_judged() {
        assert!(judge_clock_source("tsc").is_ok() && judge_clock_source("xen").is_err());
        assert!(judge_huge_pages("always [madvise] never").is_ok() && judge_huge_pages("always [never]").is_err());
        assert!(judge_accept_queue("4096").is_ok() && judge_accept_queue("128").is_err());
        let limits = |hard: &str| format!("Limit Soft Hard Units\nMax open files            1024   {hard}   files\n");
        assert!(judge_open_files(&limits("1024")).is_err());
        assert!(judge_open_files(&limits("1048576")).is_ok() && judge_open_files(&limits("unlimited")).is_ok());
    }

    #[test]
    fn reports() {
        let checks = [
            Check { name: "a", outcome: None },
            Check { name: "b", outcome: Some(Ok(())) },
            Check { name: "c", outcome: Some(Err("bad".into())) },
        ];
        assert_eq!(report(&checks[..2]), ("[a]...skipped\n[b]...OK\n".into(), true));
        assert_eq!(report(&checks), ("[a]...skipped\n[b]...OK\n[c]...WARNING:\nbad\n".into(), false));
    }

    #[test]
    fn sound_memory_passes() {
        assert_eq!(test_memory(2, 1), Ok(()));
        assert!(test_memory(u64::MAX, 1).is_err());
    }
}
