"""Means and errors of correlated numbers."""

import pickle

import numpy as np
import pytest

from pyg_schnet.analysis.structure.block_average import BlockAverage


def averaged(values, length=1):
    average = BlockAverage(length)
    for value in values:
        average.add(np.atleast_1d(value))
    return average


def test_independent_numbers():
    values = np.random.default_rng(0).normal(3.0, 2.0, 8_000)
    average = averaged(values)
    assert average.mean()[0] == pytest.approx(values.mean(), abs=1e-12)
    # the error of an error from 19 blocks is 16 per cent; 3 standard deviations
    assert average.error()[0] == pytest.approx(2.0 / 8_000**0.5, rel=0.5)


def test_correlated_numbers():
    """An autoregressive process of correlation a: the error of its mean is larger by sqrt((1 + a) / (1 - a))."""
    rng, a = np.random.default_rng(1), 0.95
    noise, values = rng.normal(size=20_000), np.zeros(20_000)
    for k in range(1, len(values)):
        values[k] = a * values[k - 1] + (1 - a**2) ** 0.5 * noise[k]
    error = averaged(values).error()[0] * len(values) ** 0.5
    assert error == pytest.approx(((1 + a) / (1 - a)) ** 0.5, rel=0.5)  # 6.2, where single frames give 1


def test_blocks_of_few_frames_are_the_frames():
    values = np.random.default_rng(2).normal(size=20)
    assert averaged(values).error()[0] == pytest.approx(values.std(ddof=1) / 20**0.5)
    assert np.isnan(averaged(values[:1]).error()[0])


def test_jackknife():
    """Of a mean it is the standard error; of a product of two means, that of the propagation of errors."""
    values = np.random.default_rng(3).normal([2.0, 5.0], [0.3, 0.1], (8_000, 2))
    average = averaged(values)
    np.testing.assert_allclose(average.jackknife_error(lambda m: m), average.error(), rtol=1e-9)
    expected = ((5.0 * 0.3) ** 2 + (2.0 * 0.1) ** 2) ** 0.5 / 8_000**0.5
    assert average.jackknife_error(lambda m: m[..., 0] * m[..., 1]) == pytest.approx(expected, rel=0.5)
    assert np.isnan(averaged(values[:1]).jackknife_error(lambda m: m)).all()


def test_memory_is_bounded():
    few, many = averaged(range(32)), averaged(range(1000))
    assert len(pickle.dumps(many)) < 1.1 * len(pickle.dumps(few))
    assert many.mean()[0] == 499.5


def test_arrays_that_belong_together_are_in_one_block():
    """Eight copies of each number tell no more than one."""
    values = np.random.default_rng(3).normal(size=30)
    assert averaged(values.repeat(8), 8).error()[0] == pytest.approx(averaged(values).error()[0])


def test_growing_arrays_and_what_is_not_defined():
    average = BlockAverage()
    average.add(np.array([[1.0], [5.0]]), np.array([[1.0], [0.0]]))
    average.add(np.array([[2.0, 4.0], [np.nan, np.nan]]), np.array([[1.0], [0.0]]))
    assert average.mean()[0].tolist() == [1.5, 2.0]
    assert average.error()[0].tolist() == [0.5, 2.0]
    assert np.isnan(average.mean()[1]).all()
    assert np.isnan(average.error()[1]).all()


def test_derived_error():
    values = np.random.default_rng(4).normal(size=(25, 2))
    average = BlockAverage()
    for value in values:
        average.add(value)
    ratio = values[:, 0] * values[:, 1]
    assert average.derived_error(lambda means: means[:, 0] * means[:, 1]) == pytest.approx(ratio.std(ddof=1) / 5)
