use super::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{HashMap, HashSet};

/// Hashes as they should be, and such as must not harm: all equal; equal but for a few bits at the top, at the bottom
/// (the shard's and the tag's), in the middle, and below all that a cursor shows.
const KEPT: [u64; 7] = [u64::MAX, 0, 0xf000_0000_0000_0000, 0xff, 0xffff, 0x00ff_f000_0000_0000, 0xff_ffff];

#[derive(Debug, Clone, PartialEq)]
struct Element(Box<[u8; 8]>);

impl Keyed for Element {
    fn key(&self) -> &[u8] {
        &self.0[..]
    }
}

fn seeds() -> impl Iterator<Item = HashSeed> {
    KEPT.into_iter().map(|kept| HashSeed::new([7, kept]).keeping(kept))
}

fn element(n: u64) -> Element {
    Element(Box::new(n.to_be_bytes()))
}

fn put(table: &mut Table<Element>, n: u64) {
    let hash = hash_key(table.seed(), &n.to_be_bytes());
    if table.get(hash, &n.to_be_bytes()).is_none() {
        let place = table.insert(hash, element(n));
        assert_eq!(table.at(place).key(), n.to_be_bytes());
    }
}

fn has(table: &Table<Element>, n: u64) -> bool {
    table.get(hash_key(table.seed(), &n.to_be_bytes()), &n.to_be_bytes()).is_some()
}

fn take(table: &mut Table<Element>, n: u64) -> bool {
    let hash = hash_key(table.seed(), &n.to_be_bytes());
    table.remove(hash, &n.to_be_bytes()).is_some()
}

fn filled(seed: &HashSeed, count: u64) -> Table<Element> {
    let mut table = Table::new(seed);
    (0..count).for_each(|n| put(&mut table, n));
    table
}

/// The directory names each segment for exactly the hashes of its prefix, and the bounds are kept.
fn check(table: &Table<Element>) {
    let named: usize = table.segments.iter().map(|segment| 1 << (table.depth - segment.depth)).sum();
    assert_eq!(named, table.directory.len());
    for (position, idx) in table.directory.iter().enumerate() {
        let segment = &table.segments[*idx as usize];
        let prefix = if table.depth == 0 { 0 } else { (position as u64) << (64 - table.depth) };
        let shared = if segment.depth == 0 { 0 } else { u64::MAX << (64 - segment.depth) };
        assert_eq!(prefix & shared, segment.prefix);
    }
    let deepest = table.segments.iter().filter(|segment| segment.depth == table.depth).count();
    assert_eq!(deepest, table.deepest as usize);
    let held: usize = table.segments.iter().map(|segment| segment.len as usize).sum();
    assert_eq!(held + table.overflow_len(), table.len());
    assert_eq!(table.iter().count(), table.len());
}

#[test]
fn a_bucket_is_one_cache_line() {
    assert_eq!(size_of::<Bucket<Element>>(), 64);
}

#[test]
fn behaves_like_a_std_map_under_random_operations() {
    for seed in seeds() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut table = Table::new(&seed);
        let mut model = HashSet::new();
        for round in 0..16_000u64 {
            let range = if (round / 4_000) % 2 == 0 { 12_000 } else { 600 };
            let n = rng.random_range(0..range);
            if rng.random_bool(if range == 600 { 0.1 } else { 0.7 }) {
                put(&mut table, n);
                model.insert(n);
            } else {
                assert_eq!(take(&mut table, n), model.remove(&n), "round {round}");
            }
            assert_eq!(table.len(), model.len());
            if round % 2_000 == 0 && round > 0 {
                check(&table);
            }
        }
        assert!((0..12_000u64).all(|n| has(&table, n) == model.contains(&n)));
        let elements: HashSet<_> = table.iter().map(|element| u64::from_be_bytes(*element.0)).collect();
        assert_eq!(elements, model);
        for n in model.drain() {
            assert!(take(&mut table, n));
        }
        assert!(table.is_empty());
        assert_eq!(table.memory_bytes(), 0);
    }
}

#[test]
fn scan_visits_all_that_stays_while_the_table_grows_and_shrinks() {
    for (round, seed) in seeds().enumerate() {
        let mut rng = SmallRng::seed_from_u64(round as u64);
        let mut table = filled(&seed, 2_000);
        let mut seen = HashMap::new();
        let (mut cursor, mut step) = (0, 0u64);
        loop {
            cursor = table.scan(cursor, |element| *seen.entry(element.0.clone()).or_insert(0) += 1);
            step += 1;
            let noise: u64 = rng.random_range(10_000..30_000);
            for n in noise..noise + 40 {
                if (step / 50) % 2 == 0 {
                    put(&mut table, n)
                } else {
                    take(&mut table, n);
                }
            }
            if step == 100 {
                (10_000..30_000).step_by(7).for_each(|n| {
                    take(&mut table, n);
                });
            }
            if cursor == 0 {
                break;
            }
            assert!(cursor < 1 << 40);
        }
        (0..2_000u64).for_each(|n| assert!(seen.contains_key(&n.to_be_bytes()), "{n} of round {round}"));
    }
}

#[test]
fn scan_of_a_still_table_visits_each_once() {
    for seed in seeds() {
        let mut table = filled(&seed, 5_000);
        let (mut cursor, mut visits, mut changed) = (0, 0, 0);
        loop {
            let next = table.scan(cursor, |_| visits += 1);
            assert_eq!(table.scan_mut(cursor, |_| changed += 1), next);
            assert_eq!(visits, changed);
            table.prefetch_scan(cursor, 100);
            assert!(next == 0 || next > cursor);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(visits, 5_000);
        assert_eq!(table.into_elements().count(), 5_000);
    }
}

#[test]
fn a_scan_goes_through_an_overflow_in_small_steps() {
    // Sixteen bits below the first sixteen: one bucket, whatever the table's depth, and 2^16 cursors.
    let table = filled(&HashSeed::new([1, 2]).keeping(0x0000_ffff_0000_0000), 20_000);
    let (mut cursor, mut most) = (0, 0);
    loop {
        let mut visits = 0;
        cursor = table.scan(cursor, |_| visits += 1);
        most = most.max(visits);
        if cursor == 0 {
            break;
        }
    }
    assert!(most < 2 * SEGMENT_BUCKETS * SLOTS, "{most}");
}

#[test]
fn memory_stays_in_proportion_whatever_the_hashes() {
    let count = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };
    for seed in seeds() {
        let mut table = filled(&seed, count);
        assert!(table.memory_bytes() < count as usize * 64, "{} bytes", table.memory_bytes());
        check(&table);
        assert!((0..count).all(|n| has(&table, n)) && !has(&table, count));
        (1000..count).for_each(|n| assert!(take(&mut table, n)));
        assert!(table.memory_bytes() < 300_000, "{} bytes are left", table.memory_bytes());
        check(&table);
    }
}

#[test]
fn clusters_of_equal_hashes_make_no_segments_without_end() {
    // 4096 groups, as far apart as can be, so that each may drive its own segment apart.
    let count = if cfg!(debug_assertions) { 100_000 } else { 2_000_000 };
    let table = filled(&HashSeed::new([1, 2]).keeping(0xfff), count);
    assert!(table.directory.len() <= 2 * SPARSEST * (count as usize / SEGMENT_FULL + 1));
    let table = filled(&HashSeed::new([1, 2]).keeping(0xfff << 52), count);
    assert!(table.memory_bytes() < count as usize * 64, "{} bytes", table.memory_bytes());
}

#[test]
fn random_hashes_need_no_overflow() {
    let count = if cfg!(debug_assertions) { 100_000 } else { 3_000_000 };
    let mut table = Table::new(&HashSeed::new([1, 2]));
    for n in 0..count {
        put(&mut table, n);
        assert!(table.overflow.is_none());
    }
    // Half and regrown, over and over.
    for round in 1..6 {
        let range = count * (round - 1) / 2..count * round / 2;
        range.clone().for_each(|n| assert!(take(&mut table, n)));
        range.for_each(|n| put(&mut table, n + count / 2));
        assert!(table.overflow.is_none());
    }
    check(&table);
}

#[test]
fn the_directory_shrinks_with_the_table() {
    let mut table = filled(&HashSeed::new([1, 2]), 100_000);
    let most = table.directory.len();
    (1000..100_000).for_each(|n| assert!(take(&mut table, n)));
    assert!(table.directory.len() <= most / 32, "{} of {most}", table.directory.len());
    check(&table);
}

#[test]
fn random_reaches_every_element() {
    for seed in seeds() {
        let table = filled(&seed, 1_000);
        let mut rng = SmallRng::seed_from_u64(1);
        let mut seen = HashMap::new();
        for _ in 0..100_000 {
            *seen.entry(table.random(&mut rng).unwrap().0.clone()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 1_000);
        assert!(seen.values().all(|count| (40..220).contains(count)), "{:?}", seen.values().max());
    }
}

/// A source that always gives this.
struct Always(u64);

impl RngCore for Always {
    fn next_u32(&mut self) -> u32 {
        self.0 as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill(self.0 as u8);
    }
}

#[test]
fn random_ends_though_every_guess_is_wrong() {
    let mut table = filled(&HashSeed::new([1, 2]), 10);
    (0..9).for_each(|n| assert!(take(&mut table, n)));
    for step in 0..16 {
        assert!(table.random(&mut Always(step << 60)).is_some());
    }
}

#[test]
fn samples_come_from_the_overflow_too() {
    for seed in seeds() {
        let table = filled(&seed, 5_000);
        let (mut rng, mut seen) = (SmallRng::seed_from_u64(1), HashSet::new());
        (0..20_000).for_each(|_| {
            table.sample([rng.random(), rng.random()], |element| {
                seen.insert(element.0.clone());
            })
        });
        assert!(seen.len() > 4_000, "{}", seen.len());
    }
}
