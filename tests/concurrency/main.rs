//! Many clients on several workers at the same few keys: what each reply promised must be true of all of them together.
//! Every thread does a fixed number of operations; its choices come from a seed that a failure names. `mixed.rs` runs
//! for a time instead, and has its whole history checked.

#[path = "../common/mod.rs"]
mod common;
mod history;
mod mixed;

use common::{Client, Reply, config, start_with, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redstart::config::Config;
use redstart::run::start::Running;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const THREADS: usize = 8;
const SEED: u64 = 20_240_101;

fn start() -> Running {
    start_with(Config { io_threads: 4, ..config() })
}

/// Runs `work` with a client of its own on [`THREADS`] threads; what they return.
fn on_all<T: Send + 'static>(
    running: &Running,
    work: impl Fn(usize, &mut Client, &mut StdRng) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let spawn = |thread: usize| -> JoinHandle<T> {
        let mut client = Client::connect(running);
        let work = work.clone();
        std::thread::spawn(move || work(thread, &mut client, &mut StdRng::seed_from_u64(SEED + thread as u64)))
    };
    let threads: Vec<_> = (0..THREADS).map(spawn).collect();
    threads.into_iter().map(|thread| thread.join().expect("a thread failed, see above")).collect()
}

#[test]
fn every_acknowledged_increment_counts() {
    const COUNTERS: usize = 3;
    let running = start();
    let acknowledged = on_all(&running, |_, client, random| {
        let mut sums = [0; COUNTERS];
        for _ in 0..4000 {
            let counter = random.random_range(0..COUNTERS);
            let by = random.random_range(1..10);
            let before = client.call(&["INCRBY", &format!("counter:{counter}"), &by.to_string()]).integer();
            assert!(before >= by);
            sums[counter] += by;
        }
        sums
    });
    let mut client = Client::connect(&running);
    for counter in 0..COUNTERS {
        let sum: i64 = acknowledged.iter().map(|sums| sums[counter]).sum();
        assert_eq!(client.call(&["GET", &format!("counter:{counter}")]).number(), sum);
    }
}

const ACCOUNTS: usize = 6;
const EACH: i64 = 1000;

const TRANSFER: &str = "\
local have = tonumber(redis.call('get', KEYS[1]))
local amount = tonumber(ARGV[1])
if have < amount then return 0 end
redis.call('decrby', KEYS[1], amount)
redis.call('incrby', KEYS[2], amount)
return 1";

/// Moves money with EVAL, MULTI, or WATCH and MULTI; an aborted EXEC moves nothing.
fn transfer(client: &mut Client, random: &mut StdRng) {
    let amount = random.random_range(1..50_i64).to_string();
    let first = random.random_range(0..ACCOUNTS);
    let (from, to) = (format!("account:{first}"), format!("account:{}", (first + 1) % ACCOUNTS));
    match random.random_range(0..3) {
        0 => {
            client.call(&["EVAL", TRANSFER, "2", &from, &to, &amount]).integer();
        }
        1 => {
            client.run("MULTI");
            client.call(&["DECRBY", &from, &amount]);
            client.call(&["INCRBY", &to, &amount]);
            assert_eq!(client.run("EXEC").matches(':').count(), 2);
        }
        _ => {
            client.call(&["WATCH", &from, &to]);
            let have = client.call(&["GET", &from]).number();
            let had = client.call(&["GET", &to]).number();
            let amount: i64 = amount.parse().expect("it was a number");
            client.run("MULTI");
            client.call(&["SET", &from, &(have - amount).to_string()]);
            client.call(&["SET", &to, &(had + amount).to_string()]);
            client.run("EXEC");
        }
    }
}

fn balance(client: &mut Client) -> i64 {
    let keys: Vec<String> = (0..ACCOUNTS).map(|n| format!("account:{n}")).collect();
    let mut args = vec!["MGET"];
    args.extend(keys.iter().map(String::as_str));
    client.call(&args).array().iter().map(Reply::number).sum()
}

#[test]
fn transfers_keep_the_sum_at_every_moment() {
    let running = start();
    let mut client = Client::connect(&running);
    for n in 0..ACCOUNTS {
        client.run(&format!("SET account:{n} {EACH}"));
    }
    let sum = EACH * ACCOUNTS as i64;
    on_all(&running, move |thread, client, random| {
        for _ in 0..1500 {
            // Some only look.
            if thread < 5 {
                transfer(client, random);
            }
            assert_eq!(balance(client), sum, "half a transfer is seen; seed {SEED}");
        }
    });
    assert_eq!(balance(&mut client), sum);
}

#[test]
fn an_mget_never_sees_half_an_mset() {
    const KEYS: usize = 8;
    let running = start();
    on_all(&running, |thread, client, random| {
        for n in 0..2000 {
            if thread % 2 == 0 {
                let value = format!("{thread}-{n}");
                // In any order of the keys: locks are taken in one.
                let first = random.random_range(0..KEYS);
                let pairs: Vec<String> = (0..KEYS).map(|n| format!("key:{} {value}", (first + n) % KEYS)).collect();
                assert_eq!(client.run(&format!("MSET {}", pairs.join(" "))), "+OK");
            } else {
                let keys: Vec<String> = (0..KEYS).rev().map(|n| format!("key:{n}")).collect();
                let values = client.run(&format!("MGET {}", keys.join(" ")));
                let mut values: Vec<&str> = values.trim_matches(['[', ']']).split(' ').collect();
                values.dedup();
                assert_eq!(values.len(), 1, "these are of different writers: {values:?}");
            }
        }
    });
}

/// Elements that only these threads push, so that each can be told from all others.
fn elements(pushers: usize, each: usize) -> Vec<String> {
    let mut elements: Vec<String> =
        (0..pushers).flat_map(|pusher| (0..each).map(move |n| format!("{pusher}-{n:05}"))).collect();
    elements.sort();
    elements
}

#[test]
fn lists_hand_over_each_element_once_and_in_order() {
    const EACH: usize = 2000;
    let running = start();
    let taken = on_all(&running, |thread, client, random| {
        let mut taken = Vec::new();
        for n in 0..EACH {
            // Half push, half pop just as many.
            if thread % 2 == 0 {
                let list = random.random_range(0..2);
                client.run(&format!("LPUSH queue:{list} {}-{n:05}", thread / 2));
            } else {
                taken.push(client.call(&["BRPOP", "queue:0", "queue:1", "0"]).array()[1].text());
            }
        }
        taken
    });
    let mut all = taken.concat();
    all.sort();
    assert_eq!(all, elements(THREADS / 2, EACH), "something is lost or doubled; seed {SEED}");
    assert_eq!(Client::connect(&running).run("EXISTS queue:0 queue:1"), ":0");
}

#[test]
fn one_queue_is_first_in_first_out() {
    const EACH: usize = 1500;
    let running = start();
    let taken = on_all(&running, |thread, client, _| {
        let mut taken = Vec::new();
        for n in 0..EACH {
            if thread % 2 == 0 {
                client.run(&format!("LPUSH queue {}-{n:05}", thread / 2));
            } else {
                taken.push(client.call(&["BRPOP", "queue", "0"]).array()[1].text());
            }
        }
        taken
    });
    for taken in &taken {
        for pusher in 0..THREADS / 2 {
            let prefix = format!("{pusher}-");
            let of_one: Vec<_> = taken.iter().filter(|element| element.starts_with(&prefix)).collect();
            assert!(of_one.is_sorted(), "a popper gets what one pusher pushed in its order: {of_one:?}");
        }
    }
    let mut all = taken.concat();
    all.sort();
    assert_eq!(all, elements(THREADS / 2, EACH));
}

#[test]
fn blmove_across_shards_loses_and_doubles_nothing() {
    const STATIONS: usize = 5;
    const EACH: usize = 600;
    let running = start();
    let pushers_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each mover takes from one station what it puts on the next.
        let movers: Vec<_> = (0..STATIONS - 1)
            .map(|station| {
                let mut client = Client::connect(&running);
                scope.spawn(move || {
                    let mut moved = 0;
                    while moved < 2 * EACH {
                        let (from, to) = (format!("station:{station}"), format!("station:{}", station + 1));
                        let args = ["BLMOVE", &from, &to, "RIGHT", "LEFT", "0"];
                        assert_ne!(client.call(&args), Reply::Null);
                        moved += 1;
                    }
                })
            })
            .collect();
        let pushers: Vec<_> = (0..2)
            .map(|pusher| {
                let mut client = Client::connect(&running);
                scope.spawn(move || {
                    for n in 0..EACH {
                        client.run(&format!("LPUSH station:0 {pusher}-{n:05}"));
                    }
                })
            })
            .collect();
        // The number of elements on the way is never more than have been pushed, nor does one disappear between two.
        let done = &pushers_done;
        let mut client = Client::connect(&running);
        let watcher = scope.spawn(move || {
            let script =
                "local sum = 0 for _, key in ipairs(KEYS) do sum = sum + redis.call('llen', key) end return sum";
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let keys: Vec<String> = (0..STATIONS).map(|station| format!("station:{station}")).collect();
                let count = STATIONS.to_string();
                let mut args = vec!["EVAL", script, &count];
                args.extend(keys.iter().map(String::as_str));
                let sum = client.call(&args).integer();
                assert!(sum >= last, "{sum} elements after {last}: one was nowhere");
                last = sum;
            }
        });
        for thread in pushers.into_iter().chain(movers) {
            thread.join().expect("a thread failed, see above");
        }
        pushers_done.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher failed, see above");
    });
    let mut client = Client::connect(&running);
    let arrived = client.call(&["LRANGE", &format!("station:{}", STATIONS - 1), "0", "-1"]).array();
    let mut arrived: Vec<String> = arrived.iter().map(Reply::text).collect();
    let order = arrived.iter().rev().filter(|element| element.starts_with("0-")).cloned().collect::<Vec<_>>();
    assert!(order.is_sorted(), "one pusher's elements arrive in their order");
    arrived.sort();
    assert_eq!(arrived, elements(2, EACH));
    until("nobody is blocked", || client.call(&["INFO", "clients"]).text().contains("blocked_clients:0\r\n"));
}
