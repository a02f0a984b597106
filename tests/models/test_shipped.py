import io
import json

import numpy as np
import pytest
from PIL import Image

from pcam_utils.data.patches import Patches, Rows
from pcam_utils.errors import InputError
from pcam_utils.models import shipped
from pcam_utils.models.networks import build_model, load_model
from pcam_utils.simulated.tissue import render_slide
from tools.weights.ship import write


@pytest.fixture
def folder(tmp_path, random_patches):
    """A classifier of two arrays, that has seen ten patches."""
    arrays = [np.array([[0.1, -2.0]]), np.array([3.0])]
    write(tmp_path, arrays, {"name": "pcam"}, {"looks": shipped.look(random_patches(10))})
    return tmp_path


def slide_cut_up():
    slide = render_slide(2, size=480).image  # little glass: JPEG darkens what is white to the limit
    return slide.reshape(5, 96, 5, 96, 3).swapaxes(1, 2).reshape(25, 96, 96, 3)[:20]


def table(images):
    return Patches(Rows(images), np.arange(len(images)).astype(str))


def test_what_is_written_is_read_with_the_precision_of_float16(folder):
    first, second = shipped.read_weights(folder)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, [[0.1, -2.0]], rtol=1e-3)
    assert second.tolist() == [3.0]
    assert shipped.read_record(folder)["name"] == "pcam"


def test_weights_too_large_for_float16_are_refused(tmp_path):
    with pytest.raises(ValueError, match="too large for float16"):
        write(tmp_path, [np.array([1e5])], {}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 60, -1])
def test_a_flipped_byte_is_refused(folder, place):
    path = folder / shipped.WEIGHTS
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its SHA-256"):
        shipped.read_weights(folder)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="nasnetmobile_pcam.json cannot be read"):
        shipped.read_record(tmp_path)
    (tmp_path / shipped.RECORD).write_text(json.dumps({"sha256": {}}))
    with pytest.raises(InputError, match="nasnetmobile_pcam.npz cannot be read"):
        shipped.read_weights(tmp_path)


def test_patches_seen_in_training_are_recognised_also_as_jpeg(tmp_path):
    images = slide_cut_up()
    write(tmp_path, [], {}, {"looks": shipped.look(images[:10])})
    assert shipped.seen_in_training(table(images), tmp_path).tolist() == [True] * 10 + [False] * 10
    compressed = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=75)
        compressed.append(np.asarray(Image.open(file)))
    found = shipped.seen_in_training(table(np.stack(compressed)), tmp_path)
    assert found[:10].mean() >= 0.7 and not found[10:].any()


def test_blank_patches_are_never_taken_for_seen_ones(tmp_path):
    white = np.full((3, 96, 96, 3), 255, np.uint8)
    write(tmp_path, [], {}, {"looks": shipped.look(white)})
    assert not shipped.seen_in_training(table(white), tmp_path).any()


def test_patches_are_drawn_at_random_and_those_seen_in_training_last(tmp_path):
    patches = table(slide_cut_up())
    write(tmp_path, [], {}, {"looks": shipped.look(patches.images[:10])})
    all_of_them, some, others = (
        shipped.unseen_first(patches, *how, tmp_path).ids.astype(int).tolist() for how in ((20, 0), (10, 0), (20, 1))
    )
    assert some == all_of_them[:10] and set(some) == set(range(10, 20))
    assert set(all_of_them) == set(range(20)) and all_of_them != others


def test_the_packages_files_are_small_and_tell_their_story():
    sizes = {path.name: path.stat().st_size for path in shipped.FOLDER.iterdir()}
    assert set(sizes) == {shipped.RECORD, shipped.WEIGHTS, shipped.SEEN}
    assert sizes[shipped.WEIGHTS] <= 10e6 and sum(sizes.values()) <= 11e6
    record = shipped.read_record()
    assert 0.05 < record["temperature"] < 20
    assert 0.5 < record["operating_point"]["sensitivity"] < 1
    before, after = (record["calibration"][when]["log_loss"] for when in ("before", "after"))
    assert after <= before
    assert record["run"]["start"] and record["run"]["keras"] and len(record["history"]) == record["run"]["epochs"]


def test_the_classifier_is_the_backbone_of_weights_pcam_with_its_head(random_patches):
    images = random_patches(2)
    classifier, start = load_model("pcam"), build_model(weights="pcam", head="average", say=lambda _: None)
    kernel, bias = classifier.get_layer("tumour").get_weights()
    start.get_layer("tumour").set_weights([kernel, bias])
    np.testing.assert_array_equal(classifier.predict_on_batch(images), start.predict_on_batch(images))
