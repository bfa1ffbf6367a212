"""The ways: labels, and that each is run with the weights and the settings that its name says."""

import pytest

from quantcliff.atlas import MODEL
from quantcliff.stages.activations import ways
from quantcliff.study import FULL, Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study("atlas", method="rtn", bits="8,4", n_facts=20, run=tmp_path_factory.mktemp("run"))


def test_every_label_is_used_once() -> None:
    scales = {"all": {"a": 1.0}, "rest": {"a": 0.5}}
    every = [
        *ways.weights_alone(),
        *ways.inputs(),
        *ways.static(scales),
        *ways.together(),
        *ways.cache(),
        *ways.repaired(),
    ]
    assert len({way.label for way in every}) == len(every)
    assert all(way.intact == (way.weights == 16) for way in every)
    assert all(way.served or way.what == "weights" for way in every)


def test_static_scales_reach_to_the_largest_input() -> None:
    plain, first = ways.static({"all": {"a": 7.5}, "rest": {"a": 1.5}}, [4])
    assert plain.served and first.served
    assert plain.served.scales == {"a": 1.0} and not plain.served.first
    assert first.served.scales == {"a": 0.2} and first.served.first


def test_kivi_gives_keys_a_scale_by_channel_and_values_one_by_token() -> None:
    found = {way.label: way.served for way in ways.cache([2])}
    kivi = found["KV2 KIVI"]
    assert kivi and kivi.keys and kivi.values
    assert (kivi.keys["strategy"], kivi.values["strategy"]) == ("channel", "group")
    assert kivi.keys["group_size"] == kivi.values["group_size"] == 32
    assert not kivi.keys["symmetric"] and found["K2"] and found["K2"].values is None
    assert found["V2"] and found["V2"].keys is None and found["V2"].values == found["KV2"].values


@pytest.mark.parametrize(("head", "size"), [(16, 16), (24, 8), (64, 32)])
def test_values_share_scales_within_a_head(head: int, size: int) -> None:
    served = {way.label: way.served for way in ways.cache([2], head)}["KV2 KIVI"]
    assert served and served.values and served.values["group_size"] == size


def test_ways_take_their_weights_from_the_study(study: Study) -> None:
    labels = ways.add(study, [*ways.weights_alone([8, 4]), *ways.inputs([4]), *ways.together([(4, 4), (8, 8)])])
    assert labels == {
        "W8A16": "rtn-8bit-g128",
        "W4A16": "rtn-4bit-g128",
        "W16A4": "W16A4",
        "W4A4": "W4A4",
        "W8A8": "W8A8",
    }
    paths = {label: study.variant(label).path for label in ("W4A4", "W8A8", "W16A4")}
    assert paths["W4A4"] == study.variant("rtn-4bit-g128").path
    assert paths["W8A8"] == study.variant("rtn-8bit-g128").path
    assert paths["W16A4"] == MODEL
    assert study.variant("W4A4").served.inputs["num_bits"] == 4
    assert FULL not in study.variants
    assert ways.add(study, ways.together([(4, 4)])) == {"W4A4": "W4A4"}, "the weights are not those of another way"
