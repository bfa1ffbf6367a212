"""Tables come back as they were written, or not at all."""

import errno
from pathlib import Path

import pandas as pd
import pytest

from quantcliff import tables
from quantcliff.errors import InputError

TABLE = pd.DataFrame({"label": ["a", "b"], "value": [0.5, float("nan")], "band": pd.array([1, None], dtype="Int64")})


def test_round_trip_in_a_new_folder(tmp_path: Path) -> None:
    path = tables.write(TABLE, tmp_path / "deep" / "table.parquet")
    pd.testing.assert_frame_equal(tables.read(path), TABLE)
    assert [file.name for file in path.parent.iterdir()] == ["table.parquet"]


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no table .*macro\.parquet"):
        tables.read(tmp_path / "macro.parquet")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EINVAL])
def test_a_write_that_fails_leaves_the_old_table_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tables.write(TABLE, tmp_path / "table.parquet")

    def fail(self: pd.DataFrame, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half of it")
        raise OSError(code, "no")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(InputError if code == errno.ENOSPC else OSError) as caught:
        tables.write(TABLE.iloc[:1], path)
    if code == errno.ENOSPC:
        assert "disk is full" in str(caught.value) and str(path) in str(caught.value)
    pd.testing.assert_frame_equal(tables.read(path), TABLE)
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]
