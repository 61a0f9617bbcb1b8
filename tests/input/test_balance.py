"""Repeat factors by hand, and epochs that keep to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.input.balance import epoch_order, repeat_factors

CAR, CYCLIST = 1, 3


def test_factors_follow_the_rarest_class_of_a_frame():
    frames = [[CAR], [CAR, CAR], [CAR, CYCLIST], [CAR]] * 4
    factors = repeat_factors([np.array(frame) for frame in frames], threshold=0.5)
    np.testing.assert_allclose(factors, [1, 1, np.sqrt(0.5 / 0.25), 1] * 4)


def test_empty_frames_and_ignored_objects_have_no_factor():
    frames = [np.array([-1, 0]), np.array([], np.int64), np.array([CYCLIST])]
    np.testing.assert_allclose(repeat_factors(frames, 1.0), [1, 1, np.sqrt(3)])


def test_threshold_zero_changes_nothing():
    np.testing.assert_array_equal(repeat_factors([np.array([1]), np.array([2])], 0.0), [1, 1])


FACTORS = st.lists(st.floats(1.0, 4.0), min_size=1, max_size=40).map(np.array)


@settings(deadline=None)
@given(factors=FACTORS, seed=st.integers(0, 100), epoch=st.integers(0, 1000))
def test_each_frame_comes_floor_or_ceil_times_and_the_length_is_fixed(factors, seed, epoch):
    order = epoch_order(factors, seed, epoch)
    assert len(order) == int(factors.sum() + 1e-6) == len(epoch_order(factors, seed, epoch + 1))
    counts = np.bincount(order, minlength=len(factors))
    exact = factors * len(order) / factors.sum()
    assert (np.abs(counts - exact) < 1 + 1e-6).all()
    np.testing.assert_array_equal(order, epoch_order(factors, seed, epoch))


@settings(deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_without_repeats_an_epoch_is_a_permutation(count, seed, epoch):
    order = epoch_order(np.ones(count), seed, epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_on_average_a_frame_comes_as_often_as_its_factor():
    factors = np.array([1.0, 1.3, 1.7, 2.5, 1.0])
    counts = sum(np.bincount(epoch_order(factors, 0, e), minlength=5) for e in range(2000)) / 2000
    assert counts == pytest.approx(factors * 7 / 7.5, abs=0.05)


def test_epochs_and_seeds_differ():
    orders = {tuple(epoch_order(np.ones(20), seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
