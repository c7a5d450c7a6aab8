"""Actions of synthetic people, as key poses of joint angles.

A pose gives the channels of `data_gen.kinematics` that differ from the neutral stance, in degrees (metres for
`hop`, `forward`, `sideways`). Prefixes of limbs: `main_` is the side that acts, the right one of a right-handed
person; `off_` is the other side; `both_` is both sides alike.
"""

from collections.abc import Mapping
from typing import NamedTuple

Pose = Mapping[str, float]


class Wave(NamedTuple):
    """A swing of `amplitude` about the pose, between two moments of the action (0 is its begin, 1 its end)."""

    channel: str
    amplitude: float
    hertz: tuple[float, float]
    begin: float
    end: float


class Part(NamedTuple):
    """The movement of one person: poses at moments of the action, plus swings.

    The first pose is held before the action, the last pose after it.
    """

    keys: tuple[tuple[float, Pose], ...]
    waves: tuple[Wave, ...] = ()


class Action(NamedTuple):
    """Duration (least and most seconds), movement of each person, and initial distance of two people (metres)."""

    seconds: tuple[float, float]
    part: Part
    partner: Part | None = None
    distance: float = 0.0


STANCE: Pose = {}
_AT_MOUTH = {"main_raise": 72, "main_open": 8, "main_twist": 38, "main_elbow": 124}
_BENT_DOWN = {"lean": 62, "bend": 25, "both_hip": 55, "both_knee": 60, "main_raise": 75, "main_elbow": 10}
_SEATED = {"lean": 8, "both_hip": 82, "both_knee": 84, "both_raise": 22, "both_elbow": 35}
_RISING = {"lean": 38, "both_hip": 72, "both_knee": 78, "both_raise": 35, "both_elbow": 25}
_WOUND_UP = {"main_raise": 105, "main_open": 85, "main_elbow": 95, "turn": -32, "lean": -6, "off_raise": 40}
_RELEASED = {"main_raise": 75, "main_open": 5, "main_elbow": 15, "turn": 22, "lean": 16, "off_raise": -15}
_PALMS = {"both_raise": 18, "both_open": 14, "both_twist": 33, "both_elbow": 97}
_HAND_UP = {"main_raise": 86, "main_open": 72, "main_twist": 5, "main_elbow": 100}
_KICKING = {"main_hip": 62, "main_knee": 8, "main_ankle": -25, "lean": -8, "off_raise": 35, "main_raise": -25}
_CROUCHED = {"lean": 32, "both_hip": 58, "both_knee": 82, "both_raise": -30}
_IN_THE_AIR = {"hop": 0.26, "both_raise": 60, "both_elbow": 25, "both_ankle": -35}
_POINTING = {"main_raise": 84, "main_open": 22, "main_elbow": 8, "look": -10}
_BOWED = {"lean": 42, "bend": 24, "nod": 18, "both_raise": 34}
_AT_BROW = {"main_raise": 100, "main_open": 52, "main_twist": 21, "main_elbow": 119}
_STEP = {"main_hip": 22, "main_knee": 26}
_HANDS_READY = {"both_raise": 10, "both_open": 6, "both_elbow": 128, "lean": -5}
_HANDS_OUT = {"both_raise": 72, "both_open": -4, "both_elbow": 20, "lean": 16, "forward": 0.18}
_STAGGERED = {
    "lean": -14,
    "both_raise": 38,
    "both_open": 40,
    "both_elbow": 30,
    "forward": -0.38,
    "main_hip": -18,
}
_ARMS_WIDE = {"both_raise": 62, "both_open": 45, "both_elbow": 45, "forward": 0.22}
_EMBRACED = {
    "both_raise": 58,
    "both_open": 18,
    "both_twist": 70,
    "both_elbow": 78,
    "lean": 9,
    "forward": 0.42,
}
_HAND_GIVEN = {
    "main_raise": 43,
    "main_open": -14,
    "main_twist": 22,
    "main_elbow": 24,
    "lean": 7,
    "forward": 0.08,
}
_GREETING = Part(
    ((0, STANCE), (0.3, _HAND_GIVEN), (0.75, _HAND_GIVEN), (1, STANCE)),
    (Wave("main_elbow", 11, (1.8, 3.0), 0.3, 0.75),),
)
_HUG = Part(
    (
        (0, STANCE),
        (0.15, {"both_raise": 20, "forward": 0.12, **_STEP}),
        (0.3, _ARMS_WIDE),
        (0.5, _EMBRACED),
        (0.8, _EMBRACED),
        (1, {"forward": 0.2}),
    )
)

# By the number of this action in NTU RGB+D.
ACTIONS: dict[int, Action] = {
    # drink water
    1: Action(
        (1.3, 2.1), Part(((0, STANCE), (0.3, _AT_MOUTH), (0.7, {**_AT_MOUTH, "nod": -14}), (1, STANCE)))
    ),
    # pick up
    6: Action(
        (1.1, 1.8),
        Part(((0, STANCE), (0.45, _BENT_DOWN), (0.6, _BENT_DOWN), (1, {"main_raise": 20, "main_elbow": 70}))),
    ),
    # throw
    7: Action(
        (1.1, 1.7), Part(((0, STANCE), (0.4, _WOUND_UP), (0.65, _RELEASED), (0.72, _RELEASED), (1, STANCE)))
    ),
    # sit down
    8: Action((1.0, 1.6), Part(((0, STANCE), (0.6, _RISING), (1, _SEATED)))),
    # stand up
    9: Action((1.0, 1.6), Part(((0, _SEATED), (0.4, _RISING), (1, STANCE)))),
    # clapping
    10: Action(
        (1.1, 2.1),
        Part(
            ((0, STANCE), (0.2, _PALMS), (0.8, _PALMS), (1, STANCE)),
            (Wave("both_twist", 17, (1.8, 3.4), 0.15, 0.85),),
        ),
    ),
    # hand waving
    23: Action(
        (1.2, 2.1),
        Part(
            ((0, STANCE), (0.22, _HAND_UP), (0.8, _HAND_UP), (1, STANCE)),
            (Wave("main_open", 10, (1.2, 2.1), 0.2, 0.82), Wave("main_elbow", 20, (1.2, 2.1), 0.2, 0.82)),
        ),
    ),
    # kicking something
    24: Action(
        (1.0, 1.6),
        Part(((0, STANCE), (0.38, {"main_hip": -24, "main_knee": 48}), (0.6, _KICKING), (1, STANCE))),
    ),
    # jump up
    27: Action(
        (1.3, 1.8),
        Part(
            (
                (0, STANCE),
                (0.3, _CROUCHED),
                (0.48, {"both_raise": 30}),
                (0.62, _IN_THE_AIR),
                (0.77, {"both_raise": 35}),
                (0.86, {"both_hip": 32, "both_knee": 48, "lean": 18}),
                (1, STANCE),
            )
        ),
    ),
    # pointing to something
    31: Action((1.1, 2.0), Part(((0, STANCE), (0.3, _POINTING), (0.72, _POINTING), (1, STANCE)))),
    # nod head / bow
    35: Action((1.1, 1.8), Part(((0, STANCE), (0.42, _BOWED), (0.6, _BOWED), (1, STANCE)))),
    # salute
    38: Action((1.1, 2.0), Part(((0, STANCE), (0.26, _AT_BROW), (0.74, _AT_BROW), (1, STANCE)))),
    # pushing other person
    52: Action(
        (0.9, 1.5),
        Part(
            ((0, STANCE), (0.32, _HANDS_READY), (0.52, _HANDS_OUT), (0.62, _HANDS_OUT), (1, {"forward": 0.1}))
        ),
        Part(((0, STANCE), (0.47, STANCE), (0.68, _STAGGERED), (1, {"forward": -0.36}))),
        0.8,
    ),
    # hugging other person
    55: Action((1.5, 2.3), _HUG, _HUG, 1.15),
    # handshaking
    58: Action((1.3, 2.1), _GREETING, _GREETING, 0.98),
}

# Small movements between actions, of any strength and with either side.
FIDGETS: tuple[Part, ...] = (
    Part(((0, STANCE), (0.5, {"main_elbow": 55, "main_twist": 40, "main_raise": 8}), (1, STANCE))),
    Part(((0, STANCE), (0.4, {"main_elbow": 70, "main_open": 45, "main_raise": 12, "nod": 15}), (1, STANCE))),
    Part(((0, STANCE), (0.5, {"tilt": 6, "sideways": 0.06, "main_knee": 18, "main_hip": 9}), (1, STANCE))),
    Part(((0, STANCE), (0.4, {"look": 40, "turn": 12}), (0.6, {"look": 35, "turn": 12}), (1, STANCE))),
    Part(((0, STANCE), (0.5, {"both_elbow": 60, "both_twist": 45}), (1, STANCE))),
    Part(((0, STANCE), (0.5, {"lean": 14, "bend": 8, "main_raise": 15}), (1, STANCE))),
    Part(((0, STANCE), (0.5, {"main_hip": 25, "main_knee": 40, "forward": 0.08}), (1, STANCE))),
    Part(
        (
            (0, STANCE),
            (0.5, {"both_raise": -18, "both_twist": -20, "both_elbow": 25, "bend": -6}),
            (1, STANCE),
        )
    ),
)
