"""The system under test: a server with its own data directory, its sheds, the containers of the rivals, and their removal."""

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
# Directory of `shed` and `shed-server`. Set it to measure another build; see also `use` and bench.py's --before.
PROGRAMS = pathlib.Path(os.environ.get("SHED_BENCH_PROGRAMS", ROOT / "target" / "release")).absolute()
SHED = SERVER = ""
IMAGE = "shed-base"
# Shed and rival run the same image where SSH is measured.
SSHD_IMAGE = "shed-test-sshd"
LABEL = "shed.bench"


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def use(programs):
    """Measure the programs in this directory from now on. Refer to `world.SHED` and `world.SERVER`; never import the names."""
    global SHED, SERVER
    SHED, SERVER = str(programs / "shed"), str(programs / "shed-server")


use(PROGRAMS)


class World:
    """A server with its own data directory, ports and names. Leaving it removes everything it and the rivals created."""

    def __init__(self):
        self.name = f"shedbench-{secrets.token_hex(3)}"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="shed-bench-"))
        self.socket = str(self.dir / "sock")
        # One environment for both sides, without the settings of the user who runs the benchmarks.
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

    @property
    def data(self):
        """The server's data directory."""
        return self.dir / "data"

    def _start(self):
        (self.dir / "server.toml").write_text(f'[engine]\nprefix = "{self.name}"\n[log]\nlevel = "warn"\n')
        self.start_server()
        key = self.dir / "key"
        output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], self.env)
        output([SERVER, "key", "add", "bench", f"{key}.pub", "--scope", "drive", "--data-dir", str(self.data)], self.env)
        self.known(*self.ssh_address, output(["ssh-keygen", "-y", "-f", str(self.data / "host_key")], self.env))

    def start_server(self):
        """Starts the server and waits until it serves."""
        ready = self.dir / "ready"
        ready.unlink(missing_ok=True)
        argv = [SERVER, "serve", "--config", self.dir / "server.toml", "--data-dir", self.data, "--socket", self.socket]
        argv += ["--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--ready-file", ready]
        with open(self.dir / "log", "ab") as log:
            # A session of its own: Ctrl-C ends the benchmarks, which end the server after its sheds are removed.
            self.server = subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 30
        while not ready.exists():
            if self.server.poll() is not None or time.monotonic() > end:
                raise Failed(f"shed-server did not start: {(self.dir / 'log').read_text()[-1000:]}")
            time.sleep(0.02)
        self.ready = json.loads(ready.read_text())

    def stop_server(self):
        """Ends the server as an operator would (SIGTERM). Its sheds and their sessions go on."""
        self.server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.server.wait(20)
        self.server.kill()
        self.server.wait()

    def __exit__(self, *_):
        # The removal must not be interrupted: a second Ctrl-C has no effect until it is done.
        signals = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": self.env}
        try:
            self.remove_rivals()
            if self.ready:
                with contextlib.suppress(Failed, subprocess.SubprocessError):
                    self.delete(*[shed["name"] for shed in json.loads(self.shed("--json", "list"))["sheds"]])
            if self.server:
                self.stop_server()
            if self.ready:  # what the server left behind: its network, or everything if it crashed
                mine = f"label=shed.server={self.ready['server_id']}"
                self._remove(["ps", "-aq"], mine, ["rm", "-f", "-v"], quiet)
                self._remove(["volume", "ls", "-q"], mine, ["volume", "rm", "-f"], quiet)
                networks = ["network", "ls", "--format", "{{.Name}}"]
                with contextlib.suppress(Failed, FileNotFoundError):
                    # Rules of the networks, which a server leaves in place when it ends.
                    for name in output(["docker", *networks, "--filter", mine], self.env).split():
                        subprocess.run(["nft", "delete", "table", "inet", name], check=False, **quiet)
                self._remove(networks, mine, ["network", "rm"], quiet)
            shutil.rmtree(self.dir, ignore_errors=True)
        finally:
            for number, handler in signals.items():
                signal.signal(number, handler)

    def remove_rivals(self):
        """Removes the rivals' containers and volumes of this run."""
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
        """The output of a `shed` command. Not timed."""
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
        """The output of a `docker` command. Not timed."""
        return output(["docker", *words], self.env, **options).strip()

    @contextlib.contextmanager
    def fleet(self, count, sessions):
        """Creates `count` sheds with `sessions` sessions each, one login shell per session, and yields the sheds' names."""
        names = [f"fleet{number:02}" for number in range(count)]
        say(f"creating {count} sheds with {sessions} sessions each")
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
        """Adds a host key to known_hosts, so that every connection verifies it."""
        host = host if port == 22 else f"[{host}]:{port}"
        with open(self.dir / "known_hosts", "a", encoding="ascii") as file:
            file.write(f"{host} {' '.join(key.split()[:2])}\n")

    def ssh(self, where, *words, options=()):
        """The argv of an ssh command; the same options for both sides."""
        user, host, port = where
        own = ["-F", "none", "-i", str(self.dir / "key"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        own += ["-o", f"UserKnownHostsFile={self.dir / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes"]
        return ["ssh", *own, *options, "-p", str(port), f"{user}@{host}", *words]

    # --- rivals -----------------------------------------------------------------------------------------------------------

    def like(self, name):
        """Arguments for `docker run` that give a container the limits, network, capabilities and kind of volumes of a shed.

        They are read from the shed's container, without what only shed-init needs. `{}` stands in the names of volumes.
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
        """A shed and a container with sshd, with the same image, limits, network and kind of volumes.

        sshd needs SYS_CHROOT, which a shed does not have, so its container has Docker's default capabilities.
        """
        say("creating a shed, and a container with sshd")
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
    """The shed `one`, its rival with sshd, and their SSH addresses."""

    def __init__(self, world, shed, sshd, rival):
        self.world, self.shed, self.sshd, self.rival = world, shed, sshd, rival
        self.container = world.container("one")

    def session(self, name, command):
        """Creates the same session on both sides."""
        world = self.world
        world.shed("sessions", "new", "one", name, "--", "sh", "-c", command)
        new = ["tmux", "new-session", "-d", "-s", name, "sh", "-c", command]
        world.docker("exec", "-u", "dev", "-w", "/workspace", self.rival, *new)

    def end_session(self, name):
        world = self.world
        world.shed("sessions", "kill", "one", name)
        with contextlib.suppress(Failed):
            world.docker("exec", "-u", "dev", self.rival, "tmux", "kill-session", "-t", f"={name}")
