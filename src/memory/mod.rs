//! What the allocator says of itself, how much memory is used, and sizes for people.
//!
//! jemalloc's own sum takes some microseconds to read: too long for every command of a server with `maxmemory`. So
//! each thread adds what it has allocated and freed since it last did, which costs two loads, and the sum is set right
//! whenever the allocator is asked (ten times a second, and before memory is called short).

pub mod allocator;
pub mod reclaim;

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tikv_jemalloc_ctl::{Access, AsName, background_thread, epoch, stats, thread};

/// Bytes of the whole process, as jemalloc counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllocatorStats {
    /// Asked for and not given back; what threads keep for themselves to hand out again is not counted.
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
            allocated: bytes(stats::allocated::read()).saturating_sub(cached_by_threads()),
            active: bytes(stats::active::read()),
            resident: bytes(stats::resident::read()),
        }
    }
}

fn cached_by_threads() -> u64 {
    // 4096 stands for all arenas (MALLCTL_ARENAS_ALL).
    let bytes: Result<usize, _> = b"stats.arenas.4096.tcache_bytes\0".as_slice().name().read();
    bytes.map_or(0, |bytes| bytes as u64)
}

/// The bytes in use, as closely as is known without asking the allocator.
#[derive(Debug, Default)]
pub struct UsedMemory {
    bytes: AtomicI64,
    /// Raised when `bytes` is set: what threads have not added yet is in it.
    generation: AtomicU64,
    /// When `bytes` was set last, Unix ms.
    set_at_ms: AtomicI64,
}

thread_local! {
    /// What this thread has added so far: the generation it added to, and its balance then.
    static ADDED: Cell<(u64, i64)> = const { Cell::new((0, 0)) };
}

impl UsedMemory {
    /// The bytes in use as last known.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// Adds what this thread has allocated and freed since it last did; the bytes in use.
    #[inline]
    pub fn update(&self) -> u64 {
        let balance = balance_of_thread();
        let generation = self.generation.load(Ordering::Acquire);
        let (before, added) = ADDED.replace((generation, balance));
        if before == generation {
            self.bytes.fetch_add(balance - added, Ordering::Relaxed);
        }
        self.bytes()
    }

    /// When the allocator was asked last, Unix ms.
    pub fn set_at_ms(&self) -> i64 {
        self.set_at_ms.load(Ordering::Relaxed)
    }

    /// Sets what the allocator says now. What threads allocate or free between its word and this call is missing until
    /// the next.
    pub fn set(&self, bytes: u64, now_ms: i64) {
        self.set_at_ms.store(now_ms, Ordering::Relaxed);
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        ADDED.set((generation, balance_of_thread()));
        self.bytes.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

/// Bytes that this thread has allocated less those it has freed, whoever allocated them.
#[inline]
pub fn balance_of_thread() -> i64 {
    thread_local! {
        static COUNTS: Option<(thread::ThreadLocal<u64>, thread::ThreadLocal<u64>)> =
            thread::allocatedp::read().ok().zip(thread::deallocatedp::read().ok());
    }
    COUNTS.with(|counts| {
        let balance = counts.as_ref().map(|(allocated, freed)| allocated.get().wrapping_sub(freed.get()));
        balance.map_or(0, |balance| balance as i64)
    })
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

/// One of jemalloc's texts by its name (`mallctl`); `None` if there is none of that name.
pub fn mallctl_text(name: &str) -> Option<&'static [u8]> {
    let known = ["version", "config.malloc_conf", "opt.dss", "opt.thp"].into_iter().find(|known| *known == name)?;
    let terminated = [known.as_bytes(), b"\0"].concat();
    terminated.as_slice().name().read().ok()
}

/// Gives back what this thread keeps for itself to hand out again.
pub fn flush_thread() -> Result<(), tikv_jemalloc_ctl::Error> {
    // Switched off, it gives everything back; "thread.tcache.flush" has no value, which the wrapper cannot say.
    let enabled = b"thread.tcache.enabled\0".as_slice().name();
    let was: bool = enabled.update(false)?;
    enabled.write(was)
}

/// Whether threads of jemalloc's own give pages that hold nothing back to the system (`jemalloc-bg-thread`). Otherwise the
/// thread that happens to allocate does, a worker perhaps, and all that a large value has left at once. This is of the whole
/// process, as jemalloc is. The error is jemalloc's.
pub fn purge_in_background(is_wanted: bool) -> Result<(), tikv_jemalloc_ctl::Error> {
    background_thread::write(is_wanted)
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
    fn used_memory_follows_this_thread_and_the_allocator() {
        let used = UsedMemory::default();
        used.set(1_000_000, 1);
        let block = vec![1_u8; 200_000];
        let with_block = used.update();
        assert!((1_200_000..1_300_000).contains(&with_block), "{with_block}");
        drop(block);
        assert!((1_000_000..1_010_000).contains(&used.update()));
        let block = vec![1_u8; 200_000];
        used.set(5, 2);
        assert_eq!((used.bytes(), used.set_at_ms()), (5, 2));
        drop(block);
        assert_eq!((used.update(), used.bytes.load(Ordering::Relaxed) < -100_000), (0, true));
    }

    #[test]
    fn the_allocator_answers() {
        let stats = AllocatorStats::read();
        assert!(stats.allocated <= stats.active && stats.active <= stats.resident, "{stats:?}");
        assert!(mallctl("arenas.page").is_some_and(|page| page >= 4096));
        assert_eq!(mallctl("thread.tcache.flush"), None);
        assert!(purge().is_ok());
        assert!(mallctl_text("version").is_some_and(|version| version.starts_with(b"5.")));
        assert_eq!(mallctl_text("arenas.page"), None);
        assert_eq!((flush_thread(), flush_thread()), (Ok(()), Ok(())));
        assert_eq!((purge_in_background(true), purge_in_background(false)), (Ok(()), Ok(())));
    }
}
