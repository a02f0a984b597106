"""Whatever is wrong, the command line says it in one sentence with exit code 2, and leaves nothing half-written."""

import errno
import gzip
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from helpers import STEM, write_csv
from PIL import Image

HTML = b"<!DOCTYPE html><html><body>Sign in to download</body></html>"
SMALL = ("--backbone", "SmallCNN", "--weights", "none", "--head", "average", "--epochs", "1")


@pytest.fixture
def refuses(pcam, tmp_path, cache):
    """Run the command line; check exit code, the one sentence at the end and that no file is new or changed."""

    def run(*arguments, says, code=2):
        before = files_below(tmp_path, cache)
        result = pcam(*arguments)
        if not isinstance(result.exception, SystemExit) and result.exception:
            raise result.exception
        assert (result.exit_code, is_one_sentence(last_line(result.stderr))) == (code, True), result.stderr
        assert re.search(says, result.stderr), result.stderr
        assert files_below(tmp_path, cache) == before

    return run


def last_line(text):
    return text.splitlines(keepends=True)[-1]


def is_one_sentence(text):
    return re.fullmatch(r"pcam: [^\n]+\.\n", text) is not None and re.search(r"\.\s\S", text) is None


def files_below(*folders):
    """Size and time of every file, hidden and temporary ones too."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def rewrite(path, key, values):
    with h5py.File(path, "w") as file:
        file[key] = values


# Official HDF5 -----------------------------------------------------------------------------------------------------


def truncate_images(folder):
    path = folder / f"{STEM}train_x.h5"
    path.write_bytes(path.read_bytes()[:100_000])


def truncate_labels(folder):
    path = folder / f"{STEM}train_y.h5"
    path.write_bytes(path.read_bytes()[:-1])


def web_page_for_images(folder):
    (folder / f"{STEM}train_x.h5").write_bytes(HTML)


def empty_file_for_labels(folder):
    (folder / f"{STEM}train_y.h5").write_bytes(b"")


def truncated_archive(folder):
    path = folder / f"{STEM}train_x.h5"
    path.with_suffix(".h5.gz").write_bytes(gzip.compress(path.read_bytes())[:-1000])
    path.unlink()


def web_page_for_archive(folder):
    path = folder / f"{STEM}train_x.h5"
    path.with_suffix(".h5.gz").write_bytes(HTML)
    path.unlink()


def damaged_chunk(folder):
    path = folder / f"{STEM}train_x.h5"
    with h5py.File(path, "w") as file:
        noise = np.random.default_rng(0).integers(0, 256, (12, 96, 96, 3), dtype=np.uint8)
        place = file.create_dataset("x", data=noise, chunks=(1, 96, 96, 3), compression="gzip").id.get_chunk_info(5)
    with open(path, "r+b") as file:
        file.seek(place.byte_offset)
        file.write(bytes(1000))


def other_dataset(folder):
    rewrite(folder / f"{STEM}train_x.h5", "images", np.zeros((12, 96, 96, 3), np.uint8))


def group_for_dataset(folder):
    with h5py.File(folder / f"{STEM}train_x.h5", "w") as file:
        file.create_group("x")


def other_size(folder):
    rewrite(folder / f"{STEM}train_x.h5", "x", np.zeros((12, 64, 64, 3), np.uint8))


def single_number(folder):
    rewrite(folder / f"{STEM}train_y.h5", "y", np.uint8(1))


def floats(folder):
    rewrite(folder / f"{STEM}train_x.h5", "x", np.zeros((12, 96, 96, 3), np.float32))


def fewer_labels(folder):
    rewrite(folder / f"{STEM}train_y.h5", "y", np.zeros((11, 1, 1, 1), np.uint8))


def fewer_slides(folder):
    write_csv(folder / f"{STEM}train_meta.csv", ("", "wsi"), [(0, "a")])


def meta_without_slides(folder):
    write_csv(folder / f"{STEM}train_meta.csv", ("", "slide"), [(0, "a")])


def no_rows(folder):
    rewrite(folder / f"{STEM}train_x.h5", "x", np.zeros((0, 96, 96, 3), np.uint8))
    rewrite(folder / f"{STEM}train_y.h5", "y", np.zeros((0, 1, 1, 1), np.uint8))
    (folder / f"{STEM}train_meta.csv").unlink()


def label_two(folder):
    rewrite(folder / f"{STEM}train_y.h5", "y", np.full((12, 1, 1, 1), 2, np.uint8))


@pytest.mark.parametrize(
    "breaks, says",
    [
        (truncate_images, r"train_x\.h5 is not a whole HDF5 file"),
        (truncate_labels, r"train_y\.h5 is not a whole HDF5 file"),
        (web_page_for_images, "a web page in its place"),
        (empty_file_for_labels, r"train_y\.h5 is not a whole HDF5 file"),
        (truncated_archive, r"train_x\.h5\.gz is damaged or not complete"),
        (web_page_for_archive, r"train_x\.h5\.gz is damaged or not complete"),
        (damaged_chunk, r"train_x\.h5 is damaged"),
        (other_dataset, "has no dataset 'x', only: images"),
        (group_for_dataset, r"\(N, 96, 96, 3\) is needed"),
        (other_size, r"has the shape \(12, 64, 64, 3\), but \(N, 96, 96, 3\) is needed"),
        (single_number, r"has the shape \(\), but \(N, 1, 1, 1\) is needed"),
        (floats, "holds float32, but uint8 is needed"),
        (fewer_labels, "has 12 images but 11 labels"),
        (fewer_slides, "has 12 images but 1 slides"),
        (meta_without_slides, "has no column 'wsi'"),
        (no_rows, "has no rows"),
        (label_two, "holds the label 2, but only 0 and 1 are labels"),
    ],
)
def test_broken_official_files(refuses, pcam_folder, breaks, says):
    folder = pcam_folder()
    breaks(folder)
    refuses("info", folder, says=says)


# Folders and tables ------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_or_empty_or_a_file(refuses, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    refuses("info", tmp_path / "nowhere", says="There is no folder .*nowhere; name an existing one")
    refuses("train", tmp_path / "nowhere", "--run", tmp_path / "run", says="There is no folder .*nowhere")
    refuses("info", tmp_path / "empty", says="holds no patches; expected")
    refuses("info", tmp_path / "file", says="is a file, but a folder is needed")


def ids_of(folder):
    return sorted(path.stem for path in (folder / "train").iterdir())


@pytest.mark.parametrize(
    "table, says",
    [
        (lambda ids: [("id", "class")] + [(i, 0) for i in ids], "has no column 'label'"),
        (lambda ids: [("id", "label")], "has no rows"),
        (lambda ids: [("id", "label"), (ids[0], 0)] + [(i, 0) for i in ids], "more than once; ids must be unique"),
        (
            lambda ids: [("id", "label")] + [(i, 0) for i in ids[1:]],
            "0 of 11 rows have no image, 1 of 12 images have no row .such as",
        ),
        (lambda ids: [("id", "label"), ("f" * 40, 1)] + [(i, 0) for i in ids], "1 of 13 rows have no image .such as f"),
        (
            lambda ids: [("id", "label"), (ids[0], 2)] + [(i, 0) for i in ids[1:]],
            "line 2: the label is '2', but 0 or 1",
        ),
        (
            lambda ids: [("id", "label"), (ids[0], "")] + [(i, 0) for i in ids[1:]],
            "line 2: the label is '', but 0 or 1",
        ),
        (lambda ids: [("id", "label"), (ids[0], 0), (ids[1],)] + [(i, 0) for i in ids[2:]], "line 3 is too short"),
    ],
    ids=["no column", "no rows", "repeated id", "image without label", "label without image", "two", "blank", "short"],
)
def test_broken_tables(refuses, kaggle_folder, table, says):
    folder = kaggle_folder()
    header, *rows = table(ids_of(folder))
    write_csv(folder / "train_labels.csv", header, rows)
    refuses("info", folder, says=says)


@pytest.mark.parametrize(
    "content, says",
    [
        (HTML, "has no column 'id'"),
        (b"", "has no column 'id'"),
        ("id,label\nü,1\n".encode("utf-16"), "is not a readable CSV table"),
        (b"id,label\n\xff\xfe,1\n", "is not a readable CSV table"),
        (None, r"cannot be read \("),
    ],
    ids=["web page", "empty", "UTF-16", "no text", "folder"],
)
def test_files_that_are_no_tables(refuses, kaggle_folder, content, says):
    path = kaggle_folder() / "train_labels.csv"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    refuses("info", path.parent, says=says)


# Images ------------------------------------------------------------------------------------------------------------


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def saved(pixels, mode=None):
    image = Image.fromarray(pixels)
    return lambda path: (image.convert(mode) if mode else image).save(path)


@pytest.mark.parametrize(
    "name, write, says",
    [
        ("a.tif", lambda path: path.write_bytes(HTML), "is not a readable image"),
        ("a.png", lambda path: path.write_bytes(b""), "is not a readable image"),
        ("a.png", saved(noise(96, 96).astype(np.uint16) * 257), "is stored as 16-bit"),
        ("a.tif", saved(noise(96, 96).astype(np.uint16) * 257), "is stored as 16-bit"),
        ("a.png", saved(noise(96, 96)), "is stored as L"),
        ("a.png", saved(noise(96, 96, 4)), "is stored as RGBA"),
        ("a.png", saved(noise(96, 96, 3), "P"), "is stored as P"),
        ("a.jpg", saved(noise(96, 96, 3), "CMYK"), "is stored as CMYK"),
        ("a.png", saved(noise(97, 96, 3)), "has 96×97 pixels, but 96×96 are needed"),
    ],
    ids=[
        "web page",
        "empty",
        "16-bit grey PNG",
        "16-bit grey TIFF",
        "grey",
        "RGBA",
        "palette",
        "CMYK",
        "wrong size",
    ],
)
def test_images_that_cannot_be_used(refuses, tmp_path, name, write, says):
    folder = tmp_path / "images"
    folder.mkdir()
    saved(noise(96, 96, 3))(folder / "0.png")
    write(folder / name)
    refuses("info", folder, says=rf"{name} {says}|{name} is {says}|{name} is stored {says}")


def test_an_image_too_small_to_crop(refuses, tmp_path):
    (tmp_path / "images").mkdir()
    saved(noise(50, 200, 3))(tmp_path / "images" / "a.png")
    refuses("info", tmp_path / "images", "--fit", "crop", says="too few to crop")


def test_an_image_that_is_not_what_its_name_promises(refuses, kaggle_folder):
    folder = kaggle_folder()
    path = folder / "train" / f"{ids_of(folder)[3]}.tif"
    saved(noise(96, 96, 3)[:, ::-1])(path)
    refuses("info", folder, says=f"{path.name} is not the image that its name promises")


def test_a_truncated_image_in_a_process_of_its_own(tmp_path):
    """Here also what Pillow writes past Python would show."""
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a.tif"
    saved(noise(96, 96, 3))(path)
    path.write_bytes(path.read_bytes()[:60])
    done = subprocess.run([sys.executable, "-m", "pcam_utils", "info", path.parent], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_sentence(done.stderr), done.stderr
    assert "a.tif is not a readable image" in done.stderr
    assert not os.path.exists(os.environ["PCAM_CACHE"]) or not os.listdir(os.environ["PCAM_CACHE"])


# Training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option, value, says",
    [
        ("--recipe", "best", "'best' is not one of 'article', 'course'"),
        ("--backbone", "VGG", "'VGG' is not one of 'NASNetMobile'"),
        ("--head", "max", "'max' is not one of 'article', 'average'"),
        ("--precision", "int8", "'int8' is not one of 'float32'"),
        ("--epochs", "0", "0 epochs cannot be trained"),
        ("--weights", "nowhere.weights.h5", "There is no file of weights nowhere"),
        ("--weights", "imagenet", "SmallCNN has no ImageNet weights"),
    ],
)
def test_settings_that_do_not_exist(refuses, pcam_folder, tmp_path, option, value, says):
    refuses("train", pcam_folder(), "--run", tmp_path / "run", *SMALL, option, value, says=says)


@pytest.mark.parametrize("fraction", ["0", "-0.2", "0.9", "nan"])
def test_a_share_that_makes_no_sense(refuses, kaggle_folder, tmp_path, fraction):
    says = "The share to choose by is .* but it must lie above 0"
    folder = kaggle_folder()
    refuses_after_packing(refuses, folder, tmp_path, "--valid-fraction", fraction, says=says)


def refuses_after_packing(refuses, folder, tmp_path, *options, says):
    """Packed images are whole and stay; nothing else may."""
    from pcam_utils.data.sources import open_data

    open_data(folder)
    refuses("train", folder, "--run", tmp_path / "run", *SMALL, *options, says=says)


@pytest.mark.parametrize("split, label", [("train", 0), ("valid", 1)])
def test_one_class_in_a_split(refuses, pcam_folder, tmp_path, split, label):
    folder = pcam_folder(labels={split: np.full(12, label)})
    refuses("train", folder, "--run", tmp_path / "run", *SMALL, says=f"The {split} split holds only label {label}")


def test_one_class_in_all_of_the_images(refuses, kaggle_folder, tmp_path):
    folder = kaggle_folder()
    write_csv(folder / "train_labels.csv", ("id", "label"), [(i, 1) for i in ids_of(folder)])
    refuses_after_packing(refuses, folder, tmp_path, says="The train split holds only label 1")


def test_training_without_labels_or_without_a_training_split(refuses, pcam_folder, tmp_path):
    folder = pcam_folder()
    (folder / f"{STEM}train_y.h5").unlink()
    refuses("train", folder, "--run", tmp_path / "run", *SMALL, says="The train split has no labels")
    folder = pcam_folder("test_only", splits=("test",))
    refuses("train", folder, "--run", tmp_path / "run", *SMALL, says="has no split 'train' here")


def test_a_run_that_exists_in_a_process_of_its_own(pcam_folder, tmp_path):
    """Here also what the backend writes past Python would show."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    command = [sys.executable, "-m", "pcam_utils", "train", pcam_folder(), "--run", tmp_path / "run", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_sentence(done.stderr), done.stderr
    assert os.listdir(tmp_path / "run") == ["run.json"]


@pytest.mark.parametrize("resume", [(), ("--resume",)], ids=["new", "resumed"])
def test_a_run_folder_that_is_taken(refuses, pcam_folder, tmp_path, resume):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ("notes.txt" if resume else "run.json")).write_text("{}")
    refuses("train", pcam_folder(), "--run", tmp_path / "run", *SMALL, *resume, says="exists already; resume it with")
    (tmp_path / "file").write_text("")
    refuses("train", pcam_folder("b"), "--run", tmp_path / "file", *SMALL, *resume, says="file could not be written")


@pytest.mark.parametrize("record", ['{"settings": ', "[1]", '{"a": 1}', '{"settings": {"colour": "red"}}'])
def test_resuming_a_run_whose_record_is_broken(refuses, pcam_folder, tmp_path, record):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(record)
    refuses("train", pcam_folder(), "--run", tmp_path / "run", "--resume", says="is not a training run")


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_that_are_corrupt_or_of_another_network(refuses, pcam_folder, tmp_path):
    import keras

    keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save_weights(tmp_path / "other.weights.h5")
    (tmp_path / "corrupt.weights.h5").write_bytes((tmp_path / "other.weights.h5").read_bytes()[:1000])
    (tmp_path / "page.weights.h5").write_bytes(HTML)
    (tmp_path / "weights.txt").write_bytes(HTML)
    folder = pcam_folder()
    for name in ("other.weights.h5", "corrupt.weights.h5", "page.weights.h5", "weights.txt"):
        options = ("--run", tmp_path / "run", *SMALL, "--weights", tmp_path / name)
        refuses("train", folder, *options, says=f"{name} does not hold weights of SmallCNN")


# Scoring -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network of the right shape."""
    from pcam_utils.models.networks import build_model

    path = tmp_path_factory.mktemp("model") / "small.keras"
    build_model("SmallCNN", "none", "average", say=lambda _: None).save(path)
    return path


def test_models_that_cannot_be_used(refuses, pcam_folder, tmp_path, model):
    import keras

    whole = model.read_bytes()
    (tmp_path / "corrupt.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "page.keras").write_bytes(HTML)
    (tmp_path / "model.txt").write_bytes(HTML)
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save(tmp_path / "other.keras")
    pool = keras.layers.GlobalAveragePooling2D()
    unscaled = tmp_path / "unscaled.keras"
    keras.Sequential([keras.Input((96, 96, 3)), pool, keras.layers.Dense(1, activation="sigmoid")]).save(unscaled)
    folder = pcam_folder()
    for command in ("evaluate", "predict"):
        out = ("--out", tmp_path / "out")
        for name in ("corrupt.keras", "page.keras", "model.txt"):
            refuses(command, folder, "--model", tmp_path / name, *out, says=f"{name} is not a whole model file")
        refuses(command, folder, "--model", tmp_path / "other.keras", *out, says=r"other.keras maps \(None, 5\) to")
        refuses(command, folder, "--model", unscaled, *out, says="takes float32 and scales nothing itself")
        refuses(command, folder, "--model", tmp_path / "none.keras", *out, says="There is no model file")
        refuses(command, folder, "--run", tmp_path / "none", *out, says="none is not a training run")
        refuses(command, folder, "--model", model, "--run", tmp_path, *out, says="Name one model: either")


def test_a_run_without_a_model_yet(refuses, pcam_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"settings": {}}')
    refuses("evaluate", pcam_folder(), "--run", tmp_path / "run", says="run has no best.keras yet")


def test_splits_that_cannot_be_scored(refuses, pcam_folder, tmp_path, model):
    folder = pcam_folder(splits=("train", "test"), labels={"test": np.zeros(12)})
    common = (folder, "--model", model, "--out", tmp_path / "out")
    for command in ("evaluate", "predict"):
        refuses(command, *common, "--split", "tset", says="'tset' is not one of 'train', 'valid', 'test'")
        refuses(command, *common, "--split", "valid", says="has no split 'valid' here")
    refuses("evaluate", *common, says="The test split holds only label 0")
    (folder / f"{STEM}test_y.h5").unlink()
    refuses("evaluate", *common, "--split", "test", says="The test split has no labels")


@pytest.mark.parametrize(
    "rows, says",
    [
        (
            lambda ids: [(i, 1) for i in ids[1:]],
            "labels 3 of the 4 patches of images .not 0., .* or use what both have with --overlap",
        ),
        (lambda ids: [(i, "yes") for i in ids], "line 2: the label is 'yes', but 0 or 1 is needed"),
        (lambda ids: [(i, 0.5) for i in ids], "line 2: the label is '0.5', but 0 or 1 is needed"),
        (lambda ids: [(ids[0], 1), *((i, 1) for i in ids)], "more than once"),
        (lambda ids: [(i, 1) for i in ids], "holds only label 1"),
    ],
    ids=["missing id", "words", "probabilities", "repeated id", "one class"],
)
def test_labels_that_do_not_fit(refuses, tmp_path, model, rows, says):
    (tmp_path / "images").mkdir()
    for row in range(4):
        saved(noise(4, 96, 96, 3)[row])(tmp_path / "images" / f"{row}.png")
    write_csv(tmp_path / "labels.csv", ("id", "label"), rows([str(row) for row in range(4)]))
    options = ("--model", model, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "out")
    from pcam_utils.data.sources import open_data

    open_data(tmp_path / "images")  # packed images are whole and stay
    refuses("evaluate", tmp_path / "images", *options, says=says)


def test_labels_that_are_not_there_or_a_folder(refuses, pcam_folder, tmp_path, model):
    folder = pcam_folder()
    for path, says in ((tmp_path / "nowhere.csv", "There is no file .*nowhere.csv"), (folder, r"cannot be read \(")):
        refuses("evaluate", folder, "--model", model, "--labels", path, says=says)


def test_a_run_of_other_data(refuses, pcam_folder, tmp_path, model):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(model, run / "best.keras")
    (run / "run.json").write_text('{"settings": {}}')
    (run / "valid_ids.txt").write_text("elsewhere_0\nelsewhere_1\n")
    refuses(
        "evaluate",
        pcam_folder(),
        "--run",
        run,
        "--split",
        "valid",
        says="other patches than the run learned from: of the 2 .* 0 are there by name",
    )


def test_a_colour_baseline_without_training_patches(refuses, pcam_folder, tmp_path, model):
    folder = pcam_folder(splits=("test",))
    options = ("--model", model, "--tta", "none", "--baseline", "--out", tmp_path / "out")
    refuses("evaluate", folder, *options, says="has no split 'train' here")
    refuses("evaluate", folder, "--baseline", "--model", "nowhere.keras", says="has no split 'train' here")
    refuses("evaluate", pcam_folder("few"), *options, says="Colour cannot be learned from 12 training patches")


def test_numbers_that_are_no_probabilities(refuses, pcam_folder, tmp_path):
    """With layers that nobody can look into, only what a model gives tells."""
    import keras

    entry = keras.Input((96, 96, 3), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(entry))
    keras.Model(entry, keras.ops.sum(mean, axis=1, keepdims=True)).save(tmp_path / "sum.keras")
    keras.Model(entry, keras.ops.log(-keras.ops.sum(mean, axis=1, keepdims=True))).save(tmp_path / "log.keras")
    folder = pcam_folder(n=6)
    for command in ("evaluate", "predict"):
        out = ("--tta", "none", "--out", tmp_path / "out")
        says = r"gives numbers from 1\.\d+ to 1\.\d+, which are no probabilities; end it in a sigmoid"
        refuses(command, folder, "--model", tmp_path / "sum.keras", *out, says=says)
        refuses(command, folder, "--model", tmp_path / "log.keras", *out, says="gives nan, which is no number")


# Disk and permissions ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk():
    """Let no file grow beyond 100 kB: to whoever writes, the disk is full."""
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_while_images_are_packed(kaggle_folder, refuses, request):
    folder = kaggle_folder()
    request.getfixturevalue("small_disk")
    refuses(
        "info", folder, says=r"packed_.* could not be written .*; free some space or name another folder in PCAM_CACHE"
    )


def test_a_disk_that_fills_while_an_archive_is_unpacked(pcam_folder, refuses, request):
    folder = pcam_folder(packed=True, images={"train": np.zeros((12, 96, 96, 3), np.uint8)})
    request.getfixturevalue("small_disk")
    refuses("info", folder, says="train_x.h5")


def test_a_disk_that_fills_while_the_sample_is_written(tmp_path, refuses, monkeypatch):
    save = Image.Image.save

    def fill_up(image, path, **options):
        if len(list(path.parent.iterdir())) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", fill_up)
    sizes = ("--train", 12, "--valid", 2, "--test", 2)
    refuses("sample", tmp_path / "sample", "--layout", "kaggle", *sizes, says="No space left on device", code=1)
    assert os.listdir(tmp_path) == []


def refuse_renames(monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES], ids=["full disk", "no permission"])
def test_results_that_cannot_be_written(refuses, pcam_folder, tmp_path, model, monkeypatch, number):
    folder = pcam_folder(n=6)
    refuse_renames(monkeypatch, number)
    says = rf"could not be written \({os.strerror(number)}\); free some space or choose another place"
    code = 1 if number == errno.ENOSPC else 2
    common = (folder, "--model", model, "--tta", "none")
    refuses("predict", *common, "--out", tmp_path / "out.csv", says=says, code=code)
    refuses("evaluate", *common, "--out", tmp_path / "out", says=says, code=code)
    refuses("train", folder, "--run", tmp_path / "run", *SMALL, says=says, code=code)


def test_results_in_a_place_that_is_taken(refuses, pcam_folder, tmp_path, model):
    folder = pcam_folder(n=6)
    (tmp_path / "file").write_text("")
    common = (folder, "--model", model, "--tta", "none")
    refuses("predict", *common, "--out", folder, says=r"pcam could not be written \(Is a directory\)")
    refuses("predict", *common, "--out", tmp_path / "file" / "p.csv", says=r"p.csv could not be written \(Not a")
    refuses("evaluate", *common, "--out", tmp_path / "file", says=r"file could not be written \(Not a directory\)")
    refuses("train", folder, "--run", tmp_path / "file" / "run", *SMALL, says="run could not be written")
    refuses("info", folder, "--figure", tmp_path / "file" / "f.png", says="f.png could not be written")
    refuses("sample", tmp_path / "file", says="file could not be written")
    refuses("course", "--out", tmp_path / "file", says="file could not be written")


def test_where_results_go_is_looked_at_before_anything_else(refuses, tmp_path, monkeypatch):
    from pcam_utils.data import sources
    from pcam_utils.models import networks

    for module, name in ((sources, "open_data"), (networks, "load_model")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("the work has begun"))
    (tmp_path / "file").touch()
    for command in (("predict",), ("evaluate",), ("train",)):
        option = "--run" if command == ("train",) else "--out"
        refuses(*command, tmp_path, option, tmp_path / "file" / "x", says="could not be written")


@pytest.mark.parametrize("name", ["figure", "figure.xyz", "figure.png.bak"])
def test_a_figure_needs_a_name_that_says_how_to_draw_it(refuses, pcam_folder, tmp_path, name):
    refuses("info", pcam_folder(), "--figure", tmp_path / name, says="choose one that ends in .png or .jpg")


@pytest.mark.parametrize("seed", ["99999999999", "-1", "0.5"])
def test_seeds_that_numpy_does_not_take(refuses, pcam_folder, tmp_path, seed):
    for command in (("train", pcam_folder(f"d{seed}"), "--run"), ("sample",)):
        refuses(*command, tmp_path / "new", "--seed", seed, says="Invalid value for '--seed'")


@pytest.mark.parametrize("what", ["images", "labels", "folder"])
def test_data_that_may_not_be_read(refuses, pcam_folder, kaggle_folder, monkeypatch, what):
    """Injected, since whoever runs the tests may be allowed to read everything."""

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    if what == "images":
        folder = pcam_folder()
        monkeypatch.setattr(h5py, "File", refuse)
    else:
        folder = kaggle_folder()
        owner = "builtins.open" if what == "labels" else "os.scandir"
        monkeypatch.setattr(owner, refuse)
    says = {
        "images": "train_x.h5 may not be read",
        "labels": r"train_labels.csv cannot be read \(Permission denied\)",
        "folder": "kaggle may not be read; change its permissions",
    }[what]
    refuses("info", folder, says=says)


def test_what_the_system_refuses_anywhere_else_is_one_sentence_too(refuses, monkeypatch):
    from pcam_utils.data import sources

    def refuse(*_, **__):
        raise OSError(errno.EIO, "several\nlines", "a/file")

    monkeypatch.setattr(sources, "find_data", refuse)
    refuses("info", says=rf"a/file cannot be read or written \({os.strerror(errno.EIO)}\)", code=1)
