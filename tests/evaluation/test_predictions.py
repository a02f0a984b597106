import csv
import gc
import weakref

import numpy as np
import pytest

from pcam_utils.data.patches import Patches, Rows
from pcam_utils.errors import InputError
from pcam_utils.evaluation.predictions import TTA, average, predict, predict_views, view_model, write_submission
from pcam_utils.models.networks import build_model, load_model


@pytest.fixture(scope="module")
def model():
    return build_model("SmallCNN", "none")


@pytest.fixture(scope="module")
def patches():
    images = np.random.default_rng(0).integers(0, 256, (21, 96, 96, 3), dtype=np.uint8)
    return Patches(Rows(images), np.arange(21).astype(str))


#: The symmetries in plain NumPy, of (N, rows, columns, 3).
NUMPY = {
    "as it is": lambda images: images,
    "upside down": lambda images: images[:, ::-1],
    "half turn": lambda images: np.rot90(images, 2, (1, 2)),
    "mirrored": lambda images: images[:, :, ::-1],
    "transposed": lambda images: images.swapaxes(1, 2),
    "quarter turn left": lambda images: np.rot90(images, 1, (1, 2)),
    "half turn, transposed": lambda images: np.rot90(images, 2, (1, 2)).swapaxes(1, 2),
    "quarter turn right": lambda images: np.rot90(images, -1, (1, 2)),
}


@pytest.mark.parametrize("tta", TTA)
def test_views_are_what_their_names_say_whatever_the_batch_size(model, patches, tta):
    views = [np.ascontiguousarray(NUMPY[name](patches.images[:])) for name in TTA[tta]]
    expected = np.stack([model.predict_on_batch(view).ravel() for view in views], axis=1)
    for batch_size in (8, 64):
        found = predict_views(model, patches, tta=tta, batch_size=batch_size, progress=False)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_d4_does_not_care_how_a_patch_lies(model, patches):
    turned = Patches(Rows(np.rot90(patches.images[:], axes=(1, 2)).copy()), patches.ids)
    as_is, after = (predict(model, p, tta="d4", progress=False) for p in (patches, turned))
    np.testing.assert_allclose(after, as_is, atol=1e-5)
    one_view, after = (predict(model, p, tta="none", progress=False) for p in (patches, turned))
    assert np.abs(after - one_view).max() > 1e-3  # the network itself does care


def test_d4_is_all_of_eight_different_views_and_flips_are_those_of_the_article():
    image = np.arange(9).reshape(1, 3, 3, 1)
    assert len({np.ascontiguousarray(NUMPY[name](image)).tobytes() for name in TTA["d4"]}) == 8
    article = [image, image[:, ::-1], image[:, ::-1, ::-1], image[:, :, ::-1]]
    assert [NUMPY[name](image).tolist() for name in TTA["flips"]] == [view.tolist() for view in article]


def test_means_by_hand():
    views = np.array([[0.1, 0.9], [0.0, 0.5]])
    np.testing.assert_allclose(average(views), [0.5, 0.25])
    np.testing.assert_allclose(average(views, "geometric"), [0.3, 0.0])


def test_the_wrapped_network_is_made_once_for_each_kind_of_tta(model):
    assert view_model(model, "flips") is view_model(model, "flips") is not view_model(model, "d4")


def test_a_network_is_freed_once_its_owner_drops_it(patches):
    network = build_model("SmallCNN", "none", say=lambda _: None)
    for tta in TTA:
        predict(network, patches, tta=tta, progress=False)
    alive = [weakref.ref(network), weakref.ref(network.get_layer("backbone"))]
    del network
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_what_is_saved_after_predicting_is_the_classifier_alone(model, patches, tmp_path):
    predict(model, patches, tta="flips", progress=False)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    np.testing.assert_array_equal(
        predict(again, patches, tta="none", progress=False), predict(model, patches, tta="none", progress=False)
    )


def test_unknown_names_are_refused(model, patches):
    with pytest.raises(InputError, match="'rotate' is no kind of TTA"):
        predict(model, patches, tta="rotate", progress=False)
    with pytest.raises(InputError, match="'median' is no mean"):
        predict(model, patches, mean="median", progress=False)


def test_submission_has_header_order_and_enough_digits(tmp_path):
    probabilities = np.random.default_rng(0).random(5)
    path = write_submission(tmp_path / "new" / "s.csv", list("edcba"), probabilities)
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["id", "label"] and [row[0] for row in rows[1:]] == list("edcba")
    np.testing.assert_allclose([float(row[1]) for row in rows[1:]], probabilities, rtol=1e-7)
