"""Write docs/benchmarks.md, and its pictures, from the results of all parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import BUSY, ROOT
from benchmarks.part import Curve, Part, Table

PAGE = ROOT / "docs" / "benchmarks.md"
INTRO = """# Benchmarks

`python -m benchmarks.run` measures everything on this page and writes it; `--only NAME` measures one part again,
`--quick` takes fewer rounds and smaller pictures, `--device cuda` measures the real sizes on a GPU.

Both ways of a comparison run in one process, in turns, for several rounds. Costs are medians of CPU seconds on one
thread unless a line says otherwise, because wall times depend on what else the machine does. *Faster* is the median of
the rounds' ratios, with the smallest and the largest round in brackets. No test asserts a time.
"""


def write_page(parts: Sequence[Part], page: Path = PAGE) -> None:
    """Write the page and one picture per curve."""
    page.parent.mkdir(parents=True, exist_ok=True)
    pictures = page.parent / "img"
    lines = [INTRO, *promises(parts)]
    for part in parts:
        lines += ["", f"## {part.title}", "", part.says, "", _about(part)]
        if part.rows:
            lines += ["", *compared_table(part.rows)]
        for table in part.tables:
            lines += ["", *_plain_table(table)]
        for curve in part.curves:
            file = f"bench_{curve.name}.png"
            draw(curve, pictures / file)
            lines += ["", f"![{curve.title}](img/{file})"]
        lines += ["", *(f"- {note}" for note in part.notes)] if part.notes else []
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def promises(parts: Sequence[Part]) -> list[str]:
    """Return the table of what was promised, and whether it was kept."""
    rows = [(part, row) for part in parts for row in part.rows if row["target"] is not None]
    if not rows:
        return []
    lines = ["## What was promised", "", "| part | what | against | promised | measured | kept |"]
    lines.append("| --- | --- | --- | ---: | ---: | --- |")
    for part, row in rows:
        kept = "yes" if row["met"] else "**no**, see there"
        promised, measured = f"≥ {row['target']:g} x", f"{row['ratio']:.2f} x"
        lines.append(f"| {part.name} | {row['what']} | {row['against']} | {promised} | {measured} | {kept} |")
    return lines


def compared_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return comparisons as a Markdown table."""
    facts = list(dict.fromkeys(name for row in rows for name in row["facts"]))
    promised = any(row["target"] is not None for row in rows)
    head = ["what", "against", "ours s", "theirs s", "faster", *(["promised"] if promised else []), *facts]
    lines = [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
    for row in rows:
        spread = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        cells = [row["what"], row["against"], number(row["ours"]), number(row["other"]), spread]
        if promised:
            cells.append("" if row["target"] is None else f"≥ {row['target']:g}{'' if row['met'] else ', **missed**'}")
        cells += [number(row["facts"].get(name, "")) for name in facts]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def number(value: Any) -> str:
    """Return a number with three digits that matter, anything else as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"


def draw(curve: Curve, path: Path) -> None:
    """Draw cost against work."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(5.2, 3.3), layout="constrained")
    for name, points in curve.series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], "o-", label=name)
    for index, (name, level) in enumerate(curve.levels.items()):
        axes.axhline(level, color="grey", ls=("--", ":", "-.")[index % 3], label=name)
    if curve.log:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(0, None)
    axes.set(xlabel=curve.x, ylabel=curve.y, title=curve.title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _plain_table(table: Table) -> list[str]:
    lines = [f"{table.title}:", "", f"| {' | '.join(table.head)} |"]
    lines.append(f"| --- |{' ---: |' * (len(table.head) - 1)}")
    return lines + [f"| {' | '.join(number(cell) for cell in row)} |" for row in table.rows]


def _about(part: Part) -> str:
    about = part.about
    where = about.get("gpu") or about.get("cpu", "")
    text = f"{about.get('date', '')}: {where}, {about.get('cores')} cores, {about.get('threads')} thread(s), "
    text += f"torch {about.get('torch')}, measured in {about.get('seconds', 0):.0f} s"
    text += ", quick" if about.get("quick") else ""
    if about.get("load", 0) > BUSY:
        text += f"; the machine was busy (load {about['load']}), so trust ratios of CPU time only"
    return f"*{text}.*"
