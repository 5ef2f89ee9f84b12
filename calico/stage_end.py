"""How a stage ends: one line and an exit code for people, a record of the failure for whoever started it."""

import contextlib
import functools
import inspect
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from calico.core.files import write_json
from calico.errors import CalicoError

_LOGGER = logging.getLogger(__name__)
_FAILURE_VARIABLE = "CALICO_FAILURE_RECORD"
_KILLED = "Killed"
_INTERRUPTED_CODES = (128 + signal.SIGINT, 128 + signal.SIGTERM)
# What may be gone on the next try: a network, a mount, a peer. A full disk reaches us as DataError.
_PASSING_FAULTS = (ConnectionError, TimeoutError, InterruptedError)
_PASSING_KINDS = ("DistBackendError", "DistNetworkError", "DistStoreError")  # torch.distributed lost a peer


def exit_on_error(main: Callable[..., None]) -> Callable[..., None]:
    """Make a stage's `main` end the process as a user expects it.

    A CalicoError becomes one line on stderr and exit code 2; so does a wrong number of arguments.
    """
    signature = inspect.signature(main)

    @functools.wraps(main)
    def wrapper(*arguments: str) -> None:
        try:
            signature.bind(*arguments)
        except TypeError:
            module = Path(inspect.getfile(main)).stem
            names = " ".join(name.upper() for name in signature.parameters)
            sys.stderr.write(f"usage: python -m stages.{module} {names}\n")
            raise SystemExit(2) from None
        try:
            with failure_record():
                main(*arguments)
        except CalicoError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(2) from error

    return wrapper


@contextlib.contextmanager
def failure_record() -> Iterator[None]:
    """Tell whoever started this stage how it failed, in the JSON file that CALICO_FAILURE_RECORD names.

    DVC's exit code is the same for a full disk and a wrong value. The record has `kind` (class of the error),
    `message` and `retryable`. It is there from the start, so that it also tells of a process that was killed,
    and gone once the stage has succeeded. Of several ranks the first real failure counts: the others are only
    told to end.
    """
    named = os.environ.get(_FAILURE_VARIABLE)
    path = Path(named) if named else None
    if path is None:
        yield
        return
    if _rank() == 0:
        _write_failure(
            path, _KILLED, "its process ended without a word, as after kill -9 or out of memory", True
        )
    try:
        yield
    except BaseException as error:
        kind = type(error).__name__
        is_interrupted = isinstance(error, KeyboardInterrupt) or (
            isinstance(error, SystemExit) and error.code in _INTERRUPTED_CODES
        )
        if is_interrupted:
            kind = "Interrupted"
        if not is_interrupted or _failure_kind(path) in (None, _KILLED):
            may_pass = isinstance(error, _PASSING_FAULTS) or kind in _PASSING_KINDS
            _write_failure(path, kind, str(error), is_interrupted or may_pass)
        raise
    if _rank() == 0:
        path.unlink(missing_ok=True)


def _failure_kind(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_failure(path: Path, kind: str, message: str, is_retryable: bool) -> None:
    try:
        write_json(path, {"kind": kind, "message": message, "retryable": is_retryable})
    except CalicoError as error:  # the stage's own failure matters more than this record of it
        _LOGGER.warning("%s", error)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))
