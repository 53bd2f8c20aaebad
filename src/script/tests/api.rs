//! What scripts ask of their host, and what the engine keeps.

#![allow(clippy::unwrap_used)]

mod common;

use common::{FakeHost, engine, eval_as, show};
use redstart_script::{Engine, Resp, ScriptFlags, sha1_hex};

fn run(host: &mut FakeHost, script: &str) -> String {
    show(&eval_as(&mut engine(), host, Resp::V2, script.as_bytes(), &[]))
}

#[test]
fn calls_reach_the_host() {
    let mut host = FakeHost::default();
    assert_eq!(run(&mut host, "redis.call('set', 'k', 12) return redis.call('incr', 'k')"), ":13\\r\\n");
    assert_eq!(host.strings[&b"k"[..]], b"13");
    run(&mut host, "redis.set_repl(redis.REPL_NONE) redis.set_repl(redis.REPL_ALL) redis.set_repl(redis.REPL_SLAVE)");
    assert_eq!(host.repl, [0, 3, 2]);
    run(&mut host, "redis.log(redis.LOG_NOTICE, 'a', 1, true, 'b')");
    assert_eq!(host.logs, [(2, b"a 1 b".to_vec())]);
    assert_eq!(
        run(&mut host, "return {redis.acl_check_cmd('get', 'x'), redis.acl_check_cmd('set', 'x', 1)}"),
        "*2\\r\\n:1\\r\\n$-1\\r\\n"
    );
}

#[test]
fn keys_and_arguments_are_binary() {
    let mut engine = engine();
    let id = engine.load(b"return {#KEYS, KEYS[1], ARGV[1], ARGV[2]}").unwrap();
    let mut out = Vec::new();
    engine.run(id, &[b"k\0\r\n"], &[b"", b"\xff"], &mut FakeHost::default(), Resp::V2, &mut out);
    assert_eq!(out, b"*4\r\n:1\r\n$4\r\nk\0\r\n\r\n$0\r\n\r\n$1\r\n\xff\r\n");
    engine.run(id, &[], &[], &mut FakeHost::default(), Resp::V2, &mut out);
    assert!(out.ends_with(b"*1\r\n:0\r\n"), "keys of the last run are gone, and replies are appended");
}

#[test]
fn numbers_become_arguments_as_redis_writes_them() {
    let mut host = FakeHost::default();
    run(&mut host, "redis.call('rpush', 'l', 1, 1.0, 1e15, 0.1, 1711111111111, -5, 2^53, 1/3, 'x', 100, 1e100)");
    let written: Vec<String> = host.lists[&b"l"[..]].iter().map(|value| show(value)).collect();
    let expected = [
        "1",
        "1",
        "1000000000000000",
        "0.1",
        "1711111111111",
        "-5",
        "9007199254740992",
        "0.3333333333333333",
        "x",
        "100",
        "1e+100",
    ];
    assert_eq!(written, expected);
    host.lists.clear();
    run(&mut host, "local t = {} for i = 1, 5000 do t[i] = i + 0.5 end redis.call('rpush', 'l', unpack(t))");
    let list = &host.lists[&b"l"[..]];
    assert!(list.iter().enumerate().all(|(idx, value)| *value == format!("{}.5", idx + 1).into_bytes()));
}

#[test]
fn only_errors_of_the_script_are_reported() {
    let errors = |script: &str| {
        let mut host = FakeHost::default();
        run(&mut host, script);
        host.errors.iter().map(|error| show(error)).collect::<Vec<_>>()
    };
    assert_eq!(errors("return redis.call('nosuch')"), [""; 0]);
    assert_eq!(errors("return redis.pcall('nosuch')"), [""; 0]);
    assert_eq!(errors("return redis.error_reply('MY error')"), ["MY error"]);
    assert_eq!(errors("return {redis.error_reply('MY error'), {err = 'OTHER x'}}"), ["MY error", "OTHER x"]);
    assert_eq!(errors("return {err = 'MY error', ignore_error_stats_update = true}"), [""; 0]);
    assert_eq!(errors("error('x')").len(), 1);
    assert!(errors("error('x')")[0].starts_with("ERR user_script:1: x script: "));
    assert_eq!(errors("error({err = 'MY error'})")[0].split(" script").next(), Some("MY error"));
    assert_eq!(errors("redis.call()").len(), 1);
}

#[test]
fn replies_that_are_none_do_not_crash() {
    for raw in [
        "",
        "+",
        "$",
        ":",
        "*",
        "x\\r\\n",
        "$5\\r\\nab\\r\\n",
        "$-2\\r\\n",
        "$99999999999999999999\\r\\n",
        "*2\\r\\n:1\\r\\n",
        "*999999999\\r\\n",
        "%1\\r\\n:1\\r\\n",
        "%-1\\r\\n",
        "~5\\r\\n",
        "=2\\r\\nab\\r\\n",
        "=4\\r\\ntxtx\\r\\n",
        "|1\\r\\n+a\\r\\n",
        "|9223372036854775807\\r\\n",
        ":9223372036854775808\\r\\n",
        ":1a\\r\\n",
        "\\r\\n",
        ",\\r\\n",
        "#x\\r\\n",
    ] {
        let reply = run(&mut FakeHost::default(), &format!("return redis.call('raw', '{raw}') and 1"));
        assert!(reply.starts_with(['-', ':', '$', '*', '+']), "{raw}: {reply}");
    }
    let deep = "*1\\r\\n".repeat(1000);
    assert!(run(&mut FakeHost::default(), &format!("return redis.call('raw', '{deep}:1\\r\\n')")).starts_with('-'));
    assert_eq!(
        run(&mut FakeHost::default(), "return redis.call('raw', ':-9223372036854775808\\r\\n')"),
        ":-9223372036854775808\\r\\n"
    );
    assert_eq!(run(&mut FakeHost::default(), "return redis.call('raw', '*-1\\r\\n')"), "$-1\\r\\n");
    assert_eq!(run(&mut FakeHost::default(), "return redis.pcall('raw', '-FOO\\r\\n')"), "-ERR FOO\\r\\n");
}

#[test]
fn the_cache() {
    let mut engine = engine();
    let id = engine.load(b"return 1").unwrap();
    assert_eq!(engine.load(b"return 1"), Ok(id));
    assert_eq!(engine.sha(id), Some(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"));
    assert_eq!(sha1_hex(b"return 1"), *b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    assert_eq!(engine.find(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(id));
    assert_eq!(engine.find(b"e0e1"), None);
    assert_eq!(engine.body(id), Some(&b"return 1"[..]));
    assert_eq!((engine.script_count(), engine.flags(id)), (1, None));
    assert!(engine.load(b"x x").is_err());
    assert!(engine.scripts_memory_bytes() > 8 && engine.memory_bytes() > 10_000);
    drop(engine.flush().unwrap());
    assert_eq!((engine.script_count(), engine.find(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db")), (0, None));
    let mut out = Vec::new();
    engine.run(id, &[], &[], &mut FakeHost::default(), Resp::V2, &mut out);
    assert_eq!(show(&out), "-NOSCRIPT No matching script. Please use EVAL.\\r\\n");
}

#[test]
fn flags_of_scripts() {
    let flags = |body: &[u8]| Engine::parse_flags(body).unwrap();
    assert_eq!(flags(b"return 1"), None);
    assert_eq!(flags(b"#!lua\nreturn 1"), Some(ScriptFlags::default()));
    let all = flags(b"#!lua flags=no-writes,allow-oom,allow-stale,no-cluster,allow-cross-slot-keys\n").unwrap();
    assert!(ScriptFlags::NAMES.iter().all(|(flag, _)| all.contains(*flag)));
    assert!(!flags(b"#!lua flags=allow-oom\n").unwrap().contains(ScriptFlags::NO_WRITES));
}

#[test]
fn an_engine_moves_between_threads() {
    let mut engine = engine();
    let id = engine.load(b"return 1").unwrap();
    let reply = std::thread::spawn(move || {
        let mut out = Vec::new();
        engine.run(id, &[], &[], &mut FakeHost::default(), Resp::V3, &mut out);
        out
    });
    assert_eq!(reply.join().unwrap(), b":1\r\n");
}

#[test]
fn thousands_of_runs_do_not_grow_the_state() {
    let (mut engine, mut host) = (engine(), FakeHost::default());
    let script = b"local t = {} for i = 1, 20 do t[i] = cjson.encode({i, ARGV[1]}) end return t";
    let mut after_warm_up = 0;
    for round in 0..5000 {
        eval_as(&mut engine, &mut host, Resp::V2, script, &[format!("argument {round}").as_bytes()]);
        if round == 1000 {
            after_warm_up = engine.memory_bytes();
        }
    }
    assert!(engine.memory_bytes() < 2 * after_warm_up, "{} after {after_warm_up}", engine.memory_bytes());
}
