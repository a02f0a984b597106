import sys

import keras
import pytest

from pcam_utils.errors import InputError
from pcam_utils.runtime import places
from pcam_utils.runtime.backend import load_keras, prepare
from pcam_utils.runtime.devices import gpu_hint, has_gpu
from pcam_utils.runtime.places import results_folder, version_line, versions, where


def test_versions_tell_what_decides_a_result():
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["keras"] == keras.__version__ and "cores" in found["machine"]


def test_versions_fit_on_one_line():
    assert f"Keras {keras.__version__} on {keras.backend.backend()}, NumPy" in version_line()


def test_the_seed_decides_random_weights():
    def kernel(seed):
        prepare(seed)
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
        return layer.get_weights()[0].tolist()

    assert kernel(1) == kernel(1) != kernel(2)


def test_precision_is_set_and_a_wrong_one_refused():
    try:
        prepare(0, precision="mixed_bfloat16")
        assert keras.config.dtype_policy().compute_dtype == "bfloat16"
    finally:
        prepare(0)
    with pytest.raises(InputError, match="'float8' is no precision"):
        prepare(0, precision="float8")


def test_keras_that_is_imported_already_is_taken_as_it_is():
    assert load_keras() is sys.modules["keras"]


def test_the_package_offers_its_main_names_without_importing_keras():
    import subprocess

    code = "import pcam_utils, sys; pcam_utils.open_data, pcam_utils.Patches; print('keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_every_offered_name_is_there_and_others_are_not():
    import pcam_utils

    assert all(getattr(pcam_utils, name).__module__.startswith("pcam_utils.") for name in pcam_utils.__all__)
    with pytest.raises(AttributeError, match="no attribute 'cure'"):
        pcam_utils.cure


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1"):
        prepare(-1)


@pytest.mark.parametrize("variable, place, click", [
    ("COLAB_RELEASE_TAG", "colab", "Runtime → Change runtime type"),
    ("KAGGLE_KERNEL_RUN_TYPE", "kaggle", "Settings → Accelerator"),
    ("NOTHING_OF_THE_KIND", "local", "minutes on a laptop"),
])  # fmt: skip
def test_without_a_gpu_the_hint_says_what_to_click_there(monkeypatch, variable, place, click):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "release")
    monkeypatch.setattr("pcam_utils.runtime.backend.has_gpu", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert where() == place and click in gpu_hint()
    monkeypatch.setattr("pcam_utils.runtime.backend.has_gpu", lambda: True)
    assert gpu_hint().startswith("A GPU is there")


def test_a_card_that_is_not_in_use_is_named_with_what_to_install(monkeypatch):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pcam_utils.runtime.backend.has_gpu", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert 'pip install "tensorflow[and-cuda]"' in gpu_hint()


def test_a_gpu_is_what_the_backend_sees(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert has_gpu()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert not has_gpu()


def test_lessons_find_and_keep_things_beside_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.delenv("PCAM_OUT", raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert results_folder().resolve() == tmp_path / "build" / "course" and results_folder().is_dir()
    assert find_sample(tmp_path) == tmp_path / "data" / "sample"
    monkeypatch.chdir(tmp_path)
    assert results_folder().resolve() == tmp_path / "build" / "course"
    monkeypatch.setenv("PCAM_OUT", str(tmp_path / "drive"))
    assert results_folder() == tmp_path / "drive"
    monkeypatch.setattr(places, "DRIVE", tmp_path / "drive")
    with pytest.raises(InputError, match="no Drive is mounted"):
        results_folder()
    monkeypatch.setattr(places.os.path, "ismount", lambda path: path == tmp_path / "drive")
    assert results_folder() == tmp_path / "drive"


def find_sample(folder):
    from pcam_utils.data.sources import find_data

    (folder / "data" / "sample").mkdir(parents=True)
    (folder / "data" / "sample" / "images.txt").write_text("here")
    return find_data().resolve()
