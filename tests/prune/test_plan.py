from __future__ import annotations

import copy
import itertools
import random

import numpy as np
import pytest
import torch
from tests.prune.networks import mnist_net
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

from hasten._core.checks import NonFiniteError
from hasten.prune.masks import apply, masks_of
from hasten.prune.patterns import NM
from hasten.prune.plan import compute
from hasten.prune.scores.activations import Sums, run
from hasten.prune.scores.data import Data
from hasten.prune.scores.sites import sites
from hasten.prune.strategies import Strategy, ZeroScoresWarning, get, names

ALL = names()
DETERMINISTIC = [name for name in ALL if get(name).layerwise is None and get(name).rounds == 1]


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(8 * 4, 16), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


def batch(n: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 6, 6, generator=g), torch.randint(0, 3, (n,), generator=g)


def quick(name: str) -> str:
    return "synflow(rounds=5)" if name == "synflow" else name


@pytest.mark.parametrize("name", ALL)
def test_exactly_what_is_asked_for(name: str) -> None:
    model = small()
    for compression in (1, 2, 11):
        masks = compute(model, quick(name), compression=compression, batch=batch())
        total = sum(p.numel() for p in model.parameters())
        left = total - masks.total + masks.nonzeros
        assert abs(left - total / compression) <= 0.5 + 1e-6 * total
        assert masks.achieved == total / left
        assert masks.asked == {"compression": compression}
        assert (masks.strategy, masks.pattern) == (name, "unstructured")
    assert all(mask.dtype == torch.bool for mask in masks.values())


@pytest.mark.parametrize("scope", ["global", "layer", "row"])
def test_constant_scores(scope: str) -> None:
    strategy = Strategy(
        "constant", lambda m, t, d: {n: torch.ones_like(p) for n, p in t.parameters.items()}, scope=scope
    )
    model = small()
    for sparsity in (0.1, 0.5, 0.83):
        masks = compute(model, strategy, sparsity=sparsity)
        assert masks.nonzeros == round((1 - sparsity) * masks.total)


@pytest.mark.parametrize("name", ALL)
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = small()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    model[0].weight.requires_grad_(False)
    model[3].eval()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    draws = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with torch.no_grad():  # which a caller may have around it
        compute(model, quick(name), sparsity=0.5, batch=batch())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all((p.grad == 3).all() for p in model.parameters())
    assert not model[0].weight.requires_grad
    assert [m.training for m in model.modules()] == modes
    assert [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == draws[1:]


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_mask(name: str) -> None:
    found = []
    for seed, extra in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(extra)
        twin = small()
        torch.manual_seed(extra)
        generator = torch.Generator().manual_seed(seed)
        found.append(compute(twin, quick(name), sparsity=0.5, batch=batch(), generator=generator))
    assert found[0] == found[1]
    if name == "random":
        assert found[0] != found[2]
        assert compute(small(), name, sparsity=0.5) == compute(small(), name, sparsity=0.5)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_masks_are_nested(name: str) -> None:
    masks = [compute(small(), name, sparsity=s, batch=batch()) for s in (0.3, 0.6, 0.9, 0.99)]
    for more, less in itertools.pairwise(masks):
        assert (more & less) == less


@pytest.mark.parametrize("name", ["global_magnitude", "lamp", "snip", "grasp", "global_activation", "movement"])
def test_the_order_of_modules_does_not_matter(name: str) -> None:
    class Parallel(nn.Module):
        def __init__(self, order: tuple[int, ...]) -> None:
            super().__init__()
            torch.manual_seed(0)
            made = [nn.Linear(6, 5) for _ in range(3)]
            for i in order:
                self.add_module(f"part{i}", made[i])
            self.fc = nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(sum(self.get_submodule(f"part{i}")(x).tanh() for i in range(3)))

    x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    one, two = (compute(Parallel(order), name, sparsity=0.6, batch=(x, y)) for order in ((0, 1, 2), (2, 0, 1)))
    assert one == two
    assert list(one) != list(two)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_loaders(workers: int) -> None:
    """Shuffled: the masks do not depend on the number of workers, nor on what was drawn before."""
    context = "spawn" if workers else None
    data, found = torch.utils.data.TensorDataset(*batch(10)), []
    for count in (0, workers):
        torch.manual_seed(count)
        loader = torch.utils.data.DataLoader(
            data, 4, shuffle=True, num_workers=count, multiprocessing_context=context if count else None
        )
        model, state = small(), torch.get_rng_state()
        found.append(compute(model, "snip", sparsity=0.5, batch=loader))
        compute(model, speedup=2, batch=loader)
        assert torch.equal(torch.get_rng_state(), state)
    assert found[0] == found[1]


def test_batches_of_all_kinds() -> None:
    x, y = batch()

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = small()

        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.body(inputs["x"] * inputs["scale"])

    plain = compute(small(), "snip", sparsity=0.5, batch=(x, y))
    assert compute(small(), "snip", sparsity=0.5, batch={"inputs": x, "labels": y}) == plain
    assert compute(small(), "snip", sparsity=0.5, batch=iter([(x, y)])) == plain
    assert compute(small(), "grasp", sparsity=0.5, batch=iter([(x, y)])) == compute(
        small(), "grasp", sparsity=0.5, batch=(x, y)
    )
    nested = compute(
        Named(), "snip", sparsity=0.5, batch=({"x": x, "scale": torch.ones(12, 1, 1, 1)}, y), ignore="body.9"
    )
    assert [mask.sum() for mask in nested.values()] == [mask.sum() for mask in plain.values()]
    assert compute(small(), "wanda", sparsity=0.5, batch=x) == compute(small(), "wanda", sparsity=0.5, batch=(x, y))
    scaled = compute(small(), "snip", sparsity=0.5, batch=((x, y)), loss_fn=lambda out, t: 8 * F.cross_entropy(out, t))
    assert scaled == plain


@pytest.mark.parametrize(
    "name", ["snip", "grasp", "synflow(rounds=3)", "wanda", "sparsegpt", "lamp", "global_activation"]
)
def test_half_weights_modules_called_twice_and_tied_weights(name: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.again, self.tied, self.fc = (
                nn.Linear(8, 8),
                nn.Linear(8, 8),
                nn.Linear(8, 8),
                nn.Linear(8, 3),
            )
            self.tied.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.tied(self.again(self.again(self.first(x)).relu())))

    x, y = torch.randn(16, 8), torch.arange(16) % 3
    for dtype in (torch.float32, torch.bfloat16):
        masks = compute(Odd().to(dtype), name, sparsity=0.5, batch=(x.to(dtype), y))
        assert list(masks) == ["first.weight", "first.bias", "again.weight", "again.bias", "tied.bias"]
        assert masks.nonzeros == masks.total // 2


def test_strategies_of_one_formula_agree() -> None:
    data = {"sparsity": 0.7, "batch": batch()}
    assert compute(small(), "snip", **data) == compute(small(), "global_gradient", **data)


def test_hand_cases() -> None:
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[0.1, -0.2], [0.3, -0.4]])
    assert compute(model, sparsity=0.5)["weight"].tolist() == [[False, False], [True, True]]
    two = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False))
    two[0].weight.data, two[1].weight.data = torch.tensor([[0.8, 0.9]]), torch.tensor([[0.2, 0.3]])
    two[1].is_classifier = False
    assert compute(two, sparsity=0.5)["0.weight"].all()
    assert compute(two, "layer_magnitude", sparsity=0.5)["0.weight"].tolist() == [[False, True]]
    assert compute(two, "lamp", sparsity=0.5)["0.weight"].tolist() == [[False, True]]
    norms = nn.Linear(2, 2)
    norms.weight.data, norms.bias.data = torch.tensor([[3.0, 0.0], [2.0, 2.0]]), torch.tensor([9.0, 1.0])
    masks = compute(norms, "channel_l1", sparsity=0.5)
    assert masks["weight"].tolist() == [[False, False], [True, True]]
    assert masks["bias"].tolist() == [False, True], "a bias goes with its channel"
    assert compute(norms, "channel_l2", sparsity=0.5)["bias"].tolist() == [True, False]


def test_golden_compression_of_the_published_network() -> None:
    masks = compute(mnist_net(), compression=8)
    assert masks.achieved == pytest.approx(8, abs=1e-4)
    with pytest.raises(ValueError, match=r"at most 86\.04"):
        compute(mnist_net(), compression=100)


def test_synflow_does_not_collapse() -> None:
    """At 99.5 % sparsity magnitudes empty a layer of a narrow and deep network; flow keeps a path."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(32, 32, bias=False), nn.ReLU()) for _ in range(8)]
    for i, layer in enumerate(layers):
        nn.init.normal_(layer[0].weight, std=0.05 if i == 4 else 0.3)
    model = nn.Sequential(*layers, nn.Linear(32, 2))
    model[-1].is_classifier = True
    x = torch.randn(1, 32)
    sizes = {name: [int(mask.sum()) for mask in compute(model, name, sparsity=0.995, batch=x).values()]
             for name in ("synflow", "global_magnitude")}  # fmt: skip
    assert min(sizes["global_magnitude"]) == 0
    assert min(sizes["synflow"]) >= 1
    assert sum(sizes["synflow"]) == round(0.005 * 8 * 32 * 32)
    once = [int(mask.sum()) for mask in compute(model, "synflow(rounds=1)", sparsity=0.995, batch=x).values()]
    assert min(once) < min(sizes["synflow"]), "one round is not enough"


def test_pruning_in_steps_respects_masks() -> None:
    for name in ("random", "snip", "synflow(rounds=3)", "wanda", "sparsegpt", "global_magnitude", "channel_l2"):
        model = small()
        model.append(nn.Identity())
        first = compute(model, name, sparsity=0.5, batch=batch(), generator=torch.Generator().manual_seed(1))
        apply(model, first)
        second = compute(model, name, sparsity=0.8, batch=batch(), generator=torch.Generator().manual_seed(2))
        assert (first & second) == second
        assert second.nonzeros == round(0.2 * second.total)
        apply(model, second)
        assert masks_of(model) == second
        with pytest.raises(ValueError, match="masked already|not masked yet"):
            compute(model, name, sparsity=0.1, batch=batch())


@pytest.mark.parametrize("name", ALL)
def test_both_ways_to_wear_masks_are_one(name: str) -> None:
    found, first = [], compute(small(), "random", sparsity=0.5)  # large weights are masked as well
    for mode in ("inplace", "parametrize"):
        model = apply(small(), first, mode)
        found.append(compute(model, quick(name), sparsity=0.8, batch=batch()))
    assert found[0] == found[1]
    assert (first & found[0]) == found[0]


def test_attention_that_wears_masks() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model.linear2.is_classifier = False
    apply(model, compute(model, sparsity=0.4), "parametrize")
    for name in ("wanda", "sparsegpt", "global_activation", "channel_activation", "synflow(rounds=2)"):
        masks = compute(model, name, sparsity=0.6, batch=torch.randn(4, 3, 8))
        assert masks.nonzeros == round(0.4 * masks.total)


def test_speedup_is_reached() -> None:
    model, x = small(), batch()[0]
    for name in ("layer_magnitude", "global_magnitude", "lamp", "wanda", "owl", "synflow(rounds=4)"):
        masks = compute(model, name, speedup=3, batch=batch())
        weights = [name for name, mask in masks.items() if mask.ndim > 1]
        places = [16, 4, 1]  # that each entry of a weight is multiplied at
        dense = sum(masks[n].numel() * p for n, p in zip(weights, places, strict=True)) + 16 * 3
        left = sum(int(masks[n].sum()) * p for n, p in zip(weights, places, strict=True)) + 16 * 3
        assert dense / left == pytest.approx(3, rel=0.02), name
    with pytest.raises(ValueError, match="batch=, as MACs and channels"):
        compute(model, speedup=3)
    with pytest.raises(ValueError, match="speedup that can be reached"):
        compute(model, speedup=1000, batch=x)


def test_dead_networks_deliver_the_ratio_and_warn() -> None:
    model = small()
    model[0].bias.data.fill_(-100)
    model[1].eval()
    model[3].bias.data.fill_(-100)  # the ReLU after it never fires
    model[7].bias.data.fill_(0)
    for name in ("snip", "layer_gradient", "grasp"):
        with pytest.warns(ZeroScoresWarning, match=f"the scores of {name} are all 0 in 0.weight, 3.weight"):
            masks = compute(model, name, compression=4, batch=batch())
        assert masks.achieved == pytest.approx(4, abs=0.02)


def test_patterns() -> None:
    model, data = small(), batch()
    for name in ALL:
        if name == "synflow":
            continue
        masks = compute(model, name, pattern="1:2", batch=data, ignore=["0"])
        assert masks.asked == {}
        assert (masks["7.weight"].unflatten(1, (-1, 2)).sum(-1) == 1).all()
        assert (masks["3.weight"].unflatten(1, (-1, 2)).sum(2) == 1).all()
        assert masks["3.bias"].all()
        assert compute(model, name, pattern="1:2", sparsity=0.5, batch=data, ignore=["0"]) == masks
    with pytest.raises(ValueError, match="nothing beside pattern 2:4, which keeps 0.5"):
        compute(model, pattern="2:4", compression=2, ignore=["0", "3"])
    masks = compute(model, pattern="block(4,4)", sparsity=0.5, ignore=["0", "3"])
    assert masks["7.weight"].unflatten(1, (-1, 4)).unflatten(0, (-1, 4)).sum((1, 3)).unique().tolist() == [0, 16]


@pytest.mark.parametrize("name", ["global_magnitude", "channel_l2", "snip", "channel_activation", "synflow"])
def test_channels(name: str) -> None:
    model, data = small(), batch()
    masks = compute(model, name, pattern="channel", compression=2, batch=data)
    assert masks.achieved >= 2
    kept, last = masks["0.weight"].flatten(1).any(1), masks["3.bias"]
    assert kept.any()
    assert last.any()
    assert int(kept.sum()) + int(last.sum()) < 14
    for key in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(masks[key], kept), "norms and biases go with their channel"
    assert torch.equal(masks["3.weight"].flatten(2).any(2).any(0), kept)
    twice = compute(model, name, pattern="channel", sparsity=0.5, batch=data)
    assert twice.nonzeros < twice.total
    with pytest.raises(ValueError, match="a strategy with scores, for channels, got 'wanda'"):
        compute(model, "wanda", pattern="channel", compression=2, batch=data)


def test_heads() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)
    model.linear2.is_classifier = False
    masks = compute(model, pattern="head", compression=1.3, batch=torch.randn(2, 3, 8))
    assert int(masks["self_attn.out_proj.weight"].any(0).sum()) in (2, 4, 6)
    assert masks["linear1.weight"].all()


def test_bad_input() -> None:
    model = small()
    for kwargs, error, message in [
        ({}, ValueError, "one of compression=, sparsity= and speedup=, got 'none'"),
        ({"compression": 2, "sparsity": 0.5}, ValueError, "one of compression="),
        ({"compression": 0.5}, ValueError, "compression of at least 1"),
        ({"compression": 1000}, ValueError, "compression that can be reached, at most"),
        ({"sparsity": 1.0}, ValueError, "sparsity below 1"),
        ({"strategy": "snip", "sparsity": 0.5}, ValueError, "batch=, as snip looks at data, got none"),
        ({"strategy": "snip", "sparsity": 0.5, "batch": batch()[0]}, TypeError, "batches with targets"),
        ({"strategy": "snip", "sparsity": 0.5, "batch": batch(), "loss_fn": 3}, TypeError, "loss_fn"),
        ({"strategy": "snip", "sparsity": 0.5, "batch": []}, ValueError, "at least one batch"),
        ({"strategy": "wanda", "sparsity": 0.5, "batch": []}, ValueError, "at least one batch"),
        ({"strategy": "wand", "sparsity": 0.5}, ValueError, "Did you mean wanda"),
        ({"pattern": "3:2", "sparsity": 0.5}, ValueError, "n of at most m"),
        ({"ignore": "nothing", "sparsity": 0.5}, ValueError, "what the model has"),
    ]:
        with pytest.raises(error, match=message):
            compute(model, **kwargs)
    with pytest.raises(NonFiniteError, match="a finite loss, got nan"):
        compute(model, "snip", sparsity=0.5, batch=(batch()[0] * float("nan"), batch()[1]))


@pytest.mark.parametrize("share", [0.3, 0.75, 0.9])
def test_masks_are_those_of_torch(share: float) -> None:
    model, peer = small(), small()
    masks = compute(model, "global_magnitude", sparsity=share, ignore=["*.bias"])
    places = [(peer[i], "weight") for i in (0, 3, 7)]
    count = masks.total - masks.nonzeros
    torch_prune.global_unstructured(places, torch_prune.L1Unstructured, amount=count)
    assert all(torch.equal(masks[f"{i}.weight"], peer[i].weight_mask.bool()) for i in (0, 3, 7))
    peer, masks = small(), compute(model, "layer_magnitude", sparsity=share)
    for name, mask in masks.items():
        layer, attribute = peer.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        torch_prune.l1_unstructured(layer, attribute, amount=mask.numel() - int(mask.sum()))
        assert torch.equal(mask, getattr(layer, f"{attribute}_mask").bool())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_norms_are_those_of_torchao() -> None:
    """Against the paper it multiplies with squares of norms, and compares over whole layers without a pattern."""
    pytest.importorskip("torchao", reason="a peer that is not installed")
    from torchao.sparsity import WandaSparsifier

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8))
    peer, x = copy.deepcopy(model), torch.randn(50, 32)
    sparsifier = WandaSparsifier(semi_structured_block_size=4)
    sparsifier.prepare(peer, [{"tensor_fqn": "0.weight"}, {"tensor_fqn": "2.weight"}])
    peer(x)
    sparsifier.step()
    found, sums = sites(model, dict(model.named_parameters())), Sums(power=2)
    run(model, found, Data(x), sums)
    for i in (0, 2):
        squares = sums.sums[f"{i}.weight"][0]
        torch.testing.assert_close(squares, peer[i].activation_post_process.norm)
        theirs = NM(2, 4).project(model[i].weight.detach().abs() * squares)
        assert torch.equal(theirs, peer[i].parametrizations.weight[0].mask.bool())
