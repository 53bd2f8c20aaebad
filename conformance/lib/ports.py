"""Ports for the servers of the Python runs of this folder."""

import random
import socket


def free_port():
    """A port that nobody listens on, below those that the system gives to outgoing connections: a client that connects anew
    would take one of these while a server is away from it."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
