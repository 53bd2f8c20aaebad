//! RESTORE of payloads of every encoding with flipped bytes (version and checksum as they should be), then commands on
//! what came of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart_fuzz::bench::{Bench, KEPT_BITS, config, text};
use redstart_fuzz::choices::Choices;
use redstart_fuzz::grammar::{Kept, grammar};
use redstart_fuzz::memory::bounded;
use redstart_fuzz::samples::{finished, payloads};
use std::cell::RefCell;

/// Commands after the RESTORE.
const MOST: usize = 30;
/// Inputs before the server is replaced by a fresh one.
const INPUTS_A_SERVER: usize = 200;

thread_local! {
    static PAYLOADS: Vec<Vec<u8>> = payloads();
    /// One with hashes as they should be, one whose hashes are all equal.
    static BENCHES: RefCell<[(usize, Bench); 2]> = RefCell::new([0, 1].map(|equal| (0, bench(equal))));
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut body = PAYLOADS.with(|all| all[choices.below(all.len())].clone());
    for _ in 0..choices.below(4) {
        let index = choices.below(body.len().min(65536));
        match choices.below(3) {
            0 => body[index] = choices.byte(),
            1 => body[index] ^= 1 << choices.below(8),
            _ => body.truncate(index.max(1)),
        }
    }
    let equal = choices.below(2);
    BENCHES.with_borrow_mut(|benches| {
        let (used, server) = &mut benches[equal];
        *used += 1;
        if *used % INPUTS_A_SERVER == 0 {
            *server = bench(equal);
        }
        run(server, &body, &mut choices);
    });
});

fn bench(equal: usize) -> Bench {
    Bench::hashing(config(), KEPT_BITS[equal])
}

fn run(bench: &mut Bench, body: &[u8], choices: &mut Choices<'_>) {
    let shown = std::env::var_os("SHOW").is_some();
    bench.own("FLUSHALL");
    let payload = finished(body);
    // The keys that the commands below take.
    let keys: [&[u8]; 7] = [b"s0", b"l0", b"h0", b"e0", b"z0", b"x0", b"p0"];
    let reply = bounded(payload.len(), || bench.run(0, &[b"RESTORE", keys[0], b"0", &payload]));
    if shown {
        eprintln!("{} -> {}", payload.escape_ascii(), reply.escape_ascii());
    }
    if reply.starts_with(b"-") {
        return;
    }
    for key in &keys[1..] {
        bench.run(0, &[b"COPY", keys[0], key, b"REPLACE"]);
    }
    bench.check_reload();
    let kept = Kept { payloads: vec![payload] };
    for _ in 0..MOST {
        if choices.is_over() {
            break;
        }
        let Some(argv) = grammar().command(choices, &kept) else { continue };
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        if shown {
            eprintln!("> {}", text(&argv));
        }
        bench.run(0, &argv);
    }
    bench.run(0, &[b"RESET"]);
    bench.check_reload();
}
