"""What 8-bit states do to Adam over thousands of steps, without a model: four codings of the same simulated gradients.

    gradient    (0.1 + N(0, 1)) times a scale of each element, 1e-3 exp(N(0, 1)); a share of them exactly 0
    fall        in half of the scenarios all gradients are ten times smaller from a third of the run on
    arms        fp32, and three codings of both moments in groups of 32, each of which steps by its own states:
      published   arXiv 2602.23349: softsign and square-root codes, float16 scales; a variance above 0 may get code 0
      first fix   codes of at least 1, bfloat16 scales rounded up: no zeroed variance, but rounded to the nearest
      hasten      the codes and scales of hasten.optim.flash, whose scales are rounded with the dither of the step

The value is the largest |update| / lr of the run, which Adam keeps near 1. Beside it stand, at the end of the run:
`drift`, the distance from the fp32 arm's weights over the way that these went; `cosine` and `length` of the two ways;
`root_ratio`, the median of sqrt(v) over fp32's. All scenarios see the same draws.

    python benchmarks/flash_drift.py --json
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from dataclasses import dataclass

import torch
from _record import emit
from torch import Tensor

from hasten.optim.flash import decode_momentum, decode_variance, encode_momentum, encode_variance
from hasten.optim.flash.companding import dither

GROUP = 32
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
ZEROS, FALLS = (0.0, 0.5, 0.9, 0.99), (1.0, 10.0)
SCENARIOS = list(itertools.product(FALLS, ZEROS))


def published(m: Tensor, v: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Both moments after a round trip through the published coding, from its formulas."""
    groups = m.view(-1, GROUP)
    scale = groups.abs().amax(1, keepdim=True).clamp(min=1e-12)
    z = groups / scale
    y = torch.floor(127.0 * (2.0 * z / (1.0 + z.abs())) + 0.5) / 127.0
    m = (y / (2.0 - y.abs()) * scale.half().float()).view_as(m)
    roots = v.sqrt().view(-1, GROUP)
    scale = roots.amax(1, keepdim=True).clamp(min=1e-12)
    codes = torch.floor(255.0 * roots / scale + 0.5)
    return m, (codes / 255.0 * scale.half().float()).square().view_as(v)


def first_fix(m: Tensor, v: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """The same codes by the stored scale, which is bfloat16 and rounded up; no code 0 for a variance above 0."""
    groups = m.view(-1, GROUP)
    scale = rounded_up(groups.abs().amax(1, keepdim=True)).clamp(min=1e-37)
    codes = torch.round(254.0 * groups / (scale + groups.abs()))
    m = (scale * codes / (254.0 - codes.abs())).view_as(m)
    roots = v.sqrt().view(-1, GROUP)
    scale = rounded_up(roots.amax(1, keepdim=True)).clamp(min=1e-37)
    codes = torch.round(255.0 * roots / scale).clamp(min=1.0) * (roots > 0)
    return m, (codes / 255.0 * scale).square().view_as(v)


def rounded_up(x: Tensor) -> Tensor:
    """The next bfloat16 number from `x` >= 0 on, in float32."""
    return ((x.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32)


def ours(m: Tensor, v: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Both moments as the next step of hasten's optimizers reads them."""
    rounding = dither(t)
    return (
        decode_momentum(*encode_momentum(m, dither=rounding)),
        decode_variance(*encode_variance(v, dither=rounding)),
    )


CODINGS = {"fp32": lambda m, v, t: (m, v), "published": published, "first fix": first_fix, "hasten": ours}


@dataclass
class Arm:
    """Weights and states of one coding, (scenarios, parameters)."""

    x: Tensor
    m: Tensor
    v: Tensor
    largest: Tensor  # (scenarios,)


def simulate(size: int, steps: int, seed: int) -> dict[str, Arm]:
    """Every arm after `steps` steps."""
    generator = torch.Generator().manual_seed(seed)
    scale = 1e-3 * torch.exp(torch.randn(size, generator=generator))
    zeros = torch.tensor([share for _, share in SCENARIOS]).unsqueeze(1)
    falls = torch.tensor([fall for fall, _ in SCENARIOS]).unsqueeze(1)
    shape = (len(SCENARIOS), size)
    arms = {
        name: Arm(torch.zeros(shape), torch.zeros(shape), torch.zeros(shape), torch.zeros(shape[0])) for name in CODINGS
    }
    for t in range(1, steps + 1):
        g = (0.1 + torch.randn(size, generator=generator)) * scale
        g = g * (torch.rand(size, generator=generator) >= zeros)
        if t > steps // 3:
            g = g / falls
        for name, arm in arms.items():
            m = BETA1 * arm.m + (1 - BETA1) * g
            v = BETA2 * arm.v + (1 - BETA2) * g * g
            update = m / (1 - BETA1**t) / ((v / (1 - BETA2**t)).sqrt() + EPSILON)
            arm.x += update
            arm.largest = torch.maximum(arm.largest, update.abs().amax(1))
            arm.m, arm.v = CODINGS[name](m, v, t)
    return arms


def measures(arm: Arm, fp32: Arm) -> list[dict[str, float]]:
    """What is reported of an arm, one entry for each scenario."""
    result = []
    for k in range(len(SCENARIOS)):
        x, right = arm.x[k], fp32.x[k]
        seen = fp32.v[k] > 0
        result.append(
            {
                "largest": float(arm.largest[k]),
                "drift": float((x - right).norm() / right.norm()),
                "cosine": float(torch.cosine_similarity(x, right, dim=0)),
                "length": float(x.norm() / right.norm()),
                "root_ratio": float((arm.v[k][seen] / fp32.v[k][seen]).sqrt().median()),
            }
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--params", type=int, default=16384, help="of each scenario, a multiple of 32")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=1, help="25 s each")
    options = parser.parse_args()
    if options.params % GROUP:
        parser.error(f"--params: expected a multiple of {GROUP}, got {options.params}.")
    torch.set_num_threads(1)  # tensors are small
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in CODINGS}
    for seed in range(options.seeds):
        arms = simulate(options.params, options.steps, seed)
        for name, arm in arms.items():
            found[name].append(measures(arm, arms["fp32"]))
    for k, (fall, zeros) in enumerate(SCENARIOS):
        for name, seeds in found.items():
            runs = [scenarios[k] for scenarios in seeds]
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            right = statistics.median(scenarios[k]["largest"] for scenarios in found["fp32"])
            emit(
                options.json,
                claim=f"drift, {100 * zeros:g} % zeros" + (f", fall by {fall:g}" if fall != 1 else ""),
                arm=name,
                value=middle["largest"],
                unit="largest |update| / lr",
                ratio=middle["largest"] / right,
                interval=[min(run["largest"] for run in runs), max(run["largest"] for run in runs)],
                n=len(runs),
                **{key: middle[key] for key in ("drift", "cosine", "length", "root_ratio")},
                parameters=options.params,
                steps=options.steps,
                runs=runs,
            )
            if not options.json:
                words = "  ".join(f"{key} {middle[key]:.3f}" for key in ("drift", "cosine", "length", "root_ratio"))
                print(f"    {words}")


if __name__ == "__main__":
    main()
