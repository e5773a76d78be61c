from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune import reference
from torch import nn

from hasten.prune.layerwise import sparsegpt
from hasten.prune.patterns import NM
from hasten.prune.plan import compute, reconstruct


def correlated(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=g, dtype=torch.float64) / columns**0.5
    return torch.randn(rows, columns, generator=g, dtype=torch.float64) @ (mix + 0.3)


def weight(rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hand_case() -> None:
    """Dropping w_0 = 1 moves w_1 by what the inputs share: 2 + 1 * 0.5."""
    hessian = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    w, mask = sparsegpt(torch.tensor([[1.0, 2.0]], dtype=torch.float64), hessian, 1, damping=1e-12)
    assert mask.tolist() == [[False, True]]
    assert w.tolist() == [[0.0, pytest.approx(2.5)]]


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 9), st.integers(1, 9), st.floats(0, 1))
def test_equals_the_slow_reference(seed: int, rows: int, columns: int, block: int, density: float) -> None:
    w, x = weight(rows, columns, seed), correlated(40, columns, seed)
    keep = round(density * rows * columns)
    h = x.T @ x

    def budget(start: int, stop: int) -> int:
        return keep * stop // columns - keep * start // columns

    found, mask = sparsegpt(w, h, keep, block=block, damping=0.01)
    expected, expected_mask = reference.sparsegpt(w, h, budget, 0.01, block)
    assert torch.equal(mask, expected_mask)
    assert int(mask.sum()) == keep
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([(1, 2), (2, 4), (1, 4), (4, 4)]))
def test_n_of_m_equals_the_slow_reference(seed: int, rows: int, pattern: tuple[int, int]) -> None:
    n, m = pattern
    w, x = weight(rows, 8, seed), correlated(40, 8, seed)
    found, mask = sparsegpt(w, x.T @ x, NM(n, m), block=5)
    expected, expected_mask = reference.sparsegpt(w, x.T @ x, lambda *_: n, 0.01, 5, m)
    assert torch.equal(mask, expected_mask)
    assert (mask.unflatten(1, (-1, m)).sum(-1) == n).all()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_better_than_wanda_and_magnitude_on_correlated_inputs(pattern: str) -> None:
    torch.manual_seed(0)
    dense = nn.Linear(64, 32).double()
    x = correlated(500, 64)
    asked = {} if pattern == "2:4" else {"sparsity": 0.5 * 64 * 32 / (64 * 32 + 32)}
    errors = {}
    for name in ("layer_magnitude", "wanda", "sparsegpt"):
        model = copy.deepcopy(dense)
        if name == "layer_magnitude":
            mask = compute(model, name, ignore=["bias"], pattern=pattern, **({"sparsity": 0.5} if asked else {}))
            model.weight.data *= mask["weight"]
        else:
            mask = reconstruct(model, name, batch=x, pattern=pattern, **asked)
        assert int(mask["weight"].sum()) == 64 * 32 // 2
        assert not model.weight[~mask["weight"]].any()
        errors[name] = float((model(x) - dense(x)).detach().square().sum())
    assert errors["sparsegpt"] < 0.5 * errors["wanda"]
    assert errors["wanda"] < errors["layer_magnitude"]


def test_dead_entries_stay_dead_and_counts_stay_exact() -> None:
    w, x = weight(6, 16), correlated(60, 16)
    alive = torch.rand(6, 16, generator=torch.Generator().manual_seed(3)) < 0.6
    keep = int(alive.sum()) - 5
    found, mask = sparsegpt(w * alive, x.T @ x, keep, alive=alive, block=4)
    assert int(mask.sum()) == keep
    assert not (mask & ~alive).any()
    assert not found[~mask].any()


def test_columns_without_inputs_go_first_and_keep_their_values() -> None:
    w, x = weight(3, 6), correlated(40, 6)
    x[:, [1, 4]] = 0
    found, mask = sparsegpt(w, x.T @ x, 12)
    assert not mask[:, [1, 4]].any()
    assert mask.sum() == 12
    found, mask = sparsegpt(w, x.T @ x, 15)
    torch.testing.assert_close(found[:, [1, 4]], torch.where(mask, w, 0)[:, [1, 4]])
    found, mask = sparsegpt(w, torch.zeros(6, 6), 7)
    assert torch.equal(found, torch.where(mask, w, 0))
    assert mask.sum() == 7


def test_what_is_not_positive_definite_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a positive definite X\^T X.*damping"):
        sparsegpt(torch.ones(1, 2), torch.tensor([[1.0, 5.0], [5.0, 1.0]]), 1)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 16, 16), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


IMAGES = [torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]


def test_wanda_keeps_exact_counts_in_each_row() -> None:
    masks = compute(small(), "wanda", sparsity=0.5, batch=IMAGES)
    for name, mask in masks.items():
        if mask.ndim == 1:
            assert mask.all(), "biases are kept"
        else:
            counts = mask.flatten(1).sum(1)
            assert int(counts.max() - counts.min()) <= 1, name
    assert masks.nonzeros == round(0.5 * masks.total)


def test_wanda_equals_the_slow_reference_and_sees_pruned_layers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24, bias=False), nn.ReLU(), nn.Linear(24, 8, bias=False), nn.Linear(8, 2))
    x = torch.randn(30, 6)
    masks = compute(model, "wanda", sparsity=0.5, batch=x)
    assert torch.equal(masks["0.weight"], reference.wanda(model[0].weight, x, 3))
    with torch.no_grad():
        pruned = (x @ (model[0].weight * masks["0.weight"]).T).relu()
    assert torch.equal(masks["2.weight"], reference.wanda(model[2].weight, pruned, 12))
    alone = compute(model, "wanda(propagate=False)", sparsity=0.5, batch=x)
    assert torch.equal(alone["2.weight"], reference.wanda(model[2].weight, model[:2](x).detach(), 12))
    assert not torch.equal(alone["2.weight"], masks["2.weight"])


def test_batches_and_one_batch_give_the_same() -> None:
    for name in ("wanda", "sparsegpt"):
        assert compute(small(), name, sparsity=0.6, batch=IMAGES) == compute(
            small(), name, sparsity=0.6, batch=torch.cat(IMAGES)
        )


def test_stages_are_pruned_together() -> None:
    model = nn.Sequential(
        *(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)) for _ in range(2)), nn.Linear(6, 2)
    )
    x = torch.randn(30, 6)
    staged = compute(model, "wanda(stages='?')", sparsity=0.5, batch=x)
    dense = compute(model, "wanda(propagate=False)", sparsity=0.5, batch=x)
    single = compute(model, "wanda", sparsity=0.5, batch=x)
    first = [f"0.{i}.weight" for i in (0, 2)]
    assert all(torch.equal(staged[name], dense[name]) for name in first)
    assert torch.equal(single["0.0.weight"], staged["0.0.weight"])
    assert staged != dense


def test_the_model_is_run_no_further_than_needed() -> None:
    model, calls = small(), []
    for i in (0, 3, 6):
        model[i].register_forward_hook(lambda module, *_: calls.append(module))
    compute(model, "wanda", sparsity=0.5, batch=IMAGES)
    per_batch = [(len(calls) - calls.count(model[i])) for i in (0, 3, 6)]
    assert [calls.count(model[i]) for i in (0, 3, 6)] == [1 + 2 * 3, 1 + 3, 1], per_batch


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_compute_leaves_the_weights_and_reconstruct_changes_them(name: str) -> None:
    model, twin = small(), small()
    masks = compute(model, name, compression=3, batch=IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert reconstruct(model, name, compression=3, batch=IMAGES) == masks
    for key, mask in masks.items():
        new, old = model.get_parameter(key), twin.get_parameter(key)
        assert not new[~mask].any()
        assert torch.equal(new[mask], old[mask]) == (name == "wanda" or new.ndim == 1)


def test_reconstruction_helps_the_whole_model() -> None:
    smooth = torch.rand(40, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    x, dense = nn.functional.interpolate(smooth, 6, mode="bilinear"), small().eval()
    errors = []
    for name in ("wanda", "sparsegpt"):
        model = small()
        reconstruct(model, name, compression=3, batch=x)
        errors.append(float((model.eval()(x) - dense(x)).detach().square().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_two_of_four_along_channels() -> None:
    model = small()
    for name in ("wanda", "sparsegpt"):
        mask = compute(model, name, pattern="1:2", batch=IMAGES, ignore=["0"])["3.weight"]  # (8, 2, 3, 3)
        assert (mask.sum(1) == 1).all()
        mask = compute(model, name, pattern="2:4", batch=IMAGES, ignore=["0", "3"])["6.weight"]
        assert (mask.unflatten(1, (-1, 4)).sum(-1) == 2).all()


def test_a_failure_changes_nothing() -> None:
    model, twin = small(), small()
    broken = [*IMAGES, IMAGES[0] * float("nan")]
    with pytest.raises(RuntimeError, match=r"NaN or infinity at 0\.weight"):
        reconstruct(model, compression=3, batch=broken)
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise KeyError("no more")

    model[6].register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        reconstruct(model, compression=3, batch=IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_attention_is_mended_too() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), 2, enable_nested_tensor=False
    )
    model.layers[-1].linear2.is_classifier = False
    x, dense = torch.randn(20, 5, 8), copy.deepcopy(model)
    errors = []
    for name in ("wanda", "sparsegpt"):
        pruned = copy.deepcopy(model)
        masks = reconstruct(pruned, name, sparsity=0.4, batch=x)
        assert masks.nonzeros == round(0.6 * masks.total)
        assert masks["layers.0.self_attn.in_proj_weight"].sum(1).unique().numel() <= (2 if name == "wanda" else 99)
        errors.append(float((pruned.eval()(x) - dense.eval()(x)).detach().square().mean()))
    assert errors[1] < errors[0]


def test_owl_spares_layers_with_outliers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(3)), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].weight[:, 3] *= 30
    x = torch.randn(64, 16)
    masks = compute(model, "owl", sparsity=0.7, batch=x)
    density = [masks.density(f"{i}.weight") for i in range(3)]
    assert masks.nonzeros == round(0.3 * masks.total)
    assert density[1] == max(density) > density[0]
    assert max(density) - min(density) == pytest.approx(0.16, abs=0.01)
    assert compute(model, "wanda(owl=True)", sparsity=0.7, batch=x) == masks
    assert compute(model, "sparsegpt(owl=True)", sparsity=0.7, batch=x).density("1.weight") == density[1]


def test_bad_input() -> None:
    model = small()
    with pytest.raises(ValueError, match=r"prune\.reconstruct: expected sparsegpt or wanda, got 'lamp'"):
        reconstruct(model, "lamp", compression=2)
    with pytest.raises(ValueError, match=r"expected batch=, as sparsegpt looks at data, got none"):
        reconstruct(model, compression=2)
    with pytest.raises(ValueError, match=r"pattern unstructured or n:m for sparsegpt"):
        compute(model, "sparsegpt", sparsity=0.5, pattern="block(2,2)", batch=IMAGES)
    with pytest.raises(ValueError, match="room for the 28 biases"):
        compute(model, "wanda", sparsity=0.999, batch=IMAGES)
    with pytest.raises(ValueError, match="damping > 0"):
        compute(model, "sparsegpt(damping=0)", sparsity=0.5, batch=IMAGES)
    upsampling = nn.Sequential(nn.ConvTranspose2d(4, 4, 2), nn.Flatten(), nn.Linear(36, 2))
    with pytest.raises(ValueError, match="along whose inputs 2:4 goes"):
        compute(upsampling, "sparsegpt", pattern="2:4", batch=torch.randn(2, 4, 2, 2))
    compute(upsampling, "sparsegpt", sparsity=0.3, batch=torch.randn(2, 4, 2, 2))
