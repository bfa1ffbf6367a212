"""How PyTorch's threads wait for each other: by spinning on an idle machine, asleep on a busy one.

PyTorch splits every product of matrices over all cores, and its threads then wait for the last of them. By default
they spin, which is fast while each has a core to itself. Where another program runs, a spinning thread keeps the very
core that the last one needs. Measured on 2 cores, a forward pass of 32 x 16 tokens of a 135 M model (spinning, asleep):
alone .70 and .82 s, beside one busy process 2.0 to 2.9 and 1.6, beside three 10 to 21 and 2.7 to 3.7.

The library that PyTorch brings (libgomp) reads `OMP_WAIT_POLICY` once, when it is loaded, so `choose` must be called
before torch is first imported: the command line and the tests do, and chapters inherit it. Other systems ignore it.
"""

import os
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

OWN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What users set who want to decide themselves; any of them is left alone."""

BUSY = 0.5
"""Other processes that want a core, on average, from which on the machine counts as busy (chosen low: asleep costs a
sixth where the machine was idle after all, spinning several times the work where it was not)."""

READINGS, PAUSE = 5, 0.01
"""Readings of the kernel's count, and seconds between them."""

LOAD = Path("/proc/loadavg")


def others() -> float:
    """Processes beside this one that run or wait for a core at this moment; NaN where the system does not say.

    The fourth field of /proc/loadavg counts them, this one included. The averages before it would still show a command
    that has just ended.
    """
    counts = []
    for _ in range(READINGS):
        try:
            counts.append(int(LOAD.read_text().split()[3].split("/")[0]) - 1)
        except (OSError, ValueError, IndexError):
            return float("nan")
        time.sleep(PAUSE)
    return sum(counts) / len(counts)


def choose(environ: MutableMapping[str, str] = os.environ, others: Callable[[], float] = others) -> bool:
    """Let threads wait asleep if the machine is busy; does nothing if the user has decided, or torch is there already.

    Returns:
        Whether it was set. Processes started from this one inherit it.
    """
    if "torch" in sys.modules or any(name in environ for name in OWN) or not others() >= BUSY:
        return False
    environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True
