from __future__ import annotations

from hasten.bench.stats.ties import tie_groups


def seeds(*values: float) -> dict[int | str, float]:
    return dict(enumerate(values))


def test_separated_arms_are_ranked_best_first() -> None:
    groups = tie_groups({"low": seeds(0.70, 0.71, 0.72), "high": seeds(0.80, 0.811, 0.82)})
    assert groups == (("high",), ("low",))


def test_overlapping_arms_share_a_group() -> None:
    groups = tie_groups({"a": seeds(0.70, 0.75, 0.72), "b": seeds(0.74, 0.71, 0.75)})
    assert groups == (("b", "a"),)


def test_a_noisy_arm_between_joins_what_it_cannot_be_told_from() -> None:
    # high and low are separated, the noisy one is separated from neither: no cut is left
    groups = tie_groups(
        {
            "high": seeds(0.80, 0.81, 0.82, 0.83, 0.84),
            "noisy": seeds(0.50, 0.95, 0.60, 0.90, 0.85),
            "low": seeds(0.70, 0.71, 0.72, 0.73, 0.741),
        }
    )
    assert groups == (("high", "noisy", "low"),)


def test_two_common_seeds_separate_nothing() -> None:
    assert tie_groups({"a": seeds(0.1, 0.1), "b": seeds(0.9, 0.9)}) == (("b", "a"),)
    assert tie_groups({"a": {0: 0.1, 1: 0.2, 2: 0.1}, "b": {2: 0.9, 3: 0.9, 4: 0.9}}) == (("b", "a"),)


def test_one_arm_and_none() -> None:
    assert tie_groups({"a": seeds(0.1)}) == (("a",),)
    assert tie_groups({}) == ()
