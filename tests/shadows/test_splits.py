"""Splits are balanced, grow without changing, and know nothing of the target's members."""

from __future__ import annotations

import numpy as np
import pytest

from leakpro_nb.errors import InputError
from leakpro_nb.shadows import paired_splits, sized_splits


@pytest.mark.parametrize("records", [1, 2, 7, 100, 101])
@pytest.mark.parametrize("models", [2, 4, 64])
def test_every_record_is_in_half_of_the_models(records, models):
    trained_on, pair = paired_splits(records, models, seed=0)
    assert (trained_on.sum(axis=0) == models // 2).all()
    assert set(trained_on.sum(axis=1)) <= {records // 2, records - records // 2}
    for k in range(models):
        assert pair[k] == k ^ 1
        np.testing.assert_array_equal(trained_on[k], ~trained_on[pair[k]])


@pytest.mark.parametrize("models", [1, 3, 9])
def test_odd_number_of_models_leaves_the_last_alone(models):
    trained_on, pair = paired_splits(50, models, seed=0)
    assert pair[-1] == -1
    assert trained_on[-1].sum() == 25
    assert pair[:-1].tolist() == [k ^ 1 for k in range(models - 1)]
    np.testing.assert_array_equal(trained_on, paired_splits(50, models + 1, seed=0)[0][:-1])


def test_no_models():
    for trained_on, pair in (paired_splits(5, 0, seed=0), sized_splits(5, 0, 2, seed=0)):
        assert trained_on.shape == (0, 5)
        assert pair.shape == (0,)


def test_first_models_do_not_depend_on_how_many_follow():
    np.testing.assert_array_equal(paired_splits(99, 8, 1)[0], paired_splits(99, 64, 1)[0][:8])
    np.testing.assert_array_equal(sized_splits(99, 8, 20, 1)[0], sized_splits(99, 64, 20, 1)[0][:8])


def test_seeds_and_models_differ():
    seen = {mask.tobytes() for seed in range(5) for mask in paired_splits(60, 6, seed)[0]}
    seen |= {mask.tobytes() for seed in range(5) for mask in sized_splits(60, 6, 30, seed)[0]}
    assert len(seen) == 60
    np.testing.assert_array_equal(paired_splits(60, 6, 3)[0], paired_splits(60, 6, 3)[0])


@pytest.mark.parametrize("seed", range(20))
def test_splits_are_not_what_users_draw_their_members_with(seed):
    """A split with seed 0 once equalled the members of whoever wrote ``default_rng(0).permutation(n)[: n // 2]``."""
    n = 64
    ours = [*paired_splits(n, 16, seed)[0], *sized_splits(n, 16, n // 2, seed)[0]]
    theirs = []
    for entropy in (seed, [seed], [seed, 0], [seed, 0, 0], [0, seed], [seed, 1, 0]):
        order = np.random.default_rng(entropy).permutation(n)
        theirs += [np.isin(np.arange(n), order[: n // 2]), np.isin(np.arange(n), order[n // 2 :])]
        theirs.append(np.isin(np.arange(n), np.random.default_rng(entropy).choice(n, n // 2, replace=False)))
        theirs.append(np.random.default_rng(entropy).random(n) < 0.5)
    legacy = np.random.RandomState(seed).permutation(n)
    theirs.append(np.isin(np.arange(n), legacy[: n // 2]))
    agreement = np.array([[np.mean(mask == other) for other in theirs] for mask in ours])
    assert agreement.shape == (32, 25)
    # halves of 64 agree by chance in 50 % +- 6 %
    assert agreement.max() < 0.85
    assert agreement.min() > 0.15


@pytest.mark.parametrize("size", [0, 1, 30, 99, 100])
def test_sized_splits_have_their_size(size):
    trained_on, pair = sized_splits(100, 6, size, seed=0)
    assert trained_on.sum(axis=1).tolist() == [size] * 6
    assert pair.tolist() == [-1] * 6
    if 0 < size < 100:
        assert len({mask.tobytes() for mask in trained_on}) == 6


def test_sized_splits_cannot_be_larger_than_the_records():
    with pytest.raises(InputError, match="size = 101: there are 100 records to choose from"):
        sized_splits(100, 2, 101, seed=0)
