"""The judges' model card."""

from collections.abc import Mapping
from pathlib import Path

from lab.bench_judges.networks import Judges

_CARD = Path(__file__).parent / "card.md"


def write_card(
    path: Path, judges: Judges, found: Mapping[str, float], made: Mapping[str, tuple[int, float]], seed: int
) -> None:
    """Write what the judges are, what made them and how well they judge."""
    sizes = {name: sum(p.numel() for p in getattr(judges, name).parameters()) for name in made}
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in found.items())
    parts = "\n".join(
        f"- `{name}.safetensors`: {sizes[name] / 1e6:.2f} M parameters, float16; {samples:,} pictures in "
        f"{seconds:.0f} CPU-seconds"
        for name, (samples, seconds) in made.items()
    )
    path.write_text(_CARD.read_text(encoding="utf-8").format(parts=parts, seed=seed, rows=rows), encoding="utf-8")
