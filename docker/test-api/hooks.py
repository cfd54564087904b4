"""Hooks of schemathesis for shed's API."""

import itertools
import os

import schemathesis
import urllib3.util.connection

# What ends a shed is sent to one that no other request needs; `web` stays for those.
ENDING = {"DELETE", "stop", "pause", "restart", "rebuild"}

# The server counts refused credentials by address, and one check sends a wrong credential to every operation: each connection
# comes from another address of the loopback network.
_addresses = itertools.cycle(f"127.0.1.{last}" for last in range(1, 255))
_connect = urllib3.util.connection.create_connection


def _connect_from_another_address(address, *args, **kwargs):
    kwargs["source_address"] = (next(_addresses), 0)
    return _connect(address, *args, **kwargs)


urllib3.util.connection.create_connection = _connect_from_another_address


@schemathesis.hook
def before_call(context, case, kwargs):
    """Sends what would end the shed `web`, or revoke the token of this run, to something that does not exist."""
    given = case.path_parameters or {}
    ends = case.method == "DELETE" or case.path.rsplit("/", 1)[-1] in ENDING
    if ends and case.path.count("{") == 1:
        if given.get("n") == "web":
            given["n"] = "gone"
        if given.get("id") == os.environ["SHED_TOKEN_ID"]:
            given["id"] = "gone"
