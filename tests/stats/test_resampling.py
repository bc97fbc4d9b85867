"""The bootstrap of curves against closed forms."""

import numpy as np
import pytest

from errata.stats.resampling import kept, log_mean, percentile_interval, resampled_means, slope


def test_resampled_means_have_the_mean_and_the_errors_of_the_sample() -> None:
    """Means, variances and the covariance of columns, as sampling n rows has them: those of the rows over n."""
    rng = np.random.default_rng(1)
    values = (rng.random((200, 2)) < (0.3, 0.6)).astype(float)
    values[:, 1] = np.maximum(values[:, 0], values[:, 1])
    drawn = resampled_means(values, resamples=40_000)
    assert drawn.shape == (40_000, 2)
    assert drawn.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=1e-3)
    assert np.cov(drawn.T) == pytest.approx(np.cov(values.T, bias=True) / 200, rel=0.05)


def test_the_same_seed_draws_the_same() -> None:
    values = np.eye(5)
    assert (resampled_means(values, 3) == resampled_means(values, 3)).all()
    assert (resampled_means(values, 3) != resampled_means(values, 4)).any()


def test_kept_shares() -> None:
    assert kept([[0.5, 0.25, 0.5], [0.0, 0.1, 0.2]])[0].tolist() == [1.0, 0.5, 1.0]
    assert np.isnan(kept([0.0, 0.1])).all()


def test_percentiles() -> None:
    assert percentile_interval(np.append(np.arange(1001) / 1000, np.nan), 0.9) == pytest.approx((0.05, 0.95))
    assert percentile_interval([np.nan]) == (-np.inf, np.inf)


def test_the_mean_of_a_curve_over_the_logarithm_of_edits() -> None:
    """A curve that is a straight line in log(1 + edits) has the mean of its ends; a constant is its own mean."""
    edits = [0, 1, 5, 10, 100]
    straight = 1 - np.log1p(edits) / np.log1p(100)
    assert log_mean(straight, edits) == pytest.approx(0.5)
    assert log_mean([[0.3] * 5, [0.7] * 5], edits) == pytest.approx([0.3, 0.7])


def test_slope() -> None:
    x, y = np.array([6.0, 6.6, 7.1]), np.array([[0.1, 0.5, 0.4], [1.0, 1.0, 1.0]])
    assert slope(y, x) == pytest.approx([np.polyfit(x, y[0], 1)[0], 0.0])
