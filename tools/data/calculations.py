"""Calculations as records, to try orders of digits on: sums so far, another base, dates.

    python -m tools.data.calculations --task running_totals --out train.jsonl --test test.jsonl

    running_totals   {"source": {"digits": "314159"}, "target": {"totals": "348943"}}
    base_conversion  {"source": {"decimal": "4821"}, "target": {"hexadecimal": "12d5"}}
    dates            {"source": {"date": "240229", "days": "366"}, "target": {"after": "250301"}}

Totals are the sums of the digits up to each place, modulo 10: natural order is the easy one, since
each total follows from the one before it and one digit. A hexadecimal number's last digit rests on
all decimal ones, as its first does. Dates are year, month and day from 2000 on, and the day so many
days later, before 2100. With `kind: string` each digit is a unit.

Examples are distinct. With --test, that file gets examples of its own, none of which is in --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import accumulate

import numpy as np

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text
from tools.data.debtags import positive
from tools.data.sides import add_files, in_words, write_sides

Record = dict[str, dict[str, str]]
LENGTH = 6
FIRST, DAYS, LATER = date(2000, 1, 1), 36_525, 1_000
"""Days of the century from FIRST on, and how many of them a date may be moved by, less one."""


def running_totals(number: int) -> Record:
    """The digits of `number`, and their sums so far modulo 10."""
    digits = f"{number:0{LENGTH}d}"
    totals = accumulate(map(int, digits))
    return {
        "source": {"digits": digits},
        "target": {"totals": "".join(str(total % 10) for total in totals)},
    }


def base_conversion(number: int) -> Record:
    """`number` with the base 10 and the base 16, four digits each."""
    return {"source": {"decimal": f"{number:04d}"}, "target": {"hexadecimal": f"{number:04x}"}}


def dates(number: int) -> Record:
    """A day, and the day some days later, years without their century."""
    begin, days = divmod(number, LATER)
    day = FIRST + timedelta(days=begin)
    return {
        "source": {"date": f"{day:%y%m%d}", "days": f"{days:03d}"},
        "target": {"after": f"{day + timedelta(days=days):%y%m%d}"},
    }


@dataclass(frozen=True)
class Calculation:
    """Records by number.

    Attributes:
        record: the record of a number.
        numbers: there are.
        examples: of --out, if nobody says.
    """

    record: Callable[[int], Record]
    numbers: int
    examples: int


CALCULATIONS = {
    "running_totals": Calculation(running_totals, 10**LENGTH, 50_000),
    "base_conversion": Calculation(base_conversion, 10**4, 9_000),
    "dates": Calculation(dates, (DAYS - LATER + 1) * LATER, 50_000),
}


def drawn(task: str, count: int, seed: int) -> Iterator[Record]:
    """`count` records, no two of which are the same.

    Raises:
        UserError: there are not as many.
    """
    calculation = CALCULATIONS[task]
    if count > calculation.numbers:
        raise UserError(
            f"--task {task} has {calculation.numbers:,} records, found {count:,} asked for; lower "
            "--examples or --test-examples"
        )
    random = np.random.default_rng(seed)
    for number in random.choice(calculation.numbers, count, replace=False):
        yield calculation.record(int(number))


def main(argv: Sequence[str] | None = None) -> int:
    """Make the files and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.data.calculations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--task", choices=sorted(CALCULATIONS), required=True)
    add_files(parser)
    usual = ", ".join(f"{known.examples} of {name}" for name, known in CALCULATIONS.items())
    add("--examples", type=positive, help=f"of --out ({usual})")
    add("--test-examples", type=positive, default=1000, help="of --test (1000)")
    add("--seed", type=int, default=0, help="of what is drawn (0)")
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    counts = options.examples or CALCULATIONS[options.task].examples, options.test_examples
    try:
        draw = partial(drawn, options.task, seed=options.seed)
        report = write_sides(draw, options.out, options.test, counts)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else in_words(report))
    return 0


if __name__ == "__main__":
    run_program(main)
