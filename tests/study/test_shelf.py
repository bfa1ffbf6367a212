"""Which change of the source makes which table out of date."""

from pathlib import Path

import pytest

from quantcliff.study import shelf

TABLES = ("macro", "macro_paraphrases", "logit_lens", "verdict", "weights", "scores")


@pytest.mark.parametrize(("changed", "stale"), [
    ("stages/macro/answers.py", {"macro", "macro_paraphrases", "verdict", "weights"}),
    ("stages/logit_lens.py", {"logit_lens", "verdict", "weights"}),
    ("stages/verdict/rule.py", {"verdict", "weights"}),
    ("tracing/runner.py", set(TABLES)),
    ("stages/__init__.py", set(TABLES)),
    ("charts/macro.py", set()),
    ("cli.py", set()),
])  # fmt: skip
def test_a_table_is_out_of_date_when_what_made_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, stale: set[str]
) -> None:
    for name in ("stages/__init__", "stages/macro/answers", "stages/logit_lens", "stages/verdict/rule",
                 "tracing/runner", "charts/macro", "cli"):  # fmt: skip
        file = (tmp_path / name).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("one = 1")
    monkeypatch.setattr(shelf, "PACKAGE", tmp_path)
    before = {table: shelf.source_digest.__wrapped__(table) for table in TABLES}
    (tmp_path / changed).write_text("one = 2")
    after = {table: shelf.source_digest.__wrapped__(table) for table in TABLES}
    assert {table for table in TABLES if before[table] != after[table]} == stale
