"""Prefect flows. They decide when and where; DVC decides what is out of date.

Prefect reads its settings when it is imported. So this module sets the project's defaults before any flow imports
Prefect. A flow that a Prefect worker loads by file name takes the worker's settings instead.
"""

import os
from pathlib import Path

import bp_lcz  # noqa: F401  switches the telemetry of all tools off
from bp_lcz.addresses import keep_loopback_direct, refuse_or_drop_socks, sqlite_url
from bp_lcz.workspace import main_checkout
from flows.ending import one_line

with one_line():
    keep_loopback_direct()
    refuse_or_drop_socks(os.environ.get("PREFECT_API_URL"))
    _home = main_checkout(Path(__file__).parent) / ".prefect"

for _setting, _value in {
    # Without PREFECT_API_URL, a flow starts its own server with this database while it runs.
    "PREFECT_HOME": str(_home),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # would take seconds at each start, for blocks that no flow uses
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # the first start makes the database
}.items():
    os.environ.setdefault(_setting, _value)
# Prefect would write the path into the URL without escaping it.
_database = sqlite_url(Path(os.environ["PREFECT_HOME"]) / "prefect.db", "sqlite+aiosqlite")
if "%" in _database:
    os.environ.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", _database)
