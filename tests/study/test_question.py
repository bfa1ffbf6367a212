"""A study finds its facts, makes its variants when asked, and never computes a table twice."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from quantcliff import atlas, models, tables
from quantcliff.errors import InputError
from quantcliff.models import Served, by_token
from quantcliff.probes import Probes
from quantcliff.quantizers import Scheme, quantize
from quantcliff.study import FULL, Study, answers, held, shelf, variants
from quantcliff.tracing import Runner, Trace


@pytest.fixture(scope="module")
def asked(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 facts that the tiny Llama answers right by chance, and 5 that it gets wrong."""
    model = models.load(tiny_llama)
    lines: list[dict[str, str]] = []
    wrong: list[dict[str, str]] = []
    for number in range(300):
        prompt = f"Place {number} x"
        ids = model.tokenizer(prompt, return_tensors="pt").input_ids
        top = int(model.hf(ids).logits[0, -1].argmax())
        word = model.tokenizer.decode([top])
        line = {"prompt": prompt, "subject": f"Place {number}", "object": word.strip()}
        right = word == f" {word.strip()}" and model.tokenizer(prompt + word).input_ids == [*ids[0].tolist(), top]
        if right and word.strip().lower() not in prompt.lower():
            lines.append(line)
        else:
            wrong.append(line | {"object": "Rome" if word.strip() != "Rome" else "Paris"})
    assert len(lines) >= 20
    file = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in [*wrong[:5], *lines[:20]]))
    return file


Make = Callable[..., Study]


@pytest.fixture
def make(tiny_llama: Path, asked: Path, tmp_path: Path) -> Make:
    def build(**changes: Any) -> Study:
        options = {"model": tiny_llama, "method": "rtn", "bits": "4,2", "group_size": 16, "facts": asked,
                   "run": tmp_path / "run", "device": "cpu"}  # fmt: skip
        return Study(**(options | changes))

    return build


# what is studied


@pytest.mark.parametrize("bits", [2, "2", [2], (2, 2), "2, 2"])
def test_bits_in_any_form(make: Make, bits: Any) -> None:
    assert make(bits=bits).parameters.bits == (2,)


def test_methods_and_bits_make_the_variants(make: Make) -> None:
    study = make(method="rtn, gptq", bits="4,2")
    assert study.labels == ["full", "rtn-4bit-g16", "rtn-2bit-g16", "gptq-4bit-g16", "gptq-2bit-g16"]
    variant = study.variant("gptq-2bit-g16")
    assert (variant.method, variant.bits, variant.group_size) == ("gptq", 2, 16)
    assert make(method=["rtn"]).parameters.methods == ("rtn",)


def test_nothing_is_made_before_it_is_asked_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Scheme] = []

    def spy(base: object, scheme: Scheme, *rest: Any) -> Path:
        made.append(scheme)
        return real(base, scheme, *rest)  # type: ignore[arg-type]

    real = quantize
    monkeypatch.setattr(variants.quantizers, "quantize", spy)
    study = make()
    assert study.variants and len(study.probes) == 25 and not made
    assert study.variants["rtn-2bit-g16"].path == study.variants["rtn-2bit-g16"].path
    assert [scheme.bits for scheme in made] == [2]


def test_a_model_of_the_readers_own(make: Make, tiny_llama: Path, tmp_path: Path) -> None:
    path = quantize(tiny_llama, Scheme("rtn", 3, 32), (), tmp_path / "mine")
    study = make(quantized=path)
    assert list(study.variants) == [path.name]
    variant = study.variant(path.name)
    assert (variant.method, variant.bits, variant.group_size, variant.path) == ("rtn", 3, 32, path)
    assert study.references == {"rtn": variant}
    assert study.groups.equals(study.groups_of("rtn"))
    assert study.table("t", lambda label: pd.DataFrame({"value": [1]}))["bits"].tolist() == [3]


def test_models_have_their_own_modules_on_shared_weights_and_few_are_kept(make: Make) -> None:
    study = make()
    for label in (FULL, "rtn-2bit-g16"):
        one, other = study.model(label), study.model(label)
        assert one.hf is not other.hf and one.name == label
        assert all(a is b for a, b in zip(one.hf.parameters(), other.hf.parameters(), strict=True))
    kept = study.runner(FULL)
    plain = study.base.hf(torch.tensor([[1, 2, 3]])).logits
    torch.testing.assert_close(kept.logits(torch.tensor([[1, 2, 3]])), plain, msg="the runner runs the base's weights")
    labels = ["rtn-8bit-g16", "rtn-4bit-g16", "rtn-2bit-g16"]
    study = make(bits=(8, 4, 2))
    first = [study.runner(label) for label in labels]
    assert study.runner(FULL) is study.runner(FULL)
    assert len(study._models) == held.VARIANTS_HELD == len(study._runners) - 1, "the oldest goes, and its runner"
    assert [study.runner(label) is old for label, old in zip(labels[1:], first[1:], strict=True)] == [True, True]
    study.runner(labels[1]), study.runner(labels[0])
    assert list(study._models) == [labels[1], labels[0]], "the one last used stays"
    models.check_pair(study.base, study.model("rtn-2bit-g16"))


@pytest.mark.parametrize("inside", [5, answers.INSIDE])
def test_last_streams_are_recorded_once_and_read_for_any_of_the_prompts(make: Make, monkeypatch, inside: int) -> None:
    monkeypatch.setattr(answers, "INSIDE", inside)
    study, label = make(), "rtn-2bit-g16"
    some, seen, run = study.probes.select([7, 1, 4]), [], Runner.run
    fresh = Trace.record(study.runner(label), some, ["resid_post"], "last", study.run / "apart")["resid_post"]
    for name in (FULL, label):
        study.scores(name)
    monkeypatch.setattr(Runner, "run", lambda self, ids, **k: seen.append(self.model.name) or run(self, ids, **k))
    np.testing.assert_allclose(study.last_streams(label, some), fresh, atol=1e-5)
    assert seen == ([] if inside > 5 else [label]), "a small study records a variant with its scores"
    whole = study.last_streams(FULL)
    np.testing.assert_array_equal(study.last_streams(FULL, some), whole[[7, 1, 4]])
    foreign = Probes([[3, 1, 2]], [[1]], np.array([[0, 0]]), pd.DataFrame({"prompt": ["?"]}), pd.DataFrame())
    assert study.last_streams(FULL, foreign).shape == (1, *whole.shape[1:])
    assert seen[-1] == FULL, "a prompt that is not among the study's is run"


# groups


def test_groups_split_the_known_facts_by_the_reference(make: Make) -> None:
    study = make(bits=2)
    full = study.scores(FULL)["rank"].to_numpy() == 1
    four = study.scores("rtn-4bit-g16")["rank"].to_numpy() == 1
    groups = study.groups
    assert full.sum() == 20 and four[full].sum() > 0
    assert (groups["known"] == full).all()
    assert (groups["robust"] == full & four).all() and (groups["failure"] == full & ~four).all()
    assert study.known.table["fact"].tolist() == np.flatnonzero(full).tolist()
    assert "rtn-4bit-g16" not in study.variants, "a reference is not among what was asked for"


def test_each_method_has_its_own_reference(make: Make) -> None:
    study = make(method="rtn,gptq", bits=3)
    assert {method: variant.label for method, variant in study.references.items()} == {
        "rtn": "rtn-4bit-g16", "gptq": "gptq-4bit-g16"}  # fmt: skip
    right = study.scores("gptq-4bit-g16")["rank"] == 1
    assert study.groups_of("gptq")["robust"].equals(study.groups_of("gptq")["known"] & right)
    assert study.groups.equals(study.groups_of("rtn"))


def test_a_model_that_answers_nothing(make: Make, asked: Path, tmp_path: Path) -> None:
    lines = asked.read_text().splitlines()[:5]
    (tmp_path / "wrong.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="answers none of 5 facts"):
        _ = make(facts=tmp_path / "wrong.jsonl").known


def test_what_is_looked_inside_is_a_draw_from_the_known_facts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make().inside.digest == make().known.digest, "all of them where there are few"
    monkeypatch.setattr(answers, "INSIDE", 8)
    study, other = make(), make(seed=1)
    drawn, known = study.inside.table["fact"].tolist(), study.known.table["fact"].tolist()
    assert len(set(drawn)) == 8 and set(drawn) < set(known) and drawn == sorted(drawn)
    assert other.inside.table["fact"].tolist() != drawn
    three, five = (set(study.sample(n).table["fact"]) for n in (3, 5))
    assert three < five < set(drawn) and study.sample(99).digest == study.inside.digest


def test_the_trace_is_of_known_facts_in_full_precision(make: Make) -> None:
    study = make()
    last = study.trace("resid_post", positions="last")["resid_post"]
    assert last.shape == (20, 3, 32)
    every = study.trace("resid_post", "mlp_out")
    assert every["mlp_out"].shape == (study.known.lengths.sum(), 3, 32)
    logits = study.runner(FULL).unembed(torch.tensor(last[:, -1]))
    assert (logits.argmax(-1).numpy() == [answers[0] for answers in study.known.answers]).all()


# tables


def test_a_table_is_tidy_and_on_disk(make: Make) -> None:
    study = make()
    table = study.table("stage", lambda label: pd.DataFrame({"value": [1.5, 2.5], "bits": [0, 0]}), study.labels)
    assert list(table.columns) == ["variant", "method", "bits", "group_size", "value"]
    assert table["variant"].tolist() == [label for label in study.labels for _ in range(2)]
    assert table["bits"].tolist() == [32, 32, 4, 4, 2, 2]
    assert table["method"].tolist()[:3] == ["full", "full", "rtn"]
    pd.testing.assert_frame_equal(tables.read(study.run / "stage.parquet"), table)


class Counting:
    """Computes a row per label and remembers for which it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, label: str) -> pd.DataFrame:
        self.asked.append(label)
        return pd.DataFrame({"value": [len(self.asked)]})


def test_a_table_is_computed_once(make: Make) -> None:
    counting = Counting()
    first = make().table("stage", counting, top=3)
    assert counting.asked == ["rtn-4bit-g16", "rtn-2bit-g16"]
    pd.testing.assert_frame_equal(make().table("stage", counting, top=3), first)
    pd.testing.assert_frame_equal(make(bits=2).table("stage", counting, top=3), first[1:].reset_index(drop=True))
    assert len(counting.asked) == 2
    make(bits="2,3").table("stage", counting, top=3)
    assert counting.asked[2:] == ["rtn-3bit-g16"]


@pytest.mark.parametrize(
    "change", [{"n_facts": 24}, {"seed": 1, "n_facts": 10}, {"group_size": 32}, {"dtype": "bfloat16"}]
)
def test_another_study_has_tables_of_its_own(make: Make, change: dict[str, Any]) -> None:
    counting = Counting()
    make(bits=4).table("stage", counting)
    make(bits=4, **change).table("stage", counting)
    assert len(counting.asked) == 2


def test_scores_serve_studies_of_other_methods_while_tables_know_their_references(make: Make) -> None:
    one, two = make(bits=2), make(bits=2, method="rtn,gptq")
    scores = one.scores("rtn-2bit-g16")
    assert (scores["kl"] > 0).all() and (one.scores(FULL)["kl"] == 0).all()
    two._score = lambda label: pytest.fail(f"{label} is scored again")
    pd.testing.assert_frame_equal(two.scores("rtn-2bit-g16"), scores)
    counting = Counting()
    one.table("stage", counting)
    two.table("stage", counting, ["rtn-2bit-g16"])
    assert len(counting.asked) == 2


def test_parameters_and_source_decide_what_is_reused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    study = make(bits=4)
    study.table("stage", counting, k=(1, 2))
    study.table("stage", counting, k=(1, 3))
    study.table("other", counting, k=(1, 2))
    assert len(counting.asked) == 3
    monkeypatch.setattr(shelf, "source_digest", lambda table: "another version")
    study.table("stage", counting, k=(1, 2))
    assert len(counting.asked) == 4


def test_another_calibration_text_is_another_gptq(make: Make, tmp_path: Path) -> None:
    counting = Counting()
    for word in ("one", "two"):
        (tmp_path / f"{word}.txt").write_text(f"{word} text\n" * 5)
        for method in ("gptq", "rtn"):
            make(method=method, bits=4, calibration=tmp_path / f"{word}.txt").table("stage", counting)
    assert counting.asked == ["gptq-4bit-g16", "rtn-4bit-g16", "gptq-4bit-g16"]


def test_the_readers_own_model_is_known_by_its_content(make: Make, tiny_llama: Path, tmp_path: Path) -> None:
    counting = Counting()
    for bits in (2, 3):
        made = quantize(tiny_llama, Scheme("rtn", bits, 16), (), tmp_path / "cache")
        folder = tmp_path / "mine"
        folder.unlink(missing_ok=True)
        folder.symlink_to(made)
        make(quantized=folder).table("stage", counting)
    assert counting.asked == ["mine", "mine"]


def test_a_killed_run_keeps_what_was_finished(make: Make) -> None:
    def killed(label: str) -> pd.DataFrame:
        if "2bit" in label:
            raise KeyboardInterrupt
        return pd.DataFrame({"value": [7]})

    with pytest.raises(KeyboardInterrupt):
        make().table("stage", killed)
    counting = Counting()
    assert make().table("stage", counting)["value"].tolist() == [7, 1]
    assert counting.asked == ["rtn-2bit-g16"]


def test_a_full_disk_keeps_what_was_finished(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = pd.DataFrame.to_parquet, []

    def fill(self: pd.DataFrame, target: Path, **options: Any) -> None:
        if len(written) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(target)
        real(self, target, **options)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fill)
    with pytest.raises(InputError, match="disk is full"):
        make().table("stage", Counting())
    monkeypatch.undo()
    counting = Counting()
    make().table("stage", counting)
    assert counting.asked == ["rtn-2bit-g16"]


# defaults and bad input


def test_only_the_defaults_are_the_default_study(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas, "MODEL", tiny_llama)
    monkeypatch.setattr(Scheme, "check", lambda self, config: None)
    monkeypatch.setattr(Study, "facts", None)
    (text := tmp_path / "text.txt").write_text("Some text to calibrate on.", encoding="utf-8")
    defaults = {"model": "atlas", "quantized": "", "method": "gptq", "bits": "4,3,2", "group_size": 128,
                "facts": "atlas", "text": "", "n_facts": 4000, "device": "auto", "dtype": "float32",
                "seed": 0}  # fmt: skip
    assert Study().is_default and Study(**defaults, run=tmp_path).is_default
    for change in ({"method": "awq"}, {"bits": 2}, {"group_size": 64}, {"n_facts": 999}, {"seed": 1},
                   {"model": tiny_llama}, {"dtype": "float16"}, {"calibration": str(text)}):  # fmt: skip
        assert not Study(**(defaults | change)).is_default, change
    assert Study(bits="8,4").is_default_but(bits="8,4") and not Study(bits="8,4").is_default_but(bits="8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "somewhere/else"}, "not a folder"),
        ({"quantized": "somewhere/else"}, "not a folder"),
        ({"bits": "4,many"}, "bits is 'many'; give a whole number"),
        ({"bits": ""}, "give a whole number"),
        ({"bits": []}, "no bits are given"),
        ({"method": ""}, "method is ''"),
        ({"method": []}, "no method is given"),
        ({"method": "magic"}, "method is 'magic'"),
        ({"bits": 1}, "1 bits"),
        ({"group_size": 24}, "group size 24"),
        ({"group_size": "2.5"}, "group_size is '2.5'"),
        ({"n_facts": 0}, "at least one fact"),
        ({"seed": "soon"}, "seed is 'soon'"),
        ({"facts": "nothing.jsonl"}, "no fact source"),
        ({"text": "nothing.txt"}, "no text file nothing.txt"),
        ({"calibration": "nothing.txt"}, "no calibration text .nothing.txt."),
        ({"device": "tpu"}, "unknown device"),
        ({"dtype": "int8"}, "unknown dtype"),
    ],
)
def test_bad_arguments(make: Make, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**change)


def test_models_that_cannot_be_studied(make: Make, tiny_llama: Path, tiny_gemma: Path, tmp_path: Path) -> None:
    made = quantize(tiny_llama, Scheme("rtn", 4, 16), (), tmp_path / "cache")
    with pytest.raises(InputError, match="quantized already"):
        make(model=made)
    with pytest.raises(InputError, match="states no quantization"):
        make(quantized=tiny_llama)
    with pytest.raises(InputError, match="not a pair"):
        make(quantized=quantize(tiny_gemma, Scheme("rtn", 4, 16), (), tmp_path / "cache"))
    config = json.loads((made / "config.json").read_text())
    config["quantization_config"]["config_groups"] = {}
    (made / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not state its bits"):
        make(quantized=made)


def test_an_unknown_variant(make: Make) -> None:
    with pytest.raises(InputError, match="no variant 'rtn-3bit-g16'; this study has full, rtn-4bit-g16, rtn-2bit-g16"):
        make().runner("rtn-3bit-g16")


def test_a_served_variant_runs_on_the_models_own_weights_and_has_tables_of_its_own(tmp_path: Path) -> None:
    study = Study("atlas", method="rtn", bits="4", n_facts=30, run=tmp_path)
    coarse, fine = (Served(keys=by_token(bits, False)) for bits in (2, 8))
    one, two = (study.serve(name, served) for name, served in (("K2", coarse), ("K8", fine)))
    other = study.serve("W4K8", fine, of="rtn-4bit-g128", method="both", bits=4)
    assert list(study.variants) == ["rtn-4bit-g128", one, two, other]
    ranks = {label: study.scores(label)["kl"].mean() for label in study.variants}
    assert ranks["K2"] > 10 * ranks["K8"] and ranks["W4K8"] > 10 * ranks["K8"]
    labels = ("K8", "W4K8", "rtn-4bit-g128")
    weight = {label: study.model(label).hf.model.layers[0].mlp.up_proj.weight for label in labels}
    assert torch.equal(weight["K8"], study.base.hf.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(weight["W4K8"], weight["rtn-4bit-g128"]) and not torch.equal(weight["W4K8"], weight["K8"])
    row = study.scores("W4K8").iloc[0]
    assert (row["method"], row["bits"], row["variant"]) == ("both", 4, "W4K8")
    assert study.serve("K2", coarse) == "K2"
    with pytest.raises(InputError, match="another variant 'K2'"):
        study.serve("K2", fine)
