"""Free loopback ports for servers under test.
Invariant: ports lie below the kernel's ephemeral range, where no client's socket takes one while its server is down."""

import random
import socket

HOST = "127.0.0.1"

# Linux gives outgoing connections 32768 and up. A port from up there could be lost to some client between a server's
# stop and its start again, and a client that retries a dead port there can even be connected to itself.
LOWEST, HIGHEST = 20_000, 32_000
_ATTEMPTS = 100


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now.

    Drawn at random and unseeded, so that parallel workers draw apart; between this answer and the server's bind
    another process may still take it, which is why `Part` starts again on new ports when that happens.
    """
    draw = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = draw.randint(LOWEST, HIGHEST)
        with socket.socket() as probe:
            # Without SO_REUSEADDR servers' old connections in TIME_WAIT count as taken, which errs on the safe side.
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port found between {LOWEST} and {HIGHEST} in {_ATTEMPTS} draws")
