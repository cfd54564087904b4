#!/usr/bin/env python3
"""Drives real SSH clients against a shed and against Debian's sshd in the same image, and prints which of them can do what.

`make test-clients` builds and installs what it needs. The table on standard output is that of docs/CLIENTS.md; reasons of
failures are on standard error.

    python3 docker/test-clients/run.py                   all clients
    python3 docker/test-clients/run.py paramiko curl     those whose name contains one of these words
    SHED_BENCH_PROGRAMS=DIR python3 …                    the programs in DIR instead of target/release

Exit status: 0 all that works with sshd works with the shed · 1 something does not · 2 wrong arguments · 130 cancelled
"""

import argparse
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench"))

from clients import CLIENTS, COLS, ROWS, OpenSsh, Refused, Target, sha256  # noqa: E402
from measure import Failed  # noqa: E402
from world import World  # noqa: E402

REMOTE = "/home/dev/clients"
FILE = os.urandom(3_000_000)
N_LINES = 3_000_000  # about 22 MB
HELLO = b"hello from the port\n"
# Prints its port, then greets each connection.
GREETER = f"""
import os, socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 1), os.dup2(null, 2)
while True:
    with server.accept()[0] as peer: peer.sendall({HELLO!r})
"""


def say(text):
    print(f"clients: {text}", file=sys.stderr, flush=True)


def expect(found, expected):
    if found != expected:
        raise Refused(f"{str(found)[-200:]!r} instead of {str(expected)[:60]!r}")


class Legs:
    """What a client is asked to do on one server. Each leg is checked by OpenSSH, or by what the client prints."""

    def __init__(self, target):
        self.target, self.check = target, OpenSsh(target)
        self.local = target.dir / "file"
        self.local.write_bytes(FILE)
        self.shell(f"rm -rf {REMOTE}; mkdir {REMOTE}")
        self.check.execute(f"cat > {REMOTE}/greeter.py", GREETER.encode())
        # `read` ends with the first line; the greeter goes on in the background.
        self.port = int(self.shell(f"(setsid python3 {REMOTE}/greeter.py 2>&1 </dev/null &) | (read port; echo $port)"))

    def shell(self, line):
        status, out = self.check.execute(line)
        expect(status, 0)
        return out.decode()

    def arrived(self, name):
        expect(self.shell(f"sha256sum {REMOTE}/{name}").split()[0], sha256(FILE))

    def login(self, client):
        """logs in, runs a command"""
        expect(client.execute("echo in"), (0, b"in\n"))

    def status(self, client):
        expect(client.execute("exit 7")[0], 7)

    def output(self, client):
        lines = b"".join(b"%d\n" % number for number in range(1, N_LINES + 1))
        status, out = client.execute(f"seq {N_LINES}")
        expect((status, sha256(out)), (0, sha256(lines)))

    def input(self, client):
        status, out = client.execute("sha256sum", FILE)
        expect((status, out.split()[:1]), (0, [sha256(FILE).encode()]))

    def put(self, client):
        client.put(self.local, f"{REMOTE}/put")
        self.arrived("put")

    def get(self, client):
        back = self.target.dir / "back"
        back.unlink(missing_ok=True)
        self.check.execute(f"cat > {REMOTE}/get", FILE)
        client.get(f"{REMOTE}/get", back)
        expect(sha256(back.read_bytes()), sha256(FILE))

    def symlink(self, client):
        client.symlink("a-target", f"{REMOTE}/link")
        expect(self.shell(f"readlink {REMOTE}/link; rm {REMOTE}/link"), "a-target\n")

    def scp(self, client):
        client.scp(self.local, f"{REMOTE}/scp")
        self.arrived("scp")

    def forward(self, client):
        expect(client.forward(self.port), HELLO)

    def pty(self, client):
        # A client in a terminal of ours may show more than the command prints.
        out = client.pty("stty size").decode().split("\r\n")
        if f"{ROWS} {COLS}" not in [line.strip() for line in out]:
            raise Refused(f"{out!r}")


# Leg, title, and the method a client must have for it.
LEGS = [
    ("login", "command", "execute"),
    ("status", "status", "execute"),
    ("output", "22 MB out", "execute"),
    ("input", "3 MB in", "execute"),
    ("put", "sftp put", "put"),
    ("get", "sftp get", "get"),
    ("symlink", "symlink", "symlink"),
    ("scp", "scp", "scp"),
    ("forward", "forward", "forward"),
    ("pty", "pty size", "pty"),
]
# Ansible has no input and prints output as JSON.
ABSENT = {("Ansible", "output"), ("Ansible", "input")}


def attempt(legs, client, leg):
    """`None` if it works, or why not."""
    try:
        getattr(legs, leg)(client)
    except (Refused, OSError) as failed:
        return str(failed).replace("\n", " ") or type(failed).__name__
    return None


def table(world, pair, chosen):
    """Prints a row per client; returns what works with sshd and not with the shed."""
    sides = [Legs(Target(world, pair.shed)), Legs(Target(world, pair.sshd))]
    titles = ["client", "version", *(title for _, title, _ in LEGS)]
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles), flush=True)
    worse = []
    for kind in chosen:
        clients = [kind(legs.target) for legs in sides]
        cells = [kind.name, clients[0].version()]
        for leg, title, method in LEGS:
            if not hasattr(kind, method) or (kind.name, leg) in ABSENT:
                cells.append("–")
                continue
            shed, sshd = (attempt(legs, client, leg) for legs, client in zip(sides, clients, strict=True))
            cells.append({(True, True): "yes", (True, False): "shed only", (False, True): "sshd only"}.get((not shed, not sshd), "neither"))
            for side, why in (("the shed", shed), ("sshd", sshd)):
                if why:
                    say(f"{kind.name}, {title}, {side}: {why}")
            if shed and not sshd:
                worse.append(f"{kind.name}: {title}")
        print("| " + " | ".join(cells) + " |", flush=True)
    if any(kind.name == "Ansible" for kind in chosen) and "~" in sides[0].shell("ls -A /workspace"):
        worse.append("Ansible: it made a directory ~ in /workspace")
    return worse


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help="words in the names of clients; all by default")
    words = [word.lower() for word in parser.parse_args().clients]
    chosen = [kind for kind in CLIENTS if not words or any(word in kind.name.lower() for word in words)]
    if not chosen:
        parser.error(f"no such client; there are {', '.join(kind.name for kind in CLIENTS)}")
    # Both signals remove everything that was created; a shell starts background processes with Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with World() as world:
        try:
            with world.pair() as pair:
                worse = table(world, pair, chosen)
        except (Failed, Refused) as failed:
            say(failed)
            return 1
        except KeyboardInterrupt:
            say("cancelled")
            return 130
    for one in worse:
        say(f"works with sshd and not with the shed: {one}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
