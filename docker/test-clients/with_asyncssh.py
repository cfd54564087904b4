"""One action with asyncssh; see run.py for the arguments."""

import asyncio
import json
import sys

import asyncssh


async def main():
    target, action, *words = json.loads(sys.argv[1]), *sys.argv[2:]
    options = {
        "port": target["port"],
        "username": target["user"],
        "client_keys": [target["key"]],
        "known_hosts": target["known_hosts"],
        "config": None,
        "agent_path": None,
    }
    async with asyncssh.connect(target["host"], **options) as client:
        if action in ("exec", "pty"):
            extra = {"term_type": "xterm", "term_size": (101, 33)} if action == "pty" else {"input": sys.stdin.buffer.read()}
            done = await client.run(words[0], encoding=None, **extra)
            sys.stdout.buffer.write(done.stdout)
            return done.exit_status
        if action == "forward":
            reader, _ = await client.open_connection("127.0.0.1", int(words[0]), encoding=None)
            sys.stdout.buffer.write(await reader.read())
        elif action == "scp":
            await asyncssh.scp(words[0], (client, words[1]))
        else:
            async with client.start_sftp_client() as sftp:
                await {"put": sftp.put, "get": sftp.get, "symlink": sftp.symlink}[action](*words)
    return 0


sys.exit(asyncio.run(main()))
