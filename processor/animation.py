"""Animation of a recording: its skeletons, captions, and predicted poses.

T frames, P predicted frames, V joints, M bodies, C coordinates.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from net.utils.channels import joints_there
from net.utils.skeleton import Skeleton
from processor.bones import drawn_bones
from processor.displayed import PREDICTED, SEEN
from processor.figures import orient, picture_plane, plane_of
from torchlight.files import naming

# Largest number of pictures a second.
MAX_RATE = 15.0
# Largest number of pictures in all; of a longer recording, frames are skipped.
MAX_PICTURES = 300
# Empty border on every side, as a share of the larger extent of the poses.
MARGIN = 0.08


class _GifWriter(PillowWriter):
    """GIF writer that rounds durations to the format's 1/100 s so that the errors do not add up."""

    def finish(self) -> None:
        """Write the file."""
        first, *others = self._frames  # type: ignore[attr-defined]
        ends = (np.arange(len(self._frames) + 1) * 100 / self.fps).round()  # type: ignore[attr-defined]
        durations = (10 * np.diff(ends)).astype(int).tolist()
        first.save(self.outfile, save_all=True, append_images=others, duration=durations, loop=0)


def animate(
    tracks: np.ndarray,
    skeleton: Skeleton,
    captions: Sequence[str],
    path: Path,
    *,
    frame_rate: float | None,
    future: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    up: int | None = None,
) -> list[Path]:
    """Write a GIF and, where ffmpeg is installed, an MP4 of the same name; returns the paths.

    Args:
        tracks: (M, T, V, C); a joint at 0 is not drawn.
        skeleton: defines the bones.
        captions: T + P titles, one for each frame.
        path: of the GIF.
        frame_rate: frames a second; None for 30.
        future: (M, P, V, C), predicted poses; observed and predicted poses then have one colour each.
        confidence: (M, T, V), 0 to 1; bones of low confidence are faint.
        up: the coordinate that points up; None for the one along which the first body's torso stands.
    """
    poses = tracks if future is None else np.concatenate((tracks[: len(future)], future), 1)
    num_seen, num_frame = tracks.shape[1], poses.shape[1]
    rate = 30.0 if frame_rate is None else frame_rate
    step = max(1, round(rate / MAX_RATE), -(-num_frame // MAX_PICTURES))
    shown = range(0, num_frame, step)
    plane = picture_plane(tracks[0], skeleton) if up is None else plane_of(up)
    there = joints_there(poses)
    figure = Figure(figsize=(4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    seen = poses[there][:, plane] if there.any() else np.zeros((1, 2))
    low, high = (bound(seen, axis=0) for bound in (np.min, np.max))
    margin = MARGIN * max((high - low).max(), 1e-6)
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    axes.set_aspect("equal")
    orient(axes, plane, tracks.shape[3])
    bones = LineCollection([], linewidths=2.5, capstyle="round")
    axes.add_collection(bones)
    title = axes.set_title(captions[0], fontsize=11)

    def draw(frame: int) -> list[object]:
        sure = confidence[:, frame] if confidence is not None and frame < num_seen else None
        ends, colours = drawn_bones(poses[:, frame][..., plane], there[:, frame], skeleton, sure)
        bones.set_segments(list(ends))
        if future is None:
            bones.set_color(colours.tolist())
        else:
            bones.set_color((SEEN if frame < num_seen else PREDICTED).colour)
        title.set_text(captions[frame])
        return [bones, title]

    film = FuncAnimation(figure, draw, frames=shown, interval=1000 * step / rate)  # type: ignore[arg-type]
    written = [path]
    with naming(path):
        film.save(str(path), _GifWriter(fps=rate / step), dpi=80)
    if shutil.which("ffmpeg"):
        written.append(path.with_suffix(".mp4"))
        with naming(written[-1]):
            film.save(str(written[-1]), FFMpegWriter(fps=rate / step), dpi=160)
    return written
