"""Uses the Python client that `openapi-python-client` made: client.py URL DIRECTORY-OF-THE-CLIENT. The token is in SHED_TOKEN."""

import importlib
import os
import pkgutil
import sys

url, directory = sys.argv[1:]
sys.path.insert(0, directory)

import shed_client  # noqa: E402
from shed_client.api.sessions import sessions_all, sessions_show  # noqa: E402
from shed_client.api.sheds import sheds_show  # noqa: E402
from shed_client.api.commands import commands_run  # noqa: E402
from shed_client.models import ExecRequest, Problem  # noqa: E402

# Every module of it can be imported.
modules = list(pkgutil.walk_packages(shed_client.__path__, "shed_client."))
for module in modules:
    importlib.import_module(module.name)
assert len(modules) > 100, len(modules)

client = shed_client.AuthenticatedClient(base_url=url, token=os.environ["SHED_TOKEN"])
sessions = sessions_all.sync(client=client)
assert [session.name for session in sessions.sessions] == ["fix"], sessions
session = sessions_show.sync("web", "fix", client=client)
assert session.status == "running" and session.workers[0].command == ["sleep", "1000"], session
done = commands_run.sync("web", client=client, body=ExecRequest(argv=["echo", "hello"]))
assert (done.exit_, done.stdout) == (0, "hello\n"), done
# A refusal is a problem with a code.
none = sheds_show.sync("none", client=client)
assert isinstance(none, Problem) and none.code == "shed-not-found", none
stranger = sheds_show.sync("web", client=shed_client.Client(base_url=url))
assert isinstance(stranger, Problem) and stranger.code == "unauthorized", stranger
