"""One picture of how early each action is recognised, and how far its next poses are off.

    python main.py recognition -c config/nw_ucla/st_gcn.yaml observe_ratio='[0.1, 0.2, 0.4, 0.6, 0.8, 1.0]'
    python main.py prediction -c config/nw_ucla/predict_mixer.yaml
    python tools/foresight.py work_dir/nw_ucla/st_gcn/joint work_dir/nw_ucla/predict_mixer --out foresight

The first run is one of `recognition` with `observe_ratio`, the second one of `prediction`, of the same actions. `--out`
gets a table (CSV) and a picture. Its rows are the actions, those that are recognised early first. An action counts as
recognised at the first share of its clips at which its top-1 is nine tenths of that of whole clips. If the latter is 0,
it is never recognised, and comes last.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import pandas as pd

from feeder.prepared import refuse_existing
from processor.figures import draw_foresight
from processor.io import write_text
from processor.metrics import OVERALL
from processor.prediction_metrics import NETWORK
from torchlight.status import status_of

# Of the top-1 of whole clips.
RECOGNISED = 0.9


def read_table(run: Path, name: str, columns: Sequence[str], remedy: str) -> pd.DataFrame:
    """A table of a run.

    Raises:
        FileNotFoundError: the run has no such file.
        ValueError: the file has other columns.
    """
    path = run / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; {remedy}")
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"{path} is no table of a run ({error}); {remedy}") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; {remedy}")
    return table


def foresight(early: pd.DataFrame, late: pd.DataFrame) -> pd.DataFrame:
    """A row for each action of both tables, those recognised early first, and one for all.

    Args:
        early: columns `action`, `observed`, `top1`.
        late: columns `action`, `predictor`, `frames`, `mpjpe_mm`.

    Returns:
        Columns `recognised` (NaN for never), `seen <percent> %` with the top-1, and `<frames> ahead` with the error in
        mm; the index is the action.

    Raises:
        ValueError: no action is in both tables, or there is no top-1 of whole clips.
    """
    of_network = late[late["predictor"] == NETWORK]
    shares = early.pivot_table(index="action", columns="observed", values="top1")
    errors = of_network.pivot_table(index="action", columns="frames", values="mpjpe_mm")
    both = [action for action in shares.index if action in errors.index and action != OVERALL]
    if not both:
        raise ValueError(
            "the two runs have no action in common; give runs of one data set, with the same data.label_map"
        )
    if shares.columns[-1] != 1:
        raise ValueError(
            f"the last observe_ratio of the recognition is {shares.columns[-1]:g}; test it with whole clips, too: 1.0"
        )
    shares, errors = (table.loc[[*both, OVERALL]] for table in (shares, errors))
    final = shares[1.0]
    enough = shares.ge(RECOGNISED * final, axis=0)
    whole = pd.concat(
        [
            enough.idxmax(axis=1).where(final > 0).rename("recognised"),
            shares.rename(columns=lambda share: f"seen {100 * share:g} %"),
            errors.rename(columns=lambda frames: f"{frames} ahead"),
        ],
        axis=1,
    )
    order = whole.loc[both].sort_values(["recognised", whole.columns[1]], ascending=[True, False]).index
    return whole.loc[[*order, OVERALL]]


def write_foresight(recognition: Path, prediction: Path, out: Path, *, overwrite: bool) -> None:
    """Write OUT.csv and OUT.png."""
    csv, png = (out.with_name(f"{out.name}.{ending}") for ending in ("csv", "png"))
    for path in (csv, png):
        refuse_existing(path, overwrite=overwrite)
    early = read_table(
        recognition,
        "anticipation.csv",
        ("action", "observed", "top1"),
        "test the run with observe_ratio='[0.1, 0.5, 1.0]' and --phase test",
    )
    late = read_table(
        prediction,
        "mpjpe.csv",
        ("action", "predictor", "frames", "mpjpe_mm"),
        "name the folder of a run of prediction",
    )
    table = foresight(early, late)
    write_text(csv, table.to_csv())
    draw_foresight(table, png)
    print(f"{csv}, {png}")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 a run has not the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recognition", type=Path, metavar="RECOGNITION", help="folder of a run with anticipation.csv")
    add("prediction", type=Path, metavar="PREDICTION", help="folder of a run with mpjpe.csv")
    add(
        "--out", type=Path, required=True, metavar="NAME", help="of the table and the picture, without ending"
    )
    add("--overwrite", action="store_true", help="replace the table and the picture")
    args = parser.parse_args(argv)
    return status_of(
        lambda: write_foresight(args.recognition, args.prediction, args.out, overwrite=args.overwrite)
    )


if __name__ == "__main__":
    sys.exit(main())
