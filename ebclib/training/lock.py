"""One launch at a time writes a run; another waits, and then finds what the first one left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import PartialState
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..runs import Run


@contextmanager
def only_writer(run: Run, state: PartialState, progress: bool = False) -> Iterator[None]:
    """Keep other launches from writing ``run`` meanwhile, or wait until one that does has ended.

    The processes of one launch share the lock: the first holds it, and nobody goes on before it does,
    so that all of them find the folder in the same state. The lock is a file beside the run's folder
    (which a new run replaces). The operating system lets go of it when its process ends, killed or not;
    the file stays.

    Parameters
    ----------
    run : it need not exist
    state : the processes of this launch
    progress : say so when there is somebody to wait for
    """
    path = run.path.parent / f"{run.name}.lock"
    lock = FileLock(path)
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                text = (
                    f"Run {run.name!r} is being written by another process; waiting for it to end."
                )
                tqdm.write(text, file=sys.stderr)
            lock.acquire()
    try:
        state.wait_for_everyone()
        yield
    finally:
        lock.release()
