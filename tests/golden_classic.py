"""What other people's code says of three fixed pictures; `python tests/golden_classic.py NIQE_FILE` writes it anew.

NIQE_FILE is `basicsr/metrics/niqe.py` inside an unpacked basicsr 1.4.2; scikit-image 0.26 has to be installed.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

GOLDEN = Path(__file__).parent / "golden" / "classic.json"


def picture(seed):
    """Return `(224, 301)` grey levels with structure at many sizes, as photographs have it."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(224, 301)), width) * width**1.5 for width in (0.4, 1, 2, 4, 8, 16)]
    values = sum(layers)
    return (128 + 40 * (values - values.mean()) / values.std()).clip(0, 255).round().astype(np.uint8)


def parameters():
    """Return a mean and a covariance of 36 features."""
    rng = np.random.default_rng(36)
    root = rng.normal(size=(36, 36)) / 6
    return rng.uniform(0, 2, 36), root @ root.T + 0.1 * np.eye(36)


def outside_niqe(path):
    """Load basicsr's niqe without the packages that it does not need for it."""
    source = Path(path).parents[1] / "utils" / "matlab_functions.py"
    resize = types.ModuleType("matlab_functions")
    exec(compile(source.read_text(), source, "exec"), resize.__dict__)
    kept = Path(path).read_text().split("@METRIC_REGISTRY")[0]
    lines = [
        line for line in kept.splitlines() if not line.startswith(("import cv2", "from basicsr", "from scipy.nd"))
    ]
    from scipy.ndimage import convolve

    found = {"convolve": convolve, "imresize": resize.imresize}
    exec(compile("\n".join(lines), path, "exec"), found)
    return found["niqe"]


def main():
    """Write what basicsr and scikit-image say."""
    from skimage.measure import blur_effect

    niqe = outside_niqe(sys.argv[1])
    offsets = np.arange(7) - 3
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (7 / 6) ** 2))
    mean, covariance = parameters()
    rows = []
    for seed in range(3):
        grey = picture(seed)
        distance = niqe(grey.astype(np.float64), mean, covariance, window / window.sum())
        rows.append({"seed": seed, "niqe": distance, "blur": float(blur_effect(grey.astype(np.float64)))})
    GOLDEN.write_text(
        json.dumps({"niqe": "basicsr 1.4.2", "blur": "scikit-image 0.26.0", "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
