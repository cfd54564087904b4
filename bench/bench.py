#!/usr/bin/env python3
"""Benchmarks of shed against docker and sshd, side by side in one run. `make bench` builds what they need and runs them all.

Each row takes its samples in turns (shed, rival, shed, rival, …) on one machine in one run; the figures are medians and p99.
The docstring of each row's function in rows.py, work.py and many.py says how it is measured. The table goes to stdout and
target/bench/results.md, all samples to target/bench/results.json.

    python3 bench/bench.py list many-sessions       only these rows
    python3 bench/bench.py fleet                    only the rows of a group: fleet, pair, alone or own
    python3 bench/bench.py list --before DIR        the programs in DIR, then the current build, and the ratio of their medians
    SHED_BENCH_PROGRAMS=DIR python3 bench/bench.py  the programs in DIR instead of target/release

Exit status: 0 all rows were measured, goals met or not · 1 a row could not be measured · 130 cancelled
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
import traceback

import rows
import world as worlds
from measure import Failed, p50, shown
from world import ROOT, World, say

HEADER = ["what", "shed p50", "p99", "against", "p50", "p99", "ratio", "goal", "samples", "verdict"]
BEFORE = "before"


def main():
    groups = ", ".join(f"{group} ({' '.join(of)})" for group, of in rows.STAGES.items())
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog=f"Groups and their rows: {groups}.", allow_abbrev=False
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="a row or a group of rows; all when none is given")
    parser.add_argument("--before", type=pathlib.Path, metavar="DIR", help="first measure the shed and shed-server in this directory")
    parser.add_argument("--quick", action="store_true", help="few samples: to work on the benchmarks, not a measurement")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target" / "bench", help="directory of the results")
    args = parser.parse_args()
    try:
        chosen = select(args.rows)
    except KeyError as unknown:
        parser.error(f"invalid row {unknown}; expected one of {groups}")
    builds = {BEFORE: args.before.absolute()} if args.before else {}
    builds[""] = worlds.PROGRAMS
    for programs in builds.values():
        for program in (programs / "shed", programs / "shed-server"):
            if not os.access(program, os.X_OK):
                sys.exit(f"bench: no program {program}; to build this checkout: make build")
    # Both signals remove everything that was created; a shell starts background processes with Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    begun = machine(builds)
    try:
        lines = measure(chosen, builds, rows.QUICK if args.quick else rows.FULL)
    except KeyboardInterrupt:
        say("cancelled")
        return 130
    begun["load_after"] = os.getloadavg()
    results(lines, begun, args)
    return 1 if any(verdict(line, args.quick).startswith("FAILED") for line in lines) else 0


def select(words):
    """The names of the rows that these rows and groups stand for, in the order they are measured."""
    known = [name for of in rows.STAGES.values() for name in of]
    wanted = set()
    for word in words or rows.STAGES:
        if word in rows.STAGES:
            wanted.update(rows.STAGES[word])
        elif word in known:
            wanted.add(word)
        else:
            raise KeyError(word)
    return [name for name in known if name in wanted]


def measure(chosen, builds, size):
    """The lines of all rows; a row that failed is a line too. Within a group, one build is measured after the other."""
    lines = []
    for stage in rows.STAGES:
        names = [name for name in rows.STAGES[stage] if name in chosen]
        for build, programs in builds.items():
            if names:
                worlds.use(programs)
                lines += measure_stage(stage, names, build, size)
    return lines


def measure_stage(stage, names, build, size):
    """The lines of these rows of one group with one build."""
    lines = []
    label = f" ({build})" if build else ""

    def run(name, *where):
        say(f"row {name}{label}")
        with failures(name + label, lines):
            for line in rows_of(name)(*where, size):
                line.row, line.build = name, build
                lines.append(line)
                say(" | ".join(line.cells(verdict(line, False))))

    # A failure here is one of all rows that were still to come.
    with failures(f"{' '.join(names)}{label}: set-up or removal", lines):
        if stage == "own":
            for name in names:
                run(name)
        else:
            with World() as world, contextlib.ExitStack() as stack:
                if stage == "fleet":
                    where = (world, stack.enter_context(world.fleet(20, 3)))
                elif stage == "pair":
                    where = (stack.enter_context(world.pair()),)
                else:
                    where = (world,)
                for name in names:
                    run(name, *where)
    return lines or [FailedRow(" ".join(names) + label, "no samples")]


def rows_of(name):
    return next(stage[name] for stage in rows.STAGES.values() if name in stage)


@dataclasses.dataclass
class FailedRow:
    """A row that could not be measured, and why."""

    row: str
    why: str
    build: str = ""

    def cells(self, text):
        return [f"row {self.row}", *["–"] * 8, text]


@contextlib.contextmanager
def failures(name, lines):
    """Turns a failure into a line, so that the other rows are still measured."""
    try:
        yield
    except Exception as error:  # of any kind: it must not pass for a measurement
        if not isinstance(error, Failed):
            traceback.print_exc()
        why = f"{error or type(error).__name__}"
        say(f"row {name} FAILED: {why}")
        lines.append(FailedRow(name, " ".join(why.split())[:600]))


def verdict(line, quick):
    if isinstance(line, FailedRow):
        return f"FAILED to measure: {line.why}"
    text = {True: "met", False: "not met", None: "for comparison"}[line.met]
    return f"{text} (quick, not a measurement)" if quick else text


def machine(builds):
    """What was measured, on which machine, with which tools."""

    def word(*argv):
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        except OSError:
            return ""
        return (done.stdout or done.stderr).strip()

    model = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")]
    return {
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        # Other programs need not be of this checkout's commit.
        "commit": word("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") if worlds.PROGRAMS.is_relative_to(ROOT) else "",
        "shed": word(worlds.SHED, "--version"),
        "programs": {build or "current": str(programs) for build, programs in builds.items()},
        "kernel": platform.release(),
        "cpu": f"{os.cpu_count()} × {model[0] if model else platform.machine()}",
        "docker": word("docker", "version", "--format", "client {{.Client.Version}}, engine {{.Server.Version}}"),
        "ssh": word("ssh", "-V"),
        "load_before": os.getloadavg(),
    }


def results(lines, begun, args):
    """Prints and writes the table, and writes all samples."""
    table = [HEADER, ["---"] * len(HEADER), *[line.cells(verdict(line, args.quick)) for line in lines]]
    rows_text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in table)
    loads = [" ".join(f"{load:.2f}" for load in begun[name]) for name in ("load_before", "load_after")]
    about = (
        f"{begun['shed']} ({begun['commit'] or worlds.PROGRAMS}), {begun['begun']}. {begun['cpu']}, Linux {begun['kernel']}, Docker {begun['docker']}, "
        f"{begun['ssh']}. Load before: {loads[0]}; after: {loads[1]}. Times are medians and p99 (nearest rank) in one run, in turns."
    )
    text = f"{rows_text}\n\n{about}\n" + "".join(f"{line}\n" for line in compared(lines))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.md").write_text(text, encoding="utf-8")
    found = [dataclasses.asdict(line) | {"verdict": verdict(line, args.quick)} for line in lines]
    raw = {"machine": begun, "quick": args.quick, "lines": found}
    (args.out / "results.json").write_text(json.dumps(raw, ensure_ascii=False, indent=1), encoding="utf-8")
    print(text)


def compared(lines):
    """A line of text for each row that was measured with both builds: the ratio of the medians."""
    measured = [line for line in lines if not isinstance(line, FailedRow)]
    before = {(line.row, line.what): line for line in measured if line.build == BEFORE}
    for line in measured:
        earlier = before.get((line.row, line.what))
        if earlier and line.build != BEFORE:
            old, new = p50(earlier.ours), p50(line.ours)
            ratio = f"{new / old:.2f}× of before" if old else "–"
            yield f"{line.what}: {shown(old, line.unit)} before, {shown(new, line.unit)} now, {ratio}"


if __name__ == "__main__":
    sys.exit(main())
