"""Several variants at once: forked processes of one thread each, which leave their tables on disk.

PyTorch splits every product of matrices over all cores and waits for the last of them. A forward pass of a small model
is many small products, so that two threads gain little (measured on 2 cores, 32 x 16 tokens of a 135 M model: .90 s
with one thread, .77 s with two), while two passes beside each other on a thread each take .49 s a pass.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import psutil
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

ROOM = 2**30
"""Bytes of memory that a process may need beside its models."""

_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of linux/prctl.h

_work: Callable[[str], object] | None = None


def workers(labels: int, weights: int) -> int:
    """Processes to start for so many variants: as many as PyTorch may use threads, fewer where memory is short; none
    where that would leave more than half of the threads idle, or processes cannot be forked safely.

    Args:
        weights: bytes of what each process holds of models for itself.
    """
    threads = torch.get_num_threads()
    count = min(threads, labels, psutil.virtual_memory().available // (weights + ROOM))
    return count if sys.platform == "linux" and count > 1 and 2 * count >= threads else 0


def together(work: Callable[[str], object], labels: Sequence[str], count: int) -> Iterator[str]:
    """Do `work` for every label in `count` processes; what it returns is thrown away.

    A process that the system kills (for memory) ends this early, without an error: do what is left one by one.

    Returns:
        Labels as they are done.

    Raises:
        Exception: what `work` raised.
    """
    global _work
    _work, before = work, set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _begin)
    try:
        jobs = {pool.submit(_do, label): label for label in labels}
        for job in as_completed(jobs):
            job.result()
            yield jobs[job]
    except BrokenProcessPool:
        tqdm.write("quantcliff: a process was killed, by want of memory perhaps; going on with one", file=sys.stderr)
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        _work = None
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """In a new process: one thread for everything, nothing printed, and an end with the process that started it."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(1)
    threadpool_limits(1)


def _do(label: str) -> None:
    assert _work is not None
    _work(label)
