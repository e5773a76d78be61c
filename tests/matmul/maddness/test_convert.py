"""Conversion of models: what is replaced and why not, undo, progressive conversion, accuracy after fine-tuning."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hasten._core.surgery import NoEffectWarning
from hasten.matmul.maddness import convert, selection
from hasten.matmul.maddness.convert import maddnessify, progressive
from hasten.matmul.maddness.layers import MaddnessConv2d, MaddnessLinear
from hasten.matmul.maddness.models import finetune_mode, freeze, parameter_groups, prepare
from hasten.matmul.maddness.planner import Budget, Entry, Plan, Timing


class Net(nn.Module):
    """Five layers, one of them shared, one never called, one with groups, and one used out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 3)
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8, 24)
        self.mix = nn.Linear(24, 24)
        self.again = self.mix
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(torch.relu(self.stem(x))))
        x = torch.relu(self.fc(self.depthwise(x).mean((2, 3))))
        return self.head(torch.relu(self.again(torch.relu(self.mix(x)))))


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def images(count: int = 16, seed: int = 1) -> Tensor:
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def few_settings(monkeypatch):
    monkeypatch.setattr(selection, "NCODEBOOKS", (4, 12))


@pytest.fixture
def clock(monkeypatch):
    """Times as a function of the columns and codebooks: dense D microseconds, tables 2 C microseconds."""
    asked = []

    def measure(rows, columns, outputs, ncodebooks, leaves, dtype, accumulate, upcast_every):
        assert (accumulate, upcast_every) == ("exact", 16)
        asked.append((rows, columns, outputs, ncodebooks, leaves, dtype))
        return Timing(2e-6 * ncodebooks, {"float32": 1e-6 * columns, "bfloat16": 2e-6 * columns})

    def measure_conv2d(shape, outputs, geometry, *how):
        return measure(shape, shape[1] * math.prod(geometry.kernel), outputs, *how)

    monkeypatch.setattr(selection, "measure", measure)
    monkeypatch.setattr(selection, "measure_conv2d", measure_conv2d)
    return asked


def test_layers_that_pay_are_replaced_and_the_others_say_why(clock):
    model, x = net(), images()
    expected = model(x)
    report = maddnessify(model, [(x, None)], ncodebooks=8)
    assert report.changed == ("conv", "mix")
    assert isinstance(model.conv, MaddnessConv2d)
    assert isinstance(model.mix, MaddnessLinear)
    assert model.mix.mode == "frozen"
    assert report.surgery == "maddnessify"
    lines = report.note.splitlines()
    assert [line.split(":")[0] for line in lines] == ["stem", "conv", "depthwise", "fc", "mix", "head", "unused"]
    assert lines[0] == "stem: kept, it is the first layer"
    assert lines[1].startswith("conv: converted, tables take 0.016 ms, float32 convolution takes 0.072 ms, NMSE 0.")
    assert lines[2] == "depthwise: kept, it has groups=8"
    assert lines[3].startswith("fc: kept, float32 GEMM takes 0.008 ms, tables would take 0.016 ms")
    assert lines[5] == "head: kept, it is the last layer"
    assert lines[6] == "unused: kept, the calibration data did not call it"
    assert (model(x) - expected).square().mean() < 0.6 * expected.var()


def test_undo_puts_everything_back(clock):
    model, x = net(), images()
    expected, modules = model(x), list(model.modules())
    report = maddnessify(model, x, ncodebooks=8)
    assert not torch.equal(model(x), expected)
    report.undo()
    assert list(model.modules()) == modules
    assert torch.equal(model(x), expected)


def test_a_shared_layer_is_replaced_once_and_learns_from_all_its_calls(clock):
    model, x = net(), images()
    seen = []
    original = convert.collect

    def collect(*args, **kwargs):
        seen.append(original(*args, **kwargs))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "collect", collect)
        maddnessify(model, [x, x], ncodebooks=8)
    assert model.again is model.mix
    assert len(seen[0]["mix"]) == 2 * 2 * 16
    assert sum(rows == 16 and columns == outputs == 24 for rows, columns, outputs, *_ in clock) == 2  # both calls


def test_the_root_and_subclasses_and_hooked_layers_are_kept(clock):
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(32, 32), Own(32, 32), nn.Linear(32, 32), nn.Linear(32, 32).double()).eval()
    model[0].register_forward_hook(lambda *_: None)
    model[3].forward = lambda x: x  # type: ignore[method-assign]
    with pytest.warns(NoEffectWarning, match="maddnessify: nothing changed"):
        plan = maddnessify(model, torch.randn(50, 32), ncodebooks=4, skip=("2",)).plan
    assert plan["0"].reason == "it has hooks, which would be lost"
    assert plan["1"].reason.startswith("Own is a subclass")
    assert plan["2"].reason == "it is to be skipped"
    with pytest.warns(NoEffectWarning):
        maddnessify(nn.Linear(32, 32).eval(), torch.randn(50, 32))


def test_other_weights_are_kept(clock):
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32)).double().eval()
    with pytest.warns(NoEffectWarning):
        plan = maddnessify(model, torch.randn(50, 32).double(), skip=()).plan
    assert plan["0"].reason == "its weight is float64"


def test_a_bfloat16_model(clock):
    model, x = net().bfloat16(), images().bfloat16()
    expected = model(x)
    report = maddnessify(model, x, ncodebooks=8)
    assert report.changed == ("conv", "mix")
    assert {dtype for *_, dtype in clock} == {torch.bfloat16}
    assert model(x).dtype == torch.bfloat16
    assert (model(x) - expected).square().mean() < 0.6 * expected.var()


def test_a_second_conversion_leaves_the_layers_of_the_first_alone(clock):
    model = net()
    model.mix = model.again = MaddnessLinear.from_linear(model.mix, torch.randn(100, 24), ncodebooks=4, mode="exact")
    assert maddnessify(model, images(), ncodebooks=8).changed == ("conv",)


def test_the_budget_chooses_the_number_of_codebooks(clock):
    x = images(30)
    coarse = maddnessify(net(), x, budget=0.95).plan["conv"]
    fine = maddnessify(net(), x, budget=0.45).plan["conv"]
    assert (coarse.ncodebooks, fine.ncodebooks) == (4, 12)
    assert fine.nmse <= 0.45 < coarse.nmse <= 0.95
    model = net()
    with pytest.warns(NoEffectWarning):
        report = maddnessify(model, x, budget=1e-6)
    assert "above the budget of 1e-06" in report.plan["conv"].reason


def test_a_target_of_time(clock):
    plan = maddnessify(net(), images(), budget=Budget(time=0.8), skip=("stem",)).plan
    assert plan.converted
    total = sum(entry.dense_seconds for entry in plan.entries if entry.dense_seconds)
    now = sum((e.tables_seconds if e.convert else e.dense_seconds) for e in plan.entries if e.dense_seconds)
    assert now <= 0.8 * total


def test_a_dense_form_that_is_none(clock):
    with pytest.raises(ValueError, match="maddnessify: expected against among .* Did you mean bfloat16"):
        maddnessify(net(), images(), ncodebooks=6, against="bfloat61")
    assert not clock


@pytest.mark.parametrize("convert", [maddnessify, lambda *a, **o: progressive(*a, lambda _: None, **o)])
def test_one_row_is_too_few(convert):
    with pytest.raises(ValueError, match="(maddnessify|progressive): expected at least 2 rows for '1'"):
        convert(nn.Sequential(nn.ReLU(), nn.Linear(8, 8)).eval(), torch.ones(1, 8), ncodebooks=2, skip=(),
                **({"force": True} if convert is maddnessify else {}))  # fmt: skip


def test_which_dense_form_is_to_be_beaten(clock):
    plan = maddnessify(net(), images(), ncodebooks=6, against="bfloat16").plan
    assert plan["fc"].convert  # 12 microseconds against 16
    assert "bfloat16 GEMM takes 0.016 ms" in plan["fc"].reason


def test_the_way_of_summing_is_the_one_that_is_timed_and_used(monkeypatch):
    asked = []

    def measure(*how):
        asked.append(how[-2:])
        return Timing(1.0, {"float32": 2.0})

    monkeypatch.setattr(selection, "measure", measure)
    monkeypatch.setattr(selection, "measure_conv2d", measure)
    model = net()
    maddnessify(model, images(), ncodebooks=8, accumulate="avg", upcast_every=4)
    assert set(asked) == {("avg", 4)}
    assert (model.conv.accumulate, model.conv.upcast_every) == ("avg", 4)


def test_force_times_nothing(monkeypatch):
    monkeypatch.delattr(selection, "measure")
    monkeypatch.delattr(selection, "measure_conv2d")
    model = net()
    report = maddnessify(model, images(), ncodebooks=8, force=True, skip=())
    assert report.changed == ("head", "stem", "conv", "fc", "mix")
    assert "forced, nothing was timed" in report.plan["conv"].reason
    assert report.plan["depthwise"].reason == "it has groups=8"


def test_an_earlier_plan_is_followed(clock):
    first = maddnessify(net(), images(), ncodebooks=8).plan
    clock.clear()
    model = net()
    report = maddnessify(model, images(), plan=first)
    assert report.changed == ("conv", "mix")
    assert not clock
    assert model.conv.ncodebooks == 8
    with pytest.raises(ValueError, match="stem is kept: it is the first layer"):
        maddnessify(net(), images(), plan=Plan((Entry("stem", True, "", 4, 16),)))
    with pytest.raises(ValueError, match="Did you mean conv"):
        maddnessify(net(), images(), plan=Plan((Entry("convv", True, "", 4, 16),)))
    with pytest.raises(ValueError, match="a plan with ncodebooks and leaves"):
        maddnessify(net(), images(), plan=Plan((Entry("conv", True, "", 400, 16),)))


def test_the_same_seed_gives_the_same_layers(clock):
    def tables(seed: int) -> Tensor:
        model = net()
        maddnessify(model, images(), ncodebooks=8, max_rows=200, seed=seed)
        return model.conv.luts

    assert torch.equal(tables(0), tables(0))
    assert not torch.equal(tables(0), tables(1))


@pytest.mark.filterwarnings("ignore::hasten._core.surgery.NoEffectWarning")  # whether any pays is the machine's affair
def test_real_times_give_a_plan_and_a_reason_for_each_layer():
    report = maddnessify(net(), images(), ncodebooks=4)
    assert [entry.name for entry in report.plan.entries] == ["stem", "conv", "depthwise", "fc", "mix", "head", "unused"]
    assert all(" takes " in report.plan[name].reason for name in ("conv", "fc", "mix"))


def test_freezing_opening_and_loading(clock):
    model, x = net(), images()
    maddnessify(model, x, ncodebooks=8)
    expected = model(x)
    assert finetune_mode(model) == ("conv", "mix")
    torch.testing.assert_close(model(x).detach(), expected.detach(), rtol=1e-4, atol=1e-4)
    assert freeze(model) == ("conv", "mix")
    fresh = net()
    assert prepare(fresh, model.state_dict()).changed == ("conv", "mix")
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))
    finetune_mode(model)
    fresh = net()
    prepare(fresh, model.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))
    with pytest.warns(NoEffectWarning, match="finetune_mode: nothing changed"):
        finetune_mode(model)
    with pytest.warns(NoEffectWarning, match="freeze: nothing changed"):
        freeze(net())
    with pytest.warns(NoEffectWarning, match="a state with tables"):
        prepare(net(), net().state_dict())
    with pytest.raises(ValueError, match="a linear or convolution layer 'again'"):
        prepare(nn.Sequential(), model.state_dict())
    exact = nn.Sequential(MaddnessLinear.from_linear(nn.Linear(8, 8), torch.randn(40, 8), ncodebooks=2, mode="exact"))
    with pytest.raises(ValueError, match="got one of mode 'exact'"):
        prepare(nn.Sequential(nn.Linear(8, 8)), exact.state_dict())


def test_groups_of_parameters(clock):
    model = net()
    assert [len(group["params"]) for group in parameter_groups(model, 0.1)] == [len(list(model.parameters()))]
    maddnessify(model, images(), ncodebooks=8)
    frozen = len(list(model.parameters()))
    finetune_mode(model)
    model.conv.log_width.requires_grad_(False)
    fast, slow = parameter_groups(model, 0.1, thresholds=0.2)
    assert (len(fast["params"]), len(slow["params"])) == (frozen + 4, 3)
    assert (fast["lr"], slow["lr"], slow["weight_decay"]) == (0.1, pytest.approx(0.02), 0.0)
    with pytest.raises(ValueError, match="lr of at least 0"):
        parameter_groups(model, -1.0)


# Progressive ----------------------------------------------------------------------------------------------------------


def test_each_layer_learns_from_the_converted_layers_before_it():
    model, x, calls = net(), images(), []

    def finetune(given: nn.Module) -> None:
        assert given is model
        calls.append([name for name, m in model.named_modules() if isinstance(m, (MaddnessConv2d, MaddnessLinear))])
        model.train()

    report = progressive(model, [x], finetune, ncodebooks=8)
    assert calls == [["conv"], ["conv", "fc"], ["conv", "fc", "mix"]]
    assert report.changed == ("conv", "fc", "mix")
    assert not any(module.training for module in model.modules())
    hidden = model.depthwise(torch.relu(model.conv(torch.relu(model.stem(x))))).mean((2, 3))
    own = MaddnessLinear.from_linear(net().fc, hidden.detach(), ncodebooks=8)
    assert not torch.equal(own.thresholds, model.fc.thresholds)  # own has seen the rows that were held out
    assert (model.fc(hidden) - net().fc(hidden)).square().mean() < 0.3 * net().fc(hidden).var()
    assert report.plan["fc"].reason.endswith("before fine-tuning (ncodebooks=8, leaves=16)")
    report.undo()
    assert torch.equal(model(x), net()(x))


def test_stages_and_plans(clock):
    plan = maddnessify(net(), images(), ncodebooks=8).plan
    model, count = net(), []
    report = progressive(model, images(), count.append, plan=plan, per_stage=5)
    assert report.changed == ("conv", "mix")
    assert len(count) == 1
    assert model.mix.mode == "finetune"


def test_an_interrupted_conversion_keeps_what_it_has():
    model = net()

    def fail(_: nn.Module) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        progressive(model, images(), fail, ncodebooks=8)
    assert isinstance(model.conv, MaddnessConv2d)
    assert isinstance(model.fc, nn.Linear)


class Digits(nn.Module):
    """Two convolutions and two linear layers for images of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


def test_a_small_network_keeps_its_accuracy():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x, y = torch.from_numpy(x).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(y)
    torch.manual_seed(0)
    order = torch.randperm(len(x))
    train, test = order[:1400], order[1400:]

    def fit(model: nn.Module, epochs: int, lr: float) -> None:
        optimizer = torch.optim.Adam(parameter_groups(model, lr))
        model.train()
        for _ in range(epochs):
            for batch in train[torch.randperm(len(train))].split(100):
                optimizer.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model.eval()(x[test]).argmax(1) == y[test]).float().mean())

    model = Digits()
    fit(model, 14, 5e-3)
    dense, plain = accuracy(model), copy.deepcopy(model)
    assert dense > 0.93
    options = {"ncodebooks": 16, "max_rows": 1200}
    maddnessify(plain, x[train[:400]], force=True, **options)
    report = progressive(model, [x[train[:400]]], lambda m: fit(m, 3, 5e-3), **options)
    assert report.changed == ("conv2", "fc1")
    soft = accuracy(model)
    freeze(model)
    frozen = accuracy(model)
    assert frozen == pytest.approx(soft, abs=0.005)
    assert frozen > dense - 0.06
    assert frozen > accuracy(plain) + 0.05


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"calibration": []}, ValueError, "at least one batch"),
        ({"calibration": None}, TypeError, "iterable of batches"),
        ({"calibration": images() / 0}, ValueError, "finite inputs of 'conv'"),
        ({"calibration": images(1)[:, :, :1, :1], "ncodebooks": 8}, ValueError, "at least 2 rows"),
        ({"leaves": 12}, ValueError, "leaves among"),
        ({"ncodebooks": 0}, ValueError, "at least 1 for ncodebooks"),
        ({"skip": "first"}, TypeError, r"skip=\('first',\)"),
        ({"skip": ("frist",)}, ValueError, "Did you mean first"),
        ({"budget": "small"}, TypeError, "largest NMSE"),
        ({"budget": Budget(time=0.5), "force": True}, ValueError, "target of time or force"),
        ({"plan": Plan(), "force": True}, ValueError, "plan or force"),
        ({"against": "fp32"}, ValueError, "expected against among fastest, float32"),
        ({"max_rows": 0}, ValueError, "max_rows"),
        ({"lut_bits": 16}, ValueError, "lut_bits=8"),
        ({"accumulate": "average"}, ValueError, "accumulate among"),
        ({"rigde": 1.0}, TypeError, "rigde"),
    ],
)
def test_bad_input(clock, arguments, error, message):
    given = {"calibration": images(), **arguments}
    with pytest.raises(error, match=message):
        maddnessify(net(), given.pop("calibration"), **given)


def test_a_model_in_training_mode_is_refused():
    model = net().train()
    with pytest.raises(ValueError, match=r"a model in evaluation mode.*Call model\.eval\(\)"):
        maddnessify(model, images())
    with pytest.raises(ValueError, match="a model in evaluation mode"):
        progressive(model, images(), lambda m: None)


def test_fewer_columns_than_codebooks_is_a_reason(clock):
    plan = maddnessify(net(), images(), ncodebooks=20).plan
    assert plan["fc"].reason == "it has 8 columns for 20 codebooks"
    assert plan["conv"].convert


def test_bad_input_to_progressive():
    with pytest.raises(ValueError, match="can be read again"):
        progressive(net(), iter([images()]), lambda m: None)
    with pytest.raises(TypeError, match="a function finetune"):
        progressive(net(), images(), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="per_stage"):
        progressive(net(), images(), lambda m: None, per_stage=0)
    with pytest.warns(NoEffectWarning, match="progressive: nothing changed"):
        progressive(nn.Sequential(nn.ReLU()).eval(), images(), lambda m: None)
