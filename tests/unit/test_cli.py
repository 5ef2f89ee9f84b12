import json
import subprocess
import sys
from pathlib import Path

import pytest

from calico.cli import main
from calico.core.files import write_json


def run_cli(arguments, capsys):
    """Return (exit code, stdout, stderr) of a command."""
    try:
        main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


SCORES = {"AP50": 0.5, "mIoU": 0.6, "Recall": 0.7, "SS": 0.8, "S-IoU": 0.9}


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """A working directory with the files of a finished run."""
    import shutil

    shutil.copy("params.yaml", tmp_path)
    artifacts = tmp_path / "artifacts" / "tiny"
    metrics = {
        "models": {"calico": {"mean": SCORES}},
        "floors": {"majority": {"mean": SCORES}},
        "test": {"pairs": 240, "images": 180, "targets": 700, "tasks": {}},
        "definitions": {},
    }
    write_json(artifacts / "evaluate" / "metrics.json", metrics)
    for folder, stage in (("evaluate", "evaluate"), ("finetune/calico", "finetune/calico")):
        facts = {"stage": stage, "seconds": 1.5, "peak_gb": 0.5, "mlflow_run_id": "abc"}
        write_json(artifacts / folder / "stage.json", facts)
    monkeypatch.chdir(tmp_path)
    return artifacts


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom calico.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'deepspeed', 'mlflow', 'pyarrow', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "segment" in finished.stdout


def test_figures_are_one_line_of_json(finished_run, capsys):
    code, output, _ = run_cli(["figures"], capsys)
    assert code == 0
    assert output.count("\n") == 1
    assert json.loads(output) == {
        "models": {"calico": {"mean": SCORES}},
        "floors": {"majority": {"mean": SCORES}},
        "test": {"pairs": 240, "images": 180},
        "stages": {
            "evaluate": {"seconds": 1.5, "peak_gb": 0.5},
            "finetune/calico": {"seconds": 1.5, "peak_gb": 0.5},
        },
    }


def test_figures_before_any_run_say_what_is_missing(finished_run, capsys):
    (finished_run / "evaluate" / "metrics.json").unlink()
    code, output, error = run_cli(["figures"], capsys)
    assert (code, output) == (2, "")
    assert error.startswith("error: artifacts/tiny/evaluate/metrics.json: no such file.")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["figures"], ["segment", "a.jpg", "--task", "common_parts", "--out", "o"]]
)
def test_an_unknown_profile_is_one_sentence(finished_run, capsys, command):
    code, _, error = run_cli([*command, "--profile", "huge"], capsys)
    assert code == 2
    assert error == "error: params.yaml: no profile 'huge'; choose one of paper, tiny.\n"


def test_an_image_that_cannot_be_read_leaves_no_output(finished_run, capsys):
    (finished_run / "text.jpg").write_text("no image")
    for path, message in (
        (finished_run / "none.jpg", "no such image file"),
        (finished_run / "text.jpg", "not a readable image"),
    ):
        code, _, error = run_cli(
            ["segment", str(path), str(path), "--task", "common_parts", "--out", "out"], capsys
        )
        assert code == 2
        assert error.startswith(f"error: {path}: {message}")
        assert error.count("\n") == 1
    assert not (finished_run.parent.parent / "out").exists()


def test_a_model_that_is_not_trained_yet_is_one_sentence(finished_run, capsys):
    from PIL import Image

    Image.new("RGB", (8, 8)).save("a.png")
    command = ["segment", "a.png", "a.png", "--task", "common_parts", "--out", "out", "--model", "lisa"]
    code, _, error = run_cli(command, capsys)
    assert code == 2
    assert error.startswith("error: artifacts/tiny/finetune/lisa: no finetuned 'lisa' here.")


@pytest.fixture
def finished_data(finished_run):
    """A working directory with a finished data set whose values are those of the tests, and nothing else."""
    import yaml

    from tests.finished_data import PAIR, UNIFY, write_finished

    write_finished(finished_run)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["tiny"] |= {"pair": PAIR.model_dump(), "unify": UNIFY.model_dump()}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return finished_run


def test_inspect_draws_some_pairs_and_says_how_many_there_are(finished_data, capsys, tmp_path):
    from PIL import Image

    code, output, _ = run_cli(["inspect", "--out", "out"], capsys)
    assert code == 0
    pictures = sorted((tmp_path / "out").iterdir())
    assert len(pictures) == 12
    assert all(Image.open(path).size[0] > 1300 and str(path.name) in output for path in pictures)
    assert output.count("[SEG]") >= 12
    assert output.splitlines()[-1] == "12 of 18 pairs (test) drawn in out"


def test_inspect_draws_the_pair_that_is_named(finished_data, capsys, tmp_path):
    from calico.core import tables

    pair = tables.read_pairs(finished_data / "pair" / "train.parquet")[20]
    code, output, _ = run_cli(["inspect", pair.pair_id, "--out", "out"], capsys)
    assert code == 0
    (picture,) = (tmp_path / "out").iterdir()
    assert output.splitlines()[:2] == [f"out/{picture.name}", pair.pair_id]
    assert output.splitlines()[-1] == "1 of 66 pairs (train, val, test) drawn in out"
    code, _, error = run_cli(["inspect", pair.pair_id, "--split", "val", "--out", "o"], capsys)
    assert code == 2
    assert error.startswith(f"error: artifacts/tiny/pair: no pair '{pair.pair_id}' (pairs searched: val 12).")


@pytest.mark.parametrize("command", [["inspect", "--out", "out"], ["validate"]])
def test_the_data_commands_before_any_run_say_what_to_run(finished_run, capsys, command):
    code, output, error = run_cli(command, capsys)
    assert (code, output) == (2, "")
    assert "no such file. Run the stage" in error
    assert error.count("\n") == 1


def test_validate_ends_with_one_line_of_json(finished_data, capsys):
    code, output, _ = run_cli(["validate"], capsys)
    *lines, last = output.splitlines()
    assert code == 0, output
    assert json.loads(last) == {
        "pairs": 66,
        "images": json.loads(last)["images"],
        "rules": 17,
        "violations": 0,
    }
    assert [line.split()[0] for line in lines] == ["ok"] * 17


def test_validate_exits_with_1_where_a_rule_is_broken(finished_data, capsys):
    with (finished_data / "pair" / "plots" / "parts.csv").open("a") as stream:
        stream.write("more,1\n")
    code, output, _ = run_cli(["validate"], capsys)
    assert code == 1
    assert output.startswith("broken  files")
    assert "pair/plots/parts.csv: changed after its stage wrote it" in output
    assert json.loads(output.splitlines()[-1])["violations"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "a.png", "--out", "o", "--model", "nope"], "argument --model: invalid choice: 'nope'"),
        (["segment", "a.png"], "the following arguments are required: --out"),
        (["paint"], "invalid choice: 'paint'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, arguments, message):
    code, output, error = run_cli(arguments, capsys)
    assert (code, output) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture
def scored_world(finished_run, monkeypatch):
    """Two pairs of one task, the perfect predictions, and a text model that counts shared words."""
    import numpy as np

    from calico.core import tables
    from calico.core.masks import encode
    from calico.core.records import ImageRecord, ObjectInstance, PairSample, PredictedMask, Target
    from calico.evaluation import external

    mask = encode(np.eye(8, dtype=bool))
    folder = finished_run.parent.parent
    images = [ImageRecord(f"i{row}", "s", f"{row}.png", 8, 8, "test") for row in range(3)]
    objects = [ObjectInstance(f"i{row}#0", f"i{row}", "dog", mask) for row in range(3)]
    pairs = [
        PairSample(
            f"p{row}",
            "common_objects",
            "s",
            (f"i{row}", f"i{row + 1}"),
            tuple(Target(index, "dog", f"i{row + index}#0", None) for index in range(2)),
        )
        for row in range(2)
    ]
    tables.write_images(folder / "unify/images.parquet", images)
    tables.write_objects(folder / "unify/objects.parquet", objects)
    tables.write_parts(folder / "unify/parts.parquet", [])
    tables.write_pairs(folder / "pair/test.parquet", pairs)
    perfect = [
        PredictedMask(pair.pair_id, pair.task, index, "dog", mask, 1.0)
        for pair in pairs
        for index in range(2)
    ]
    tables.write_predictions(folder / "perfect.parquet", perfect)
    tables.write_predictions(folder / "half.parquet", perfect[:2])
    monkeypatch.setattr(external, "find_text_model", lambda name: folder)
    monkeypatch.setattr(external, "load_text_model", lambda path: lambda texts: np.ones((len(texts), 1)))
    return folder


def test_evaluate_prints_every_family_and_writes_the_values(scored_world, capsys):
    command = ["evaluate", "half.parquet", "--pairs", "pair/test.parquet", "--against", "perfect.parquet"]
    code, output, error = run_cli([*command, "--glamm", "--out", "out/m.json"], capsys)
    assert (code, error) == (0, "")
    table, _, differences = output.partition("\ndifference ")
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}
    assert lines["half.parquet:"] == ["2", "predictions,", "left", "out:", "none"]
    for family in ("paper", "labels", "strict", "glamm"):
        assert lines[family] == ["common_objects", "mean"]
    assert lines["glamm_Recall"][0] == "0.500"
    assert differences.startswith("      common_objects        mean\n")
    assert "\nRecall           -0.500 (p " in differences
    written = json.loads((scored_world / "out" / "m.json").read_text())
    assert written["scores"]["mean"]["Recall"] == 0.5
    assert written["differences"]["mean"]["Recall"]["difference"] == -0.5


def test_evaluate_of_several_runs_prints_mean_spread_and_interval(scored_world, capsys):
    files = ["half.parquet", "perfect.parquet"]
    code, output, _ = run_cli(["evaluate", *files, "--pairs", "pair/test.parquet", "--out", "m.json"], capsys)
    assert code == 0
    lines = output.splitlines()
    assert "2 runs of one model: mean, +- their standard deviation, [interval]" in lines
    (recall,) = [line.split() for line in lines if line.startswith("Recall ")]
    assert recall[1:3] == ["0.750", "+-0.354"]
    written = json.loads((scored_world / "m.json").read_text())
    assert [written["runs"][name]["mean"]["Recall"] for name in files] == [0.5, 1.0]


def test_evaluate_writes_the_truth_for_coco_tools(scored_world, capsys):
    code, output, _ = run_cli(["evaluate", "--pairs", "pair/test.parquet", "--coco-truth", "t.json"], capsys)
    assert (code, output) == (0, "")
    assert len(json.loads((scored_world / "t.json").read_text())["annotations"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv"], "a.csv: the name ends in '.csv'"),
        (["none.json"], "none.json: no such file"),
        (["params.yaml"], "params.yaml: the name ends in '.yaml'"),
        ([], "nothing to do: give a FILE of predictions, or --coco-truth"),
        (["perfect.parquet", "--truth", "nowhere"], "nowhere/images.parquet: no such file"),
        (["perfect.parquet", "--pairs", "perfect.parquet"], "perfect.parquet: columns are pair_id"),
    ],
)
def test_evaluate_says_in_one_sentence_what_is_wrong(scored_world, capsys, arguments, message):
    code, output, error = run_cli(["evaluate", "--pairs", "pair/test.parquet", *arguments], capsys)
    assert (code, output) == (2, "")
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
