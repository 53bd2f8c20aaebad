"""A RESP2 client and a server process for the Python runs of this folder. Python's standard library only."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from ports import free_port


class ReplyError(Exception):
    """An error reply; its text is the server's."""


def encode(words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Client:
    """A connection; bulk strings are bytes, error replies raise unless they stand in an array."""

    def __init__(self, port, timeout_s=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def __call__(self, *words):
        self.send(words)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def send(self, *commands):
        self.socket.sendall(b"".join(encode(words) for words in commands))

    def pipeline(self, commands):
        """Sends commands at once; their replies, errors as values."""
        self.send(*commands)
        return [self.read() for _ in commands]

    def read(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server has closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._exactly(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise ConnectionError(f"no RESP2 reply: {line!r}")

    def _exactly(self, length):
        data = self.reader.read(length)
        if data is None or len(data) < length:
            raise ConnectionError("the server has closed")
        return data

    def close(self):
        # The file object holds the socket open.
        self.reader.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Server:
    """A server process in a directory that outlives it; saving is off unless `words` say otherwise."""

    def __init__(self, binary, words=(), directory=None):
        self.binary, self.words = binary, [str(word) for word in words]
        self.owns_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="conformance-")
        self.process = None

    def start(self, *more, patience_s=60):
        """Starts it and returns when the data set is loaded; its log is appended to <directory>/log."""
        for left in range(5, -1, -1):
            self.port = free_port()
            try:
                return self._start(more, patience_s)
            except RuntimeError as error:
                # Somebody else may have taken the port before the server could.
                if left == 0 or "Address already in use" not in str(error):
                    raise

    def _start(self, more, patience_s):
        words = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory]
        words += ["--save", "", *self.words, *[str(word) for word in more]]
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.binary} has ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                with Client(self.port, 5) as client:
                    if client("PING") == b"PONG":
                        return self
            except (OSError, ReplyError):
                time.sleep(0.005)
        raise RuntimeError(f"{self.binary} is not ready in {patience_s} s:\n{self.log_tail()}")

    def client(self, timeout_s=30):
        return Client(self.port, timeout_s)

    def log_tail(self, lines=20):
        with open(os.path.join(self.directory, "log"), errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def end(self, how=signal.SIGTERM, patience_s=60):
        """Ends it by a signal; its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(how)
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
        if self.process is not None:
            self.kill()
        if self.owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.dispose()
