"""Layers in their three modes: values, gradients, state, tracing, refusals."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hasten.matmul import Maddness
from hasten.matmul.maddness import packed, soft
from hasten.matmul.maddness.layers import MODES, MaddnessConv2d, MaddnessLinear
from hasten.matmul.maddness.operators import maddness_conv2d, maddness_linear, torch_scan


def rows(count: int = 400, width: int = 12, seed: int = 0) -> Tensor:
    """Correlated rows, as activations are."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(4, width, generator=torch.Generator().manual_seed(9))
    return torch.relu(torch.randn(count, 4, generator=g) @ mix + 0.1 * torch.randn(count, width, generator=g))


def linear(bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(12, 5, bias=bias).eval()


def layer(mode: str = "frozen", bias: bool = True, **options) -> MaddnessLinear:
    options = {"ncodebooks": 4, **options}
    return MaddnessLinear.from_linear(linear(bias), rows(), mode=mode, **options)


def conv(mode: str = "frozen", **shape) -> tuple[nn.Conv2d, MaddnessConv2d, Tensor]:
    torch.manual_seed(2)
    dense = nn.Conv2d(3, 5, **{"kernel_size": 3, **shape}).eval()
    images = torch.relu(torch.randn(6, 3, 9, 8))
    return dense, MaddnessConv2d.from_conv(dense, images, ncodebooks=6, mode=mode), images


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [16, 32, 64])
@pytest.mark.parametrize("options", [{}, {"lut_scale": "shared"}, {"accumulate": "avg", "upcast_every": 4}])
def test_a_frozen_layer_without_bias_is_the_estimator_to_the_bit(leaves, options):
    dense, x = linear(bias=False), rows()
    estimator = Maddness(5, leaves=leaves, split_metric="output", **options).fit(
        x.numpy(), dense.weight.detach().numpy().T
    )
    made = MaddnessLinear.from_linear(dense, x, ncodebooks=5, leaves=leaves, mode="frozen", **options)
    fresh = rows(50, seed=3)
    assert np.array_equal(made(fresh).numpy(), estimator.matmul(fresh.numpy()))
    assert np.array_equal(made.split_dims.numpy(), estimator.split_dims_)
    assert np.array_equal(made.luts.numpy(), estimator.tables_.luts)


def test_the_bias_is_a_part_of_the_offset():
    with_bias, without = layer(), layer(bias=False)
    without_bias = linear()
    torch.testing.assert_close(with_bias(rows(9)), without(rows(9)) + without_bias.bias.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lut_scale", ["per_output", "shared"])
def test_finetune_equals_frozen_before_and_after_training(lut_scale):
    made, x = layer("finetune", lut_scale=lut_scale), rows(40, seed=4)
    frozen = copy.deepcopy(made).freeze()
    torch.testing.assert_close(made(x).detach(), frozen(x), rtol=1e-5, atol=1e-5)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (made(x) - 1).square().mean().backward()
        optimizer.step()
    expected = made(x).detach()
    assert (expected - frozen(x)).abs().max() > 1e-3
    torch.testing.assert_close(made.freeze()(x), expected, rtol=1e-5, atol=1e-5)


def test_without_rounding_finetune_is_half_a_step_from_frozen():
    smooth, x = layer("finetune", round_tables=False), rows(40)
    frozen = copy.deepcopy(smooth).freeze()
    difference = (smooth(x).detach() - frozen(x)).abs()
    assert difference.max() > 0
    assert (difference <= frozen.scale * 4 / 2 + 1e-5).all()


def test_more_codebooks_are_more_exact():
    x, fresh = rows(2000), rows(200, seed=5)
    expected = linear()(fresh).detach()

    def error(**options) -> float:
        out = MaddnessLinear.from_linear(linear(), x, mode="frozen", **options)(fresh)
        return float((out - expected).square().mean() / expected.var())

    coarse, fine, deep = error(ncodebooks=2), error(ncodebooks=12), error(ncodebooks=12, leaves=64)
    assert deep < fine < coarse < 0.5
    assert deep < 0.01


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(12,), (7, 12), (2, 3, 12), (0, 12), (2, 0, 3, 12)])
def test_leading_dimensions(mode, shape):
    made = layer(mode)
    x = rows(6)[:1].expand(*shape[:-1], 12) if shape[:-1] else rows(6)[0]
    out = made(x)
    assert out.shape == (*shape[:-1], 5)
    if out.numel():
        torch.testing.assert_close(out.reshape(-1, 5)[0], made(rows(6)[:1])[0])


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_input_is_widened_exactly_and_the_output_rounded(mode, dtype):
    made, x = layer(mode), rows(30).to(dtype)
    out = made(x)
    assert out.dtype == dtype
    assert torch.equal(out, made(x.float()).to(dtype))


def test_a_frozen_layer_sees_a_change_of_its_state():
    made, other, x = layer(), layer(bias=False, ncodebooks=4, ridge=100.0), rows(20)
    made(x)
    made.load_state_dict(other.state_dict())
    assert torch.equal(made(x), other(x))
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(made)(x), other(x))
        assert torch.equal(made(x), other(x))


def test_a_write_that_torch_does_not_count_is_seen_after_a_refresh():
    made, other, x = layer(), layer(ridge=100.0), rows(20)
    before = made(x)
    made.luts.data.copy_(other.luts)
    made.thresholds.data.zero_()
    assert torch.equal(made(x), before)
    assert made.refresh() is made
    fresh = copy.deepcopy(made)
    assert torch.equal(made(x), fresh(x))
    assert not torch.equal(made(x), before)
    assert layer("finetune").refresh().mode == "finetune"


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_a_layer_made_in_inference_mode_is_like_any_other(kind, monkeypatch):
    expected = layer() if kind == "linear" else conv()[1]
    x = rows(20) if kind == "linear" else conv()[2]
    with torch.inference_mode():
        made = layer() if kind == "linear" else conv()[1]
        assert torch.equal(made(x), expected(x))
    assert not any(tensor.is_inference() for tensor in made._packed())
    monkeypatch.setattr(packed, "Tables", None)  # nothing is read anew
    assert torch.equal(made(x), expected(x))
    monkeypatch.undo()
    with torch.inference_mode():
        made.finetune_mode()
    made(x).sum().backward()
    assert made.tables.grad is not None
    with torch.inference_mode():
        made.freeze()
        assert not made.luts.is_inference()


def test_the_original_splits_are_a_choice():
    assert not torch.equal(layer().split_dims, layer(split_metric="input").split_dims)


def test_strided_rows():
    made, x = layer(), rows(20)
    assert torch.equal(made(x.t().contiguous().t()), made(x))
    assert torch.equal(made(x.flip(0)[::2]), made(x).flip(0)[::2])


def test_rows_of_nan_give_finite_values():
    out = layer()(torch.full((2, 12), float("nan")))
    assert out.isfinite().all()
    assert torch.equal(out, layer()(torch.full((2, 12), float("-inf"))))


CONVS = [
    {},
    {"stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 0), "dilation": (1, 2)},
    {"padding": "same", "dilation": 2},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 1, "bias": False},
    {"kernel_size": (2, 2), "padding_mode": "circular", "padding": 1},
]


@pytest.mark.parametrize("shape", CONVS)
def test_a_convolution_is_its_rows_through_a_linear_layer(shape):
    dense, made, images = conv(**shape)
    size = dense(images).shape
    padded = made.geometry.pad(images)
    rows = F.unfold(padded, made.geometry.kernel, dilation=made.geometry.dilation, stride=made.geometry.stride)
    flat = nn.Linear(rows.shape[1], 5, bias=dense.bias is not None).eval()
    flat.load_state_dict({k: v.flatten(1) if k == "weight" else v for k, v in dense.state_dict().items()})
    rows = rows.transpose(1, 2)
    same = MaddnessLinear.from_linear(flat, rows, ncodebooks=6, mode="frozen")
    expected = same(rows).transpose(1, 2).reshape(size)
    assert torch.equal(made(images), expected)
    assert made(images).is_contiguous()
    finetune = MaddnessConv2d.from_conv(dense, images, ncodebooks=6)
    torch.testing.assert_close(finetune(images).detach(), copy.deepcopy(finetune).freeze()(images), rtol=0, atol=1e-5)
    error = (made(images) - dense(images)).square().mean() / dense(images).var()
    assert error < 0.4
    torch.testing.assert_close(made(images[0]), made(images)[0])
    assert torch.equal(made(images.to(memory_format=torch.channels_last)), made(images))


def test_codebooks_lie_within_channels():
    dense, _, images = conv()
    made = MaddnessConv2d.from_conv(dense, images, ncodebooks=3)
    assert torch.equal(made.split_dims // 9, torch.arange(3)[:, None].expand(3, 4))


def test_fewer_rows_for_learning_are_drawn_with_the_seed():
    dense, _, images = conv()
    some = [MaddnessConv2d.from_conv(dense, images, ncodebooks=6, max_rows=50, seed=s).thresholds for s in (0, 0, 1)]
    assert torch.equal(some[0], some[1])
    assert not torch.equal(some[0], some[2])


# Gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_all_parameters_train(kind):
    made, x = (layer("finetune"), rows(30)) if kind == "linear" else conv("finetune", padding=1)[1:]
    x = x.clone().requires_grad_()
    (made.train()(x) ** 2).sum().backward()
    assert {name for name, _ in made.named_parameters()} == {"thresholds", "tables", "log_width", "offset"}
    for name, parameter in [("x", x), *made.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_convolutions_gradient_is_that_of_its_rows():
    dense, made, images = conv("finetune", padding=1, stride=2)
    x = images.requires_grad_()
    weight = torch.randn(dense(x).shape)
    (actual,) = torch.autograd.grad((made(x) * weight).sum(), x)
    rows = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2).flatten(0, 1)
    tables = soft.straight_through_tables(made.tables)
    out = soft.soft_matmul_naive(rows, made.split_dims, made.thresholds, tables, made.log_width.exp())
    (expected,) = torch.autograd.grad((out * weight.permute(0, 2, 3, 1).reshape(-1, 5)).sum(), x)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_nodes_that_pass_all_left_have_finite_gradients():
    x = rows()[:, :1].expand(-1, 12).round()  # few distinct values: many nodes cannot split
    made = MaddnessLinear.from_linear(linear(), x, ncodebooks=3)
    assert (made.thresholds == torch.finfo(torch.float32).max).any()
    made(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_training_through_a_frozen_layer_is_an_error():
    made, x = layer("frozen"), rows(3).requires_grad_()
    out = made(x)  # forward alone is fine
    with pytest.raises(RuntimeError, match=r"trainable tables, got frozen ones\. Call finetune_mode\(\)"):
        out.sum().backward()
    with pytest.raises(RuntimeError, match=r"got training mode with frozen tables\. Call model\.eval\(\)"):
        made.train()(x)
    _, frozen, images = conv()
    with pytest.raises(RuntimeError, match="trainable tables"):
        frozen(images.requires_grad_()).sum().backward()


# Modes and state ------------------------------------------------------------------------------------------------------


def test_exact_mode_is_the_original_layer_until_it_trains():
    dense = linear()
    made, x = MaddnessLinear.from_linear(dense, rows(), ncodebooks=4, mode="exact"), rows(9)
    assert torch.equal(made(x), dense(x))
    assert [n for n, p in made.named_parameters() if p.requires_grad] == ["exact.weight", "exact.bias"]
    assert made.exact is dense
    torch.testing.assert_close(made.finetune_mode()(x), layer("finetune")(x))
    assert all(p.requires_grad for p in made.parameters())
    assert not any("exact" in key for key in made.state_dict())


def test_exact_to_frozen():
    frozen, made = layer("frozen"), layer("exact").freeze()
    assert "exact" not in repr(made)
    # The waiting tables are float32, so an entry may be rounded to the next byte.
    torch.testing.assert_close(made(rows(9)), frozen(rows(9)), rtol=0, atol=float(frozen.scale.max()) + 1e-5)


def test_a_frozen_layer_opens_again():
    made, x = layer("frozen"), rows(30)
    expected, luts, offset = made(x), made.luts, made.offset
    opened = made.finetune_mode()
    torch.testing.assert_close(opened(x).detach(), expected, rtol=1e-5, atol=1e-5)
    again = opened.freeze()
    assert torch.equal(again.luts, luts)
    assert torch.equal(again.offset, offset)
    torch.testing.assert_close(again(x), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_state_copy_and_pickle(mode, kind):
    if kind == "linear":
        made, x = layer(mode), rows(9)
        empty = MaddnessLinear(12, 5, ncodebooks=4, mode=mode if mode != "exact" else "finetune").eval()
    else:
        _, made, x = conv(mode, padding=1)
        empty = MaddnessConv2d(3, 5, 3, padding=1, ncodebooks=6, mode=mode if mode != "exact" else "finetune").eval()
    expected = made(x)
    assert torch.equal(copy.deepcopy(made)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(made))(x), expected)
    stream = io.BytesIO()
    torch.save(made.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    if mode == "exact":
        other = copy.deepcopy(made)
        for value in other.state_dict().values():
            value.zero_()
        other.load_state_dict(state)
        assert torch.equal(other(x), expected)
    else:
        empty.load_state_dict(state)
        assert torch.equal(empty(x), expected)


@pytest.mark.parametrize("saved", MODES)
@pytest.mark.parametrize("into", ["finetune", "frozen"])
def test_a_state_of_another_mode_is_refused(saved, into):
    if saved != into:
        with pytest.raises(RuntimeError, match=f"expected a state of mode '{into}', got one of '{saved}'"):
            MaddnessLinear(12, 5, ncodebooks=4, mode=into).load_state_dict(layer(saved).state_dict())


@pytest.mark.parametrize("mode", MODES)
def test_casting_a_model_leaves_trees_and_tables_as_they_are(mode):
    made, x = layer(mode), rows(30)
    expected = made(x.bfloat16().float()).bfloat16()
    cast = nn.Sequential(copy.deepcopy(made)).bfloat16()
    floats = {n: t.dtype for n, t in cast.state_dict().items() if t.is_floating_point() and "exact" not in n}
    assert set(floats.values()) == {torch.float32}
    out = cast(x.bfloat16())
    assert out.dtype == torch.bfloat16
    if mode == "exact":
        assert cast[0].exact.weight.dtype == torch.bfloat16
    else:
        assert torch.equal(out, expected)


def test_repr():
    shown = repr(conv("finetune", padding=1, stride=2)[1])
    expected = "3, 5, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), ncodebooks=6, leaves=16, mode='finetune'"
    assert shown == f"MaddnessConv2d({expected})"
    assert "lut_scale='shared', accumulate='avg'" in repr(layer(lut_scale="shared", accumulate="avg"))


# Tracing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_compiles_without_a_break(mode):
    made, x = layer(mode), rows(10)
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), made(x))
    compiled_conv, images = conv(mode, padding=1)[1:]
    torch.testing.assert_close(
        torch.compile(compiled_conv, fullgraph=True, backend="aot_eager")(images), compiled_conv(images)
    )


def test_compiled_training_has_the_same_gradients():
    made, x = layer("finetune"), rows(10)
    expected = torch.autograd.grad(made(x).square().sum(), list(made.parameters()))
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(compiled(x).square().sum(), list(made.parameters()))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_compiled_frozen_layer_behind_a_trainable_one_runs_forward_and_refuses_to_train():
    model = nn.Sequential(nn.Linear(12, 12), layer("frozen")).eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    out = compiled(rows(4))
    torch.testing.assert_close(out, model(rows(4)))
    with pytest.raises(RuntimeError, match="trainable tables"):
        out.sum().backward()


def test_exports_with_a_free_batch_size():
    batch = torch.export.Dim("batch", min=1, max=512)
    made = layer("frozen")
    program = torch.export.export(made, (rows(4),), dynamic_shapes=({0: batch},))
    assert "hasten.maddness_linear" in str(program.graph)
    assert torch.equal(program.module()(rows(17)), made(rows(17)))
    _, frozen, images = conv(padding=1)
    program = torch.export.export(frozen, (images,), dynamic_shapes=({0: batch},))
    assert torch.equal(program.module()(images[:3]), frozen(images[:3]))


def test_the_operators_are_well_behaved():
    made = layer()
    arguments = (rows(5), *made._packed(), "exact", 16)
    torch.library.opcheck(
        torch.ops.hasten.maddness_linear.default, arguments, test_utils=("test_schema", "test_faketensor")
    )
    _, frozen, images = conv(padding=1)
    g = frozen.geometry
    arguments = (images, *frozen._packed(), g.numbers(), "exact", 16)
    torch.library.opcheck(
        torch.ops.hasten.maddness_conv2d.default, arguments, test_utils=("test_schema", "test_faketensor")
    )


@pytest.mark.parametrize("options", [{}, {"accumulate": "avg", "upcast_every": 2}])
def test_onnx_is_given_gathers_of_the_same_numbers(options, monkeypatch):
    made, x = layer(**options), rows(20)
    _, frozen, images = conv(padding=1, stride=2)
    expected = [made(x[0]), made(x), made(x.bfloat16().view(4, 5, 12)), frozen(images)]
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(torch.ops.hasten, "maddness_linear", None)
    monkeypatch.setattr(torch.ops.hasten, "maddness_conv2d", None)
    found = [made(x[0]), made(x), made(x.bfloat16().view(4, 5, 12)), frozen(images)]
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_exported_onnx_computes_the_same(kind, tmp_path):
    pytest.importorskip("onnxscript", reason="optional: torch.onnx needs it")
    evaluator = pytest.importorskip("onnx.reference", reason="optional").ReferenceEvaluator
    made, x = (layer(), rows(7)) if kind == "linear" else conv(padding=1)[1:]
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=512)}}
    torch.onnx.export(made, (x[:3],), tmp_path / "layer.onnx", dynamo=True, dynamic_shapes=batch)
    (found,) = evaluator(str(tmp_path / "layer.onnx")).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), made(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"accumulate": "avg"}, {"accumulate": "avg", "upcast_every": 4}])
@pytest.mark.parametrize("ncodebooks", [1, 4, 5, 12])
def test_sums_by_torch_have_the_kernels_bits(options, ncodebooks):
    made, x = layer(ncodebooks=ncodebooks, **options), rows(33)
    dims, thresholds, luts, scale, offset = made._packed()
    codes = soft.hard_encode(x, dims, thresholds)
    assert torch.equal(torch_scan(codes, luts, scale, offset, made.accumulate, made.upcast_every), made(x))


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_layers_on_a_gpu(mode):
    made, x = layer(mode), rows(30)
    expected = made(x)
    on_gpu = copy.deepcopy(made).cuda()
    torch.testing.assert_close(on_gpu(x.cuda()).cpu(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(on_gpu.freeze()(x.cuda()).cpu(), made.freeze()(x))
    _, made, images = conv(mode, padding=1)
    torch.testing.assert_close(copy.deepcopy(made).cuda()(images.cuda()).cpu(), made(images), rtol=1e-4, atol=1e-4)
    if mode == "finetune":
        on_gpu.finetune_mode()(x.cuda()).sum().backward()
        assert all(p.grad is not None and p.grad.is_cuda for p in on_gpu.parameters())


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"linear": nn.Conv2d(3, 3, 3)}, TypeError, "an nn.Linear"),
        ({"inputs": rows()[:, :5]}, ValueError, r"inputs \(\.\.\., 12\)"),
        ({"inputs": rows()[:0]}, ValueError, "at least one row"),
        ({"inputs": rows().long()}, TypeError, "floating-point"),
        ({"inputs": rows() / 0}, ValueError, "finite inputs"),
        ({"ncodebooks": 13}, ValueError, "at most 12 codebooks"),
        ({"leaves": 8}, ValueError, "leaves"),
        ({"mode": "packed"}, ValueError, "mode among 'exact', 'finetune', 'frozen'"),
        ({"lut_bits": 16}, ValueError, "lut_bits=8"),
    ],
)
def test_bad_input_to_from_linear(arguments, error, message):
    given = {"linear": linear(), "inputs": rows(), "ncodebooks": 4, **arguments}
    with pytest.raises(error, match=message):
        MaddnessLinear.from_linear(given.pop("linear"), given.pop("inputs"), **given)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"conv": nn.Conv2d(4, 4, 3, groups=2)}, ValueError, "groups=1, got groups=2"),
        ({"conv": nn.Linear(3, 3)}, TypeError, "an nn.Conv2d"),
        ({"inputs": torch.zeros(2, 4, 8, 8)}, ValueError, r"inputs \(batch, 3, height, width\)"),
        ({"inputs": torch.zeros(2, 3, 2, 2)}, ValueError, "at least one row"),
        ({"inputs": torch.zeros(0, 3, 8, 8)}, ValueError, "at least one row"),
        ({"inputs": torch.full((2, 3, 8, 8), torch.inf)}, ValueError, "finite inputs"),
        ({"ncodebooks": 28}, ValueError, "at most 27 codebooks"),
        ({"max_rows": 0}, ValueError, "max_rows"),
    ],
)
def test_bad_input_to_from_conv(arguments, error, message):
    given = {"conv": nn.Conv2d(3, 5, 3), "inputs": torch.zeros(2, 3, 8, 8), "ncodebooks": 4, **arguments}
    with pytest.raises(error, match=message):
        MaddnessConv2d.from_conv(given.pop("conv"), given.pop("inputs"), **given)


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_bad_input_to_forward(mode):
    made = layer(mode)
    with pytest.raises(ValueError, match=r"x of shape \(\.\.\., 12\)"):
        made(rows()[:, :5])
    with pytest.raises(TypeError, match="float32, bfloat16 or float16"):
        made(rows().double())
    frozen = conv(mode)[1]
    with pytest.raises(ValueError, match=r"x of shape \(batch, 3, height, width\)"):
        frozen(torch.zeros(2, 4, 9, 9))
    with pytest.raises(ValueError, match="no smaller than the kernel"):
        frozen(torch.zeros(2, 3, 2, 9))


def test_operators_cast_nothing_silently():
    made, (_, image_layer, images) = layer(), conv()
    for dtype in (torch.float64, torch.int8):
        with pytest.raises(TypeError, match=r"maddness_linear: expected a float32, bfloat16 or float16 input"):
            maddness_linear(rows().to(dtype), made._packed())
        with pytest.raises(TypeError, match=r"maddness_conv2d: expected a float32, bfloat16 or float16 input"):
            maddness_conv2d(images.to(dtype), image_layer._packed(), image_layer.geometry)
    with pytest.raises(ValueError, match=r"rows \(N, D\) with column"):
        maddness_linear(rows()[:, :2], made._packed())


def test_bad_arguments_of_the_constructor():
    with pytest.raises(ValueError, match="at most 4 codebooks"):
        MaddnessLinear(4, 3, ncodebooks=5)
    with pytest.raises(ValueError, match="Did you mean avg"):
        MaddnessLinear(4, 3, ncodebooks=2, accumulate="agv")
    with pytest.raises(ValueError, match="power of two"):
        MaddnessLinear(4, 3, ncodebooks=2, upcast_every=3)
    with pytest.raises(ValueError, match="mode among 'finetune', 'frozen'"):
        MaddnessLinear(4, 3, ncodebooks=2, mode="exact")


def test_training_that_diverged_cannot_be_frozen():
    made = layer("finetune")
    with torch.no_grad():
        made.tables[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="float32 can hold"):
        made.freeze()
