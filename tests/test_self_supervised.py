"""The comparison of self-supervised methods: which runs it starts, and the tables of their results."""

import json
from pathlib import Path

import pytest

from benchmarks import self_supervised
from benchmarks.self_supervised import METHODS, Encoder, Method, config_of, tables
from tools import label_efficiency
from torchlight.config import load_config

METHOD = Method({"pretrain_masked_motion": 4, "pretrain_aimclr": 2}, ending="_masked_motion", num_encoder=2)


def finish(folder: Path, **result) -> None:
    """The files of a finished run, as far as they are read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def started(monkeypatch):
    """The command lines that would have run."""
    lines = []

    def run(words: list[str]) -> int:
        lines.append(words)
        folder = Path(words[words.index("-w") + 1])
        finish(folder, top1=0.5, num_parameter=7, train_minutes=1.5)
        (folder / "metrics.csv").write_text("epoch,clips_per_second\n1,10\n2,30\n3,20\n")
        (folder / "best.pt").touch()
        return 0

    monkeypatch.setattr(self_supervised.command, "main", run)
    return lines


def test_every_config_of_the_methods_exists():
    for method in METHODS.values():
        names = [*method.steps, *(f"{kind}{method.ending}" for kind in ("knn", "linear", "finetune"))]
        assert all(config_of(name).is_file() for name in names)


def test_a_step_starts_from_the_one_before_it_and_finished_steps_are_not_run_again(started, tmp_path):
    encoder = Encoder(METHOD, tmp_path, seed=1)
    weights = encoder.train(1.5, ["precision=fp32"])
    assert weights == tmp_path / "pretrain_aimclr" / "best.pt"
    assert [line[2] for line in started] == [str(config_of(step)) for step in METHOD.steps]
    assert all({"seed=1", "precision=fp32", "--resume"} <= set(line) for line in started)
    assert ["num_epoch=6" in started[0], "num_epoch=3" in started[1]] == [True, True]
    first = str(tmp_path / "pretrain_masked_motion" / "best.pt")
    assert "--weights" not in started[0]
    assert started[1][started[1].index("--weights") + 1] == first
    assert encoder.train(1.5, ["precision=fp32"]) == weights
    assert len(started) == 2


def test_a_failed_run_ends_the_program(monkeypatch, tmp_path):
    monkeypatch.setattr(self_supervised.command, "main", lambda words: 1)
    with pytest.raises(SystemExit) as stopped:
        Encoder(METHOD, tmp_path, seed=0).train(1.0, [])
    assert stopped.value.code == 1


def test_the_tables_have_means_over_encoders_and_draws(started, monkeypatch, tmp_path):
    monkeypatch.setattr(self_supervised, "METHODS", {"two steps": METHOD, "not begun": METHOD})
    for seed, top1 in enumerate(((0.50, 0.52), (0.54, 0.56))):
        folder = tmp_path / "two_steps" / f"encoder{seed}"
        Encoder(METHOD, folder, seed).train(1.0, [])
        finish(folder / "neighbour", top1=0.25, num_parameter=1234)
        finish(folder / "whitened", top1=0.75)
        for draw, each in enumerate(top1):
            finish(folder / "linear" / "0.05" / f"seed{draw}", top1=each)
    trained, judged = (rows_of(text) for text in tables(tmp_path).split("\n\n"))
    facts = {"method": "two steps", "encoders": "2", "epochs": "3 + 3", "minutes": "3", "clips/s": "20"}
    assert trained == [facts | {"parameters": "1,234"}]
    (found,) = judged
    assert found["method"] == "two steps"
    assert found["neighbour"] == "25.0 ± 0.0 (25.0, 25.0)"
    assert found["linear 5 %"] == "53.0 ± 2.6 (51.0, 55.0)"
    assert found["linear 100 %"] == found["finetune 5 %"] == ""


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of a Markdown table."""
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_all_evaluations_of_an_encoder_are_run(monkeypatch, tmp_path):
    lines, grids = [], []
    monkeypatch.setattr(self_supervised, "run", lambda *words: lines.append(words[:2]))
    monkeypatch.setattr(self_supervised, "run_grid", grids.append)
    method = METHOD._replace(settings=("model_args.width=8",))
    Encoder(method, tmp_path, seed=0).judge(
        tmp_path / "best.pt", ["linear", "finetune"], 2, ["precision=fp32"]
    )
    assert lines == [("knn_evaluation", "knn_masked_motion")] * 2
    monkeypatch.setattr(
        label_efficiency, "measure", lambda file, settings, **_: measured.append((file, settings)) or 0
    )
    measured = []
    assert [label_efficiency.main(words) for words in grids] == [0, 0]
    for (file, settings), (protocols, fractions) in zip(
        measured, ((["linear"], [0.01, 0.05, 1.0]), (["linear", "finetune"], [0.05, 1.0])), strict=True
    ):
        grid = load_config(file, settings, label_efficiency.GridConfig)
        assert (grid.protocols, grid.fractions, grid.seeds) == (protocols, fractions, 2)
        assert grid.settings == ["model_args.width=8", "precision=fp32"]
        assert grid.weights == str(tmp_path / "best.pt")
        assert grid.linear == str(config_of("linear_masked_motion"))
        assert grid.finetune == str(config_of("finetune_masked_motion"))


def test_a_failed_grid_ends_the_program():
    with pytest.raises(SystemExit):
        self_supervised.run_grid(["-c", "no_such_file.yaml"])


@pytest.mark.parametrize(
    "words", [["--seed", "0", "5"], ["--draws", "0"], ["--scale", "-1"], ["--scale", "nan"]]
)
def test_numbers_that_train_nothing_are_refused(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        self_supervised.main(["-w", str(tmp_path), "--method", "AimCLR", *words])
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert words[0] in said
    assert words[-1] in said
    assert not list(tmp_path.iterdir())
