//! Scripts whose replies were recorded from Redis 7.2.6: `eval.golden` has a script a line after `> ` (`3> ` for a
//! client of RESP3), and its reply on the line below.

#![allow(clippy::unwrap_used)]

mod common;

use common::{FakeHost, engine, eval_as, show, unescape};
use redstart_script::Resp;

#[test]
fn replies_are_those_of_redis() {
    let golden = include_str!("eval.golden");
    let mut engine = engine();
    let (mut cases, mut failed) = (0, 0);
    let mut lines = golden.lines();
    while let Some(line) = lines.next() {
        let (client, script) = match (line.strip_prefix("> "), line.strip_prefix("3> ")) {
            (Some(script), _) => (Resp::V2, script),
            (_, Some(script)) => (Resp::V3, script),
            _ => continue,
        };
        let expected = lines.next().expect("a reply follows each script");
        let mut host = FakeHost::default();
        let reply = show(&eval_as(&mut engine, &mut host, client, &unescape(script), &[]));
        cases += 1;
        if reply != expected {
            failed += 1;
            println!("script   {script}\nexpected {expected}\ngot      {reply}\n");
        }
    }
    assert!(cases > 100, "the golden file is there");
    assert_eq!(failed, 0, "of {cases} scripts");
}
