"""A loop that keeps small results between large arrays does not grow."""

import subprocess
import sys
from pathlib import Path

import pytest

from quantcliff import memory

LOOP = """
import sys
from contextlib import nullcontext
import numpy as np
from quantcliff.memory import given_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

np.ones(3 * 2**20)  # from now on glibc keeps arrays of this size
with (given_back() if sys.argv[1] == "yes" else nullcontext(True)) as there:
    before = resident()
    large = [np.ones(2**20) for _ in range(20)]
    small = [np.ones(100) for _ in range(100)]  # stays, behind the large ones
    del large
    assert there
    print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone counts resident pages there")
def test_memory_is_given_back_inside():
    source = Path(memory.__file__).parents[1]
    run, env = [sys.executable, "-c", LOOP], {"PYTHONPATH": str(source)}
    inside, outside = (
        int(subprocess.run([*run, how], env=env, capture_output=True, text=True, check=True).stdout)
        for how in ("yes", "no")
    )
    assert inside < 2**24 < 2**27 < outside


def test_the_usual_limit_comes_back_and_another_system_is_left_alone(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, name, value):
            calls.append((name, value))
            return 1

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    with pytest.raises(KeyError, match=r"True, \[\(-3, 1048576\)\]"), memory.given_back() as there:
        raise KeyError(there, list(calls))
    assert calls[1:] == [(-3, 2**25)]
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    with memory.given_back() as there:
        assert not there
