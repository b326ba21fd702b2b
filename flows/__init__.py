"""Prefect flows. They decide when and where; DVC decides what is out of date.

Prefect reads its settings when it is imported, so the defaults of this project are set here, before any flow
imports it. A flow that a Prefect worker loads by file name takes the worker's settings instead.
"""

import os
from pathlib import Path

import bp_lcz  # noqa: F401  switches the telemetry of all tools off
from bp_lcz.workspace import main_checkout

for _setting, _value in {
    # Without PREFECT_API_URL a flow starts a server of its own for as long as it runs, with this database.
    "PREFECT_HOME": str(main_checkout(Path(__file__).parent) / ".prefect"),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # seconds of each start, for blocks that no flow uses
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # the first start makes the database
}.items():
    os.environ.setdefault(_setting, _value)
