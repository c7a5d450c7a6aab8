"""The skeletons of data sets and pose estimators. Bones are listed here and nowhere else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from net.utils.skeleton import Skeleton, describe_skeleton
from torchlight.files import read_yaml


def _built_in(name: str, parents: Mapping[str, str], **more: Any) -> Skeleton:
    """A skeleton from {joint: parent}. Joints whose names differ only in `left` and `right` are its pairs."""
    pairs = [(joint, joint.replace("left", "right")) for joint in parents if "left" in joint]
    return describe_skeleton(name, list(parents), parents=list(parents.values()), pairs=pairs, **more)


_KINECT_LIMBS = {
    "left shoulder": "shoulder centre",
    "left elbow": "left shoulder",
    "left wrist": "left elbow",
    "left hand": "left wrist",
    "right shoulder": "shoulder centre",
    "right elbow": "right shoulder",
    "right wrist": "right elbow",
    "right hand": "right wrist",
    "left hip": "hip centre",
    "left knee": "left hip",
    "left ankle": "left knee",
    "left foot": "left ankle",
    "right hip": "hip centre",
    "right knee": "right hip",
    "right ankle": "right knee",
    "right foot": "right ankle",
}
_KINECT_V2_HANDS = {
    "left hand tip": "left thumb",
    "left thumb": "left hand",
    "right hand tip": "right thumb",
    "right thumb": "right hand",
}
_KINECT_LINES = {
    "spine": "spine",
    "torso": ("hip centre", "spine"),
    "shoulders": ("right shoulder", "left shoulder"),
}


def _cmu_leg(side: str) -> dict[str, str]:
    return {
        f"{side} leg root": "hip centre",
        f"{side} hip": f"{side} leg root",
        f"{side} knee": f"{side} hip",
        f"{side} ankle": f"{side} knee",
        f"{side} toe base": f"{side} ankle",
        f"{side} toe tip": f"{side} toe base",
    }


def _cmu_arm(side: str) -> dict[str, str]:
    return {
        f"{side} arm root": "thorax",
        f"{side} shoulder": f"{side} arm root",
        f"{side} elbow": f"{side} shoulder",
        f"{side} wrist": f"{side} elbow",
        f"{side} hand root": f"{side} wrist",
        f"{side} hand": f"{side} hand root",
        f"{side} hand tip": f"{side} hand",
        f"{side} thumb root": f"{side} wrist",
        f"{side} thumb": f"{side} thumb root",
    }


LAYOUTS: dict[str, Skeleton] = {
    skeleton.name: skeleton
    for skeleton in (
        _built_in(
            "ntu-rgb+d",
            {"hip centre": "spine", "spine": "shoulder centre", "neck": "shoulder centre", "head": "neck"}
            | _KINECT_LIMBS
            | {"shoulder centre": "shoulder centre"}
            | _KINECT_V2_HANDS,
            centre="shoulder centre",
            **_KINECT_LINES,
        ),
        _built_in(
            "ntu_edge",
            {"hip centre": "spine", "spine": "neck", "neck": "neck", "head": "neck"}
            | _KINECT_LIMBS
            | {"left shoulder": "spine", "right shoulder": "spine"}
            | _KINECT_V2_HANDS,
            centre="neck",
            **_KINECT_LINES,
        ),
        _built_in(
            "kinect-v1",
            {
                "hip centre": "spine",
                "spine": "shoulder centre",
                "shoulder centre": "shoulder centre",
                "head": "shoulder centre",
            }
            | _KINECT_LIMBS,
            centre="shoulder centre",
            **_KINECT_LINES,
        ),
        _built_in(
            "openpose",
            {
                "nose": "neck",
                "neck": "neck",
                "right shoulder": "neck",
                "right elbow": "right shoulder",
                "right wrist": "right elbow",
                "left shoulder": "neck",
                "left elbow": "left shoulder",
                "left wrist": "left elbow",
                "right hip": "right shoulder",
                "right knee": "right hip",
                "right ankle": "right knee",
                "left hip": "left shoulder",
                "left knee": "left hip",
                "left ankle": "left knee",
                "right eye": "nose",
                "left eye": "nose",
                "right ear": "right eye",
                "left ear": "left eye",
            },
            centre="neck",
            shoulders=("right shoulder", "left shoulder"),
        ),
        _built_in(
            "coco",
            {
                "nose": "nose",
                "left eye": "nose",
                "right eye": "nose",
                "left ear": "left eye",
                "right ear": "right eye",
                "left shoulder": "nose",
                "right shoulder": "nose",
                "left elbow": "left shoulder",
                "right elbow": "right shoulder",
                "left wrist": "left elbow",
                "right wrist": "right elbow",
                "left hip": "left shoulder",
                "right hip": "right shoulder",
                "left knee": "left hip",
                "right knee": "right hip",
                "left ankle": "left knee",
                "right ankle": "right knee",
            },
            centre="nose",
            shoulders=("right shoulder", "left shoulder"),
        ),
        _built_in(
            "body_25",
            {
                "nose": "neck",
                "neck": "neck",
                "right shoulder": "neck",
                "right elbow": "right shoulder",
                "right wrist": "right elbow",
                "left shoulder": "neck",
                "left elbow": "left shoulder",
                "left wrist": "left elbow",
                "mid hip": "neck",
                "right hip": "mid hip",
                "right knee": "right hip",
                "right ankle": "right knee",
                "left hip": "mid hip",
                "left knee": "left hip",
                "left ankle": "left knee",
                "right eye": "nose",
                "left eye": "nose",
                "right ear": "right eye",
                "left ear": "left eye",
                "left big toe": "left ankle",
                "left small toe": "left big toe",
                "left heel": "left ankle",
                "right big toe": "right ankle",
                "right small toe": "right big toe",
                "right heel": "right ankle",
            },
            centre="neck",
            torso=("mid hip", "neck"),
            shoulders=("right shoulder", "left shoulder"),
        ),
        _built_in(
            "body_25b",  # of OpenPose's newer model
            {
                "nose": "upper neck",
                "left eye": "nose",
                "right eye": "nose",
                "left ear": "left eye",
                "right ear": "right eye",
                "left shoulder": "upper neck",
                "right shoulder": "upper neck",
                "left elbow": "left shoulder",
                "right elbow": "right shoulder",
                "left wrist": "left elbow",
                "right wrist": "right elbow",
                "left hip": "left shoulder",
                "right hip": "right shoulder",
                "left knee": "left hip",
                "right knee": "right hip",
                "left ankle": "left knee",
                "right ankle": "right knee",
                "upper neck": "upper neck",
                "head top": "nose",
                "left big toe": "left ankle",
                "left small toe": "left big toe",
                "left heel": "left ankle",
                "right big toe": "right ankle",
                "right small toe": "right big toe",
                "right heel": "right ankle",
            },
            centre="upper neck",
            shoulders=("right shoulder", "left shoulder"),
        ),
        _built_in(
            "mediapipe",
            {
                "nose": "nose",
                "left eye inner": "nose",
                "left eye": "left eye inner",
                "left eye outer": "left eye",
                "right eye inner": "nose",
                "right eye": "right eye inner",
                "right eye outer": "right eye",
                "left ear": "left eye outer",
                "right ear": "right eye outer",
                "mouth left": "nose",
                "mouth right": "nose",
                "left shoulder": "nose",
                "right shoulder": "nose",
                "left elbow": "left shoulder",
                "right elbow": "right shoulder",
                "left wrist": "left elbow",
                "right wrist": "right elbow",
                "left pinky": "left wrist",
                "right pinky": "right wrist",
                "left index": "left wrist",
                "right index": "right wrist",
                "left thumb": "left wrist",
                "right thumb": "right wrist",
                "left hip": "left shoulder",
                "right hip": "right shoulder",
                "left knee": "left hip",
                "right knee": "right hip",
                "left ankle": "left knee",
                "right ankle": "right knee",
                "left heel": "left ankle",
                "right heel": "right ankle",
                "left foot index": "left heel",
                "right foot index": "right heel",
            },
            centre="nose",
            shoulders=("right shoulder", "left shoulder"),
        ),
        _built_in(
            "h36m",
            {
                "pelvis": "spine",
                "right hip": "pelvis",
                "right knee": "right hip",
                "right ankle": "right knee",
                "left hip": "pelvis",
                "left knee": "left hip",
                "left ankle": "left knee",
                "spine": "thorax",
                "thorax": "thorax",
                "neck": "thorax",
                "head": "neck",
                "left shoulder": "thorax",
                "left elbow": "left shoulder",
                "left wrist": "left elbow",
                "right shoulder": "thorax",
                "right elbow": "right shoulder",
                "right wrist": "right elbow",
            },
            centre="thorax",
            spine="spine",
            torso=("pelvis", "spine"),
            shoulders=("right shoulder", "left shoulder"),
        ),
        _built_in(
            "cmu",
            {"hip centre": "hip centre"}
            | _cmu_leg("left")
            | _cmu_leg("right")
            | {
                "trunk root": "hip centre",
                "spine": "trunk root",
                "thorax": "spine",
                "neck root": "thorax",
                "neck": "neck root",
                "head": "neck",
                "head top": "head",
            }
            | _cmu_arm("left")
            | _cmu_arm("right"),
            # The data has the hip centre at the origin. Poses centred on another joint would lose that one.
            centre="hip centre",
            torso=("hip centre", "spine"),
            shoulders=("right shoulder", "left shoulder"),
        ),
    )
}

# Joints that never move in the data of a layout. Published errors of prediction count them as predicted exactly.
CONSTANT_JOINTS: dict[str, tuple[str, ...]] = {
    "cmu": (
        "hip centre",
        "left leg root",
        "left hip",
        "right leg root",
        "right hip",
        "trunk root",
    )
}
# Joints that are always where another joint is. Published errors of prediction count them with the error of that one.
COPIED_JOINTS: dict[str, dict[str, str]] = {
    "cmu": {
        "neck root": "thorax",
        "left arm root": "thorax",
        "left hand root": "left wrist",
        "left thumb root": "left wrist",
        "right arm root": "thorax",
        "right hand root": "right wrist",
        "right thumb root": "right wrist",
    }
}


# Skeletons that `get_skeleton` gives instead of reading a layout's file.
_OVERRIDES: ContextVar[Mapping[str, Skeleton]] = ContextVar("_OVERRIDES", default=MappingProxyType({}))


@contextmanager
def override_layout(layout: str, skeleton: Skeleton) -> Iterator[None]:
    """Within this context `get_skeleton(layout)` gives `skeleton`, such as that of a checkpoint whose file is gone."""
    token = _OVERRIDES.set({layout: skeleton})
    try:
        yield
    finally:
        _OVERRIDES.reset(token)


def get_skeleton(layout: str | Skeleton) -> Skeleton:
    """The skeleton of a layout: a name of `LAYOUTS`, or the path of a YAML file that describes one.

    The file holds `joints` (names), `parents` (a name or index per joint; the parent of the root is the root) and
    `centre`. Optional keys are `name` (default: the file's name), `pairs` ([left, right] lists), `spine`,
    `torso` [lower, upper] and `shoulders` [right, left].

    Raises ValueError for an unknown name or a file that does not describe a skeleton, FileNotFoundError for a missing
    file.
    """
    if isinstance(layout, Skeleton):
        return layout
    if layout in (overrides := _OVERRIDES.get()):
        return overrides[layout]
    if layout in LAYOUTS:
        return LAYOUTS[layout]
    path = Path(layout)
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"unknown layout {layout!r}; give one of {', '.join(LAYOUTS)}, "
            "or the path of a .yaml file that describes a skeleton"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"layout file {layout!r} does not exist; known names are {', '.join(LAYOUTS)}"
        )
    fields = read_yaml(path, f"layout file {layout!r}")
    required = {"joints", "parents", "centre"}
    allowed = required | {"name", "pairs", "spine", "torso", "shoulders"}
    if not isinstance(fields, dict) or required - set(fields) or set(fields) - allowed:
        found = sorted(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise ValueError(
            f"layout file {layout!r} holds {found}; give the keys {sorted(required)} "
            f"and optionally {sorted(allowed - required)}"
        )
    for key in ("joints", "parents", "pairs"):
        if not isinstance(fields.get(key, []), list):
            raise ValueError(f"layout file {layout!r} has {key} {fields[key]!r}; give a list")
    return describe_skeleton(fields.pop("name", path.stem), fields.pop("joints"), **fields)
