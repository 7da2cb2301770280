"""Maps that a file of somebody else's network draws: an object detector of transformers, or a TorchScript heatmap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from PIL import Image

from grefine.config import load_config
from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing, in_words, nearest
from grefine.io.content import content_hash
from grefine.scorers.protocol import groups
from grefine.types import MapSpec

DETECTOR, SCRIPT = "detector:", "torchscript:"
"""What a source of this kind begins with, before its path."""
HASH = 16
"""Least digits of a file's hash that count as consent to run it."""
TOGETHER = 8
"""Pictures that go through a network at once."""


@dataclass(frozen=True)
class NetworkMap:
    """A network that draws a quality map, as a YAML file states it; paths count from there."""

    detector: str = ""
    """Folder of any object detector of transformers: what it finds is bad, as much as it is sure of it."""
    torchscript: str = ""
    """File of a TorchScript network: pictures in, one channel out."""
    sha256: str = ""
    """Of that file: the consent to run what is in it."""
    name: str = ""
    """What it is called; else the name of the folder or file."""
    labels: tuple[str, ...] = ()
    """Of a detector, what counts; empty: all that it knows."""
    least: float = 0.1
    """Boxes of less confidence are not drawn."""
    side: int = 512
    """Side of the square that a TorchScript network sees."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """How its pixels of 0..255 are standardised; ImageNet's."""
    range: tuple[float, float] = (0.0, 1.0)
    """Of its values."""
    high_is: Literal["good", "bad"] = "bad"
    """Of its values."""
    licence: str = "the network's own terms"
    noncommercial: bool = False
    judges: tuple[str, ...] = ()
    """Metrics that see with the same network, and therefore do not judge."""


Drawer = Callable[[Sequence[Image.Image]], list[np.ndarray]]


def network_map(source: str) -> SimpleNamespace | None:
    """Return the provider behind `detector:DIR`, `torchscript:FILE#SHA256` or a YAML file; None for anything else."""
    file = Path(source)
    if source.startswith(DETECTOR):
        stated, home = NetworkMap(detector=source.removeprefix(DETECTOR)), Path()
    elif source.startswith(SCRIPT):
        path, _, digest = source.removeprefix(SCRIPT).partition("#")
        stated, home = NetworkMap(torchscript=path, sha256=digest), Path()
    elif file.suffix.lower() in (".yaml", ".yml") and file.is_file():
        stated, home = load_config(file, NetworkMap), file.parent
    else:
        return None
    if bool(stated.detector) == bool(stated.torchscript):
        raise ConfigError(f"'{source}' must name one network: a path behind `detector` or behind `torchscript`.")
    place = home / (stated.detector or stated.torchscript)
    if not place.exists():
        raise WeightsMissing(f"There is no network at '{place}': give the path of one on this machine.")
    weights = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    version = "+".join(content_hash(one)[:12] for one in weights) or "1"
    if stated.torchscript:
        digest, given = content_hash(place), stated.sha256
        if len(given) < HASH or not digest.startswith(given.lower()):
            wrong = f", not {given}," if given else ""
            raise ConfigError(
                f"'{place}' has the sha256 {digest}{wrong} and is TorchScript, which runs its author's code. If you "
                f"trust it, say so by its hash: {SCRIPT}{place}#{digest[:HASH]}"
            )
    spec = MapSpec(
        stated.name or (place.resolve().name if stated.detector else place.stem),
        (0.0, 1.0) if stated.detector else stated.range,
        "bad" if stated.detector else stated.high_is,
        stated.licence,
        version,
        judges=stated.judges,
        noncommercial=stated.noncommercial,
    )
    return SimpleNamespace(SPEC=spec, load=partial(_detector if stated.detector else _script, place, stated))


def _detector(folder: Path, stated: NetworkMap, device: str) -> Drawer:
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    try:
        here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        processor = AutoImageProcessor.from_pretrained(folder, **here)
        model = AutoModelForObjectDetection.from_pretrained(folder, **here).to(device).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise WeightsCorrupt(f"'{folder}' is no complete folder of an object detector: {in_words(error)}") from error
    known: dict[str, int] = {name: index for index, name in model.config.id2label.items()}
    for label in stated.labels:
        if label not in known:
            raise ConfigError(f"The detector '{folder}' knows no '{label}'{nearest(label, known)}")
    wanted = {known[label] for label in stated.labels or known}

    def draw(images: Sequence[Image.Image]) -> list[np.ndarray]:
        maps: dict[int, np.ndarray] = {}
        for rows in groups([image.size for image in images], TOGETHER):
            inputs = processor(images=[images[row].convert("RGB") for row in rows], return_tensors="pt").to(device)
            with torch.inference_mode():
                seen = model(**inputs)
            sizes = [images[row].size[::-1] for row in rows]
            found = processor.post_process_object_detection(seen, threshold=stated.least, target_sizes=sizes)
            maps.update(zip(rows, map(partial(_boxes, wanted), found, sizes), strict=True))
        return [maps[row] for row in range(len(images))]

    return draw


def _boxes(wanted: set[int], found: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return a map `(H, W)` that is as high inside each box as the detector is sure of it."""
    drawn = np.zeros(size, np.float32)
    rows = zip(*(found[name].cpu().tolist() for name in ("scores", "labels", "boxes")), strict=True)
    for confidence, label, (left, top, right, bottom) in rows:
        if label in wanted:
            inside = drawn[max(0, int(top)) : int(np.ceil(bottom)), max(0, int(left)) : int(np.ceil(right))]
            np.maximum(inside, np.float32(confidence), out=inside)
    return drawn


def _script(file: Path, stated: NetworkMap, device: str) -> Drawer:
    import torch
    import torch.nn.functional as F

    try:
        model = torch.jit.load(str(file), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise WeightsCorrupt(f"'{file}' is no TorchScript file: {in_words(error)}") from error
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (stated.mean, stated.std))

    def look(image: Image.Image) -> np.ndarray:
        small = image.convert("RGB").resize((stated.side, stated.side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).to(mean)
        with torch.inference_mode():
            seen = model(((pixels - mean) / std)[None])
        seen = seen[0] if isinstance(seen, (tuple, list)) else seen
        if seen.ndim == 3:
            seen = seen[:, None]
        if seen.ndim != 4 or seen.shape[:2] != (1, 1):
            raise ConfigError(f"'{file}' drew values of the shape {tuple(seen.shape)}: one channel is expected.")
        drawn = F.interpolate(seen.float(), size=image.size[::-1], mode="bilinear", align_corners=False)
        return drawn[0, 0].cpu().numpy()

    return lambda images: [look(image) for image in images]
