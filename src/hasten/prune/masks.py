"""Masks: which entries of which parameters are kept, and how a model wears them.

In place (the usual way), the weights themselves are zero where the mask is, and the mask lies beside its weight as the
bool buffer `<parameter>_mask`: the forward pass costs nothing, gradients stay dense, and state_dict, deepcopy, pickle,
safetensors, DistributedDataParallel and torch.compile see ordinary weights and buffers. What keeps the weights zero
while an optimizer steps is `hold`. As a parametrization, the module computes `weight` from a dense one on every forward
pass; masked entries have no gradient but keep their value below the mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._core.checks import check, describe, near, refuse, refuse_type
from .places import Masked, Place, bare, places

__all__ = ["Masks", "apply", "finalize", "load", "masks_of"]

SUFFIX = "_mask"
PACKED = 1  # the version of `Masks.packed`

_changes = 0  # how often masks came to a model or went from one, by which `hold` knows that it must look again


def changes() -> int:
    """How often masks have come to any model or gone from one so far; a mask that changes its values does not count."""
    return _changes


def _changed() -> None:
    global _changes
    _changes += 1


class Masks(Mapping[str, Tensor]):
    """Bool masks by the full name of their parameter (of a tied one, its first), True where an entry is kept.

    Args:
        masks: by name; their order is kept.
        strategy, pattern: how they were made, in words.
        asked: what was asked for, e.g. `{"compression": 8.0}`.
        achieved: entries of all parameters of the model / those that are left; None: not known.

    Two are equal when they mask the same names alike, however they were made. `a & b` keeps what both keep.

    >>> masks = Masks({"0.weight": torch.tensor([[True, False], [False, False]])})
    >>> masks.nonzeros, masks.total, masks.density()
    (1, 4, 0.25)
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        masks: Mapping[str, Tensor],
        *,
        strategy: str = "",
        pattern: str = "unstructured",
        asked: Mapping[str, float] | None = None,
        achieved: float | None = None,
    ) -> None:
        for name, mask in masks.items():
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                raise refuse_type("prune.Masks", "bool tensors", f"{name}: {describe(mask)}", "Pass score > 0 or so.")
        self._masks = dict(masks)
        self.strategy, self.pattern, self.asked, self.achieved = strategy, pattern, dict(asked or {}), achieved

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.keys() == other.keys() and all(torch.equal(mask, other[name].to(mask.device))
                                                   for name, mask in self.items())  # fmt: skip

    def __and__(self, other: Mapping[str, Tensor]) -> Masks:
        if self.keys() != other.keys():
            raise refuse("Masks &", "masks of the same parameters", f"{sorted(self.keys() ^ other.keys())} in one only")
        record = {"strategy": self.strategy, "pattern": self.pattern, "asked": self.asked}
        return Masks({name: mask & other[name].to(mask.device) for name, mask in self.items()}, **record)

    @property
    def nonzeros(self) -> int:
        """Entries that are kept."""
        return sum(int(mask.sum()) for mask in self.values())

    @property
    def total(self) -> int:
        """Entries of the masks."""
        return sum(mask.numel() for mask in self.values())

    def density(self, name: str | None = None) -> float:
        """The share that is kept, of all or of one; 1 where there is none."""
        masks = self.values() if name is None else [self[name]]
        total = sum(mask.numel() for mask in masks)
        return sum(int(mask.sum()) for mask in masks) / total if total else 1.0

    def packed(self) -> dict[str, Any]:
        """One bit an entry, as what `torch.load(weights_only=True)` reads; `from_packed` is the way back."""
        bits = {name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1))) for name, mask in self.items()}
        shapes = {name: list(mask.shape) for name, mask in self.items()}
        record = {"strategy": self.strategy, "pattern": self.pattern, "asked": self.asked, "achieved": self.achieved}
        return {"version": PACKED, "bits": bits, "shapes": shapes, **record}

    @classmethod
    def from_packed(cls, packed: Mapping[str, Any]) -> Self:
        """The masks of `packed`, on the CPU.

        Raises:
            ValueError: another version, or bits that do not belong to their shapes.
        """
        call, masks = "Masks.from_packed", {}
        check(packed.get("version") == PACKED, call, f"version {PACKED}", packed.get("version"))
        for name, bits in packed["bits"].items():
            shape = packed["shapes"][name]
            count = int(np.prod(shape, dtype=np.int64))
            check(bits.numel() == (count + 7) // 8, call, f"{(count + 7) // 8} bytes for {name}", bits)
            whole = np.unpackbits(bits.numpy(), count=count).astype(bool)
            masks[name] = torch.from_numpy(whole).reshape(shape)
        return cls(masks, **{key: packed[key] for key in ("strategy", "pattern", "asked", "achieved")})

    def check(self, model: nn.Module, *, call: str = "Masks.check") -> dict[str, list[Place]]:
        """Refuse a model that these masks do not fit.

        Returns:
            The places of each parameter, several for a tied one.

        Raises:
            ValueError: a name that the model lacks, or a parameter of another shape.
        """
        held = places(bare(model))
        known, found = {place.name: place for place in held}, {}
        for name, mask in self.items():
            if name not in known:
                raise refuse(call, "names of parameters", repr(name), near(name, known))
            parameter = known[name].parameter
            check(parameter.shape == mask.shape, call, f"a mask of shape {tuple(parameter.shape)} for {name}", mask)
            found[name] = [known[name], *(p for p in held if p.parameter is parameter and p.name != name)]
        return found

    def __str__(self) -> str:
        width = max([5, *map(len, self)])
        lines = [f"{'':{width}}  {'entries':>12}  {'kept':>12}  density"]
        for name, mask in self.items():
            lines.append(f"{name:{width}}  {mask.numel():12,}  {int(mask.sum()):12,}  {self.density(name):7.4f}")
        lines.append(f"{'total':{width}}  {self.total:12,}  {self.nonzeros:12,}  {self.density():7.4f}")
        made = ", ".join(filter(None, [self.strategy, self.pattern]))
        asked = "".join(f", asked for {what} {value:g}" for what, value in self.asked.items())
        achieved = f", whole model {self.achieved:.4g} times smaller" if self.achieved else ""
        return "\n".join([*lines, f"{made}{asked}{achieved}"])

    def __repr__(self) -> str:
        return f"<Masks of {len(self)} parameters, {self.nonzeros:,} of {self.total:,} entries kept>"


@torch.no_grad()
def apply(model: nn.Module, masks: Mapping[str, Tensor], mode: str = "inplace") -> nn.Module:
    """Put masks on a model: masked entries are 0 from now on, for as long as `hold` or the parametrization holds them.

    Parameters that the masks do not name keep the masks they have. Applying twice is applying once; the masks of
    parameters that have one already are replaced (entries that come back start at 0 in place, at their old value with
    a parametrization).

    Args:
        model: changed in place.
        masks: as from `compute`.
        mode: "inplace" or "parametrize"; see the module. Modules with a parametrization cannot be pickled whole, only
            their state_dict can.

    Returns:
        The model.

    Raises:
        ValueError: masks that do not fit; nothing was changed.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = apply(layer, {"weight": torch.tensor([[True, False]])})
    >>> [(name, tuple(value.shape)) for name, value in layer.state_dict().items()]
    [('weight', (1, 2)), ('weight_mask', (1, 2))]
    >>> layer.weight[0, 1].item()
    0.0
    """
    call = "prune.apply"
    check(mode in ("inplace", "parametrize"), call, 'mode "inplace" or "parametrize"', mode)
    masks = masks if isinstance(masks, Masks) else Masks(masks)
    found = masks.check(model, call=call)
    for name, (place, *_) in found.items():
        if place.masked is None:
            _refuse_taken(call, place)
        other = "parametrize" if place.masked is not None else "inplace" if beside(place) is not None else mode
        check(other == mode, call, f"mode={other!r}, as {name} is masked already", mode, "Call prune.finalize first.")
    for name, at in found.items():
        mask = masks[name].to(at[0].parameter.device)
        (_wear if mode == "inplace" else _cover)(at, mask)
    _changed()
    return model


@torch.no_grad()
def finalize(model: nn.Module) -> nn.Module:
    """Bake the masks in and take them off: plain weights with zeros, the same outputs to the bit.

    Args:
        model: changed in place; one without masks stays as it is.

    Returns:
        The model.
    """
    for place in places(bare(model)):
        if place.masked is not None:
            _own_class(place.module)
            parametrize.remove_parametrizations(place.module, place.attribute, leave_parametrized=True)
        elif (mask := beside(place)) is not None:
            place.parameter.masked_fill_(mask.logical_not(), 0)
            delattr(place.module, place.attribute + SUFFIX)
    _changed()
    return model


def masks_of(model: nn.Module) -> Masks:
    """The masks that a model wears, by the names of their parameters; no copies."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    model = bare(model)
    for place in places(model):
        mask = place.masked.mask if place.masked is not None else beside(place)
        if mask is not None and id(place.parameter) not in seen:
            seen.add(id(place.parameter))
            found[place.name] = mask
    masks = Masks(found)
    total = sum(p.numel() for p in model.parameters())
    left = total - masks.total + masks.nonzeros
    masks.achieved = total / left if left else None
    return masks


def load(model: nn.Module, state_dict: Mapping[str, Tensor], *, strict: bool = True) -> nn.Module:
    """Load the state_dict of a masked model into a model of the same kind, masked or not.

    Args:
        model: changed in place.
        state_dict: of a model with masks, of either mode.
        strict: as of `Module.load_state_dict`.

    Returns:
        The model, with the masks of the state_dict.
    """
    plain, covered = {}, {}
    known = {place.name: place.parameter for place in places(bare(model))}
    for key, value in state_dict.items():
        layer, _, tail = key.rpartition(".parametrizations.")
        if tail.endswith(".0.mask"):
            attribute = tail.removesuffix(".0.mask")
            covered[f"{layer}.{attribute}" if layer else attribute] = value
        elif value.dtype == torch.bool and key.endswith(SUFFIX) and key.removesuffix(SUFFIX) in known:
            plain[key.removesuffix(SUFFIX)] = value
    apply(model, plain)
    apply(model, covered, "parametrize")
    bare(model).load_state_dict(state_dict, strict=strict)
    return apply(model, plain)  # weights of a file need not be zero under its masks


def beside(place: Place) -> Tensor | None:
    """The mask that lies beside a parameter, if any."""
    mask = place.module._buffers.get(place.attribute + SUFFIX)
    if mask is None or mask.dtype != torch.bool or mask.shape != place.parameter.shape:
        return None
    return mask


def _refuse_taken(call: str, place: Place) -> None:
    name = place.attribute + SUFFIX
    if hasattr(place.module, name) and beside(place) is None:
        expected = f"{name} of {place.layer or 'the model'} free for the mask"
        raise refuse(call, expected, "an attribute of this name", "Rename it, or remove the other mask.")


def _wear(at: list[Place], mask: Tensor) -> None:
    """The mask beside its parameter, at the first of its places."""
    place, worn = at[0], beside(at[0])
    if worn is None:
        place.module.register_buffer(place.attribute + SUFFIX, mask.clone())
    else:
        worn.copy_(mask)
    place.parameter.masked_fill_(mask.logical_not(), 0)


def _cover(at: list[Place], mask: Tensor) -> None:
    """The mask over its parameter, at all of its places."""
    masked = Masked(mask.clone())
    for place in at:
        if place.masked is not None:
            place.masked.mask.copy_(mask)
        else:
            _own_class(place.module)
            parametrize.register_parametrization(place.module, place.attribute, masked)


def _own_class(module: nn.Module) -> None:
    """A parametrized module has a class of its own, with a property for each weight, which its deep copies share.

    Before properties come or go, it gets another: the copies keep theirs.
    """
    if parametrize.is_parametrized(module):
        shared = type(module)
        module.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
