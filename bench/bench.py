#!/usr/bin/env python3
"""The benchmarks of shed against docker and sshd, side by side in one run. `make bench` builds what they need and calls them.

Every row takes its samples in turns (shed, rival, shed, rival, …) on one machine in one run; the figures are medians and p99.
How each row is measured stands at its function in rows.py. The table goes to stdout and target/bench/results.md, all samples
to target/bench/results.json.

Exit status: 0 everything was measured, met or not · 1 a row could not be measured · 130 called off
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
from measure import Failed
from world import ROOT, SERVER, SHED, World, say

HEADER = ["what", "shed p50", "p99", "against", "p50", "p99", "ratio", "goal", "samples", "verdict"]


def main():
    known = [name for stage in rows.STAGES.values() for name in stage]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", choices=known, metavar="ROW", help=f"one of {', '.join(known)}; may be repeated")
    parser.add_argument("--quick", action="store_true", help="few samples: for work on the benchmarks, not a measurement")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target" / "bench", help="directory of the results")
    args = parser.parse_args()
    # Both remove what was made; a shell starts background processes with Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    for program in (SHED, SERVER):
        if not os.access(program, os.X_OK):
            sys.exit(f"bench: {program} is not there; make build")
    begun = machine()
    try:
        lines = measure(args.only or known, rows.QUICK if args.quick else rows.FULL)
    except KeyboardInterrupt:
        say("called off")
        return 130
    begun["load_after"] = os.getloadavg()
    results(lines, begun, args)
    return 1 if any(verdict(line, args.quick).startswith("FAILED") for line in lines) else 0


def measure(chosen, size):
    """The lines of all rows; a failed row is a line too."""
    lines = []

    def run(name, *where):
        say(f"row {name}")
        with failures(name, lines):
            for line in rows_of(name)(*where, size):
                line.row = name
                lines.append(line)
                say(" | ".join(line.cells(verdict(line, False))))

    for stage, of in rows.STAGES.items():
        names = [name for name in of if name in chosen]
        if not names:
            continue
        before = len(lines)
        # What fails here has failed for all rows that were to come.
        with failures(f"{' '.join(names)} (before or after it)", lines):
            if stage == "own":
                for name in names:
                    run(name)
                continue
            with World() as world:
                if stage == "fleet":
                    with world.fleet(20, 3) as sheds:
                        for name in names:
                            run(name, world, sheds)
                elif stage == "pair":
                    with world.pair() as pair:
                        for name in names:
                            run(name, pair)
                else:
                    for name in names:
                        run(name, world)
        if len(lines) == before:
            lines.append(FailedRow(" ".join(names), "no samples"))
    return lines


def rows_of(name):
    return next(stage[name] for stage in rows.STAGES.values() if name in stage)


@dataclasses.dataclass
class FailedRow:
    """A row that could not be measured, and why."""

    row: str
    why: str

    def cells(self, text):
        return [f"row {self.row}", *["–"] * 8, text]


@contextlib.contextmanager
def failures(name, lines):
    """Notes what fails as a line, so that the other rows are measured nevertheless."""
    try:
        yield
    except Exception as error:  # whatever it is, it must not pass for a measurement
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


def machine():
    """What was measured, on what, with what."""

    def word(*argv):
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        except OSError:
            return ""
        return (done.stdout or done.stderr).strip()

    model = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")]
    return {
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": word("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "shed": word(SHED, "--version"),
        "kernel": platform.release(),
        "cpu": f"{os.cpu_count()} × {model[0] if model else platform.machine()}",
        "docker": word("docker", "version", "--format", "client {{.Client.Version}}, engine {{.Server.Version}}"),
        "ssh": word("ssh", "-V"),
        "load_before": os.getloadavg(),
    }


def results(lines, begun, args):
    """The table for people, the samples for everybody else."""
    table = [HEADER, ["---"] * len(HEADER), *[line.cells(verdict(line, args.quick)) for line in lines]]
    rows_text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in table)
    loads = [" ".join(f"{load:.2f}" for load in begun[name]) for name in ("load_before", "load_after")]
    about = (
        f"{begun['shed']} ({begun['commit']}), {begun['begun']}. {begun['cpu']}, Linux {begun['kernel']}, Docker {begun['docker']}, "
        f"{begun['ssh']}. Load before: {loads[0]}; after: {loads[1]}. Times are medians and p99 (nearest rank) in one run, in turns."
    )
    text = f"{rows_text}\n\n{about}\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.md").write_text(text, encoding="utf-8")
    found = [dataclasses.asdict(line) | {"verdict": verdict(line, args.quick)} for line in lines]
    raw = {"machine": begun, "quick": args.quick, "lines": found}
    (args.out / "results.json").write_text(json.dumps(raw, ensure_ascii=False, indent=1), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
