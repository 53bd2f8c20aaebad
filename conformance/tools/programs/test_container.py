"""The entry script of the image, taken out of the Dockerfile: it must do with its words what redis:7.2's does.

Most cases put recorders in place of the programs it calls; the last one starts the real server through it.
"""

import os
import pathlib
import signal
import socket
import stat
import subprocess

from cases import equal, test, until
from ports import free_port
from server import answers

DOCKERFILE = pathlib.Path(__file__).resolve().parents[3] / "Dockerfile"

# Prints the umask and the words it was called with.
RECORDER = """#!/bin/sh
echo "umask $(umask)"
for word in "$0" "$@"; do printf '%s\\n' "${word##*/bin/}"; done
"""

# The script's privileged helpers: `id` says who we are, the others say what they were asked and go on.
FAKES = {
    "redis-server": RECORDER,
    "redis-cli": RECORDER,
    "redis-check-aof": RECORDER,
    "id": '#!/bin/sh\necho "${FAKE_UID:-0}"\n',
    "chown": '#!/bin/sh\necho "chown $*"\n',
    "setpriv": '#!/bin/sh\necho "setpriv $*"\nwhile case "$1" in --*) true ;; *) false ;; esac; do shift; done\nexec "$@"\n',
}


def entry_script():
    """The lines of the Dockerfile between `COPY <<'SCRIPT' .../docker-entrypoint.sh` and `SCRIPT`."""
    lines = DOCKERFILE.read_text().split("\n")
    start = next(at for at, line in enumerate(lines) if "docker-entrypoint.sh" in line and "<<" in line)
    return "\n".join(lines[start + 1 : lines.index("SCRIPT", start)]) + "\n"


class Image:
    """A directory with the script, a bin of fakes and a /data to stand in."""

    def __init__(self, t):
        self.t = t
        self.root = pathlib.Path(t.server.directory, "image")
        self.bin, self.data = self.root / "bin", self.root / "data"
        for path in (self.root, self.bin, self.data):
            path.mkdir(exist_ok=True)
        for name, text in FAKES.items():
            self.program(name, text)
        self.script = self.root / "docker-entrypoint.sh"
        self.script.write_text(entry_script())

    def program(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self, *words, uid=0, umask="022", code=0):
        """What comes of starting the image with these words."""
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "FAKE_UID": str(uid)}
        done = subprocess.run(
            ["sh", "-c", f'umask {umask}; exec sh "$0" "$@"', str(self.script), *words],
            cwd=self.data, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110,
        )  # fmt: skip
        assert done.returncode == code, f"{words} ends with {done.returncode}: {done.stdout}"
        return done.stdout.rstrip("\n").split("\n")


def called(lines):
    """The program and its words behind the recorder's umask line; `--protected-mode no` is this image's own addition."""
    at = next(at for at, line in enumerate(lines) if line.startswith("umask "))
    words = lines[at + 1 :]
    return words[:-2] if words[-2:] == ["--protected-mode", "no"] else words


@test("container: options alone and a configuration file are for the server")
def words(t):
    image = Image(t)
    for given, wanted in [
        (["redis-server"], ["redis-server"]),
        (["redis-server", "--save", "60", "1", "--loglevel", "warning"],) * 2,
        (["--save", "60", "1"], ["redis-server", "--save", "60", "1"]),
        (["-"], ["redis-server", "-"]),
        (["/usr/local/etc/redis/redis.conf"], ["redis-server", "/usr/local/etc/redis/redis.conf"]),
        (["redis.conf", "--port", "7000"], ["redis-server", "redis.conf", "--port", "7000"]),
        (["redis-server", "--requirepass", "two words", "--save", ""],) * 2,
        (["--appendonly", "yes", "--dir", "a dir/*"], ["redis-server", "--appendonly", "yes", "--dir", "a dir/*"]),
    ]:
        for uid in (0, 1000):
            equal(called(image.start(*given, uid=uid)), wanted)


@test("container: other programs run as they are, as whoever starts them")
def others(t):
    image = Image(t)
    equal(called(image.start("redis-cli", "-h", "redis", "ping")), ["redis-cli", "-h", "redis", "ping"])
    equal(called(image.start("redis-check-aof", "--fix", "x.aof")), ["redis-check-aof", "--fix", "x.aof"])
    equal(image.start("sh", "-c", "echo $0 $1", "a", "b c"), ["a b c"])
    equal(image.start("sh", "-c", "exit 7", code=7), [""])
    assert not any(line.startswith("setpriv") for line in image.start("redis-cli"))


@test("container: root gives its files away and becomes redis; --user stays who it is")
def privileges(t):
    image = Image(t)
    (image.data / "dump.rdb").write_text("")
    lines = image.start("redis-server", uid=0)
    chown = next(line for line in lines if line.startswith("chown "))
    assert chown.startswith("chown redis ") and "./dump.rdb" in chown, chown
    setpriv = next(line for line in lines if line.startswith("setpriv "))
    assert "--reuid=redis --regid=redis" in setpriv and ("--clear-groups" in setpriv or "--init-groups" in setpriv), setpriv
    lines = image.start("redis-server", uid=1000)
    assert not any(line.startswith(("chown", "setpriv")) for line in lines), lines


@test("container: new files are for their owner alone, unless a umask was chosen")
def umasks(t):
    image = Image(t)
    for uid in (0, 1000):
        for words in (["redis-server"], ["redis-cli"]):
            equal(next(line for line in image.start(*words, uid=uid) if line.startswith("umask")), "umask 0077")
            equal(next(line for line in image.start(*words, uid=uid, umask="027") if line.startswith("umask")), "umask 0027")


@test("container: protected mode is off unless somebody asks for it")
def protected(t):
    image = Image(t)
    assert image.start("redis-server", "--port", "1")[-2:] == ["--protected-mode", "no"]
    asked = ["redis-server", "--protected-mode", "yes"]
    equal(image.start(*asked)[-3:], asked)
    (image.data / "asks.conf").write_text("port 1\n  Protected-Mode yes\n")
    equal(image.start("asks.conf")[-2:], ["redis-server", "asks.conf"])
    (image.data / "silent.conf").write_text("# protected-mode yes\nport 1\n")
    equal(image.start("silent.conf")[-3:], ["silent.conf", "--protected-mode", "no"])


@test("container: the real server, started by the script, saves into its directory and ends by SIGTERM with 0")
def real(t):
    image = Image(t)
    for name in FAKES:
        (image.bin / name).unlink()
    server = os.path.realpath(t.run("sh", "-c", f"command -v '{t.server.binary}'").strip())
    # As the user redis it must be able to reach what root's temporary folder hides.
    directory = pathlib.Path(t.run("mktemp", "-d", "/tmp/conformance-image-XXXXXX").strip())
    try:
        t.run("cp", server, str(directory / "redis-server"))
        directory.chmod(0o755)
        (data := directory / "data").mkdir()
        port = free_port()
        environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
        child = t.spawn("sh", str(image.script), "--port", str(port), "--bind", "127.0.0.1", "--save", "3600 1000", cwd=data, env=environment)
        until("it answers", lambda: answers(port))
        t.run("redis-cli", "-p", str(port), "set", "k", "v")
        equal(t.run("redis-cli", "-p", str(port), "--no-raw", "config", "get", "protected-mode").split()[-1], '"no"')
        if os.getuid() == 0:
            status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
            uid = next(line.split()[1] for line in status.split("\n") if line.startswith("Uid:"))
            equal(uid, t.run("id", "-u", "redis").strip())
        with socket.create_connection(("127.0.0.1", port)):
            child.send_signal(signal.SIGTERM)
            equal(child.wait(60), 0)
        file = data / "dump.rdb"
        equal(oct(file.stat().st_mode & 0o777), "0o600")
        if os.getuid() == 0:
            equal(str(file.stat().st_uid), uid)
    finally:
        t.run("rm", "-rf", str(directory))
