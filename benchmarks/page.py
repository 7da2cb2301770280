"""Write docs/benchmarks.md, and its pictures, from the results of all parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import BUSY, ROOT
from benchmarks.part import Curve, Part, Table

PAGE = ROOT / "docs" / "benchmarks.md"
LEAST = 0.95
"""Ratio below which ours is called slower than what it is compared with."""
INTRO = """# Benchmarks

What refining costs, what to expect, and what is slower than it could be. Costs are CPU seconds on one thread,
medians of several rounds; *faster* is the median of the rounds' ratios, both ways in turns in one process, with the
smallest and the largest round in brackets. Trust the ratios more than the seconds. Most parts use the bundled toy
pipeline, whose denoiser is so small that everything around it weighs more than it does with SDXL; "Real sizes" has
SDXL's shape.

- **A picture that needs nothing** costs the two maps and no step of the denoiser.
- **A repair** costs in proportion to the crops that are redrawn: `exact` redraws them alone, `paper` also goes over
  the whole picture in its second stage. Several pictures in one call share fixed cost.
- **The guard** judges the whole picture six times (before, three invisible changes, one or two results) and each of
  several regions once, in its surroundings where a judge can. Its cost is that of its judges. Of MDIQA it asks the
  five technical dimensions, of pictures that are brought down to a shorter side of 512. `guard=False` saves it.
- **The first picture** waits for torch, diffusers and transformers to load, which is most of a short call: give many
  pictures to one call or one folder.

`python -m benchmarks.run` measures all of this and writes the page; `--only NAME` measures one part again, `--quick`
takes fewer rounds and smaller pictures, `--device cuda` measures the real sizes on a GPU. No test asserts a time.
"""


def write_page(parts: Sequence[Part], page: Path = PAGE) -> None:
    """Write the page and one picture per curve."""
    page.parent.mkdir(parents=True, exist_ok=True)
    pictures = page.parent / "img"
    lines = [INTRO, *slow(parts)]
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


def slow(parts: Sequence[Part]) -> list[str]:
    """Return what falls short of its aim, or is slower than what it is compared with."""
    rows = [(part.title, row) for part in parts for row in part.rows if row["met"] is False or row["ratio"] < LEAST]
    lines = [
        "## Slower than it could be",
        "",
        "| part | what | against | faster | aim |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for title, row in rows:
        aim = "" if row["target"] is None else f"{row['target']:g} x"
        lines.append(f"| {title} | {row['what']} | {row['against']} | {row['ratio']:.2f} x | {aim} |")
    return lines if rows else []


def compared_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return comparisons as a Markdown table."""
    facts = list(dict.fromkeys(name for row in rows for name in row["facts"]))
    aimed = any(row["target"] is not None for row in rows)
    head = ["what", "against", "ours s", "theirs s", "faster", *(["aim"] if aimed else []), *facts]
    lines = [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
    for row in rows:
        spread = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        cells = [row["what"], row["against"], number(row["ours"]), number(row["other"]), spread]
        if aimed:
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
