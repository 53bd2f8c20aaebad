//! What a script must not be able to do: crash the process, change what others see, keep running, speak raw RESP.

#![allow(clippy::unwrap_used)]

mod common;

use common::{FakeHost, engine, eval, eval_as, show};
use redstart_script::{Engine, Options, Resp};

fn run(engine: &mut Engine, script: &str) -> String {
    show(&eval_as(engine, &mut FakeHost::default(), Resp::V2, script.as_bytes(), &[]))
}

#[track_caller]
fn assert_contains(reply: &str, part: &str) {
    assert!(reply.contains(part), "{part:?} is not in {reply:?}");
}

/// Deep recursion in C needs more stack than a test thread has in a debug build.
fn with_stack(body: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(8 << 20).spawn(body).unwrap().join().unwrap();
}

#[test]
fn cve_2022_0543_no_library_of_the_host() {
    for name in ["package", "require", "module", "io", "os", "debug", "dofile", "loadfile", "print"] {
        assert_contains(&eval(&format!("return {name}")), "nonexistent global variable");
        assert_eq!(eval(&format!("return rawget(_G, '{name}')")), "$-1\\r\\n");
    }
}

#[test]
fn cve_2022_24735_scripts_cannot_change_what_later_ones_call() {
    let mut engine = engine();
    for script in [
        "redis.call = function() return 'mine' end",
        "_G.redis = {}",
        "rawset(_G, 'redis', {})",
        "rawset(redis, 'call', 1)",
        "table.insert(_G, 'x')",
        "table.insert(redis, 1, 'x')",
        "setmetatable(redis, {__index = function() end})",
        "setmetatable(_G, {})",
        "getmetatable(_G).__index = function() return 1 end",
        "getmetatable(getmetatable(_G)).__index = 1",
        "string.format = nil",
        "getmetatable('').__index.upper = 1",
        "math.random = function() return 4 end",
        "coroutine.wrap = 1",
        "cjson.encode = 1",
        "tostring = 1",
        "function tostring() end",
        "KEYS = 1",
        "newglobal = 1",
        "setfenv(0, {}) newglobal = 1",
        "loadstring('newglobal = 1')()",
    ] {
        let reply = run(&mut engine, script);
        assert!(reply.starts_with('-') || script.contains("setfenv"), "{script}: {reply}");
        assert_eq!(run(&mut engine, "return redis.call('ping')"), "+PONG\\r\\n", "after {script}");
        assert_eq!(run(&mut engine, "return rawget(_G, 'newglobal')"), "$-1\\r\\n", "after {script}");
        assert_eq!(run(&mut engine, "return #redis + #_G + #string"), ":0\\r\\n", "after {script}");
        assert_eq!(run(&mut engine, "return ('x'):upper() .. tostring(5)"), "$2\\r\\nX5\\r\\n", "after {script}");
    }
}

#[test]
fn cve_2022_24736_nothing_of_the_run_is_missing_in_coroutines() {
    assert_eq!(
        eval("local f = coroutine.wrap(function() return redis.call('echo', 'x') end) return f()"),
        "$1\\r\\nx\\r\\n"
    );
    assert_contains(&eval("return coroutine.wrap(redis.call)()"), "Lua function expected");
}

#[test]
fn cve_2024_46981_finalizers_never_run() {
    let mut engine = engine();
    let script = "local p = newproxy(true) \
        getmetatable(p).__gc = function() redis.call('set', 'finalized', '1') end \
        rawset(getmetatable(p), '__gc', function() redis.call('set', 'finalized', '1') end) \
        p = nil collectgarbage() collectgarbage() return redis.call('get', 'finalized')";
    assert_eq!(run(&mut engine, script), "$-1\\r\\n");
    assert_eq!(run(&mut engine, "collectgarbage() return redis.call('get', 'finalized')"), "$-1\\r\\n");
    drop(engine);
}

#[test]
fn cve_2024_31449_tohex_of_the_least_count() {
    assert_eq!(eval("return bit.tohex(65535, -2147483648)"), "$8\\r\\n0000FFFF\\r\\n");
}

#[test]
fn cve_2025_46817_unpack_of_any_range() {
    for range in
        ["0, 2147483647", "-2147483648, 2147483647", "-2147483648, 0", "1, 2147483647", "1, 2^31", "-2^31, 2^40"]
    {
        let reply = eval(&format!("return {{unpack({{1,2,3}}, {range})}}"));
        assert!(reply.contains("too many results to unpack") || reply == "*0\\r\\n", "{range}: {reply}");
    }
    assert_eq!(eval("return {unpack({1,2,3}, 2147483647, 2147483647)}"), "*0\\r\\n");
    assert_eq!(eval("local t = {} for i = 1, 7990 do t[i] = i end return select('#', unpack(t))"), ":7990\\r\\n");
}

#[test]
fn cve_2025_46818_metatables_of_basic_types_are_read_only() {
    let mut engine = engine();
    assert_contains(&run(&mut engine, "getmetatable('').__index = function() return 'owned' end"), "readonly table");
    assert_contains(&run(&mut engine, "rawset(getmetatable(''), '__index', 1)"), "readonly table");
    assert_contains(&run(&mut engine, "setmetatable(getmetatable(''), {})"), "readonly table");
    assert_contains(&run(&mut engine, "getmetatable('').__index.rep = 1"), "readonly table");
    assert_eq!(run(&mut engine, "return getmetatable('').__index == string"), ":1\\r\\n");
    assert_eq!(run(&mut engine, "return ('x'):rep(2)"), "$2\\r\\nxx\\r\\n");
    for value in ["1", "true", "nil", "redis.call", "coroutine.create(function() end)", "cjson.null"] {
        assert_eq!(run(&mut engine, &format!("return getmetatable({value})")), "$-1\\r\\n");
    }
}

#[test]
fn cve_2025_46819_long_brackets() {
    let level = "=".repeat(70_000);
    assert_eq!(eval(&format!("return [{level}[x]{level}]")), "$1\\r\\nx\\r\\n");
    assert_contains(&eval(&format!("return [{level}x")), "invalid long string delimiter");
    assert_contains(&eval(&format!("return [{level}[x]=]")), "unfinished long string");
}

#[test]
fn cve_2025_49844_no_collection_while_the_parser_runs() {
    let script = "local n = 0
        local f = load(function()
            n = n + 1
            collectgarbage() collectgarbage()
            if n <= 300 then return 'local a' .. n % 150 .. ' = \"' .. ('x'):rep(n) .. n .. '\" ' .. (n % 150 == 0 and 'do end ' or '') end
            if n == 301 then return 'return 1' end
        end, 'chunk' .. ('y'):rep(1000))
        collectgarbage()
        return tostring(f and f())";
    let reply = eval(script);
    assert!(reply.contains("$1\\r\\n1") || reply.contains("nil"), "{reply}");
    let mut engine = engine();
    for size in [10, 100, 1000, 10_000] {
        let body = format!(
            "collectgarbage('setpause', 0) return loadstring(('local x = \"abc\" '):rep(1) .. 'return {{' .. ('{{\"k\", 1}},'):rep({size}) .. '}}', ('n'):rep({size}))() ~= nil"
        );
        assert_eq!(run(&mut engine, &body), ":1\\r\\n");
    }
}

#[test]
fn cve_2025_67733_errors_and_statuses_are_one_line() {
    for script in [
        "return redis.error_reply('a\\r\\n+injected\\r\\n')",
        "return {err = 'a\\r\\n+injected\\r\\nb'}",
        "return {ok = 'a\\r\\n+injected'}",
        "return {big_number = '1\\r\\n+injected'}",
        "error({err = 'a\\r\\n+injected'})",
        "error('a\\r\\n+injected')",
        "error({err = 'x', source = 'a\\r\\n+injected', line = '1\\r\\n+injected'})",
        "return redis.call('raw', '-ERR x\\r\\n')",
        "loadstring('error(1)', '@a\\r\\n+injected')()",
        "x x\\r\\n",
    ] {
        for client in [Resp::V2, Resp::V3] {
            let script = script.replace("\\r\\n", "\r\n").replace('\r', "\\r").replace('\n', "\\n");
            let reply = eval_as(&mut engine(), &mut FakeHost::default(), client, script.as_bytes(), &[]);
            let lines = reply.windows(2).filter(|pair| pair == b"\r\n").count();
            let bulk = usize::from(reply[0] == b'$');
            assert_eq!(lines, 1 + bulk, "{script}: {}", show(&reply));
            assert_eq!(reply.iter().filter(|&&byte| byte == b'\n').count(), 1 + bulk, "{script}");
        }
    }
}

#[test]
fn cve_2021_32626_lua_stack_limits() {
    with_stack(|| {
        let mut engine = engine();
        for script in [
            "return #cmsgpack.unpack(('\\\\145'):rep(100000))",
            "return #cmsgpack.unpack(('\\\\129\\\\1'):rep(100000))",
            "return cjson.decode(('['):rep(100000))",
            "cjson.decode_max_depth(1000000) return cjson.decode(('['):rep(100000) .. (']'):rep(100000))",
            "cjson.encode_max_depth(1000000) local t = {} for i = 1, 100000 do t = {t} end return cjson.encode(t)",
            "cjson.encode_max_depth(1000000) local t = {} for i = 1, 100000 do t = {x = t} end return cjson.encode(t)",
            "return {cmsgpack.unpack(('\\\\1'):rep(100000))}",
            "return struct.unpack(('b'):rep(100000), ('a'):rep(100000))",
            "return redis.call(unpack({}, 1, 8000))",
            "return ('x'):byte(-1) .. #{('x'):rep(100000):byte(1, -1)}",
            "return string.char(unpack({}, 1, 9000))",
            "local function f(...) return select('#', f(1, ...)) end return f()",
        ] {
            let script = script.replace("\\\\", "\\");
            let reply = run(&mut engine, &script);
            assert!(reply.starts_with('-'), "{script}: {reply}");
            assert_eq!(run(&mut engine, "return 1"), ":1\\r\\n", "after {script}");
        }
    });
}

#[test]
fn recursion_ends_in_an_error() {
    with_stack(|| {
        let mut engine = engine();
        for script in [
            "local function f() return 1 + f() end return f()",
            "local function f() return (pcall(f)) end f() error('done')",
            "local function f() return ('x'):gsub('x', f) end return f()",
            "local function f() return coroutine.wrap(f)() end return f()",
            "local function f() table.sort({1, 2}, f) end f()",
            "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
            "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
            "local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) return tostring(t)",
            "local function f() return (xpcall(f, function(e) return e end)) end f() error('done')",
            "local function f() loadstring('return ...')(f()) end f()",
            "local s = ('('):rep(1000) .. '1' .. (')'):rep(1000) error(select(2, loadstring('return ' .. s)))",
            "local s = ('{'):rep(1000) error(select(2, loadstring('return ' .. s)))",
            "error(select(2, loadstring(('do '):rep(1000))))",
            "error(select(2, loadstring('return ' .. ('-'):rep(10000, ' ') .. ' 1 x')))",
            "error(select(2, loadstring('return ' .. ('not '):rep(10000) .. ' 1 x')))",
            "error(select(2, loadstring('return ' .. ('a..'):rep(10000) .. 'a x')))",
            "error(select(2, loadstring(('function f() '):rep(1000))))",
        ] {
            let reply = run(&mut engine, script);
            assert!(reply.starts_with('-'), "{script}: {reply}");
            assert_eq!(run(&mut engine, "return 1"), ":1\\r\\n", "after {script}");
        }
    });
}

#[test]
fn recursive_replies_end_in_an_error() {
    let mut engine = engine();
    let reply = run(&mut engine, "local a = {} a[1] = a return a");
    assert!(reply.starts_with("*1\\r\\n*1\\r\\n") && reply.ends_with("-ERR reached lua stack limit\\r\\n"));
    let reply = run(&mut engine, "local a = {} a.map = {x = a} return a");
    assert!(reply.starts_with("*2\\r\\n$1\\r\\nx") && reply.ends_with("-ERR reached lua stack limit\\r\\n"));
    let reply = run(&mut engine, "local a = {} a.set = {[a] = 1} return a");
    assert!(reply.ends_with("-ERR reached lua stack limit\\r\\n"));
    let mut host = FakeHost { kill_at: 3, ..FakeHost::default() };
    let reply = eval_as(&mut engine, &mut host, Resp::V2, b"local a = {} a[1] = a a[2] = a return a", &[]);
    assert_contains(&show(&reply), "-ERR Error running script");
}

#[test]
fn patterns_with_many_items_are_refused() {
    for script in [
        "return ('a'):rep(300000):find(('a?'):rep(300000))",
        "return ('a'):rep(300000):match(('a-'):rep(300000))",
        "return ('a'):rep(300000):gsub(('a*'):rep(300000), '')",
        "for w in ('a'):rep(300000):gmatch(('(a)'):rep(300000)) do end",
        "for w in string.gfind('a', ('a?'):rep(300000)) do end",
    ] {
        assert_contains(&eval(script), "pattern too complex");
    }
    assert_eq!(eval("local s = ('a'):rep(5000) return (s:find(s))"), ":1\\r\\n");
    assert_eq!(eval("local s = ('a?'):rep(500) return (('a'):rep(500):find(s))"), ":1\\r\\n");
}

#[test]
fn cve_2020_14147_struct_sizes() {
    for script in [
        "return struct.unpack('c2147483647', 'abc')",
        "return struct.unpack('!2147483647', 'abc')",
        "return struct.pack('i99999999999999999999', 1)",
        "return struct.unpack('bc0', '\\255abc')",
        "return struct.unpack('dc0', struct.pack('d', -1) .. 'abc')",
        "return struct.unpack('dc0', struct.pack('d', 1e300) .. 'abc')",
        "return struct.unpack('dc0', struct.pack('d', 0/0) .. 'abc')",
        "return struct.unpack('b', 'abc', 2^31)",
        "return struct.unpack('b', 'abc', 2^63)",
        "return struct.unpack('i', 'abc', -3)",
        "return struct.unpack('c3', 'abc', 2)",
        "return struct.unpack('s', 'abc', 10)",
        "return struct.size('i33')",
    ] {
        let reply = eval(script);
        assert!(reply.starts_with('-'), "{script}: {reply}");
    }
}

#[test]
fn cve_2022_24834_long_strings_in_libraries() {
    assert_eq!(eval("return #cjson.encode(('\\0'):rep(1000000))"), ":6000002\\r\\n");
    assert_eq!(eval("return #cmsgpack.pack(('\\0'):rep(1000000))"), ":1000005\\r\\n");
    assert_eq!(eval("return #cjson.decode(cjson.encode(('\"'):rep(1000000)))"), ":1000000\\r\\n");
}

#[test]
fn bytecode_is_a_syntax_error() {
    let bytecode = "string.dump(function() return 1 end)";
    assert_contains(&eval(&format!("return {{loadstring({bytecode})}}")), "*0");
    assert_contains(&eval(&format!("error(select(2, loadstring({bytecode})))")), "char(27)");
    assert_contains(
        &eval(&format!("local s = {bytecode} local f, e = load(function() local r = s s = nil return r end) error(e)")),
        "char(27)",
    );
    let mut out = engine().load(b"\x1bLua").unwrap_err().text().to_vec();
    out.truncate(60);
    assert_contains(&show(&out), "ERR Error compiling script");
}

#[test]
fn settings_of_the_state_end_with_the_script() {
    let mut engine = engine();
    run(&mut engine, "collectgarbage('stop')");
    let before = engine.memory_bytes();
    for _ in 0..200 {
        run(&mut engine, "local t = {} for i = 1, 1000 do t[i] = {i} end return 1");
    }
    assert!(engine.memory_bytes() < before + (20 << 20), "garbage is collected again");
    assert_eq!(run(&mut engine, "setfenv(0, {}) return 1"), ":1\\r\\n");
    assert_eq!(run(&mut engine, "return getfenv(0) == _G"), ":1\\r\\n");
    run(&mut engine, "redis.setresp(3)");
    assert_eq!(run(&mut engine, "return false"), "$-1\\r\\n");
}

#[test]
fn error_values_of_any_kind() {
    assert_contains(&eval("error({})"), "-ERR unknown error script: ");
    assert_contains(&eval("error({err = {}})"), "-ERR unknown error script: ");
    assert_contains(&eval("error(nil)"), "-ERR nil script: ");
    assert_contains(&eval("error(true)"), "-ERR true script: ");
    assert_contains(&eval("error(function() end)"), "-ERR function: 0x");
    assert_contains(&eval("error(newproxy(true))"), "-ERR userdata: 0x");
    assert_contains(&eval("error(setmetatable({}, {__newindex = function() error('x') end}))"), "-ERR");
    assert_contains(&eval("error(setmetatable({}, {__index = function() error('x') end}))"), "-ERR unknown error");
    assert_contains(&eval("error(redis)"), "-ERR");
    assert_contains(&eval("return setmetatable({}, {__index = function() error('x') end})"), "*0");
}

#[test]
fn running_out_of_memory_is_an_error() {
    let options = Options { max_state_bytes: 4 << 20, ..Options::default() };
    let mut engine = Engine::new(options).unwrap();
    for script in [
        "return #('x'):rep(100000000)",
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
        "return pcall(string.rep, 'x', 100000000)",
        "return cjson.encode(('x'):rep(3000000))",
        "return redis.call('echo', ('x'):rep(3000000)) .. 'y'",
    ] {
        run(&mut engine, script);
        assert_eq!(run(&mut engine, "return redis.call('ping')"), "+PONG\\r\\n", "after {script}");
    }
    assert_contains(&run(&mut engine, "return #('x'):rep(100000000)"), "not enough memory");
}

/// One string named many times makes text that no memory holds, though the state itself stays small.
#[test]
fn text_made_of_few_large_strings_has_a_limit() {
    let options = Options { max_state_bytes: 16 << 20, ..Options::default() };
    let mut engine = Engine::new(options).unwrap();
    for made in [
        "t",
        "{t, t, {map = {a = t}}}",
        "cjson.encode(t)",
        "cmsgpack.pack(t)",
        "struct.pack(('s'):rep(1000), unpack(t))",
        "load(function() return s end)",
    ] {
        let script = format!("local s, t = ('x'):rep(1000000), {{}} for i = 1, 1000 do t[i] = s end return {made}");
        assert_contains(&run(&mut engine, &script), "not enough memory");
        assert_eq!(run(&mut engine, "return redis.call('ping')"), "+PONG\\r\\n", "after {script}");
    }
    let doubling = "local t = {} for i = 1, 40 do t = {t, t} end return t";
    assert_contains(&run(&mut engine, doubling), "not enough memory");
}

/// Past a part of the limit no more scripts are kept; those that are go on.
#[test]
fn kept_scripts_leave_room_for_those_that_run() {
    let total_bytes: std::sync::Arc<std::sync::atomic::AtomicUsize> = Default::default();
    let (max_state_bytes, reserved_bytes) = (8 << 20, 4 << 20);
    let options = Options { max_state_bytes, reserved_bytes, total_bytes: total_bytes.clone(), ..Options::default() };
    let mut engine = Engine::new(options).unwrap();
    let script = |n: usize| format!("local a = '{}' return {n}", n.to_string().repeat(2000));
    let kept = (0..10_000).take_while(|n| engine.load(script(*n).as_bytes()).is_ok()).count();
    assert!((100..5000).contains(&kept), "{kept}");
    let total = total_bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(total.abs_diff(engine.memory_bytes()) <= 16 << 10, "{total}");
    assert_eq!(run(&mut engine, &script(0)), ":0\\r\\n");
    assert_contains(&run(&mut engine, "return 'new'"), "ERR not enough memory");
    drop(engine.flush().unwrap());
    assert_eq!(run(&mut engine, "return 'new'"), "$3\\r\\nnew\\r\\n");
    drop(engine);
    assert_eq!(total_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// An allocation fails at every point there is: in the API, in libraries, in the conversion of the reply.
#[test]
fn any_allocation_may_fail() {
    let script = "redis.call('set', 'k', 'v' .. #ARGV) redis.pcall('nosuch') \
        local s = cjson.encode({a = {1, 2, {b = 'c'}}}) local t = cjson.decode(s) \
        local m = cmsgpack.unpack(cmsgpack.pack(t, s)) local p = struct.pack('>Is', 5, s) \
        local f = loadstring('return ' .. #s) f() bit.tohex(5) \
        pcall(error, {err = 'x'}) pcall(error, 'y') \
        redis.log(1, 'x', s) redis.sha1hex(s) redis.error_reply('MY ' .. s) \
        return {s, t, {map = {a = 1}}, {err = 'E x'}, 1.5}";
    let full = Engine::new(Options::default()).unwrap().memory_bytes();
    for extra in (0..60_000).step_by(61) {
        let options = Options { max_state_bytes: full + extra, ..Options::default() };
        let Ok(mut engine) = Engine::new(options) else { continue };
        for _ in 0..3 {
            let reply = run(&mut engine, script);
            assert!(reply.starts_with(['*', '-']), "{reply}");
        }
    }
    for limit in (0..full).step_by(97) {
        let options = Options { max_state_bytes: limit, ..Options::default() };
        if let Ok(mut engine) = Engine::new(options) {
            run(&mut engine, script);
        }
    }
}

#[test]
fn a_killed_script_cannot_go_on() {
    with_stack(|| {
        for script in [
            "while true do end",
            "while true do pcall(function() while true do end end) end",
            "local f f = function() pcall(f) while true do end end f()",
            "while true do xpcall(function() while true do end end, function() while true do end end) end",
            "coroutine.wrap(function() while true do end end)()",
            "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
            "while true do pcall(coroutine.wrap(function() while true do pcall(function() while true do end end) end end)) end",
            "return ('x'):gsub('x', function() while true do end end)",
            "table.sort({1, 2, 3}, function() while true do end end)",
            "return setmetatable({}, {__index = function() while true do end end}).x",
            "repeat until false",
            "for i = 1, 1e300 do end",
            "while true do redis.call('ping') end",
            "while true do redis.pcall('nosuch') end",
            "local function f() return f() end f()",
            "load(function() return 'local a ' end)",
            "goto = 1",
        ] {
            let mut engine = engine();

            let mut host = FakeHost { kill_at: 3, ..FakeHost::default() };
            let reply = show(&eval_as(&mut engine, &mut host, Resp::V2, script.as_bytes(), &[]));
            assert!(reply.starts_with('-'), "{script}: {reply}");
            if !script.starts_with("goto") && !script.starts_with("load") {
                assert!(reply.contains("ERR Script killed by user with SCRIPT KILL..."), "{script}: {reply}");
                assert_eq!(host.ticks, 3, "{script}");
            }
            assert_eq!(run(&mut engine, "return redis.call('ping')"), "+PONG\\r\\n", "after {script}");
        }
    });
}

#[test]
fn a_long_script_is_asked_about_and_goes_on() {
    let mut host = FakeHost::default();
    let reply = eval_as(&mut engine(), &mut host, Resp::V2, b"for i = 1, 5000000 do end return 1", &[]);
    assert_eq!(show(&reply), ":1\\r\\n");
    assert!(host.ticks >= 5, "{} ticks", host.ticks);
}
