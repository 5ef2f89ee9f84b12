"""What all tests share.

Property tests draw the same examples every time, and are not timed one by one. Nothing is sent anywhere, and
nothing is looked for on the network, however the tests are started.
"""

import os
from pathlib import Path

from hypothesis import settings

# A deadline per example measures the machine's other load, not the code.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

for name, value in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ.setdefault(name, value)
if not Path("/dev/nvidia0").exists():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
