"""One action with paramiko; see run.py for the arguments."""

import json
import sys

import paramiko

target, action, *words = json.loads(sys.argv[1]), *sys.argv[2:]
client = paramiko.SSHClient()
client.load_host_keys(target["known_hosts"])
client.connect(
    target["host"], target["port"], target["user"], key_filename=target["key"], allow_agent=False, look_for_keys=False
)
status = 0
if action in ("exec", "pty"):
    channel = client.get_transport().open_session()
    if action == "pty":
        channel.get_pty("xterm", 101, 33)
    channel.exec_command(words[0])
    given = b"" if action == "pty" else sys.stdin.buffer.read()
    channel.sendall(given)
    if action == "exec":
        channel.shutdown_write()
    while chunk := channel.recv(1 << 16):
        sys.stdout.buffer.write(chunk)
    status = channel.recv_exit_status()
elif action == "forward":
    channel = client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", int(words[0])), ("127.0.0.1", 0))
    while chunk := channel.recv(1 << 16):
        sys.stdout.buffer.write(chunk)
else:
    sftp = client.open_sftp()
    {"put": sftp.put, "get": sftp.get, "symlink": sftp.symlink}[action](*words)
client.close()
sys.exit(status)
