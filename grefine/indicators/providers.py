"""Maps from outside by name: other packages draw them, or a folder holds one for every picture."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.config import build
from grefine.errors import ConfigError, ImageError, nearest
from grefine.fetching import accepted_terms
from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibration import enough_for, needs_repair, set_gates
from grefine.indicators.heatmap import map_file, read_heatmap
from grefine.indicators.map_networks import network_map
from grefine.indicators.pq_map import PQMap
from grefine.io.atomic import write_text
from grefine.plugins import MAP_GROUPS, plugged_in
from grefine.resources import cache_folder
from grefine.types import AlignmentMap, Beside, MapSpec, ParsedPrompt, QualityMap

OWN = {"quality": "pq", "alignment": "aq"}
"""What our maps are called among several."""
WEIGHED = re.compile(r"(.*)\*\s*(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d\d?)?)")
"""A map with its weight, among several."""
SPOT = 0.002
"""Share of the pixels that may lie beyond the edge: a smaller place is not repaired either (`min_region_area`)."""


@dataclass(frozen=True, slots=True)
class Edge:
    """How bad a provider finds good pictures: beyond it its map is believed."""

    badness: float
    """1 - value that good pictures reach; 1: its map says nothing."""
    version: str = ""
    """Of the provider, as it was measured."""
    images: int = 0
    false_alarms: float = 0.0
    """Share of good pictures that may be beyond it."""
    held_out: float = 0.0
    """The same, counted on pictures that were left out."""


def _undrawn(*pictures: Sequence[Any]) -> Sequence[Any]:
    raise ConfigError(f"{' and '.join(OWN.values())} are a pipeline's own maps: they can only be drawn by a pipeline.")


@dataclass(frozen=True)
class Provider:
    """A map of another package, in 0..1, high is good, half the edge of what good pictures have; or several as one."""

    kind: str
    spec: MapSpec
    draw: Callable[..., Sequence[Any]] = _undrawn
    """From images (for alignment also their prompts) to `(H, W)` arrays."""
    edge: Edge | None = None
    parts: tuple["Provider", ...] = ()
    """What it is made of, where it is made of several."""
    weights: tuple[float, ...] = ()
    """Of each part; empty: the worst counts."""
    aq: AQMap | None = None
    """The pipeline's AQ-Map among the parts: what it says of phrases stays in the result."""

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt] | None = None
    ) -> list[QualityMap] | list[AlignmentMap]:
        """Return the maps of pictures; those of alignment ask for a repair below half, apart from what AQ-Map asks."""
        texts = None if prompts is None else [prompt.text for prompt in prompts]
        note = f"'{self.spec.name}' drew the alignment map."
        if self.aq is None or prompts is None:
            maps = [self.scaled(one) for one in self.values(images, texts)]
            if self.kind == "quality":
                return [QualityMap(one, spot_quality(one)) for one in maps]
            return [AlignmentMap((one >= 0.5).astype(np.float32), None, (), note) for one in maps]
        at = self.names.index(OWN[self.kind])
        parts, weights = (every[:at] + every[at + 1 :] for every in (self.parts, self.weights))
        share = self.weights[at] / sum(self.weights) if self.weights else None
        found = []
        drawn = replace(self, parts=parts, weights=weights).values(images, texts)
        for own, one in zip(self.aq(images, prompts), drawn, strict=True):
            beside = Beside(1.0 - one, share, self.aq.calibration.mask_threshold)
            said = " ".join(filter(None, (note, own.note)))
            found.append(replace(own, values=1.0 - beside.mixed(own.edit), beside=beside, note=said))
        return found

    def values(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[np.ndarray]:
        """Return what it drew, 0..1 and high is good; only parts are held against good pictures already."""
        if self.parts:
            drawn = zip(*([p.scaled(one) for one in p.values(images, prompts)] for p in self.parts), strict=True)
            if not self.weights:
                return [np.minimum.reduce(maps) for maps in drawn]
            return [np.average(maps, axis=0, weights=self.weights).astype(np.float32) for maps in drawn]
        given = self.draw(list(images)) if prompts is None else self.draw(list(images), list(prompts))
        whose, (low, high) = f"The {self.kind} map '{self.spec.name}'", self.spec.range
        if not hasattr(given, "__len__") or len(given) != len(images):
            raise ConfigError(f"{whose} must return a list with a map for each image.")
        maps = []
        for one, image in zip(given, images, strict=True):
            values = np.asarray(one, dtype=np.float32)
            if values.size and (values.min() < low or values.max() > high):
                least, most = values.min(), values.max()
                raise ImageError(f"{whose} ranges from {least:g} to {most:g}; it declares {low:g}..{high:g}.")
            values = read_heatmap((values - low) / (high - low), image.size)
            maps.append(1.0 - values if self.spec.high_is == "bad" else values)
        return maps

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Return a map of which half is the edge."""
        if self.edge is None:
            return values
        return 1.0 - np.interp(1.0 - values, [0.0, self.edge.badness, 1.0 + 1e-6], [0.0, 0.5, 1.0]).astype(np.float32)

    @property
    def names(self) -> list[str]:
        """Who draws."""
        return [part.spec.name for part in self.parts or (self,)]

    @property
    def foreign(self) -> list["Provider"]:
        """Who draws and is not ours; ours are measured with their pipeline."""
        return [part for part in self.parts if part.spec.name != OWN[self.kind]] if self.parts else [self]

    @property
    def unmeasured(self) -> list[str]:
        """Whose good pictures nobody looked at, so that it is believed from half on."""
        return [part.spec.name for part in self.foreign if part.edge is None]

    @property
    def told(self) -> str:
        """What is said of it on the page, and compared when a run goes on."""
        if self.parts:
            return f"{self.spec.name}: " + "; ".join(part.told for part in self.foreign)
        measured = f"good pictures reach {self.edge.badness:.3g}" if self.edge else "not measured on good pictures"
        return f"{self.spec.name} {self.spec.version}, {measured}"

    def with_own(self, pq: PQMap, aq: AQMap | None) -> "Provider":
        """Return it with the pipeline's own map in the place that is kept for it among the parts."""
        if not self.parts or OWN[self.kind] not in self.names:
            return self
        if self.kind == "alignment":
            if aq is None:
                raise ConfigError(f"The alignment map '{self.spec.name}' needs AQ-Map, and this pipeline has none.")
            return replace(self, aq=aq)
        found = pq.calibration

        def draw(images: Sequence[Image.Image]) -> list[np.ndarray]:
            maps = pq(images)  # a picture that the gates of PQ-Map leave alone has nothing bad for it
            return [one.values if needs_repair(one, None, found)[0] else np.ones_like(one.values) for one in maps]

        own = Provider("quality", MapSpec(OWN["quality"]), draw, Edge(found.mask_threshold))
        return replace(self, parts=tuple(one if one in self.foreign else own for one in self.parts))


def spot_quality(values: np.ndarray) -> float:
    """Return the quality that all but `SPOT` of the pixels reach: p of a map from outside."""
    flat = np.asarray(values, dtype=np.float32).ravel()
    count = int(SPOT * flat.size)
    return float(np.partition(flat, count)[count])


@dataclass(frozen=True)
class MapFolder:
    """A folder of maps that were made beforehand: name by name, in the tree of the pictures."""

    kind: str
    folder: Path


MapSource = Provider | MapFolder


def map_files(kind: str) -> dict[str, Any]:
    """Return the files of other packages' providers by the names in their SPECs; each has `load(device)`, too."""
    return plugged_in(MAP_GROUPS[kind], "map")


def open_source(kind: str, source: str | Path, device: str = "cpu", allow_noncommercial: bool = False) -> MapSource:
    """Return what `--quality-map SOURCE` or `--alignment-map SOURCE` means; `kind` is "quality" or "alignment"."""
    if Path(source).is_dir() and str(source) not in map_files(kind):
        return MapFolder(kind, Path(source))
    parts = [part.strip() for part in str(source).split(",")]
    if len(parts) == 1:
        return _open_provider(kind, parts[0], device, allow_noncommercial)
    split = [WEIGHED.fullmatch(part) or (part, part, "") for part in parts]
    weights = tuple(float(one[2]) for one in split if one[2])
    if weights and (len(weights) < len(parts) or min(weights) <= 0):
        raise ConfigError(f"--{kind}-map: in '{source}' every map needs a weight above 0, or none has one.")
    opened = tuple(_open_provider(kind, one[1].strip(), device, allow_noncommercial, True) for one in split)
    names = [part.spec.name for part in opened]
    if names.count(OWN[kind]) > 1:
        raise ConfigError(f"--{kind}-map: in '{source}' {OWN[kind]} stands once, beside others.")
    shown = [f"{weight:g} {name}" for weight, name in zip(weights, names, strict=True)] if weights else names
    judges = tuple(name for part in opened for name in (part.spec.name, *part.spec.judges))
    versions = "+".join(part.spec.version for part in opened)
    spec = MapSpec(f"{'mean' if weights else 'worst'} of {', '.join(shown)}", version=versions, judges=judges)
    return Provider(kind, spec, parts=opened, weights=weights)


def _open_provider(
    kind: str, name: str, device: str, allow_noncommercial: bool, beside_others: bool = False
) -> Provider:
    if beside_others and name == OWN[kind]:
        return Provider(kind, MapSpec(name))
    files = map_files(kind)
    file = files.get(name) or (network_map(name) if kind == "quality" else None)
    if file is None:
        what = "provider" if beside_others else "folder and no provider"
        known = ", ".join(files) or "none"
        raise ConfigError(f"--{kind}-map: '{name}' is no {what} (installed: {known}){nearest(name, files)}")
    spec, edge, kept = file.SPEC, None, edge_file(kind, file.SPEC)
    if spec.noncommercial and not (allow_noncommercial or accepted_terms(spec.name, spec.licence)):
        raise ConfigError(
            f"The {kind} map '{name}' runs under non-commercial terms ({spec.licence}); pass --allow-noncommercial if "
            f"yours is such a use, or once `grefine fetch {spec.name} --accept-terms`."
        )
    draw = file.load(device)
    if kept.is_file():
        try:
            edge = build(Edge, json.loads(kept.read_text(encoding="utf-8")), f"'{kept}'")
        except ValueError as error:
            raise ConfigError(f"Cannot read '{kept}' ({error}): delete it, or calibrate again.") from error
    return Provider(kind, spec, draw, edge if edge is not None and edge.version == spec.version else None)


def edge_file(kind: str, spec: MapSpec) -> Path:
    """Return where the edge of a provider is kept, which holds wherever the provider is named."""
    return cache_folder() / "maps" / kind / f"{Path(spec.name).name}.json"


def measure_provider(
    kind: str,
    name: str,
    images: Iterable[Image.Image],
    prompts: Sequence[str] | None = None,
    false_alarms: float = 0.03,
    device: str = "cpu",
    allow_noncommercial: bool = False,
) -> tuple[Edge, Path]:
    """Measure how bad a provider finds good pictures, which may stream: no worse elsewhere is not believed then."""
    provider = _open_provider(kind, name, device, allow_noncommercial)
    texts = repeat(None) if prompts is None else ([prompt] for prompt in prompts)
    found = [spot_quality(provider.values([image], text)[0]) for image, text in zip(images, texts, strict=False)]
    least = enough_for(false_alarms, 1)
    if len(found) < least:
        raise ConfigError(
            f"{len(found)} pictures are too few to hold false alarms to {false_alarms:.1%}: give at least {least}."
        )
    gates = set_gates({name: np.asarray(found)}, false_alarms)
    badness = float(np.clip(1.0 - gates.limits[name], 1e-3, 1.0))
    edge = Edge(badness, provider.spec.version, len(found), false_alarms, round(gates.held_out, 4))
    file = edge_file(kind, provider.spec)
    write_text(file, json.dumps(asdict(edge), indent=1) + "\n")
    return edge, file


def open_sources(
    quality: str | Path | None, alignment: str | Path | None, device: str = "cpu", allow_noncommercial: bool = False
) -> tuple[MapSource | None, MapSource | None]:
    """Return what stands in for PQ-Map and for AQ-Map, as `open_source` reads it; None where nothing does."""
    first, second = (
        None if source is None else open_source(kind, source, device, allow_noncommercial)
        for kind, source in (("quality", quality), ("alignment", alignment))
    )
    return first, second


def maps_of(source: MapSource | None, relatives: Sequence[str]) -> Provider | list[Path] | None:
    """Return what a call of the pipeline takes for these pictures: the provider, or the files of a folder."""
    if isinstance(source, MapFolder):
        return [map_file(source.folder, source.kind, relative) for relative in relatives]
    return source
