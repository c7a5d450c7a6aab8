"""Prepares data with your own source, a class in your package; see docs/extending.md.

    python data_gen/source_gen_preprocess.py mypackage.sensor.SensorSource folder=recordings --out data/my.h5

`key=value` are the arguments of the source, with values in YAML. Input that cannot be used is skipped and listed in
OUT.report.csv.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import yaml

from data_gen.prepare import run_preparation
from data_gen.report import parse_preparation, preparation_parser
from data_gen.sources.source import Source
from torchlight.build import build, import_class
from torchlight.config_layers import first_line


def argument(text: str) -> tuple[str, Any]:
    """Name and value of one `key=value`. Raises ArgumentTypeError for other text."""
    key, equals, value = text.partition("=")
    try:
        if equals:
            return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is no YAML: {first_line(error)}") from error
    raise argparse.ArgumentTypeError(f"{text!r} is no key=value")


def make_source(path: str, arguments: Sequence[tuple[str, Any]]) -> Source:
    """The source at a class path.

    Raises:
        ValueError: there is no source at this path, or its arguments are wrong; the message lists all problems.
    """
    cls = import_class(path, [path.partition(".")[0]])
    if not issubclass(cls, Source):
        raise ValueError(f"{path} is no {Source.__module__}.{Source.__name__}; see docs/extending.md")
    return build(cls, dict(arguments))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "that of the source")
    parser.add_argument(
        "source",
        metavar="CLASS",
        help="class path of the source; its package is next to main.py or on PYTHONPATH",
    )
    parser.add_argument(
        "arguments", nargs="*", type=argument, metavar="key=value", help="arguments of the source"
    )
    args = parse_preparation(parser, argv)
    return run_preparation(args, lambda: make_source(args.source, args.arguments))


if __name__ == "__main__":
    sys.exit(main())
