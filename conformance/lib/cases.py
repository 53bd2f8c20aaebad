"""Registers cases and runs them one after another; compares the outcome with status.toml. The twin of cases.js."""

import asyncio
import inspect
import os
import pathlib
import re
import signal
import sys
import time
import traceback

CASE_LIMIT_S = 120
CASES = {}


def test(name, limit=CASE_LIMIT_S):
    """Registers `body(t)`, which asserts; a coroutine function gets an event loop. `limit` is its time in seconds."""

    def register(body):
        if name in CASES:
            raise ValueError(f"two cases are named '{name}'")
        CASES[name] = (body, limit)
        return body

    return register


def until(what, probe, limit=60):
    """Polls until `probe` answers something true; raises with `what` after `limit` seconds."""
    end = time.monotonic() + limit
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.01)


def raises(kind, text, action):
    """The exception that `action` raises: of this kind, with this text in it."""
    try:
        value = action()
    except kind as error:
        assert text in str(error), f"wanted '{text}' in '{error}'"
        return error
    raise AssertionError(f"wanted {kind}, got {value!r}")


def equal(got, wanted):
    assert got == wanted, f"\n  wanted {wanted!r}\n  got    {got!r}"


def read_status(file, suite):
    """The lines of a status.toml: `[suite."case name"]` or `[any."case name"]`, then status (fail or skip) and reason."""
    expected = {}
    entry = None
    for number, raw in enumerate(pathlib.Path(file).read_text().split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        section = re.fullmatch(r'\[([\w-]+)\."(.*)"\]', line)
        pair = re.fullmatch(r'(status|reason) = "(.*)"', line)
        if section:
            entry = {}
            if section[1] in (suite, "any"):
                expected[section[2]] = entry
        elif pair and entry is not None:
            entry[pair[1]] = pair[2]
        else:
            raise ValueError(f"{file}:{number}: cannot read '{line}'")
    for name, fields in expected.items():
        if fields.get("status") not in ("fail", "skip") or not fields.get("reason"):
            raise ValueError(f"{file}: '{name}' needs status and reason")
        if name not in CASES:
            raise ValueError(f"{file}: there is no case '{name}'")
    return expected


def _attempt(body, limit, make_context):
    """What a case that fails has to say, or None."""

    def late(*_):
        raise TimeoutError(f"the case takes longer than {limit} s")

    t = None
    signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    try:
        t = make_context()
        if inspect.iscoroutinefunction(body):

            async def run():
                try:
                    await body(t)
                finally:
                    await t.aclose()

            asyncio.run(run())
        else:
            body(t)
        return None
    except Exception as error:
        return _told(error)
    finally:
        signal.alarm(0)
        if t:
            t.close()


def _told(error):
    """The error, and where in the cases it came up: a client's own frames say little."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "conformance" in f.filename and f.filename != __file__]
    lines = [f"  {os.path.basename(frame.filename)}:{frame.lineno}: {frame.line}" for frame in frames]
    return "\n".join([f"{type(error).__name__}: {error}", *lines])


def main(suite, make_context, finish):
    """Runs every case whose name contains a word of the command line (none: all) and exits: 0 when all went as expected."""
    status = os.environ.get("STATUS")
    expected = read_status(status, suite) if status else {}
    words = sys.argv[1:]
    passed = failed = 0
    for name, (body, limit) in CASES.items():
        if words and not any(word in name for word in words):
            continue
        wanted = expected.get(name, {"status": "pass"})
        if wanted["status"] == "skip":
            print(f"skip  {name}: {wanted['reason']}", flush=True)
            continue
        began = time.monotonic()
        error = _attempt(body, limit, make_context)
        took = f"{round((time.monotonic() - began) * 1000)} ms"
        if error is None and wanted["status"] == "pass":
            passed += 1
            print(f"ok    {name} ({took})", flush=True)
        elif error is not None and wanted["status"] == "fail":
            passed += 1
            print(f"known {name}: {wanted['reason']}", flush=True)
        else:
            failed += 1
            print(f"FAIL  {name} ({took})")
            text = error if error is not None else f"passes, but status.toml says: {wanted['reason']}"
            print(re.sub(r"^", "      ", text.rstrip(), flags=re.M), flush=True)
    finish()
    print(f"{suite}: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)
