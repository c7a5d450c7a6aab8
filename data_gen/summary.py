"""The summary that data_gen's commands print at their end."""

from collections.abc import Mapping, Sequence

from feeder.prepared import PARTS


def count_splits(
    splits: Mapping[str, Mapping[str, Sequence[int]]],
    official: Mapping[str, tuple[int, int]] = {},
) -> str:
    """A table of the numbers of clips per benchmark and part, with the `official` numbers of (train, val) if known."""
    width = max(map(len, ("split", *splits)))
    lines = [f"{'split':{width}}  part     clips" + ("  official" if official else "")]
    for benchmark, parts in splits.items():
        for part, index in zip(PARTS, range(len(PARTS)), strict=True):
            line = f"{benchmark:{width}}  {part:5} {len(parts[part]):8,}"
            known = benchmark in official
            lines.append(line + (f" {official[benchmark][index]:9,}" if known else ""))
    empty = [
        f"{benchmark} {part}" for benchmark, parts in splits.items() for part in PARTS if not len(parts[part])
    ]
    if empty:
        lines.append(f"without a clip, cannot be used: {', '.join(empty)}")
    return "\n".join(lines)
