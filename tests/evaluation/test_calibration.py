import numpy as np
import pytest
from scipy.special import expit

from pcam_utils.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature


@pytest.fixture
def honest():
    """Probabilities of four views, and labels that come true as often as they say."""
    rng = np.random.default_rng(0)
    probabilities = expit(rng.normal(0, 2, 20_000))
    labels = (rng.random(20_000) < probabilities).astype(int)
    return labels, np.repeat(probabilities[:, None], 4, axis=1)


def test_error_is_small_for_honest_probabilities_and_large_for_others(honest):
    labels, views = honest
    assert expected_calibration_error(labels, views[:, 0]) < 0.01
    assert expected_calibration_error(labels, np.full(len(labels), 0.9)) == pytest.approx(0.9 - labels.mean())


def test_error_is_the_weighted_gap_of_equally_full_bins():
    labels, probabilities = np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.6, 1.0])
    assert expected_calibration_error(labels, probabilities, bins=2) == pytest.approx(
        (abs(0.5 - 0.2) + abs(1 - 0.8)) / 2
    )


def test_error_takes_more_bins_than_patches():
    assert expected_calibration_error([0, 1], [0.0, 1.0]) == 0.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_probabilities_is_found(honest, temperature):
    labels, views = honest
    spoiled = apply_temperature(views, 1 / temperature)
    assert fit_temperature(labels, spoiled) == pytest.approx(temperature, rel=0.05)


def test_temperature_divides_the_logit_and_survives_certainty():
    np.testing.assert_allclose(apply_temperature(expit([-4.0, 2.0]), 2), expit([-2.0, 1.0]))
    assert np.isfinite(apply_temperature(np.array([0.0, 1.0]), 0.05)).all()
