"""The rows about sessions with workers: each has a server of its own, and both sides of a comparison run in one shed.

All requests go over an open connection to the unix socket, so that no client's start is in the figures.
"""

import collections
import contextlib
import json
import pathlib
import select
import threading
import time

import world as worlds
from measure import (
    Events,
    Failed,
    Kept,
    Line,
    Terminal,
    WebSocket,
    children,
    interleave,
    limit,
    p50,
    p99,
    process,
    status,
    ticks,
    times_of,
)

SHED = "work"
SESSIONS = f"/api/sheds/{SHED}/sessions"
# Two thousand files in forty directories, 2 KB each, and nothing else.
REPOSITORY = """
import os, subprocess
for number in range(2000):
    os.makedirs('d%02d' % (number % 40), exist_ok=True)
    with open('d%02d/f%04d.txt' % (number % 40, number), 'w') as file:
        file.write('line %d of a file that is like all others but for its number\\n' % number * 32)
for words in ('init -q -b main', 'config user.name B', 'config user.email b@example.com', 'add -A', 'commit -qm all'):
    subprocess.run(['git', *words.split()], check=True)
"""


@contextlib.contextmanager
def shed(repository=False):
    """A server with one shed, and an HTTP connection to the server."""
    with worlds.World() as world:
        world.create(SHED)
        if repository:
            inside(world, "python3", "-c", REPOSITORY)
        yield world, Kept(world.socket)


def inside(world, *argv):
    """The output of a command in the shed. Not timed."""
    return world.shed("exec", SHED, "--", *argv)


def make(kept, name, command=(), **more):
    """Creates a session: seconds, and the session as the server answers it."""
    taken, body = kept.ask("POST", SESSIONS, {"name": name, "command": list(command), "keep": True} | more)
    return taken, json.loads(body)


def remove(kept, name):
    kept.ask("DELETE", f"{SESSIONS}/{name}?force=true")


def without_shed(world, *argv):
    """The argv that runs a command in the shed's container without shed, through `docker exec`."""
    return ["docker", "exec", "-u", "dev", "-w", "/workspace", world.container(SHED), *argv]


# --- rows ---------------------------------------------------------------------------------------------------------------------


def creation(size):
    """A session in a running shed with a repository of 2,000 files: `POST …/sessions` with `cat` as its command, from the first byte sent to
    the last byte read, when the command runs and the session is listed. Against `docker exec … tmux new-session`, and for a
    worktree against `docker exec … sh -c 'git worktree add … && tmux new-session'`: whole processes. The removal of quick sessions is not
    timed. Worktrees are not removed: ext4 skips each inode that was deleted within the last half minute when it looks for a free one, and after the removal
    of thousands of files that would be most of the measured time, on both sides."""
    with shed(repository=True) as (world, kept):
        count = iter(range(1 << 30))

        def quick():
            taken, _ = make(kept, "fresh", ["cat"])
            remove(kept, "fresh")
            return taken

        def worktree():
            number = next(count)
            taken, made = make(kept, f"tree{number}", ["cat"], type="worktree")
            if made["branch"] != f"shed/tree{number}":
                raise Failed(f"no worktree was created: {made}")
            return taken

        def rival(line, undo="true"):
            def sample():
                numbered = line.format(next(count))
                taken = process(without_shed(world, "sh", "-c", numbered), world.env)
                world.docker(*without_shed(world, "sh", "-c", undo)[1:])
                return taken

            return sample

        new = "tmux new-session -d -s hand{0} cat"
        add = "git worktree add -q -b hand{0} /worktrees/hand{0} main"
        sides = [quick, rival("tmux new-session -d -s hand cat", "tmux kill-session -t =hand"), worktree, rival(f"{add} && {new}")]
        ours, theirs, tree, their_tree = interleave(size.samples, *sides)
    for what, samples, rivals, goal, rival in (
        ("create a session, quick", ours, theirs, 0.050, "docker exec … tmux new-session"),
        ("create a session, worktree of 2,000 files", tree, their_tree, 0.250, "docker exec … git worktree add, tmux new-session"),
    ):
        ratio = times_of(p50(rivals) / p50(samples))
        yield Line(what, samples, p50(samples) <= goal, f"p50 ≤ {goal * 1000:.0f} ms", rival, rivals, ratio)


def stream(size):
    """`cat` of 200 MB of text in a window of 80×24 of one tmux server: as a worker, and as a plain pane beside it, in turns. Timed in the
    shed, around `cat` alone, which ends when its terminal has accepted everything. The row then waits until the worker's output is stored."""
    with shed() as (world, kept):
        text = "import base64, os\nwith open('/tmp/text', 'wb') as file:\n"
        text += f" for _ in range({size.stream}):\n  file.write(base64.encodebytes(os.urandom(740_000)))"
        inside(world, "python3", "-c", text)
        n_bytes = int(inside(world, "stat", "-c", "%s", "/tmp/text"))
        timed = "import subprocess, time\nb = time.monotonic()\nsubprocess.run(['cat', '/tmp/text'], check=True)\n"
        timed += "t = time.monotonic() - b\nopen('/tmp/.took', 'w').write(str(t))\nimport os; os.rename('/tmp/.took', '/tmp/took')"

        def took():
            return float(inside(world, "sh", "-c", "until test -s /tmp/took; do sleep 0.05; done; cat /tmp/took; rm /tmp/took"))

        def worker():
            make(kept, "streamed", ["python3", "-c", timed])
            with limit(120):
                seconds = took()
                while True:
                    found = json.loads(kept.get(f"{SESSIONS}/streamed")[1])["workers"][0]
                    if found["status"] == "exited" and found["output_end"] >= n_bytes:
                        break
                    time.sleep(0.05)
            remove(kept, "streamed")
            return seconds

        def plain():
            world.docker(*without_shed(world, "tmux", "new-session", "-d", "-s", "plain", "python3", "-c", timed)[1:])
            with limit(120):
                return took()

        ours, theirs = interleave(max(size.rounds, 5), worker, plain)
        logged = sum(file.stat().st_size for file in pathlib.Path(world.dir, "data", "output").rglob("*") if file.is_file())
    ratio = p50(ours) / p50(theirs)
    what = f"cat of {n_bytes / 1e6:.0f} MB as a worker"
    speeds = f"{n_bytes / p50(ours) / 1e6:.0f} against {n_bytes / p50(theirs) / 1e6:.0f} MB/s; {logged / 1e6:.0f} MB of logs"
    yield Line(what, ours, ratio <= 1.25, "speed ≥ 80 %", "a plain pane", theirs, f"{ratio:.2f}×", note=speeds)


def checkpoints(size):
    """`POST …/checkpoints` of a worktree session with 2,000 files of which one has changed since the last one, against
    `git stash create` through `docker exec`, for comparison. Each answer is checked for a new checkpoint."""
    with shed(repository=True) as (world, kept):
        make(kept, "tree", ["cat"], type="worktree")
        count = iter(range(1 << 30))

        def ours():
            inside(world, "sh", "-c", f"echo {next(count)} > /worktrees/tree/d00/f0000.txt")
            taken, body = kept.ask("POST", f"{SESSIONS}/tree/checkpoints", {"message": "bench"})
            if json.loads(body).get("unchanged"):
                raise Failed(f"no checkpoint was created: {body!r}")
            return taken

        def theirs():
            inside(world, "sh", "-c", f"echo {next(count)} > /worktrees/tree/d00/f0000.txt")
            return process(without_shed(world, "git", "-C", "/worktrees/tree", "stash", "create"), world.env)

        samples, rivals = interleave(size.samples, ours, theirs)
        remove(kept, "tree")
    ratio = times_of(p50(rivals) / p50(samples))
    yield Line(
        "checkpoint of 2,000 files", samples, p50(samples) <= 0.100, "≤ 100 ms", "docker exec … git stash create", rivals, ratio
    )


# Prints the duration of each commit, and the failures.
COMMITS = """
import subprocess, sys, time
failed = 0
for number in range(int(sys.argv[1])):
    begin = time.monotonic()
    with open('d01/f0001.txt', 'a') as file: file.write('%d\\n' % number)
    for words in (['add', '-A'], ['commit', '-qm', 'commit %d' % number]):
        done = subprocess.run(['git', *words], capture_output=True, text=True)
        if done.returncode:
            failed += 1
            print('failed', ' '.join(done.stderr.split())[:200], flush=True)
            break
    print('took', time.monotonic() - begin, flush=True)
print('failures', failed, flush=True)
"""


def beside(size):
    """1,000 times `git add -A` and `git commit` in a worktree session of 2,000 files, while one client watches its numbers and another creates
    one checkpoint after another: the duration of each commit, and how many failed. Then a tenth as many commits beside a poller as other
    programs have it (`git add -N .` and `git diff` every 500 ms), for comparison."""
    with shed(repository=True) as (world, kept):
        make(kept, "tree", ["cat"], type="worktree")

        def commits(count):
            said = inside(world, "sh", "-c", 'cd /worktrees/tree && exec python3 -c "$0" "$1"', COMMITS, str(count))
            lines = said.splitlines()
            took = [float(line.split()[1]) for line in lines if line.startswith("took")]
            return took, int(lines[-1].split()[1]), [line for line in lines if line.startswith("failed")][:3]

        stop, made, seen, wrong = threading.Event(), [], [], []

        def checkpoint():
            own = Kept(world.socket)
            try:
                while not stop.is_set():
                    made.append(own.ask("POST", f"{SESSIONS}/tree/checkpoints", {"message": "beside"})[0])
            except (Failed, OSError) as error:
                wrong.append(str(error))

        events = Events(world.socket, f"{SESSIONS}/tree/diff/watch")

        def watch():
            with contextlib.suppress(OSError, Failed):
                while not stop.is_set():
                    seen.extend(events.read())

        threads = [threading.Thread(target=run, daemon=True) for run in (checkpoint, watch)]
        for thread in threads:
            thread.start()
        try:
            took, failed, why = commits(size.commits)
        finally:
            stop.set()
        threads[0].join(30)
        events.close()
        poller = "cd /worktrees/tree && while :; do git add -N .; git diff > /dev/null; sleep 0.5; done"
        make(kept, "poller", ["sh", "-c", poller])
        polled, poll_failed, _ = commits(max(size.commits // 10, 10))
        remove(kept, "poller")
        remove(kept, "tree")
    if wrong or not seen:
        raise Failed(f"checkpoints: {wrong[:1]}; numbers seen: {len(seen)}")
    note = f"{failed} failed {why or ''}, {len(made)} checkpoints, {len(seen)} times numbers; beside the poller {poll_failed} of {len(polled)}"
    what = f"{len(took):,} commits beside watcher and checkpoints"
    yield Line(what, took, failed == 0, "0 fail", "beside add -N, diff", polled, f"{p50(took) / p50(polled):.2f}×", note=note)


# A line every 50 ms, each with the clock that all processes of the machine share.
TICKER = "import time\nwhile True:\n print('at', time.monotonic_ns(), flush=True)\n time.sleep(0.05)"


def panes(size):
    """50 sessions whose command prints a line with the machine's monotonic clock 20 times a second. A subscriber of each worker's WebSocket
    takes the time between the clock in each line and its arrival; `…/workers/{w}/ws` of all 50 at once, read by one process. Then one subscriber
    of `/api/previews` of all of them, and ten more sessions beside them that print such a line every 300 ms, slower than previews come (5 a second): the
    time between the clock in each of their lines and the first preview that has it. In the same run: `tmux capture-pane` of one pane through `docker exec`."""
    seconds = max(size.seconds // 3, 5)
    with shed() as (world, kept):
        made = [make(kept, f"p{number}", ["python3", "-c", TICKER])[1] for number in range(size.panes)]
        streams = [WebSocket(world.socket, f"{SESSIONS}/{one['name']}/workers/{one['workers'][0]['id']}/ws") for one in made]
        by_socket, lines = {stream.socket: stream for stream in streams}, collections.Counter()
        ages, rest = [], collections.defaultdict(str)
        skip, end = time.monotonic() + 2, time.monotonic() + 2 + seconds
        while (now := time.monotonic()) < end:
            for ready in select.select(list(by_socket), [], [], 1)[0]:
                for frame in by_socket[ready].read():
                    at = time.monotonic_ns()
                    if frame["type"] != "output":
                        continue
                    *whole, rest[ready] = (rest[ready] + frame["data"]).split("\n")
                    for line in whole:
                        word, _, clock = line.strip().partition(" ")
                        if word == "at" and now > skip:
                            ages.append((at - int(clock)) / 1e9)
                            lines[ready] += 1
        for stream in streams:
            stream.close()
        low = min(lines.values(), default=0)
        if len(lines) != size.panes or low < seconds * 10:
            raise Failed(f"output of {len(lines)} of {size.panes} panes arrived, of the slowest {low} lines in {seconds} s")
        slowly = ["python3", "-c", TICKER.replace("0.05", "0.3")]
        slow = {make(kept, f"slow{number}", slowly)[1]["id"]: 0 for number in range(10)}
        polls = [process(without_shed(world, "tmux", "capture-pane", "-p", "-t", "p0:"), world.env) for _ in range(size.samples)]
        previewed = previews(world, slow, seconds)
    what = f"output to subscriber, {size.panes} panes × 20 lines/s"
    yield Line(what, ages, p99(ages) <= 0.050, "p99 ≤ 50 ms", "docker exec … tmux capture-pane", polls, note=f"{len(ages)} lines")
    yield Line("preview to subscriber, beside the same panes", previewed, p99(previewed) <= 0.050, "p99 ≤ 50 ms", note=f"{len(previewed)} lines")


def previews(world, known, seconds):
    """The age of each line of these sessions in the first preview that has it. `known` is changed."""
    events, ages = Events(world.socket, "/api/previews"), []
    skip, end = time.monotonic() + 2, time.monotonic() + 2 + seconds
    while (now := time.monotonic()) < end:
        for data in events.read():
            at = time.monotonic_ns()
            found = json.loads(data)
            for one in found if isinstance(found, list) else [found]:
                if (session := one.get("session")) not in known:
                    continue
                words = [line["text"].split() for line in one.get("lines", [])]
                clocks = [int(pair[1]) for pair in words if len(pair) == 2 and pair[0] == "at" and pair[1].isdigit()]
                newest = max(clocks, default=0)
                if newest > known[session] and now > skip:
                    ages.append((at - newest) / 1e9)
                known[session] = max(known[session], newest)
    events.close()
    if len(ages) < seconds * 2 * len(known):
        raise Failed(f"previews showed {len(ages)} lines in {seconds} s")
    return ages


def busy(size):
    """One session prints as fast as tmux accepts it (`yes` with lines of 80 bytes) for the duration of the row. In another session of the
    same shed `cat` runs, and `shed attach` shows it at a terminal: keys as in the row of keystrokes, echo by echo. In turns of 100 keys
    once with the printing session as a worker and once as a plain pane, to measure what a worker adds. The server's memory (VmRSS) is read every turn."""
    with shed() as (world, kept):
        make(kept, "keys", ["cat"])
        terminal = Terminal([worlds.SHED, "attach", SHED, "-S", "keys"], world.env)
        samples, memory, moved = ([], []), [], 0
        line = "y" * 79
        try:
            terminal.until(rb"\d\d:\d\d")
            terminal.drain(0.3)
            for turn in range(max(size.keys // 100, 2)):
                worker = turn % 2 == 0
                if worker:
                    make(kept, "loud", ["yes", line])
                else:
                    world.docker(*without_shed(world, "tmux", "new-session", "-d", "-s", "plain", "yes", line)[1:])
                time.sleep(0.5)
                keys(terminal, 100, samples[0 if worker else 1])
                memory.append(status(world.server.pid, "VmRSS"))
                if worker:
                    moved += json.loads(kept.get(f"{SESSIONS}/loud")[1])["workers"][0]["output_end"]
                    remove(kept, "loud")
                else:
                    world.docker(*without_shed(world, "tmux", "kill-session", "-t", "=plain")[1:])
            terminal.leave()
        except BaseException:
            terminal.kill()
            raise
    ours, theirs = samples
    note = f"{moved / 1e6:.0f} MB were printed and stored"
    ratio = f"p99 {p99(ours) / p99(theirs):.2f}×"
    yield Line("keystroke beside a worker that prints without pause", ours, p99(ours) <= 0.020, "p99 ≤ 20 ms", "beside a plain pane", theirs, ratio, note=note)
    yield Line("the same: server's RSS", memory, max(memory) <= 120, "≤ 120 MB", unit="MB")


def keys(terminal, count, into):
    with limit(120):
        for number in range(count):
            if number % 50 == 49:
                terminal.write(b"\x15")
                terminal.drain(0.05)
            into.append(terminal.key(b"z"))
            terminal.drain(0.001)


# Does twice a second for every session what claude-squad does; prints its processor time per second, tmux's server included.
POLLER = """
import os, resource, subprocess, sys, time
def tmux():
    pid = subprocess.run(['tmux', 'display', '-p', '#{pid}'], capture_output=True, text=True).stdout.strip()
    fields = open('/proc/%s/stat' % pid).read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
def spent():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) + tmux()
names, end = sys.argv[2:], time.monotonic() + float(sys.argv[1])
begin, before, polls = time.monotonic(), spent(), 0
quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
while time.monotonic() < end:
    turn = time.monotonic()
    for name in names:
        subprocess.run(['tmux', 'capture-pane', '-p', '-e', '-J', '-t', name + ':'], **quiet)
        subprocess.run(['git', 'add', '-N', '.'], **quiet)
        subprocess.run(['git', '--no-pager', 'diff', 'HEAD'], **quiet)
        polls += 1
    time.sleep(max(0, turn + 0.5 - time.monotonic()))
wall = time.monotonic() - begin
print((spent() - before) / wall * 100, polls / wall)
"""


def idle_sessions(size):
    """50 idle sessions (`cat`) of one shed with a repository of 2,000 files, without viewers. After 10 s of rest the processor time
    (utime + stime, /proc/PID/stat) of the server and of every shed-init process of the shed (supervisor, daemon, collector, 50 runners)
    together, as a share of one core, in five intervals; after each one a poller runs in the same shed for a third of that time and does for
    each session what claude-squad does every 500 ms (`tmux capture-pane`, `git add -N .`, `git diff`): its own time, its children's and tmux's."""
    with shed(repository=True) as (world, kept):
        names = [make(kept, f"i{number}", ["cat"])[1]["name"] for number in range(size.panes)]
        first = int(world.docker("inspect", "-f", "{{.State.Pid}}", world.container(SHED)))
        loads, polled, rates = [], [], []
        stretch = max(size.seconds / 5, 2)
        for _ in range(5):
            time.sleep(2 if loads else 10)
            ours = [world.server.pid, *inits(first)]
            if len(ours) < size.panes + 3:
                raise Failed(f"found {len(ours)} processes; expected at least {size.panes + 3}: server, supervisor, daemon, {size.panes} runners")
            begin, before = time.perf_counter(), sum(map(ticks, ours))
            time.sleep(stretch)
            loads.append((sum(map(ticks, ours)) - before) / (time.perf_counter() - begin) * 100)
            load, rate = map(float, inside(world, "python3", "-c", POLLER, str(stretch / 3), *names).split())
            polled.append(load)
            rates.append(rate)
        memory = sum(status(pid, "RssAnon") for pid in ours[1:])
    mean = sum(loads) / len(loads)
    note = f"{mean:.3f} % of a core in total; {memory:.0f} MB anonymous in {len(ours) - 1} shed-init processes; the poller came to {p50(rates):.0f} of {2 * size.panes} polls/s"
    ratio = "–" if mean == 0 else times_of(p50(polled) / mean)
    yield Line(f"{size.panes} idle sessions without viewers: processor", loads, mean <= 0.5, "≤ 0.5 % of a core", "a poller", polled, ratio, unit="%", note=note)


def inits(first):
    """All shed-init processes of a container, given its first one."""
    found, look = [], [first]
    while look:
        pid = look.pop()
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("shed-init"):
                found.append(pid)
            look.extend(children(pid))
    return found


ROWS = {
    "create": creation,
    "stream": stream,
    "checkpoint": checkpoints,
    "commits": beside,
    "panes": panes,
    "busy": busy,
    "idle-sessions": idle_sessions,
}
