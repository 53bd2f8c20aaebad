//! Rows of commands of two clients: no panic, no hang, replies that are RESP, a log that gives the same data again, and
//! data that survives being saved and loaded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart_fuzz::bench::{Bench, CLIENTS, KEPT_BITS, config, text};
use redstart_fuzz::choices::Choices;
use redstart_fuzz::grammar::{Kept, grammar};

/// Commands of one input.
const MOST: usize = 60;
/// Payloads kept for RESTORE.
const MOST_KEPT: usize = 8;

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let small = choices.byte();
    let mut bench = Bench::hashing(config(), KEPT_BITS[usize::from(small >> 1) % KEPT_BITS.len()]);
    let shown = std::env::var_os("SHOW").is_some();
    if small.is_multiple_of(2) {
        // Collections leave their small encodings early.
        for name in ["hash", "set", "zset"] {
            bench.own(&format!("CONFIG SET {name}-max-listpack-entries 3 {name}-max-listpack-value 8"));
        }
        bench.own("CONFIG SET set-max-intset-entries 3 list-max-listpack-size 2 stream-node-max-entries 3");
    }
    let mut kept = Kept::default();
    for _ in 0..MOST {
        if choices.is_over() {
            break;
        }
        let client = choices.below(CLIENTS);
        if choices.chance(8) {
            bench.advance_ms([1, 500, 1000, 100_000][choices.below(4)]);
        }
        let Some(argv) = grammar().command(&mut choices, &kept) else { continue };
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        if shown {
            eprintln!("{client}> {}", text(&argv));
        }
        let reply = bench.run(client, &argv);
        if shown {
            eprintln!("{}", reply.escape_ascii());
        }
        if argv[0].eq_ignore_ascii_case(b"dump") && reply.starts_with(b"$") && kept.payloads.len() < MOST_KEPT {
            let head = reply.windows(2).position(|pair| pair == b"\r\n").map_or(0, |end| end + 2);
            kept.payloads.extend(reply.get(head..reply.len() - 2).map(<[u8]>::to_vec));
        }
    }
    bench.check_log();
    bench.check_reload();
});
