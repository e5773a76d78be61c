"""Checkpoints across processes: DDP, and FSDP2 with torch.distributed.checkpoint, on gloo.

Each world runs several checks in one go, since starting its processes takes longer than they do. What a check returns
is compared here; what must hold on every rank is asserted there.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.optim.flash.checkpoints import same_bits
from tests.optim.flash.distributed import run_distributed
from torch import Tensor, nn

from hasten.optim.flash import FlashAdamW, FlashLion, FlashSGD, enable_gradient_release, join_weight
from hasten.optim.flash.slots import local

BF16 = torch.bfloat16
# Uneven on 2 and on 4 ranks; fewer rows than ranks, so that some hold nothing; and one that every cut leaves whole
# groups of.
SHAPES = {"small": (7, 5), "vector": (3,), "odd": (33, 17), "single": (1,), "aligned": (12, 32)}

MAKERS: dict[str, Any] = {
    "AdamW": lambda p: FlashAdamW(p, lr=1e-2, weight_decay=0.1),
    "AdamW 32 bits": lambda p: FlashAdamW(p, lr=1e-2, master_weight_bits=32),
    "AdamW float32 states": lambda p: FlashAdamW(p, lr=1e-2, quantize=False),
    "SGD": lambda p: FlashSGD(p, lr=1e-1, momentum=0.9),
    "SGD without momentum": lambda p: FlashSGD(p, lr=1e-1),
    "Lion": lambda p: FlashLion(p, lr=1e-3, weight_decay=0.1),
}


class Fit(nn.Module):
    """Its gradients depend element by element on the number of the step, and on nothing that sharding changes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        for name, shape in SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=generator).to(BF16)))

    def forward(self, step: int) -> Tensor:
        generator, losses = torch.Generator().manual_seed(step), []
        for name in SHAPES:
            p = getattr(self, name)
            losses.append((p.float() * torch.randn(p.shape, generator=generator)).square().mean())
        return torch.stack(losses).sum()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, start: int, steps: int, *, apart: int = 0) -> None:
    for step in range(start, start + steps):
        optimizer.zero_grad()
        model(step + 1000 * apart).backward()
        optimizer.step()


def sharded(kind: str) -> tuple[nn.Module, Any]:
    from torch.distributed.fsdp import fully_shard

    model = Fit()
    fully_shard(model)
    return model, MAKERS[kind](model.parameters())


def whole(value: Tensor) -> Tensor:
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()


def picture(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Weights and states as they are on this rank, for a comparison bit by bit."""
    raw = getattr(model, "module", model)
    found = {}
    for name, p in raw.named_parameters():
        state = {key: value for key, value in optimizer.state[p].items() if value is not None}
        found[name] = copy.deepcopy({"weight": local(p.detach()), **state})
    return found


def panorama(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """The same of all ranks together: whole weights, corrections, states in float32."""
    stored = optimizer.state_dict()["state"]
    weights = optimizer.get_fp32_model_state_dict(model)
    found = {}
    for index, name in enumerate(SHAPES):
        state = {key: whole(value) if isinstance(value, Tensor) else value for key, value in stored[index].items()}
        found[name] = {"weight": whole(weights[name]), **state}
    return found


# DDP ----------------------------------------------------------------------------------------------------------------


def replicated(rank: int, world: int) -> dict[str, Any]:
    from torch.nn.parallel import DistributedDataParallel

    found = {}
    for kind in ("AdamW", "SGD", "Lion"):
        model = DistributedDataParallel(Fit())
        optimizer = MAKERS[kind](model.parameters())
        train(model, optimizer, 0, 4, apart=rank)
        alone = Fit()
        reference = MAKERS[kind](alone.parameters())
        for step in range(4):
            gradients = []
            for other in range(world):
                reference.zero_grad()
                alone(step + 1000 * other).backward()
                gradients.append([p.grad / world for p in alone.parameters()])
            for p, *parts in zip(alone.parameters(), *gradients, strict=True):
                p.grad = sum(parts[1:], parts[0])
            reference.step()
        assert same_bits(picture(model, optimizer), picture(alone, reference))
        found[kind] = picture(model, optimizer)
        # float32 weights in and out, through the wrapper
        held = optimizer.get_fp32_model_state_dict(model)
        assert list(held) == list(SHAPES)
        optimizer.set_fp32_model_state_dict(model, {name: value * 2 for name, value in held.items()})
        assert join_weight(model.module.odd.detach(), optimizer.state[model.module.odd]["correction"]).equal(
            held["odd"] * 2
        )
    return found


def checkpointed_replicas(folder: str) -> None:
    """DDP through torch's state_dict functions: codes as they are."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
    from torch.nn.parallel import DistributedDataParallel

    for flat in (False, True):
        for compress in (False, True):
            options = StateDictOptions(flatten_optimizer_state_dict=flat)
            one, two = DistributedDataParallel(Fit()), DistributedDataParallel(Fit())
            first = FlashAdamW(one.parameters(), compress_state_dict=compress)
            second = FlashAdamW(two.parameters(), compress_state_dict=compress)
            train(one, first, 0, 3)
            store, where = {}, f"{folder}/ddp{flat}{compress}"
            store["model"], store["optim"] = get_state_dict(one, first, options=options)
            dcp.save(store, checkpoint_id=where)
            store["model"], store["optim"] = get_state_dict(two, second, options=options)
            dcp.load(store, checkpoint_id=where)
            set_state_dict(two, second, model_state_dict=store["model"], optim_state_dict=store["optim"],
                           options=options)  # fmt: skip
            assert same_bits(picture(two, second), picture(one, first)), (flat, compress)


# FSDP2 --------------------------------------------------------------------------------------------------------------


def save(model: nn.Module, optimizer: Any, folder: str, **options: Any) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    weights, states = get_state_dict(model, optimizer, options=StateDictOptions(**options))
    dcp.save({"model": weights, "optim": states}, checkpoint_id=folder)


def load(model: nn.Module, optimizer: Any, folder: str, **options: Any) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

    chosen = StateDictOptions(**options)
    weights, states = get_state_dict(model, optimizer, options=chosen)
    dcp.load({"model": weights, "optim": states}, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=states, options=chosen)


def steps_as_unsharded(kind: str) -> None:
    model, optimizer = sharded(kind)
    train(model, optimizer, 0, 4)
    alone = Fit()
    reference = MAKERS[kind](alone.parameters())
    train(alone, reference, 0, 4)
    got, expected = panorama(model, optimizer), panorama(alone, reference)
    exact = SHAPES if kind in ("AdamW float32 states", "SGD without momentum") else ("aligned",)
    reference.compress_state_dict = False
    expected = panorama(alone, reference)
    for name in SHAPES:
        for key, value in expected[name].items():
            if name in exact:
                mine = got[name][key]
                assert same_bits(mine.to(value.dtype) if key == "correction" else mine, value), (kind, name, key)
            elif key == "weight":
                assert (got[name][key] - value).abs().mean() < 2e-3, (kind, name, "groups are others")


def resumes_exactly(kind: str, folder: str) -> None:
    for flat in (False, True):
        model, optimizer = sharded(kind)
        train(model, optimizer, 0, 3)
        save(model, optimizer, f"{folder}/{kind}{flat}", flatten_optimizer_state_dict=flat)
        for started in (0, 2):
            other, twin = sharded(kind)
            train(other, twin, 50, started)
            load(other, twin, f"{folder}/{kind}{flat}", flatten_optimizer_state_dict=flat)
            assert same_bits(picture(other, twin), picture(model, optimizer)), (kind, flat, started)
        train(model, optimizer, 3, 3)
        train(other, twin, 3, 3)
        assert same_bits(picture(other, twin), picture(model, optimizer)), (kind, flat)


def full_dictionaries(rank: int, kind: str) -> None:
    from torch.distributed.checkpoint import state_dict as dsd

    model, optimizer = sharded(kind)
    train(model, optimizer, 0, 3)
    for offload in (False, True):
        options = dsd.StateDictOptions(full_state_dict=True, cpu_offload=offload)
        weights, states = dsd.get_state_dict(model, optimizer, options=options)
        assert bool(weights) == (rank == 0 or not offload)
        other, twin = sharded(kind)
        back = dsd.StateDictOptions(full_state_dict=True, broadcast_from_rank0=offload)
        dsd.set_model_state_dict(other, weights, options=back)
        dsd.set_optimizer_state_dict(other, twin, states, options=back)
        assert same_bits(picture(other, twin), picture(model, optimizer)), (kind, offload)
        if weights:  # an unsharded optimizer takes it too
            alone = Fit()
            single = MAKERS[kind](alone.parameters())
            single.load_state_dict(
                {"state": {i: states["state"][n] for i, n in enumerate(SHAPES)}, "param_groups": [
                    {**group, "params": list(range(len(SHAPES)))} for group in states["param_groups"]]}
            )  # fmt: skip
    before, everything = picture(model, optimizer), panorama(model, optimizer)
    assert same_bits(picture(model, optimizer), before), "looking changes nothing"
    # and a sharded one takes what an unsharded one wrote, codes or not
    for compress in (False, True):
        alone = Fit()
        single = MAKERS[kind](alone.parameters())
        single.compress_state_dict = compress
        train(alone, single, 0, 3)
        other, twin = sharded(kind)
        twin.load_state_dict(single.state_dict())
        twin.set_fp32_model_state_dict(other, single.get_fp32_model_state_dict(alone))
        single.compress_state_dict = False
        got, expected = panorama(other, twin), panorama(alone, single)
        for name in SHAPES:
            assert same_bits(got[name]["weight"], expected[name]["weight"])
            for key in ("exp_avg", "exp_avg_sq"):
                assert (got[name][key] - expected[name][key]).abs().max() <= 0.02 * expected[name][key].abs().max()
        assert same_bits(got["aligned"]["exp_avg"], expected["aligned"]["exp_avg"])
    assert same_bits(panorama(model, optimizer), everything)


def nothing_is_lost_before_the_first_step(folder: str) -> None:
    """torch steps a fresh optimizer by gradients and learning rates of 0 before it asks for a state or loads one."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    model, optimizer = sharded("AdamW")
    before = {name: local(p.detach()).clone() for name, p in model.named_parameters()}
    found = get_optimizer_state_dict(model, optimizer)
    for name, p in model.named_parameters():
        assert same_bits(local(p.detach()), before[name])
        assert not local(found["state"][name]["correction"]).any()
        assert not local(found["state"][name]["exp_avg"]).any()
    wanted = {name: torch.randn(shape, generator=torch.Generator().manual_seed(9)) for name, shape in SHAPES.items()}
    model, optimizer = sharded("AdamW 32 bits")
    optimizer.set_fp32_model_state_dict(model, wanted)  # before the first step, so that there is a state already
    save(model, optimizer, f"{folder}/unstarted")
    other, twin = sharded("AdamW 32 bits")
    load(other, twin, f"{folder}/unstarted")
    got = twin.get_fp32_model_state_dict(other)
    for name, value in wanted.items():
        assert same_bits(whole(got[name]), value)
        assert int(twin.state[getattr(other, name)]["step"]) == 0
    twin.set_fp32_model_state_dict(other, optimizer.get_fp32_model_state_dict(model))  # sharded as it is
    assert same_bits(picture(other, twin), picture(model, optimizer))


def gradient_release() -> None:
    model, optimizer = sharded("AdamW")
    train(model, optimizer, 0, 3)
    other, twin = sharded("AdamW")
    with enable_gradient_release(other, twin):
        train(other, twin, 0, 3)
    assert all(p.grad is None for p in other.parameters())
    assert same_bits(picture(other, twin), picture(model, optimizer))


def states_of_torch() -> None:
    model, _ = sharded("AdamW")
    reference = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, reference, 0, 2)
    _, twin = sharded("AdamW")
    twin.load_state_dict(reference.state_dict())
    stored = twin.torch_state_dict()["state"]
    for index, p in enumerate(model.parameters()):
        value = reference.state[p]["exp_avg"].to_local().float()
        assert stored[index]["exp_avg"].placements == p.placements
        limit = 0.01 * value.abs().max() if value.numel() else 0.0
        assert bool(((stored[index]["exp_avg"].to_local() - value).abs() <= limit).all())
    reference.load_state_dict(twin.torch_state_dict())
    train(model, reference, 2, 1)


def another_dtype(folder: str) -> None:
    model, optimizer = sharded("AdamW")
    train(model, optimizer, 0, 1)
    save(model, optimizer, f"{folder}/dtype")
    from torch.distributed.fsdp import fully_shard

    other = Fit().to(torch.float16)
    fully_shard(other)
    twin = MAKERS["AdamW"](other.parameters())
    with pytest.raises(TypeError, match="expected parameters of dtype bfloat16.*got float16"):
        load(other, twin, f"{folder}/dtype")


def two_ranks(rank: int, world: int, folder: str) -> dict[str, Any]:
    found = {"ddp": replicated(rank, world)}
    checkpointed_replicas(folder)
    for kind in MAKERS:
        steps_as_unsharded(kind)
    for kind in MAKERS:
        resumes_exactly(kind, folder)
    for kind in ("AdamW", "AdamW 32 bits"):
        full_dictionaries(rank, kind)
    nothing_is_lost_before_the_first_step(folder)
    gradient_release()
    states_of_torch()
    another_dtype(folder)
    for kind in MAKERS:
        model, optimizer = sharded(kind)
        train(model, optimizer, 0, 5)
        save(model, optimizer, f"{folder}/two {kind}")
        found[kind] = panorama(model, optimizer)
    return found


def resharded(rank: int, world: int, folder: str, source: str, target: str) -> dict[str, Any]:
    found = {}
    for kind in MAKERS:
        model, optimizer = sharded(kind)
        load(model, optimizer, f"{folder}/{source} {kind}")
        found[kind] = panorama(model, optimizer)
        save(model, optimizer, f"{folder}/{target} {kind}")
        train(model, optimizer, 5, 2)
        assert all(bool(torch.isfinite(local(p)).all()) for p in model.parameters())
    return found


def tensor_parallel() -> tuple[nn.Module, Any]:
    """FSDP2 around tensor parallelism: parameters that are cut twice."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.Linear(20, 12)).to(BF16)
    parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel(), "1": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.1)
    return model, MAKERS["AdamW 32 bits"](model.parameters())


def replicated_shards() -> tuple[nn.Module, Any]:
    """HSDP: every shard on two ranks."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = Fit()
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards")))
    model(0).backward()
    return model, MAKERS["AdamW"](model.parameters())


def other_meshes(folder: str) -> None:
    for make in (tensor_parallel, replicated_shards):
        (model, optimizer), (other, twin) = make(), make()
        optimizer.step()
        save(model, optimizer, f"{folder}/{make.__name__}")
        other.zero_grad()  # else torch makes no state to load into
        load(other, twin, f"{folder}/{make.__name__}")
        assert same_bits(picture(other, twin), picture(model, optimizer))
        other, twin = make()
        weights = {name: whole(value) for name, value in optimizer.get_fp32_model_state_dict(model).items()}
        twin.set_fp32_model_state_dict(other, weights)
        got = twin.get_fp32_model_state_dict(other)
        assert same_bits({name: whole(value) for name, value in got.items()}, weights)


def four_ranks(rank: int, world: int, folder: str) -> dict[str, Any]:
    for kind in ("AdamW", "AdamW float32 states"):
        steps_as_unsharded(kind)
    gradient_release()
    other_meshes(folder)
    return resharded(rank, world, folder, "two", "four")


def groups(shape: tuple[int, ...], world: int) -> set[tuple[int, int]]:
    """Where the groups of 32 of each rank's shard begin and end, in the order of the whole parameter."""
    row = 1
    for size in shape[1:]:
        row *= size
    rows = -(-shape[0] // world)
    found = set()
    for rank in range(world):
        start, end = (min(shape[0], rows * edge) * row for edge in (rank, rank + 1))
        found |= {(first, min(first + 32, end)) for first in range(start, end, 32)}
    return found


def same_but_for_cut_groups(kind: str, old: Any, new: Any, old_world: int, new_world: int) -> None:
    for name, shape in SHAPES.items():
        before, after = old[kind][name], new[kind][name]
        assert before.keys() == after.keys()
        kept = groups(shape, old_world) & groups(shape, new_world)
        assert name != "aligned" or len(kept) == 12
        for key, value in before.items():
            got = after[key]
            if key not in ("exp_avg", "exp_avg_sq", "momentum_buffer") or kind == "AdamW float32 states":
                assert same_bits(got, value), (kind, name, key)
                continue
            got, value = got.reshape(-1), value.reshape(-1)
            for start, end in kept:
                assert same_bits(got[start:end], value[start:end]), (kind, name, key)
            assert (got - value).abs().max() <= 0.02 * value.abs().max(), (kind, name, key)


def test_two_ranks_four_and_one(tmp_path: Path) -> None:
    folder = str(tmp_path)
    two = run_distributed(two_ranks, 2, timeout=120, folder=folder)
    assert same_bits(two[0]["ddp"], two[1]["ddp"]), "replicas stay the same bit for bit"
    assert all(same_bits(two[0][kind], two[1][kind]) for kind in MAKERS)
    four = run_distributed(four_ranks, 4, timeout=120, folder=folder)
    one = run_distributed(resharded, 1, timeout=60, folder=folder, source="four", target="one")
    for kind in MAKERS:
        same_but_for_cut_groups(kind, two[0], four[0], 2, 4)
        same_but_for_cut_groups(kind, four[0], one[0], 4, 1)
