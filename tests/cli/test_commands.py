import json
import shutil

import numpy as np
import pytest
from helpers import read_csv, write_pcam
from sklearn.metrics import roc_auc_score

SMALL = ("--backbone", "SmallCNN", "--weights", "none", "--epochs", "1")


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A folder of patches and a run on it, trained by the command line itself; for looking at only."""
    from click.testing import CliRunner

    from pcam_utils.cli.commands import main

    made = tmp_path_factory.mktemp("trained")
    folder, run = write_pcam(made / "pcam", n=40, simulated=True), made / "run"
    result = CliRunner().invoke(main, ["train", str(folder), "--run", str(run), *SMALL])
    assert result.exit_code == 0, result.output
    return folder, run


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy of the run, which a test may change, and its data, which it may not."""
    return trained_once[0], shutil.copytree(trained_once[1], tmp_path / "run")


def test_from_official_files_to_metrics_figure_and_submission(pcam, trained, tmp_path):
    folder, run = trained
    out = tmp_path / "scores"
    result = pcam("evaluate", folder, "--run", run, "--out", out, "--baseline")
    assert result.exit_code == 0, result.output
    assert "40 simulated patches of 'test'" in result.stdout and "colour alone" in result.stdout
    assert "Not for diagnosis" in result.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    predictions = read_csv(out / "predictions.csv")
    found = roc_auc_score(np.arange(40) % 2, [float(row["label"]) for row in predictions])
    assert metrics["auc"] == pytest.approx(found, abs=1e-6)
    assert metrics["tta"] == "flips" and metrics["simulated"] and metrics["slides"] == 2
    assert set(metrics["operating_points"]) == {"half", "chosen_on_valid"}
    assert (out / "roc.png").stat().st_size > 10_000 and (run / "history.png").stat().st_size > 10_000
    assert pcam("predict", folder, "--run", run, "--out", tmp_path / "s.csv").exit_code == 0
    assert read_csv(tmp_path / "s.csv") == predictions


def test_a_model_file_serves_as_well_as_its_run(pcam, trained, tmp_path):
    folder, run = trained
    by_run = json.loads(pcam("evaluate", folder, "--run", run, "--json").stdout)
    by_file = json.loads(pcam("evaluate", folder, "--model", run / "best.keras", "--json").stdout)
    assert by_file["auc"] == by_run["auc"] and set(by_file["operating_points"]) == {"half"}


def test_kaggle_submission_has_exactly_the_ids_of_the_sample_in_its_order(pcam, kaggle_folder, tmp_path):
    folder, run = kaggle_folder(n=40, n_test=9), tmp_path / "run"
    assert pcam("train", folder, "--run", run, *SMALL).exit_code == 0
    assert pcam("predict", folder, "--run", run, "--out", tmp_path / "s.csv").exit_code == 0
    submission, sample = read_csv(tmp_path / "s.csv"), read_csv(folder / "sample_submission.csv")
    assert [row["id"] for row in submission] == [row["id"] for row in sample]
    assert all(0 <= float(row["label"]) <= 1 for row in submission)
    held_out = json.loads(pcam("evaluate", folder, "--run", run, "--json").stdout)
    assert held_out["split"] == "valid" and held_out["patches"] == 8


def test_labels_from_a_file_score_an_unlabelled_split(pcam, kaggle_folder, tmp_path):
    folder, run = kaggle_folder(n=40, n_test=10), tmp_path / "run"
    solution = tmp_path / "solution.csv"
    ids = [row["id"] for row in read_csv(folder / "sample_submission.csv")]
    solution.write_text("id,label\n" + "".join(f"{i},{n % 2}\n" for n, i in enumerate(reversed(ids))))
    assert pcam("train", folder, "--run", run, *SMALL).exit_code == 0
    result = json.loads(
        pcam("evaluate", folder, "--run", run, "--labels", solution, "--out", tmp_path / "o", "--json").stdout
    )
    truth = {row["id"]: int(row["label"]) for row in read_csv(solution)}
    predictions = read_csv(tmp_path / "o" / "predictions.csv")
    expected = roc_auc_score([truth[row["id"]] for row in predictions], [float(row["label"]) for row in predictions])
    assert result["split"] == "test" and result["auc"] == pytest.approx(expected, abs=1e-6)


def test_a_plain_folder_of_images_is_predicted_whole(pcam, trained, tmp_path, random_patches):
    from PIL import Image

    (tmp_path / "mine").mkdir()
    for name, image in zip(("b.png", "a.tif", "c.png"), random_patches(3)):
        Image.fromarray(image).save(tmp_path / "mine" / name)
    assert pcam("predict", tmp_path / "mine", "--run", trained[1], "--out", tmp_path / "s.csv").exit_code == 0
    assert [row["id"] for row in read_csv(tmp_path / "s.csv")] == ["a", "b", "c"]


def test_data_left_out_is_found_and_said(pcam, trained, tmp_path, monkeypatch):
    folder, run = trained
    monkeypatch.setenv("PCAM_DATA", str(folder))
    result = pcam("predict", "--run", run, "--split", "valid", "--out", tmp_path / "s.csv")
    assert result.exit_code == 0 and f"using {folder}" in result.stderr
    assert read_csv(tmp_path / "s.csv")[0]["id"] == "valid_0"


@pytest.mark.slow
def test_sample_writes_both_layouts_that_info_reads(pcam, tmp_path):
    sizes = ("--train", "8", "--valid", "4", "--test", "4")
    for layout, train in (("pcam", 8), ("kaggle", 12)):
        result = pcam("sample", tmp_path / layout, "--layout", layout, *sizes, "--json")
        assert result.exit_code == 0, result.stderr
        made = json.loads(result.stdout)
        assert made["patches"] == {"train": 8, "valid": 4, "test": 4} and made["out"] == str(tmp_path / layout)
        facts = json.loads(pcam("info", tmp_path / layout, "--json").stdout)
        assert facts["simulated"] and facts["layout"] == layout
        assert facts["splits"]["train"]["patches"] <= train
        assert "simulated pictures, not patients' tissue" in pcam("info", tmp_path / layout).stdout


def test_a_run_that_ended_can_be_resumed_for_nothing(pcam, trained):
    folder, run = trained
    before = (run / "state.npz").read_bytes()
    result = pcam("train", folder, "--run", run, "--resume", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["best"]["epoch"] == 1
    assert (run / "state.npz").read_bytes() == before


def test_options_beside_resume_are_the_runs_own_or_refused(pcam, trained):
    folder, run = trained
    assert pcam("train", folder, "--run", run, "--resume", *SMALL, "--valid-fraction", "0.2").exit_code == 0
    before = (run / "run.json").read_bytes()
    result = pcam("train", folder, "--run", run, "--resume", "--valid-fraction", "0.5")
    assert result.exit_code == 2 and "was begun with valid fraction 0.2, so it cannot go on with 0.5" in result.stderr
    assert (run / "run.json").read_bytes() == before


def test_a_run_made_before_an_option_existed_is_resumed(pcam, trained):
    folder, run = trained
    record = json.loads((run / "run.json").read_text())
    del record["settings"]["devices"]
    (run / "run.json").write_text(json.dumps(record))
    assert pcam("train", folder, "--run", run, "--resume", "--devices", "1").exit_code == 0


def test_numbers_come_as_json_and_everything_else_on_the_other_stream(pcam, trained, tmp_path):
    folder, run = trained
    result = pcam("predict", folder, "--run", run, "--split", "valid", "--out", tmp_path / "s.csv", "--json")
    made = json.loads(result.stdout)
    scores = [float(row["label"]) for row in read_csv(tmp_path / "s.csv")]
    assert (made["out"], made["patches"], made["split"]) == (str(tmp_path / "s.csv"), 40, "valid")
    assert made["mean_probability"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_files_that_are_replaced_are_named_in_one_line(pcam, trained, tmp_path):
    folder, run = trained
    once, twice = (pcam("evaluate", folder, "--run", run, "--out", tmp_path / "o").stderr for _ in range(2))
    assert "replaced" not in once
    files = ", ".join(str(tmp_path / "o" / name) for name in ("metrics.json", "roc.png", "predictions.csv"))
    assert twice == f"Already there, and replaced once this ends well: {files}.\n"


def test_figures_need_no_screen_and_leave_pyplot_alone(pcam, trained, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    def refuse(*_, **__):
        raise AssertionError("pyplot was asked for a figure")

    monkeypatch.setattr(plt, "figure", refuse)
    monkeypatch.setattr(plt, "subplots", refuse)
    folder, run = trained
    assert pcam("info", folder, "--figure", tmp_path / "f.png").exit_code == 0
    assert pcam("evaluate", folder, "--run", run, "--out", tmp_path / "o").exit_code == 0
    assert (tmp_path / "f.png").stat().st_size > 10_000 and (tmp_path / "o" / "roc.png").stat().st_size > 10_000


def test_download_goes_where_it_is_told(pcam, tmp_path, monkeypatch):
    from pcam_utils.data import download

    asked = {}
    monkeypatch.setattr(download, "download_pcam", lambda out, splits: asked.update(splits=splits) or out)
    monkeypatch.setattr(download, "download_kaggle", lambda out: asked.update(kaggle=out) or out)
    assert pcam("download", tmp_path, "--split", "valid", "--split", "test").exit_code == 0
    assert asked["splits"] == ("valid", "test")
    result = pcam("download", tmp_path, "--source", "kaggle", "--json")
    assert json.loads(result.stdout) == {"out": str(tmp_path), "source": "kaggle"} and asked["kaggle"] == tmp_path
    assert pcam("download", tmp_path, "--source", "kaggle", "--split", "test").exit_code == 2


@pytest.mark.slow
def test_the_packages_own_model_predicts_where_none_is_named(pcam, pcam_folder, tmp_path):
    folder = pcam_folder()
    for name, chosen in (("a.csv", ()), ("b.csv", ("--model", "pcam"))):
        assert pcam("predict", folder, *chosen, "--out", tmp_path / name).exit_code == 0
    assert read_csv(tmp_path / "a.csv") == read_csv(tmp_path / "b.csv")
    assert all(0 < float(row["label"]) < 1 for row in read_csv(tmp_path / "a.csv"))
