"""A plan for people, in 80 columns, and for programs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pretrain.model.flops import FORMULA
from pretrain.planning.plan import Plan
from pretrain.planning.search import Search
from pretrain.planning.step_time import bubble_fraction

WIDTH = 80
LABEL = 13
STAGES_SHOWN = 8
MISSES_SHOWN = 3


def size(count: float) -> str:
    """Bytes in the largest binary unit of which there is about one."""
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= 0.97 * scale:
            return f"{count / scale:,.2f} {unit}"
    return f"{count:,.0f} B"


def seconds(value: float) -> str:
    """Seconds, or milliseconds where there are few."""
    return f"{value:,.2f} s" if value >= 1.0 else f"{1e3 * value:,.1f} ms"


def _wrap(text: str, first: str, rest: str) -> list[str]:
    """Lines of at most 80 columns that begin with `first` and then `rest`; a number stays with its
    unit, and a factor with the next one."""
    kept = re.sub(r"(?<=\d) (?=[KMGT]iB|B\b|m?s\b|%)|(?<=\w) (?=x )|(?<= x) ", "\xa0", text)
    lines = textwrap.wrap(
        kept, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
    return [line.replace("\xa0", " ") for line in lines]


def _entry(label: str, text: str) -> list[str]:
    """A labelled paragraph."""
    return _wrap(text, f"{label:<{LABEL}}", " " * LABEL)


def _amount(name: str, count: int, note: str) -> list[str]:
    """A named amount of bytes in a column, and a note beside it."""
    first = f"{'':{LABEL}}{name:<12}{size(count):>11}"
    return _wrap(note, f"{first}  ", " " * (LABEL + 25)) or [first]


def plan_lines(plan: Plan, limit: int | None = None) -> list[str]:
    """The plan as lines of 80 columns.

    Args:
        limit: bytes that a rank may use; None where it is not known.
    """
    layout, largest = plan.layout, plan.largest
    precision = layout.config.training.precision
    lines = _entry("layout", f"{layout.gpus:,} x {layout.device}: {layout.describe()}, {precision}")
    lines += _entry(
        "parameters",
        f"{plan.cost.parameters:,} in all, {largest.parameters:,} of the largest rank before ZeRO",
    )
    lines += _entry(
        "FLOPs/token", f"{plan.cost.flops_per_token:,} for a step's forward and backward pass"
    )
    lines += _entry("", f"= {FORMULA}")
    lines += _entry("tokens/step", f"{plan.tokens:,}")
    return [*lines, *_memory_lines(plan, limit), *_traffic_lines(plan), *_time_lines(plan)]


def _memory_lines(plan: Plan, limit: int | None) -> Iterator[str]:
    largest, layout = plan.largest, plan.layout
    stages = layout.parallel.pipeline
    where = f" of pipeline stage {largest.stage} (of 0 to {stages - 1})" if stages > 1 else ""
    yield from _entry("memory", f"one rank{where}, each part at its largest:")
    by_recompute = ", ".join(
        f"{name} {size(kept)}" for name, kept in plan.activations_by_recompute.items()
    )
    notes = {
        "activations": f"recompute {by_recompute}",
        "buckets": "DeepSpeed's reduction",
        "temporary": "gradients of one layer, logits, fp32 gradients",
    }
    for name, count in largest.parts.items():
        yield from _amount(name, count, notes.get(name, ""))
    moment = "backward pass" if largest.backward >= largest.step else "optimizer step"
    verdict = ""
    if limit is not None:
        verdict = f", {'fits' if largest.peak <= limit else 'does not fit'} in {size(limit)}"
    yield from _amount("peak", largest.peak, f"in the {moment}{verdict}")
    if stages > 1:
        shown = plan.stages[:STAGES_SHOWN]
        more = ", ..." if stages > STAGES_SHOWN else ""
        peaks = ", ".join(f"{memory.peak / 2**30:.2f}" for memory in shown)
        yield from _entry("", f"peaks by stage in GiB: {peaks}{more}")
    if largest.state.host:
        yield from _entry("host memory", f"{size(largest.state.host)} a rank (offload)")
    if plan.selector_bytes:
        yield from _entry(
            "selector", f"at most {size(plan.selector_bytes)} of the host on each rank that reads"
        )


def _traffic_lines(plan: Plan) -> Iterator[str]:
    yield from _entry("sent", "by one rank in one step; n tokens of a micro-batch, h hidden,")
    yield from _entry("", "w bytes of an element, P parameters of the rank")
    for name, flow in asdict(plan.traffic).items():
        if flow["sent"]:
            yield from _amount(name, flow["sent"], flow["formula"])
    if not any(flow["sent"] for flow in asdict(plan.traffic).values()):
        yield f"{'':{LABEL}}nothing: one rank"


def _time_lines(plan: Plan) -> Iterator[str]:
    p = plan.layout.parallel
    if p.pipeline > 1:
        yield from _entry(
            "bubble",
            f"{100 * bubble_fraction(plan.layout):.1f} % = (p - 1) / (m v + p - 1), p = "
            f"{p.pipeline} stages, m = {plan.layout.micro_batches} micro-batches, "
            f"v = {p.virtual_pipeline} chunks a stage",
        )
    time, machine = plan.time, plan.machine
    if time is None or machine is None:
        return
    parts = {
        "compute": time.compute,
        "bubble": time.bubble,
        "tensor": time.tensor,
        "pipeline": time.pipeline,
        "data": time.data,
    }
    spent = " + ".join(f"{name} {seconds(value)}" for name, value in parts.items() if value)
    yield from _entry("step", f"{seconds(time.total)} estimated = {spent}")
    yield from _entry(
        "",
        f"{plan.tokens / time.total:,.0f} tokens/s, model FLOPs {100 * time.mfu:.1f} % of "
        f"{machine.peak / 1e12:,.0f} TFLOP/s",
    )
    yield from _entry(
        "assumed",
        f"{machine.device}: {100 * machine.mfu:.0f} % of the peak within a device, "
        f"{machine.link / 1e9:,.0f} GB/s within {machine.node} devices, "
        f"{machine.network / 1e9:,.0f} GB/s beyond",
    )


HEADER = (
    f"{'step':>9} {'peak':>10} {'TP':>5} {'PP':>6} {'DP':>5} {'ZeRO':>4}"
    f" {'micro-batch':>12} {'recompute':>10} {'MFU':>6}"
)


def _row(plan: Plan) -> str:
    layout, p, time = plan.layout, plan.layout.parallel, plan.time
    assert time is not None
    tensor = f"{p.tensor}{'+SP' if p.sequence_parallel else ''}"
    pipeline = f"{p.pipeline}{f'x{p.virtual_pipeline}' if p.virtual_pipeline > 1 else ''}"
    return (
        f"{seconds(time.total):>9} {size(plan.largest.peak):>10} {tensor:>5} {pipeline:>6}"
        f" {layout.data_parallel:>5,} {layout.stage:>4}"
        f" {f'{layout.micro_batch} x {layout.micro_batches}':>12}"
        f" {layout.config.training.recompute:>10} {100 * time.mfu:>4.1f} %"
    )


def search_lines(found: Search, shown: int) -> list[str]:
    """What was found: layouts that fit, near misses and why, and what the rules refuse."""
    lines = [
        f"{found.fit:,} of {found.tried:,} combinations fit in {size(found.limit)} a rank; "
        "best first"
    ]
    if found.fitting:
        lines += [HEADER, "-" * len(HEADER), *map(_row, found.fitting[:shown])]
        lines.append("PP 4x2: 4 stages of 2 chunks; micro-batch 2 x 8: 8 of 2 sequences each")
    if found.misses:
        faster = "that would be faster " if found.fitting else ""
        lines += ["", f"nearest {faster}and do not fit"]
        for plan in found.misses[:MISSES_SHOWN]:
            lines += _miss(plan, found.limit)
    if found.refused:
        lines += ["", "refused by a rule"]
        for count, message in found.refused:
            lines += _wrap(message, f"{count:>7,}  ", " " * 9)
    return lines


def _miss(plan: Plan, limit: int) -> list[str]:
    peak = plan.largest.peak
    parts = sorted(plan.largest.parts.items(), key=lambda part: -part[1])[:3]
    most = ", ".join(f"{name} {size(count)}" for name, count in parts)
    return _wrap(
        f"{size(peak)}, {size(peak - limit)} too much: {plan.layout.describe()}; {most}",
        "  ",
        "    ",
    )


def plan_values(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values; sizes in bytes, times in seconds."""
    layout, time = plan.layout, plan.time
    return {
        "layout": layout.describe(),
        "gpus": layout.gpus,
        "parallel": layout.parallel.model_dump(mode="json"),
        "data_parallel": layout.data_parallel,
        "zero_stage": layout.stage,
        "micro_batch": layout.micro_batch,
        "micro_batches": layout.micro_batches,
        "recompute": layout.config.training.recompute,
        "parameters": plan.cost.parameters,
        "flops_per_token": plan.cost.flops_per_token,
        "flops_formula": FORMULA,
        "tokens_per_step": plan.tokens,
        "memory": {
            "stage": plan.largest.stage,
            "parameters": plan.largest.parameters,
            **plan.largest.parts,
            "peak": plan.largest.peak,
            "activations_by_recompute": plan.activations_by_recompute,
            "selector_on_host": plan.selector_bytes,
            "offloaded_to_host": plan.largest.state.host,
            "peaks_by_stage": [memory.peak for memory in plan.stages],
        },
        "sent_per_step": asdict(plan.traffic),
        "bubble_fraction": bubble_fraction(layout),
        "step_seconds": None if time is None else {**asdict(time), "total": time.total},
        "machine": None if plan.machine is None else asdict(plan.machine),
    }


def search_values(found: Search, shown: int) -> dict[str, Any]:
    """What was found as JSON values."""
    return {
        "tried": found.tried,
        "fit": found.fit,
        "limit": found.limit,
        "fitting": [plan_values(plan) for plan in found.fitting[:shown]],
        "misses": [plan_values(plan) for plan in found.misses[:shown]],
        "refused": [{"count": count, "rule": rule} for count, rule in found.refused],
    }
