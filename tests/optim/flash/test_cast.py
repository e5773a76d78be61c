from __future__ import annotations

import collections
import copy
import dataclasses
import io
import pickle
import random
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hasten._core.surgery import NoEffectWarning
from hasten.optim.flash.cast import cast_floats, cast_model

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    return {name: value.dtype for name, value in [*model.named_parameters(), *model.named_buffers()]}


class Rotary(nn.Module):
    """A rotary embedding as language models write it: the angles are computed in float32, their sines cast back."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, 8, 2).float() / 8))

    def forward(self, x: Tensor) -> Tensor:  # (time, 8)
        angles = torch.arange(len(x))[:, None] * self.inv_freq
        sin, cos = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def decoder() -> nn.Module:
    model = nn.Module()
    model.embed = nn.Embedding(10, 8)
    model.rotary = Rotary()
    model.norm = nn.LayerNorm(8)
    model.head = nn.Linear(8, 10)
    return model


def test_weights_are_cast_and_frequencies_are_not() -> None:
    model = decoder()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    report = cast_model(model)
    assert dtypes(model) == {**dict.fromkeys(before, BF16), "rotary.inv_freq": FP32}
    assert set(report.changed) == set(before)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name].to(BF16))
    wave = model.rotary(torch.ones(4097, 8))
    assert torch.equal(wave, Rotary()(torch.ones(4097, 8))), "no phase error at position 4096"


@pytest.mark.parametrize(
    ("keep", "frequencies", "other"), [(True, FP32, FP32), (False, BF16, BF16), (("*.inv_freq",), FP32, BF16),
                                       ("rotary.*", FP32, BF16), ((), BF16, BF16)],
)  # fmt: skip
def test_buffers_on_request(keep: Any, frequencies: torch.dtype, other: torch.dtype) -> None:
    model = decoder()
    model.register_buffer("scale", torch.ones(2))
    model.register_buffer("count", torch.ones(2, dtype=torch.int64))
    cast_model(model, keep_buffers=keep)
    assert (model.rotary.inv_freq.dtype, model.scale.dtype, model.count.dtype) == (frequencies, other, torch.int64)


@pytest.mark.parametrize("selective", [True, False])
@pytest.mark.parametrize("keep_buffers", [True, False])
def test_norms_with_running_statistics(selective: bool, keep_buffers: bool) -> None:
    class Own(nn.BatchNorm1d):
        pass

    norms = [
        nn.BatchNorm2d(3),
        nn.SyncBatchNorm(3),
        Own(3),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
    ]
    model = nn.Sequential(*norms, nn.GroupNorm(1, 3), nn.LayerNorm(3))
    cast_model(model, selective=selective, keep_buffers=keep_buffers)
    for norm in model[:4]:
        assert norm.weight.dtype == norm.bias.dtype == (FP32 if selective else BF16)
        assert norm.running_mean.dtype == norm.running_var.dtype == (FP32 if selective or keep_buffers else BF16)
    assert model[4].weight.dtype == model[5].weight.dtype == BF16


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_a_convolutional_network_trains(dtype: torch.dtype) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.InstanceNorm2d(8, affine=True), nn.Flatten(), nn.Linear(32, 2)
    )  # fmt: skip
    cast_model(model, dtype)
    model(torch.randn(4, 3, 4, 4, dtype=dtype)).float().square().mean().backward()
    assert all(p.grad.dtype == p.dtype for p in model.parameters())
    assert model[1].weight.grad.dtype == FP32


# Ties ---------------------------------------------------------------------------------------------------------------


def random_model(draw: random.Random) -> nn.Module:
    """Modules that share parameters and buffers at random; some are empty, some are views of others."""
    model, pool = nn.Module(), []
    for i in range(draw.randint(1, 12)):
        child = nn.Module()
        for j in range(draw.randint(0, 3)):
            kind = draw.choice(["new", "tied", "tied", "empty", "view", "buffer"])
            if kind == "tied" and pool:
                value = draw.choice(pool)
            elif kind == "view" and pool:
                base = draw.choice(pool)
                value = nn.Parameter(base.detach()[: max(1, len(base) // 2)])
            elif kind == "empty":
                value = nn.Parameter(torch.empty(draw.choice([(0,), (0, 3), (0, 7), (7, 0)])))
            else:
                shape = draw.choice([(4,), (4, 3), (16, 5), (64, 64)])
                value = torch.randn(shape)
                value = value if kind == "buffer" else nn.Parameter(value)
            pool.append(value)
            if isinstance(value, nn.Parameter):
                child.register_parameter(f"p{j}", value)
            else:
                child.register_buffer(f"b{j}", value)
        setattr(model, f"m{i}", child)
    return model


def everything(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        *model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)
    ]  # fmt: skip


def test_random_ties_stay_what_they_were() -> None:
    draw = random.Random(0)
    tied = empty = 0
    for _ in range(400):
        model = random_model(draw)
        before = [(name, id(value), value.detach().clone()) for name, value in everything(model)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of shared memory, and of models without parameters
            cast_model(model, keep_buffers=False)
        after = everything(model)
        assert [(name, id(value)) for name, value in after] == [(name, key) for name, key, _ in before]
        for (name, value), (_, _, old) in zip(after, before, strict=True):
            assert value.dtype == BF16
            assert value.shape == old.shape, name
            assert torch.equal(value, old.to(BF16)), name
        tied += len(before) - len({key for _, key, _ in before})
        empty += sum(not value.numel() for _, value in after)
    assert tied > 400
    assert empty > 400


def test_a_tied_head_trains_as_one() -> None:
    model = decoder()
    model.head.weight = model.embed.weight
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    cast_model(model)
    assert model.head.weight is model.embed.weight
    model.head(model.norm(model.embed(torch.tensor([1])))).float().sum().backward()
    optimizer.step()
    assert model.head.weight is model.embed.weight
    assert any(p is model.embed.weight for p in optimizer.param_groups[0]["params"])


def test_a_tie_into_a_kept_layer_keeps_the_parameter_and_says_so() -> None:
    model = decoder()
    model.head.weight = model.embed.weight
    with pytest.warns(UserWarning, match=r"embed\.weight stays in full precision.*full_precision_recast_layers"):
        cast_model(model, full_precision_layers=["head"])
    assert model.head.weight is model.embed.weight
    assert model.embed.weight.dtype == FP32
    both = decoder()
    both.head.weight = both.embed.weight
    cast_model(both, full_precision_layers="head", full_precision_recast_layers="embed")
    assert both.embed(torch.tensor([1])).dtype == BF16
    assert both.head(both.norm(both.embed(torch.tensor([1])))).dtype == FP32


def test_parameters_over_one_memory_come_apart_with_a_warning() -> None:
    model = nn.Module()
    model.whole = nn.Parameter(torch.arange(6.0))
    model.part = nn.Parameter(model.whole.data[:3])
    with pytest.warns(UserWarning, match="part and whole lie in one memory and come apart"):
        cast_model(model)
    assert torch.equal(model.part, torch.arange(3, dtype=BF16))
    assert torch.equal(model.whole, torch.arange(6, dtype=BF16))


# Kept layers --------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(4, 4)

    def forward(self, x: Tensor, *, context: dict[str, Any], index: Tensor | None = None) -> tuple[Tensor, dict]:
        keys, (bias,) = context["keys"], context["bias"]
        assert x.dtype == keys.dtype == bias.dtype == FP32
        assert index is None or index.dtype == torch.int64
        return self.query(x) @ keys + bias, {"scores": [x]}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        context = {"keys": x.transpose(0, 1) @ x, "bias": (x.sum(),)}
        y, extra = self.attention(x, context=context, index=torch.zeros(1, dtype=torch.int64))
        assert y.dtype == extra["scores"][0].dtype == context["keys"].dtype == BF16, "outputs cast, inputs unchanged"
        return self.out(y)


@pytest.mark.parametrize("spec", ["attention", ["atten*"], "module"])
def test_recast_layer_widens_arguments_by_keyword_and_nested_ones(spec: Any) -> None:
    model = Block()
    cast_model(model, full_precision_recast_layers=[model.attention] if spec == "module" else spec)
    assert dtypes(model)["attention.query.weight"] == FP32
    assert model(torch.randn(3, 4, dtype=BF16)).dtype == BF16


def test_a_kept_layer_computes_what_it_did_in_float32() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)))
    expected = copy.deepcopy(model[1])
    cast_model(model, full_precision_layers=["1"])
    x = torch.randn(5, 4, dtype=BF16)
    assert torch.equal(model(x), expected(model[0](x).float()))


def test_patterns_are_on_full_names() -> None:
    def model() -> nn.Module:
        return nn.ModuleDict({"head": nn.Linear(2, 2), "decoder": nn.ModuleDict({"head": nn.Linear(2, 2)})})

    for pattern, kept in (("head", {"head"}), ("*.head", {"decoder.head"}), ("*head", {"head", "decoder.head"}),
                          ("decoder", {"decoder.head"})):  # fmt: skip
        one = model()
        cast_model(one, full_precision_layers=pattern)
        assert {name.rpartition(".")[0] for name, dtype in dtypes(one).items() if dtype == FP32} == kept


def test_only_the_outermost_match_casts_back() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4))
    seen = []
    model[0][0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    cast_model(model, full_precision_recast_layers=["0*"])
    assert model(torch.randn(2, 4, dtype=BF16)).dtype == BF16
    assert seen == [FP32], "inside the kept layer nothing is cast back"


def test_a_shared_module_is_found_under_each_of_its_names() -> None:
    model = nn.Module()
    model.one = model.two = nn.Linear(2, 2)
    model.three = nn.Linear(2, 2)
    cast_model(model, full_precision_layers="two")
    assert model.one.weight.dtype == FP32
    assert len(model.one._forward_pre_hooks) == 1


def test_a_model_of_16_bits_gets_its_kept_layers_widened() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).to(BF16)
    report = cast_model(model, full_precision_layers="2")
    assert set(report.changed) == {
        "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias"
    }  # fmt: skip
    assert model(torch.randn(3, 2, dtype=BF16)).dtype == FP32


def test_a_layer_of_float64_stays_and_gets_float64() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    cast_model(model, full_precision_layers="1")
    assert model(torch.randn(3, 2, dtype=BF16)).dtype == torch.float64


# Containers ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Frozen:
    logits: Tensor
    label: str = "x"
    missing: Tensor | None = None
    derived: int = dataclasses.field(default=3, init=False)


Named = collections.namedtuple("Named", "values steps")


class Output(collections.OrderedDict):
    """As in Hugging Face transformers: items that are attributes, too."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


def test_cast_floats_keeps_the_containers() -> None:
    x, steps = torch.ones(2), torch.ones(2, dtype=torch.int64)
    frozen = cast_floats(Frozen(x), BF16)
    assert type(frozen) is Frozen
    assert frozen.logits.dtype == BF16
    assert (frozen.label, frozen.missing, frozen.derived) == ("x", None, 3)
    named = cast_floats([Named(x, steps)], BF16)[0]
    assert type(named) is Named
    assert (named.values.dtype, named.steps.dtype) == (BF16, torch.int64)
    output = Output(logits=x, hidden=(x, [x]))
    new = cast_floats(output, BF16)
    assert type(new) is Output
    assert new.logits is new["logits"]
    assert new.logits.dtype == new.hidden[0].dtype == new.hidden[1][0].dtype == BF16
    assert output.logits.dtype == output["hidden"][1][0].dtype == FP32, "what came in is as it was"
    top = cast_floats(torch.ones(3).max(0), BF16)
    assert top.values.dtype == BF16
    packed = nn.utils.rnn.pack_sequence([torch.ones(2, 1)])
    assert cast_floats(packed, BF16).data.dtype == BF16
    for other in (None, 3, "x", Frozen, {1, 2}, torch.ones(2, dtype=torch.complex64), x.to(torch.float8_e4m3fn)):
        assert cast_floats(other, BF16) is other
    assert cast_floats(x.double(), FP32, widen_only=True).dtype == torch.float64
    assert cast_floats(x.to(FP16), BF16, widen_only=True).dtype == FP16


@pytest.mark.parametrize("make", [Frozen, lambda x: Output(logits=x), lambda x: {"logits": x}, lambda x: Named(x, 1)])
def test_outputs_of_recast_layers(make: Any) -> None:
    class Layer(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return make(super().forward(x))

    model = nn.Sequential(Layer(2, 2))
    cast_model(model, full_precision_recast_layers="0")
    output = model(torch.ones(1, 2, dtype=BF16))
    value = output[0] if isinstance(output, tuple) else output["logits"] if isinstance(output, dict) else output.logits
    assert value.dtype == BF16


# What else a model may be -------------------------------------------------------------------------------------------


def test_a_second_cast_changes_nothing() -> None:
    model = Block()
    cast_model(model, full_precision_recast_layers="attention")
    hooks = (dict(model.attention._forward_pre_hooks), dict(model.attention._forward_hooks))
    before = [(id(p), p.data_ptr()) for p in model.parameters()]
    with pytest.warns(NoEffectWarning, match="cast_model: nothing changed"):
        cast_model(model, full_precision_recast_layers="attention")
    assert hooks == (dict(model.attention._forward_pre_hooks), dict(model.attention._forward_hooks))
    assert before == [(id(p), p.data_ptr()) for p in model.parameters()]


def test_frozen_integer_complex_and_empty_ones() -> None:
    model = nn.Module()
    model.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    model.whole = nn.Parameter(torch.ones(2, dtype=torch.int32), requires_grad=False)
    model.waves = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    model.small = nn.Parameter(torch.ones(2).to(torch.float8_e4m3fn), requires_grad=False)
    model.none = None
    model.register_parameter("nothing", None)
    assert cast_model(model, keep_buffers=False).changed == ("frozen",)
    assert not model.frozen.requires_grad
    assert dtypes(model) == {
        "frozen": BF16, "whole": torch.int32, "waves": torch.complex64, "small": torch.float8_e4m3fn
    }  # fmt: skip


def test_gradients_memory_format_and_special_values_follow() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(2, 3)).to(memory_format=torch.channels_last)
    weight = model[0].weight
    weight.grad = torch.full_like(weight, 1 / 3)
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([float("nan"), float("inf"), -0.0]))
    cast_model(model)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight.grad, torch.full_like(weight, 1 / 3))
    assert weight.grad.dtype == BF16
    nan, inf, zero = model[1].bias.tolist()
    assert nan != nan
    assert inf == float("inf")
    assert str(zero) == "-0.0"


def test_a_graph_from_before_and_one_after() -> None:
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    layer.zero_grad()
    cast_model(layer)
    layer(torch.ones(1, 2, dtype=BF16)).sum().backward()
    assert layer.weight.grad.dtype == BF16


def test_meta_models_materialise_in_16_bits() -> None:
    with torch.device("meta"):
        model = decoder()
    cast_model(model)
    assert model.embed.weight.is_meta
    model.to_empty(device="cpu")
    assert dtypes(model)["embed.weight"] == BF16
    assert dtypes(model)["rotary.inv_freq"] == FP32


def test_parametrizations() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), parametrizations.weight_norm(nn.Linear(3, 2)))
    cast_model(model, full_precision_layers="1")
    assert model[0].weight.dtype == BF16
    assert model[1].weight.dtype == FP32
    output = model(torch.randn(4, 3, dtype=BF16))
    output.sum().backward()
    assert output.dtype == FP32
    assert all(p.grad is not None for p in model.parameters())
    spectral = nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 3)))
    cast_model(spectral, keep_buffers=False)
    assert spectral(torch.randn(4, 3, dtype=BF16)).dtype == BF16
    kept = nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    cast_model(kept, full_precision_recast_layers="0")
    assert kept(torch.randn(4, 3, dtype=BF16)).dtype == BF16


def test_recurrent_layers() -> None:
    model = nn.LSTM(3, 4, num_layers=2)
    cast_model(model)
    assert all(a is b for a, b in zip(model._flat_weights, model.parameters(), strict=True))
    assert model(torch.randn(5, 1, 3, dtype=BF16))[0].dtype == BF16


def test_deepcopy_pickle_and_state_dict() -> None:
    model = Block()
    cast_model(model, full_precision_recast_layers="attention")
    x = torch.randn(3, 4, dtype=BF16)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert dtypes(other) == dtypes(model)
        assert torch.equal(other(x), model(x))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = Block()
    cast_model(fresh, full_precision_recast_layers="attention")
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), model(x))


def test_compiled_as_one_graph_before_and_after() -> None:
    x = torch.randn(3, 4, dtype=BF16)
    model = nn.Sequential(nn.Linear(4, 4), Block().attention.query, nn.Linear(4, 2))
    cast_model(model, full_precision_recast_layers="1")
    assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(x))
    block = Block()
    cast_model(block, full_precision_recast_layers="attention")
    assert torch.equal(torch.compile(block, backend="aot_eager", fullgraph=True)(x), block(x))
    early = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), backend="aot_eager")
    assert cast_model(early, full_precision_layers="1").changed == ("0.weight", "0.bias")
    assert early(x).dtype == FP32


def test_undo_gives_the_dtypes_back_and_takes_the_hooks_away() -> None:
    model = Block()
    before, params = dtypes(model), list(model.parameters())
    report = cast_model(model, full_precision_recast_layers="attention")
    rounded = model.out.weight.detach().float()
    report.undo()
    assert dtypes(model) == before
    assert torch.equal(model.out.weight, rounded)
    assert all(a is b for a, b in zip(params, model.parameters(), strict=True))
    assert not model.attention._forward_pre_hooks
    assert not model.attention._forward_hooks


def test_patterns_that_match_nothing_warn() -> None:
    for argument in ("full_precision_layers", "full_precision_recast_layers", "keep_buffers"):
        with pytest.warns(NoEffectWarning, match=rf"{argument}: the pattern 'haed' matched no") as caught:
            cast_model(decoder(), **{argument: ["haed"]})
        assert caught[0].filename == __file__, "the line of the caller"
    model = decoder()
    with pytest.warns(NoEffectWarning, match="nothing changed"):
        cast_model(nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cast_model(model, full_precision_layers=["head"], full_precision_recast_layers=())


def test_bad_input_is_refused_before_anything_changes() -> None:
    model = decoder()
    before = dtypes(model)
    for dtype in (FP32, torch.int8, torch.float8_e4m3fn):
        with pytest.raises(ValueError, match=r"cast_model: expected dtype torch\.bfloat16 or torch\.float16"):
            cast_model(model, dtype)
    with pytest.raises(TypeError, match="a torch module"):
        cast_model(model.parameters())
    with pytest.raises(ValueError, match="a layer in one list only, got head in both"):
        cast_model(model, full_precision_layers="head", full_precision_recast_layers=[model.head])
    with pytest.raises(ValueError, match="got a Linear outside it"):
        cast_model(model, full_precision_layers=[nn.Linear(2, 2)])
    with pytest.raises(TypeError, match="names, patterns or modules in full_precision_layers, got 3"):
        cast_model(model, full_precision_layers=[3])
    with pytest.raises(ValueError, match=r"initialised parameters, got the lazy 0\.weight"):
        cast_model(nn.Sequential(nn.LazyLinear(2)))
    with pytest.raises(TypeError, match=r"a bare model, got one inside DataParallel\. Cast the model first"):
        cast_model(nn.Sequential(nn.DataParallel(model)))
    assert dtypes(model) == before
