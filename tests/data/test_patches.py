import hashlib
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcam_utils.data.patches import (
    CENTRE,
    SIZE,
    FileRows,
    Patches,
    Rows,
    content_hashes,
    fingerprint,
    has_fingerprint,
    is_blank,
)
from pcam_utils.errors import InputError

N = 20
KEYS = {
    "int": 7,
    "last": -1,
    "slice": slice(3, 9),
    "stepped slice": slice(None, None, -3),
    "everything": slice(None),
    "nothing": slice(0, 0),
    "empty list": [],
    "list": [2, 5, 11],
    "unsorted": [11, 2, 19, 0],
    "repeated": [4, 4, 1, 4],
    "neighbours": np.array([6, 7, 8]),
    "mask": np.arange(N) % 3 == 1,
}


@pytest.fixture(
    params=["array", "memory map", "one piece of a file", "contiguous HDF5", "chunked HDF5", "compressed HDF5"]
)
def stored(request, tmp_path, random_patches):
    """The same patches, stored in each way that a source may hand them over."""
    images = random_patches(N)
    if request.param == "array":
        return images
    if request.param == "one piece of a file":
        (tmp_path / "x.bin").write_bytes(b"header" + images.tobytes())
        return FileRows(tmp_path / "x.bin", 6, images.shape)
    if request.param == "memory map":
        np.save(tmp_path / "x.npy", images)
        return np.load(tmp_path / "x.npy", mmap_mode="r")
    storage = {"chunked HDF5": {"chunks": (4, 96, 96, 3)}, "compressed HDF5": {"compression": "gzip"}}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=images, **storage.get(request.param, {}))
    return h5py.File(tmp_path / "x.h5", "r")["x"]


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_rows_are_read_as_numpy_would_however_they_are_stored(stored, key, random_patches):
    read = Rows(stored)[key]
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, random_patches(N)[key])


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_rows_of_a_shuffled_view_are_read_in_the_order_of_the_view(stored, key, random_patches):
    order = np.random.default_rng(1).permutation(N)
    view = Rows(stored).take(order)
    assert view.shape == (N, 96, 96, 3)
    np.testing.assert_array_equal(view[key], random_patches(N)[order][key])


SMALL = np.arange(N * 12, dtype=np.uint8).reshape(N, 2, 2, 3)  # rows that differ; `Rows` does not mind their size


@pytest.fixture(scope="module", params=["array", "one piece of a file", "chunked HDF5"])
def small(request, tmp_path_factory):
    """The small rows, stored in each way that is read differently."""
    folder = tmp_path_factory.mktemp("small")
    if request.param == "array":
        yield SMALL
    elif request.param == "one piece of a file":
        (folder / "x.bin").write_bytes(b"header" + SMALL.tobytes())
        yield FileRows(folder / "x.bin", 6, SMALL.shape)
    else:
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset("x", data=SMALL, chunks=(3, 2, 2, 3))
        with h5py.File(folder / "x.h5", "r") as file:
            yield file["x"]


def keys(n, *, one=True):
    """Whatever NumPy takes as an index of `n` rows and `Rows` promises to take."""
    row = st.integers(-n, n - 1) if n else st.nothing()
    chosen = st.lists(row).map(lambda rows: np.array(rows, int))
    mask = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda rows: np.array(rows, bool))
    return st.one_of(st.slices(n), chosen, mask, *[row] * one)


@settings(max_examples=100, deadline=None, database=None)
@given(data=st.data())
def test_any_chain_of_views_reads_what_numpy_would(small, data):
    rows, twin = Rows(small), SMALL
    for _ in range(data.draw(st.integers(0, 3), label="views")):
        key = data.draw(keys(len(twin), one=False), label="view")
        rows, twin = rows.take(key), twin[key]
        assert rows.shape == twin.shape and len(rows) == len(twin)
    key = data.draw(keys(len(twin)), label="read")
    np.testing.assert_array_equal(rows[key], twin[key])


class Unreadable:
    """Stands for an array on disk, and fails the test that reads it."""

    shape = (N, 96, 96, 3)

    def __len__(self):
        return N

    def __getitem__(self, key):
        raise AssertionError("read from disk")


def test_taking_rows_reads_nothing():
    table = Patches(Rows(Unreadable()), np.arange(N).astype(str), np.arange(N) % 2, np.repeat(["a", "b"], N // 2))
    part = table.take(np.arange(N) % 2 == 1).take(slice(2, 5)).take([2, 0])
    assert part.ids.tolist() == ["9", "5"]
    assert part.labels.tolist() == [1, 1]
    assert part.slides.tolist() == ["a", "a"]
    assert part.images.shape == (2, 96, 96, 3)
    with pytest.raises(AssertionError, match="read from disk"):
        part.images[0]


def test_a_damaged_chunk_is_one_sentence(tmp_path, random_patches):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", data=random_patches(4), chunks=(1, 96, 96, 3), compression="gzip")
        place = dataset.id.get_chunk_info(2)
    with open(path, "r+b") as file:
        file.seek(place.byte_offset)
        file.write(bytes(1000))
    rows = Rows(h5py.File(path, "r")["x"])
    assert rows[1].any()
    for key in (2, slice(0, 3), [3, 2]):
        with pytest.raises(InputError, match=r"x\.h5 is damaged .*; get it again\.$"):
            rows[key]


@pytest.mark.parametrize("key", [N - 1, slice(None), [3, N - 1]])
def test_a_file_cut_short_is_one_sentence(key, tmp_path, random_patches):
    (tmp_path / "x.bin").write_bytes(random_patches(N).tobytes()[:-1])
    rows = Rows(FileRows(tmp_path / "x.bin", 0, (N, 96, 96, 3)))
    with pytest.raises(InputError, match="x.bin is shorter than it says; get it again"):
        rows[key]


@pytest.mark.parametrize("key", [3, slice(None), [3, 1]])
def test_a_file_that_vanished_is_one_sentence_with_its_name(key, tmp_path, random_patches):
    (tmp_path / "x.bin").write_bytes(random_patches(4).tobytes())
    rows = Rows(FileRows(tmp_path / "x.bin", 0, (4, 96, 96, 3)))
    rows[key]
    (tmp_path / "x.bin").unlink()
    with pytest.raises(InputError) as raised:
        rows[key]
    said = "cannot be read any more (No such file or directory); connect its disk again, or open the data anew."
    assert str(raised.value) == f"{tmp_path / 'x.bin'} {said}"


@pytest.mark.skipif(os.name == "nt", reason="HDF5 gives no file descriptor on Windows")
@pytest.mark.parametrize("key", [3, slice(None), [3, 1]])
def test_an_hdf5_file_that_can_no_longer_be_read_is_one_sentence_with_its_name(key, tmp_path, random_patches):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=random_patches(4), chunks=(1, 96, 96, 3))
    with h5py.File(path, "r") as file:
        rows = Rows(file["x"])
        handle, writing = file.id.get_vfd_handle(), os.open(path, os.O_WRONLY)
        os.dup2(writing, handle)  # from now on reading fails, as from a disk that was unplugged
        os.close(writing)
        with pytest.raises(
            InputError, match=r"x\.h5 cannot be read any more \(Bad file descriptor\); connect its disk"
        ):
            rows[key]


@pytest.mark.parametrize("column", ["ids", "labels", "slides"])
def test_columns_of_another_length_than_the_images_are_refused(column, random_patches):
    columns = {"ids": np.array(["a", "b", "c"]), column: np.array(["0", "1"])}
    with pytest.raises(InputError, match=f"valid split has 3 images but 2 {column}"):
        Patches(Rows(random_patches(3)), name="valid", **columns)


def test_batches_hold_every_patch_once_and_in_order(random_patches):
    images = random_patches(10)
    batches = list(Patches(Rows(images), np.arange(10).astype(str)).batches(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(batches), images)


def test_labels_of_both_classes_are_taken_and_a_table_is_of_real_patches_unless_it_is_said(random_patches):
    table = Patches(Rows(random_patches(3)), np.arange(3).astype(str), np.array([0, 1, 1], np.uint8))
    assert table.require_both_classes() is table and not table.simulated


@pytest.mark.parametrize(
    "labels, says",
    [(None, "has no labels"), ([1, 1], "only label 1"), ([0, 0], "only label 0"), ([], "holds no patches")],
)
def test_both_classes_are_required_in_one_sentence(labels, says, random_patches):
    n = 2 if labels is None else len(labels)
    labels = None if labels is None else np.array(labels, np.uint8)
    table = Patches(Rows(random_patches(2)[:n]), np.arange(n).astype(str), labels)
    with pytest.raises(InputError, match=says):
        table.require_both_classes()


def test_content_hashes_are_the_sha1_of_the_rgb_bytes(random_patches):
    images = random_patches(300)
    images[299] = images[0]
    hashes = content_hashes(Patches(Rows(images), np.arange(300).astype(str)))
    assert hashes[7] == hashlib.sha1(images[7].tobytes()).hexdigest()
    assert hashes[299] == hashes[0]
    assert len(set(hashes)) == 299


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_counts_the_patches_looked_at_where_it_is_wanted(random_patches, bars_at_once, capsys, progress):
    table = Patches(Rows(random_patches(257)), np.arange(257).astype(str))
    assert len(content_hashes(table, progress=progress)) == 257
    out, err = capsys.readouterr()
    assert out == "" and ("Looking for repeats: 100%" in err and "257/257" in err) == progress == bool(err)


def test_content_ids_are_taken_at_their_word_and_nothing_is_read():
    table = Patches(Rows(Unreadable()), np.arange(N).astype(str), content_ids=True)
    assert content_hashes(table) is table.ids


def test_fingerprint_changes_with_pixels_labels_count_and_order_alone(random_patches):
    images, labels, ids = random_patches(8), np.arange(8) % 2, np.arange(8).astype(str)
    table = Patches(Rows(images), ids, labels)
    same = Patches(Rows(images.copy()), np.char.add("renamed_", ids), labels.astype(np.int64), name="valid")
    assert fingerprint(same) == fingerprint(table)
    assert len(fingerprint(table)) == 24
    pixel = images.copy()
    pixel[3, 50, 50, 1] ^= 1
    others = [
        Patches(Rows(pixel), ids, labels),
        Patches(Rows(images), ids, 1 - labels),
        Patches(Rows(images), ids),
        table.take(slice(7)),
        table.take([2, 1, 0, 3, 4, 5, 6, 7]),
    ]
    assert len({fingerprint(other) for other in (table, *others)}) == 6


def test_a_fingerprint_of_an_earlier_version_is_that_of_64_patches_from_first_to_last(random_patches):
    images, labels, ids = random_patches(130), np.arange(130, dtype=np.uint8) % 2, np.arange(130).astype(str)
    digest = hashlib.sha256(b"130" + labels.tobytes())
    for row in sorted({int(row) for row in np.linspace(0, 129, 64)}):
        digest.update(images[row].tobytes())
    known = digest.hexdigest()[:16]
    table = Patches(Rows(images), ids, labels)
    assert has_fingerprint(table, known) and has_fingerprint(table, fingerprint(table))
    assert not has_fingerprint(table, known[::-1]) and not has_fingerprint(table, known[:8])


def test_blank_patches_are_those_without_structure(random_patches):
    images = np.full((4, 96, 96, 3), 255, np.uint8)
    images[1] = 0
    images[2] = random_patches(1)[0] % 4 + 240
    images[3, :48] = (150, 80, 160)
    assert is_blank(images).tolist() == [True, True, True, False]


@pytest.mark.parametrize("storage", ["contiguous", "chunked"])
def test_a_file_of_the_real_size_stays_on_disk(tmp_path, storage):
    """262,144 patches are 7 GB; the file here has holes in place of them."""
    pytest.importorskip("resource")  # not on Windows
    with h5py.File(tmp_path / "camelyonpatch_level_2_split_train_x.h5", "w") as file:
        kind, shape = h5py.h5p.create(h5py.h5p.DATASET_CREATE), (262_144, 96, 96, 3)
        if storage == "contiguous":
            kind.set_layout(h5py.h5d.CONTIGUOUS)
            kind.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            kind.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        else:
            kind.set_chunk((16, 96, 96, 3))
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U8LE, space, kind)
    unit = 1 if sys.platform == "darwin" else 1024
    script = (
        "import resource, sys, numpy as np\n"
        "from pcam_utils.data.sources import open_data\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "images = open_data(sys.argv[1]).split('train').images\n"
        "rows = np.random.default_rng(0).integers(0, len(images), 1000)\n"
        "assert images[rows].shape == (1000, 96, 96, 3)\n"
        f"grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * {unit} / 1e6\n"
        "print(len(images), grown)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    rows, grown = map(float, done.stdout.split())
    assert rows == 262_144
    assert grown < 500  # MB, of 7,247


def test_the_centre_that_decides_is_a_third_of_the_patch_with_as_much_on_both_sides():
    assert np.arange(SIZE)[CENTRE].tolist() == list(range(SIZE // 3, SIZE - SIZE // 3))
