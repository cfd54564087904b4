"""Timing of processes, terminals and connections, with as little Python code in between as possible; and statistics."""

import base64
import contextlib
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import re
import select
import signal
import socket
import statistics
import struct
import subprocess
import termios
from time import perf_counter

# Maximum duration of one sample in seconds; beyond it the row has failed.
SAMPLE_LIMIT = 60
TERMINAL = (40, 120)  # rows, columns


class Failed(Exception):
    """A row cannot be measured; the message says why."""


@contextlib.contextmanager
def limit(seconds=SAMPLE_LIMIT):
    """Raises Failed if the block takes longer than this."""

    def over(_signal, _frame):
        raise Failed(f"not finished within {seconds} s")

    old = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def words(argv):
    """A command for a message, shortened to its beginning and its end."""
    text = " ".join(str(word) for word in argv)
    return text if len(text) <= 90 else f"{text[:30]} … {text[-60:]}"


def output(argv, env, **options):
    """The output of a command; Failed with the end of its error output if it fails. Not timed."""
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, **options)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise Failed(f"{words(argv)}: exit status {done.returncode}: {said}")
    return done.stdout


def process(argv, env, stdin=os.devnull):
    """Seconds from the spawn of a process to its end. Input comes from a file; output is discarded."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    with limit():
        begin = perf_counter()
        pid = os.posix_spawnp(argv[0], argv, env, file_actions=actions)
        try:
            _, status = os.waitpid(pid, 0)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        taken = perf_counter() - begin
    code = os.waitstatus_to_exitcode(status)
    if code:
        output(argv, env)  # run it again for its error output
        raise Failed(f"{words(argv)}: exit status {code}, but 0 when run again")
    return taken


class Terminal:
    """A process at a terminal of its own. `begin` is the moment before its spawn."""

    def __init__(self, argv, env):
        self.what = words(argv)
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *TERMINAL, 0, 0))
        # The first terminal that a session leader opens becomes its controlling terminal.
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
        self.begin = perf_counter()
        self.pid = os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsid=True)
        os.close(slave)

    def until(self, *patterns, seconds=SAMPLE_LIMIT):
        """Reads until all patterns have been shown; the time of the last one."""
        seen, wanted, end = b"", [re.compile(pattern) for pattern in patterns], perf_counter() + seconds
        while wanted:
            if not select.select([self.master], [], [], max(0, end - perf_counter()))[0]:
                raise Failed(f"{self.what}: not shown within {seconds} s: {wanted}; shown: {seen[-300:]!r}")
            try:
                seen += os.read(self.master, 1 << 16)
            except OSError:
                raise Failed(f"{self.what}: ended early: {seen[-300:]!r}") from None
            now = perf_counter()
            wanted = [pattern for pattern in wanted if not pattern.search(seen)]
        return now

    def drain(self, quiet):
        """Reads until there is no output for this many seconds, or the end."""
        with contextlib.suppress(OSError):
            while select.select([self.master], [], [], quiet)[0] and os.read(self.master, 1 << 16):
                pass

    def key(self, byte):
        """Seconds from the writing of a key to its echo."""
        begin = perf_counter()
        os.write(self.master, byte)
        seen = b""
        while byte not in seen:
            seen += os.read(self.master, 1 << 16)
        return perf_counter() - begin

    def write(self, data):
        os.write(self.master, data)

    def leave(self):
        """Ctrl-B D, and waits for the end: a client that is killed instead stays attached in a container."""
        try:
            with limit(10):
                self.drain(0.01)
                self.write(b"\x02d")
                with contextlib.suppress(OSError):  # end of the terminal
                    while os.read(self.master, 1 << 16):
                        pass
                os.waitpid(self.pid, 0)
        except BaseException:
            self.kill()
            raise
        os.close(self.master)

    def kill(self):
        """Kills the process, if it still runs."""
        with contextlib.suppress(OSError):
            os.close(self.master)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class Kept:
    """An HTTP connection over a unix socket, kept open between requests."""

    def __init__(self, path):
        self.path = path
        self.connect()

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SAMPLE_LIMIT)
        self.socket.connect(self.path)

    def is_closed(self):
        """Whether the server has closed the connection, as it does with one that is idle for 30 seconds. Between requests nothing else arrives."""
        readable, _, _ = select.select([self.socket], [], [], 0)
        return bool(readable)

    def get(self, path):
        """One GET: seconds from the first byte sent to the last byte of the answer, and the body."""
        return self.ask("GET", path)

    def ask(self, method, path, body=None):
        """One request: seconds from the first byte sent to the last byte of the answer, and the body. Failed if the answer is an error."""
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {len(sent)}\r\n\r\n"
        request = head.encode() + sent
        if self.is_closed():
            self.socket.close()
            self.connect()
        begin = perf_counter()
        self.socket.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.socket.recv(1 << 18)
            if not more:
                raise Failed(f"{method} {path}: the connection ended")
            head += more
        head, _, rest = head.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        # In place: a long body must not cost this client copies that are then counted as the server's.
        body = bytearray(max(int(length[1]) if length else 0, len(rest)))
        body[: len(rest)], at, view = rest, len(rest), memoryview(body)
        while at < len(body):
            n_read = self.socket.recv_into(view[at:])
            if not n_read:
                raise Failed(f"{method} {path}: the connection ended")
            at += n_read
        taken = perf_counter() - begin
        if head[9:10] != b"2":
            raise Failed(f"{method} {path}: {head[:40]!r} {bytes(body[:500])!r}")
        return taken, bytes(body)


class Events:
    """An event stream over a unix socket: the data of its items, as they arrive."""

    def __init__(self, path, route):
        self.route = route
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SAMPLE_LIMIT)
        self.socket.connect(path)
        self.socket.sendall(f"GET {route} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.socket.recv(1)
            if not more:
                raise Failed(f"GET {route}: the connection ended")
            head += more
        if b" 200 " not in head[:16]:
            raise Failed(f"GET {route}: {head.splitlines()[0]!r}")
        # Items are lines in the chunks' bodies; a chunk's length on a line of its own is no item.
        self.seen = b""

    def read(self):
        """The data of the complete items that have arrived. Waits until something arrives."""
        more = self.socket.recv(1 << 18)
        if not more:
            raise Failed(f"GET {self.route}: the connection ended")
        *lines, self.seen = (self.seen + more).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]

    def close(self):
        self.socket.close()


class WebSocket:
    """A WebSocket over a unix socket: complete text messages."""

    def __init__(self, path, route):
        self.route, self.seen = route, b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SAMPLE_LIMIT)
        self.socket.connect(path)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {route} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        self.socket.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.seen:
            self._more()
        head, _, self.seen = self.seen.partition(b"\r\n\r\n")
        if b" 101 " not in head[:16]:
            raise Failed(f"GET {route}: {head.splitlines()[0]!r}")

    def _more(self):
        more = self.socket.recv(1 << 18)
        if not more:
            raise Failed(f"{self.route}: the connection ended")
        self.seen += more

    def read(self):
        """The messages that have arrived, as JSON. Waits until something arrives."""
        self._more()
        found = []
        while len(self.seen) >= 2:
            kind, size, at = self.seen[0] & 15, self.seen[1] & 127, 2
            if size >= 126:
                at = 4 if size == 126 else 10
                size = int.from_bytes(self.seen[2:at], "big") if len(self.seen) >= at else 1 << 62
            if len(self.seen) < at + size:
                break
            body, self.seen = self.seen[at : at + size], self.seen[at + size :]
            if kind == 1:
                found.append(json.loads(body))
            elif kind == 9:  # a ping, answered with the same bytes
                self._send(10, body)
            elif kind == 8:
                raise Failed(f"{self.route}: closed: {body!r}")
        return found

    def _send(self, kind, body):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[number % 4] for number, byte in enumerate(body))
        self.socket.sendall(bytes([0x80 | kind, 0x80 | len(body)]) + mask + masked)

    def close(self):
        self.socket.close()


# --- processes --------------------------------------------------------------------------------------------------------------


def ticks(pid):
    """Seconds of processor time."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(before, after):
    return (after[1] - before[1]) / (after[0] - before[0]) * 100


def status(pid, field):
    """A field of /proc/PID/status, in MB (10^6)."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise Failed(f"{pid} has no {field}")


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- figures ----------------------------------------------------------------------------------------------------------------


def interleave(count, *sides):
    """One uncounted call of each, then A, B, A, B, …; the samples of each."""
    for side in sides:
        side()
    samples = [[] for _ in sides]
    for _ in range(count):
        for side, into in zip(sides, samples):
            into.append(side())
    return samples


def p50(samples):
    return statistics.median(samples)


def p99(samples):
    """Nearest rank; with fewer than a hundred samples it is the largest."""
    return sorted(samples)[math.ceil(len(samples) * 0.99) - 1]


def shown(value, unit):
    """A value with three significant digits."""
    if unit == "s":
        value, unit = (value * 1e3, "ms") if value < 1 else (value, "s")
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{min(digits, 3)}f} {unit}"


def times_of(ratio):
    """A ratio with two or three digits."""
    digits = 0 if ratio >= 100 else 1 if ratio >= 10 else 2
    return f"{ratio:.{digits}f}×"


@dataclasses.dataclass
class Line:
    """One line of the table: shed's samples, perhaps a rival's, and whether the goal is met (None: no goal, for comparison)."""

    what: str
    ours: list
    met: bool | None = None
    goal: str = "–"
    rival: str = "–"
    theirs: list = dataclasses.field(default_factory=list)
    ratio: str = "–"
    unit: str = "s"
    note: str = ""
    row: str = ""
    build: str = ""

    def cells(self, verdict):
        ours = [shown(figure(self.ours), self.unit) for figure in (p50, p99)]
        theirs = [shown(figure(self.theirs), self.unit) if self.theirs else "–" for figure in (p50, p99)]
        count = f"{len(self.ours)}" + (f" / {len(self.theirs)}" if self.theirs and len(self.theirs) != len(self.ours) else "")
        note = f"; {self.note}" if self.note else ""
        what = f"{self.what} ({self.build})" if self.build else self.what
        return [what, *ours, self.rival, *theirs, self.ratio, self.goal, count, verdict + note]


def faster(what, ours, rival, theirs, times=None, note="", also=True, goal=""):
    """A line whose goal is to be `times` as fast as the rival by the medians; without `times` there is no goal."""
    ratio = p50(theirs) / p50(ours)
    met = None if times is None else ratio >= times and also
    goal = "–" if times is None else f"{times}× faster" + goal
    return Line(what, ours, met, goal, rival, theirs, times_of(ratio), note=note)
