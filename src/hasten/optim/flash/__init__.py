"""Training with 16-bit weights and 8-bit optimizer state (arXiv 2602.23349).

A bfloat16 model trained with AdamW usually needs 16 bytes for each parameter: a float32 weight, a float32 gradient and
two float32 moments. Here it needs 7.125, or 5.125 with gradient release:

    weight       2 bytes   what the model computes with
    correction   1 byte    the bits that rounding the weight to 16 lost: splitting.py
    gradient     2 bytes   or none that lasts: release.py
    momentum     1.0625    codes of 8 bits and a scale for every 32 elements: companding.py
    variance     1.0625

One step is one pass over this memory: decode, update (rules.py), encode. Backends differ in speed only (backends.py);
the C++ one gives the same bytes with every instruction set. Everything else is what a torch optimizer needs: options
(optimizer.py), checkpoints (checkpoint.py), the model's cast (cast.py).

What is lost: with 24-bit weights, what a weight changes below 2^-17 of its size; of the moments, about 1 % of each
element. Where the published scheme was seen to fail, this one differs; splitting.py and companding.py say how.
"""

from __future__ import annotations

from .adam import FlashAdam, FlashAdamW
from .cast import cast_model
from .companding import decode_momentum, decode_variance, encode_momentum, encode_variance
from .compat import compute_ecc_bits, reconstruct_fp32_param
from .lion import FlashLion
from .numerics import NumericsError
from .release import enable_gradient_release
from .report import MemoryReport, memory_report
from .sgd import FlashSGD, FlashSGDW
from .splitting import join_weight, split_weight

__all__ = [
    "FlashAdam", "FlashAdamW", "FlashLion", "FlashSGD", "FlashSGDW", "MemoryReport", "NumericsError", "cast_model",
    "compute_ecc_bits", "decode_momentum", "decode_variance", "enable_gradient_release", "encode_momentum",
    "encode_variance", "join_weight", "memory_report", "reconstruct_fp32_param", "split_weight",
]  # fmt: skip
