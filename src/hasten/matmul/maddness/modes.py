"""The three modes of a layer that computes by trees and tables: what it holds in each, and its state.

    "exact"      the layer it was made from computes; trees and tables wait (no gradients)
    "finetune"   trees and tables as float parameters, differentiable (soft.py); the original weight is gone
    "frozen"     8-bit tables and compiled kernels; evaluation only, nothing to train

`finetune_mode()` and `freeze()` move on; `finetune_mode()` also opens a frozen layer again, from its rounded tables.
A bias is part of the frozen offset, so it costs nothing. Trees and tables stay float32 whatever `model.to(bfloat16)`
says (thresholds decide exactly). They are ordinary tensors even where a layer is made under `torch.inference_mode`, so
that it can be trained, and its tables are read once (packed.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..._core.checks import check, near, refuse, refuse_type, whole
from .estimator import Maddness
from .fitting import INPUTS, spread_of, width_of
from .fused import soft_matmul
from .packed import Packed, forget
from .soft import straight_through_tables
from .tables import LUT_SCALES, Tables, averaging, make_tables
from .trees import LEAVES

__all__ = ["MODES", "MaddnessLayer"]

MODES = ("exact", "finetune", "frozen")


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

    @torch.inference_mode(mode=False)
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

    @classmethod
    def like(cls, dense: Any, ncodebooks: int, leaves: int = 16, **options: Any) -> Self:
        """An empty layer of the sizes of `dense`."""
        raise NotImplementedError

    @classmethod
    def from_estimator(
        cls,
        dense: nn.Linear | nn.Conv2d,
        estimator: Maddness,
        rows: np.ndarray,  # (R, D)
        *,
        mode: str = "finetune",
        round_tables: bool = True,
    ) -> Self:
        """The layer of an estimator that has been fitted to the layer's rows (or patches) already.

        Args:
            dense: the layer.
            estimator: fitted.
            rows: some of its rows, float32, from which the width of the soft sign is taken.
            mode: "finetune", "frozen" or "exact".
            round_tables: fine-tune with tables rounded to 8 bits in the forward pass.

        Returns:
            The table layer, in the training mode of `dense`.
        """
        names = ("lut_scale", "accumulate", "upcast_every")
        options = {name: getattr(estimator, name) for name in names}
        layer = cls.like(dense, estimator.ncodebooks, estimator.leaves, round_tables=round_tables, **options)
        layer._learn(dense, estimator, rows, mode)
        return layer.train(dense.training)

    @torch.inference_mode(mode=False)
    def _learn(self, dense: nn.Linear | nn.Conv2d, estimator: Maddness, rows: np.ndarray, mode: str) -> None:
        """Take over what `estimator` has learned from `rows`, for the product with the weight of `dense`."""
        _among(type(self).__name__, "mode", mode, MODES)
        device, bias = dense.weight.device, dense.bias
        self.split_dims = torch.from_numpy(estimator.split_dims_.copy()).to(device)
        T = estimator.float_tables(dense.weight.detach().flatten(1).cpu().double().numpy().T)
        thresholds = torch.from_numpy(estimator.thresholds_.copy())
        offset = torch.zeros(self.outputs) if bias is None else bias.detach().float().cpu()
        if mode == "frozen":
            packed = make_tables(T, 8, self.lut_scale, offset.double().numpy())
            self._set_frozen(thresholds.to(device), packed)
            return
        # A node that passes everything left has the threshold +inf: a finite one does the same, with finite gradients.
        thresholds = thresholds.clamp(max=torch.finfo(torch.float32).max)
        log_width = width_of(rows, self.split_dims.cpu(), thresholds).log()
        parts = (thresholds, torch.from_numpy(T).float(), log_width, offset.clone())
        self._set_trainable(*(part.to(device) for part in parts))
        if mode == "exact":
            self.exact, self.mode = dense, "exact"
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

    @torch.inference_mode(mode=False)
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
            log_width = spread_of(thresholds).log()
            self._set_trainable(thresholds, tables, log_width, offset)
        elif self.mode == "exact":
            self._drop_exact()
            self._train_parameters(True)
        self.mode = "finetune"
        return self

    @torch.inference_mode(mode=False)
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

    def refresh(self) -> Self:
        """Read the frozen tables again, after they were written to in a way that torch does not count.

        Such are writes through `.data`, through NumPy, or through another view of the same memory. Others are seen.

        Returns:
            self.
        """
        if self.mode == "frozen":
            forget(self._packed())
        return self

    # Computing -------------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """The approximate product, in the dtype of `x`."""
        if self.mode == "exact" and self.exact is not None:
            return self.exact(x)
        self._check_input(x)
        return self._look_up(x) if self.mode == "frozen" else self._soft_forward(x).to(x.dtype)

    def _check_shape(self, x: Tensor) -> None:
        raise NotImplementedError

    def _look_up(self, x: Tensor) -> Tensor:
        """By the frozen tables."""
        raise NotImplementedError

    def _soft_forward(self, x: Tensor) -> Tensor:
        """With gradients, in float32."""
        raise NotImplementedError

    def _check_input(self, x: Tensor) -> None:
        call = type(self).__name__
        if x.dtype not in INPUTS:
            raise refuse_type(call, "a float32, bfloat16 or float16 input", x, "Cast it: x.float().")
        if self.mode == "frozen" and self.training:
            fix = "Call model.eval(), or finetune_mode() on the layer to train it."
            raise RuntimeError(f"{call}: expected evaluation mode, got training mode with frozen tables. {fix}")
        self._check_shape(x)

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

    def _packed(self) -> Packed:
        return Packed(self.split_dims, self.thresholds, self.get_buffer("luts"), self.get_buffer("scale"), self.offset)

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


def _among(call: str, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise refuse(call, f"{name} among {', '.join(map(repr, known))}", repr(value), near(str(value), known))
