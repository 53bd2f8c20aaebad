//! RDB files: any bytes are a data set or an error, and a data set can be saved and loaded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::keyspace::lock::MayWait;
use redstart::snapshot::load::{Purpose, Target, read};
use redstart_fuzz::bench::{Bench, config};
use redstart_fuzz::memory::bounded;
use redstart_persistence::rdb::{ReadOptions, Reader, Record};
use std::cell::RefCell;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::with(redstart::config::Config { rdbchecksum: false, ..config() }));
}

/// Reads everything there is, by the crate alone.
fn read_through(bytes: &[u8]) {
    let options = ReadOptions { checksum: false, ..ReadOptions::default() };
    let Ok(mut reader) = Reader::new(bytes, options) else { return };
    while let Ok(record) = reader.record() {
        match record {
            Record::Eof(_) => return,
            Record::Key(_) => while let Ok(Some(_)) = reader.part() {},
            _ => {}
        }
    }
}

fuzz_target!(|input: &[u8]| {
    bounded(input.len(), || read_through(input));
    BENCH.with_borrow_mut(|bench| {
        bench.own("FLUSHALL");
        bench.own("FUNCTION FLUSH");
        let server = bench.server.clone();
        let purpose = Purpose { log_follows: true, ..Purpose::default() };
        let mut target = Target::Shards(&server.shards, MayWait::of_thread());
        let load = || read(&server, &server.persistence, &server.config.load(), input, &mut target, purpose);
        if bounded(input.len(), load).is_ok() {
            bench.check_reload();
        }
    });
});
