"""redis-cli as people and scripts call it."""

import json
import os
import pty
import re
import select
import time

from cases import equal, test, until
from context import CLI


@test("redis-cli: one command, its forms of output, its exit codes")
def forms(t):
    equal(t.cli("ping"), "PONG")
    equal(t.cli("--raw", "incr", "ping"), "1")
    equal(t.cli("--no-raw", "incr", "ping"), "(integer) 2")
    equal(t.cli("--no-raw", "rpush", "l", "a", "b c"), "(integer) 2")
    equal(t.cli("--no-raw", "lrange", "l", 0, -1), '1) "a"\n2) "b c"')
    equal(t.cli("lrange", "l", 0, -1), "a\nb c")
    equal(t.cli("--csv", "lrange", "l", 0, -1), '"a","b c"')
    equal(t.cli("--no-raw", "get", "none"), "(nil)")
    equal(t.cli("-d", "|", "lrange", "l", 0, -1), "a|b c")
    equal(t.cli("get", "l"), "WRONGTYPE Operation against a key holding the wrong kind of value")
    equal(t.cli("-e", "get", "l", code=1), "WRONGTYPE Operation against a key holding the wrong kind of value")
    equal(t.cli("-r", 3, "-i", "0.01", "incr", "n"), "1\n2\n3")
    equal(t.cli("-n", 5, "set", "where", "five"), "OK")
    equal(t.cli("get", "where"), "")
    equal(t.cli("-u", f"redis://127.0.0.1:{t.server.port}/5", "get", "where"), "five")
    equal(t.cli("--eval", "/dev/stdin", "k", ",", "v", input="return {KEYS[1], ARGV[1]}"), "k\nv")
    assert "Connection refused" in t.run(CLI, "-p", "1", "ping", code=1)


@test("redis-cli: RESP3 and JSON")
def resp3(t):
    t.cli("hset", "h", "field", "é", "n", "1")
    t.cli("zadd", "z", "1.5", "a", "2", "b")
    equal(t.cli("-3", "--no-raw", "hgetall", "h"), '1# "field" => "\\xc3\\xa9"\n2# "n" => "1"')
    equal(t.cli("-3", "--no-raw", "zrange", "z", 0, -1, "withscores"), '1) 1) "a"\n   2) (double) 1.5\n2) 1) "b"\n   2) (double) 2')
    equal(json.loads(t.cli("--json", "hgetall", "h")), {"field": "é", "n": "1"})
    equal(json.loads(t.cli("--quoted-json", "hgetall", "h")), {"field": "\\xc3\\xa9", "n": "1"})
    equal(json.loads(t.cli("--json", "zrange", "z", 0, -1, "withscores")), [["a", 1.5], ["b", 2]])
    equal(json.loads(t.cli("--json", "get", "none")), None)
    equal(json.loads(t.cli("--json", "sismember", "s", "x")), 0)
    hello = json.loads(t.cli("--json", "hello", "3"))
    equal((hello["server"], hello["proto"], hello["mode"], hello["modules"]), ("redis", 3, "standalone", []))
    command = json.loads(t.cli("--json", "command", "docs", "get"))["get"]
    equal((command["group"], command["since"], command["arguments"][0]["name"]), ("string", "1.0.0", "key"))
    assert len(json.loads(t.cli("--json", "config", "get", "*"))) > 150


@test("redis-cli: commands from its standard input")
def stdin(t):
    equal(t.cli(input="set a 1\nincr a\nget a\n"), "OK\n2\n2")
    equal(t.cli("-x", "set", "text", input="line one\nline two\n"), "OK")
    equal(t.cli("--no-raw", "get", "text"), '"line one\\nline two\\n"')
    equal(t.cli("-X", "VALUE", "set", "tagged", "VALUE", "EX", 100, input="by tag"), "OK")
    equal(t.cli("get", "tagged"), "by tag")
    equal(t.cli(input="multi\nset b 1\nincr b\nexec\n"), "OK\nQUEUED\nQUEUED\nOK\n2")
    equal(t.cli(input="GET a\nECHO \"two words\"\nSELECT 3\nDBSIZE\n"), "2\ntwo words\nOK\n0")


@test("redis-cli --pipe: mass insertion, with errors counted")
def pipe(t):
    def request(*words):
        return f"*{len(words)}\r\n" + "".join(f"${len(str(word))}\r\n{word}\r\n" for word in words)

    many = "".join(request("SET", f"key:{n}", n) for n in range(50_000))
    assert "errors: 0, replies: 50000" in t.cli("--pipe", input=many)
    equal(t.cli("dbsize"), "50000")
    bad = request("SET", "s", "x") + request("INCR", "s") + request("GET", "s")
    output = t.cli("--pipe", input=bad, code=1)
    assert "ERR value is not an integer or out of range" in output and "errors: 1, replies: 3" in output, output
    assert "errors: 0, replies: 2" in t.cli("--pipe", input="SET inline 1\r\nINCR inline\r\n")


def fill(t):
    lines = [f"set string:{n} {'x' * (n * 10)}" for n in range(1, 40)]
    lines += [f"rpush list {' '.join(map(str, range(500)))}", f"sadd set {' '.join(map(str, range(200)))}"]
    lines += [f"hset hash {' '.join(f'f{n} {n}' for n in range(100))}", f"zadd zset {' '.join(f'{n} m{n}' for n in range(300))}"]
    lines += [f"xadd stream {n}-1 f v" for n in range(1, 26)]
    t.cli(input="\n".join(lines) + "\n")


@test("redis-cli --bigkeys and --memkeys: find the largest of every type")
def bigkeys(t):
    fill(t)
    output = t.cli("--bigkeys")
    found = {kind: (name, int(size)) for kind, name, size in re.findall(r"Biggest +(\w+) found '\"(.*)\"' has (\d+) ", output)}
    equal(found, {"string": ("string:39", 390), "list": ("list", 500), "set": ("set", 200), "hash": ("hash", 100), "zset": ("zset", 300), "stream": ("stream", 25)})
    assert "Sampled 44 keys in the keyspace!" in output, output
    output = t.cli("--memkeys", "--memkeys-samples", 0)
    sizes = {kind: int(size) for kind, size in re.findall(r"Biggest +(\w+) found .* has (\d+) bytes", output)}
    equal(sorted(sizes), ["hash", "list", "set", "stream", "string", "zset"])
    assert sizes["list"] > 500 and sizes["zset"] > 300 * 4, sizes


@test("redis-cli --hotkeys: by OBJECT FREQ under an LFU policy")
def hotkeys(t):
    t.cli("set", "k", "v")
    assert "ERR An LFU maxmemory policy is not selected" in t.cli("--hotkeys", code=None)
    t.cli("config", "set", "maxmemory-policy", "allkeys-lfu")
    try:
        t.cli("--pipe", input="".join(f"set cold:{n} x\r\n" for n in range(50)) + "set hot x\r\n" + "get hot\r\n" * 2000)
        output = t.cli("--hotkeys")
        assert re.search(r"hot key found with counter: \d+\s+keyname: \"?hot\"?", output), output
    finally:
        t.cli("config", "set", "maxmemory-policy", "noeviction")


@test("redis-cli --scan: all keys, by pattern")
def scan(t):
    fill(t)
    equal(len(t.cli("--scan").split("\n")), 44)
    equal(sorted(t.cli("--scan", "--pattern", "string:1?").split("\n")), [f"string:{n}" for n in range(10, 20)])
    equal(t.cli("--scan", "--pattern", "z*"), "zset")


@test("redis-cli --stat and --latency: figures")
def figures(t):
    stat = t.cli_beside("--stat", "-i", "0.05")
    lines = [stat.stdout.readline() for _ in range(5)]
    assert "keys" in lines[0] + lines[1] and "requests" in lines[1], lines
    assert re.match(r"\d+ +[\d.]+[KMG]? +\d+ +\d+ +\d+ \(\+\d+\) +\d+", lines[3]), lines
    output = t.cli("--latency", "--raw").split()
    equal(len(output), 4)
    assert int(output[3]) > 20 and 0 <= float(output[2]) < 100, output


@test("redis-cli: MONITOR, SUBSCRIBE and PSUBSCRIBE")
def listening(t):
    monitor = t.cli_beside("monitor")
    equal(monitor.stdout.readline(), "OK\n")
    t.cli("set", "k", 'say "hi"')
    line = until("it is shown", lambda: next((line for line in iter(monitor.stdout.readline, "") if '"set"' in line), None))
    assert re.match(r'^\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "set" "k" "say \\"hi\\""$', line), line
    subscriber = t.cli_beside("subscribe", "news", "sport")
    equal([subscriber.stdout.readline().strip() for _ in range(6)], ["subscribe", "news", "1", "subscribe", "sport", "2"])
    pattern = t.cli_beside("-3", "--show-pushes", "yes", "psubscribe", "n*")
    first = [pattern.stdout.readline().strip() for _ in range(3)]
    equal(first, ["psubscribe", "n*", "1"])
    equal(t.cli("publish", "news", "it rains"), "2")
    equal([subscriber.stdout.readline().strip() for _ in range(3)], ["message", "news", "it rains"])
    equal([pattern.stdout.readline().strip() for _ in range(4)], ["pmessage", "n*", "news", "it rains"])


class Terminal:
    """redis-cli on a terminal, without colours."""

    def __init__(self, t, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "dumb"
            os.environ["REDISCLI_HISTFILE"] = "/dev/null"
            os.execvp(CLI, [CLI, "-p", str(t.server.port), *words])
        self.shown = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        os.waitpid(self.pid, 0)

    def type(self, line):
        os.write(self.fd, line.encode() + b"\n")

    def expect(self, *texts):
        """Waits for each of the texts, one behind the other; what was before them is forgotten."""
        for text in texts:
            end = time.monotonic() + 60
            while text.encode() not in self.shown:
                assert time.monotonic() < end, f"'{text}' is not in {self.shown}"
                if select.select([self.fd], [], [], 0.2)[0]:
                    self.shown += re.sub(rb"\x1b\[[\d;]*m", b"", os.read(self.fd, 65536))
            self.shown = self.shown[self.shown.index(text.encode()) + len(text) :]


@test("redis-cli: on a terminal, with hints and help from COMMAND DOCS")
def terminal(t):
    with Terminal(t) as cli:
        cli.expect(f"127.0.0.1:{t.server.port}> ")
        cli.type("set k 1")
        cli.expect("OK")
        cli.type("incr k")
        cli.expect("(integer) 2")
        cli.type("help hset")
        cli.expect("HSET key field value [field value ...]", "since: 2.0.0")
        cli.type("help @hyperloglog")
        cli.expect("PFADD key")
        cli.type("select 9")
        cli.expect(f"127.0.0.1:{t.server.port}[9]> ")
        cli.type("multi")
        cli.expect("(TX)> ")
        cli.type("quit")


SCRIPT = """local sum = 0
for _, value in ipairs(ARGV) do
  sum = sum + value
  redis.debug("so far", sum)
end
redis.call("SET", KEYS[1], sum)
return sum
"""


def script(t):
    path = os.path.join(t.server.directory, "sum.lua")
    with open(path, "w") as file:
        file.write(SCRIPT)
    return path


@test("redis-cli --ldb: a script from line to line on a terminal, restarted and ended; the data set stays as it was")
def debugger(t):
    with Terminal(t, "--ldb", "--eval", script(t), "total", ",", "1", "2") as cli:
        prompt = "lua debugger> "
        cli.expect("* Stopped at 1, stop reason = step over", "-> 1   local sum = 0", prompt)
        cli.type("break 6")
        cli.expect("#6   redis.call", prompt)
        cli.type("continue")
        cli.expect('<debug> line 4: "so far", 1', '<debug> line 4: "so far", 3', "* Stopped at 6, stop reason = break point", prompt)
        cli.type("print sum")
        cli.expect("<value> 3", prompt)
        cli.type("print ARGV")
        cli.expect('<value> {"1"; "2"}', prompt)
        cli.type("step")
        cli.expect("<redis> SET total 3", '<reply> "+OK"', "* Stopped at 7", prompt)
        cli.type("redis get total")
        cli.expect("<redis> get total", '<reply> "3"', prompt)
        equal(t.cli("exists", "total"), "0")
        cli.type("restart")
        cli.expect("* Stopped at 1, stop reason = step over", prompt)
        cli.type("eval 1/3")
        cli.expect("<retval> 0.333333", prompt)
        cli.type("continue")
        cli.expect("(integer) 3", "(Lua debugging session ended -- dataset changes rolled back)", "> ")
        cli.type("quit")
    equal(t.cli("exists", "total"), "0")


@test("redis-cli --ldb-sync-mode: changes stay; --ldb from a pipe; a session that is left")
def debugger_in_place(t):
    shown = t.cli("--ldb-sync-mode", "--eval", script(t), "total", ",", 4, 5, input="step\nnext\nwhole\ncontinue\n")
    assert "* Stopped at 3, stop reason = step over" in shown and "   7   return sum" in shown, shown
    assert "(integer) 9" in shown and "(Lua debugging session ended)" in shown, shown
    equal(t.cli("get", "total"), "9")
    shown = t.cli("--ldb", "--eval", script(t), "total", ",", "x", input="c\n")
    assert "attempt to perform arithmetic on local 'value'" in shown and "rolled back" in shown, shown
    t.cli("--ldb-sync-mode", "--eval", script(t), "total", ",", 7, input="step\n", code=None)
    until("the script has ended without its client", lambda: t.cli("get", "total") == "7")


@test("redis-cli --rdb: the data set as a file that a server loads")
def rdb(t):
    fill(t)
    path = os.path.join(t.server.directory, "taken.rdb")
    t.cli("config", "set", "repl-diskless-sync-delay", "0")
    output = t.cli("--rdb", path)
    assert "Transfer finished with success" in output, output
    second = t.start("--dbfilename", "dump.rdb")
    os.replace(path, os.path.join(second.directory, "dump.rdb"))
    second.restart(9)
    until("it is loaded", lambda: t.cli("dbsize", server=second) == "44")
    equal(t.cli("zscore", "zset", "m299", server=second), "299")


@test("redis-cli --cluster: says that this is no cluster")
def cluster(t):
    output = t.run(CLI, "--cluster", "check", f"127.0.0.1:{t.server.port}", code=1)
    assert "is not configured as a cluster node" in output, output
    equal(t.cli("cluster", "info"), "ERR This instance has cluster support disabled")
    equal(t.cli("-c", "set", "k", "v"), "OK")


@test("health checks: ping, a password, an old password, nobody there")
def health(t):
    server = t.start("--requirepass", "p w")
    equal(t.cli("ping", server=server), "NOAUTH Authentication required.")
    equal(t.cli("--no-auth-warning", "-a", "p w", "ping", server=server), "PONG")
    assert t.cli("-a", "p w", "--raw", "incr", "ping", server=server).endswith("1")
    equal(t.cli("ping", server=server, env={"REDISCLI_AUTH": "p w"}), "PONG")
    assert "WRONGPASS" in t.cli("-a", "no", "ping", server=server), "a wrong password is named"
    bitnami = f'response=$(timeout -s 15 60 {CLI} -h localhost -p {server.port} ping); [ "$response" = "PONG" ]'
    t.run("sh", "-c", bitnami, env={"REDISCLI_AUTH": "p w"})
    t.run("sh", "-c", bitnami, env={"REDISCLI_AUTH": "gone"}, code=1)
    server.end()
    t.run("sh", "-c", bitnami, env={"REDISCLI_AUTH": "p w"}, code=1)


@test("redis-cli shutdown: ends the server, with and without saving")
def shutdown(t):
    server = t.start()
    equal(t.cli("set", "k", "kept", server=server), "OK")
    t.cli("shutdown", "save", server=server)
    equal(server.wait(), 0)
    server.start_again()
    equal(t.cli("get", "k", server=server), "kept")
    t.cli("set", "k", "lost", server=server)
    t.cli("shutdown", "nosave", server=server)
    equal(server.wait(), 0)
    server.start_again()
    equal(t.cli("get", "k", server=server), "kept")


@test("health checks: while the server loads, ping says so and ends with 0; liveness holds, readiness does not")
def loading(t):
    # 2 ms a key, so that loading takes a second; commands are answered after every 1024 bytes.
    server = t.start("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    t.cli("--pipe", input="".join(f"set key:{n} {'x' * 100}\r\n" for n in range(500)), server=server)
    t.cli("shutdown", "save", server=server)
    server.wait()
    server.start_again(while_loading=True)
    equal(t.cli("ping", server=server), "LOADING Redis is loading the dataset in memory")
    liveness = f'response=$({CLI} -p {server.port} ping | head -n1 | cut -d" " -f1); [ "$response" = PONG ] || [ "$response" = LOADING ]'
    t.run("sh", "-c", liveness)
    t.run("sh", "-c", f'[ "$({CLI} -p {server.port} ping)" = PONG ]', code=1)
    until("it is loaded", lambda: t.cli("ping", server=server) == "PONG")
    equal(t.cli("dbsize", server=server), "500")
