//! The table with entries in it, which is the keyspace; listpacks; long ranges of a sorted set.
//!
//! `cargo bench -p redstart-benches --bench types`

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use redstart_types::encoding::listpack::Listpack;
use redstart_types::entry::{Entry, NewContent};
use redstart_types::seed::HashSeed;
use redstart_types::table::{Table, hash_key};
use redstart_types::zset::{Limits, Range, ZSet};
use std::hint::black_box;

/// An entry whose values are all strings.
type StringEntry = Entry<()>;

const SEED: HashSeed = HashSeed::new([1, 2]);
const KEYS: u64 = 100_000;
const VALUE: &[u8] = &[b'v'; 32];

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    key[8..].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

fn filled() -> Table<StringEntry> {
    let mut table = Table::new(&SEED);
    for key in (0..KEYS).map(key) {
        table.insert(hash_key(&SEED, &key), Entry::new(&key, NewContent::Str(VALUE), None));
    }
    table
}

fn tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("table of 100,000 entries");
    let mut table = filled();
    let mut number = 0;
    let mut next = move || {
        number = (number + 7919) % KEYS;
        key(number)
    };
    group.bench_function("hash of a key of 16 bytes", |b| b.iter(|| hash_key(&SEED, black_box(&key(7)))));
    group.bench_function("get", |b| {
        b.iter(|| {
            let key = next();
            table.get(hash_key(&SEED, &key), &key).is_some()
        });
    });
    group.bench_function("remove and insert", |b| {
        b.iter(|| {
            let key = next();
            let hash = hash_key(&SEED, &key);
            let entry = table.remove(hash, &key).expect("every key is there");
            table.insert(hash, entry);
        });
    });
    group.bench_function("scan of all", |b| {
        b.iter(|| {
            let (mut seen, mut cursor) = (0, 0);
            loop {
                cursor = table.scan(cursor, |_| seen += 1);
                if cursor == 0 {
                    return seen;
                }
            }
        });
    });
    group.bench_function("filling", |b| b.iter_batched(|| (), |()| filled(), BatchSize::PerIteration));
}

fn entries(c: &mut Criterion) {
    let mut group = c.benchmark_group("entry");
    let key = key(1);
    group.bench_function("new, 32 bytes", |b| b.iter(|| StringEntry::new(&key, NewContent::Str(VALUE), None)));
    group.bench_function("replace by 32 bytes", |b| {
        let mut entry = StringEntry::new(&key, NewContent::Str(VALUE), Some(1));
        b.iter(|| entry.replace(NewContent::Str(black_box(VALUE))));
    });
    group.bench_function("replace by an integer", |b| {
        let mut entry = StringEntry::new(&key, NewContent::Int(1), None);
        b.iter(|| entry.replace(NewContent::Int(black_box(12345))));
    });
}

fn listpacks(c: &mut Criterion) {
    let mut group = c.benchmark_group("listpack of 64 fields and values");
    let fill = || {
        let mut listpack = Listpack::new();
        for n in 0..64 {
            listpack.push_back(format!("field:{n}").as_bytes());
            listpack.push_back(&b"a value"[..]);
        }
        listpack
    };
    let listpack = fill();
    group.bench_function("filling", |b| b.iter(fill));
    group.bench_function("find the last", |b| b.iter(|| listpack.find(black_box(b"field:63"), 1)));
    group.bench_function("going through", |b| {
        b.iter(|| listpack.iter().map(|element| element.text_len()).sum::<usize>())
    });
    group.bench_function("check of foreign bytes", |b| b.iter(|| Listpack::from_bytes(black_box(listpack.as_bytes()))));
}

fn sorted_sets(c: &mut Criterion) {
    let mut group = c.benchmark_group("sorted set of 100,000 members");
    let limits = Limits { max_listpack_entries: 128, max_listpack_value: 64, hash_seed: SEED };
    let mut zset = ZSet::for_members(1000, 16, &limits);
    for n in 0..KEYS {
        zset.insert(&key(n), n as f64, &limits);
    }
    let mut number = 0;
    group.bench_function("another score", |b| {
        b.iter(|| {
            number = (number + 7919) % KEYS;
            zset.insert(&key(number), (number * 31 % KEYS) as f64, &limits)
        });
    });
    group.bench_function("rank", |b| b.iter(|| zset.rank(black_box(&key(77)))));
    let remove = |mut zset: ZSet| {
        zset.remove_range(&Range::Ranks(0, 40_000));
        zset
    };
    group.bench_function("removing 40,000", |b| b.iter_batched(|| zset.clone(), remove, BatchSize::PerIteration));
}

criterion_group! {
    name = benches;
    config = redstart_benches::criterion();
    targets = tables, entries, listpacks, sorted_sets
}
criterion_main!(benches);
