"""Controls and the charts that follow them: what is in their tables, and that a browser redraws when one is moved."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from quantcliff.charts import controls, dissect, slider, vega_bundle
from quantcliff.stages.smollm2 import Shipped
from quantcliff.stages.verdict.signals import SIGNALS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

MODELS = controls.Choice("c", "Model", {"": {"a&b": "A & B", "x": "X"}})
BAR = controls.Slider("s", "Bits", ["8 bits", "2 bits"], 0), MODELS


def test_inputs_have_labels_and_escape_what_they_show():
    page = controls.bar("bar", *BAR).data
    assert page.count("<label for=") == 2 and 'id="s"' in page and 'id="c"' in page
    assert "A &amp; B" in page and "A & B" not in page
    assert controls.Choice("c", "M", {"g": {"x": "X"}}).html.count("optgroup") == 2


def test_a_sentence_cannot_end_its_script():
    page = controls.told("bar", {"0|x": "one </script><b>two"}).data
    stored = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(stored) == {"0|x": "one </script><b>two"} and "<b>" not in page.split("<script")[0]


def steps() -> pd.DataFrame:
    real = Shipped()
    verdict, components = real.table("verdict"), real.table("components")
    lens = pd.DataFrame(
        [{"method": method, "bits": bits, "layer": layer, "measure": "rank_median", "estimate": 30.0 - layer,
          "low": 1.0, "high": 90.0} for method, bits in (("full", 32), ("gptq", 4), ("gptq", 2)) for layer in range(30)]
    )  # fmt: skip
    return slider.steps("SmolLM2", verdict, lens, components, "gptq")


def test_steps_are_the_stages_own_numbers():
    found, verdict = steps(), Shipped().table("verdict")
    assert slider.widths(found) == [8, 4, 3, 2]
    kept = found[(found["stage"] == slider.KEPT) & (found["bits"] == 3)]["value"].item()
    own = verdict[(verdict["signal"] == "accuracy kept") & (verdict["method"] == "gptq") & (verdict["bits"] == 3)]
    assert kept == pytest.approx(own["value"].item(), abs=1e-4)
    cka = found[(found["stage"] == slider.CKA) & (found["bits"] == 2)].set_index("layer")["value"]
    row = verdict.query("signal == 'CKA diagonal' and method == 'gptq' and bits == 2 and layer == 29")
    assert cka[29] == pytest.approx(row["value"].item(), abs=1e-4) and len(cka) == 30
    assert found["depth"].max() == 1 and (found[found["stage"] == slider.LENS]["bits"] == slider.WHOLE).sum() == 30
    assert (found[found["stage"] == slider.SEVERITY].groupby("bits").size() <= len(SIGNALS)).all()


def test_a_turn_is_the_step_of_the_largest_change():
    rows = [{"model": "m", "bits": bits, "stage": slider.KEPT, "line": "", "depth": np.nan, "value": value}
            for bits, value in ((8, 1.0), (4, 0.9), (3, 0.2), (2.5, 0.9), (2, 0.0))]  # fmt: skip
    (turn,) = slider.turns(pd.DataFrame(rows)).to_dict("records")
    assert turn == {"model": "m", "stage": "answers kept", "step": "4 to 3 bits", "share": pytest.approx(0.7)}


def test_every_place_of_the_slider_has_a_sentence():
    found = steps()
    said = slider.sentences(found, {("SmolLM2", 2.0): "computation collapse"})
    assert list(said) == [f"SmolLM2|{place}" for place in range(4)]
    assert said["SmolLM2|3"].startswith("SmolLM2 at 2 bits keeps 0.0% of its answers; verdict: computation collapse.")


def cases() -> pd.DataFrame:
    rows = []
    for variant, method, bits, rank in (("full", "full", 32, 1), ("gptq-2bit", "gptq", 2, 7)):
        about = {"variant": variant, "method": method, "bits": bits, "fact": 0}
        rows += [about | {"what": "said", "place": n, "token": f" w{n}", "probability": 0.5 / n} for n in range(1, 6)]
        lens = {"what": "lens"}
        rows += [about | lens | {"layer": n, "probability": n / 10, "rank": r} for n, r in enumerate((9, rank))]
        if method != "full":
            rows += [about | {"what": "patch", "layer": n, "probability": 0.4, "rank": 1} for n in range(2)]
        rows += [about | {"what": "attention", "layer": n, "place": p, "probability": 0.25 + p / 2}
                 for n in range(2) for p in range(2)]  # fmt: skip
    one = {"fact": 0, "kind": "easy victim", "prompt": "A b", "right": "c", "tokens": ["A", " b"]}
    facts = pd.DataFrame([one])
    return dissect.cases("m", pd.DataFrame(rows), facts)


def test_cases_hold_each_layer_in_order():
    full, own = cases().sort_values("method").to_dict("records")
    assert full["method"] == "full" and own["rank"] == [9, 7] and own["patched_rank"] == [1, 1]
    assert own["attention"] == [[25, 75], [25, 75]] and own["tokens"] == ["1 A", "2 b"]
    said = dissect.sentences(cases())["m 0|gptq|0"]
    assert said == (
        'GPTQ at 2 bits says "w1" (50%). The right answer, c, is at rank 7 with 10.0% (full precision 10%). '
        "With clean input it comes back after layer 0."
    )


def test_every_chart_says_what_it_shows():
    found, table = steps(), cases()
    charts = [slider.kept(found), slider.severity(found)]
    stages = (slider.LENS, slider.PATCH, slider.CKA, slider.PARTS)
    charts += [slider.by_depth(found, stage, "Title", "axis") for stage in stages]
    charts += [dissect.said(table, True), dissect.lens(table), dissect.patches(table), dissect.attention(table, False)]
    for chart in charts:
        spec = chart.to_dict()
        assert len(spec["description"]) > 60 and len(spec["params"]) >= 2
        assert all(param["bind"]["element"].startswith("#") for param in spec["params"] if "bind" in param)


MOVE = """
<script>
setTimeout(() => {
  const slider = document.getElementById("cliff-bits");
  slider.value = 3;
  slider.dispatchEvent(new Event("input"));
  setTimeout(() => {
    const points = document.querySelectorAll("#chart svg [aria-roledescription='point']");
    const marks = [...points].map(point => point.getAttribute("aria-label"));
    const said = document.querySelector("#cliff-told p").textContent;
    const pre = document.body.appendChild(document.createElement("pre"));
    pre.id = "result";
    pre.textContent = JSON.stringify({marks, said, named: slider.getAttribute("aria-valuetext")});
  }, 1500);
}, 2500);
</script>
"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_a_moved_slider_moves_the_chart_and_the_sentence(tmp_path):
    found = steps()
    drawn = f'<div id="chart" style="width:400px">{slider.kept(found)._repr_mimebundle_()["text/html"]}</div>'
    bar = controls.bar("cliff", *slider.controls(found)).data + controls.told("cliff", slider.sentences(found, {})).data
    page = tmp_path / "page.html"
    page.write_text(f"<html><head><script>{vega_bundle()}</script></head><body>{bar}{drawn}{MOVE}</body></html>")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path / 'profile'}",
             "--virtual-time-budget=20000"]  # fmt: skip
    done = subprocess.run([CHROMIUM, *flags, f"file://{page}"], capture_output=True, text=True, check=True, timeout=120)
    result = json.loads(html.unescape(re.search(r'<pre id="result">(.+?)</pre>', done.stdout, re.DOTALL)[1]))
    assert result["named"] == "2 bits" and result["said"].startswith("SmolLM2 at 2 bits keeps 0.0%")
    assert sum("bits: 2" in label for label in result["marks"]) >= 2, result["marks"]
