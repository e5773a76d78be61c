from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.surgery import reference
from torch import nn

from hasten.surgery import NoEffectWarning, StochasticDepth, apply_stochastic_depth, draw_stochastic_depth


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wrapped(model: nn.Module) -> list[StochasticDepth]:
    return [module for module in model.modules() if isinstance(module, StochasticDepth)]


def set_kept(model: nn.Module, *kept: bool) -> None:
    for module, value in zip(wrapped(model), kept, strict=True):
        module.set_mask(torch.tensor(value))


def test_rates_grow_linearly_or_are_equal() -> None:
    model = reference.tiny()
    report = apply_stochastic_depth(model, drop_rate=0.3)
    assert report.changed == ("blocks.0.branch", "blocks.1.branch", "blocks.2.branch")
    assert [module.rate for module in wrapped(model)] == pytest.approx([0.1, 0.2, 0.3])
    model = reference.tiny()
    apply_stochastic_depth(model, drop_rate=0.3, distribution="uniform")
    assert [module.rate for module in wrapped(model)] == [0.3, 0.3, 0.3]


def test_branches_are_found_by_attribute_or_glob_and_in_steps() -> None:
    model = reference.tiny()
    assert apply_stochastic_depth(model, branches="blocks.[01].branch").changed == (
        "blocks.0.branch",
        "blocks.1.branch",
    )
    assert apply_stochastic_depth(model, branches="blocks.2.branch").changed == ("blocks.2.branch",)
    with pytest.raises(ValueError, match=r"branches without stochastic depth, got 'blocks\.0\.branch'"):
        apply_stochastic_depth(model)
    with pytest.warns(NoEffectWarning, match=r"branches='residual' \(attributes here: .*branch.*, head, pool"):
        apply_stochastic_depth(reference.tiny(), branches="residual")


@pytest.mark.parametrize("method", ["block", "sample"])
def test_rate_0_and_evaluation_are_the_plain_model(method: str) -> None:
    x = reference.images()
    plain, model = reference.tiny(), reference.tiny()
    apply_stochastic_depth(model, drop_rate=0.0, method=method)
    assert torch.equal(model(x), plain(x)), "at rate 0 nobody has to draw"
    apply_stochastic_depth(strong := reference.tiny(), drop_rate=0.9, method=method)
    assert torch.equal(strong.eval()(x), reference.tiny().eval()(x))
    assert all(module.flops_key for module in wrapped(strong))


def test_the_expectation_over_masks_is_the_evaluation_output() -> None:
    block = reference.Residual(16, 24, 2, norm=False).double()
    linear = nn.Sequential()  # without the ReLU after the sum, which is not linear
    linear.branch = StochasticDepth(block.branch, 0.3)
    x = reference.images(2, 9, 16).double()

    def run(kept: bool) -> torch.Tensor:
        linear.branch.set_mask(torch.tensor(kept))
        return block.shortcut(x) + linear.branch(x)

    expectation = 0.3 * run(False) + 0.7 * run(True)
    assert torch.equal(run(False), block.shortcut(x))
    torch.testing.assert_close(expectation, block.shortcut(x) + block.branch(x))


@given(rate=st.floats(0, 0.95), seed=st.integers(0, 1000))
def test_sample_masks_are_0_or_the_inverse_keep_rate(rate: float, seed: int) -> None:
    module = StochasticDepth(nn.Identity(), rate, "sample")
    draw_stochastic_depth(module, 64, generator(seed))
    out = module(torch.ones(64, 2, 3))
    expected = torch.rand(64, generator=generator(seed)) >= rate
    torch.testing.assert_close(out, (expected / (1 - rate)).view(-1, 1, 1).expand(64, 2, 3))


def test_the_keep_frequency_is_right() -> None:
    model = nn.Sequential(StochasticDepth(nn.Identity(), 0.2), StochasticDepth(nn.Identity(), 0.7))
    source, kept = generator(), torch.zeros(2)
    for _ in range(2000):
        draw_stochastic_depth(model, 1, source)
        kept += torch.tensor([float(module.kept) for module in model])
    # Three standard deviations of a binomial share at n = 2000 are at most 0.034.
    torch.testing.assert_close(kept / 2000, torch.tensor([0.8, 0.3]), rtol=0, atol=0.034)


def test_draws_depend_on_the_generator_alone() -> None:
    one, two = reference.tiny(), reference.tiny()
    apply_stochastic_depth(one, drop_rate=0.5, method="sample")
    apply_stochastic_depth(two, drop_rate=0.1, method="sample")
    global_state = torch.get_rng_state()
    draw_stochastic_depth(one, 8, generator(3))
    first = [module.mask.clone() for module in wrapped(one)]
    draw_stochastic_depth(one, 8, generator(3))
    assert all(torch.equal(module.mask, mask) for module, mask in zip(wrapped(one), first, strict=True))
    draw_stochastic_depth(two, 8, generator(3))
    for low, high in zip(wrapped(two), wrapped(one), strict=True):
        assert bool(((low.mask == 0) <= (high.mask == 0)).all()), "a higher rate drops the same samples and more"
    one(reference.images(8))
    assert torch.equal(torch.get_rng_state(), global_state)


def test_a_dropped_block_is_not_computed_and_gets_no_gradient() -> None:
    model, calls = reference.tiny(), []
    apply_stochastic_depth(model, drop_rate=0.5)
    for index, module in enumerate(wrapped(model)):
        module.branch.register_forward_hook(lambda *_, index=index: calls.append(index))
    set_kept(model, True, False, True)
    assert [module.flops_key for module in wrapped(model)] == [True, False, True]
    model(reference.images()).sum().backward()
    assert calls == [0, 2]
    assert all(p.grad is None for p in model.blocks[1].branch.parameters())
    assert all(p.grad is not None for p in model.blocks[2].branch.parameters())
    assert model.blocks[1].shortcut.weight.grad is not None


@pytest.mark.parametrize("kept", list(itertools.product((True, False), repeat=3)), ids=str)
def test_compiled_and_eager_agree_for_every_mask(kept: tuple[bool, ...]) -> None:
    model, x = reference.tiny(norm=False), reference.images()
    apply_stochastic_depth(model, drop_rate=0.5)
    set_kept(model, *kept)
    eager = model(x)
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), eager)


def test_one_compilation_serves_every_draw() -> None:
    for method in ("block", "sample"):
        model, x = reference.tiny(norm=False), reference.images()
        apply_stochastic_depth(model, drop_rate=0.5, method=method)
        draw_stochastic_depth(model, 4, generator())
        graphs: list[int] = []

        def backend(graph: torch.fx.GraphModule, _: list, graphs: list[int] = graphs) -> object:
            graphs.append(1)
            return graph.forward

        compiled, outputs = torch.compile(model, backend=backend, fullgraph=True), []
        for seed in range(6):
            draw_stochastic_depth(model, 4, generator(seed))
            outputs.append(compiled(x).detach())
            torch.testing.assert_close(outputs[-1], model(x))
        assert len(graphs) == 1
        assert any(not torch.equal(out, outputs[0]) for out in outputs)


def test_a_training_pass_without_a_draw_is_an_error_and_a_mask_stays_until_the_next_draw() -> None:
    model, x = reference.tiny(norm=False), reference.images()
    apply_stochastic_depth(model, drop_rate=0.5)
    with pytest.raises(RuntimeError, match=r"got none\. Call draw_stochastic_depth\(model, batch_size, generator\)"):
        model(x)
    draw_stochastic_depth(model, 4, generator())
    assert torch.equal(model(x), model(x))


def test_a_mask_for_another_batch_size_is_an_error() -> None:
    module = StochasticDepth(nn.Identity(), 0.5, "sample")
    draw_stochastic_depth(module, 4, generator())
    with pytest.raises(ValueError, match=r"a batch of 4, as drawn, got 3\. Draw with the batch size of this forward"):
        module(torch.ones(3, 2))


def test_undo_and_state_dict() -> None:
    model = reference.tiny()
    keys = list(model.state_dict())
    report = apply_stochastic_depth(model)
    draw_stochastic_depth(model, 4, generator())
    assert "blocks.0.branch.branch.0.weight" in model.state_dict()
    assert not any("mask" in key for key in model.state_dict())
    report.undo()
    assert list(model.state_dict()) == keys


def test_works_in_every_setting() -> None:
    for method in ("block", "sample"):
        model, x = reference.tiny(norm=False), reference.images(1)
        apply_stochastic_depth(model, drop_rate=0.4, method=method)
        draw_stochastic_depth(model, 1, generator(1))
        expected = model(x)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copied(x), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.allclose(model(x).float(), expected, atol=0.05)
        half = copy.deepcopy(model).bfloat16()
        assert half(x.bfloat16()).dtype == torch.bfloat16
        torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), expected)
        with torch.device("meta"):
            meta = reference.TinyResNet()
            apply_stochastic_depth(meta, method=method)
        draw_stochastic_depth(meta, 2, generator())
        assert meta(torch.empty(2, 3, 9, 9, device="meta")).shape == (2, 5)


def test_bad_input_is_refused() -> None:
    model = reference.tiny()
    with pytest.raises(ValueError, match=r"drop_rate in \[0, 1\], got -0\.1"):
        apply_stochastic_depth(model, drop_rate=-0.1)
    with pytest.raises(ValueError, match=r"drop_rate < 1, got 1\.0"):
        apply_stochastic_depth(model, drop_rate=1.0)
    with pytest.raises(ValueError, match=r"distribution among 'linear', 'uniform', got 'linar'\. Did you mean linear"):
        apply_stochastic_depth(model, distribution="linar")
    with pytest.raises(ValueError, match="method among 'block', 'sample'"):
        apply_stochastic_depth(model, method="layer")
    with pytest.raises(ValueError, match="at least 1 for batch_size, got 0"):
        draw_stochastic_depth(model, 0, generator())
    with pytest.raises(TypeError, match=r"expected a torch\.Generator, got 7"):
        draw_stochastic_depth(model, 1, 7)
    assert "rate=0.25, method='block'" in repr(StochasticDepth(nn.Identity(), 0.25))
