"""Starts the server under test on a free loopback port with a directory of its own, and stops it by its pid."""

import atexit
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from ports import free_port

START_LIMIT_S = 60
STOP_LIMIT_S = 60
_running = set()


def answers(port):
    """One inline PING on a fresh socket; true on any status or error reply."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(1) in (b"+", b"-")
    except OSError:
        return False


class TestServer:
    """`SERVER` names the binary (default: redis-server of the PATH); `SERVER_ARGS` are words added to every start.

    `args` are words of Redis's command line; saving is off unless they say otherwise.
    """

    def __init__(self, *args):
        self.binary = os.environ.get("SERVER", "redis-server")
        self.args = [*os.environ.get("SERVER_ARGS", "").split(), *args]
        self.dir = tempfile.mkdtemp(prefix="conformance-")
        _running.add(self)
        for left in range(5, -1, -1):
            self.port = free_port()
            try:
                return self.spawn()
            except RuntimeError as error:
                # Somebody else may have taken the port before the server could.
                if left == 0 or "Address already in use" not in str(error):
                    raise

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def spawn(self):
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.dir, *self.args]
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen([self.binary, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + START_LIMIT_S
        while not answers(self.port):
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.binary} ended with {self.child.returncode} before it answered\n{self.log()}")
            if time.monotonic() > limit:
                raise RuntimeError(f"{self.binary} does not answer PING\n{self.log()}")
            time.sleep(0.005)

    @property
    def log_path(self):
        return os.path.join(self.dir, "log")

    def log(self):
        """The end of its log; of a panic, the beginning."""
        lines = pathlib.Path(self.log_path).read_text(errors="replace").split("\n")
        panic = next((at for at, line in enumerate(lines) if "panicked" in line), None)
        return "\n".join(lines[-20:] if panic is None else lines[panic : panic + 30])

    def stop(self, how=signal.SIGTERM):
        """Ends the process and waits until it is gone; raises when it outlives the limit."""
        self.child.send_signal(how)
        self.child.wait(STOP_LIMIT_S)

    def restart(self, how=signal.SIGTERM):
        """Same port, same directory."""
        self.stop(how)
        self.spawn()

    def alive(self):
        return self.child.poll() is None

    def dispose(self):
        _running.discard(self)
        if getattr(self, "child", None) and self.alive():
            self.child.kill()
            self.child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


@atexit.register
def _leave_no_server_behind():
    for server in list(_running):
        server.dispose()


# The default action would skip atexit.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
