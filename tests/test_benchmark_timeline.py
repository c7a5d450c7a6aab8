"""The measurement of long recordings: what it joins, and that streams and windows agree in it."""

from pathlib import Path

import numpy as np
import pytest

import main
from benchmarks import timeline
from feeder.feeder import Feeder
from feeder.prepared import open_prepared


def test_clips_are_joined_end_to_end(tiny_data) -> None:
    feeder = Feeder(tiny_data, "xsub", part="test", layout="ntu-rgb+d", num_class=4)
    tracks, label = timeline.join_clips(feeder, [3, 0, 2])
    prepared = open_prepared(tiny_data)
    first = 0
    for place in (3, 0, 2):
        clip = feeder.clips[place]
        num_frame, num_body = int(prepared.num_frame[clip]), int(prepared.num_body[clip])
        part = tracks[:, first : first + num_frame]
        expected = prepared.read(np.array([clip])).reshape(num_body, num_frame, 25, 3)
        np.testing.assert_array_equal(part[:num_body], expected)
        assert not part[num_body:].any()
        assert (label[first : first + num_frame] == feeder.label[place]).all()
        first += num_frame
    assert tracks.shape[1] == len(label) == first


@pytest.mark.usefixtures("few_blocks", "blank")
def test_the_command_measures_frames(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["recognition", "-c", str(tiny_config), "num_epoch=1", "optim.warmup_epoch=0"]) == 0
    weights = tiny_config.parent / "work" / "best.pt"
    words = ["--weights", str(weights), "--num_recording", "2", "--num_clip", "3", "--device", "cpu"]
    assert timeline.main(words) == 0
    said = capsys.readouterr().out
    assert "seed  1:" in said and "mean" in said and "difference" in said
