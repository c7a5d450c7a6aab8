"""Facts about NTU RGB+D 60 and 120: action names, official splits, file names."""

import re
from dataclasses import dataclass

from feeder.arrays import NTU_NAME

FRAME_RATE = 30.0
NAME = re.compile(NTU_NAME)
KEYS = tuple(NAME.groupindex)


@dataclass(frozen=True)
class Split:
    """An official split: `key` of training clips is in `train`; `official` are the numbers of clips of (train, val)."""

    key: str
    train: frozenset[int]
    official: tuple[int, int]


@dataclass(frozen=True)
class DataSet:
    """NTU RGB+D 60 or 120, with actions 1 to `num_class` and setups 1 to `num_setup`."""

    num_class: int
    num_setup: int
    splits: dict[str, Split]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label; label = action - 1."""
        return ACTIONS[: self.num_class]

    def has(self, clip: dict[str, int]) -> bool:
        """Whether a clip with these numbers (see `parse_name`) belongs to the data set."""
        return clip["action"] <= self.num_class and clip["setup"] <= self.num_setup


SUBJECTS_60 = frozenset([1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38])
SUBJECTS_120 = SUBJECTS_60.union(
    [45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89],
    [91, 92, 93, 94, 95, 97, 98, 100, 103],
)
DATA_SETS = {
    "ntu60": DataSet(
        num_class=60,
        num_setup=17,
        splits={
            "xsub": Split("subject", SUBJECTS_60, official=(40091, 16487)),
            "xview": Split("camera", frozenset([2, 3]), official=(37646, 18932)),
        },
    ),
    "ntu120": DataSet(
        num_class=120,
        num_setup=32,
        splits={
            "xsub": Split("subject", SUBJECTS_120, official=(63026, 50919)),
            "xset": Split("setup", frozenset(range(2, 33, 2)), official=(54468, 59477)),
        },
    ),
}


def parse_name(name: str) -> dict[str, int]:
    """The numbers in a clip's name, such as S001C002P003R002A013, by `KEYS`.

    Raises:
        ValueError: the name is not of that form, or there is no such setup or action.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a clip's name like S001C002P003R002A013")
    numbers = dict(zip(KEYS, map(int, match.groups()), strict=True))
    largest = DATA_SETS["ntu120"]
    for key, most in (("setup", largest.num_setup), ("action", largest.num_class)):
        if not 1 <= numbers[key] <= most:
            raise ValueError(f"{name!r} is of {key} {numbers[key]}; there are 1 to {most}")
    return numbers


ACTIONS = tuple(
    """\
drink water
eat meal/snack
brushing teeth
brushing hair
drop
pickup
throw
sitting down
standing up
clapping
reading
writing
tear up paper
wear jacket
take off jacket
wear a shoe
take off a shoe
wear on glasses
take off glasses
put on a hat/cap
take off a hat/cap
cheer up
hand waving
kicking something
reach into pocket
hopping (one foot jumping)
jump up
make a phone call/answer phone
playing with phone/tablet
typing on a keyboard
pointing to something with finger
taking a selfie
check time (from watch)
rub two hands together
nod head/bow
shake head
wipe face
salute
put the palms together
cross hands in front (say stop)
sneeze/cough
staggering
falling
touch head (headache)
touch chest (stomachache/heart pain)
touch back (backache)
touch neck (neckache)
nausea or vomiting condition
use a fan (with hand or paper)/feeling warm
punching/slapping other person
kicking other person
pushing other person
pat on back of other person
point finger at the other person
hugging other person
giving something to other person
touch other person's pocket
handshaking
walking towards each other
walking apart from each other
put on headphone
take off headphone
shoot at the basket
bounce ball
tennis bat swing
juggling table tennis balls
hush (quiet)
flick hair
thumb up
thumb down
make ok sign
make victory sign
staple book
counting money
cutting nails
cutting paper (using scissors)
snapping fingers
open bottle
sniff (smell)
squat down
toss a coin
fold paper
ball up paper
play magic cube
apply cream on face
apply cream on hand back
put on bag
take off bag
put something into a bag
take something out of a bag
open a box
move heavy objects
shake fist
throw up cap/hat
hands up (both hands)
cross arms
arm circles
arm swings
running on the spot
butt kicks (kick backward)
cross toe touch
side kick
yawn
stretch oneself
blow nose
hit other person with something
wield knife towards other person
knock over other person (hit with body)
grab other person's stuff
shoot at other person with a gun
step on foot
high-five
cheers and drink
carry something with other person
take a photo of other person
follow other person
whisper in other person's ear
exchange things with other person
support somebody with hand
finger-guessing game (playing rock-paper-scissors)
""".splitlines()
)
