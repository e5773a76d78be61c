"""Pruning as the papers write it: loops, dense inverses, float64. Slow, and plain enough to be read beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def keep_largest(scores: Sequence[Tensor], k: int) -> list[Tensor]:
    """Python's stable sort over all entries: the largest first, of equal ones the earlier."""
    flat = [value for score in scores for value in score.reshape(-1).tolist()]
    best = sorted(range(len(flat)), key=lambda i: -flat[i])[:k]
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[best] = True
    parts = kept.split([score.numel() for score in scores])
    return [part.view(score.shape) for part, score in zip(parts, scores, strict=True)]


def lamp(weight: Tensor) -> Tensor:
    """arXiv 2010.07611: entries sorted by magnitude; each square over the sum of it and of all after it."""
    squares = weight.double().reshape(-1).square().tolist()
    order = sorted(range(len(squares)), key=lambda i: (squares[i], -i))  # of equal ones the earlier comes last
    scores = [0.0] * len(squares)
    for place, i in enumerate(order):
        total = math.fsum(squares[j] for j in order[place:])
        scores[i] = squares[i] / total if total else 0.0
    return torch.tensor(scores, dtype=torch.float64).view(weight.shape)


def gradient(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], loss: Callable[..., Tensor]) -> list[Tensor]:
    """Of the mean over all samples, at once."""
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    return list(torch.autograd.grad(loss(model(x), y), list(model.parameters())))


def squared_norm_of_gradient(model: nn.Module, values: Sequence[Tensor], x: Tensor, y: Tensor) -> float:
    """|g|^2 with the parameters set to `values`."""
    names = [name for name, _ in model.named_parameters()]
    leaves = {name: value.clone().requires_grad_() for name, value in zip(names, values, strict=True)}
    outputs = torch.func.functional_call(model, leaves, (x,))
    found = torch.autograd.grad(nn.functional.cross_entropy(outputs, y), list(leaves.values()))
    return float(sum(part.square().sum() for part in found))


def grasp(model: nn.Module, x: Tensor, y: Tensor, step: float = 1e-5) -> list[Tensor]:
    """arXiv 2002.07376: w (H g), with 2 H g as the central difference of |g|^2 in each weight."""
    values = [p.detach().clone() for p in model.parameters()]
    scores = []
    for value in values:
        score = torch.zeros_like(value)
        for i in range(value.numel()):
            w = value.view(-1)[i].item()
            sides = []
            for sign in (1, -1):
                value.view(-1)[i] = w + sign * step
                sides.append(squared_norm_of_gradient(model, values, x, y))
            value.view(-1)[i] = w
            score.view(-1)[i] = w * (sides[0] - sides[1]) / (2 * step) / 2
        scores.append(score)
    return scores


def synflow(weights: Sequence[Tensor]) -> list[Tensor]:
    """arXiv 2006.05467 for a chain of linear layers: the part of R through a weight, divided by R, path by path."""
    sizes = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    scores, total = [torch.zeros_like(w, dtype=torch.float64) for w in weights], 0.0
    for path in torch.cartesian_prod(*(torch.arange(size) for size in sizes)).tolist():
        value = math.prod(abs(float(w[j, i])) for w, i, j in zip(weights, path, path[1:], strict=False))
        total += value
        for score, i, j in zip(scores, path, path[1:], strict=False):
            score[j, i] += value
    return [score / total for score in scores]


def wanda(weight: Tensor, x: Tensor, keep: int) -> Tensor:
    """arXiv 2306.11695: in each row the `keep` largest |w_ij| ||x_j||."""
    weight, mask = weight.detach(), torch.zeros(weight.shape, dtype=torch.bool)
    for i in range(weight.shape[0]):
        cost = [abs(float(weight[i, j])) * float(x[:, j].double().norm()) for j in range(weight.shape[1])]
        mask[i, sorted(range(len(cost)), key=lambda j: -cost[j])[:keep]] = True
    return mask


def sparsegpt(
    weight: Tensor, hessian: Tensor, keep: Callable[[int, int], int], damping: float, block: int, m: int | None = None
) -> tuple[Tensor, Tensor]:
    """arXiv 2301.00774 with a dense inverse for every column, and every row by itself.

    Args:
        weight: (outputs, columns).
        hessian: X^T X.
        keep: how many entries are kept of columns `start` to `stop` (of each row, where `m` is given).
        damping: share of the mean of the diagonal.
        block: columns that are chosen together.
        m: choose for so many columns at a time, row by row, instead.
    """
    w, columns = weight.double().clone(), weight.shape[1]
    h = hessian.double() + damping * hessian.double().diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    inverse = [torch.linalg.inv(h[j:, j:]) for j in range(columns)]  # over the columns that are not settled yet
    mask = torch.zeros(weight.shape, dtype=torch.bool)
    width = m or block
    for j in range(columns):
        if j % width == 0:
            stop = min(j + width, columns)
            cost = torch.stack([w[:, i] ** 2 / inverse[i][0, 0] for i in range(j, stop)], dim=1)
            rows = [cost] if m is None else list(cost)
            mask[:, j:stop] = torch.stack([keep_largest([row], keep(j, stop))[0] for row in rows]).view(-1, stop - j)
        for row in range(w.shape[0]):
            if not mask[row, j]:
                w[row, j:] -= w[row, j] / inverse[j][0, 0] * inverse[j][0]
                w[row, j] = 0
    return w, mask


def owl(shares: Sequence[float], density: float, spread: float) -> list[float]:
    """arXiv 2310.05175, for matrices of one size."""
    low, high = min(shares), max(shares)
    scaled = [(share - low) * 2 * spread / (high - low) for share in shares]
    return [value - sum(scaled) / len(scaled) + density for value in scaled]
