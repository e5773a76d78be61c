"""A study is checked before anything runs: what cannot be compared is refused with the reason, the rest is laid out."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hasten import methods
from hasten._core.call import canonical, encode
from hasten._core.surgery import Report
from hasten.bench.curves import KINDS, branch_schedule
from hasten.bench.plan import Job, Plan, check_test_data, make_plan
from hasten.bench.workloads.base import Workload, from_module
from hasten.program import Program, ProgramError, bind, call, method

from hasten.program import Card, Scheduled  # isort: skip
from tests.contract import images
from tests.contract.battery import IMAGES, NAMES, SMALL, TEXT

from hasten.schedules import cosine, one_cycle, warmup


def plan(arms: Any = None, *, workload: Workload = IMAGES, **options: Any) -> Plan:
    chosen = {"base": [], "smooth": [methods.label_smoothing()]} if arms is None else arms
    return make_plan(workload, chosen, **{"seeds": 3, "points": 2, **options})


def test_a_plan_of_two_arms() -> None:
    made = plan()
    assert list(made.arms) == ["base", "smooth"]
    assert (made.baseline, made.seeds, made.device) == ("base", (0, 1, 2), "cpu")
    assert (made.curve.kind, made.curve.ends) == ("cyclic", (3, 6))
    assert made.reason == "one cyclic run per arm and seed yields every point"
    assert made.steps_per_epoch == 6
    assert made.budgets() == ["0.5 ep", "1 ep"]
    assert made.steps() == 2 * 3 * 6
    assert made.arms["smooth"] == IMAGES.program.then(methods.label_smoothing())


def test_arms_in_every_form() -> None:
    given = {
        "list": [methods.ema(), methods.sam()], "one": methods.ema(), "program": IMAGES.program.then(methods.sam()),
        "tuple": (),
    }  # fmt: skip
    assert [len(arm.methods) for arm in plan(given).arms.values()] == [2, 1, 1, 0]


def test_jobs_are_interleaved_so_that_drift_meets_all_arms_alike() -> None:
    jobs = plan({name: [] for name in "ABC"}, curve="separate").jobs()
    assert "".join(job.arm for job in jobs if job.seed == 0) == "ABCABC"
    assert "".join(job.arm for job in jobs if job.seed == 1) == "CBACBA"
    assert [job.points for job in jobs[:6]] == [(0,)] * 3 + [(1,)] * 3
    assert Job("A", 0, (2, 3), "separate").first == 2
    assert len(set(jobs)) == 3 * 3 * 2


def test_steps_of_separate_runs_add_up() -> None:
    assert plan(curve="separate").steps() == 2 * 3 * (3 + 6)


def test_duration_points_and_mult_override_the_workload() -> None:
    made = plan(duration="4ep", points=3, mult=1.0)
    assert made.curve.ends == (9, 16, 24)
    assert {arm.duration for arm in made.arms.values()} == {"4ep"}
    assert plan({"b": IMAGES.program.then(methods.ema())}, duration="4ep").arms["b"].duration == "4ep"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"baseline": "bass"}, r"a baseline among the arms, got 'bass'\. Did you mean base\?"),
        ({"seeds": 0}, "compare: expected seeds, each once, got 0. Pass how many, or a list"),
        ({"seeds": []}, "expected seeds, each once, got"),
        ({"seeds": [1, 1]}, r"expected seeds, each once, got \[1, 1\]"),
        ({"seeds": [0.5]}, r"expected seeds, each once, got \[0\.5\]"),
        ({"seeds": True}, "expected seeds, each once, got True"),
        ({"seeds": [True]}, "expected seeds, each once"),
        ({"curve": "circular"}, "curve among 'auto', 'cyclic', 'separate', 'branch', got 'circular'"),
        ({"duration": "soon"}, "duration: expected a length such as '10ep'"),
        ({"duration": "100tok"}, "expected a unit this workload counts, got 'token'"),
        ({"points": 0}, "expected points >= 1, got 0"),
        ({"points": 9}, "got 6 for 9 points with mult=2 after a warm-up of 1. Train longer, ask for fewer points"),
        ({"mult": 0.0}, "expected mult >= 1, got 0.0"),
        ({"device": "tpu"}, "expected device 'cpu' or 'cuda', got 'tpu'"),
        ({"arms": {}}, "compare: expected at least one arm"),
    ],
)
def test_bad_options(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plan(**options)


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="expected a machine with a CUDA device, got none. Use device='cpu'"):
        plan(device="cuda")


@pytest.mark.parametrize(
    ("arm", "error", "reason"),
    [
        ("sam", TypeError, r"arm 'x': expected a list of methods, or a Program, got 'sam'\. For example"),
        (None, TypeError, "arm 'x': expected a list of methods"),
        ([methods.sam], TypeError, r"Call it: sam\(\)"),
        (methods.sam, TypeError, r"Call it: sam\(\)"),
        ([1], TypeError, "expected methods, got 1"),
        ([methods.mixup(), methods.cutmix()], ProgramError, "arm 'x': Program.then: mixup conflicts with cutmix"),
        ([methods.ema(), methods.ema()], ProgramError, "arm 'x': .*expected one instance per name, got 'ema' twice"),
        (TEXT.program, ValueError, "arm 'x': expected a program of the workload 'images', got 'text'"),
        (
            IMAGES.program.replace(compile="inductor"),
            ValueError,
            "compiled by the same backend, or none, got base",
        ),
    ],
)
def test_bad_arms(arm: Any, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        plan({"base": [], "x": arm})


def test_an_irreversible_method_makes_the_whole_study_separate_and_says_so() -> None:
    made = plan({"base": [], "frozen": [methods.layer_freezing()]})
    assert made.curve.kind == "separate"
    reason = "layer_freezing in 'frozen' cannot be undone at the end of a cycle"
    assert made.reason == f"separate runs for every point, because {reason}"
    with pytest.raises(ValueError, match=f"expected arms that a cyclic run can compare, got {reason}. Use --curve sep"):
        plan({"base": [], "frozen": [methods.layer_freezing()]}, curve="cyclic")


@method(Card("One cycle.", "optimization", "replace", {"schedule": "replace"}))
def one_cycled(program: Program, name: str) -> Program:
    return program.set(schedule=call(Scheduled, schedule=one_cycle(), unit="step"))


def test_a_replaced_schedule_makes_the_whole_study_separate_and_says_so() -> None:
    made = plan({"base": [], "super": [one_cycled()]})
    assert made.curve.kind == "separate"
    assert made.reason == "separate runs for every point, because 'super' replaces the schedule"
    with pytest.raises(ValueError, match="got 'super' replaces the schedule"):
        plan({"base": [], "super": [one_cycled()]}, curve="cyclic")


def test_an_unknown_compiler_is_refused() -> None:
    program = IMAGES.program.replace(compile="aot_eagre")
    with pytest.raises(ValueError, match=r"a backend of torch\.compile, got .aot_eagre.\. Did you mean aot_eager"):
        plan({"base": program})
    assert plan({"base": IMAGES.program.replace(compile="aot_eager")}).arms["base"].compile == "aot_eager"


def test_separate_as_asked() -> None:
    assert plan(curve="separate").reason == "separate runs for every point, as asked"
    assert plan(curve="cyclic").curve.kind == "cyclic"


@pytest.mark.parametrize(
    "arm",
    [
        IMAGES.program.replace(duration="3step"),
        IMAGES.program.replace(batch_size=4, duration="1ep"),
        IMAGES.program.replace(duration="1ep", data=bind(images.double_data), batch_size=24),
    ],
)
def test_an_arm_of_another_length_is_refused(arm: Program) -> None:
    with pytest.raises(ValueError, match=r"arm 'x': expected a training length of 6 steps, like the baseline.s, got"):
        plan({"base": [], "x": arm})


def test_another_batch_size_at_the_same_number_of_steps_is_a_comparison() -> None:
    made = plan({"base": [], "small": IMAGES.program.replace(batch_size=4, duration="6step")})
    assert made.arms["small"].batch_size == 4
    assert made.curve.kind == "cyclic"


def test_a_schedule_that_cannot_serve_the_shortest_budget_is_refused() -> None:
    """Else every run of the arm would fail, in its process, after minutes."""
    long = call(Scheduled, schedule=warmup(cosine(), 4), unit="step")
    with pytest.raises(ValueError, match=r"arm 'x', the cycle from step 0 to 3: warmup: expected steps < T = 3, got 4"):
        plan({"base": [], "x": IMAGES.program.replace(schedule=long)})


def test_needs_are_read_off_the_workload() -> None:
    with pytest.raises(ValueError, match="arm 'x': mixup: expected a workload with float_inputs, got a workload with"):
        plan({"base": [], "x": [methods.mixup()]}, workload=TEXT)
    with pytest.raises(ValueError, match="label_smoothing: expected a workload with cross_entropy, got a workload"):
        plan(workload=_with(loss=squares))


def squares(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.square().mean(1)


def _with(**functions: Any) -> Workload:
    import types

    module = types.SimpleNamespace(**{**vars(images), **functions})
    if "data" in functions:
        del module.train_data, module.test_data
    return from_module(module, "images")  # type: ignore[arg-type]


def seed_in_test(seed: int) -> Any:
    return images.sample(48, 0), images.sample(48, seed)


def seed_in_train(seed: int) -> Any:
    return images.sample(48, seed), images.sample(48, 7)


def global_draws(seed: int) -> Any:
    inputs, targets = images.sample(48, 0)
    return (inputs, targets), (torch.randn(48, 1, 8, 8), targets)


def rows(seed: int) -> Any:
    return images.Augmented(), images.Augmented()


def not_a_pair(seed: int) -> Any:
    return {"train": 1, "test": 2}


def test_test_data_may_not_depend_on_the_seed() -> None:
    for data in (seed_in_test, global_draws):
        with pytest.raises(ValueError, match="a test part that does not depend on the seed, got two. Split before"):
            plan(workload=_with(data=data))
    plan(workload=_with(data=seed_in_train))
    check_test_data(_with(data=rows))  # a dataset is taken at its word
    with pytest.raises(TypeError, match=r"data\(seed\): expected a pair \(train, test\), got dict\. End it with"):
        plan(workload=_with(data=not_a_pair))


def wild_model() -> nn.Module:
    """Asks for a number while it is built: what timm's stochastic depth does, and what a meta tensor refuses."""
    made = images.model()
    made.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]  # type: ignore[assignment]
    return made


def broken_model() -> nn.Module:
    raise KeyError("width")


def test_a_model_that_cannot_be_built_on_meta_is_built_for_real() -> None:
    assert plan(workload=_with(model=wild_model)).curve.ends == (3, 6)
    with pytest.raises(KeyError, match="width"):
        plan(workload=_with(model=broken_model))


def bad_surgery(model: nn.Module, *, generator: torch.Generator) -> Report:
    raise ValueError("bad_surgery: expected something else, got this.")


def test_errors_of_a_surgery_name_the_arm() -> None:
    program = IMAGES.program.append("surgery", "bad", bind(bad_surgery))
    with pytest.raises(ValueError, match="arm 'x': bad_surgery: expected something else"):
        plan({"base": [], "x": program})


def test_a_bad_argument_of_a_surgery_is_found_before_the_study() -> None:
    with pytest.raises(ValueError, match="arm 'x': stochastic_depth: expected drop_rate"):
        plan({"base": [], "x": [methods.stochastic_depth(drop_rate=1.5)]})


@pytest.mark.parametrize("kind", ["cyclic", "separate"])
def test_the_identity_of_a_study_without_forks_never_changes(kind: str) -> None:
    made = plan(curve=kind)
    record = {
        "workload": made.workload.program.workload,
        "arms": {name: program.fingerprint() for name, program in made.arms.items()},
        "baseline": "base",
        "curve": [kind, list(made.curve.ends)],  # nothing more: studies begun before branch curves must go on
        "evaluation": [encode(made.workload.test), encode(made.workload.metric)],
        "device": "cpu",
    }
    assert made.identity() == hashlib.sha256(canonical(record).encode()).hexdigest()[:16]
    assert made.curve.label == f"{kind}:{','.join(map(str, made.curve.ends))}"


def test_the_identity_is_the_question_and_not_how_often_it_is_asked() -> None:
    reference = plan().identity()
    assert len(reference) == 16
    assert plan(seeds=5).identity() == reference
    assert plan(seeds=[7]).identity() == reference
    others = [
        plan({"base": [], "smooth": [methods.label_smoothing(0.2)]}),
        plan({"base": [], "soft": [methods.label_smoothing()]}),
        plan(baseline="smooth"), plan(curve="separate"), plan(points=1), plan(duration="12step"),
        plan(workload=_with(metric=other_metric)),
    ]  # fmt: skip
    assert len({reference, *(other.identity() for other in others)}) == 1 + len(others)


def other_metric(model: nn.Module, test: Any) -> float:
    return 0.0


def test_every_method_can_be_planned() -> None:
    made = plan({"base": [], **{name: [SMALL[name]] for name in NAMES}})
    assert len(made.jobs()) == 3 * 2 * (1 + len(NAMES))  # separate, because of layer freezing


# Branch curves and controls -------------------------------------------------------------------------------------------

BRANCH = {"curve": "branch", "duration": "10ep", "points": 2, "decay": 0.25}


def test_a_branch_curve_gives_every_arm_its_schedule() -> None:
    made = plan(**BRANCH)
    assert made.reason == "one trunk per arm and seed yields every point, each after a decay of its own"
    assert (made.curve.ends, made.curve.forks) == ((21, 60), (16, 46))
    assert {program.schedule for program in made.arms.values()} == {branch_schedule(IMAGES.warmup, 0.25)}
    assert [str(method) for method in made.arms["smooth"].methods] == ["label_smoothing(smoothing=0.1)"]
    assert made.steps() == 2 * 3 * (46 + 5 + 14)
    assert plan(**{**BRANCH, "decay": None}).curve.forks == (17, 49)


def test_another_kind_of_curve_is_another_question() -> None:
    identities = {plan(**{**BRANCH, **more}).identity() for more in (
        {}, {"decay": 0.5}, {"curve": "separate", "decay": None}, {"curve": "cyclic", "decay": None},
    )}  # fmt: skip
    assert len(identities) == 4


@pytest.mark.parametrize("name", ["ema", "progressive_resizing", "selective_backprop", "layer_freezing"])
def test_a_trunk_cannot_serve_what_depends_on_where_the_run_ends(name: str) -> None:
    arms = {"base": [], "arm": [SMALL[name]]}
    with pytest.raises(ValueError, match=f"{name} in 'arm' depends on where the run ends, and a trunk has no end"):
        plan(arms, **BRANCH)


def weigh(batch: Any, *, generator: torch.Generator, alpha: float) -> Any:
    return batch


@method(Card(summary="Mix more and more.", component="data", action="retrofit", touches={"batch": "append"}))
def rising(program: Program, name: str) -> Program:
    alpha = call(Scheduled, schedule=cosine(), unit="step")
    return program.append("batch", name, bind(weigh, alpha=alpha), stage=60)


def test_a_batch_argument_that_follows_progress_is_refused_on_a_trunk() -> None:
    with pytest.raises(ValueError, match="rising in 'arm' depends on where the run ends"):
        plan({"base": [], "arm": [rising()]}, **BRANCH)
    assert plan({"base": [], "arm": [rising()]}, curve="cyclic").curve.kind == "cyclic"


def test_a_hook_without_a_card_cannot_branch() -> None:
    hooked = IMAGES.program.then(methods.ema()).hooks
    with pytest.raises(ValueError, match="ema in 'hand' depends on where the run ends"):
        plan({"base": [], "hand": IMAGES.program.replace(hooks=hooked)}, **BRANCH)


def test_an_arm_with_a_schedule_of_its_own_cannot_branch() -> None:
    own = IMAGES.program.replace(schedule=call(Scheduled, schedule=one_cycle(), unit="step"))
    with pytest.raises(ValueError, match="arms that a branch run can compare, got 'own' replaces the schedule"):
        plan({"base": [], "own": own}, **BRANCH)


def test_a_decay_belongs_to_branch_curves() -> None:
    with pytest.raises(ValueError, match="no decay for a cyclic curve, got 0.1. Use --curve branch, or --calibrate"):
        plan(decay=0.1)
    assert plan(decay=0.5, calibrate=True, duration="10ep").controls[1].curve.forks == (11, 31)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_runs_the_baseline_in_the_other_kinds(kind: str) -> None:
    made = plan(curve=kind, calibrate=True, duration="10ep")
    assert [control.curve.kind for control in made.controls] == [other for other in KINDS if other != kind]
    assert {control.curve.ends for control in made.controls} == {made.curve.ends}
    jobs = made.jobs()
    assert len(set(jobs)) == len(jobs)
    mine = [job for job in jobs if job.kind == kind]
    assert mine == plan(curve=kind, duration="10ep").jobs()
    others = [job for job in jobs if job.kind != kind]
    assert {job.arm for job in others} == {"base"}
    for job in jobs:
        assert made.curve_of(job).kind == job.kind
        branch = made.program(job).schedule == branch_schedule(IMAGES.warmup)
        assert branch == (job.kind == "branch")
    assert made.identity() == plan(curve=kind, duration="10ep").identity()


def test_a_baseline_that_cannot_branch_cannot_be_calibrated() -> None:
    arms = {"base": [methods.ema()], "other": []}
    with pytest.raises(ValueError, match="a baseline for a branch curve beside --calibrate, got ema in 'base' depends"):
        plan(arms, calibrate=True, duration="10ep")
    assert plan(arms, baseline="other", calibrate=True, duration="10ep").controls
