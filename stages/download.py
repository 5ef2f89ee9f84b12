"""DVC stage `acquire` of the paper profile: get the published data sets."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.data.acquisition.acquire import acquire
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Download, verify and unpack the sources of one profile."""
    section = load_config(profile).download
    output_path = Path("artifacts") / profile / "sources"
    with stage_run("acquire", profile, output_path, params={"download": section.model_dump()}):
        acquire(section, output_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
