"""What a pruning study is, and what is refused before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hasten.bench.plan import Job
from hasten.bench.pruning import PrunePlan
from hasten.bench.pruning.plan import SMALLER, START, UNPRUNED, make_prune_plan
from hasten.bench.workloads import load
from hasten.prune import NoClassifierWarning

MakePlan = Callable[..., PrunePlan]


def test_jobs_of_a_seed_begin_with_its_start_and_go_there_and_back(make_plan: MakePlan) -> None:
    plan = make_plan()
    first = [(job.arm, job.first) for job in plan.jobs() if job.seed == 0]
    assert first == [
        (START, 0), (SMALLER, 1), (SMALLER, 2), (UNPRUNED, 0), ("random", 1), ("global_magnitude", 1), ("random", 2),
        ("global_magnitude", 2),
    ]  # fmt: skip
    second = [(job.arm, job.first) for job in plan.jobs() if job.seed == 1]
    assert second == [*first[:3], *first[3:][::-1]]


def test_what_begins_with_the_start_weights_waits_for_them(make_plan: MakePlan) -> None:
    plan = make_plan()
    for job in plan.jobs():
        alone = job.arm in (START, SMALLER)
        assert plan.needs(job) == (None if alone else Job(START, job.seed, (0,), "start"))


def test_lengths_and_programs(make_plan: MakePlan) -> None:
    plan = make_plan(train="30step", finetune="12step", rate=0.5)
    assert plan.steps == (30, 12)
    jobs = {(job.arm, job.first): job for job in plan.jobs()}
    lengths = {name: plan.length(jobs[name], (name[1],)) for name in jobs}
    assert lengths[START, 0] == 30
    assert lengths[UNPRUNED, 0] == lengths["random", 2] == 12
    assert lengths[SMALLER, 1] == 42  # both lengths together
    tuned = plan.program(jobs["random", 2])
    assert tuned == plan.program(jobs[UNPRUNED, 0])  # the same batches, the same learning rates
    assert tuned.duration == "12step"
    schedule = tuned.schedule.build()
    assert float(schedule.schedule(0, 12)) == pytest.approx(0.5)
    assert float(schedule.schedule(12, 12)) == pytest.approx(0.0)
    assert plan.program(jobs[SMALLER, 1]).duration == "42step"
    assert dict(plan.program(jobs[SMALLER, 2]).model.args) == {"width": plan.smaller[4.0].model.args[0][1]}


def test_fine_tuning_is_a_fifth_of_the_training_unless_said(make_plan: MakePlan) -> None:
    assert make_plan().steps == (30, 6)
    assert make_plan(train="2ep").steps == (36, 7)  # 288 samples to learn from, 18 batches of 16


def test_the_part_held_out_is_not_learned_from(make_plan: MakePlan) -> None:
    plan = make_plan()
    assert plan.held_out == (32, "accuracy")
    assert len(plan.start.data.build()(0)[0]) == 288


def test_a_metric_that_needs_other_data_leaves_the_choice_to_the_loss(
    make_plan: MakePlan, tmp_path: Path, blobs
) -> None:
    mine = tmp_path / "mine.py"
    text = blobs.read_text().replace("return part(320, 0), part(256, 1)", "return part(320, 0), [*part(256, 1), 'x']")
    mine.write_text(text)
    assert make_plan(mine).held_out == (32, "loss")


def test_fingerprints_say_what_is_computed(make_plan: MakePlan) -> None:
    plan, longer, wider = make_plan(), make_plan(train="31step", finetune="6step"), make_plan(ratios=[2, 4, 5])
    prints = {(job.arm, job.first): plan.fingerprint(job) for job in plan.jobs()}
    assert len(set(prints.values())) == len(prints)
    for job in longer.jobs():
        assert longer.fingerprint(job) != prints[job.arm, job.first]  # other start weights are other runs
    same = {(job.arm, job.first): wider.fingerprint(job) for job in wider.jobs()}
    assert same["random", 2] == prints["random", 2]
    channel = make_plan(strategies=["channel_l2@channel"])
    assert channel.identity() != make_plan(strategies=["channel_l2"]).identity()


def test_seeds_are_no_part_of_the_question_and_all_else_is(make_plan: MakePlan) -> None:
    plan = make_plan()
    assert make_plan(seeds=5).identity() == plan.identity()
    others = [{"ratios": [2]}, {"strategies": ["lamp"]}, {"train": "20step"}, {"finetune": "9step"}, {"rate": 0.2},
              {"pattern": "channel"}]  # fmt: skip
    assert len({plan.identity(), *(make_plan(**other).identity() for other in others)}) == 1 + len(others)


def test_random_pruning_and_the_ratio_1_are_always_there(make_plan: MakePlan) -> None:
    plan = make_plan(strategies=["lamp"], ratios=[4, 2])
    assert (plan.strategies, plan.ratios) == (("random", "lamp"), (1.0, 2.0, 4.0))
    assert make_plan(strategies=["lamp", "random"], ratios=[1, 2]).strategies == ("lamp", "random")


REFUSED = [
    (
        {"strategies": ["global_magnitud"]},
        ValueError,
        "a strategy that is known, got 'global_magnitud'. Did you mean",
    ),
    ({"strategies": "lamp"}, TypeError, "strategies as a list of names, got 'lamp'"),
    ({"strategies": []}, ValueError, "hasten prune: expected a strategy, got []"),
    ({"strategies": ["lamp", "lamp"]}, ValueError, "each strategy once, got 'lamp'"),
    ({"strategies": ["start"]}, ValueError, "a name that no control has, got 'start'"),
    ({"strategies": ["lamp@chanel"]}, ValueError, "chanel"),
    ({"strategies": ["lamp@2:4"]}, ValueError, "a pattern that can have any density, for a curve, got '2:4'"),
    ({"pattern": "2:4"}, ValueError, "a pattern that can have any density, for a curve"),
    ({"ratios": [0.5]}, ValueError, "compression ratios of at least 1 (size before / size after), got 0.5"),
    ({"ratios": [1]}, ValueError, "a ratio above 1, got [1]"),
    ({"ratios": [2, 2]}, ValueError, "each ratio once, got [2, 2]"),
    ({"ratios": ["2"]}, ValueError, "compression ratios of at least 1"),
    ({"ratios": [float("nan")]}, ValueError, "compression ratios of at least 1"),
    ({"ratios": [2, 64]}, ValueError, "compression that can be reached, at most 5.2"),
    ({"seeds": 0}, ValueError, "hasten prune: expected seeds, each once, got 0"),
    ({"rate": 0.0}, ValueError, "rate > 0"),
    ({"train": "soon"}, ValueError, "a length such as '10ep'"),
    ({"device": "tpu"}, ValueError, "hasten prune: expected device 'cpu' or 'cuda'"),
]


@pytest.mark.parametrize(("options", "kind", "told"), REFUSED)
def test_bad_input_is_refused_before_anything_is_trained(make_plan: MakePlan, options, kind, told: str) -> None:
    with pytest.raises(kind, match=re.escape(told)):
        make_plan(**options)


def test_a_strategy_that_this_model_cannot_be_pruned_by_is_named(make_plan: MakePlan) -> None:
    with pytest.raises(ValueError, match=r"strategy 'lamp@block\(5,5\)' at ratio 4: "):
        make_plan(strategies=["lamp@block(5,5)"])


def test_a_workload_without_prunable_layers(tmp_path: Path, blobs: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(blobs.read_text() + "\n\ndef model():\n    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))\n")
    with pytest.raises(ValueError, match="expected a model with a prunable layer, got Sequential with none"):
        make_prune_plan(load(mine), strategies=["lamp"], ratios=[2])


def test_a_model_without_a_width_has_no_smaller_control_and_says_so(make_plan, tmp_path: Path, blobs: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        blobs.read_text().replace("def model(width: int = 16):", "def model(size: int = 16):\n    width = size")
    )
    plan = make_plan(mine)
    assert not plan.smaller
    assert plan.without_smaller.endswith("under a name such as width (it takes size)")
    assert not [job for job in plan.jobs() if job.arm == SMALLER]


HIDDEN = """
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = bare(width)

    def forward(self, x):
        return self.layers(x)


def model(width: int = 16):
    return Net(width)
"""


def test_a_classifier_that_is_not_known_is_told(make_plan: MakePlan, tmp_path: Path, blobs: Path) -> None:
    assert make_plan().classifier
    mine = tmp_path / "mine.py"
    mine.write_text(f"{blobs.read_text()}\n\nbare = model\n{HIDDEN}")
    with pytest.warns(NoClassifierWarning, match="Set is_classifier = True on its last layer"):
        plan = make_plan(mine)
    assert not plan.classifier
    assert plan.parameters[1] > make_plan().parameters[1]
