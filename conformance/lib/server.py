"""Starts servers on free loopback ports, each with a directory of its own, and ends them by their pids."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from ports import free_port
from resp import Client, ReplyError

_running = set()


def answers(port, while_loading=True):
    """Whether PING is answered there, with whatever but, if so asked, that the server loads."""
    try:
        with Client(port, 5) as client:
            client("PING")
    except ReplyError as error:
        return while_loading or not str(error).startswith("LOADING")
    except OSError:
        return False
    return True


def under_test(*words):
    """Starts the server that `SERVER` names (default: redis-server of the PATH); `SERVER_ARGS` are words added to every start."""
    binary = os.environ.get("SERVER", "redis-server")
    return Server(binary, [*os.environ.get("SERVER_ARGS", "").split(), *words]).start()


class Server:
    """A server process in a directory that outlives it; saving is off unless `words`, of Redis's command line, say otherwise.

    It ends with the program that has started it, at the latest.
    """

    def __init__(self, binary, words=(), directory=None):
        self.binary, self.words = binary, [str(word) for word in words]
        self.owns_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="conformance-")
        self.process = None
        _running.add(self)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *more, patience_s=60):
        """Starts it on a new port and returns it when the data set is loaded; its log is appended to <directory>/log."""
        for left in range(5, -1, -1):
            self.port = free_port()
            try:
                return self.start_again(*more, patience_s=patience_s)
            except RuntimeError as error:
                # Somebody else may have taken the port before the server could.
                if left == 0 or "Address already in use" not in str(error):
                    raise

    def start_again(self, *more, while_loading=False, patience_s=60):
        """The same on the same port; `while_loading`: when it answers, loaded or not."""
        words = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory]
        words += ["--save", "", *self.words, *[str(word) for word in more]]
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not self.is_alive():
                raise RuntimeError(f"{self.binary} has ended with {self.process.returncode}:\n{self.log_tail()}")
            if answers(self.port, while_loading):
                return self
            time.sleep(0.005)
        raise RuntimeError(f"{self.binary} is not ready in {patience_s} s:\n{self.log_tail()}")

    def restart(self, how=signal.SIGTERM):
        self.end(how)
        self.start_again()

    def client(self, timeout_s=30):
        return Client(self.port, timeout_s)

    def log_tail(self, lines=20):
        """The end of its log; of a panic, the beginning."""
        with open(os.path.join(self.directory, "log"), errors="replace") as log:
            text = log.readlines()
        panic = next((at for at, line in enumerate(text) if "panicked" in line), None)
        return "".join(text[-lines:] if panic is None else text[panic : panic + 30])

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def end(self, how=signal.SIGTERM, patience_s=60):
        """Ends it by a signal; its exit code."""
        if self.process is None:
            return None
        if self.is_alive():
            self.process.send_signal(how)
        return self.wait(patience_s)

    def wait(self, patience_s=60):
        """Waits for its end; its exit code."""
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"{self.binary} does not end:\n{self.log_tail()}") from None
        self.process = None
        return code

    def kill(self):
        return self.end(signal.SIGKILL)

    def dispose(self):
        _running.discard(self)
        self.kill()
        if self.owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.dispose()


@atexit.register
def _leave_no_server_behind():
    for server in list(_running):
        server.dispose()


# The default action would skip atexit.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
