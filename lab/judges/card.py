"""The card that lies beside a judge's weights: what it is, what made it, what it is worth and where it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.world.vocabulary import HELD_OUT_DEFECT

_TAUGHT = {
    "mdiqa": (
        "Nine dimensions, each taught by a whole-image distortion of its own: brightness by wrong exposure, "
        "colorfulness by drained colours, contrast by flattening, noisiness by noise, sharpness by blur, color by a "
        "tint, composition by a tilted horizon, content by lost squares, light by one-sided lighting. The tilt, the "
        "squares and the lighting stand in for aesthetic judgements that a toy world does not have. Local defects "
        "count where they belong (blur: sharpness; noise and jpeg: noisiness; cast: color; warp: content; banding: "
        "the overall score alone). All nine heads, both trunks and the fusion are trained together; CLIP's ResNet "
        "stays as it was drawn and serves as a fixed projection. On further pictures, blurred or noisy in one place, "
        "the gradients of sharpness and noisiness are taught to point at the unspoilt picture (direction_ rows: "
        "cosines)."
    ),
    "lar_iqa": (
        "One score: the true quality of a scene under local defects and, in a few, of whole-image distortions. In "
        "training a layer that is thrown away afterwards also tells where the picture shows damage."
    ),
    "moe_agiqa": (
        "Two scores: the true quality of a scene, and how true its prompt is (worst phrase 0.7, mean 0.3; relations "
        "and counts are not judged). At training time layers that are thrown away afterwards also tell where damage "
        "shows, which things each cell shows, and from the tokens of each phrase whether it is met; the first "
        "pictures teach only the two former."
    ),
}


def model_card(name: str, folder: Path, record: Path, measured: dict[str, Any]) -> str:
    """Return the card of a trained judge as Markdown."""
    trained = json.loads(record.read_text(encoding="utf-8"))
    settings = trained["runs"][-1]["settings"]
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    numbers = {key: value for key, value in measured.items() if isinstance(value, (int, float))}
    rows = "\n".join(f"| {key} | {value:.3f} |" for key, value in numbers.items())
    spelled = ", ".join(f"{key} {value}" for key, value in settings.items())
    kept = trained["runs"][-1].get("kept_from_before", [])
    back = f" Of what the last run changed, {' and '.join(kept)} were put back as they had been." if kept else ""
    return f"""# Tiny {name}

{_TAUGHT[name]}

Never trained on: the defect "{HELD_OUT_DEFECT}", the held-out pairs of noun and colour, the seeds of other parts.
It knows the toy world alone: on any other picture its values mean nothing.

Made by `python -m lab train {name.replace("_", "-")}`; {trained["samples"]:,} pictures,
{trained["cpu_seconds"] / 60:.1f} CPU-minutes in {len(trained["runs"])} run(s). Settings: {spelled}.{back}
Weights: {size:.2f} MB, float16, Apache-2.0.

| on unseen test scenes | |
| --- | --- |
{rows}
"""
