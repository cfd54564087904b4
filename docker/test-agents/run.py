#!/usr/bin/env python3
"""Runs the real agents through shed, with a stand-in for their models, and checks that each keeps its own conversation.

Each agent gets a first prompt. Then the shed is stopped and started, rebuilt, and killed together with the server. After each of
these every agent must come back in its conversation: a further prompt reaches the model with all earlier prompts, and the model has
got each prompt once. At the end a restart without --continue must begin an empty conversation. `make test-agents` builds what it
needs: the programs and the image shed-agents.

    python3 docker/test-agents/run.py                  all agents
    python3 docker/test-agents/run.py claude codex     only these
    SHED_BENCH_PROGRAMS=DIR python3 …                  the programs in DIR instead of target/release

Exit status: 0 all came back · 1 one did not · 2 wrong arguments · 130 cancelled
"""

import argparse
import json
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench"))

from measure import Failed  # noqa: E402
from world import World  # noqa: E402

AGENTS = ["opencode", "claude", "codex", "gemini"]
SHED = "agents"
IMAGE = "shed-agents"
PORT = 4010  # on the loopback of the shed
LOG = "/workspace/.model.jsonl"
MODEL = f"http://127.0.0.1:{PORT}"
ENV = {
    "ANTHROPIC_BASE_URL": MODEL,
    "ANTHROPIC_API_KEY": "sk-ant-stand-in-0000000000000000000000",
    "OPENAI_BASE_URL": f"{MODEL}/v1",
    "OPENAI_API_KEY": "sk-stand-in",
    "GOOGLE_GEMINI_BASE_URL": MODEL,
    "GEMINI_API_KEY": "stand-in",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
}
START = 600  # seconds until an agent must have sent a prompt; OpenCode takes half a minute alone, and speaks Anthropic's API here
QUIET = 4  # seconds without a change of the screen: the agent waits for input
DRAWN = 1500  # bytes that an agent prints at its start, at the least


def say(text):
    print(f"agents: {text}", file=sys.stderr, flush=True)


class Test:
    def __init__(self, world, agents):
        self.world = world
        # Two Codex in one directory: the one must not get the other's conversation.
        self.agents = {name: name.removesuffix("-2") for name in agents}
        if "codex" in self.agents:
            self.agents["codex-2"] = "codex"
        self.prompts = {name: [] for name in self.agents}
        self.before = {}

    def run(self):
        self.begin()
        for event in (self.stop_and_start, self.rebuild, self.kill):
            say(event.__doc__)
            self.before = {name: self.printed(name) for name in self.agents}
            event()
            for name in self.agents:
                self.submit(name, f"{event.__name__} {name}\nand its second line")
        for name in self.agents:
            self.restart(name)

    def begin(self):
        env = [word for name, value in ENV.items() for word in ("--env", f"{name}={value}")]
        self.world.shed("create", SHED, "--image", IMAGE, *env)
        self.world.shed("cp", str(HERE / "model.py"), f"{SHED}:/workspace/.model.py")
        model = ["python3", "/workspace/.model.py", str(PORT), LOG]
        self.world.shed("exec", SHED, "--", "touch", LOG)
        self.world.shed("run", SHED, "-d", "-n", "model", "--restart", "--", *model)
        for name, agent in self.agents.items():
            say(f"starting {name}")
            # A hyphen and an exclamation mark are text, not an option and not a command of the shell.
            prompt = f"- first {name}" if agent != "codex" else f"!first {name}"
            self.world.shed("run", SHED, "-d", "-n", name, "-a", agent, "-p", prompt)
            self.arrives(name, prompt)

    def stop_and_start(self):
        """the shed is stopped and started"""
        self.world.shed("stop", SHED)
        self.world.shed("start", SHED)

    def rebuild(self):
        """the shed is rebuilt"""
        self.world.shed("rebuild", SHED)

    def kill(self):
        """the server and the shed are killed"""
        self.world.server.kill()
        self.world.server.wait()
        self.world.docker("kill", self.world.container(SHED))
        self.world.start_server()

    def submit(self, name, prompt):
        """Submits a prompt to an agent that came back."""
        self.settle(name)
        self.world.shed("sessions", "send", SHED, name, "--enter", "--", prompt)
        self.arrives(name, prompt)

    def arrives(self, name, prompt):
        """Waits until the model has got a prompt, and checks its conversation: all earlier prompts, each once."""
        self.prompts[name].append(prompt)
        self.until(f"{name} sends {prompt!r}", name, lambda: self.turns(prompt))
        self.check(name)

    def check(self, name):
        last = self.turns(self.prompts[name][-1])[-1]
        said = [text for text in last["said"] if any(same(text, prompt) for prompt in self.all_prompts())]
        if not (len(said) == len(self.prompts[name]) and all(map(same, said, self.prompts[name]))):
            raise Failed(f"{name} is in another conversation: {said}, not {self.prompts[name]}")
        for prompt in self.all_prompts():
            n_sent = len(self.turns(prompt))
            if n_sent != 1:
                raise Failed(f"{prompt!r} was sent {n_sent} times")

    def restart(self, name):
        """Without --continue the next prompt is the first of a new conversation, and the first prompt is not sent again."""
        say(f"{name} is restarted")
        self.before[name] = self.printed(name)
        self.world.shed("sessions", "restart", SHED, name)
        self.prompts[name].clear()
        self.submit(name, f"anew {name}")

    def all_prompts(self):
        return [prompt for prompts in self.prompts.values() for prompt in prompts]

    def turns(self, prompt):
        lines = self.world.shed("exec", SHED, "--", "cat", LOG).splitlines()
        return [turn for turn in map(json.loads, lines) if same(turn["prompt"], prompt)]

    def settle(self, name):
        """Waits until an agent that was started again has drawn its screen. What is typed at it before is lost."""
        drawn = seen = None

        def has_drawn():
            nonlocal drawn, seen
            now = time.monotonic()
            if self.printed(name) < self.before[name] + DRAWN:
                return False
            screen = self.screen(name)
            if not screen.strip():  # cleared, and not drawn yet
                return False
            drawn = drawn or now
            if seen is None or screen != seen[0]:
                seen = screen, now
            # Codex draws for ever while nobody types.
            return now - seen[1] > QUIET or now - drawn > 5 * QUIET

        self.until(f"{name} is back", name, has_drawn)

    def printed(self, name):
        """How many bytes the agent has printed since its first start."""
        return json.loads(self.world.shed("--json", "sessions", "show", SHED, name))["workers"][0]["output_end"]

    def screen(self, name):
        return self.world.shed("sessions", "capture", SHED, name)

    def until(self, what, name, happens):
        end = time.monotonic() + START
        while not happens():
            if time.monotonic() > end:
                workers = self.world.shed("--json", "sessions", "show", SHED, name)
                raise Failed(f"timed out: {what}\n{workers}\n{self.screen(name)}")
            time.sleep(0.5)


def same(text, prompt):
    """Agents trim prompts."""
    return text.split() == prompt.split()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("agents", nargs="*", metavar="AGENT", choices=[*AGENTS, []], help=f"{', '.join(AGENTS)}; all by default")
    agents = parser.parse_args().agents or AGENTS
    # Both signals remove everything that was created; a shell starts background processes with Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with World() as world:
        try:
            Test(world, agents).run()
        except Failed as failed:
            say(failed)
            return 1
        except KeyboardInterrupt:
            say("cancelled")
            return 130
    say(f"{', '.join(agents)} came back with their conversations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
