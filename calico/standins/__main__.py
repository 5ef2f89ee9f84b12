"""Build the stand-ins: `python -m calico.standins [--only TASK ...]`."""

import argparse
import sys
from pathlib import Path

from calico.config import load_config
from calico.errors import CalicoError
from calico.standins.build import TASKS, build_standins


def main(arguments: list[str] | None = None) -> int:
    """Build what is missing; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m calico.standins", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="TASK", help=f"of: {', '.join(TASKS)}")
    parser.add_argument(
        "--work", type=Path, default=Path("artifacts/standins"), help="folder of the rendered scenes"
    )
    chosen = parser.parse_args(arguments)
    try:
        config = load_config("tiny")
        build_standins(
            config, folder=Path(config.checkpoints.folder), work_path=chosen.work, only=chosen.only
        )
    except CalicoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
