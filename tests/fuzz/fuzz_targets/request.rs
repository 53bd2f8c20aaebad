//! The request parser: the same requests however the bytes are cut up, and no more memory than they take.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::resp::request::{Limits, Parsed, Parser};
use redstart_fuzz::choices::Choices;
use redstart_fuzz::memory::bounded;

/// Parses `bytes`, given in pieces that end at `cuts`; the requests, and whether they end in an error.
fn parse(bytes: &[u8], cuts: &[usize], limits: Limits) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let mut parser = Parser::default();
    let (mut start, mut requests) = (0, Vec::new());
    for end in cuts.iter().copied().chain([bytes.len()]) {
        loop {
            match parser.parse(&bytes[start..end], limits) {
                Parsed::Incomplete => break,
                Parsed::Invalid(text) => return (requests, Some(text)),
                Parsed::Command { used } => {
                    assert!(used > 0 && used <= end - start, "a request takes bytes that are there");
                    let args = parser.inline_args();
                    requests.push(args.unwrap_or_else(|| parser.args(&bytes[start..]).map(<[u8]>::to_vec).collect()));
                    parser.next();
                    start += used;
                }
            }
        }
        assert!(parser.wanted_bytes() <= limits.max_bulk_len + end - start + 2);
    }
    (requests, None)
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let max_bulk_len = [512 << 20, 20][choices.below(2)];
    let limits = Limits { max_bulk_len, authenticated: !choices.byte().is_multiple_of(4) };
    let mut steps: Vec<usize> = (0..4).map(|_| usize::from(choices.byte())).collect();
    let bytes = choices.rest();
    steps.iter_mut().for_each(|step| *step = *step * bytes.len() / 256);
    steps.sort_unstable();
    let whole = bounded(input.len(), || parse(bytes, &[], limits));
    assert_eq!(parse(bytes, &steps, limits), whole);
});
