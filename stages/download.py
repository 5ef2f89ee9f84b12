"""Stage acquire of the paper profile: the published data sets."""

import sys

from calico.config import load_config
from calico.errors import DataError
from calico.tracking import exit_on_error


@exit_on_error
def main(profile: str) -> None:
    """Check the profile's values, then say what cannot be downloaded yet.

    Raises:
        DataError: always; this version downloads none of the published data sets.
    """
    config = load_config(profile)
    sources = ", ".join([*config.unify.sources, "grand"])
    raise DataError(
        f"artifacts/{profile}/sources: this version cannot download the published data sets ({sources}) yet. "
        "Run the tiny profile (`make run`); it draws synthetic sources in the same formats."
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
