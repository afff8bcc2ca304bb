"""What all stages have found, for people, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.gpu.report import Options

Parts = Mapping[str, Any]


def summary(options: Options) -> str:
    """The whole summary: a section for each stage that has figures."""
    stages = ("start", "parity", "selection", "kernels", "speed", "memory")
    found = {name: options.read(name) for name in stages}
    parts = {name: values.get("parts", {}) for name, values in found.items()}
    environment = parts["start"].get("environment", {})
    packages = environment.get("packages", {})
    lines = [
        f"{environment.get('device', options.device)}, torch {packages.get('torch', '?')}, "
        f"Python {environment.get('python', '?')}"
        + (" (tiny shapes: the figures mean nothing)" if options.tiny else ""),
        "",
        "| stage | part | result |",
        "|---|---|---|",
    ]
    for name in ("start", "parity", "selection", "kernels"):
        for part, figures in parts[name].items():
            if part != "imports" or "error" in figures:
                lines.append(f"| {name} | {part} | {_said(name, part, figures)} |")
    if parts["speed"]:
        lines += ["", *speed_table(parts["speed"], parts["memory"])]
    notes = [f"{name}: {values['ended']}" for name, values in found.items() if "ended" in values]
    if missing := found["speed"].get("not_measured"):
        notes.append(f"speed: no time was left for {', '.join(missing)}")
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _said(stage: str, part: str, figures: Parts) -> str:
    if "error" in figures:
        return f"failed: {_cell(figures['error'])}"
    say = {
        "rates": _rates, "smoke": _smoke, "fp32": _compared, "bf16": _compared, "waits": _waits,
        "killed": _killed, "counting": _counting, "share": _share, "loss": _loss, "fp8": _fp8,
    }.get(part)  # fmt: skip
    if part.startswith("attention"):
        say = _attention
    if say is None:
        return f"ok, {figures.get('seconds', 0.0):.1f} s"
    return say(figures)


def _cell(text: str) -> str:
    """One line of at most 160 characters without the sign that ends a cell."""
    return text.replace("|", "/").replace("\n", " ")[-160:]


def _rates(f: Parts) -> str:
    return (
        f"bf16 product {f['bf16_flops'] / 1e12:,.1f} TFLOP/s (side {f['matrix_side']:,}), copy "
        f"{f['copy_bytes_per_second'] / 1e12:.2f} TB/s"
    )


def _smoke(f: Parts) -> str:
    known = f["reference"]
    return (
        f"exact match {f['exact_match']:.1%} after {f['steps']:,} steps, {f['train_seconds']:.0f} "
        f"s; CPU {known['exact_match']:.1%} ± {known['std']:.0%} after {known['steps']:,}"
    )


def _holds(f: Parts) -> str:
    return "holds" if f["holds"] else "**does not hold**"


def _compared(f: Parts) -> str:
    away = ", ".join(
        f"{name.replace('_', ' ')} {value:.1e} (limit {f['tolerances'][name]:.0e})"
        for name, value in f["away"].items()
    )
    return f"{_holds(f)}: away from the CPU by {away} over {f['steps']} steps"


def _waits(f: Parts) -> str:
    places = "; ".join(f"{count} x {place}" for place, count in f["waits"].items())
    return f"{_holds(f)}: {places or 'a step waits for nothing'}"


def _killed(f: Parts) -> str:
    same = "to the bit" if f["same_lines"] and f["same_tensors"] else "with other numbers"
    return f"{_holds(f)}: killed, went on from step {f['went_on_from_step']}, {same}"


def _counting(f: Parts) -> str:
    device = f.get("device_pairs_per_second")
    on_device = "" if device is None else f"; the device {device / 1e6:,.0f} million"
    return f"one CPU thread {f['cpu_pairs_per_second'] / 1e6:,.0f} million pairs/s{on_device}"


def _share(f: Parts) -> str:
    return (
        f"a step waits {f['selection_share']:.3%} of its time, "
        f"{f['selection_share_without_prefetch']:.1%} without prefetch"
    )


def _attention(f: Parts) -> str:
    ways = [
        f"{name} {value / 1e12:,.1f}" if isinstance(value, float) else f"{name}: no"
        for name, value in f.items()
        if name not in ("shape", "seconds")
    ]
    return f"TFLOP/s forward and backward: {', '.join(ways)}"


def _loss(f: Parts) -> str:
    ways = []
    for name, value in f.items():
        if isinstance(value, dict):
            held = "" if value["bytes"] is None else f", {value['bytes'] / 2**20:,.0f} MiB"
            ways.append(f"{name} {1000 * value['seconds']:.1f} ms{held}")
        elif isinstance(value, str):
            ways.append(f"{name}: {_cell(value)}")
    lacking = "" if f["torch has linear_cross_entropy"] else "; torch has none in chunks"
    return "; ".join(ways) + lacking


def _fp8(f: Parts) -> str:
    rate = f.get("fp8_flops")
    return f["said"] + ("" if rate is None else f"; {rate / 1e12:,.0f} TFLOP/s")


def speed_table(speed: Parts, memory: Parts) -> list[str]:
    """Every cell of `speed`, our tokens/s over the others', and the plan beside them."""
    lines = [
        "| size | sequence | side | micro-batch | tokens/s | MFU | peak | planned | step | planned "
        "| ours compiled / it |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    failed = []
    for name, figures in speed.items():
        if "error" in figures:
            failed.append(f"{name}: {_cell(figures['error'])}")
        if "step_seconds" in figures:
            lines.append(_row(figures, speed, memory.get(name, {})))
    return [*lines, *([""] if failed else []), *failed]


def _row(figures: Parts, speed: Parts, plan: Parts) -> str:
    ours = speed.get(f"{figures['size']}@{figures['sequence']} ours_compiled", {})
    ratio = ""
    if "tokens_per_second" in ours and not figures["side"].startswith("ours"):
        ratio = f"{ours['tokens_per_second'] / figures['tokens_per_second']:.3f}"
    mfu, held, away = figures["mfu"], figures["device_peak_mib"], plan.get("away")
    planned, step = plan.get("planned_mib"), plan.get("planned_step_seconds")
    cells = [
        figures["size"],
        f"{figures['sequence']:,}",
        figures["side"].replace("_", " "),
        str(figures["micro_batch"]),
        f"{figures['tokens_per_second']:,.0f}",
        "" if mfu is None else f"{mfu:.1%}",
        "" if held is None else f"{held / 1024:.1f} GiB",
        "" if planned is None or away is None else f"{planned / 1024:.1f} GiB ({away:+.0%})",
        f"{figures['step_seconds']:.3f} s",
        "" if step is None else f"{step:.3f} s",
        ratio,
    ]
    return f"| {' | '.join(cells)} |"
