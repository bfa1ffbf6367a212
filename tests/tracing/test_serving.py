"""What a model quantizes while it runs: every fake quantizer acts in a prompt that is read in one pass."""

from pathlib import Path

import pytest
import torch
from compressed_tensors.modeling import kvcache
from tiny import save
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.models import Served, by_tensor, by_token, in_groups, serve
from quantcliff.tracing import Runner, serving
from quantcliff.tracing.past import resumes
from quantcliff.tracing.serving import fake, hadamard

IDS = torch.tensor([[0, 5, 17, 200, 31, 8, 99, 4, 300, 12], [0, 77, 3, 41, 250, 9, 0, 0, 0, 0]])
LAST = torch.tensor([9, 5])


@pytest.fixture
def base(tiny_llama: Path) -> models.Model:
    return models.load(tiny_llama)


def running(base: models.Model, **what: object) -> Runner:
    return Runner(serve(models.twin(base), Served(**what)))  # type: ignore[arg-type]


def states(
    base: models.Model, monkeypatch: pytest.MonkeyPatch, **what: object
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """What goes into every cache and what comes out of it, by "k" and "v", in a pass over `IDS`."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {"k": [], "v": []}
    own = serving.Serving._rounded

    def spy(self: object, settings: dict, name: str, module: nn.Module, before: Tensor) -> Tensor:
        after = own(self, settings, name, module, before)  # type: ignore[arg-type]
        seen[name[-1]].append((before, after))
        return after

    monkeypatch.setattr(serving.Serving, "_rounded", spy)
    running(base, **what).run(IDS, last=LAST)
    return seen


def on_grid(before: Tensor, after: Tensor, bits: int) -> bool:
    """Whether every row (last axis) came out on 2^bits evenly spaced levels from its least to its largest number, 0
    among them, and none moved by more than a step."""
    top, bottom = before.clamp(min=0).amax(-1, keepdim=True), before.clamp(max=0).amin(-1, keepdim=True)
    step = (top - bottom) / (2**bits - 1)
    codes = after / step
    whole = torch.allclose(codes, codes.round(), atol=1e-3)
    span = (codes.amax(-1) - codes.amin(-1)).max() <= 2**bits - 1 + 1e-3
    return bool(whole and span and ((before - after).abs() <= 1.01 * step).all())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_linear_layers_read_inputs_on_the_grid_of_their_token(
    base: models.Model, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    runner, read = running(base, inputs=by_token(bits)), []
    plain = nn.Linear.forward

    def spy(self: nn.Linear, x: Tensor) -> Tensor:
        read.append((self, x))
        return plain(self, x)

    monkeypatch.setattr(nn.Linear, "forward", spy)
    _, before = runner.run(IDS, record=["blocks.0.attn.hook_in"], last=LAST)
    layers = [x for module, x in read if hasattr(module, "quantization_scheme")]
    assert len(layers) == 3 * 7
    assert all(len(row.unique()) <= 2**bits for x in layers for row in x.flatten(0, -2))
    codes = layers[0] / (before["blocks.0.attn.hook_in"].abs().amax(-1, keepdim=True) / ((2**bits - 1) / 2))
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert codes.abs().max() <= 2 ** (bits - 1)


@pytest.mark.parametrize(("what", "group"), [("token", 8), ("group", 4)])
@pytest.mark.parametrize("bits", [2, 3])
def test_keys_and_values_come_out_of_the_cache_on_the_grid_of_their_token_and_head(
    base: models.Model, monkeypatch: pytest.MonkeyPatch, what: str, group: int, bits: int
) -> None:
    own = by_token(bits, symmetric=False) if what == "token" else in_groups(bits, group)
    seen = states(base, monkeypatch, keys=own, values=own)
    for kind in ("k", "v"):
        assert len(seen[kind]) == 3
        for before, after in seen[kind]:
            assert not torch.equal(before, after)
            assert on_grid(before.unflatten(-1, (-1, group)), after.unflatten(-1, (-1, group)), bits)


@pytest.mark.parametrize("bits", [2, 3])
def test_keys_by_channel_share_a_scale_over_the_tokens_of_their_own_prompt(
    base: models.Model, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    seen = states(base, monkeypatch, keys=in_groups(bits, 4, "channel"))
    assert not seen["v"]
    for before, after in seen["k"]:
        for row, length in enumerate((LAST + 1).tolist()):
            for start in range(0, length, 4):
                tokens = slice(start, min(start + 4, length))
                assert on_grid(before[row, :, tokens].mT, after[row, :, tokens].mT, bits)


def test_padding_and_company_change_nothing(base: models.Model) -> None:
    """The short prompt alone, without padding, gives what it gives in a batch."""
    for what in (
        {"keys": in_groups(2, 4, "channel"), "values": in_groups(2, 4)}, {"inputs": by_token(3), "first": True},
        {"keys": by_token(2), "values": by_token(2), "largest": 2}, {"inputs": by_token(3), "largest": 2},
    ):  # fmt: skip
        runner = running(base, **what)
        together = runner.run(IDS, last=LAST)[0][1]
        alone = runner.run(IDS[1:, :6], last=LAST[1:])[0][0]
        assert torch.allclose(together, alone, atol=1e-4), what


def test_the_cache_of_the_plain_model_agrees(base: models.Model, tiny_llama: Path) -> None:
    """A second way: compressed-tensors' hooks on the model as transformers runs it, with no TransformerLens."""
    keys, values = by_token(2, symmetric=False), in_groups(3, 4)
    own = running(base, keys=keys, values=values).logits(IDS)
    hf = models.load(tiny_llama).hf
    for layer in hf.model.layers:
        kvcache.initialize_hooked_kv_cache(hf, layer.self_attn)
        whole = keys | {"strategy": "group", "group_size": 8}
        kvcache.register_key_hook(layer.self_attn, lambda module, x, whole=whole: fake(x, whole))
        kvcache.register_value_hook(layer.self_attn, lambda module, x: fake(x, values))
    with torch.no_grad():
        other = hf(IDS, use_cache=False).logits
    assert torch.allclose(own, other, atol=1e-4)
    assert not torch.allclose(own, Runner(models.load(tiny_llama)).logits(IDS), atol=1e-2)


def test_keys_are_rounded_after_rotary_positions(base: models.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = states(base, monkeypatch, keys=by_token(2))
    plain = Runner(models.twin(base))
    _, read = plain.run(IDS, record=["blocks.0.attn.hook_rot_k"])
    assert torch.allclose(seen["k"][0][0].transpose(1, 2), read["blocks.0.attn.hook_rot_k"], atol=1e-5)


def test_sixteen_bits_are_the_plain_model(base: models.Model) -> None:
    plain = Runner(models.twin(base)).logits(IDS)
    fine = by_token(16, symmetric=False)
    for what in ({"inputs": by_token(16)}, {"inputs": by_token(16), "rotated": True}, {"keys": fine, "values": fine}):
        assert torch.allclose(running(base, **what).logits(IDS), plain, atol=0.02), what


def test_a_static_scale_clips_and_rounds_to_what_it_says(base: models.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = dict.fromkeys(models.linears(base.hf.config), 0.25)
    runner, read = running(base, inputs=by_tensor(3), scales=scales), []
    plain = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: (read.append((self, x)), plain(self, x))[1])
    runner.run(IDS, last=LAST)
    layers = [x for module, x in read if hasattr(module, "quantization_scheme")]
    assert all(set((x / 0.25).unique().tolist()) <= set(range(-4, 4)) for x in layers)


def test_tokens_that_are_left_alone_keep_their_numbers(base: models.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many left alone as there are, nothing is quantized; with the first, that one is exact in every cache."""
    plain = Runner(models.twin(base)).run(IDS, last=LAST)[0]
    for what in ({"inputs": by_token(2)}, {"keys": by_token(2), "values": by_token(2)}):
        assert torch.allclose(running(base, **what, largest=10).run(IDS, last=LAST)[0], plain, atol=1e-4)
        assert not torch.allclose(running(base, **what, largest=3).run(IDS, last=LAST)[0], plain, atol=1e-2)
    seen = states(base, monkeypatch, keys=by_token(2), first=True)
    before, after = seen["k"][2]
    assert torch.equal(before[:, :, 0], after[:, :, 0]) and not torch.equal(before[:, :, 1], after[:, :, 1])


def test_largest_takes_the_largest_that_are_no_padding(base: models.Model) -> None:
    own = serving.Serving(models.twin(base).hf, Served(inputs=None, first=True, largest=1))
    own.lengths = torch.tensor([4, 2])
    size = torch.tensor([[9.0, 1.0, 7.0, 2.0], [9.0, 1.0, 7.0, 2.0]])
    expected = [[True, False, True, False], [True, True, False, False]]
    assert own.alone(size).tolist() == expected


def test_one_layers_keys_or_values_can_be_left_alone(base: models.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    own = by_token(2)
    seen = states(base, monkeypatch, keys=own, values=own, keys_left=(1,), values_left=(0, 2))
    assert (len(seen["k"]), len(seen["v"])) == (2, 1)


def test_a_rotation_keeps_the_model_and_spreads_a_large_channel() -> None:
    turn = hadamard(64)
    assert torch.allclose(turn @ turn.T, torch.eye(64), atol=1e-5)
    spike = torch.zeros(1, 64)
    spike[0, 3] = 8
    assert (spike @ turn).abs().max() == 1.0


def test_weights_stay_shared_and_whole(base: models.Model) -> None:
    """Neither quantized inputs nor rotated weights touch the model that others share."""
    before = {name: weight.clone() for name, weight in base.hf.state_dict().items()}
    running(base, inputs=by_token(2), rotated=True, keys=by_token(2)).logits(IDS)
    assert all(torch.equal(weight, before[name]) for name, weight in base.hf.state_dict().items())
    assert not any(hasattr(module, "quantization_scheme") for module in base.hf.modules())


def test_a_served_model_has_a_name_of_its_own_and_reads_prompts_whole(base: models.Model) -> None:
    one, two = (serve(base, Served(keys=by_token(bits))) for bits in (2, 3))
    assert len({base.digest, one.digest, two.digest}) == 3
    assert serve(base, None) is base
    assert not resumes(running(base, keys=by_token(2)))
    assert resumes(Runner(models.twin(base)))


def test_a_layer_fed_with_a_stream_quantizes_it_too(base: models.Model) -> None:
    """Clean input into the upper layers: what patching and relays do."""
    plain, own = Runner(models.twin(base)), running(base, inputs=by_token(2))
    _, read = plain.run(IDS, record=["blocks.2.hook_resid_pre"])
    stream = read["blocks.2.hook_resid_pre"]
    assert not torch.allclose(
        own.run(stream, start_layer=2, last=LAST)[0], plain.run(stream, start_layer=2, last=LAST)[0], atol=1e-2
    )


def test_the_last_token_alone_is_what_it_is_among_all(base: models.Model) -> None:
    """Where the head runs at last tokens only, the last block still sees which token is the first."""
    runner = running(base, inputs=by_token(2), first=True)
    whole = runner.logits(IDS[:1])[:, -1]
    assert torch.allclose(runner.run(IDS[:1], last=LAST[:1])[0], whole, atol=1e-5)


def test_inputs_that_cannot_be_quantized_are_said_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    gpt2 = models.load(save(GPT2LMHeadModel(config), tmp_path / "gpt2"))
    with pytest.raises(InputError, match=r"c_attn is a Conv1D, .* look at this model's weights or cache"):
        Runner(serve(gpt2, Served(inputs=by_token(8))))
