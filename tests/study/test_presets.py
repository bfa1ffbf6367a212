"""What a study starts from: every entry of the file fits its model, and an unknown model gets what fits it."""

import pytest
from tiny import SIZES, save
from transformers import LlamaConfig, LlamaForCausalLM

from quantcliff import models, quantizers, smollm2
from quantcliff.atlas import MODEL
from quantcliff.errors import InputError
from quantcliff.study import preset_of
from quantcliff.study.parameters import DEFAULTS
from quantcliff.study.presets import GROUP_SIZES, known


def test_the_embedded_models_preset_is_the_study_the_book_was_written_about():
    own = preset_of("atlas").parameters
    assert own == {name: DEFAULTS[name] for name in own}
    assert preset_of(MODEL) == preset_of("atlas")


@pytest.mark.parametrize("name", list(known()))
def test_every_entry_can_be_used(name):
    preset = known()[name]
    models.check_dtype(preset.dtype)
    quantizers.check_calibration(preset.calibration)
    assert set(preset.methods) <= set(quantizers.METHODS)
    assert all(2 <= bits <= 8 for bits in preset.widths)
    assert preset.facts in ("atlas", "smollm2")
    assert not preset.note


def test_the_papers_entry_is_the_papers_set_up():
    paper = preset_of("anything", "paper")
    assert len(paper.models) == 4
    assert (paper.methods, paper.widths, paper.group_size) == (("gptq",), (8, 4, 3, 2), 128)
    assert quantizers.sizes_of(paper.calibration) == (128, 2048)
    assert paper.parameters["method"] == "gptq"
    with pytest.raises(InputError, match=r"paper'? is not a folder"):
        preset_of("paper")


@pytest.mark.skipif(not smollm2.folder().is_dir(), reason=f"SmolLM2 is not on this machine; {smollm2.HOW}")
def test_smollm2_is_known_by_name_and_by_folder():
    preset = preset_of("smollm2")
    assert preset_of(smollm2.folder()) == preset
    config = models.config_of("smollm2")
    for method in preset.methods:
        quantizers.check(quantizers.Scheme(method=method, group_size=preset.group_size), config)
    with pytest.raises(InputError, match="does not divide"):
        quantizers.check(quantizers.Scheme(group_size=128), config)


@pytest.mark.parametrize(("hidden", "ffn", "expected"), [(128, 256, 128), (64, 256, 64), (128, 192, 64), (96, 64, 32),
                                                         (48, 96, -1)])  # fmt: skip
def test_an_unknown_model_gets_the_largest_group_that_divides_all_its_rows(hidden, ffn, expected, tmp_path):
    sizes = SIZES | {"hidden_size": hidden, "intermediate_size": ffn, "num_attention_heads": 2, "num_hidden_layers": 1}
    folder = save(LlamaForCausalLM(LlamaConfig(**sizes, bos_token_id=0, eos_token_id=0)), tmp_path / "mine")
    preset = preset_of(folder)
    assert preset.group_size == expected
    assert quantizers.sizes_of(preset.calibration)
    quantizers.check(quantizers.Scheme(group_size=preset.group_size), models.config_of(folder))
    larger = [size for size in GROUP_SIZES if size > max(expected, 0)]
    for size in larger if expected != -1 else GROUP_SIZES:
        with pytest.raises(InputError, match="does not divide"):
            quantizers.check(quantizers.Scheme(group_size=size), models.config_of(folder))
    words = "one group per row" if expected == -1 else f"groups of {expected}"
    assert preset.note.startswith(f"mine has no preset: {words}")
    assert ("128 does not divide" in preset.note) == (expected != 128)


def test_what_is_given_wins_and_what_is_not_asked_for_stays_out():
    preset = preset_of("smollm2", "smollm2")
    filled = preset.fill({"group_size": 32, "bits": "2"}, {"group_size", "facts"})
    assert filled == {"group_size": 32, "bits": "2", "facts": "smollm2"}


def test_an_unknown_preset_is_named():
    with pytest.raises(InputError, match="there is no preset 'mine'; choose one of atlas, smollm2, paper"):
        preset_of("atlas", "mine")

