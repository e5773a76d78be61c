"""Scores from the gradient of a loss, over all the batches that are given.

    saliency   |w g|        the loss lost or gained, to first order, when w becomes 0   (SNIP: before training)
    movement   -w g         whether the next step takes w away from 0
    grasp      w (H g)      how much the norm of the gradient falls when w becomes 0

with g the gradient and H the Hessian of the mean loss over all samples. Nothing is left behind: not in `.grad`, not
in batch norms, not in the global generators.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._core.checks import NonFiniteError, positive
from .data import Data, inputs_of, samples, undisturbed

__all__ = ["gradients", "grasp", "movement", "saliency"]

Parameters = Mapping[str, nn.Parameter]


def saliency(weight: Tensor, gradient: Tensor) -> Tensor:
    """`|w g|`, in the gradient's dtype.

    >>> saliency(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.5]))
    tensor([0.5000, 1.0000])

    Source: arXiv 1810.02340.
    """
    return gradient.mul(weight.detach()).abs_()


def movement(weight: Tensor, gradient: Tensor) -> Tensor:
    """`-w g`: above 0 where a gradient step makes the weight larger. Training sums it up over its steps.

    >>> movement(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.5]))
    tensor([-0.5000,  1.0000])

    Source: arXiv 2005.07683.
    """
    return gradient.mul(weight.detach()).neg_()


def gradients(model: nn.Module, parameters: Parameters, data: Data) -> dict[str, Tensor]:
    """The gradient of the mean loss over all samples, at least float32; 0 where the loss does not depend on one.

    Args:
        model: runs as in training, without dropout; it is left as it was.
        parameters: by name; also those that are frozen.
        data: batches with targets and a loss that is a mean over the batch.

    Raises:
        NonFiniteError: a loss or a gradient is not finite.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> data = Data((torch.ones(3, 1), torch.zeros(3, 1)), nn.functional.l1_loss)
    >>> gradients(model, dict(model.named_parameters()), data)["weight"].abs()
    tensor([[1.]])
    """
    wanted = list(parameters.values())
    with undisturbed(model, data, trained=wanted):
        parts = (
            (size, torch.autograd.grad(loss, wanted, allow_unused=True)) for size, loss in _losses(model, wanted, data)
        )
        return _checked(dict(zip(parameters, _mean(parts, wanted), strict=True)), data.call)


def grasp(model: nn.Module, parameters: Parameters, data: Data, temperature: float = 1.0) -> dict[str, Tensor]:
    """`w (H g)`: what stays is what the norm of the gradient, and so the speed of training, depends on.

    Taking the weight w away changes `|g|^2` by `-2 w (H g)`, to first order; the published score is `-w (H g)` and
    those that have most of it are removed. H and g are of the parameters given alone. The batches are gone through
    twice: for g, then for its product with H.

    Args:
        model, parameters, data: as for `gradients`; the loss must be twice differentiable.
        temperature: the outputs are divided by it. The published code takes 200, which flattens the softmax.

    Source: arXiv 2002.07376.
    """
    positive(data.call, "temperature", temperature)
    wanted = list(parameters.values())
    # Other kernels for attention know no second derivative.
    with undisturbed(model, data, trained=wanted), sdpa_kernel(SDPBackend.MATH):
        first = (
            (size, torch.autograd.grad(loss, wanted, allow_unused=True))
            for size, loss in _losses(model, wanted, data, temperature)
        )
        g = [data.worn(name, mean) for name, mean in zip(parameters, _mean(first, wanted), strict=True)]
        second = ((size, _product(loss, wanted, g)) for size, loss in _losses(model, wanted, data, temperature))
        found = dict(zip(parameters, _mean(second, wanted), strict=True))
    for name, score in _checked(found, data.call).items():
        score.mul_(parameters[name].detach())
    return found


def _losses(
    model: nn.Module, wanted: Iterable[nn.Parameter], data: Data, temperature: float = 1.0
) -> Iterator[tuple[int, Tensor]]:
    """The number of samples and the loss of each batch."""
    device = next(iter(wanted)).device
    for batch in data.on(device):
        with torch.enable_grad():
            outputs = model(inputs_of(batch))
            loss = data.loss(outputs if temperature == 1 else outputs / temperature, batch)
        yield samples(batch), loss


def _product(loss: Tensor, wanted: list[nn.Parameter], g: list[Tensor]) -> tuple[Tensor | None, ...]:
    """The Hessian of the loss times g."""
    with torch.enable_grad():
        own = torch.autograd.grad(loss, wanted, create_graph=True, allow_unused=True)
        along = [(part * of).sum() for part, of in zip(own, g, strict=True) if part is not None and part.requires_grad]
        if not along:  # a loss that is linear in all of them
            return (None,) * len(wanted)
        return torch.autograd.grad(sum(along[1:], along[0]), wanted, allow_unused=True)


def _mean(parts: Iterable[tuple[int, tuple[Tensor | None, ...]]], wanted: list[nn.Parameter]) -> list[Tensor]:
    """The mean over samples of what each batch has as its mean; one batch is taken as it is."""
    total: list[Tensor] = []
    seen = 0
    for size, part in parts:
        seen += size
        if not total:
            total = [torch.zeros_like(p, dtype=_wide(p), requires_grad=False) for p in wanted]
        for mean, new in zip(total, part, strict=True):
            mean.mul_(1 - size / seen)
            if new is not None:
                mean.add_(new.detach(), alpha=size / seen)
    return total


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _checked(found: dict[str, Tensor], call: str) -> dict[str, Tensor]:
    for name, tensor in found.items():
        if (tensor.numel() and not tensor.aminmax()[0].isfinite()) or not tensor.sum().isfinite():
            fix = "Score with finite weights, a smaller loss, or in float32."
            raise NonFiniteError(f"{call}: expected finite gradients, got NaN or infinity in that of {name}. {fix}")
    return found
