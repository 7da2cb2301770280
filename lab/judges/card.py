"""The card that lies beside a judge's weights: what it is, what made it, what it is worth and where it ends."""

import json
from pathlib import Path
from typing import Any

from lab.world.vocabulary import HELD_OUT_DEFECT

_TAUGHT = Path(__file__).parent / "taught.md"
"""What each judge was taught, under its name."""


def model_card(name: str, folder: Path, record: Path, measured: dict[str, Any]) -> str:
    """Return the card of a trained judge as Markdown."""
    trained = json.loads(record.read_text(encoding="utf-8"))
    settings = trained["runs"][-1]["settings"]
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    numbers = {key: value for key, value in measured.items() if isinstance(value, (int, float))}
    rows = "\n".join(f"| {key} | {value:.3f} |" for key, value in numbers.items())
    taught = _TAUGHT.read_text(encoding="utf-8").split(f"## {name}\n")[1].split("\n## ")[0].strip()
    spelled = ", ".join(f"{key} {value}" for key, value in settings.items())
    kept = trained["runs"][-1].get("kept_from_before", [])
    back = f" Of what the last run changed, {' and '.join(kept)} were put back as they had been." if kept else ""
    return f"""# Tiny {name}

{taught}

Never trained on: the defect "{HELD_OUT_DEFECT}", the held-out pairs of noun and colour, the seeds of other parts.
It knows the toy world alone: on any other picture its values mean nothing.

Made by `python -m lab train {name.replace("_", "-")}`; {trained["samples"]:,} pictures,
{trained["cpu_seconds"] / 60:.1f} CPU-minutes in {len(trained["runs"])} run(s). Settings: {spelled}.{back}
Weights: {size:.2f} MB, float16, Apache-2.0.

| on unseen test scenes | |
| --- | --- |
{rows}
"""
