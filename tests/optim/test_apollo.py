from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from tests.optim.test_lamb import problem, walk
from torch import Tensor, nn

from hasten.optim import APOLLO, APOLLOMini, apollo
from hasten.optim.apollo import project

OPTIONS = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}


def seeds_of(optimizer: APOLLO, gradients: list[Tensor]) -> list[int]:
    """The seed of every step."""
    optimizer, seeds = copy.deepcopy(optimizer), []
    for gradient in gradients:
        walk(optimizer, [gradient])
        seeds.append(next(iter(optimizer.state.values()))["seed"])
    return seeds


@given(
    seed=st.integers(0, 99),
    shape=st.sampled_from([(6, 4), (4, 6), (5, 5)]),
    rank=st.integers(1, 3),
    scale_type=st.sampled_from(["channel", "tensor"]),
    scale=st.sampled_from([1.0, 16.0]),
    max_growth=st.sampled_from([None, 1.01, 1.5]),
    scale_front=st.booleans(),
)
def test_equals_the_slow_reference(
    seed: int, shape: tuple[int, int], rank: int, scale_type: str, scale: float, max_growth: float | None,
    scale_front: bool,
) -> None:  # fmt: skip
    x, gradients = problem(seed, shape, steps=7)
    own = {"rank": rank, "scale": scale, "max_growth": max_growth, "scale_front": scale_front}
    optimizer = APOLLO([nn.Parameter(x.clone())], **OPTIONS, **own, scale_type=scale_type, update_proj_gap=3)
    seeds = seeds_of(optimizer, gradients)
    slow = reference.apollo(x, gradients, seeds, scale_type=scale_type, **OPTIONS, **own)
    torch.testing.assert_close(walk(optimizer, gradients), slow, rtol=1e-8, atol=1e-10)


def test_mini_is_rank_one_with_one_factor() -> None:
    x, gradients = problem(0, (6, 4))
    optimizer = APOLLOMini([nn.Parameter(x.clone())], **OPTIONS)
    seeds = seeds_of(optimizer, gradients)
    path = walk(optimizer, gradients)
    given_ = {"rank": 1, "scale_type": "tensor", "scale": 128.0, "max_growth": 1.01, "scale_front": False}
    torch.testing.assert_close(path, reference.apollo(x, gradients, seeds, **OPTIONS, **given_))
    for before, after, gradient in zip(path, path[1:], gradients[1:], strict=False):
        step = before * (1 - 0.1 * 0.1) - after
        cosine = torch.cosine_similarity(step.flatten(), gradient.flatten(), dim=0)
        assert cosine.item() == pytest.approx(1.0), "one factor: the direction is that of the gradient itself"


@pytest.mark.parametrize("options", [{"rank": None}, {"rank": 2}])
def test_vectors_and_groups_without_a_rank_use_adamw(options: dict) -> None:
    """The decay comes after the step here, which is what torch's does before the next one."""
    x, gradients = problem(0, (4, 3) if options["rank"] is None else (5,))
    theirs = nn.Parameter(x.clone())
    peer = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.9), eps=0.0, weight_decay=0.1)
    theirs.data /= 1 - 0.1 * 0.1
    mine = APOLLO([nn.Parameter(x.clone())], **{**OPTIONS, "eps": 0.0}, **options)
    for one, two in zip(walk(mine, gradients), walk(peer, gradients), strict=True):
        torch.testing.assert_close(one, two * (1 - 0.1 * 0.1))


def test_seeds_differ_between_parameters_and_move_on_at_the_gap() -> None:
    params = [nn.Parameter(torch.ones(4, 3)) for _ in range(3)]
    optimizer = APOLLO([{"params": params[:2]}, {"params": params[2:]}], rank=1, update_proj_gap=3)
    history = []
    for _ in range(7):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
        history.append([optimizer.state[p]["seed"] for p in params])
    assert len({seed for row in history for seed in row}) == 9
    assert history[0] == history[1] == history[2] != history[3] == history[4] == history[5] != history[6]
    others = [APOLLO([nn.Parameter(torch.ones(4, 3))], rank=1, seed=seed) for seed in (0, 1)]
    assert seeds_of(others[0], [torch.ones(4, 3)])[0] == history[0][0]
    assert seeds_of(others[1], [torch.ones(4, 3)])[0] not in history[0]


def test_a_late_gradient_gets_the_seed_of_its_place() -> None:
    """The seed does not depend on which parameters had gradients before."""
    params = [nn.Parameter(torch.ones(4, 3)) for _ in range(2)]
    alone = APOLLO(params, rank=1)
    params[1].grad = torch.ones(4, 3)
    alone.step()
    seed = alone.state[params[1]]["seed"]
    both = APOLLO(params, rank=1)
    params[0].grad = torch.ones(4, 3)
    both.step()
    assert both.state[params[1]]["seed"] == seed


@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(40, 6), (6, 40)]))
def test_the_projection_is_linear_deterministic_and_keeps_norms_on_average(seed: int, shape: tuple[int, int]) -> None:
    g, h = torch.randn((2, *shape), dtype=torch.float64)
    assert torch.equal(project(g, 4, seed), project(g, 4, seed))
    assert not torch.equal(project(g, 4, seed), project(g, 4, seed + 1))
    torch.testing.assert_close(project(g + 2 * h, 4, seed), project(g, 4, seed) + 2 * project(h, 4, seed))


def test_norms_on_average() -> None:
    g = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    squares = [project(g, 5, seed).square().sum().item() for seed in range(400)]
    assert sum(squares) / 400 == pytest.approx(g.square().sum().item(), rel=0.1)


def test_a_rank_above_the_smaller_side_is_cut() -> None:
    p = nn.Parameter(torch.ones(4, 3))
    p.grad = torch.randn(4, 3)
    optimizer = APOLLO([p], rank=256)
    optimizer.step()
    assert optimizer.state[p]["exp_avg"].shape == (4, 3)
    assert p.isfinite().all()


def test_the_norm_of_an_update_grows_slowly_and_zero_gradients_do_not_count() -> None:
    p = nn.Parameter(torch.zeros(8, 4, dtype=torch.float64))
    optimizer = APOLLO([p], lr=1.0, rank=2, betas=(0.0, 0.0), eps=1e-100)
    generator, norms = torch.Generator().manual_seed(0), []
    for step in range(6):
        before = p.detach().clone()
        draw = torch.randn(8, 4, generator=generator, dtype=torch.float64)
        p.grad = torch.zeros_like(p) if step == 3 else 100.0**step * draw
        optimizer.step()
        norms.append((p.detach() - before).norm().item())
    assert norms[3] == 0 < norms[0]
    del norms[3]
    assert all(b <= 1.01 * a * (1 + 1e-6) for a, b in itertools.pairwise(norms))


def test_filters_count_as_a_matrix() -> None:
    x, gradients = problem(0, (4, 3, 2))
    flat = walk(APOLLO([nn.Parameter(x.reshape(4, 6).clone())], rank=2), [g.reshape(4, 6) for g in gradients])
    path = walk(APOLLO([nn.Parameter(x.clone())], rank=2), gradients)
    assert all(torch.equal(a.reshape(4, 6), b) for a, b in zip(path, flat, strict=True))


def test_bad_options() -> None:
    params = [nn.Parameter(torch.ones(1))]
    cases = [
        ({"rank": 0}, "at least 1 for rank, got 0"), ({"rank": 1.5}, "at least 1 for rank"),
        ({"scale": 0.0}, "scale > 0"), ({"scale_type": "row"}, "scale_type as one of channel, tensor, got 'row'"),
        ({"max_growth": 1.0}, "max_growth > 1"), ({"update_proj_gap": 0}, "at least 1 for update_proj_gap"),
        ({"seed": -1}, "at least 0 for seed"),
    ]  # fmt: skip
    for options, text in cases:
        with pytest.raises(ValueError, match=rf"^APOLLO: expected .*{text}"):
            APOLLO(params, **options)
    with pytest.raises(TypeError, match="True or False for scale_front"):
        APOLLO(params, scale_front=None)


@pytest.mark.parametrize("scale_front", [False, True])
@pytest.mark.parametrize("mini", [False, True])
@pytest.mark.parametrize("shape", [(12, 6), (6, 12)])
def test_against_the_authors(
    shape: tuple[int, int], mini: bool, scale_front: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their projections in place of ours."""
    pytest.importorskip("transformers", reason="the peer needs it")
    peer = pytest.importorskip("apollo_torch", reason="optional peer")
    from apollo_torch.random_projector import next_seed, stable_randn

    x, gradients = problem(0, shape, steps=25)
    x, gradients = x.float(), [g.float() for g in gradients]
    rank, kind, scale = (1, "tensor", 128.0) if mini else (3, "channel", 4.0)
    common = {"rank": rank, "update_proj_gap": 10, "scale": scale, "scale_type": kind}
    theirs = [{"params": [nn.Parameter(x.clone())], **common, "proj": "random", "proj_type": "std"}]
    expected = walk(peer.APOLLOAdamW(theirs, lr=0.01, weight_decay=0.1, scale_front=scale_front), gradients)
    calls = []

    def their_projection(g: Tensor, rank: int, seed: int) -> Tensor:
        draw = 1
        for _ in range(len(calls) // 10):
            draw = next_seed(draw)
        calls.append(draw)
        rows, columns = g.shape
        size = (rank, columns) if rows >= columns else (rows, rank)
        P = stable_randn(size, seed=draw) / math.sqrt(rank)
        return g @ P.T if rows >= columns else P.T @ g

    monkeypatch.setattr(apollo, "project", their_projection)
    mine = APOLLO([nn.Parameter(x.clone())], lr=0.01, weight_decay=0.1, scale_front=scale_front, **common)
    torch.testing.assert_close(walk(mine, gradients), expected, rtol=1e-4, atol=1e-5)
