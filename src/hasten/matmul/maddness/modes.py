"""The three modes of a layer that computes by trees and tables: what it holds in each, and its state.

    "exact"      the layer it was made from computes; trees and tables wait (no gradients)
    "finetune"   trees and tables as float parameters, differentiable (soft.py); the original weight is gone
    "frozen"     8-bit tables and compiled kernels; evaluation only, nothing to train

`finetune_mode()` and `freeze()` move on; `finetune_mode()` also opens a frozen layer again, from its rounded tables.
A bias is part of the frozen offset, so it costs nothing. Trees and tables stay float32 whatever `model.to(bfloat16)`
says (thresholds decide exactly).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..._core.checks import check, near, refuse, refuse_type, whole
from .estimator import Maddness
from .fused import soft_matmul
from .soft import node_dims, straight_through_tables
from .tables import LUT_SCALES, Tables, averaging, make_tables
from .trees import LEAVES

__all__ = ["INPUTS", "MODES", "MaddnessLayer", "fit_rows", "layer_options", "new_estimator"]

MODES = ("exact", "finetune", "frozen")
INPUTS = (torch.float32, torch.bfloat16, torch.float16)
WIDTH_ROWS = 4096  # rows from which the soft sign's width is taken


class MaddnessLayer(nn.Module):
    """What both layers share: trees, tables, modes and their state.

    Attributes:
        split_dims: (C, L) int32 buffer.
        thresholds: (C, K - 1) float32; a parameter, frozen a buffer.
        tables: (M, C, K) float32 parameter ("exact" and "finetune").
        log_width: (C,) float32 parameter, logarithm of the soft sign's width ("exact" and "finetune").
        offset: (M,) float32, the bias; a parameter, frozen a buffer that holds the tables' offsets too.
        luts, scale: (M, C, K) uint8 and (M,) float32 buffers ("frozen").
        exact: the original layer ("exact").
    """

    split_dims: Tensor
    thresholds: Tensor
    offset: Tensor

    def __init__(
        self,
        columns: int,
        outputs: int,
        ncodebooks: int = 16,
        leaves: int = 16,
        *,
        mode: str = "finetune",
        lut_scale: str = "per_output",
        accumulate: str = "exact",
        upcast_every: int = 16,
        round_tables: bool = True,
    ) -> None:
        super().__init__()
        call = type(self).__name__
        whole(call, "ncodebooks", ncodebooks, low=1)
        if ncodebooks > columns:
            raise refuse(
                call, f"at most {columns} codebooks, one for each column", ncodebooks, "Pass fewer ncodebooks."
            )
        check(leaves in LEAVES, call, f"leaves among {LEAVES}", leaves, "Pass leaves=16.")
        _among(call, "lut_scale", lut_scale, LUT_SCALES)
        _among(call, "accumulate", accumulate, ("exact", "avg"))
        _among(call, "mode", mode, ("finetune", "frozen"))
        averaging(ncodebooks, upcast_every)  # refuses what is no power of two
        self.columns, self.outputs, self.ncodebooks, self.leaves = columns, outputs, ncodebooks, leaves
        self.lut_scale, self.accumulate, self.upcast_every = lut_scale, accumulate, upcast_every
        self.round_tables, self.mode = round_tables, mode
        self.exact: nn.Module | None = None
        self.register_buffer("split_dims", torch.zeros(ncodebooks, leaves.bit_length() - 1, dtype=torch.int32))
        tables = torch.zeros(outputs, ncodebooks, leaves)
        self._set_trainable(torch.zeros(ncodebooks, leaves - 1), tables, torch.zeros(ncodebooks), torch.zeros(outputs))
        if mode == "frozen":
            self.mode = "finetune"
            self.freeze()

    # Making ----------------------------------------------------------------------------------------------------------

    def _learn(
        self, estimator: Maddness, rows: np.ndarray, weight: Tensor, bias: Tensor | None, exact: nn.Module, mode: str
    ) -> None:
        """Take over what `estimator` has learned from `rows`, for the product with `weight` (M, D)."""
        _among(type(self).__name__, "mode", mode, MODES)
        device = weight.device
        self.split_dims = torch.from_numpy(estimator.split_dims_.copy()).to(device)
        factor = weight.detach().cpu().double().numpy()
        T = np.einsum("ckd,dm->mck", estimator.prototypes_.astype(np.float64), factor.T, optimize=True)
        thresholds = torch.from_numpy(estimator.thresholds_.copy())
        offset = torch.zeros(self.outputs) if bias is None else bias.detach().float().cpu()
        if mode == "frozen":
            packed = make_tables(T, 8, self.lut_scale, offset.double().numpy())
            self._set_frozen(thresholds.to(device), packed)
            return
        # A node that passes everything left has the threshold +inf: a finite one does the same, with finite gradients.
        thresholds = thresholds.clamp(max=torch.finfo(torch.float32).max)
        log_width = _width(rows, self.split_dims.cpu(), thresholds).log()
        parts = (thresholds, torch.from_numpy(T).float(), log_width, offset.clone())
        self._set_trainable(*(part.to(device) for part in parts))
        if mode == "exact":
            self.exact, self.mode = exact, "exact"
            self._train_parameters(False)

    def _set_trainable(self, thresholds: Tensor, tables: Tensor, log_width: Tensor, offset: Tensor) -> None:
        """Register the float parameters."""
        for name in ("thresholds", "offset", "luts", "scale"):
            self._buffers.pop(name, None)
        for name, value in zip(_PARAMETERS, (thresholds, tables, log_width, offset), strict=True):
            self.register_parameter(name, nn.Parameter(value))

    def _drop_exact(self) -> None:
        self._modules.pop("exact", None)
        self.exact = None

    def _train_parameters(self, on: bool) -> None:
        for name in _PARAMETERS:
            self.get_parameter(name).requires_grad_(on)

    def _set_frozen(self, thresholds: Tensor, packed: Tables) -> None:
        """Register the packed tables in place of the parameters."""
        for name in _PARAMETERS:
            self._parameters.pop(name, None)
        self._drop_exact()
        self.mode = "frozen"
        self.register_buffer("thresholds", thresholds.detach().clone())
        for name in ("luts", "scale", "offset"):
            self.register_buffer(name, torch.from_numpy(getattr(packed, name)).to(thresholds.device))

    # Modes -----------------------------------------------------------------------------------------------------------

    def finetune_mode(self) -> Self:
        """Train trees and tables from now on; the original weight, if it is still here, is dropped.

        A frozen layer opens with the tables that it had rounded. Build the optimizer afterwards: the parameters of a
        frozen layer are new ones.

        Returns:
            self.
        """
        if self.mode == "frozen":
            # The offset stays apart, so that freezing gives the same entries and the same offset again.
            tables = self.get_buffer("luts") * self.get_buffer("scale")[:, None, None]
            offset, thresholds = self.offset, self.thresholds.clamp(max=torch.finfo(torch.float32).max)
            log_width = _spread(thresholds).log()
            self._set_trainable(thresholds, tables, log_width, offset)
        elif self.mode == "exact":
            self._drop_exact()
            self._train_parameters(True)
        self.mode = "finetune"
        return self

    def freeze(self) -> Self:
        """Round the tables to 8 bits and drop all that trains; evaluation only from now on.

        Returns:
            self.

        Raises:
            ValueError: tables that training has made NaN or infinite.
        """
        if self.mode != "frozen":
            T, offset = (getattr(self, name).detach().cpu().double().numpy() for name in ("tables", "offset"))
            self._set_frozen(self.thresholds, make_tables(T, 8, self.lut_scale, offset))
        return self

    # Computing -------------------------------------------------------------------------------------------------------

    def _check_input(self, x: Tensor) -> None:
        call = type(self).__name__
        if x.dtype not in INPUTS:
            raise refuse_type(call, "a float32, bfloat16 or float16 input", x, "Cast it: x.float().")
        if self.mode == "frozen" and self.training:
            fix = "Call model.eval(), or finetune_mode() on the layer to train it."
            raise RuntimeError(f"{call}: expected evaluation mode, got training mode with frozen tables. {fix}")

    def _soft(
        self,
        rows: Tensor,  # (N, any) in float32
        split_dims: Tensor,  # into the columns of `rows`
    ) -> Tensor:  # (N, M) float32
        """The differentiable product."""
        tables = self.get_parameter("tables")
        if self.round_tables:
            tables = straight_through_tables(tables, self.lut_scale == "shared")
        width = self.get_parameter("log_width").exp()
        return soft_matmul(rows, split_dims, self.thresholds, tables, width) + self.offset

    def _packed(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.split_dims, self.thresholds, self.get_buffer("luts"), self.get_buffer("scale"), self.offset

    # State -----------------------------------------------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device as any module; a change of dtype reaches the original layer only."""

        def keep(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return new if new.dtype == tensor.dtype else tensor.to(new.device)

        if recurse:
            for child in self.children():
                child._apply(fn)
        super()._apply(keep, recurse=False)
        return self

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        saved = next((mode for key, mode in _MARKS if any(k.startswith(prefix + key) for k in state_dict)), self.mode)
        if saved != self.mode:
            fix = f"Make the layer with mode={saved!r}, or call its freeze() or finetune_mode() first."
            error_msgs.append(f"{prefix[:-1] or type(self).__name__}: expected a state of mode {self.mode!r}, got one "
                              f"of {saved!r}. {fix}")  # fmt: skip
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self) -> str:
        """The layer's arguments."""
        size = f"ncodebooks={self.ncodebooks}, leaves={self.leaves}, mode={self.mode!r}"
        others = {"lut_scale": "per_output", "accumulate": "exact"}
        return ", ".join([size, *(f"{k}={getattr(self, k)!r}" for k, v in others.items() if getattr(self, k) != v)])


_PARAMETERS = ("thresholds", "tables", "log_width", "offset")
_MARKS = (("exact.", "exact"), ("tables", "finetune"), ("luts", "frozen"))


def fit_rows(call: str, estimator: Maddness, rows: Tensor, matrix: Tensor) -> np.ndarray:
    """Fit the trees to rows (R, D) in float32, and say what is wrong with them in the layer's words."""
    if rows.dtype not in (*INPUTS, torch.float64):
        raise refuse_type(call, "inputs of a floating-point dtype", rows, "Cast them: inputs.float().")
    check(estimator.lut_bits == 8, call, "lut_bits=8", estimator.lut_bits, "Layers hold tables of 8 bits.")
    check(len(rows) > 0, call, "at least one row of inputs", rows, "Pass calibration data.")
    numbers = rows.float().cpu().numpy()
    if not np.isfinite(numbers).all():
        raise refuse(call, "finite inputs", "NaN or infinity", "Look for the layer before that makes them.")
    fix = f"Pass ncodebooks of at most {numbers.shape[1]}."
    check(estimator.ncodebooks <= numbers.shape[1], call, f"at most {numbers.shape[1]} codebooks, one for each column",
          estimator.ncodebooks, fix)  # fmt: skip
    estimator.fit(numbers, matrix.detach().float().cpu().numpy().T)
    return numbers


def new_estimator(ncodebooks: int, leaves: int, options: Mapping[str, Any]) -> Maddness:
    """An estimator for a layer: B is known, so cuts are chosen by the product's error, unless the caller says other."""
    given: dict[str, Any] = {"split_metric": "output", **options}
    return Maddness(ncodebooks, leaves=leaves, **given)


def layer_options(estimator: Maddness, round_tables: bool) -> dict[str, Any]:
    """The arguments of a layer that an estimator decides."""
    names = ("lut_scale", "accumulate", "upcast_every")
    return {"round_tables": round_tables, **{name: getattr(estimator, name) for name in names}}


def _width(rows: np.ndarray, split_dims: Tensor, thresholds: Tensor) -> Tensor:
    """(C,) the mean distance of a value from a threshold of its codebook: where tanh bends; 1 where all are equal."""
    sample = torch.from_numpy(rows[:: max(1, len(rows) // WIDTH_ROWS)])
    distance = (sample[:, node_dims(split_dims)] - thresholds).abs()
    live = (thresholds < torch.finfo(torch.float32).max).expand_as(distance)
    width = torch.where(live, distance, 0).sum((0, 2)) / live.sum((0, 2)).clamp(min=1)
    return torch.where(width > 0, width, torch.ones_like(width))


def _spread(thresholds: Tensor) -> Tensor:
    """(C,) a width from thresholds alone: their standard deviation, or 1."""
    live = thresholds < torch.finfo(torch.float32).max
    count = live.sum(1).clamp(min=1)
    mean = torch.where(live, thresholds, 0).sum(1) / count
    spread = (torch.where(live, thresholds - mean[:, None], 0).square().sum(1) / count).sqrt()
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _among(call: str, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise refuse(call, f"{name} among {', '.join(map(repr, known))}", repr(value), near(str(value), known))
