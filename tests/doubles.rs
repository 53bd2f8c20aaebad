//! Doubles as text, in every way that commands and scripts print them, as Redis 7.2.6 printed the same ones:
//! `reference/doubles.txt`, made by `reference/doubles.py` with the scripts in `reference/doubles.lua`.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Reply};
use sha1::{Digest, Sha1};

const VALUES: usize = 1000;

/// Zeros, infinities, NaNs, the ends of the range, 2^53, 2^62, 2^63, and one that a shortest text gets wrong.
const EDGES: [u64; 20] = [
    0x0000_0000_0000_0000,
    0x8000_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_0000,
    0x0000_0000_0000_0001,
    0x7fef_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0x4340_0000_0000_0000,
    0x43d0_0000_0000_0000,
    0x43d0_0000_0000_0001,
    0x43e0_0000_0000_0000,
    0xc3e0_0000_0000_0000,
    0xc30d_8b76_28db_d25e,
    0x3fb9_9999_9999_999a,
    0x4415_af1d_78b5_8c40,
    0x3ee4_f8b5_88e3_68f1,
    0x3e7a_d7f2_9abc_af48,
];

/// The numbers of a block, as their bits; the first begins with the edges.
fn values(block: u64) -> impl Iterator<Item = u64> {
    let mut state = block.wrapping_mul(0xd1b5_4a32_d192_ed03);
    (0..VALUES).map(move |n| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        match n % 4 {
            _ if block == 0 && n < EDGES.len() => EDGES[n],
            0 if f64::from_bits(x).is_finite() => x,
            0 => x ^ (1 << 62),
            1 => (x & 0x800f_ffff_ffff_ffff) | (1003 + ((x >> 52) & 0x7ff) % 80) << 52,
            2 => ((x.cast_signed() >> (x & 31)) as f64 / 1000.0).to_bits(),
            _ => ((x % 1_000_000_007) as f64 * 0.01).to_bits(),
        }
    })
}

/// What a script made of the numbers, one a line.
fn lines(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(text) => text,
        Reply::Array(texts) => texts.into_iter().map(lines).collect::<Vec<_>>().join(&b'\n'),
        other => panic!("no such reply was expected: {other}"),
    }
}

#[test]
fn doubles_are_printed_as_by_redis() {
    let running = common::start();
    let mut client = Client::connect(&running);
    let scripts = include_str!("reference/doubles.lua").split("--- ").skip(1);
    let scripts: Vec<(&str, &str)> = scripts.map(|section| section.split_once('\n').unwrap()).collect();
    let mut checked = 0;
    for line in include_str!("reference/doubles.txt").lines() {
        let [name, block, digest] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let script = scripts.iter().find(|(section, _)| *section == name).unwrap().1;
        let bits: Vec<u8> = values(block.parse().unwrap()).flat_map(u64::to_le_bytes).collect();
        let printed = lines(client.call_bytes(&[b"EVAL", script.as_bytes(), b"0", &bits]));
        let ours: String = Sha1::digest(&printed).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ours, digest, "{line}: of these, one is printed otherwise: {}", printed.escape_ascii());
        checked += VALUES;
    }
    assert_eq!(checked, 600_000, "six ways, a hundred thousand doubles each");
}
