"""Pages: they hold what went in, load nothing from outside, and play and turn in a browser."""

import pickle
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import browser
from page_content import content_of, decode

from feeder.prepared import PreparedWriter
from net.utils.layouts import get_skeleton
from processor.displayed import PREDICTED, SEEN, Shown, with_future
from processor.io import save_classification, save_predictions, save_result
from processor.page import BUDGET, MOST_CLIPS, PageFigure, PageTable, as_scenes, encode, write_page
from processor.prediction_metrics import OVERALL
from processor.run_page import confusion_figure, mean_error, most_wrong, softmax
from tools import report, show

SKELETON = get_skeleton("ntu-rgb+d")
ODD = '</script><b>&amp; "it\'s" 喝水'
NAMES = [ODD, "walk & run", "sit <down>"]


@pytest.fixture
def plotly() -> None:
    """Skip where the extra `page` is not installed."""
    pytest.importorskip("plotly", reason="Plotly is not installed: pip install -e .[page]")


def people(num_body: int, num_frame: int, seed: int = 0, num_channel: int = 3) -> np.ndarray:
    """Tracks (M, T, V, C) of bodies that walk along x, as float32."""
    rng = np.random.default_rng(seed)
    pose = rng.uniform(0.1, 1.5, (num_body, 1, SKELETON.num_joint, num_channel))
    way = np.linspace(0, 1, num_frame)[None, :, None, None] * [1, 0, 0][:num_channel]
    return (pose + way + 0.02 * rng.standard_normal((num_body, num_frame, 1, 1))).astype(np.float32)


def outside_of_plotly(path: Path) -> str:
    """A page's text without Plotly's own script and without what is shown as text."""
    text = path.read_text("utf-8")
    for mark in ("plotly", "content"):
        begin = re.search(rf'<script[^>]* ?id="{mark}">', text)
        assert begin is not None
        text = text[: begin.end()] + text[text.index("</script>", begin.end()) :]
    return text


@pytest.mark.parametrize(
    ("scale", "step"), [(1.0, 1e-3), (1e-3, None), (1000.0, None)], ids=["metres", "tiny", "pixels"]
)
def test_numbers_come_back_to_within_half_a_step(scale: float, step: float | None) -> None:
    values = scale * np.random.default_rng(0).standard_normal((5, 2, 4, 3))
    there = np.random.default_rng(1).random((5, 2, 4)) < 0.8
    coded = encode(values, there, 1e-3)
    assert step is None or coded["step"] == step
    found = decode(coded)
    assert np.isnan(found[~there]).all()
    assert np.abs(found - values)[there].max() <= 0.51 * coded["step"]
    assert coded["step"] <= max(1e-3, np.ptp(values[there]) / 60_000)
    np.testing.assert_array_equal(coded["low"], values[there].min(0))
    assert np.isnan(decode(encode(values, np.zeros_like(there), 1e-3))).all()


def test_clips_are_in_the_page_as_they_went_in(plotly: None, tmp_path: Path) -> None:
    tracks = people(2, 7)
    tracks[1, 3:] = 0
    confidence = np.random.default_rng(2).random((2, 7, 25))
    probability = np.random.default_rng(3).dirichlet([1, 1, 1], 7)
    clip = Shown(ODD, "喝水 & <i>", tracks, SKELETON, 30.0, confidence, probability, NAMES)
    flat = Shown("flat", "", people(1, 3, num_channel=2) * 100, SKELETON, None)
    figure = PageFigure("<Curves>", [{"type": "scatter", "x": [1, 2], "y": [3, 4], "name": "a"}], {})
    table = PageTable("<Table>", pd.DataFrame({"class": NAMES, "recall": [0.5, np.nan, 1]}))
    write_page(tmp_path / "a.html", ODD, [clip, flat], notes=["1 < 2"], figures=[figure], tables=[table])
    content = content_of(tmp_path / "a.html")
    first, second = content["clips"]
    assert (first["name"], first["title"], first["frame_rate"], first["every"]) == (
        ODD,
        "喝水 & <i>",
        30.0,
        1,
    )
    assert content["skeletons"][first["skeleton"]]["bones"] == [list(bone) for bone in SKELETON.bones]
    found = decode(first["positions"])
    expected = np.where((tracks != 0).any(-1, keepdims=True), tracks, np.nan).swapaxes(0, 1)
    np.testing.assert_allclose(found, expected, atol=6e-4)
    np.testing.assert_allclose(decode(first["confidence"])[..., 0], confidence.swapaxes(0, 1), atol=1e-4)
    order = [NAMES.index(name) for name in first["probability"]["classes"]]
    np.testing.assert_allclose(
        decode(first["probability"]["values"])[..., 0], probability[:, order], atol=1e-4
    )
    assert decode(second["positions"]).shape == (3, 1, 25, 2) and second["confidence"] is None
    assert content["figures"][0]["title"] == "<Curves>" and content["figures"][0]["data"][0]["y"] == [3, 4]
    text = outside_of_plotly(tmp_path / "a.html")
    assert "&lt;/script&gt;&lt;b&gt;&amp;amp;" in text and "<b>" not in text and "1 &lt; 2" in text
    assert text.count("<script") == text.count("</script>") == 3
    assert "sit &lt;down&gt;" in text and "0.500" in text and ">nan<" not in text.lower()


def test_nothing_is_loaded_from_outside(plotly: None, tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", "a", [Shown("a", "", people(1, 3), SKELETON, None)])
    text = outside_of_plotly(tmp_path / "a.html")
    assert not re.search(r"https?:|<link|<script[^>]*src|@import|url\(|<img|<iframe", text)
    assert "default-src 'none'" in text  # a browser would refuse


def test_a_page_of_twenty_clips_is_small_and_long_clips_lose_frames(plotly: None, tmp_path: Path) -> None:
    usual = [Shown(str(k), "", people(2, 100, k), SKELETON, 30.0) for k in range(18)]
    long = Shown(
        "long", "", people(1, 12_000), SKELETON, 30.0, probability=np.full((12_000, 2), 0.5), class_names="ab"
    )
    many = Shown("many", "", people(40, 300), SKELETON, 30.0)
    write_page(tmp_path / "a.html", "a", [*usual, long, many])
    assert (tmp_path / "a.html").stat().st_size < 10e6
    scenes = content_of(tmp_path / "a.html")["clips"]
    assert [scene["every"] for scene in scenes[:18]] == [1] * 18
    for scene, clip in zip(scenes[18:], (long, many), strict=True):
        found = decode(scene["positions"])
        assert scene["every"] > 1 and len(found) == -(-clip.tracks.shape[1] // scene["every"])
        np.testing.assert_allclose(found[1], clip.tracks[:, scene["every"]], atol=1e-3)
    alone = as_scenes([many])["clips"][0]
    assert alone["every"] == 1 and len(alone["positions"]["data"]) < BUDGET


def test_a_page_of_too_many_clips_is_refused(plotly: None, tmp_path: Path) -> None:
    clip = Shown("a", "", people(1, 1), SKELETON, None)
    with pytest.raises(ValueError, match=str(MOST_CLIPS + 1)):
        write_page(tmp_path / "a.html", "a", [clip] * (MOST_CLIPS + 1))


def test_without_plotly_its_name_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    np.save(tmp_path / "a.npy", people(1, 3))
    words = [str(tmp_path / "a.npy"), "--layout", "ntu-rgb+d", "--html", str(tmp_path / "a.html")]
    assert show.main(words) == 1
    assert report.main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("plotly") == 2 and "pip install -e .[page]" in said
    assert not (tmp_path / "a.html").exists()


def test_what_follows_is_beside_what_was_seen() -> None:
    tracks, future = people(2, 4), people(1, 3, 1)
    both, bodies = with_future(tracks, future)
    assert bodies == [SEEN, SEEN, PREDICTED]
    np.testing.assert_array_equal(both[:2, :4], tracks)
    np.testing.assert_array_equal(both[2:, 4:], future)
    assert not both[:2, 4:].any() and not both[2:, :4].any()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has scored 12 clips of a data file; clip 5 is worst, then 2."""
    folder = tmp_path_factory.mktemp("run")
    with PreparedWriter(
        folder / "clips.h5",
        skeleton=SKELETON,
        class_names=NAMES,
        frame_rate=30,
        bodies="as given",
        source="made up",
    ) as writer:
        for number in range(12):
            writer.append(f"<{number}>", number % 3, people(1, 10 + number, number))
        writer.finish({"xsub": {"train": [], "val": range(12)}})
    label = np.arange(12) % 3
    scores = 5.0 * np.eye(3)[label]
    scores[5] = [9, 0, -3]
    scores[2] = [0, 4, 1]
    names = np.array([f"<{number}>" for number in range(12)])
    arrays = {"name": names, "label": label, "scores": scores, "class_name": np.array(NAMES)}
    save_classification(folder, arrays)
    save_result(folder, {"top1": 10 / 12, "benchmark": "xsub"})
    metrics = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.5], "val_top1": [np.nan, 0.5]})
    metrics.to_csv(folder / "metrics.csv", index=False)
    config = f"data: {{path: {folder / 'clips.h5'}, layout: ntu-rgb+d}}\n"
    (folder / "config.yaml").write_text(config)
    return folder


def test_the_page_of_a_run_shows_its_figures_and_its_worst_clips(
    plotly: None, run_folder: Path, tmp_path: Path
) -> None:
    words = [str(run_folder), "--num_clip", "2", "--out"]
    assert report.main([*words, str(run_folder / "config.yaml" / "a.html")]) == 1  # a file for a folder
    assert report.main([*words, str(tmp_path / "new folder" / "a.html")]) == 0
    content = content_of(tmp_path / "new folder" / "a.html")
    assert [clip["name"] for clip in content["clips"]] == ["<5>", "<2>"]
    assert content["clips"][0]["title"].startswith(f"true: sit <down> 0.00; answers: {ODD} 1.00")
    np.testing.assert_allclose(decode(content["clips"][0]["positions"])[:, 0], people(1, 15, 5)[0], atol=6e-4)
    loss, accuracy, matrix = content["figures"]
    assert loss["data"][0]["y"] == [2.0, 1.5] and accuracy["data"][0]["y"] == [0.5]
    assert matrix["data"][0]["z"] == [[1, 0, 0], [0, 1, 0], [0.25, 0.25, 0.5]]
    text = outside_of_plotly(tmp_path / "new folder" / "a.html")
    assert "top1 0.8333, benchmark xsub" in text
    assert "walk &amp; run" in text and "&lt;5&gt;" in text


def test_poses_in_a_folder_of_arrays_are_those_of_the_run(
    plotly: None, run_folder: Path, tmp_path: Path
) -> None:
    for name in ("scores.npz", "config.yaml"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    poses = (
        np.random.default_rng(0).uniform(0.1, 0.9, (12, 3, 8, 25, 1)).astype(np.float32)
    )  # (N, C, T, V, M)
    folder = tmp_path / "xsub"
    folder.mkdir()
    for part in ("train", "val"):
        np.save(folder / f"{part}_data.npy", poses)
        names = [f"<{number}>" if part == "val" else f"train {number}" for number in range(12)]
        (folder / f"{part}_label.pkl").write_bytes(
            pickle.dumps((names, [number % 3 for number in range(12)]))
        )
    (tmp_path / "config.yaml").write_text(f"data: {{path: {folder}, layout: ntu-rgb+d, channels: xyc}}\n")
    assert report.main([str(tmp_path), "--num_clip", "1"]) == 0
    (clip,) = content_of(tmp_path / "report.html")["clips"]
    np.testing.assert_allclose(
        decode(clip["positions"])[:, 0], poses[5, :2, ..., 0].transpose(1, 2, 0), atol=6e-4
    )
    np.testing.assert_allclose(decode(clip["confidence"])[:, 0, :, 0], poses[5, 2, ..., 0], atol=1e-3)


def test_a_run_whose_data_is_gone_is_shown_without_poses(
    plotly: None, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("scores.npz", "config.yaml"):
        (copy / name).write_bytes((run_folder / name).read_bytes())
    config = copy / "config.yaml"
    for text, said in (
        (config.read_text().replace("clips.h5", "gone.h5"), "gone.h5 not found"),
        ("model: a\n", "names no data"),
    ):
        config.write_text(text)
        assert report.main([str(copy), "--overwrite"]) == 0
        printed = capsys.readouterr().out
        assert "No poses" in printed and said in printed
        assert content_of(copy / "report.html")["clips"] == []
        assert "No poses" in (page_text := outside_of_plotly(copy / "report.html")) and said in page_text
        assert "&lt;5&gt;" in page_text  # the clips are named
    assert report.main([str(copy)]) == 1  # the page is there


@pytest.mark.parametrize(
    "name", ["scores.npz", "metrics.csv", "result.json", "config.yaml", "predictions.npz"]
)
def test_damaged_files_of_a_run_are_named(
    plotly: None, run_folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ("config.yaml", "metrics.csv") if name == "predictions.npz" else ("scores.npz", "config.yaml")
    for each in kept:
        (tmp_path / each).write_bytes((run_folder / each).read_bytes())
    (tmp_path / name).write_bytes(b"" if name == "metrics.csv" else b"[1, {")
    assert report.main([str(tmp_path)]) == 1
    assert name in capsys.readouterr().err


def test_folders_without_a_run_are_refused(
    plotly: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert report.main([str(folder)]) == 1
        assert str(folder) in capsys.readouterr().err
    with pytest.raises(SystemExit):
        report.main([str(tmp_path), "--num_clip", "-1"])


def test_a_run_without_a_test_has_its_curves(plotly: None, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes((run_folder / "metrics.csv").read_bytes())
    assert report.main([str(tmp_path)]) == 0
    assert len(content_of(tmp_path / "report.html")["figures"]) == 2


def test_the_worst_clips_are_those_of_the_least_likely_true_class() -> None:
    scores = np.array([[0, 1.0], [3, 0], [0, 5]])
    probability = softmax(scores)
    np.testing.assert_allclose(probability[:, 1], 1 / (1 + np.exp(scores[:, 0] - scores[:, 1])))
    assert most_wrong(probability, np.array([0, 1, 1]), 2).tolist() == [1, 0]


def test_the_confusion_matrix_is_of_classes_that_occur() -> None:
    figure = confusion_figure(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 2]]), NAMES)
    assert figure.data[0]["z"] == [[0.75, 0.25], [0, 1]]
    assert len(figure.layout["xaxis"]["ticktext"]) == 2 and "<" not in figure.layout["xaxis"]["ticktext"][0]


def test_a_run_of_prediction_shows_true_poses_beside_predicted_ones(
    plotly: None, run_folder: Path, tmp_path: Path
) -> None:
    true = np.stack([people(1, 4, seed) for seed in range(3)])
    predicted = true + np.array([0.1, 0.3, 0.2], np.float32)[:, None, None, None, None] * [1, 0, 0]
    scored = np.ones(true.shape[:-1], bool)
    scored[1, 0, 2:] = False
    arrays = {
        "name": np.array(["a", "b", "c"]),
        "label": np.array([0, 1, 2]),
        "last": true[:, :, 0] - 0.01,
        "predicted": predicted,
        "true": true,
        "scored": scored,
    }
    np.testing.assert_allclose(mean_error(arrays), [0.1, 0.3, 0.2], rtol=1e-4)
    table = pd.DataFrame({"predictor": ["net"], "action": [OVERALL], "frames": [4], "mpjpe_mm": [200.0]})
    save_predictions(tmp_path, arrays, table, class_names=NAMES, skeleton=SKELETON)
    (tmp_path / "config.yaml").write_bytes((run_folder / "config.yaml").read_bytes())
    assert report.main([str(tmp_path), "--num_clip", "2"]) == 0
    content = content_of(tmp_path / "report.html")
    assert [clip["name"] for clip in content["clips"]] == ["b", "c"]
    first = content["clips"][0]
    assert first["bodies"] == ["true", "predicted"] and "300 mm" in first["title"]
    poses = decode(first["positions"])
    assert poses.shape == (5, 2, 25, 3)
    np.testing.assert_allclose(poses[0, 0], arrays["last"][1, 0], atol=6e-4)
    np.testing.assert_allclose(poses[1:3, 1], predicted[1, 0, :2], atol=6e-4)
    assert np.isnan(poses[3:]).all()  # not scored


CAMERA = "document.getElementById('scene')._fullLayout.scene._scene.getCamera().eye"
NOW = "document.getElementById('now').textContent"
# What the scene draws: places and colours of the ends of bones.
DRAWN = "(d => ({x: d.x, y: d.y, z: d.z, color: d.line.color}))(document.getElementById('scene').data[0])"


def click(thing: str) -> str:
    return f"document.querySelector({thing!r}).click()"


@pytest.mark.slow
def test_a_browser_plays_and_turns_clips(plotly: None, tmp_path: Path) -> None:
    probability = np.random.default_rng(0).dirichlet([1, 1, 1], 90)
    tracks = people(2, 90)
    solid = Shown(ODD, "喝水", tracks, SKELETON, 30.0, None, probability, NAMES)
    flat = Shown("flat", "", people(1, 3, num_channel=2) * [1, 100], SKELETON, None, np.zeros((1, 3, 25)))
    figure = confusion_figure(np.eye(3, dtype=int), NAMES)
    write_page(tmp_path / "a.html", "Ö <b>", [solid, flat], figures=[figure])
    with browser() as window:
        window.open(tmp_path / "a.html")
        assert window.value("document.querySelector('#clips button').firstChild.data") == ODD
        assert window.value(NOW) == "frame 0 of 90, 0.00 s"

        # The first bone's outer joint: depth, to the left, up are z, x and y.
        joint = SKELETON.bones[0][0]
        drawn = window.value(DRAWN)
        place = [drawn[axis][0] for axis in "xyz"]
        np.testing.assert_allclose(place, tracks[0, 0, joint, [2, 0, 1]], atol=6e-4)
        assert len([x for x in drawn["x"] if x is not None]) == 2 * 2 * len(SKELETON.bones)

        window.value(click("#play"))
        window.wait(f"!{NOW}.startsWith('frame 0 ')")
        assert window.value("document.getElementById('play').textContent") == "Stop"
        assert window.value(DRAWN)["y"] != drawn["y"]
        left, top, width, height = window.value(
            "(r => [r.x, r.y, r.width, r.height])(document.getElementById('scene').getBoundingClientRect())"
        )
        before = window.value(CAMERA)
        middle = left + width / 2, top + height / 2
        turned = f"(e => Math.hypot(e.x - {before['x']}, e.y - {before['y']}) > 0.3)({CAMERA})"
        for _ in range(20):  # a slow renderer may lose what comes while it draws
            window.drag(middle, (middle[0] + 150, middle[1]))
            if window.value(turned):
                break
            time.sleep(0.25)
        assert window.value(turned)
        window.value(click("#play"))
        stopped = window.value(NOW)
        assert window.value(f"new Promise(done => setTimeout(() => done({NOW}), 300))") == stopped
        frame = int(stopped.split()[1])
        mark = window.value("document.getElementById('timeline').layout.shapes[0].x0")
        assert mark == pytest.approx(frame / 30)

        window.value(
            "(s => { s.value = 45; s.dispatchEvent(new Event('input')); })(document.getElementById('frame'))"
        )
        assert window.value(NOW) == "frame 45 of 90, 1.50 s"
        np.testing.assert_allclose(window.value(DRAWN)["y"][0], tracks[0, 45, joint, 0], atol=6e-4)

        window.value(click("#clips li:nth-child(2) button"))
        window.wait(f"{NOW} === 'frame 0 of 3'")
        drawn = window.value(DRAWN)
        assert set(drawn["x"]) <= {0, None}  # flat; x to the right and y down, as seen from in front
        assert drawn["y"][0] == pytest.approx(-flat.tracks[0, 0, joint, 0], abs=1e-2)
        assert drawn["z"][0] == pytest.approx(-flat.tracks[0, 0, joint, 1], abs=1e-2)
        colours = np.array([re.findall(r"\d+", colour) for colour in drawn["color"]], int)
        assert (colours >= 215).all()  # nearly as white as the background
        assert window.value("document.getElementById('timeline').hidden")

        window.picture(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 10_000
        assert window.errors == []
        assert all(address.startswith(("file:", "data:", "blob:")) for address in window.requested)
