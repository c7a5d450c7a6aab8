"""Synthetic people who perform the actions of `data_gen.actions`, with differences between people and takes.

T frames. World space: y up from the floor, z away from the middle camera, metres.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_gen.actions import ACTIONS, FIDGETS, Part, Pose
from data_gen.kinematics import BONE_GROUPS, CHANNELS, SHIFTS, SIDES, Body, forward_kinematics, rotation

FRAME_RATE = 30
Curves = dict[str, np.ndarray]

# Channels that change sign in a mirror.
_LATERAL = frozenset({"yaw", "turn", "tilt", "look", "sideways"})
# Angles (degrees) of a person's stance: mean and standard deviation over people.
_POSTURE = {
    "lean": (1, 2),
    "bend": (4, 4),
    "nod": (2, 5),
    "both_raise": (3, 4),
    "both_elbow": (14, 6),
    "both_twist": (10, 10),
    "both_hip_open": (4, 2),
    "both_knee": (3, 2),
}
# Angles (degrees) by which a person at rest sways.
_SWAY = {
    "yaw": 9,
    "lean": 2,
    "tilt": 2,
    "bend": 2,
    "turn": 4,
    "nod": 5,
    "look": 14,
    "both_raise": 4,
    "both_twist": 7,
    "both_elbow": 6,
    "both_wrist": 8,
    "both_hip": 2,
    "both_knee": 3,
}


@dataclass(frozen=True)
class Subject:
    """A person.

    lengths: scale of each group of bones.
    tempo: factor of the duration of actions; 1 is average.
    strength: factor of the size of gestures; 1 is average.
    posture: stance, in degrees.
    habit: seed of this person's variant of each action.
    """

    lengths: Mapping[str, float]
    tempo: float
    strength: float
    left_handed: bool
    posture: Pose
    habit: tuple[int, ...]


def draw_subject(number: int, seed: int) -> Subject:
    """The person with this number; the same in all clips of a seed."""
    generator = np.random.default_rng([seed, 0, number])
    height = np.clip(generator.normal(1, 0.06), 0.88, 1.12)
    return Subject(
        lengths={group: float(height * generator.normal(1, 0.04)) for group in BONE_GROUPS},
        tempo=float(np.exp(generator.normal(0, 0.15))),
        strength=float(generator.normal(1, 0.09)),
        left_handed=bool(generator.random() < 0.25),
        posture={name: float(generator.normal(*spread)) for name, spread in _POSTURE.items()},
        habit=(seed, 1, number),
    )


def perform(action: int, actors: tuple[Subject, Subject], generator: np.random.Generator) -> list[Body]:
    """The one or two bodies, in world space, in one take of an action; they rest before and after it.

    Args:
        action: a number of `ACTIONS`.
        actors: the person who acts, and the partner in actions of two people.
        generator: draws everything that differs between takes.
    """
    what = ACTIONS[action]
    seconds = generator.uniform(*what.seconds) * actors[0].tempo
    before, after = generator.uniform(0.1, 1.2, size=2)
    time = np.arange(round((before + seconds + after) * FRAME_RATE)) / FRAME_RATE
    moment = (time - before) / seconds
    facing = np.deg2rad(generator.uniform(-180, 180))
    if what.partner is None:
        body = _act(action, what.part, actors[0], moment, seconds, generator)
        return [_place(body, facing, generator.uniform(-0.3, 0.3, size=2))]

    # Two people face each other across the view.
    facing += generator.choice([-1, 1]) * np.pi / 2
    distance = what.distance * generator.normal(1, 0.05)
    bodies = []
    for part, actor, turn in zip((what.part, what.partner), actors, (facing, facing + np.pi), strict=True):
        body = _act(action, part, actor, moment - generator.normal(0, 0.03), seconds, generator)
        bodies.append(_place(body, turn, distance / 2 * np.array([np.sin(turn), np.cos(turn)])))
    return bodies


def _place(body: Body, facing: float, place: np.ndarray) -> Body:
    """The body rotated to `facing` (radians) and moved to `place` (2,), x and z."""
    turn = rotation(1, np.asarray(facing))
    return Body(body.position @ turn.T + np.array([place[0], 0.0, place[1]]), turn @ body.orientation)


def _act(
    action: int,
    part: Part,
    actor: Subject,
    moment: np.ndarray,
    seconds: float,
    generator: np.random.Generator,
) -> Body:
    """One person's body at the origin; `moment` (T,) is 0 at the begin of the action and 1 at its end."""
    other_hand = generator.random() < 0.3
    main = "left" if actor.left_handed != other_hand else "right"
    strength = actor.strength * generator.normal(1, 0.05)
    habit = np.random.default_rng([*actor.habit, action])
    action_curves = _play(part, main, moment, seconds, strength=strength, habit=habit, generator=generator)
    # Swaying and fidgeting fade while the action lasts.
    rest = 1 - 0.6 * np.interp(moment, [-0.15, 0.1, 0.9, 1.15], [0.0, 1.0, 1.0, 0.0])
    angle = {channel: np.zeros(len(moment)) for channel in CHANNELS}
    for curves, weight in (
        (action_curves, np.ones(len(moment))),
        (_sway(len(moment), generator), rest),
        (_fidget(len(moment), generator), rest),
    ):
        for channel, curve in curves.items():
            angle[channel] += curve * weight
    for channel, value in sided(actor.posture, main).items():
        angle[channel] += value
    radians = {channel: a if channel in SHIFTS else np.deg2rad(a) for channel, a in angle.items()}
    for side in SIDES:
        # Elbows and knees bend only one way.
        for hinge in (f"{side}_elbow", f"{side}_knee"):
            radians[hinge] = np.clip(radians[hinge], 0.0, 2.6)
    return forward_kinematics(radians, actor.lengths)


def _play(
    part: Part,
    main: str,
    moment: np.ndarray,
    seconds: float,
    *,
    strength: float,
    habit: np.random.Generator,
    generator: np.random.Generator,
) -> Curves:
    """Minimum-jerk curves between the poses of a part; each pose varies with the person's habit and at random.

    Minimum jerk is 10 s^3 - 15 s^4 + 6 s^5 (Flash and Hogan, 1985).
    """
    poses = [sided(pose, main) for _, pose in part.keys]
    channels = sorted(set().union(*poses))
    values = strength * np.array(
        [[pose.get(channel, 0.0) for channel in channels] for pose in poses]
    )  # (K, D)
    size = np.array(
        [{"hop": 0.0, "forward": 0.03, "sideways": 0.03}.get(channel, 5.0) for channel in channels]
    )
    values += size * (habit.standard_normal(values.shape) + 0.7 * generator.standard_normal(values.shape))

    gaps = np.diff([time for time, _ in part.keys])
    gaps *= np.exp(generator.normal(0, 0.15, size=len(gaps)))
    times = np.concatenate([[0.0], gaps.cumsum() / gaps.sum()])  # (K,)
    last = np.clip(np.searchsorted(times, moment, side="right") - 1, 0, len(times) - 2)  # (T,)
    way = np.clip((moment - times[last]) / (times[last + 1] - times[last]), 0, 1)
    way = (way**3 * (10 - 15 * way + 6 * way**2))[:, None]
    moves = values[last] * (1 - way) + values[last + 1] * way  # (T, D)
    curves: Curves = dict(zip(channels, moves.T, strict=True))

    speed, phase = generator.uniform(size=2)
    for wave in part.waves:
        hertz = wave.hertz[0] + speed * (wave.hertz[1] - wave.hertz[0])
        ramp = np.interp(moment, [wave.begin, wave.begin + 0.08, wave.end - 0.08, wave.end], [0, 1, 1, 0])
        swing = ramp * strength * np.sin(2 * np.pi * (hertz * moment * seconds + phase))
        for channel, amplitude in sided({wave.channel: wave.amplitude}, main).items():
            curves[channel] = curves[channel] + amplitude * swing
    return curves


def _sway(num_frame: int, generator: np.random.Generator) -> Curves:
    """Slow random swaying of a person at rest: (T,) per channel."""
    time = np.arange(num_frame) / FRAME_RATE
    curves = {}
    for channel, size in sided(_SWAY, "right").items():
        hertz, phase = generator.uniform(0.1, 0.7, size=(3, 1)), generator.uniform(size=(3, 1))
        curves[channel] = 0.6 * size * np.sin(2 * np.pi * (hertz * time + phase)).sum(axis=0)
    return curves


def _fidget(num_frame: int, generator: np.random.Generator) -> Curves:
    """Up to three small movements that are not part of the action: (T,) per channel."""
    curves: Curves = {}
    time = np.arange(num_frame) / FRAME_RATE
    for _ in range(generator.integers(0, 4)):
        part = FIDGETS[generator.integers(len(FIDGETS))]
        main, seconds = str(generator.choice(list(SIDES))), generator.uniform(0.7, 1.8)
        moment = (time - generator.uniform(-0.3, time[-1])) / seconds
        strength = generator.uniform(0.4, 1.1)
        moves = _play(part, main, moment, seconds, strength=strength, habit=generator, generator=generator)
        # The varied first and last poses are not exactly the stance, so fade the movement in and out.
        fade = np.interp(moment, [-0.2, 0.0, 1.0, 1.2], [0.0, 1.0, 1.0, 0.0])
        for channel, curve in moves.items():
            curves[channel] = curves.get(channel, 0.0) + curve * fade
    return curves


def sided(pose: Pose, main: str) -> dict[str, float]:
    """A pose with left and right channels, for a person who acts with the `main` side."""
    off = "left" if main == "right" else "right"
    sides = {"main": (main,), "off": (off,), "both": (off, main)}
    turned: dict[str, float] = {}
    for name, value in pose.items():
        prefix, _, rest = name.partition("_")
        if prefix in sides:
            turned.update({f"{side}_{rest}": value for side in sides[prefix]})
        else:
            turned[name] = -value if main == "left" and name in _LATERAL else value
    return turned
