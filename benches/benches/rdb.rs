//! Records of RDB files, encoded and read.
//!
//! `cargo bench -p redstart-benches --bench rdb`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redstart_persistence::rdb::{Encoder, KeyMeta, Kind, ReadOptions, Reader, Record, WriteOptions, Writer};
use std::hint::black_box;

const META: KeyMeta = KeyMeta { expire_at_ms: Some(1_700_000_000_000), lru_idle_s: None, lfu_freq: None };

fn encode(c: &mut Criterion, name: &str, options: WriteOptions, record: impl Fn(&mut Encoder)) {
    let mut encoder = Encoder::new(options);
    record(&mut encoder);
    let mut group = c.benchmark_group("encoding");
    group.throughput(Throughput::Bytes(encoder.bytes().len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            encoder.clear();
            record(&mut encoder);
            encoder.bytes().len()
        });
    });
}

fn string(encoder: &mut Encoder, value: &[u8]) {
    encoder.key(b"key:000000001234", Kind::String, &META);
    encoder.string(black_box(value));
}

fn encoding(c: &mut Criterion) {
    let plain = WriteOptions { compression: false, ..WriteOptions::default() };
    encode(c, "a string of 32 bytes", plain, |encoder| string(encoder, &[b'v'; 32]));
    encode(c, "a string of 4 KB", plain, |encoder| string(encoder, &[b'v'; 4096]));
    let text = b"some text".repeat(455);
    encode(c, "a string of 4 KB, compressed", WriteOptions::default(), |encoder| string(encoder, &text));
    encode(c, "an integer", plain, |encoder| {
        encoder.key(b"key:000000001234", Kind::String, &META);
        encoder.int(black_box(12345));
    });
    encode(c, "a sorted set of 1000 members", plain, |encoder| {
        encoder.key(b"key:000000001234", Kind::Zset2, &META);
        encoder.count(1000);
        for n in 0..1000 {
            encoder.string(black_box(b"member:1"));
            encoder.score(f64::from(n));
        }
    });
}

/// A file of `keys` strings.
fn file(keys: u32) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), WriteOptions::default());
    let encoder = writer.encoder();
    encoder.select_db(0);
    for n in 0..keys {
        encoder.key(format!("key:{n:012}").as_bytes(), Kind::String, &META);
        encoder.string(&[b'v'; 32]);
    }
    writer.finish().expect("memory takes everything")
}

/// How many keys it holds.
fn read(file: &[u8]) -> usize {
    let mut reader = Reader::new(file, ReadOptions::default()).expect("the header is ours");
    let mut keys = 0;
    loop {
        match reader.record().expect("the file is whole") {
            Record::Key(_) => keys += 1,
            Record::Eof(_) => return keys,
            _ => {}
        }
        while reader.part().expect("the file is whole").is_some() {}
    }
}

fn reading(c: &mut Criterion) {
    let file = file(1000);
    let mut group = c.benchmark_group("reading");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("a file of 1000 strings", |b| b.iter(|| assert_eq!(read(black_box(&file)), 1000)));
}

criterion_group! {
    name = benches;
    config = redstart_benches::criterion();
    targets = encoding, reading
}
criterion_main!(benches);
