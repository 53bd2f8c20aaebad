//! Append-only files and manifests: any bytes are commands or an error, whatever the pieces they come in, and the
//! commands can be run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart_fuzz::bench::Bench;
use redstart_fuzz::choices::Choices;
use redstart_fuzz::memory::bounded;
use redstart_persistence::aof::{Manifest, Reader};
use std::cell::RefCell;
use std::io::Read;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

/// Gives a few bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let len = self.1.min(to.len());
        self.0.read(&mut to[..len])
    }
}

/// The items of a file and the error at its end, as text.
fn items(source: impl Read) -> String {
    let mut reader = Reader::new(source, 0);
    let mut text = String::new();
    loop {
        match reader.item() {
            Ok(Some(item)) => text += &format!("{item:?}\n"),
            Ok(None) => return text,
            Err(error) => return text + &error.to_string(),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let piece = usize::from(choices.byte()) + 1;
    let bytes = choices.rest();
    if let Ok(manifest) = Manifest::parse(bytes)
        // Names are written with escapes, which may make a line longer than it may be.
        && !manifest.is_empty()
        && bytes.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\n')
    {
        let again = Manifest::parse(manifest.format().as_bytes()).expect("what we write can be read");
        assert_eq!(again, manifest);
    }
    let whole = bounded(40 * input.len(), || items(bytes));
    assert_eq!(items(Pieces(bytes, piece)), whole);
    BENCH.with_borrow_mut(|bench| {
        bench.own("FLUSHALL");
        bench.apply(bytes, true);
    });
});
