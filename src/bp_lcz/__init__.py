"""BP-LCZ: band prompting aided fusion of Sentinel-1 and Sentinel-2 for local climate zones."""

import os
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bp-lcz")
except PackageNotFoundError:  # a source tree on PYTHONPATH that was never installed
    __version__ = "0+unknown"

# No tool of this project sends telemetry unless the user asks for it. These variables are set before the tools are
# imported, since each tool reads its switch once at import.
for _switch, _value in {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "true",
}.items():
    os.environ.setdefault(_switch, _value)
