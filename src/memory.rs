//! What the allocator says of itself, and sizes for people.

use tikv_jemalloc_ctl::{Access, AsName, epoch, stats};

/// Bytes of the whole process, as jemalloc counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllocatorStats {
    /// Asked for and not given back.
    pub allocated: u64,
    /// In pages that hold any of it.
    pub active: u64,
    /// In physical memory.
    pub resident: u64,
}

/// The name INFO shows.
pub const ALLOCATOR: &str = "jemalloc-5.3.0";

impl AllocatorStats {
    /// Reads the counts now; all 0 in a process that does not allocate through jemalloc. Takes some microseconds.
    pub fn read() -> Self {
        // The counts are of the last epoch.
        if epoch::advance().is_err() {
            return Self::default();
        }
        let bytes = |count: Result<usize, tikv_jemalloc_ctl::Error>| count.map_or(0, |bytes| bytes as u64);
        Self {
            allocated: bytes(stats::allocated::read()),
            active: bytes(stats::active::read()),
            resident: bytes(stats::resident::read()),
        }
    }
}

/// One of jemalloc's numbers by its name (`mallctl`); `None` if there is none of that name and size.
pub fn mallctl(name: &str) -> Option<usize> {
    const SIZES: [&str; 6] =
        ["arenas.page", "arenas.quantum", "stats.allocated", "stats.active", "stats.resident", "stats.mapped"];
    // Asked for with a wrong type, a name would make jemalloc's wrapper panic.
    let known = SIZES.into_iter().find(|known| *known == name)?;
    let terminated = [known.as_bytes(), b"\0"].concat();
    terminated.as_slice().name().read().ok()
}

/// Gives the pages that hold nothing back to the system. The error is jemalloc's.
pub fn purge() -> Result<(), tikv_jemalloc_ctl::Error> {
    let arenas = tikv_jemalloc_ctl::arenas::narenas::read()?;
    for arena in 0..arenas {
        for kind in ["dirty", "muzzy"] {
            let name = format!("arena.{arena}.{kind}_decay_ms\0");
            let name = name.as_bytes().name();
            // An arena that was never used has no decay time.
            let Ok(decay_ms): Result<isize, _> = name.read() else { continue };
            // Pages that may stay for no time at all go at once.
            name.write(0_isize).and_then(|()| name.write(decay_ms))?;
        }
    }
    Ok(())
}

/// A size as INFO's `_human` fields show it: `1.50K`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    let power = bytes.checked_ilog2().unwrap_or(0) / 10;
    match UNITS.get((power as usize).wrapping_sub(1)) {
        Some(unit) => format!("{:.2}{unit}", bytes as f64 / (1_u64 << (10 * power)) as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, shown) in [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_500_000, "1.43M"), (3 << 40, "3.00T")] {
            assert_eq!(human(bytes), shown);
        }
    }

    #[test]
    fn the_allocator_answers() {
        let stats = AllocatorStats::read();
        assert!(stats.allocated <= stats.active && stats.active <= stats.resident, "{stats:?}");
        assert!(mallctl("arenas.page").is_some_and(|page| page >= 4096));
        assert_eq!(mallctl("thread.tcache.flush"), None);
        assert!(purge().is_ok());
    }
}
