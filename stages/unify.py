"""DVC stage `unify`: the sources' own files in, one set of tables out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.data.annotations.unify import unify
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Unify the annotations of one profile."""
    section = load_config(profile).unify
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "unify"
    with stage_run("unify", profile, output_path, params={"unify": section.model_dump()}):
        unify(section, artifacts_path / "sources", output_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
