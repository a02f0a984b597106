import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pcam_utils.errors import InputError
from pcam_utils.evaluation.baseline import colour_features, colour_scores


class Lazy:
    """Like an HDF5 dataset: length and slices only; remembers how much was read at once."""

    def __init__(self, images):
        self.images = images
        self.most = 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        assert isinstance(key, slice)
        part = self.images[key]
        self.most = max(self.most, len(part))
        return part


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (600, 96, 96, 3), dtype=np.uint8)


def test_features_are_the_statistics_of_centre_and_patch(noise):
    features = colour_features(noise[:2])
    centre, patch = noise[1, 32:64, 32:64].reshape(-1, 3), noise[1].reshape(-1, 3)
    expected = [
        np.concatenate([p.mean(0), p.std(0), np.quantile(p, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0).ravel()])
        for p in (centre, patch)
    ]
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[1], np.concatenate(expected), rtol=1e-4)


def test_features_are_blind_to_shapes(noise):
    patch = noise[:1].copy()
    patch[0, 32:64, 32:64] = patch[0, 32:64, 32:64][::-1, ::-1].transpose(1, 0, 2)
    assert not np.array_equal(patch, noise[:1])
    np.testing.assert_allclose(colour_features(patch), colour_features(noise[:1]), rtol=1e-5)


def test_features_are_read_in_batches(noise):
    lazy = Lazy(noise)
    features = colour_features(lazy)
    assert lazy.most <= 256
    np.testing.assert_array_equal(features[300:310], colour_features(noise[300:310]))


def test_no_images_give_no_rows():
    assert colour_features(np.empty((0, 96, 96, 3), np.uint8)).shape == (0, 42)


def test_scores_find_a_difference_in_colour_and_repeat():
    rng = np.random.default_rng(1)
    labels = np.arange(200) % 2
    images = rng.integers(90, 170, (200, 96, 96, 3), dtype=np.uint8)
    images[labels == 1, 32:64, 32:64, 0] += 20
    scores = colour_scores(images[:120], labels[:120].reshape(-1, 1, 1, 1), images[120:])
    assert scores.dtype == np.float64 and scores.shape == (80,)
    assert roc_auc_score(labels[120:], scores) > 0.99
    again = colour_scores(images[:120], labels[:120], Lazy(images[120:]))
    np.testing.assert_array_equal(scores, again)


def test_scores_find_nothing_in_labels_at_random():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (300, 96, 96, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(300) % 2)
    auc = roc_auc_score(labels[200:], colour_scores(images[:200], labels[:200], images[200:]))
    assert 0.3 < auc < 0.7


@pytest.mark.parametrize(
    "labels, said", [([0, 1, 1], "3 labels for 4"), ([1, 1, 1, 1], r"\[1\]"), ([0, 1, 2, 1], r"\[0, 1, 2\]")]
)
def test_labels_that_cannot_be_learned_from_are_named(noise, labels, said):
    with pytest.raises(InputError, match=said):
        colour_scores(noise[:4], labels, noise[:2])
