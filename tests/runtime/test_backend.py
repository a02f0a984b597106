"""What importing does and does not do, which backend Keras gets, and what `prepare` sets and says."""

import json
import os
import subprocess
import sys

import keras
import pytest

from pcam_utils.errors import InputError
from pcam_utils.runtime import backend
from pcam_utils.runtime.backend import load_keras, prepare


def python(code, *arguments, **environment):
    """Run code in a process of its own, where Keras's home and backend are not chosen but by `environment`."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("KERAS_", "TF_CPP"))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=others | environment, capture_output=True, text=True)


# Importing ----------------------------------------------------------------------------------------------------------

IMPORTS = """
import os, sys
before = dict(os.environ)
import pcam_utils, pcam_utils.data, pcam_utils.runtime, pcam_utils.simulated, pcam_utils.evaluation, pcam_utils.models
import pcam_utils.evaluation.metrics
for room, names in ((pcam_utils, ["InputError", "Patches", "find_data", "open_data", "write_sample"]),
                    (pcam_utils.data, pcam_utils.data.__all__), (pcam_utils.simulated, pcam_utils.simulated.__all__)):
    for name in names:
        getattr(room, name)
changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
print(sorted(changed), sorted({"keras", "tensorflow", "jax"} & set(sys.modules)))
"""


def test_importing_what_needs_no_network_sets_no_variable_and_starts_no_backend():
    result = python(IMPORTS)
    assert result.stdout == "[] []\n", result.stdout + result.stderr


def test_every_offered_name_is_there_and_others_are_not():
    import pcam_utils

    assert all(getattr(pcam_utils, name).__module__.startswith("pcam_utils.") for name in pcam_utils.__all__)
    with pytest.raises(AttributeError, match="cure"):
        _ = pcam_utils.cure


def test_keras_that_is_imported_already_is_taken_as_it_is():
    assert load_keras() is sys.modules["keras"]


def test_a_keras_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.7.0")
    with pytest.raises(InputError, match="Keras 3.7.0 is too old for this course; pip install"):
        load_keras()


@pytest.mark.parametrize("name, value", [("floatx", "float16"), ("image_data_format", "channels_first")])
def test_keras_that_is_set_otherwise_already_is_refused(monkeypatch, name, value):
    monkeypatch.setattr(keras.config, name, lambda: value)
    with pytest.raises(InputError, match=f"Keras is set to .*{value}.*; restart Python"):
        load_keras()


# Which backend ------------------------------------------------------------------------------------------------------

KERAS_OWN = {"floatx": "float32", "epsilon": 1e-07, "backend": "tensorflow", "image_data_format": "channels_last"}


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """The backend chosen with this keras.json, with these backends installed, and with this KERAS_BACKEND."""

    def choose(config=None, installed=("tensorflow", "jax"), variable=None):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        if variable is not None:
            monkeypatch.setenv("KERAS_BACKEND", variable)
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (tmp_path / "keras.json").write_text(text, encoding="utf-8")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
        return backend._choose_backend()

    return choose


@pytest.mark.parametrize("chosen, expected", [
    ({}, "tensorflow"),
    ({"installed": ("jax",)}, "jax"),
    ({"variable": "jax"}, "jax"),
    ({"variable": "", "config": {"backend": "jax"}}, "jax"),
    ({"config": {"backend": "jax"}}, "jax"),
    ({"config": {"backend": "jax"}, "variable": "tensorflow"}, "tensorflow"),
    ({"config": {"backend": "torch"}, "variable": "jax"}, "jax"),
    ({"config": KERAS_OWN}, "tensorflow"),
    ({"config": {"epsilon": 1e-5}}, "tensorflow"),
    ({"config": "not JSON, which Keras overlooks"}, "tensorflow"),
])  # fmt: skip
def test_the_backend_is_the_one_chosen_else_the_first_installed(choose, chosen, expected):
    assert choose(**chosen) == expected


@pytest.mark.parametrize("chosen, sentence", [
    ({"installed": ()}, "Keras has no backend to compute with; pip install"),
    ({"variable": "torch"}, "KERAS_BACKEND is 'torch', but this course can use only tensorflow or jax here"),
    ({"config": {"backend": "torch"}}, "names the backend 'torch', but .* only tensorflow or jax here; change it"),
    ({"config": {"backend": "tensorflow"}, "installed": ("jax",)}, "'tensorflow', but .* only jax here; change it"),
    ({"config": {"floatx": "float16"}}, "keras.json sets floatx to 'float16', but this course needs 'float32'"),
    ({"config": {"image_data_format": "channels_first"}, "variable": "jax"}, "sets image_data_format to 'channels_f"),
    ({"config": []}, "keras.json holds no settings of Keras; remove it"),
])  # fmt: skip
def test_what_cannot_be_followed_is_refused_in_one_sentence(choose, chosen, sentence):
    with pytest.raises(InputError, match=sentence):
        choose(**chosen)


def test_a_keras_json_that_cannot_be_read_is_refused(choose, tmp_path):
    (tmp_path / "keras.json").mkdir()
    with pytest.raises(InputError, match="keras.json cannot be read"):
        choose()


def test_the_file_that_keras_wrote_by_itself_is_nobodys_choice_but_that_is_said(choose):
    with pytest.warns(
        UserWarning, match="names tensorflow, as Keras writes it by itself, but .* only jax here, so that is used"
    ):
        assert choose(KERAS_OWN, installed=("jax",)) == "jax"


def test_keras_starts_on_the_backend_that_keras_json_names(tmp_path):
    pytest.importorskip("jax")
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(KERAS_OWN | {"backend": "jax"}))
    code = "from pcam_utils.runtime import load_keras; print(load_keras().backend.backend())"
    result = python(code, HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    assert result.stdout == "jax\n", result.stderr


def test_no_folder_named_tilde_is_made_for_keras(tmp_path):
    code = "from pcam_utils.runtime import load_keras; load_keras()"
    result = python(code, HOME=str(tmp_path), USERPROFILE=str(tmp_path), KERAS_HOME="~/mine", PWD=str(tmp_path))
    assert result.returncode == 0 and (tmp_path / "mine").is_dir() and not os.path.exists("~")


# What libraries say while Keras is imported -------------------------------------------------------------------------

ENDINGS = {
    "raises": "raise ImportError('broken')",
    "aborts": "os.abort()",
    "crashes": "os.kill(os.getpid(), signal.SIGSEGV)",
    "leaves": "os._exit(3)",
    "works": "from types import SimpleNamespace as N\n__version__ = '9.0'\n"
    "config = N(image_data_format=lambda: 'channels_last', floatx=lambda: 'float32')",
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are otherwise there")
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_libraries_say_is_shown_unless_the_import_goes_well(tmp_path, ending):
    (tmp_path / "keras").mkdir()
    says = f"import os, signal\nos.write(2, b'a library speaks' + bytes(100_000))\n{ENDINGS[ending]}"
    (tmp_path / "keras" / "__init__.py").write_text(says)
    code = "import os; from pcam_utils.runtime import load_keras; load_keras(); os.write(2, b'later')"
    result = python(code, PYTHONPATH=str(tmp_path), KERAS_HOME=str(tmp_path))
    if ending == "works":
        assert result.stderr == "later" and result.returncode == 0
    else:
        assert result.stderr.count("a library speaks") == 1 and result.returncode != 0
        assert ending != "raises" or result.stderr.endswith("ImportError: broken\n")


def test_keras_starts_without_a_word():
    result = python("from pcam_utils.runtime import load_keras; load_keras().ops.ones(3)")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# Seed, precision, tuning --------------------------------------------------------------------------------------------


def test_the_seed_decides_random_weights():
    def kernel(seed):
        prepare(seed, tune=False)
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
        return layer.get_weights()[0].tolist()

    assert kernel(1) == kernel(1) != kernel(2)


def test_precision_is_set_and_a_wrong_one_refused():
    try:
        prepare(0, precision="mixed_bfloat16", tune=False)
        assert keras.config.dtype_policy().compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(InputError, match="'float8' is no precision"):
        prepare(0, precision="float8")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused(seed):
    with pytest.raises(InputError, match=f"seed is {seed}, but it must lie between 0 and 4294967295"):
        prepare(seed)


TUNED = """
import os
os.cpu_count = lambda: 2
from pcam_utils.runtime import prepare
import tensorflow as tf
def tuned():
    threads, options = tf.config.threading, tf.config.optimizer.get_experimental_options()
    print(threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads(),
          options.get("disable_meta_optimizer", False))
prepare(0, tune=False)
tuned()
prepare(0)
tuned()
"""


def test_prepare_says_in_one_line_what_it_tunes_and_leaves_it_alone_where_asked():
    pytest.importorskip("tensorflow")
    untouched, said, tuned = python(TUNED).stdout.splitlines()
    assert (untouched, tuned) == ("0 0 False", "1 2 True")
    assert said.startswith("TensorFlow is tuned: graphs are not rewritten, two operations at a time on one thread each")
    assert ("freed memory is kept" in said) == (sys.platform == "linux") and said.endswith("leaves it alone).")


def test_memory_is_left_alone_where_asked(monkeypatch):
    monkeypatch.setattr(backend, "_keep_freed_memory", lambda: pytest.fail("the allocator was touched"))
    prepare(0, tune=False, say=lambda line: pytest.fail(line))


# With a GPU (listed, while the CPU computes) -------------------------------------------------------------------------


@pytest.fixture
def prepared(monkeypatch):
    """What `prepare` says, in a process whose memory, threads and graphs are left alone."""
    monkeypatch.setattr(backend, "_keep_freed_memory", list)
    monkeypatch.setattr(backend, "_set_threads", lambda tf: [])
    said = []
    yield lambda: prepare(0, say=said.append) or " ".join(said)


def test_prepare_lets_memory_grow_on_each_gpu(prepared, listed_gpu, monkeypatch):
    import tensorflow as tf

    grown = []
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu, on)))
    assert "a GPU's memory is taken as it is needed" in prepared() and grown == [(listed_gpu, True)]


@pytest.mark.parametrize("error", [RuntimeError("in use"), ValueError("of another kind")])
def test_a_gpu_that_is_in_use_keeps_its_memory_and_nothing_is_claimed(prepared, listed_gpu, monkeypatch, error):
    import tensorflow as tf

    def refuse(*_):
        raise error

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    assert "memory is taken" not in prepared()


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_graphs_are_rewritten_where_there_is_a_gpu_and_left_alone_on_a_cpu(prepared, request, monkeypatch, device):
    import tensorflow as tf

    options = []
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", options.append)
    if device == "gpu":
        request.getfixturevalue("listed_gpu")
        monkeypatch.setattr(backend, "_let_memory_grow", lambda tf: [])
    assert ("graphs are not rewritten" in prepared()) == bool(options) == (device == "cpu")


def test_without_a_gpu_no_memory_is_spoken_of(prepared):
    assert "memory is taken" not in prepared()


@pytest.fixture
def unasked(xla):
    """Whether XLA compiles for the GPU was not asked yet, in this process, and will not have been."""
    backend._xla_compiles.cache_clear()
    yield
    backend._xla_compiles.cache_clear()


def test_where_xla_misses_libdevice_patches_are_changed_by_a_plain_graph_and_a_warning_says_so_once(
    listed_gpu, unasked, xla
):
    import tensorflow as tf

    xla.fault = tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc")
    with pytest.warns(RuntimeWarning, match="libdevice not found.*plain graph.*xla_gpu_cuda_data_dir") as said:
        doubled, squared = backend.compiled(lambda x: x + x), backend.compiled(lambda x: x * x)
        assert (float(doubled(tf.constant(3.0))), float(squared(tf.constant(3.0)))) == (6, 9)
    assert len(said) == 1 and len(xla.compiled) == 1


def test_where_xla_compiles_it_is_asked_once_and_used(listed_gpu, unasked, xla):
    for _ in range(2):
        assert float(backend.compiled(lambda x: x + x)(3.0)) == 6
    assert len(xla.compiled) == 3


def test_without_a_gpu_xla_is_not_put_to_the_test(unasked, xla):
    assert float(backend.compiled(lambda x: x + x)(3.0)) == 6 and len(xla.compiled) == 1


# Determinism on JAX (for TensorFlow, see tests/training/test_run.py) ------------------------------------------------

ON_JAX = """
import sys
from pcam_utils.runtime import load_keras, prepare
if "late" in sys.argv:
    load_keras().ops.ones(3)
prepare(0, deterministic="yes" in sys.argv)
load_keras().ops.ones(3)
"""


@pytest.mark.parametrize("before", [[], ["--xla_gpu_deterministic_ops=false"]], ids=["no flag", "the contrary"])
@pytest.mark.parametrize("asked", ["yes", "no"])
def test_on_jax_xla_is_told_to_be_deterministic_where_asked(tmp_path, asked, before):
    pytest.importorskip("jax", minversion="0.6")
    # What XLA itself writes down, from this version on, of the flags that it works with.
    flags = " ".join([f"--xla_dump_to={tmp_path}", *before])
    result = python(ON_JAX, asked, KERAS_BACKEND="jax", XLA_FLAGS=flags)
    assert result.returncode == 0, result.stderr
    options = [path.read_text() for path in tmp_path.glob("*debug_options*")]
    assert options and all(("xla_gpu_deterministic_ops: true" in text) == (asked == "yes") for text in options)


@pytest.mark.slow
def test_on_jax_that_has_computed_already_determinism_is_refused():
    pytest.importorskip("jax")
    refused = python(ON_JAX, "late", "yes", KERAS_BACKEND="jax")
    assert "InputError: JAX has computed in this process already" in refused.stderr and refused.returncode
    assert python(ON_JAX, "late", KERAS_BACKEND="jax").returncode == 0
    told = python(ON_JAX, "late", "yes", KERAS_BACKEND="jax", XLA_FLAGS="--xla_gpu_deterministic_ops=true")
    assert told.returncode == 0, told.stderr
