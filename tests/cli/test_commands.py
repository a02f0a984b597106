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
    assert f"Already there, and replaced once this ends well: {files}.\n" in twice and twice.count("\n") == 2


def test_figures_need_no_screen_and_leave_pyplot_alone(pcam, trained, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    def refuse(*_, **__):
        raise AssertionError("pyplot was asked for a figure")

    monkeypatch.setitem(plt.rcParams, "text.usetex", True)  # as a matplotlibrc may ask, where there is no TeX
    monkeypatch.setattr(plt, "figure", refuse)
    monkeypatch.setattr(plt, "subplots", refuse)
    folder, run = trained
    assert pcam("info", folder, "--figure", tmp_path / "f.png").exit_code == 0
    assert pcam("evaluate", folder, "--run", run, "--out", tmp_path / "o").exit_code == 0
    assert (tmp_path / "f.png").stat().st_size > 10_000 and (tmp_path / "o" / "roc.png").stat().st_size > 10_000


def write_classes(folder, images, names):
    """Images of each class in a folder of its own, in turn."""
    from PIL import Image

    for row, image in enumerate(images):
        (folder / names[row % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / names[row % 2] / f"{row:02}.png")
    return folder


def test_every_command_says_what_0_and_1_mean(pcam, trained, tmp_path, random_patches):
    run, mine = trained[1], write_classes(tmp_path / "mine", random_patches(12), ("benign", "a_malignancy"))
    says = "0 = benign, 1 = a_malignancy"
    assert says in pcam("info", mine).stdout
    assert json.loads(pcam("info", mine, "--json").stdout)["classes"] == ["benign", "a_malignancy"]
    assert f"{says}.\n" in pcam("train", mine, "--run", tmp_path / "other", *SMALL).stderr
    for command in ("evaluate", "predict"):
        out = ("--out", tmp_path / f"{command}.csv")
        assert pcam(command, mine, "--run", run, "--split", "train", *out).stderr.count(f"{says}.\n") == 1
    write_classes(tmp_path / "plain", random_patches(3), ("one", "one"))
    result = pcam("predict", tmp_path / "plain", "--run", run, "--out", tmp_path / "s.csv")
    assert "1 = tumour in the centre." in result.stderr  # to the model; the images have no labels


def test_a_model_is_not_scored_on_classes_that_mean_the_contrary(pcam, trained, tmp_path, random_patches):
    run, scored = trained[1], ("--split", "train", "--tta", "none")
    mine = write_classes(tmp_path / "mine", random_patches(12), ("normal", "tumour"))
    assert pcam("evaluate", mine, "--run", run, *scored).exit_code == 0
    result = pcam("evaluate", mine, "--run", run, *scored, "--positive", "normal")
    assert result.exit_code == 2 and "To the model 0 = no tumour in the centre, 1 = tumour" in result.stderr
    animals = write_classes(tmp_path / "animals", random_patches(12), ("cat", "dog"))
    assert pcam("evaluate", animals, "--run", run, *scored).exit_code == 2
    assert pcam("evaluate", animals, "--run", run, *scored, "--positive", "dog").exit_code == 0
    assert pcam("train", animals, "--run", tmp_path / "cats", *SMALL, "--positive", "cat").exit_code == 0
    assert json.loads((tmp_path / "cats" / "run.json").read_text())["classes"] == ["dog", "cat"]
    result = pcam("evaluate", animals, "--run", tmp_path / "cats", *scored, "--positive", "dog")
    assert result.exit_code == 2 and "To the model 0 = dog, 1 = cat" in result.stderr
    result = pcam("evaluate", mine, "--run", tmp_path / "cats", *scored)
    assert result.exit_code == 2 and "say with --positive which folder is the model's 1" in result.stderr


def test_a_run_is_not_judged_by_other_images_of_the_same_names(pcam, tmp_path, random_patches):
    names = ("no tumour", "a tumour")  # also with spaces
    a, b = (write_classes(tmp_path / name, random_patches(20, seed), names) for seed, name in enumerate("ab"))
    run = tmp_path / "run"
    assert pcam("train", a, "--run", run, *SMALL).exit_code == 0
    assert json.loads(pcam("evaluate", a, "--run", run, "--json").stdout)["split"] == "valid"
    result = pcam("evaluate", b, "--run", run)
    assert result.exit_code == 2 and "b holds other patches than the run learned from: of the 4" in result.stderr
    assert json.loads(pcam("evaluate", b, "--run", run, "--split", "train", "--json").stdout)["patches"] == 20


def test_one_other_pixel_is_enough_to_refuse_to_go_on(pcam, trained_once, tmp_path):
    import h5py

    folder, run = (shutil.copytree(path, tmp_path / path.name) for path in trained_once)
    with h5py.File(next(folder.glob("*train_x.h5")), "r+") as file:
        file["x"][33, 5, 7, 1] ^= 1
    result = pcam("train", folder, "--run", run, "--resume")
    assert result.exit_code == 2 and "was trained on other patches than" in result.stderr


def test_a_run_of_an_earlier_version_is_still_known_by_64_patches(pcam, trained):
    from pcam_utils.data.patches import has_fingerprint
    from pcam_utils.data.sources import open_data

    train = open_data(trained[0]).split("train")
    assert has_fingerprint(train, "91afa83383d5effa") and not has_fingerprint(train, "0" * 16)
    assert not has_fingerprint(train.take(slice(39)), "91afa83383d5effa")


def test_how_images_were_fitted_is_kept_with_the_run_and_asked_for_again(pcam, tmp_path, random_patches):
    large = np.repeat(random_patches(20), 2, axis=1).repeat(2, axis=2)
    mine, run = write_classes(tmp_path / "mine", large, ("no", "yes")), tmp_path / "run"
    assert pcam("train", mine, "--run", run, *SMALL, "--fit", "resize").exit_code == 0
    assert json.loads((run / "run.json").read_text())["fit"] == "resize"
    result = pcam("evaluate", mine, "--run", run, "--fit", "crop")
    assert result.exit_code == 2 and "The model learned from images of --fit resize; ask for the same" in result.stderr
    assert pcam("evaluate", mine, "--run", run, "--fit", "resize").exit_code == 0
    result = pcam("train", mine, "--run", run, "--resume", "--fit", "crop")
    assert result.exit_code == 2 and "was begun with --fit resize, not crop" in result.stderr
    assert pcam("train", mine, "--run", run, "--resume").exit_code == 0


def test_a_part_that_a_table_labels_is_scored_when_asked_for(pcam, trained, kaggle_folder, tmp_path):
    folder = kaggle_folder(n_test=10)
    ids = [row["id"] for row in read_csv(folder / "sample_submission.csv")]
    (tmp_path / "s.csv").write_text("ID;Label\n" + "".join(f"{i}.tif;{n % 2}\n" for n, i in enumerate(ids[:6])))
    common = ("evaluate", folder, "--run", trained[1], "--labels", tmp_path / "s.csv")
    result = pcam(*common)
    assert result.exit_code == 2 and "labels 6 of the 10 patches of test" in result.stderr
    result = pcam(*common, "--overlap", "--json")
    assert json.loads(result.stdout)["patches"] == 6 and "the others are left out" in result.stderr


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
