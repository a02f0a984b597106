import json

import numpy as np
import pytest
from helpers import STEM, write_csv

from pcam_utils.data.contents import as_table, describe, examples
from pcam_utils.data.patches import fingerprint
from pcam_utils.data.sources import open_data


@pytest.fixture
def folder(pcam_folder, random_patches):
    """12 + 12 + 12 patches; in 'train' three repeats and two blank patches, and in 'test' no labels."""
    images = random_patches(12)
    images[[1, 5]] = images[0]
    images[7] = images[6]
    images[8], images[9] = 255, 0
    folder = pcam_folder(images={"train": images}, labels={"train": [1] * 4 + [0] * 8})
    (folder / f"{STEM}test_y.h5").unlink()
    return folder


def test_counts_are_those_of_the_data(folder):
    data = open_data(folder)
    facts = describe(data)
    assert facts["splits"]["train"] == {
        "patches": 12,
        "positives": 4,
        "negatives": 8,
        "slides": 2,
        "blank": 2,
        "repeats": 3,
        "contradictions": 1,
        "fingerprint": fingerprint(data.split("train")),
    }
    assert facts["splits"]["test"]["positives"] is None and facts["splits"]["test"]["negatives"] is None
    assert (facts["layout"], facts["simulated"], facts["shared_slides"]) == ("pcam", False, 0)


@pytest.mark.parametrize("sharing, shared", [(("train", "valid"), 2), (("train", "valid", "test"), 2), (("test",), 0)])
def test_a_slide_in_several_splits_counts_once(folder, sharing, shared):
    for split in sharing:
        write_csv(folder / f"{STEM}{split}_meta.csv", ("", "wsi"), enumerate(["a", "b"] * 6))
    assert describe(open_data(folder))["shared_slides"] == shared


def test_unknown_slides_are_not_counted_as_none_shared(pcam_folder):
    facts = describe(open_data(pcam_folder(meta=False)))
    assert facts["shared_slides"] is None
    assert facts["splits"]["train"]["slides"] is None
    assert "more than one split" not in as_table(facts)


@pytest.mark.parametrize("progress", [True, False])
def test_bars_are_shown_while_patches_are_read_where_they_are_wanted(folder, bars_at_once, capsys, progress):
    describe(open_data(folder), progress=progress)
    out, err = capsys.readouterr()
    assert out == "" and err.count("Reading: 100%") == (3 if progress else 0)  # one for each split


def test_the_table_lines_up_and_says_what_is_unknown(folder):
    lines = as_table(describe(open_data(folder))).splitlines()
    assert lines[0] == f"{folder}: layout 'pcam', as found, no mark of being simulated"
    assert lines.pop(1) == "0 = no tumour in the centre, 1 = tumour in the centre"
    assert lines[1].split() == ["split", "patches", "negatives", "positives", "slides", "repeats", "blank"]
    assert lines[2].split() == ["train", "12", "8", "4", "2", "3", "2"]
    assert lines[4].split() == ["test", "12", "unknown", "unknown", "2", "0", "0"]
    assert len({len(line) for line in lines[1:5]}) == 1
    assert lines[5] == "slides in more than one split: 0"


def test_info_prints_json_that_a_machine_can_read(pcam, folder):
    result = pcam("info", folder, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == describe(open_data(folder))


def test_info_prints_the_table_for_a_person(pcam, pcam_folder):
    folder = pcam_folder(simulated=True)
    result = pcam("info", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == as_table(describe(open_data(folder))) + "\n"
    assert "simulated pictures, not patients' tissue" in result.stdout


def test_info_without_a_folder_says_on_the_other_stream_what_it_takes(pcam, pcam_folder, monkeypatch):
    folder = pcam_folder()
    monkeypatch.setenv("PCAM_DATA", str(folder))
    result = pcam("info", "--json")
    assert result.stderr == f"DATA is not named: using {folder}.\n"
    assert json.loads(result.stdout)["folder"] == str(folder)


def test_info_counts_positives_as_numbers_not_as_bytes(pcam_folder, random_patches):
    images = {"train": np.repeat(random_patches(1), 600, axis=0)}
    facts = describe(open_data(pcam_folder(splits=("train",), images=images, labels={"train": np.ones(600)})))
    assert facts["splits"]["train"]["positives"] == 600


def test_examples_come_class_by_class_and_can_be_drawn(folder, pcam, tmp_path):
    patches = open_data(folder).split("train")
    assert examples(patches, each=3).labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(set(examples(patches, each=99).ids)) == len(patches)
    assert len(examples(open_data(folder).split("test"), each=5)) == 5
    assert pcam("info", folder, "--figure", tmp_path / "f.png").exit_code == 0
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_the_same_picture_in_two_splits_or_with_both_labels_is_counted(pcam_folder, random_patches):
    images = random_patches(12)
    images[3] = images[0]  # labels alternate
    facts = describe(open_data(pcam_folder(images={"train": images, "test": images[:2]})))
    assert facts["shared_patches"] == 2 and facts["splits"]["train"]["contradictions"] == 1
    assert as_table(facts).splitlines()[-2:] == [
        "patches that are, pixel for pixel, in more than one split: 2",
        "patches of train that are there with both labels: 1",
    ]
