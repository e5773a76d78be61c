"""Slow, obvious versions of the weight controllers and gradient transforms, in float64 with Python loops."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def ema(snapshots: list[Tensor], decay: float) -> Tensor:
    """Average of successive weights: the first is taken whole, each later one with weight `1 - decay`."""
    average = snapshots[0].double()
    for weights in snapshots[1:]:
        average = decay * average + (1 - decay) * weights.double()
    return average


def adaptive_clip(weight: Tensor, gradient: Tensor, clipping: float, floor: float) -> Tensor:
    """Unit by unit, entry by entry."""
    if weight.ndim <= 1:
        units = [(weight.reshape(-1), gradient.reshape(-1))]
    else:
        units = [(weight[i].reshape(-1), gradient[i].reshape(-1)) for i in range(len(weight))]
    rows = []
    for w, g in units:
        w_norm = math.sqrt(sum(value**2 for value in w.tolist()))
        g_norm = math.sqrt(sum(value**2 for value in g.tolist()))
        limit = clipping * max(w_norm, floor)
        rows.append(g if g_norm <= limit else g * (limit / g_norm))
    return torch.cat(rows).reshape(gradient.shape)


def sam_step(weights: list[Tensor], gradient_at: object, rho: float, epsilon: float, lr: float) -> list[Tensor]:
    """One SAM step of plain SGD: `w - lr * grad(w + rho * g / (norm(g) + epsilon))`."""
    g = gradient_at(weights)
    norm = math.sqrt(sum(float((part**2).sum()) for part in g))
    uphill = gradient_at([w + rho * part / (norm + epsilon) for w, part in zip(weights, g, strict=True)])
    return [w - lr * part for w, part in zip(weights, uphill, strict=True)]


def network() -> nn.Module:
    """Two layers with a batch norm between."""
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


# Optimizers: weights and gradients in float64, one step after the other; each returns the weights after every step.


def _norm(x: Tensor) -> float:
    return math.sqrt(sum(value**2 for value in x.reshape(-1).tolist()))


def adam_direction(gradients: list[Tensor], betas: tuple[float, float]) -> list[tuple[Tensor, Tensor]]:
    """Both moments at every step, without bias correction, as explicit weighted sums."""
    moments = []
    for t in range(1, len(gradients) + 1):
        pairs = []
        for beta, power in zip(betas, (1, 2), strict=True):
            terms = [(1 - beta) * beta ** (t - 1 - i) * g.double() ** power for i, g in enumerate(gradients[:t])]
            pairs.append(sum(terms[1:], terms[0]))
        moments.append((pairs[0], pairs[1]))
    return moments


def lamb(
    x: Tensor, gradients: list[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float,
    bias_correction: bool = True, max_weight_norm: float = math.inf, max_trust: float = math.inf, adapt: bool = True,
) -> list[Tensor]:  # fmt: skip
    x, path = x.double(), []
    for t, (m, v) in enumerate(adam_direction(gradients, betas), 1):
        if bias_correction:
            m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        r = m / (v**0.5 + eps)
        trust = 1.0
        if adapt:
            r = r + weight_decay * x
            if _norm(x) > 0 and _norm(r) > 0:
                trust = min(max_trust, min(max_weight_norm, _norm(x)) / _norm(r))
        x = x - lr * trust * r
        path.append(x)
    return path


def lars(
    x: Tensor, gradients: list[Tensor], lrs: list[float], momentum: float, weight_decay: float, trust_coefficient: float
) -> list[Tensor]:
    x, v, path = x.double(), 0.0 * x.double(), []
    for g, lr in zip(gradients, lrs, strict=True):
        local = 1.0
        if _norm(x) > 0 and _norm(g) > 0:
            local = trust_coefficient * _norm(x) / (_norm(g) + weight_decay * _norm(x))
        v = momentum * v + lr * local * (g.double() + weight_decay * x)
        x = x - v
        path.append(x)
    return path


def lion(
    x: Tensor, gradients: list[Tensor], lr: float, betas: tuple[float, float], weight_decay: float
) -> list[Tensor]:
    values, m, path = x.double().reshape(-1).tolist(), [0.0] * x.numel(), []
    for gradient in gradients:
        for i, g in enumerate(gradient.double().reshape(-1).tolist()):
            u = betas[0] * m[i] + (1 - betas[0]) * g
            values[i] = (1 - lr * weight_decay) * values[i] - lr * ((u > 0) - (u < 0))
            m[i] = betas[1] * m[i] + (1 - betas[1]) * g
        path.append(torch.tensor(values, dtype=torch.float64).reshape(x.shape))
    return path


def apollo(
    x: Tensor, gradients: list[Tensor], seeds: list[int], rank: int, scale_type: str, lr: float,
    betas: tuple[float, float], eps: float, weight_decay: float, scale: float, max_growth: float | None,
    scale_front: bool,
) -> list[Tensor]:  # fmt: skip
    """A matrix; `seeds` has the seed of every step. Both shapes are brought to "rows >= columns" by a transpose."""
    x, path, sketches, last = x.double(), [], [], 0.0
    rows, columns = x.shape
    for t, (g, seed) in enumerate(zip(gradients, seeds, strict=True), 1):
        g = g.double()
        shape = (rank, columns) if rows >= columns else (rows, rank)
        P = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / math.sqrt(rank)
        sketches.append(g @ P.T if rows >= columns else g.T @ P)
        m, v = adam_direction(sketches, betas)[-1]
        n, r = m / (v**0.5 + eps), sketches[-1]  # (larger side, rank)
        if scale_type == "tensor":
            u = g * (_norm(n) / (_norm(r) + 1e-8))
        else:
            s = [_norm(n[j]) / (_norm(r[j]) + 1e-8) for j in range(len(r))]
            u = torch.stack([g[j] * s[j] if rows >= columns else g[:, j] * s[j] for j in range(len(r))])
            u = u if rows >= columns else u.T
        if scale_front:
            u = u * math.sqrt(scale)
        if max_growth is not None:
            if last:
                u = u / (max(_norm(u) / (last + 1e-8), max_growth) / max_growth)
            last = _norm(u) or last
        if not scale_front:
            u = u * math.sqrt(scale)
        x = x - lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) * u
        x = x - lr * weight_decay * x
        path.append(x)
    return path


def spam(
    x: Tensor, gradients: list[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float,
    threshold: float, reset_interval: int, warmup_steps: int, clip_start: int,
) -> list[Tensor]:  # fmt: skip
    values, m, v, path, reset = x.double().reshape(-1).tolist(), [0.0] * x.numel(), [0.0] * x.numel(), [], 0
    for t, gradient in enumerate(gradients, 1):
        if t % reset_interval == 0:
            m, v, reset = [0.0] * x.numel(), [0.0] * x.numel(), t
        warm = 1.0
        if reset and t - reset < warmup_steps:
            warm = 1 - 0.99 * (1 + math.cos(math.pi * (t - reset) / (warmup_steps + 1))) / 2
        rate = warm * lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        for i, g in enumerate(gradient.double().reshape(-1).tolist()):
            if t - reset >= clip_start and v[i] > 0 and g**2 > threshold * v[i]:
                g = math.copysign(math.sqrt(threshold * v[i]), g)
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g**2
            values[i] -= rate * m[i] / (math.sqrt(v[i]) + eps)
            values[i] -= lr * weight_decay * values[i]
        path.append(torch.tensor(values, dtype=torch.float64).reshape(x.shape))
    return path


def stable_spam(
    x: Tensor, gradients: list[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float,
    gamma1: float, gamma2: float, theta: float, reset_interval: int, t_max: int | None, eta_min: float,
) -> list[Tensor]:  # fmt: skip
    x, path, t = x.double(), [], 0
    m, v, M, mu, nu = 0 * x, 0 * x, 0.0, 0.0, 0.0
    for T, g in enumerate(gradients, 1):
        shrink = 1.0
        if t_max is not None:
            shrink = eta_min + (1 - eta_min) * (1 + math.cos(math.pi * min(T, t_max + 1) / (t_max + 1))) / 2
        b1, g1, g = betas[0] * shrink, gamma1 * shrink, g.double()
        a = max(abs(value) for value in g.reshape(-1).tolist())
        M = theta * M + (1 - theta) * a
        bound = M / (1 - theta**T)
        flat = [value / a * bound if abs(value) > bound else value for value in g.reshape(-1).tolist()]
        g = torch.tensor(flat, dtype=torch.float64).reshape(x.shape)
        n = _norm(g)
        mu, nu = g1 * mu + (1 - g1) * n, gamma2 * nu + (1 - gamma2) * n**2
        if n > 0:
            g = g / n * (mu / (1 - g1**T)) / (math.sqrt(nu / (1 - gamma2**T)) + eps)
        t += 1
        if T % reset_interval == 0:
            m, v, t = 0 * x, 0 * x, 1
        m, v = b1 * m + (1 - b1) * g, betas[1] * v + (1 - betas[1]) * g**2
        x = x - lr * weight_decay * x
        x = x - lr * (m / (1 - b1**t)) / ((v / (1 - betas[1] ** t)) ** 0.5 + eps)
        path.append(x)
    return path


def muon(
    x: Tensor, gradients: list[Tensor], lr: float, weight_decay: float, momentum: float, nesterov: bool, matched: bool
) -> list[Tensor]:
    """The iteration acts on singular values alone: so does this, by way of the decomposition."""
    x, path = x.double(), []
    m = 0 * x
    for g in gradients:
        g = g.double()
        m = momentum * m + (1 - momentum) * g
        u = ((1 - momentum) * g + momentum * m if nesterov else m).reshape(len(x), -1)
        rows, columns = u.shape
        U, S, V = torch.linalg.svd(u, full_matrices=False)
        s = S / max(_norm(u), 1e-7)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        size = 0.2 * math.sqrt(max(rows, columns)) if matched else math.sqrt(max(1, rows / columns))
        x = x - lr * weight_decay * x - lr * size * (U @ torch.diag(s) @ V).reshape(x.shape)
        path.append(x)
    return path
