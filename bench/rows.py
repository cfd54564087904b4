"""The rows of the table, one function each. The docstring of each function says how it measures.

A row yields `Line`s. Compared sides are measured in turns: one sample of shed, one of the rival, and so on.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import time

import many
import work
import world as worlds
from measure import Failed, Kept, Line, Terminal, children, faster, interleave, limit, p50, p99, process, share, shown, status, ticks, times_of

GIGABYTE = 1_000_000_000
CURVE = ("-o", "KexAlgorithms=curve25519-sha256")
DOCKER_TERMINAL = ["docker", "exec", "-it", "-u", "dev", "-w", "/workspace", "-e", "TERM=xterm-256color"]


@dataclasses.dataclass(frozen=True)
class Size:
    """The number and size of samples."""

    samples: int = 30  # of slow operations
    many: int = 100  # of quick operations
    gets: int = 100  # for each turn of the rival
    keys: int = 2000
    transfer: int = GIGABYTE
    sheds: int = 50
    seconds: int = 60  # during which an idle server is observed
    panes: int = 50  # sessions of one shed
    rounds: int = 5  # of operations that take seconds each
    stream: int = 200  # MB that a pane prints
    commits: int = 1000
    listed: int = 1000  # sessions of one shed in a list


FULL = Size()
QUICK = Size(samples=3, many=10, gets=10, keys=100, transfer=GIGABYTE // 10, sheds=5, seconds=6, panes=10, rounds=2, stream=20, commits=50, listed=100)


def timed(world, *argv):
    """A side of a comparison: a whole process, from its spawn to its end."""
    return lambda: process(list(argv), world.env)


# --- with 20 sheds × 3 sessions -----------------------------------------------------------------------------------------------


def listing(world, names, size):
    """All sessions of all sheds: one GET over an open connection to the unix socket, from the first byte sent to the last byte
    read, against a loop of `docker exec … tmux list-sessions` over the containers. `gets` requests per turn, because p99 needs
    many samples; both answers are checked for the number of sessions."""
    kept, gets = Kept(world.socket), []
    per_shed = 3

    def get():
        taken, body = kept.get("/api/sessions")
        if body.count(b'"shed_name"') != per_shed * len(names):
            raise Failed(f"GET /api/sessions does not list {per_shed * len(names)} sessions: {body[:300]!r}")
        return taken

    def turn():
        gets.extend(get() for _ in range(size.gets))
        return None

    def rival(name):
        return ["docker", "exec", "-u", "dev", world.container(name), "tmux", "list-sessions"]

    for name in names:
        if len(world.docker(*rival(name)[1:]).splitlines()) != per_shed:
            raise Failed(f"tmux in {name} does not list {per_shed} sessions")

    def loop():
        return sum(process(rival(name), world.env) for name in names)

    _, theirs = interleave(size.samples, turn, loop)
    del gets[: size.gets]  # the uncounted turn
    within = p99(gets) <= 0.003
    note = "" if within else f"p99 is {shown(p99(gets), 's')}"
    what = f"GET /api/sessions, {len(names)} sheds × {per_shed} sessions"
    yield faster(what, gets, "loop of docker exec … tmux list-sessions", theirs, 500, note, within, "; p99 ≤ 3 ms")


def client(world, names, size):
    """`shed --version` and `shed sessions` (20 sheds × 3 sessions): whole processes. No rival."""
    version, sessions = interleave(
        size.many, timed(world, worlds.SHED, "--version"), timed(world, worlds.SHED, "sessions")
    )
    if len(json.loads(world.shed("--json", "sessions"))["sessions"]) != 3 * len(names):
        raise Failed("shed sessions does not list all sessions")
    yield Line("shed --version", version, p50(version) <= 0.005, "≤ 5 ms")
    yield Line("shed sessions", sessions, p50(sessions) <= 0.020, "≤ 20 ms")


# --- with a shed and sshd in a container of the same image --------------------------------------------------------------------


def execute(pair, size):
    """`shed exec one true` against `docker exec CONTAINER true` in the same container: whole processes."""
    world = pair.world
    ours, theirs = interleave(
        size.many,
        timed(world, worlds.SHED, "exec", "one", "true"),
        timed(world, "docker", "exec", pair.container, "true"),
    )
    yield faster("shed exec NAME true", ours, "docker exec NAME true", theirs, 8)


def connections(pair, size):
    """`ssh … true` as a whole process, with the same client and options for both sides, key login, host key verified: a new connection,
    against sshd in a container of the same image at its own address; and a second connection over an existing ControlMaster, against
    `docker exec`. The other pairs are listed for comparison.

    The options are the client's defaults. With them OpenSSH 9.2 and sshd agree on the key exchange sntrup761x25519, which costs tens of
    milliseconds and which shed does not support; so new connections are also measured with curve25519 on both sides, for comparison."""
    world, masters = pair.world, []

    def over_master(where, name):
        path = ("-o", f"ControlPath={world.dir / name}")
        masters.append(world.ssh(where, options=(*path, "-O", "exit")))
        process(world.ssh(where, options=(*path, "-M", "-N", "-f")), world.env)
        return timed(world, *world.ssh(where, "true", options=path))

    try:
        names = ["ours", "sshd", "ours_curve", "sshd_curve", "ours_master", "sshd_master", "docker"]
        sides = [timed(world, *world.ssh(where, "true")) for where in (pair.shed, pair.sshd)]
        sides += [timed(world, *world.ssh(where, "true", options=CURVE)) for where in (pair.shed, pair.sshd)]
        sides += [over_master(pair.shed, "shed.ctl"), over_master(pair.sshd, "sshd.ctl")]
        sides += [timed(world, "docker", "exec", pair.container, "true")]
        of = dict(zip(names, interleave(size.many, *sides)))
    finally:
        for end in masters:
            with contextlib.suppress(Failed):
                process(end, world.env)
    new = "new SSH connection + true"
    yield faster(new, of["ours"], "sshd", of["sshd"], 8)
    yield faster(f"{new}, curve25519 for both", of["ours_curve"], "sshd", of["sshd_curve"])
    yield faster(new, of["ours"], "docker exec NAME true", of["docker"])
    second = "second SSH connection over ControlMaster + true"
    yield faster(second, of["ours_master"], "docker exec NAME true", of["docker"], 8)
    yield faster(second, of["ours_master"], "sshd, over ControlMaster", of["sshd_master"])


# More text than fits on a screen. Its last line and the clock of tmux's status line are drawn last.
FULL_SCREEN = 'for i in $(seq 99); do echo "line $i of a screen that is full of text to be drawn at once"; done; printf last-line; exec sleep infinity'
DRAWN = (rb"last-line", rb"\d\d:\d\d")


def attach(pair, size):
    """From the spawn of the client at a terminal of 120×40 until both the last line of the pane and the clock of tmux's status
    line have been read; then Ctrl-B D, not timed. The session is full of text and the same on both sides.
    `shed attach` against `docker exec -it` into the same session of the same container; ssh to `NAME+SESSION` against ssh to sshd with
    `tmux new -A`, new connections, once with the client's defaults and once with curve25519 on both sides (see the row above)."""
    world = pair.world
    shed, host, port = pair.shed
    tmux = ["tmux", "new", "-A", "-s", "full"]
    pair.session("full", FULL_SCREEN)

    def side(argv):
        def sample():
            terminal = Terminal(argv, world.env)
            try:
                taken = terminal.until(*DRAWN) - terminal.begin
            except BaseException:
                terminal.kill()
                raise
            terminal.leave()
            return taken

        return sample

    def over_ssh(*options):
        ours = world.ssh((f"{shed}+full", host, port), options=("-t", *options))
        return [side(ours), side(world.ssh(pair.sshd, *tmux, options=("-t", *options)))]

    sides = [side([worlds.SHED, "attach", "one", "-S", "full"]), side([*DOCKER_TERMINAL, pair.container, *tmux])]
    try:
        local, docker, ours, sshd, ours_curve, sshd_curve = interleave(size.many // 2, *sides, *over_ssh(), *over_ssh(*CURVE))
    finally:
        pair.end_session("full")
    yield faster("attach to first full screen, local socket", local, "docker exec -it … tmux new -A", docker, 4)
    yield faster("attach to first full screen, SSH", ours, "sshd, tmux new -A", sshd, 6)
    yield faster("attach to first full screen, SSH, curve25519 for both", ours_curve, "sshd, tmux new -A", sshd_curve)


def keystrokes(pair, size):
    """Three ssh clients, each at its own terminal, each attached to a tmux session that runs `cat`: in a plain window of the shed, in a
    worker of the shed, in a plain window of the rival. A key is written to one terminal and timed until its echo is read there, then the
    same at the next terminal. The line is cleared (Ctrl-U) every 60 keys, not timed. After each key, further output of tmux is read until
    1 ms of silence. The first 100 keys are not counted."""
    world = pair.world
    shed, host, port = pair.shed
    pair.session("keys", "exec cat")
    tmux = ["tmux", "new", "-A", "-s", "keys"]
    world.shed("exec", "one", "--", "tmux", "new-session", "-d", "-s", "plain", "sh", "-c", "exec cat")
    ours = [world.ssh((f"{shed}+{name}", host, port), options=("-t",)) for name in ("plain", "keys")]
    sides = [*ours, world.ssh(pair.sshd, *tmux, options=("-t",))]
    terminals, samples = [], ([], [], [])
    uncounted = 100
    try:
        for argv in sides:
            terminals.append(Terminal(argv, world.env))
            terminals[-1].until(DRAWN[1])
            terminals[-1].drain(0.3)
        with limit(600):
            for number in range(size.keys + uncounted):
                for terminal, into in zip(terminals, samples):
                    if number % 60 == 59:
                        terminal.write(b"\x15")
                        terminal.drain(0.02)
                    taken = terminal.key(b"z")
                    terminal.drain(0.001)
                    if number >= uncounted:
                        into.append(taken)
        for terminal in terminals:
            terminal.leave()
    except BaseException:
        for terminal in terminals:
            terminal.kill()
        raise
    finally:
        pair.end_session("keys")
        world.shed("sessions", "kill", "one", "plain")
    plain, worker, theirs = samples
    for what, ours in (("keystroke echo through SSH and tmux", plain), ("the same in a worker", worker)):
        middle, high = p50(ours) / p50(theirs), p99(ours) / p99(theirs)
        yield Line(
            what,
            ours,
            middle <= 1.15 and high <= 1.5,
            "p50 ≤ 1.15×, p99 ≤ 1.5×",
            "sshd, tmux",
            theirs,
            f"p50 {middle:.2f}×, p99 {high:.2f}×",
        )


def transfers(pair, size):
    """1 GB through ssh with aes256-gcm@openssh.com, new connections, whole processes: out is `head -c N /dev/zero`, in is `cat`
    of a file (sparse, so from the page cache) into `/dev/null`. Before that, one transfer each way is counted by `wc -c`."""
    world, count = pair.world, size.transfer
    zeros = world.dir / "zeros"
    with open(zeros, "wb") as file:
        file.truncate(count)
    options = ("-c", "aes256-gcm@openssh.com")

    def ssh(where, command):
        return world.ssh(where, command, options=options)

    def shell(command, where, far):
        words = " ".join(f"'{word}'" for word in ssh(where, far))
        counted = int(worlds.output(["sh", "-c", command.format(words)], world.env))
        if counted != count:
            raise Failed(f"{counted} of {count} bytes arrived: {far}")

    sides = []
    for where in (pair.shed, pair.sshd):
        shell("{} | wc -c", where, f"head -c {count} /dev/zero")
        shell(f"{{}} < {zeros}", where, "wc -c")
        sides.append(timed(world, *ssh(where, f"head -c {count} /dev/zero")))
    for where in (pair.shed, pair.sshd):
        sides.append(lambda argv=ssh(where, "cat > /dev/null"): process(argv, world.env, stdin=str(zeros)))
    out, sshd_out, into, sshd_into = interleave(size.samples, *sides)
    for what, ours, theirs in (("out", out, sshd_out), ("in", into, sshd_into)):
        speeds = [count / p50(samples) / GIGABYTE for samples in (ours, theirs)]
        line = faster(f"{count / GIGABYTE:g} GB {what} through SSH", ours, "sshd", theirs, 1)
        line.met, line.goal = p50(ours) < p50(theirs), "faster"
        line.note = f"{speeds[0]:.2f} against {speeds[1]:.2f} GB/s"
        yield line


# --- with the server alone ----------------------------------------------------------------------------------------------------


def life(world, size):
    """Create to first exec: `shed create` and then `shed exec NAME true`, against `docker run -d` and then `docker exec NAME true` with the
    limits, network and capabilities of that shed (read from its container) and new volumes as well; the sum of the two processes. The
    removal is not timed.

    Stop: `shed stop` of a shed with one idle session, as a whole process, against `docker stop` of a `sleep` container. The latter only
    waits for its time limit of 10 s, so five of them run at once after every five samples of shed."""
    world.create("model")
    words, rights = world.like("model")

    def ours():
        taken = process([worlds.SHED, "create", "fresh", "--image", worlds.IMAGE], world.env)
        taken += process([worlds.SHED, "exec", "fresh", "true"], world.env)
        world.delete("fresh")
        return taken

    rival = f"{world.name}-fresh"
    like = [word.format("fresh") for word in words] + rights

    def theirs():
        run = ["docker", "run", "-d", "--name", rival, *like, worlds.IMAGE, "sleep", "infinity"]
        taken = process(run, world.env) + process(["docker", "exec", rival, "true"], world.env)
        world.remove_rivals()
        return taken

    try:
        created, run = interleave(size.samples, ours, theirs)
        ratio = p50(created) / p50(run)
        goal = (ratio <= 1.1, "≤ 1.1×")
        yield Line("create → first exec", created, *goal, "docker run + docker exec", run, f"{ratio:.2f}×")

        stops, docker_stops = [], []
        world.shed("sessions", "new", "model", "default")
        # The session is restored with the shed.
        is_there = "until tmux has-session -t =default 2> /dev/null; do sleep 0.05; done"
        for _ in range(-(-size.samples // 5)):
            for _ in range(5):
                world.shed("exec", "model", "--", "sh", "-c", is_there)
                stops.append(process([worlds.SHED, "stop", "model"], world.env))
                world.shed("start", "model")
            docker_stops += sleepers(world, words + rights, 5)
        stop = Line("stop of an idle shed", stops, p50(stops) < 0.5, "< 0.5 s", "docker stop of sleep", docker_stops)
        stop.ratio = times_of(p50(docker_stops) / p50(stops))
        yield stop
    finally:
        world.remove_rivals()
        world.delete("model")


def sleepers(world, like, count):
    """Seconds of `docker stop` for so many `sleep` containers at once."""
    names = [f"{world.name}-sleep{number}" for number in range(count)]
    for name in names:
        words = [word.format(name) for word in like]
        world.docker("run", "-d", "--name", name, *words, worlds.IMAGE, "sleep", "infinity")
    actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    begins, taken = {}, []
    for name in names:
        begin = time.perf_counter()
        begins[os.posix_spawnp("docker", ["docker", "stop", name], world.env, file_actions=actions)] = begin
    with limit():
        while begins:
            pid, status = os.waitpid(-1, 0)
            if pid in begins:
                taken.append(time.perf_counter() - begins.pop(pid))
                if status:
                    raise Failed("docker stop failed")
    world.remove_rivals()
    return taken


def idle(size):
    """A server of its own that has just created 50 sheds with 4 sessions each. After 10 s of rest its memory (VmRSS) and its processor time
    (utime + stime of all threads, /proc/PID/stat) are read every 2 s for 60 s. The largest RSS and the time over all
    60 s count. For comparison: the memory of all shed-init processes of one shed."""
    with worlds.World() as world, world.fleet(size.sheds, 4) as names:
        time.sleep(10)
        pid = world.server.pid
        memory, parts, loads = [], [], []
        first = before = (time.perf_counter(), ticks(pid))
        for _ in range(size.seconds // 2):
            time.sleep(2)
            now = (time.perf_counter(), ticks(pid))
            loads.append(share(before, now))
            before = now
            memory.append(status(pid, "VmRSS"))
            parts.append(status(pid, "RssAnon"))
        whole = share(first, before)
        inits = []
        for name in names:
            head = int(world.docker("inspect", "-f", "{{.State.Pid}}", world.container(name)))
            family = [head, *children(head)]
            ours = [pid for pid in family if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("shed-init")]
            inits.append(sum(status(pid, "VmRSS") for pid in ours))
    what = f"{size.sheds} sheds × 4 sessions, idle: server"
    note = f"of it anonymous: {shown(p50(parts), 'MB')}"
    yield Line(f"{what} RSS", memory, max(memory) <= 40, "≤ 40 MB", unit="MB", note=note)
    note = f"{whole:.3f} % over {size.seconds} s"
    yield Line(f"{what} processor", loads, whole <= 0.5, "≤ 0.5 % of a core", unit="%", note=note)
    yield Line("shed-init RSS, all its processes of a shed", inits, unit="MB")


# Rows by group: all rows of a group except `own` use the same server and sheds.
STAGES = {
    "fleet": {"list": listing, "client": client},
    "pair": {"exec": execute, "ssh": connections, "attach": attach, "keys": keystrokes, "transfer": transfers},
    "alone": {"life": life},
    "own": {"idle": idle} | work.ROWS | many.ROWS,
}
