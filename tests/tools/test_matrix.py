"""The environments of the version matrix, as lists that pip can follow."""

from tools.matrix import CONSTRAINTS, kaggle_versions, lowest_versions


def pins(lines):
    return dict(line.split("==") for line in lines if "==" in line)


def test_kaggle_is_colab_with_what_is_known_of_kaggle_in_its_place():
    kaggle, colab = (pins((CONSTRAINTS / name).read_text().splitlines()) for name in ("kaggle.txt", "colab.txt"))
    assert {"keras", "numpy", "tensorflow"} <= set(kaggle)
    assert pins(kaggle_versions()) == colab | kaggle
    assert len(kaggle_versions()) == len(pins(kaggle_versions()))  # pip refuses two versions of one package


def test_each_lower_bound_of_pyproject_is_pinned_once():
    lowest = lowest_versions()
    assert {"keras==3.10", "numpy==1.26"} <= set(lowest) and len(lowest) == len(pins(lowest))
