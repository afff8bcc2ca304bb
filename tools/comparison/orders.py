"""Orders of a target's units as variants of a strategy: every one, or those that are listed."""

from __future__ import annotations

from itertools import permutations

from pretrain.config import Config
from pretrain.errors import ConfigError
from tools.comparison.variants import Variant

MOST_UNITS = 6
"""Units of which every order can be asked for: 720 orders."""


def parse_orders(text: str, config: Config) -> list[Variant]:
    """`all`, or `0321,3210`, as variants of strategy fixed; of 10 units and more, `0-10-2-...`.

    Args:
        text: what is asked for; `all` begins with natural order.
        config: its data is read to know the units.

    Raises:
        ConfigError: the task's targets have no units in one order, an order is no permutation of
            them or is there twice, or all orders of more than 6 units are asked for.
        UserError: data cannot be read.
    """
    data = config.data
    if "fixed" not in data.strategies:
        raise ConfigError(
            f"--orders {text}: data.task {data.task} has no units that all examples share; use "
            f"--strategies with some of {', '.join(data.strategies)}"
        )
    names = data.build(config).fitter.rule.unit_names
    units = len(names)
    if text.strip() == "all":
        if units > MOST_UNITS:
            raise ConfigError(
                f"--orders all: {units} units have more orders than can be trained, expected at "
                f"most {MOST_UNITS} units; list some, such as {_spelled(tuple(range(units)))}"
            )
        orders = list(permutations(range(units)))
    else:
        orders = [_order(item.strip(), names) for item in text.split(",") if item.strip()]
    if not orders:
        raise ConfigError(f"--orders {text!r} lists no order; use all, or such as 0321,3210")
    for order in orders:
        if orders.count(order) > 1:
            raise ConfigError(f"--orders: {_spelled(order)} is there twice; list each order once")
    return [Variant("fixed", (("fixed", list(order)),)) for order in orders]


def _order(item: str, names: tuple[str, ...]) -> tuple[int, ...]:
    parts = item.split("-") if "-" in item else list(item)
    order = tuple(int(part) if part.isdecimal() else -1 for part in parts)
    if sorted(order) != list(range(len(names))):
        natural = tuple(range(len(names)))
        raise ConfigError(
            f"--orders: {item} is not a permutation of the {len(names)} units "
            f"({', '.join(names)}); natural order is {_spelled(natural)}"
        )
    return order


def _spelled(order: tuple[int, ...]) -> str:
    return ("" if len(order) <= 10 else "-").join(str(unit) for unit in order)
