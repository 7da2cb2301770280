"""D1 by DISTS and D2 by VGG16-BN, as the paper measures them, from weight files that lie on this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from grefine.io.images import read_image
from grefine.models.dists import DISTS
from grefine.models.reference import load_group
from grefine.ranking.features import FeatureDistances, MethodImages, described
from grefine.resources import cache_folder
from grefine.scorers.convert import read_state

FILES = {
    "vgg": ("vgg16-397923af.pth",),
    "dists": ("DISTS_weights-f5e65c96.pth", "DISTS_weights.pth"),
    "vgg_bn": ("vgg16_bn-6c64b313.pth",),
}
"""File names as torchvision and pyiqa download them."""


def find_weights(what: str) -> Path | None:
    """Return the file of "vgg", "dists" or "vgg_bn" in grefine's cache or the torch hub folder; nothing is fetched."""
    for folder in (cache_folder() / "ranking", Path(torch.hub.get_dir()) / "checkpoints"):
        for name in FILES[what]:
            if (folder / name).is_file():
                return folder / name
    return None


def missing_weights() -> list[str]:
    return [names[0] for what, names in FILES.items() if find_weights(what) is None]


class DeepDistances:
    """DISTS between outputs; mean squared difference of VGG16-BN's last feature map between inputs."""

    appearance_name = "DISTS"
    semantics_name = "VGG16-BN features, mean squared difference"

    def __init__(self, cache: Path | None = None, progress: Callable[[str], None] = lambda _: None) -> None:
        self.cache, self.progress = cache, progress
        self.dists = DISTS.from_reference({what: read_state(find_weights(what) or what) for what in ("vgg", "dists")})

    @torch.no_grad()
    def appearance(self, found: MethodImages, a: str, b: str) -> np.ndarray:
        """Return D1: DISTS on every input; both outputs are brought to a shorter side of at most 256."""
        self.progress(f"DISTS of {a} and {b}")
        return np.array([self._pair(x, y) for x, y in zip(found.paths[a], found.paths[b], strict=True)])

    def _pair(self, first: Path, second: Path) -> float:
        x, y = read_image(first).rgb, read_image(second).rgb
        scale = min(1.0, 256 / min(x.size))
        size = (round(x.width * scale), round(x.height * scale))
        sized = (i if i.size == size else i.resize(size, Image.Resampling.BILINEAR) for i in (x, y))
        return float(self.dists(*(torch.from_numpy(np.array(i)).permute(2, 0, 1)[None] / 255 for i in sized)))

    def semantics(self, inputs: Sequence[Path] | None, found: MethodImages) -> Callable[[int], np.ndarray]:
        """Return D2 on the inputs, or on the first method's outputs where no inputs are given."""
        from torchvision.models import VGG16_BN_Weights, vgg16_bn

        network = vgg16_bn(weights=None).features.eval()
        file = find_weights("vgg_bn") or "vgg_bn"
        state = {k.removeprefix("features."): v for k, v in read_state(file).items() if k.startswith("features.")}
        load_group(network, state, f"'{file}'")
        prepare = VGG16_BN_Weights.IMAGENET1K_V1.transforms()

        @torch.no_grad()
        def describe(image: Image.Image) -> np.ndarray:
            return network(prepare(image)[None]).flatten().numpy()

        paths = inputs if inputs is not None else found.paths[found.methods[0]]
        return FeatureDistances(described(paths, describe, "inputs-vgg16bn-features", self.cache))
