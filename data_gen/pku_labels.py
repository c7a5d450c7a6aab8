"""Facts about PKU-MMD, parts I and II: action names, sequence names."""

import re

FRAME_RATE = 30.0
VIEWS = {"L": 1, "M": 2, "R": 3}  # left, middle, right
# Names in part II include the subject.
NAMES = {
    1: re.compile(r"(?P<sequence>\d{4})-(?P<view>[LMR])"),
    2: re.compile(r"A(?P<sequence>\d\d)N(?P<subject>\d\d)-(?P<view>[LMR])"),
}


def part_of(name: str) -> int | None:
    """Part of a sequence by its name, such as 0002-L (I) or A10N08-L (II); None for other names."""
    return next((part for part, pattern in NAMES.items() if pattern.fullmatch(name)), None)


def parse_name(name: str) -> dict[str, int]:
    """The numbers in a sequence's name: sequence and view, and in part II subject.

    Raises:
        ValueError: the name is not of that form.
    """
    part = part_of(name)
    match = part and NAMES[part].fullmatch(name)
    if not match:
        raise ValueError(f"{name!r} is not a sequence's name like 0002-L or A10N08-L")
    return {key: VIEWS.get(text) or int(text) for key, text in match.groupdict().items()}


# Part II uses the same numbers, but not all of them.
ACTIONS = tuple(
    """\
bow
brushing hair
brushing teeth
check time (from watch)
cheer up
clapping
cross hands in front (say stop)
drink water
drop
eat meal/snack
falling
giving something to other person
hand waving
handshaking
hopping (one foot jumping)
hugging other person
jump up
kicking other person
kicking something
make a phone call/answer phone
pat on back of other person
pickup
playing with phone/tablet
point finger at the other person
pointing to something with finger
punching/slapping other person
pushing other person
put on a hat/cap
put something inside pocket
reading
rub two hands together
salute
sitting down
standing up
take off a hat/cap
take off glasses
take off jacket
take out something from pocket
taking a selfie
tear up paper
throw
touch back (backache)
touch chest (stomachache/heart pain)
touch head (headache)
touch neck (neckache)
typing on a keyboard
use a fan (with hand or paper)/feeling warm
wear jacket
wear on glasses
wipe face
writing
""".splitlines()
)
