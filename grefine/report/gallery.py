"""The data of a report's gallery: pictures, maps and what is said of each image, in pages that the browser loads."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grefine.io.picture import printable
from grefine.io.run_files import LAYERS
from grefine.report.entry import ReportImage
from grefine.report.media import FOLDER, MediaStore, add_layer, add_picture
from grefine.types import AXES, MetricSpec

PAIR = ("before", "after")
"""Labels of a page with one method."""

PAGE_ROWS = 200
"""Images per data file of a large report."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What the images of a gallery can be sorted by."""

    metrics: tuple[str, ...]
    """In the order of the page."""
    axes: tuple[tuple[str, float, int], ...] = ()
    """Axis, noise of its judges, and the number of images that it was judged on."""
    bands: Mapping[str, float] = field(default_factory=dict)
    """Metric → the change that counts as none."""
    first: int = 1
    """Label of the method that is shown first."""


class Gallery:
    """Collects images one at a time; what each needs for sorting stays in memory, the rest where the pictures are."""

    def __init__(self, store: MediaStore, in_noise: bool = False) -> None:
        self.store = store
        self.in_noise = in_noise
        """Gains are told in units of each image's own noise."""
        self.kept: Counter[str] = Counter()
        """Images by decision, of the first method."""
        self._seen: list[tuple[ReportImage, ...]] = []
        self._chunks: list[list[dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, images: Sequence[ReportImage]) -> None:
        """Add one input with its output of every method."""
        if len(self) % PAGE_ROWS == 0:
            self._flush()
            self._chunks.append([])
        before, size = add_picture(self.store, images[0].before)
        made = [_made(self.store, image) for image in images]
        self._chunks[-1].append({"before": before, "size": size, "made": made})
        # Pictures and texts are stored already.
        stored = {"before": "", "after": "", "quality": None, "alignment": None, "mask": None, "prompt": ""}
        stored |= {"reason": "", "notes": ()}
        self._seen.append(tuple(replace(image, **stored) for image in images))
        self.kept[images[0].kept] += 1

    def data(self, labels: Sequence[str], specs: Mapping[str, MetricSpec], measures: Measures) -> dict[str, Any]:
        """Return what the page's script reads."""
        self._flush()
        return {
            "labels": list(labels),
            "first": measures.first,
            "inNoise": self.in_noise,
            "metrics": [
                {
                    "name": metric,
                    "lower": metric in specs and specs[metric].direction == "lower",
                    "loop": metric in specs and specs[metric].used_in_loop,
                    "band": measures.bands.get(metric, 0.0),
                }
                for metric in measures.metrics
            ],
            "axes": [{"name": name, "band": band, "n": count} for name, band, count in measures.axes],
            # What sorting and filtering need: name, group, and by method decisions, and gains by axis and metric.
            "index": [
                [
                    printable(images[0].name),
                    images[0].group,
                    [image.kept for image in images],
                    [_gains(image, measures.metrics, specs, self.in_noise) for image in images],
                ]
                for images in self._seen
            ],
            "rows": PAGE_ROWS,
            "folder": FOLDER,
            "media": self.store.data_uris(),
            "chunks": self._chunks if self.store.inline else None,
        }

    def _flush(self) -> None:
        """Once pictures lie beside the page, so does the data: every full chunk goes to its own file."""
        for number, chunk in enumerate(self._chunks):
            if chunk and not self.store.inline:
                self.store.put(f"page-{number}.js", f"grefinePage({number},{script_json(chunk)})\n".encode())
                chunk.clear()


def script_json(value: Any) -> str:
    """Return JSON that can stand inside a script element: no text in it can end the element or start markup."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def joined_emphasis(prompt: str, parts: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Return emphasis with neighbouring words of one weight as one part, so that a phrase reads as a phrase."""
    joined: list[tuple[int, int, float]] = []
    for start, end, weight in sorted(parts):
        if joined and joined[-1][2] == weight and not prompt[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], end, weight)
        else:
            joined.append((start, end, weight))
    return joined


def _made(store: MediaStore, image: ReportImage) -> dict[str, Any]:
    after, _ = add_picture(store, image.after)
    layers = {kind: add_layer(store, kind, value) for kind in LAYERS if (value := getattr(image, kind)) is not None}
    return {
        "after": after,
        "layers": layers,
        "prompt": image.prompt,
        "emphasis": joined_emphasis(image.prompt, image.emphasis),
        "reason": image.reason,
        "guarded": image.guarded,
        "scores": {name: [_finite(b), _finite(a)] for name, (b, a) in image.scores.items()},
        "noise": {name: _finite(band) for name, band in image.noise.items()},
        "notes": image.notes,
    }


def _gains(
    image: ReportImage, metrics: Sequence[str], specs: Mapping[str, MetricSpec], in_noise: bool
) -> list[float | None]:
    gains: list[float | None] = [_finite(image.gains.get(axis, math.nan)) for axis in AXES]
    for metric in metrics:
        before, after = image.scores.get(metric, (math.nan, math.nan))
        sign = -1 if metric in specs and specs[metric].direction == "lower" else 1
        gain = sign * (after - before)
        if in_noise and gain:
            # The guard counts in the same way, so that a judge without any noise divides by something.
            gain = gain / (image.noise[metric] + 1e-6) if metric in image.noise else math.nan
        gains.append(_finite(gain))
    return gains


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
