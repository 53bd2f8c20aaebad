//! Scripts: what BullMQ, Sidekiq's and Celery's helpers, redis_rate and Redisson expect of Lua.

use super::{check, refused, server};
use crate::common::{Client, config, until};
use redstart::run::start::Options;
use redstart::server::Server;
use redstart::util::clock::Clock;
use std::thread;
use std::time::{Duration, Instant};

/// Dragonfly refuses keys that were not declared, which BullMQ, dramatiq, asynq and nest's queues build from arguments.
#[test]
fn breakage_01_undeclared_keys_in_scripts() {
    let (_running, mut client) = server();
    let script = "for n = 1, 50 do redis.call('SET', ARGV[1] .. n, n) end return #redis.call('KEYS', ARGV[1] .. '*')";
    check(&mut client, &["EVAL", script, "0", "bull:q:"], ":50");
    let packed = "local parent = cmsgpack.unpack(cmsgpack.pack({key = ARGV[1]}))
        return redis.call('HSET', parent.key .. ':dependencies', 'a', '1')";
    check(&mut client, &["EVAL", packed, "1", "bull:q:meta", "bull:parent:7"], ":1");
    check(&mut client, &["HGET", "bull:parent:7:dependencies", "a"], "1");
    check(
        &mut client,
        &[
            "FUNCTION",
            "LOAD",
            "#!lua name=f\nredis.register_function('f', function(keys, args) return redis.call('INCR', args[1]) end)",
        ],
        "f",
    );
    check(&mut client, &["FCALL", "f", "0", "undeclared"], ":1");
}

/// Garnet and ioredis-mock have no cmsgpack; BullMQ unpacks every job's options with it.
#[test]
fn breakage_02_cmsgpack_is_there() {
    let (_running, mut client) = server();
    let script = "local a, b, c = cmsgpack.unpack(cmsgpack.pack({1, 2.5, 'x', {k = true}}, false, -1))
        return {a[1], tostring(a[2]), a[3], tostring(a[4].k), c}";
    check(&mut client, &["EVAL", script, "0"], "[:1 2.5 x true :-1]");
    let job = "local job = cmsgpack.unpack(cmsgpack.pack({'jobs', 42, 'a'})) return {job[1], job[2], job[3]}";
    check(&mut client, &["EVAL", job, "0"], "[jobs :42 a]");
    // Bytes as a client's msgpackr packs `["p", 300, null]`: an array of 3, a string, a 16-bit number, nil.
    let foreign = "local job = cmsgpack.unpack(string.char(0x93, 0xa1, 0x70, 0xcd, 0x01, 0x2c, 0xc0)) return {job[1], job[2], type(job[3])}";
    check(&mut client, &["EVAL", foreign, "0"], "[p :300 nil]");
}

/// Servers without Lua, or with a part of it: Redisson, Celery and BullMQ cannot run.
#[test]
fn breakage_03_scripts_in_all_their_forms() {
    let (_running, mut client) = server();
    let digest = client.call(&["SCRIPT", "LOAD", "return redis.call('INCRBY', KEYS[1], ARGV[1])"]).text();
    check(&mut client, &["EVALSHA", &digest, "1", "n", "5"], ":5");
    check(&mut client, &["EVALSHA", &digest.to_uppercase(), "1", "n", "5"], ":10");
    check(&mut client, &["SCRIPT", "EXISTS", &digest, &"0".repeat(40)], "[:1 :0]");
    check(&mut client, &["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "n"], "10");
    refused(
        &mut client,
        &["EVAL_RO", "return redis.call('DEL', KEYS[1])", "1", "n"],
        "ERR Write commands are not allowed from read-only scripts",
    );
    check(&mut client, &["SCRIPT", "FLUSH"], "+OK");
    refused(&mut client, &["EVALSHA", &digest, "1", "n", "5"], "NOSCRIPT");
    check(
        &mut client,
        &["EVAL", "return {redis.status_reply('FINE'), redis.pcall('NOSUCH')['err'] ~= nil}", "0"],
        "[+FINE :1]",
    );
    // BullMQ passes up to 7000 values at once.
    check(
        &mut client,
        &["EVAL", "local t = {} for n = 1, 7000 do t[n] = n end return redis.call('RPUSH', 'l', unpack(t))", "0"],
        ":7000",
    );
    for library in [
        "cjson.encode",
        "cmsgpack.pack",
        "struct.pack",
        "bit.bxor",
        "redis.sha1hex",
        "redis.log",
        "redis.breakpoint",
        "table.concat",
        "math.floor",
    ] {
        check(&mut client, &["EVAL", &format!("return type({library})"), "0"], "function");
    }
}

/// Lua 5.4's integers and floats gave other replies and other JSON than Redis's Lua 5.1.
#[test]
fn breakage_05_numbers_are_those_of_lua_5_1() {
    let (_running, mut client) = server();
    for (expression, reply) in [
        ("42.9", ":42"),
        ("-42.9", ":-42"),
        ("10 / 2", ":5"),
        ("tostring(10 / 2)", "5"),
        ("tostring(3)", "3"),
        ("tostring(2 ^ 53)", "9.007199254741e+15"),
        ("tonumber('0x10')", ":16"),
        ("tonumber('  12  ')", ":12"),
        ("tostring(tonumber('1e3'))", "1000"),
        ("cjson.encode(cjson.decode('101'))", "101"),
        ("cjson.encode(cjson.decode('[101, 1.5, 1e3]'))", "[101,1.5,1000]"),
        ("cjson.decode('[101]')[1] .. ''", "101"),
        ("cjson.encode({101, 4.0})", "[101,4]"),
        ("7 % 3", ":1"),
        ("math.pow(2, 10)", ":1024"),
        ("string.format('%d', 3.0)", "3"),
        ("#{1, 2, 3}", ":3"),
        ("type(unpack)", "function"),
    ] {
        check(&mut client, &["EVAL", &format!("return {expression}"), "0"], reply);
    }
    // The score of a job delayed to 2026, times 4096: an exact integer, not %.14g of it.
    let delayed =
        "redis.call('ZADD', KEYS[1], 1795400000000 * 4096 + 7, 'job') return redis.call('ZSCORE', KEYS[1], 'job')";
    check(&mut client, &["EVAL", delayed, "1", "delayed"], "7353958400000007");
    check(&mut client, &["EVAL", "redis.call('SET', KEYS[1], 0.1) return redis.call('GET', KEYS[1])", "1", "f"], "0.1");
    check(&mut client, &["EVAL", "redis.call('SET', KEYS[1], 3.0) return redis.call('GET', KEYS[1])", "1", "f"], "3");
}

/// A long script makes others wait for BUSY replies and kills; then everything goes on.
#[test]
fn breakage_21_a_script_that_never_ends() {
    let clock = Clock::stopped_at(1_800_000_000_000);
    let options = Options { config: config(), clock: clock.clone(), ..Options::default() };
    let running = Server::start(options).expect("a free port on 127.0.0.1");
    let mut client = Client::connect(&running);
    check(&mut client, &["CONFIG", "SET", "busy-reply-threshold", "50"], "+OK");
    let mut is_busy = || {
        clock.advance_ms(10);
        client.run("PING").starts_with("-BUSY")
    };
    let mut runaway = Client::connect(&running);
    runaway.send(&crate::common::request(&["EVAL", "while true do pcall(redis.call, 'GET', 'x') end", "0"]));
    until("the script is known to be slow", &mut is_busy);
    let mut other = Client::connect(&running);
    refused(&mut other, &["SET", "a", "1"], "BUSY Redis is busy running a script");
    check(&mut other, &["SCRIPT", "KILL"], "+OK");
    let killed = runaway.reply().to_string();
    assert!(killed.contains("Script killed by user"), "{killed}");
    until("commands run again", || other.run("SET a 1") == "+OK");
    check(&mut other, &["SCRIPT", "KILL"], "-NOTBUSY No scripts in execution right now.");
    // One that wrote something cannot be killed; it ends by itself, when a day has gone by.
    runaway.send(&crate::common::request(&[
        "EVAL",
        "redis.call('SET', 'w', '1') local t = redis.call('TIME') repeat local now = redis.call('TIME')
         until now[1] - t[1] > 86400 return 'ended'",
        "0",
    ]));
    until("it is slow too", &mut is_busy);
    refused(&mut other, &["SCRIPT", "KILL"], "UNKILLABLE");
    clock.advance_ms(100_000_000);
    assert_eq!(runaway.reply().to_string(), "ended");
    check(&mut client, &["GET", "w"], "1");
}

/// KeyDB crashed with KEYS and SCAN in scripts while other clients wrote.
#[test]
fn breakage_25_keys_and_scan_in_scripts_beside_writers() {
    let (running, mut client) = server();
    let end = Instant::now() + Duration::from_millis(700);
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let mut client = Client::connect(&running);
            thread::spawn(move || {
                let mut n = 0;
                while Instant::now() < end {
                    n += 1;
                    client.call(&["SET", &format!("key:{writer}:{}", n % 500), "v", "PX", "20"]);
                    client.call(&["DEL", &format!("key:{writer}:{}", (n * 7) % 500)]);
                }
            })
        })
        .collect();
    let script = "local seen, cursor = {}, '0'
        repeat
            local page = redis.call('SCAN', cursor, 'COUNT', 50)
            cursor = page[1]
            for _, key in ipairs(page[2]) do seen[key] = true end
        until cursor == '0'
        local keys = redis.call('KEYS', 'key:*')
        for _, key in ipairs(keys) do
            if not seen[key] or redis.call('TYPE', key).ok ~= 'string' then return key end
            seen[key] = nil
        end
        return next(seen)";
    while Instant::now() < end {
        // Within one script nothing changes: what expired is not there for either of the two.
        check(&mut client, &["EVAL", script, "0"], "nil");
    }
    writers.into_iter().for_each(|writer| writer.join().expect("a writer failed, see above"));
    check(&mut client, &["PING"], "+PONG");
}
