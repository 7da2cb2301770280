"""BRISQUE: support-vector regression on the statistics of natural scenes (Mittal et al. 2012)."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.scorers.natural_statistics import features, luminance
from grefine.scorers.protocol import Formula
from grefine.types import MetricSpec

SPEC = MetricSpec(
    name="brisque",
    direction="lower",
    range=(-inf, inf),
    licence="code Apache-2.0; the model file's own terms",
    weights="a BRISQUE model in libsvm's text format with its range file: --weights brisque=DIR",
    description="support-vector regression on 36 scene statistics (Mittal et al. 2012); about 0..100",
)
MINIMUM = 16
"""Below this the half-size statistics have too few pixels to mean anything."""


@dataclass(frozen=True, slots=True)
class Regression:
    """An epsilon-SVR with a radial kernel, and the ranges to which its features were scaled."""

    gamma: float
    offset: float
    coefficients: np.ndarray
    """`(V,)`."""
    vectors: np.ndarray
    """`(V, 36)`."""
    low: np.ndarray
    high: np.ndarray
    """`(36,)` each: what is mapped to -1 and 1."""

    def predict(self, found: np.ndarray) -> float:
        """Return the score of one feature vector `(36,)`."""
        scaled = -1 + 2 * (found - self.low) / (self.high - self.low)
        kernel = np.exp(-self.gamma * ((self.vectors - scaled) ** 2).sum(axis=1))
        return float(self.coefficients @ kernel - self.offset)


def load(path: Path, device: str) -> Formula:
    """Load the regression."""
    regression = read_model(path)
    return Formula(SPEC, lambda picture: regression.predict(features(luminance(picture))), MINIMUM)


def read_model(path: Path) -> Regression:
    """Read the published model: libsvm's text file and its range file, `allmodel` and `allrange`, in one folder."""
    folder = path if path.is_dir() else path.parent
    model, ranges = folder / "allmodel", folder / "allrange"
    for file in (model, ranges):
        if not file.is_file():
            raise WeightsMissing(f"BRISQUE needs allmodel and allrange in one folder: '{file}' is missing.")
    try:
        found = _read_svm(model.read_text(encoding="ascii"))
        rows = [line.split() for line in ranges.read_text(encoding="ascii").splitlines()]
        table = {int(row[0]): (float(row[1]), float(row[2])) for row in rows if len(row) == 3}
        if sorted(table) != list(range(1, 37)):
            raise ValueError(f"ranges of {len(table)} features instead of 36")
        bounds = np.array([table[index] for index in range(1, 37)])
        return Regression(*found, bounds[:, 0], bounds[:, 1])
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise WeightsCorrupt(f"'{folder}' does not hold BRISQUE's libsvm model and range file: {error}") from error


def _read_svm(text: str) -> tuple[float, float, np.ndarray, np.ndarray]:
    head, _, body = text.partition("SV\n")
    settings = dict(line.split(maxsplit=1) for line in head.splitlines() if line.strip())
    if settings["kernel_type"] != "rbf" or not settings["svm_type"].endswith("svr"):
        raise ValueError(f"a {settings['svm_type']} with a {settings['kernel_type']} kernel, not an SVR with rbf")
    coefficients, vectors = [], []
    for line in body.splitlines():
        if not line.strip():
            continue
        weight, *entries = line.split()
        vector = np.zeros(36)
        for entry in entries:
            index, value = entry.split(":")
            vector[int(index) - 1] = float(value)
        coefficients.append(float(weight))
        vectors.append(vector)
    if not vectors:
        raise ValueError("no support vectors")
    return float(settings["gamma"]), float(settings["rho"]), np.array(coefficients), np.array(vectors)
