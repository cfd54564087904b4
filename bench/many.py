"""The rows about one shed with a thousand sessions, and about many sessions that are created at the same time."""

import contextlib
import json
import secrets
import sqlite3
import threading
import time

from measure import Failed, Kept, Line, interleave, limit, p50, process, times_of
from work import SESSIONS, SHED, make, shed, without_shed


def many_sessions(size):
    """`GET /api/sessions` with 1,000 managed sessions in one running shed: one GET over an open connection to the unix socket, from the first
    byte sent to the last byte read. Rival, for comparison: one `docker exec … tmux list-sessions` in the same container, a whole process.

    Creating so many sessions through the API would take minutes and start a runner for each, which a list never contacts. So the row creates
    one session through the API, whose worker has ended, and 1,000 real sessions in the shed's tmux (each runs `cat`), with the marks by
    which shed recognizes its own. When they are listed, it stops the server and adds a copy of the first session's row and of its worker's
    row to the database for each. After its restart the server reads the rows, shed-init sends tmux's whole state, and the list joins the
    two as it does for any other session. Before the measurement every session must be listed with its tmux id and its worker's window; each timed
    answer is checked for the number of sessions."""
    with shed() as (world, kept):
        make(kept, "model", ["true"])
        with limit():
            while json.loads(kept.get(f"{SESSIONS}/model")[1])["workers"][0]["status"] != "exited":
                time.sleep(0.05)
        made = [(f"many{number:04}", secrets.token_hex(16), secrets.token_hex(16)) for number in range(size.listed)]
        tmux = "".join(
            f"new-session -d -s {name} 'exec cat'\n"
            f"set-option -t ={name}: @shed_session {session}\n"
            f"set-option -w -t ={name}: @shed_worker {worker}\n"
            for name, session, worker in made
        )
        # The last change: a list that has it has all of them. Every change of tmux is followed by a new listing, which takes a while.
        tmux += f"rename-window -t ={made[0][0]}: last\n"
        world.docker("exec", "-i", "-u", "dev", world.container(SHED), "tmux", "source-file", "-", input=tmux)
        wait(kept, size.listed + 1, lambda sessions: any(window["name"] == "last" for one in sessions for window in one["windows"]))
        world.stop_server()
        with contextlib.closing(sqlite3.connect(world.data / "shed.db")) as database, database:
            for name, session, worker in made:
                model = copy(database, "sessions", "name = 'model'", id=session, name=name)
                copy(database, "workers", f"session = '{model['id']}'", id=worker, session=session)
        world.start_server()
        kept = Kept(world.socket)
        wait(kept, size.listed + 1, lambda sessions: all(map(is_joined, sessions)))
        n_bytes = len(kept.get("/api/sessions")[1])
        gets = []

        def turn():
            for _ in range(10):
                taken, body = kept.get("/api/sessions")
                gets.append(taken)
                n_listed = body.count(b'"shed_name"')
                if n_listed != size.listed + 1:
                    raise Failed(f"GET /api/sessions lists {n_listed} sessions, not {size.listed + 1}")

        def rival():
            return process(without_shed(world, "tmux", "list-sessions"), world.env)

        _, rivals = interleave(size.samples, turn, rival)
        del gets[:10]  # the uncounted turn
    what = f"GET /api/sessions, {size.listed:,} sessions in one shed"
    ratio = times_of(p50(rivals) / p50(gets))
    note = f"an answer of {n_bytes / 1e6:.2f} MB"
    yield Line(what, gets, p50(gets) <= 0.003, "p50 ≤ 3 ms", "docker exec … tmux list-sessions", rivals, ratio, note=note)


def copy(database, table, where, **changed):
    """Inserts a copy of a row with some columns changed; returns the row that was copied."""
    cursor = database.execute(f"SELECT * FROM {table} WHERE {where}")
    columns = [column[0] for column in cursor.description]
    row = dict(zip(columns, cursor.fetchone()))
    values = list((row | changed).values())
    database.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(values))})", values)
    return row


def wait(kept, count, is_so):
    """Waits until the list has so many sessions, no warning, and `is_so` holds for its sessions."""
    with limit(300):
        while True:
            found = json.loads(kept.get("/api/sessions")[1])
            if len(found["sessions"]) == count and not found["warnings"] and is_so(found["sessions"]):
                return
            time.sleep(0.1)


def is_joined(session):
    """Whether the list shows a session's row joined with tmux's data about it."""
    return session.get("status") == "running" and "tmux_id" in session and session["workers"][0].get("window")


AT_ONCE = 30
ROUNDS = 3


def together(size):
    """Thirty `POST …/sessions` with a worktree each, in one repository of 2,000 files, sent at the same time on connections of their own:
    from the first byte sent to the last answer read, when all of them run. Rival: the same thirty, one after the other on one connection. In
    turns, three times. A session that is not created fails the row."""
    with shed(repository=True) as (world, kept):
        at_once, in_turn = [], []
        for number in range(ROUNDS):
            lines, failed = [Kept(world.socket) for _ in range(AT_ONCE)], []

            def one(line, name):
                try:
                    make(line, name, ["cat"], type="worktree")
                except Failed as error:
                    failed.append(error)

            threads = [threading.Thread(target=one, args=(line, f"once{number}-{n}")) for n, line in enumerate(lines)]
            begin = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            at_once.append(time.perf_counter() - begin)
            if failed:
                raise Failed(f"{len(failed)} of {AT_ONCE} sessions were not created: {failed[0]}")
            in_turn.append(sum(make(kept, f"turn{number}-{n}", ["cat"], type="worktree")[0] for n in range(AT_ONCE)))
    what = f"create {AT_ONCE} worktree sessions at once"
    ratio = times_of(p50(in_turn) / p50(at_once))
    yield Line(what, at_once, p50(at_once) <= 2 * p50(in_turn), "≤ 2 × one after the other", "one after the other", in_turn, ratio)


ROWS = {"many-sessions": many_sessions, "together": together}
