"""Files and folders that are there whole or not at all, places where one command works at a time, and what the system
says when it takes no more, in words.

Half-made things are called `.NAME.HOST-PID.part`, so that what a killed process left can be told from what a living one
is writing, and is cleared away by the next that comes along.
"""

import errno
import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from quantcliff.errors import InputError

WORDS = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "the disk is full: {file} could not be written; what was finished is whole, so free some space and run the "
        "same command again",
    ),
    errno.EFBIG: "{file} could not be written: this system allows no file of its size; what was finished is whole",
    errno.EROFS: "{file} cannot be written: its disk is read-only; give a folder that can be written to",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "{file} cannot be used: permission denied; give a folder of your own"),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST), "{file} cannot be made: a file stands where a folder is needed; give another"
    ),
    errno.EIO: "{file} could not be read or written: the disk reports a fault",
}
"""Error number of the system -> sentence."""

NUMBER = re.compile(r"(?:errno|os error) (\d+)", re.IGNORECASE)
"""Where pyarrow, safetensors and notebooks tell the number."""

HOST = platform.node().replace(".", "-")

PART = re.compile(r"\.(?:(?P<host>[^.]+)-)?(?P<process>\d+)\.part$")


def refusal(error: BaseException | str, file: Path | str = "a file") -> str | None:
    """The sentence for an error behind which the system refused a file; None for any other.

    Args:
        error: an exception, whose causes are looked at too, or what one said.
        file: what was being written, where the error does not name it.
    """
    if isinstance(error, str):
        found = NUMBER.search(error)
        number, named = (int(found[1]) if found else None), re.search(r"'(/[^']+)'|\"(/[^\"]+)\"", error)
        where = next((name for name in named.groups() if name), None) if named else None
    else:
        number, where = getattr(error, "errno", None), getattr(error, "filename", None)
        if number is None and (told := refusal(str(error), file)):
            return told
    if number not in WORDS:
        before = None if isinstance(error, str) else error.__cause__ or error.__context__
        return refusal(before, file) if before else None
    return WORDS[number].format(file=where or file)


@contextmanager
def plainly(file: Path) -> Iterator[None]:
    """Inside, what `refusal` has words for is raised as an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if told := refusal(error, file):
            raise InputError(told) from error
        raise


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside `path` for a file or a folder, which becomes `path` when the block ends and goes if it fails.

    Raises:
        InputError: the disk is full or cannot be written to; whatever stood at `path` is still there.
    """
    part = path.with_name(f".{path.name}.{HOST}-{os.getpid()}.part")
    with plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(*path.parent.glob(f".{path.name}.*.part"))
        try:
            yield part
            part.replace(path)
        finally:
            _remove(part)


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all; raises InputError as `whole`."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hash of a file's bytes, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other command holds the file `lock`, and hold it; a command that is killed lets go of it.

    The file is there only while it is held. Within a process it may be taken again.

    Raises:
        InputError: its folder cannot be made or written to.
    """
    own = FileLock(lock, is_singleton=True)
    with plainly(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            own.acquire(timeout=0)
        except Timeout:
            tqdm.write(f"quantcliff: another command is at work on {_named(lock)}; waiting for it", file=sys.stderr)
            own.acquire()
    try:
        yield
    finally:
        if own.lock_counter == 1:
            lock.unlink(missing_ok=True)
        own.release()


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """`alone` in a folder of results, from which half-made things of killed commands are cleared away first."""
    with alone(folder / ".lock"):
        clear(*folder.rglob("*.part"))
        yield


@contextmanager
def making(path: Path) -> Iterator[None]:
    """`alone` with one file or folder that is about to be made: look inside the block whether it is there already."""
    with alone(path.with_name(f".{path.name}.lock")):
        yield


def absent(path: Path) -> None:
    """Raises InputError where `path` is there already: what a command makes never takes the place of something else."""
    if path.exists():
        raise InputError(f"{path} exists already; give a folder that does not")


def clear(*parts: Path) -> None:
    """Remove those half-made things whose process lives no more; those of other machines stay."""
    for part in parts:
        found = PART.search(part.name)
        if found and found["host"] in (None, HOST) and not _lives(int(found["process"])):
            _remove(part)


def _named(lock: Path) -> Path:
    return lock.parent if lock.name == ".lock" else lock.with_name(lock.name[1:].removesuffix(".lock"))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
