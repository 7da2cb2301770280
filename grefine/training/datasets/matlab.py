"""Score files of MATLAB: version 7.3 is HDF5 with references into itself, older ones are MATLAB's own form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import ConfigError, MetricUnavailable
from grefine.io.picture import printable

_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_mat(path: Path, fields: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Return fields by name: cells of texts as lists, numbers as arrays in MATLAB's own order of axes."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ConfigError(f"Cannot read '{printable(path)}': {error.strerror or error}.") from error
    # HDF5 allows a block of the owner's before its own first byte; MATLAB puts 512 bytes there.
    found = _hdf5(path, (*fields, *optional)) if _HDF5 in head else _classic(path, (*fields, *optional))
    for name in fields:
        if name not in found:
            raise ConfigError(f"'{printable(path)}' has no field '{name}'; it should hold {', '.join(fields)}.")
    return found


def _hdf5(path: Path, names: Sequence[str]) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MetricUnavailable(
            f"'{printable(path)}' is a MATLAB 7.3 file: `pip install grefine[train]` brings h5py, which reads it."
        ) from error
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        for name in names:
            if name not in file:
                continue
            stored: Any = file[name]
            if stored.dtype == h5py.ref_dtype:
                found[name] = [_characters(file[reference][()]) for reference in stored[()].T.flatten()]
            else:
                found[name] = stored[()].T
    return found


def _characters(codes: np.ndarray) -> str:
    """Decode UTF-16 code units; an empty text is stored as its size, which is no text."""
    if codes.dtype != np.uint16:
        return ""
    return codes.T.flatten().tobytes().decode("utf-16-le", "replace")


def _classic(path: Path, names: Sequence[str]) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        stored = loadmat(path)
    except (ValueError, TypeError, NotImplementedError, OSError, MatReadError) as error:
        raise ConfigError(f"'{printable(path)}' is no MATLAB file: {error}.") from error
    found: dict[str, Any] = {}
    for name in names:
        if name in stored:
            value = stored[name]
            texts = value.dtype == object
            found[name] = ["".join(map(str, np.ravel(v))) for v in value.flatten("F")] if texts else value
    return found
