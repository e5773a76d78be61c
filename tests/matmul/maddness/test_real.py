"""Real images and a linear classifier: the error falls as it should."""

from __future__ import annotations

from functools import cache

import numpy as np
from tests.matmul.maddness.data import has_images, images, least_squares

from hasten.matmul import Maddness, nmse

pytestmark = has_images


@cache
def loss(**options):
    train, test, *_ = images()
    B = least_squares()
    return nmse(test.astype(np.float64) @ B, Maddness(**options).fit(train, B).matmul(test))


def test_the_error_falls_with_codebooks():
    found = [loss(ncodebooks=c) for c in (4, 16, 49)]
    assert found[0] > 1.2 * found[1] > 1.2 * 1.2 * found[2]


def test_ridge_lowers_the_error():
    assert loss(ncodebooks=16) < loss(ncodebooks=16, dense=False) / 1.25


def test_more_leaves_lower_the_error():
    assert loss(ncodebooks=4, leaves=64) < 0.95 * loss(ncodebooks=4)


def test_splits_by_the_output_lower_the_error():
    for options in ({"ncodebooks": 4}, {"ncodebooks": 16}, {"ncodebooks": 16, "leaves": 64}):
        assert loss(split_metric="output", **options) < 0.92 * loss(split_metric="input", **options)
        assert loss(**options) == loss(split_metric="output", **options), "the default, where there is a B"


def test_bytes_and_averages_cost_little():
    floats = loss(ncodebooks=16, split_metric="output", lut_bits=32)
    assert loss(ncodebooks=16, split_metric="output") < 1.02 * floats
    assert loss(ncodebooks=16, split_metric="output", accumulate="avg") < 1.05 * floats


def test_the_classifier_still_classifies():
    train, test, _, labels = images()
    B = least_squares()
    exact = float(np.mean((test @ B).argmax(axis=1) == labels))
    found = float(np.mean(Maddness(16, split_metric="output").fit(train, B).matmul(test).argmax(axis=1) == labels))
    assert exact > 0.75
    assert found > exact - 0.1
