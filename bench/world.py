"""What is measured on: a server of its own, its sheds, the rivals' containers, and the end of all of them."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from measure import Failed, output

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = pathlib.Path(os.environ.get("SHED_BENCH_PROGRAMS", ROOT / "target" / "release"))
SHED = str(PROGRAMS / "shed")
SERVER = str(PROGRAMS / "shed-server")
IMAGE = "shed-base"
# Shed and rival have one image where SSH is measured.
SSHD_IMAGE = "shed-test-sshd"
LABEL = "shed.bench"


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class World:
    """A server with its own data directory, ports and names. Leaving it removes everything it and the rivals made."""

    def __init__(self):
        self.name = f"shedbench-{secrets.token_hex(3)}"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="shed-bench-"))
        self.socket = str(self.dir / "sock")
        # One environment for both sides, without anything of the person who measures.
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.dir),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "SHED_SERVER": f"unix:{self.socket}",
        }
        self.env |= {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
        self.server = None
        self.ready = {}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        config = self.dir / "server.toml"
        config.write_text(f'[engine]\nprefix = "{self.name}"\n[log]\nlevel = "warn"\n')
        ready, data = self.dir / "ready", self.dir / "data"
        argv = [SERVER, "serve", "--config", config, "--data-dir", data, "--socket", self.socket]
        argv += ["--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--ready-file", ready]
        with open(self.dir / "log", "wb") as log:
            # Its own session: Ctrl-C ends the benchmarks, and those end the server when its sheds are gone.
            self.server = subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 30
        while not ready.exists():
            if self.server.poll() is not None or time.monotonic() > end:
                raise Failed(f"shed-server did not start: {(self.dir / 'log').read_text()[-1000:]}")
            time.sleep(0.02)
        self.ready = json.loads(ready.read_text())
        key = self.dir / "key"
        output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], self.env)
        output([SERVER, "key", "add", "bench", f"{key}.pub", "--scope", "drive", "--data-dir", str(data)], self.env)
        self.known(*self.ssh_address, output(["ssh-keygen", "-y", "-f", str(data / "host_key")], self.env))

    def __exit__(self, *_):
        # Nothing may stop the removal half-way: a second Ctrl-C waits for its end.
        signals = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": self.env}
        try:
            self.remove_rivals()
            if self.ready:
                with contextlib.suppress(Failed, subprocess.SubprocessError):
                    self.delete(*[shed["name"] for shed in json.loads(self.shed("--json", "list"))["sheds"]])
            if self.server:
                self.server.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.server.wait(20)
                self.server.kill()
                self.server.wait()
            if self.ready:  # what the server left: its network, and everything if it had died
                mine = f"label=shed.server={self.ready['server_id']}"
                self._remove(["ps", "-aq"], mine, ["rm", "-f", "-v"], quiet)
                self._remove(["volume", "ls", "-q"], mine, ["volume", "rm", "-f"], quiet)
                self._remove(["network", "ls", "-q"], mine, ["network", "rm"], quiet)
            shutil.rmtree(self.dir, ignore_errors=True)
        finally:
            for number, handler in signals.items():
                signal.signal(number, handler)

    def remove_rivals(self):
        """The containers and volumes of rivals that this run made."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": self.env}
        self._remove(["ps", "-aq"], f"label={LABEL}={self.name}", ["rm", "-f", "-v"], quiet)
        self._remove(["volume", "ls", "-q"], f"label={LABEL}={self.name}", ["volume", "rm", "-f"], quiet)

    def _remove(self, listing, which, removal, quiet):
        with contextlib.suppress(Failed):
            found = output(["docker", *listing, "--filter", which], self.env).split()
            if found:
                subprocess.run(["docker", *removal, *found], check=False, **quiet)

    # --- sheds ------------------------------------------------------------------------------------------------------------

    def shed(self, *words):
        """What a `shed` command prints. Not timed."""
        return output([SHED, *words], self.env)

    def create(self, name, image=IMAGE):
        self.shed("create", name, "--image", image)

    def delete(self, *names):
        if names:
            self.shed("delete", "-f", *names)

    def container(self, name):
        """The name of a shed's container."""
        return f"{self.name}-{name}"

    def docker(self, *words, **options):
        """What a `docker` command prints. Not timed."""
        return output(["docker", *words], self.env, **options).strip()

    @contextlib.contextmanager
    def fleet(self, count, sessions):
        """So many sheds with so many sessions each, each with its login shell; their names."""
        names = [f"fleet{number:02}" for number in range(count)]
        say(f"making {count} sheds with {sessions} sessions each")
        try:
            for name in names:
                self.create(name)
                for number in range(sessions):
                    self.shed("sessions", "new", name, f"s{number}")
            yield names
        finally:
            there = {shed["name"] for shed in json.loads(self.shed("--json", "list"))["sheds"]}
            self.delete(*[name for name in names if name in there])

    # --- SSH --------------------------------------------------------------------------------------------------------------

    @property
    def ssh_address(self):
        host, _, port = self.ready["ssh"].rpartition(":")
        return host, int(port)

    def known(self, host, port, key):
        """Notes a host key, so that every connection checks it."""
        host = host if port == 22 else f"[{host}]:{port}"
        with open(self.dir / "known_hosts", "a", encoding="ascii") as file:
            file.write(f"{host} {' '.join(key.split()[:2])}\n")

    def ssh(self, where, *words, options=()):
        """The words of an ssh command; the same options for every side."""
        user, host, port = where
        own = ["-F", "none", "-i", str(self.dir / "key"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        own += ["-o", f"UserKnownHostsFile={self.dir / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes"]
        return ["ssh", *own, *options, "-p", str(port), f"{user}@{host}", *words]

    # --- rivals -----------------------------------------------------------------------------------------------------------

    def like(self, name):
        """Words for `docker run` that give a container the limits, volumes (of its own), network and rights of a shed.

        Read off the shed's container; what has only to do with shed-init is left out. With `{}` for the volumes' name.
        """
        found = json.loads(self.docker("inspect", self.container(name)))[0]
        host = found["HostConfig"]
        words = ["--label", f"{LABEL}={self.name}", "--network", host["NetworkMode"]]
        words += ["--cpus", str(host["NanoCpus"] / 1e9), "--memory", str(host["Memory"])]
        words += ["--memory-swap", str(host["MemorySwap"]), "--pids-limit", str(host["PidsLimit"])]
        words += [f"--log-opt={key}={value}" for key, value in host["LogConfig"]["Config"].items()]
        for mount in host["Mounts"]:
            if mount["Type"] == "volume":
                target = mount["Target"]
                volume = f"{self.name}-{{}}-{target.strip('/').replace('/', '-')}"
                words += ["--mount", f"type=volume,src={volume},dst={target},volume-label={LABEL}={self.name}"]
        rights = [f"--cap-drop={right}" for right in host["CapDrop"] or []]
        rights += [f"--cap-add={right}" for right in host["CapAdd"] or []]
        rights += [f"--security-opt={option}" for option in host["SecurityOpt"] or []]
        return words, rights

    @contextlib.contextmanager
    def pair(self):
        """A shed and a container with sshd, both of one image, with one kind of volumes, limits and network.

        sshd cannot work with a shed's few rights (it wants SYS_CHROOT), so its container has Docker's usual ones.
        """
        say("making a shed, and a container with sshd")
        try:
            self.create("one", SSHD_IMAGE)
            words, _rights = self.like("one")
            rival = f"{self.name}-rival"
            words = [word.format("rival") for word in words]
            self.docker("run", "-d", "--name", rival, "--env", "SHED_NAME=one", *words, SSHD_IMAGE)
            into = "umask 077; cat > /home/dev/.ssh/authorized_keys"
            key = (self.dir / "key.pub").read_text()
            self.docker("exec", "-i", "-u", "dev", rival, "sh", "-c", into, input=key)
            address = self.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", rival)
            self.known(address, 22, self.docker("exec", rival, "cat", "/etc/ssh/ssh_host_ed25519_key.pub"))
            yield Pair(self, ("one", *self.ssh_address), ("dev", address, 22), rival)
        finally:
            self.remove_rivals()
            if '"one"' in self.shed("--json", "list"):
                self.delete("one")


class Pair:
    """A shed `one` and its rival with sshd, and where ssh finds them."""

    def __init__(self, world, shed, sshd, rival):
        self.world, self.shed, self.sshd, self.rival = world, shed, sshd, rival
        self.container = world.container("one")

    def session(self, name, command):
        """The same session on both sides."""
        world = self.world
        world.shed("sessions", "new", "one", name, "--", "sh", "-c", command)
        new = ["tmux", "new-session", "-d", "-s", name, "sh", "-c", command]
        world.docker("exec", "-u", "dev", "-w", "/workspace", self.rival, *new)

    def end_session(self, name):
        world = self.world
        world.shed("sessions", "kill", "one", name)
        with contextlib.suppress(Failed):
            world.docker("exec", "-u", "dev", self.rival, "tmux", "kill-session", "-t", f"={name}")
