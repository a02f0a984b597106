"""What is truly the matter with an HDF5 file that cannot be read."""

import subprocess
import sys

import h5py
import pytest
from helpers import STEM

from pcam_utils.data.sources import open_data
from pcam_utils.errors import InputError


def test_a_file_that_another_program_writes_to_is_not_called_damaged(pcam_folder):
    folder = pcam_folder(splits=("train",))
    code = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(folder / f"{STEM}train_x.h5")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        with pytest.raises(InputError, match="train_x.h5 is in use by another program that may change it; close it"):
            open_data(folder)
    assert len(open_data(folder).split("train")) == 12


@pytest.mark.parametrize("kind", ["x", "y"])
def test_a_missing_filter_is_named_and_how_to_get_it(pcam_folder, kind):
    folder = pcam_folder(splits=("train",), n=4)
    shape, row = ((4, 96, 96, 3), (1, 96, 96, 3)) if kind == "x" else ((4, 1, 1, 1), (1, 1, 1, 1))
    choice = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    choice.set_chunk(row)
    choice.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(folder / f"{STEM}train_{kind}.h5", "w") as file:
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, kind.encode(), h5py.h5t.STD_U8LE, space, choice)
    with pytest.raises(InputError, match=f"train_{kind}.h5 is packed with the HDF5 filter 32999, .* hdf5plugin, or"):
        open_data(folder)


def test_a_file_that_is_empty_or_no_hdf5_says_so(pcam_folder):
    folder = pcam_folder(splits=("train",))
    (folder / f"{STEM}train_x.h5").write_bytes(b"")
    with pytest.raises(InputError, match="train_x.h5 is not a whole HDF5 file .it is empty.; get it again"):
        open_data(folder)
