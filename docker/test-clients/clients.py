"""The SSH clients, each behind the same few methods. A method that a client does not have is absent."""

import fcntl
import hashlib
import json
import os
import pathlib
import pty
import shutil
import struct
import subprocess
import termios

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "target" / "tools" / "test-clients"
LIMIT = 60  # seconds for one action
ROWS, COLS = 33, 101


class Refused(Exception):
    """The client did not do what it should; the message says what it said."""


class Target:
    """An SSH server: where it is, and the files with which each client logs in there."""

    def __init__(self, world, where):
        self.user, self.host, self.port = where
        self.world, self.dir, self.env = world, world.dir, world.env
        self.key = str(world.dir / "key")
        self.known_hosts = str(world.dir / "known_hosts")

    def json(self):
        names = ("user", "host", "port", "key", "known_hosts")
        return json.dumps({name: getattr(self, name) for name in names})

    def fingerprint(self):
        """The host key as PuTTY takes it."""
        name = self.host if self.port == 22 else f"[{self.host}]:{self.port}"
        lines = pathlib.Path(self.known_hosts).read_text().splitlines()
        blob = next(line.split()[2] for line in lines if line.split()[0] == name)
        listed = subprocess.run(
            ["ssh-keygen", "-lf", "-"], input=f"ssh-ed25519 {blob}\n", capture_output=True, text=True, check=True
        )
        return listed.stdout.split()[1]


def run(argv, env, given=b""):
    """The exit status and output of a client."""
    try:
        done = subprocess.run(list(map(str, argv)), env=env, input=given, capture_output=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as late:
        raise Refused(f"not finished within {LIMIT} s") from late
    run.said = (done.stderr or done.stdout).decode(errors="replace").strip()
    return done.returncode, done.stdout


def must(argv, env, given=b""):
    status, out = run(argv, env, given)
    if status:
        raise Refused(f"exit status {status}: {run.said[-200:]}")
    return out


def in_terminal(argv, env):
    """What a client prints in a terminal of 101 by 33."""
    pid, master = pty.fork()
    if pid == 0:
        # The size is set before the client asks for it: it waits for a byte.
        os.read(0, 1)
        os.execvpe(argv[0], list(map(str, argv)), env)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLS, 0, 0))
    os.write(master, b"\n")
    out = b""
    try:
        while chunk := os.read(master, 4096):
            out += chunk
    except OSError:  # Linux reports the end of a terminal as an error.
        pass
    os.waitpid(pid, 0)
    os.close(master)
    return out


class OpenSsh:
    name = "OpenSSH"

    def __init__(self, target):
        self.t = target
        self.options = ["-F", "none", "-i", target.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        self.options += ["-o", f"UserKnownHostsFile={target.known_hosts}", "-o", "LogLevel=ERROR"]

    def version(self):
        return subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split()[0].strip(",").split("_")[1]

    def ssh(self, *words):
        return ["ssh", *self.options, "-p", self.t.port, f"{self.t.user}@{self.t.host}", *words]

    def execute(self, line, given=b""):
        return run(self.ssh(line), self.t.env, given)

    def _sftp(self, batch):
        address = f"{self.t.user}@{self.t.host}"
        must(["sftp", "-b", "-", *self.options, "-P", self.t.port, address], self.t.env, batch.encode())

    def put(self, source, target):
        self._sftp(f"put {source} {target}\n")

    def get(self, source, target):
        self._sftp(f"get {source} {target}\n")

    def symlink(self, target, link):
        self._sftp(f"symlink {target} {link}\n")

    def scp(self, source, target):
        for protocol in (["-O"], ["-s"]):
            there = f"{self.t.user}@{self.t.host}:{target}"
            must(["scp", *protocol, *self.options, "-P", self.t.port, source, there], self.t.env)

    def forward(self, port):
        return must([*self.ssh()[:1], "-W", f"127.0.0.1:{port}", *self.ssh()[1:]], self.t.env)

    def pty(self, line):
        return in_terminal([*self.ssh()[:1], "-t", *self.ssh(line)[1:]], self.t.env)


class Putty:
    name = "PuTTY (plink, pscp, psftp)"

    def __init__(self, target):
        self.t = target
        self.ppk = target.dir / "key.ppk"
        if not self.ppk.exists():
            must(["puttygen", target.key, "-O", "private", "-o", self.ppk], target.env)
        self.options = ["-batch", "-P", target.port, "-i", self.ppk, "-hostkey", target.fingerprint()]
        self.address = f"{target.user}@{target.host}"

    def version(self):
        return subprocess.run(["plink", "-V"], capture_output=True, text=True).stdout.split()[2]

    def execute(self, line, given=b""):
        return run(["plink", *self.options, self.address, line], self.t.env, given)

    def _psftp(self, line):
        batch = self.t.dir / "batch"
        batch.write_text(line)
        must(["psftp", *self.options, "-b", batch, self.address], self.t.env)

    def put(self, source, target):
        self._psftp(f"put {source} {target}\n")

    def get(self, source, target):
        self._psftp(f"get {source} {target}\n")

    def scp(self, source, target):
        for protocol in ("-scp", "-sftp"):
            must(["pscp", protocol, *self.options, source, f"{self.address}:{target}"], self.t.env)

    def forward(self, port):
        return must(["plink", *self.options, "-nc", f"127.0.0.1:{port}", self.address], self.t.env)

    def pty(self, line):
        return in_terminal(["plink", *self.options, "-t", self.address, line], self.t.env)


class Dbclient:
    name = "dropbear (dbclient)"

    def __init__(self, target):
        self.t = target
        self.key = target.dir / "key.dropbear"
        if not self.key.exists():
            must(["dropbearconvert", "openssh", "dropbear", target.key, self.key], target.env)
        self.options = ["-y", "-y", "-T", "-i", self.key, "-p", target.port]
        self.address = f"{target.user}@{target.host}"

    def version(self):
        return subprocess.run(["dbclient", "-V"], capture_output=True, text=True).stderr.split()[1].strip("v")

    def execute(self, line, given=b""):
        return run(["dbclient", *self.options, self.address, line], self.t.env, given)

    def forward(self, port):
        return must(["dbclient", *self.options, "-B", f"127.0.0.1:{port}", self.address], self.t.env)

    def pty(self, line):
        options = [word for word in self.options if word != "-T"]
        return in_terminal(["dbclient", *options, "-t", self.address, line], self.t.env)


class Lftp:
    name = "lftp"

    def __init__(self, target):
        self.t = target
        self.ssh = " ".join(["ssh", "-a", "-x", *OpenSsh(target).options])

    def version(self):
        return subprocess.run(["lftp", "--version"], capture_output=True, text=True).stdout.split()[3]

    def _lftp(self, line):
        begin = f'set sftp:connect-program "{self.ssh}"; set cmd:fail-exit yes; set net:max-retries 1'
        address = f"sftp://{self.t.user}:none@{self.t.host}:{self.t.port}"
        must(["lftp", "-c", f"{begin}; open {address}; {line}"], self.t.env)

    def put(self, source, target):
        self._lftp(f"put {source} -o {target}")

    def get(self, source, target):
        self._lftp(f"get {source} -o {target}")

    def symlink(self, target, link):
        self._lftp(f"ln -s {target} {link}")


class Rclone:
    name = "rclone"

    def __init__(self, target):
        self.t = target
        options = {"host": target.host, "user": target.user, "port": target.port, "key-file": target.key}
        self.options = [f"--sftp-{name}={value}" for name, value in options.items()] + ["--config", "/dev/null"]

    def version(self):
        return subprocess.run(["rclone", "version"], capture_output=True, text=True).stdout.split()[1].split("-")[0].strip("v")

    def put(self, source, target):
        must(["rclone", "copyto", *self.options, source, f":sftp:{target}"], self.t.env)

    def get(self, source, target):
        must(["rclone", "copyto", *self.options, f":sftp:{source}", target], self.t.env)


class Sshfs:
    name = "sshfs"

    def __init__(self, target):
        self.t = target

    def version(self):
        return subprocess.run(["sshfs", "-V"], capture_output=True, text=True).stdout.splitlines()[0].split()[-1]

    def _mounted(self, act):
        point = self.t.dir / "mnt"
        point.mkdir(exist_ok=True)
        options = ["-o", f"IdentityFile={self.t.key},UserKnownHostsFile={self.t.known_hosts},IdentitiesOnly=yes"]
        address = f"{self.t.user}@{self.t.host}:/"
        must(["sshfs", "-F", "/dev/null", "-p", self.t.port, *options, address, point], self.t.env)
        try:
            act(point)
        finally:
            must(["fusermount3", "-u", point], self.t.env)

    def put(self, source, target):
        self._mounted(lambda point: shutil.copyfile(source, f"{point}{target}"))

    def get(self, source, target):
        self._mounted(lambda point: shutil.copyfile(f"{point}{source}", target))

    def symlink(self, target, link):
        self._mounted(lambda point: os.symlink(target, f"{point}{link}"))


class Curl:
    def __init__(self, target):
        self.t = target
        self.options = ["curl", "--silent", "--show-error", "--insecure", "--key", target.key, "--pubkey", f"{target.key}.pub"]
        self.address = f"{target.user}@{target.host}:{target.port}"

    words = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()
    library = next((word for word in words if word.startswith("libssh")), "no SSH")
    name = f"curl ({library.split('/')[0]})"

    def version(self):
        return self.library.split("/")[-1]

    def put(self, source, target):
        must([*self.options, "-T", source, f"sftp://{self.address}{target}"], self.t.env)

    def get(self, source, target):
        must([*self.options, "-o", target, f"sftp://{self.address}{source}"], self.t.env)

    def symlink(self, target, link):
        must([*self.options, "-o", "/dev/null", "-Q", f"symlink {target} {link}", f"sftp://{self.address}/etc/"], self.t.env)

    def scp(self, source, target):
        must([*self.options, "-T", source, f"scp://{self.address}{target}"], self.t.env)


class Library:
    """A library, by a script with one action."""

    def __init__(self, target):
        self.t = target

    def _argv(self, *words):
        return [*self.argv, self.t.json(), *words]

    def _env(self):
        return self.t.env | {"NODE_PATH": str(TOOLS / "node" / "node_modules"), "PYTHONPATH": str(TOOLS / "python")}

    def _act(self, *words):
        return must(self._argv(*words), self._env())

    def execute(self, line, given=b""):
        return run(self._argv("exec", line), self._env(), given)

    def put(self, source, target):
        self._act("put", str(source), target)

    def get(self, source, target):
        self._act("get", source, str(target))

    def symlink(self, target, link):
        self._act("symlink", target, link)

    def forward(self, port):
        return self._act("forward", str(port))

    def pty(self, line):
        return self._act("pty", line)


def python():
    own = TOOLS / "python" / "bin" / "python"
    return str(own) if own.exists() else "python3"


def of_pip(package):
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    env = os.environ | {"PYTHONPATH": str(TOOLS / "python")}
    return subprocess.run([python(), "-c", code], capture_output=True, text=True, env=env).stdout.strip()


class Paramiko(Library):
    name = "paramiko"
    argv = [python(), str(HERE / "with_paramiko.py")]

    def version(self):
        return of_pip("paramiko")


class Asyncssh(Library):
    name = "asyncssh"
    argv = [python(), str(HERE / "with_asyncssh.py")]

    def version(self):
        return of_pip("asyncssh")

    def scp(self, source, target):
        self._act("scp", str(source), target)


class Ssh2(Library):
    name = "node ssh2"
    argv = ["node", str(HERE / "with_ssh2.js")]

    def version(self):
        return json.loads((TOOLS / "node/node_modules/ssh2/package.json").read_text())["version"]


class Ansible:
    name = "Ansible"

    def __init__(self, target):
        self.t = target
        inventory = target.dir / f"inventory-{target.user}"
        inventory.write_text(
            f"there ansible_host={target.host} ansible_port={target.port} ansible_user={target.user} "
            f"ansible_ssh_private_key_file={target.key} ansible_python_interpreter=/usr/bin/python3 "
            f"ansible_ssh_common_args='-F none -o UserKnownHostsFile={target.known_hosts} -o IdentitiesOnly=yes'\n"
        )
        self.argv = [python(), "-m", "ansible", "adhoc", "-i", inventory, "there"]
        self.env = target.env | {"PYTHONPATH": str(TOOLS / "python"), "ANSIBLE_NOCOLOR": "1"}

    def version(self):
        return of_pip("ansible-core")

    def _module(self, module, arguments="", *words, **env):
        more = ["-a", arguments] if arguments else []
        out = must([*self.argv, "-m", module, *more, *words], self.env | env).decode()
        if "[WARNING]" in out + run.said:
            raise Refused(f"a warning: {run.said[-200:]}")
        return out

    def execute(self, line, given=b""):
        """The line as a background job, which Ansible polls."""
        status, out = run([*self.argv, "-m", "shell", "-a", line, "-B", "30", "-P", "1"], self.env, given)
        text = out.decode() + run.said
        if "[WARNING]" in text:
            raise Refused(f"a warning: {text[-200:]}")
        if '"rc": 7' in text or "rc=7" in text:
            return 7, b""
        return status, b"in\n" if '"stdout": "in"' in text else out

    def put(self, source, target):
        self._module("copy", f"src={source} dest={target}", ANSIBLE_SSH_TRANSFER_METHOD="sftp")

    def get(self, source, target):
        self._module("fetch", f"src={source} dest={target} flat=yes", ANSIBLE_SSH_TRANSFER_METHOD="sftp")

    def symlink(self, target, link):
        self._module("file", f"src={target} dest={link} state=link force=yes follow=no")

    def scp(self, source, target):
        self._module("copy", f"src={source} dest={target}", ANSIBLE_SSH_TRANSFER_METHOD="scp")


CLIENTS = [OpenSsh, Putty, Dbclient, Lftp, Rclone, Sshfs, Curl, Paramiko, Asyncssh, Ssh2, Ansible]


def sha256(data):
    return hashlib.sha256(data).hexdigest()
