"""One process at a time in a run directory. No torch here."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from errata.errors import RunInUse
from errata.runs.layout import RunDir, explained


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the run's folder. RunInUse names the process and the host that hold it already.

    The operating system lets go of the lock of a process that dies, so there are no stale ones.
    """
    lock = FileLock(run.lock)
    with explained(run.lock):
        run.path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunInUse(f"{run.path} is in use by {_owner(run)}; wait until it ends, or stop it first.") from None
    try:
        # Plain, not atomic, and not needed: it only serves the message above.
        with suppress(OSError):
            run.owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        run.owner.unlink(missing_ok=True)
        if not run.config.exists():  # nothing was begun, so nothing is left behind
            with suppress(OSError):
                run.lock.unlink()
                run.path.rmdir()
        lock.release()


def _owner(run: RunDir) -> str:
    try:
        owner = json.loads(run.owner.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
