"""Raw skeleton files for tests: a writer of made-up ones, and a textbook reader."""

import numpy as np

Frames = list[list[tuple[str, np.ndarray]]]  # per frame, per body: its id and the (25, 3) coordinates


def make_frames(
    generator: np.random.Generator, num_body: list[int], ids: tuple[str, ...] = tuple("123456")
) -> Frames:
    """Random bodies; slot m of each frame has the m-th id."""
    return [
        [(ids[slot], generator.normal(size=(25, 3)).astype(np.float32)) for slot in range(bodies)]
        for bodies in num_body
    ]


def to_text(frames: Frames, *, end: str = "\n", form: str = "{:.7g}") -> bytes:
    """Frames in the format of the raw files."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for name, joints in bodies:
            lines += [f"{name} 0 1 1 1 1 0 0.06527223 -0.2464331 2", "25"]
            for joint in joints.tolist():
                place = " ".join(form.format(value) for value in joint)
                lines.append(f"{place} 277.3628 185.499 1036.094 500.9217 0.1859628 -0.033 0.97 -0.0921 2")
    return (end.join(lines) + end).encode()


def textbook_read(data: bytes) -> Frames:
    """Line after line, number after number."""
    lines = iter(data.decode().splitlines())
    frames: Frames = []
    for _ in range(int(next(lines))):
        frames.append([])
        for _ in range(int(next(lines))):
            name = next(lines).split()[0]
            joints = [[float(word) for word in next(lines).split()[:3]] for _ in range(int(next(lines)))]
            frames[-1].append((name, np.array(joints, np.float32)))
    return frames
