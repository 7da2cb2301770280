"""The judges' model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lab.bench_judges.networks import Judges


def write_card(
    path: Path,
    judges: Judges,
    found: Mapping[str, float],
    made: Mapping[str, tuple[int, float]],
    seed: int,
) -> None:
    """Write what the judges are, what made them and how well they judge."""
    sizes = {name: sum(p.numel() for p in getattr(judges, name).parameters()) for name in made}
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in found.items())
    parts = "\n".join(
        f"- `{name}.safetensors`: {sizes[name] / 1e6:.2f} M parameters, float16; {samples:,} pictures in "
        f"{seconds:.0f} CPU-seconds"
        for name, (samples, seconds) in made.items()
    )
    path.write_text(
        f"""---
license: apache-2.0
tags: [image-quality, toy-world]
---

# The judges of the toy world's benchmark

Two plain convolutional nets that decide whether a refinement helped. No pipeline loads them, no threshold is set with
them, and no scene that made a pipeline made them.

{parts}

`attributes` reads colour, thing (or none) and texture on a crop at a known place. `referee` looks at the whole
picture: kind of defect, thing, colour and texture of every 4x4 pixels; its first three layers measure how far apart
two pictures are.

Made by `python -m lab train judges --seed {seed}` from rendered scenes alone (no outside data). Half of
the pictures are softened, dimmed or grained a little, so that the judges read decoded pictures without having met a
decoder.

Own accuracy, measured by the same command on scenes of other seeds (`lab.bench_judges.check.check_judges`):

| quantity | value |
| --- | --- |
{rows}

`*_held_out`: scenes whose first object is a pair of thing and colour that no pipeline was trained on. `present` and
`absent`: the referee finds an asked thing anywhere in the picture, or rightly does not.

They know the toy world only and say nothing about any other picture.
""",
        encoding="utf-8",
    )
