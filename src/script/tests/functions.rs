//! FUNCTION libraries. Error texts were compared with Redis 7.2.6.

#![allow(clippy::unwrap_used)]

mod common;

use common::{FakeHost, functions, show};
use redstart_script::{Functions, Resp, RestorePolicy, ScriptFlags};

fn load(functions: &mut Functions, code: &str) -> String {
    load_with(functions, code, false)
}

fn load_with(functions: &mut Functions, code: &str, replace: bool) -> String {
    match functions.load(code.as_bytes(), replace, &mut FakeHost::default()) {
        Ok(name) => String::from_utf8(name).unwrap(),
        Err(error) => error.to_string(),
    }
}

fn call(functions: &mut Functions, name: &str, keys: &[&[u8]], args: &[&[u8]]) -> String {
    let Some(function) = functions.find(name.as_bytes()) else { return "no such function".to_owned() };
    let mut out = Vec::new();
    functions.call(&function, keys, args, &mut FakeHost::default(), Resp::V2, &mut out);
    show(&out)
}

#[test]
fn loading_errors() {
    for (code, error) in [
        ("x", "ERR Missing library metadata"),
        ("#!lua", "ERR Invalid library metadata"),
        ("#!lua name=a", "ERR Invalid library metadata"),
        ("#!lua 'a\nx", "ERR Invalid library metadata"),
        ("#!lua\nx", "ERR Library name was not given"),
        ("#!lua name=a b\nx", "ERR Invalid metadata value given: b"),
        ("#!lua name=a foo=b\nx", "ERR Invalid metadata value given: foo=b"),
        ("#!lua name=a name=b\nx", "ERR Invalid metadata value, name argument was given multiple times"),
        ("#!js name=a\nx", "ERR Engine 'js' not found"),
        ("#!lua name=a\nx x", "ERR Error compiling function: user_function:2: '=' expected near 'x'"),
        ("#!lua name=a\nlocal a = 1", "ERR No functions registered"),
    ] {
        assert_eq!(load(&mut functions(), code), error, "{code}");
    }
    let names = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";
    assert_eq!(load(&mut functions(), "#!lua name=\nx"), names);
    assert_eq!(load(&mut functions(), "#!LUA NAME=a-b\nx"), names);
}

#[test]
fn what_a_library_may_not_do() {
    for (code, error) in [
        ("error('x')", "user_function:2: Script attempted to access nonexistent global variable 'error'"),
        ("foo.x()", "user_function:2: Script attempted to access nonexistent global variable 'foo'"),
        ("return pairs({})", "user_function:2: Script attempted to access nonexistent global variable 'pairs'"),
        ("local a = _G", "user_function:2: Script attempted to access nonexistent global variable '_G'"),
        ("local a = KEYS", "user_function:2: Script attempted to access nonexistent global variable 'KEYS'"),
        ("redis.call('get')", "user_function:2: Script attempted to access nonexistent global variable 'call'"),
        ("redis.setresp(3)", "user_function:2: Script attempted to access nonexistent global variable 'setresp'"),
        ("x = 1", "user_function:2: Attempt to modify a readonly table"),
        ("redis.x = 1", "user_function:2: Attempt to modify a readonly table"),
        ("redis.register_function()", "wrong number of arguments to redis.register_function"),
        ("redis.register_function('a', 1, 2)", "wrong number of arguments to redis.register_function"),
        (
            "redis.register_function('a')",
            "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        ),
        ("redis.register_function('a', 'b')", "second argument to redis.register_function must be a function"),
        ("redis.register_function({}, function() end)", "first argument to redis.register_function must be a string"),
        ("redis.register_function{}", "redis.register_function must get a function name argument"),
        ("redis.register_function{function_name='x'}", "redis.register_function must get a callback argument"),
        (
            "redis.register_function{callback=function() end}",
            "redis.register_function must get a function name argument",
        ),
        (
            "redis.register_function{callback=1}",
            "callback argument given to redis.register_function must be a function",
        ),
        (
            "redis.register_function{function_name={}}",
            "function_name argument given to redis.register_function must be a string",
        ),
        (
            "redis.register_function{description={}}",
            "description argument given to redis.register_function must be a string",
        ),
        (
            "redis.register_function{flags=1}",
            "flags argument to redis.register_function must be a table representing function flags",
        ),
        ("redis.register_function{flags={'zz'}}", "unknown flag given"),
        ("redis.register_function{flags={{}}}", "unknown flag given"),
        ("redis.register_function{foo=1}", "unknown argument given to redis.register_function"),
        ("redis.register_function{'foo'}", "unknown argument given to redis.register_function"),
        ("redis.register_function{[{}]=1}", "named argument key given to redis.register_function is not a string"),
        (
            "redis.register_function('a b', function() end)",
            "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ),
        (
            "redis.register_function('', function() end)",
            "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ),
        (
            "redis.register_function('a', function() end) redis.register_function('a', function() end)",
            "Function already exists in the library",
        ),
    ] {
        let mut functions = functions();
        let reply = load(&mut functions, &format!("#!lua name=a\n{code}"));
        assert_eq!(reply, format!("ERR Error registering functions: ERR {error}"), "{code}");
        assert_eq!(functions.library_count() + functions.function_count(), 0);
    }
}

#[test]
fn calling() {
    let mut functions = functions();
    let code = "#!LUA NAME=abc
        local shared = 0
        redis.register_function('Fun', function(keys, args) return {#keys, #args, keys, args} end)
        redis.register_function{function_name='count', callback=function() shared = shared + 1 return shared end}
        redis.register_function('unknown', function() return redis.call('nosuch') end)
        redis.register_function('missing', function() return foo end)
        redis.register_function('assigns', function() x = 1 end)
        redis.register_function('keys', function() return KEYS end)
        redis.register_function('same', function() return _G == _G._G end)
        redis.register_function('late', function() redis.register_function('z', function() end) end)
        redis.register_function('commands', function(keys, args) return redis.call('echo', args[1]) end)
        redis.register_function('uses_libraries', function() return cjson.encode({string.format('%d', 7)}) end)
        redis.register_function('eval_only', function() return {redis.breakpoint == nil, redis.debug == nil} end)
        redis.register_function('native', redis.log)";
    assert_eq!(load(&mut functions, code), "abc");
    assert_eq!(functions.function_count(), 12);
    assert_eq!(
        call(&mut functions, "FUN", &[b"a"], &[b"b", b"c"]),
        "*4\\r\\n:1\\r\\n:2\\r\\n*1\\r\\n$1\\r\\na\\r\\n*2\\r\\n$1\\r\\nb\\r\\n$1\\r\\nc\\r\\n"
    );
    assert_eq!(call(&mut functions, "count", &[], &[]), ":1\\r\\n");
    assert_eq!(call(&mut functions, "count", &[], &[]), ":2\\r\\n");
    for (name, reply) in [
        ("unknown", "-ERR Unknown Redis command called from script script: unknown, on @user_function:5.\\r\\n"),
        (
            "missing",
            "-ERR user_function:6: Script attempted to access nonexistent global variable \\'foo\\' script: missing, on @user_function:6.\\r\\n",
        ),
        (
            "assigns",
            "-ERR user_function:7: Attempt to modify a readonly table script: assigns, on @user_function:7.\\r\\n",
        ),
        (
            "keys",
            "-ERR user_function:8: Script attempted to access nonexistent global variable \\'KEYS\\' script: keys, on @user_function:8.\\r\\n",
        ),
        ("same", ":1\\r\\n"),
        (
            "late",
            "-ERR user_function:10: attempt to call field \\'register_function\\' (a nil value) script: late, on @user_function:10.\\r\\n",
        ),
        ("uses_libraries", "$5\\r\\n[\\\"7\\\"]\\r\\n"),
        ("eval_only", "*2\\r\\n:1\\r\\n:1\\r\\n"),
        ("native", "-ERR First argument must be a number (log level).\\r\\n"),
        ("nosuch", "no such function"),
    ] {
        assert_eq!(call(&mut functions, name, &[], &[]), reply, "{name}");
    }
    assert_eq!(call(&mut functions, "commands", &[], &[b"hi"]), "$2\\r\\nhi\\r\\n");
}

#[test]
fn flags_and_descriptions() {
    let mut functions = functions();
    let code = "#!lua name=a\nredis.register_function{function_name='x', callback=function() end, \
        flags={'no-writes', 'ALLOW-OOM'}, description='what it does'}\nredis.register_function('y', function() end)";
    load(&mut functions, code);
    let function = functions.find(b"X").unwrap();
    assert_eq!(function.flags, ScriptFlags::NO_WRITES | ScriptFlags::ALLOW_OOM);
    assert_eq!(function.description.as_deref(), Some(&b"what it does"[..]));
    assert_eq!(functions.find(b"y").unwrap().flags, ScriptFlags::default());
    assert_eq!(functions.find(b"y").unwrap().description, None);
    let library = functions.libraries().next().unwrap();
    assert_eq!(library.code, code.as_bytes());
    assert_eq!(library.functions.len(), 2);
}

#[test]
fn names_are_unique() {
    let mut functions = functions();
    assert_eq!(load(&mut functions, "#!lua name=a\nredis.register_function('f', function() return 1 end)"), "a");
    assert_eq!(load(&mut functions, "#!lua name=a\nx x"), "ERR Library 'a' already exists");
    assert_eq!(
        load(&mut functions, "#!lua name=b\nredis.register_function('F', function() end)"),
        "ERR Function F already exists"
    );
    let replacing = "#!lua name=a\nredis.register_function('f', function() return 2 end)";
    let old = functions.find(b"f").unwrap();
    assert_eq!(load_with(&mut functions, replacing, true), "a");
    assert_eq!(call(&mut functions, "f", &[], &[]), ":2\\r\\n");
    let mut out = Vec::new();
    functions.call(&old, &[], &[], &mut FakeHost::default(), Resp::V2, &mut out);
    assert_eq!(show(&out), "-ERR Function not found\\r\\n");
    assert_eq!(
        load_with(&mut functions, "#!lua name=a\nredis.register_function('g', 1)", true).split(':').next(),
        Some("ERR Error registering functions")
    );
    assert_eq!(call(&mut functions, "f", &[], &[]), ":2\\r\\n");
    load(&mut functions, "#!lua name=c\nredis.register_function('other', function() return 3 end)");
    let taking = "#!lua name=a\nredis.register_function('other', function() end)";
    assert_eq!(load_with(&mut functions, taking, true), "ERR Function other already exists");
    assert_eq!(call(&mut functions, "f", &[], &[]), ":2\\r\\n");
    assert!(functions.delete(b"a") && !functions.delete(b"a"));
    assert_eq!(call(&mut functions, "f", &[], &[]), "no such function");
    assert_eq!(call(&mut functions, "other", &[], &[]), ":3\\r\\n");
}

#[test]
fn flush_forgets_all() {
    let mut functions = functions();
    load(&mut functions, "#!lua name=a\nredis.register_function('f', function() return 1 end)");
    let old = functions.find(b"f").unwrap();
    drop(functions.flush().unwrap());
    assert_eq!((functions.library_count(), functions.function_count()), (0, 0));
    let mut out = Vec::new();
    functions.call(&old, &[], &[], &mut FakeHost::default(), Resp::V2, &mut out);
    assert_eq!(show(&out), "-ERR Function not found\\r\\n");
}

#[test]
fn restoring() {
    let library = |name: &str, function: &str, value: i32| {
        format!("#!lua name={name}\nredis.register_function('{function}', function() return {value} end)").into_bytes()
    };
    let host = &mut FakeHost::default();
    let mut functions = functions();
    functions.load(&library("a", "f", 1), false, host).unwrap();
    functions.load(&library("b", "g", 2), false, host).unwrap();
    let error = |result: Result<(), redstart_script::ScriptError>| result.unwrap_err().to_string();

    let codes = [&library("c", "h", 3)[..], &library("a", "f", 4)[..]];
    assert_eq!(error(functions.restore(&codes, RestorePolicy::Append, host)), "ERR Library a already exists");
    assert_eq!(functions.library_count(), 2);
    functions.restore(&codes, RestorePolicy::Replace, host).unwrap();
    assert_eq!(call(&mut functions, "f", &[], &[]), ":4\\r\\n");
    assert_eq!(call(&mut functions, "g", &[], &[]), ":2\\r\\n");
    assert_eq!(call(&mut functions, "h", &[], &[]), ":3\\r\\n");

    let clash = [&library("d", "g", 5)[..]];
    assert_eq!(error(functions.restore(&clash, RestorePolicy::Replace, host)), "ERR Function g already exists");
    let broken = [&library("d", "k", 5)[..], b"#!lua name=e\nx x"];
    assert!(error(functions.restore(&broken, RestorePolicy::Flush, host)).starts_with("ERR Error compiling"));
    assert_eq!(functions.library_count(), 3);
    functions.restore(&[&library("d", "k", 6)[..]], RestorePolicy::Flush, host).unwrap();
    assert_eq!(functions.library_count(), 1);
    assert_eq!(call(&mut functions, "k", &[], &[]), ":6\\r\\n");
}

#[test]
fn a_slow_load_is_ended() {
    let mut functions = functions();
    let mut host = FakeHost { kill_at: 2, ..FakeHost::default() };
    let error = functions.load(b"#!lua name=a\nwhile true do end", false, &mut host).unwrap_err();
    assert_eq!(error.to_string(), "ERR Error registering functions: ERR FUNCTION LOAD timeout");
    load(&mut functions, "#!lua name=a\nredis.register_function('f', function() while true do end end)");
    let function = functions.find(b"f").unwrap();
    let (mut host, mut out) = (FakeHost { kill_at: 2, ..FakeHost::default() }, Vec::new());
    functions.call(&function, &[], &[], &mut host, Resp::V2, &mut out);
    assert_eq!(show(&out), "-ERR Script killed by user with SCRIPT KILL... script: f, on @user_function:2.\\r\\n");
}

#[test]
fn loading_logs_and_reads_the_version() {
    let mut host = FakeHost::default();
    let code = b"#!lua name=a\nredis.log(redis.LOG_WARNING, 'hello', redis.REDIS_VERSION, redis.REDIS_VERSION_NUM) \
        redis.register_function('f', function() end)";
    functions().load(code, false, &mut host).unwrap();
    assert_eq!(host.logs, [(3, b"hello 7.2.6 459270".to_vec())]);
}

#[test]
fn libraries_survive_failed_allocations() {
    let full = functions().memory_bytes();
    for limit in (0..full + 20_000).step_by(211) {
        let options = redstart_script::Options { max_state_bytes: limit, ..redstart_script::Options::default() };
        let Ok(mut functions) = Functions::new(options) else { continue };
        load(
            &mut functions,
            "#!lua name=a\nredis.register_function{function_name='f', callback=function() return {1} end, description='d'}",
        );
        load_with(&mut functions, "#!lua name=a\nredis.register_function('f', function() return {2} end)", true);
        call(&mut functions, "f", &[b"k"], &[b"a"]);
        functions.delete(b"a");
    }
}
