"""For tests and doctests alike: each starts with a cache of its own, and leaves the process as it found it."""

import os
import random
import sys

import pytest

# What libraries set once, when they are imported: that is not undone by forgetting it.
_SET_BY_IMPORTS = ("TF", "XLA", "JAX", "KMP", "PYTEST_", "COV_")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """A cache folder of the test's own (it does not exist yet), and no data named from outside."""
    folder = tmp_path_factory.mktemp("cache") / "pcam"
    monkeypatch.setenv("PCAM_CACHE", str(folder))
    monkeypatch.delenv("PCAM_DATA", raising=False)
    return folder


@pytest.fixture(autouse=True)
def same_process_afterwards(cache):
    """Put back what is global: the folder, the environment, random states, Keras's precision, matplotlib's settings."""
    folder, environment, state = os.getcwd(), dict(os.environ), random.getstate()
    numpy, keras, matplotlib = (sys.modules.get(name) for name in ("numpy", "keras", "matplotlib"))
    numpy_state = numpy and numpy.random.get_state()
    policy = keras and keras.config.dtype_policy()
    settings = matplotlib and matplotlib.rcParams.copy()
    yield
    os.chdir(folder)
    for name in os.environ.keys() - environment.keys():
        if not name.startswith(_SET_BY_IMPORTS):
            del os.environ[name]
    os.environ.update({name: value for name, value in environment.items() if not name.startswith("PYTEST_")})
    random.setstate(state)
    if numpy:
        numpy.random.set_state(numpy_state)
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy(policy or "float32")
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
        pyplot.switch_backend("Agg")
    if matplotlib:
        dict.update(matplotlib.rcParams, settings)  # as rc_context does: no warnings of old names


@pytest.fixture(autouse=True)
def doctests_elsewhere(request, same_process_afterwards, monkeypatch, tmp_path_factory):
    """Examples in docstrings write files and draw: not into the repository, and not on a screen."""
    if type(request.node).__name__ == "DoctestItem":
        monkeypatch.chdir(tmp_path_factory.mktemp("example"))
        if "matplotlib" in sys.modules:
            sys.modules["matplotlib"].use("Agg")
