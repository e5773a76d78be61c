"""Looking through what torch.compile and data parallelism put around a model, and recognising it."""

from __future__ import annotations

import sys

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["unwrapped", "wrapper_of"]


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch.compile, DistributedDataParallel and DataParallel, however deep.

    >>> import torch
    >>> unwrapped(torch.compile(nn.DataParallel(nn.Linear(2, 2))))
    Linear(in_features=2, out_features=2, bias=True)
    """
    while True:
        if hasattr(model, "_orig_mod"):  # torch.compile's
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        else:
            return model


def wrapper_of(model: nn.Module) -> str | None:
    """The name of the data-parallel wrapper around the model or a part of it; None where there is none.

    FSDP2 (`fully_shard`) is not one: it leaves the model's own parameters in place, as sharded tensors.

    >>> wrapper_of(nn.DataParallel(nn.Linear(2, 2)))
    'DataParallel'
    """
    # Importing the module of FSDP1 takes half a second; whoever has such a model has imported it.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    known = (DataParallel, DistributedDataParallel, *((fsdp.FullyShardedDataParallel,) if fsdp else ()))
    for module in model.modules():
        for wrapper in known:
            if isinstance(module, wrapper):
                return wrapper.__name__
    return None
