"""Own maps in place of ours: arrays, files, functions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_clip import picture

from grefine.errors import ConfigError, ImageError
from grefine.indicators.draw import grey_png, npy
from grefine.indicators.heatmap import HeatmapAlignment, HeatmapQuality, read_heatmap

IMAGE = picture(12, 8)
RAMP = np.linspace(0.0, 1.0, 96, dtype=np.float32).reshape(8, 12)


def test_array_file_and_function_agree(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(RAMP))
    (tmp_path / "a.png").write_bytes(grey_png(RAMP))
    for source in (RAMP, tmp_path / "a.npy", str(tmp_path / "a.png"), [RAMP]):
        result = HeatmapQuality(source)([IMAGE])[0]
        np.testing.assert_allclose(result.values, RAMP, atol=1 / 65535)
        assert result.score == pytest.approx(0.5, abs=1e-4)


def test_sixteen_bits_survive(tmp_path):
    (tmp_path / "a.png").write_bytes(grey_png(RAMP))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16"
    assert len(np.unique(read_heatmap(tmp_path / "a.png", (12, 8)))) == 96


def test_a_is_undefined():
    result = HeatmapAlignment(RAMP)([IMAGE], ["a red ball"])[0]
    assert result.score is None
    np.testing.assert_allclose(result.edit, 1 - RAMP)
    assert "given, not measured" in result.note


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((12, 8), np.float32), "8x12 but its image is 12x8"),
        (RAMP * 255, "ranges from 0 to 255"),
        (RAMP - 0.5, "ranges from -0.5"),
        (np.where(RAMP > 0.5, np.nan, RAMP), "finite numbers"),
        (np.zeros((8, 12, 3), np.float32), r"shape \(8, 12, 3\)"),
        (np.full((8, 12), "x"), "numbers"),
        ("missing.npy", "Cannot read the heatmap 'missing.npy'"),
    ],
)
def test_wrong_heatmaps(values, message):
    with pytest.raises(ImageError, match=message):
        HeatmapQuality([values])([IMAGE])


def test_wrong_counts():
    with pytest.raises(ConfigError, match="2 heatmaps were given for 1"):
        HeatmapQuality([RAMP, RAMP])([IMAGE])
    with pytest.raises(ConfigError, match="One heatmap was given for 2"):
        HeatmapQuality(RAMP)([IMAGE, IMAGE])
    with pytest.raises(ConfigError, match="not dict"):
        HeatmapQuality({"a": RAMP})([IMAGE])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="or a folder, not function; `pipe` takes functions"):
        HeatmapQuality(lambda image: RAMP)([IMAGE])  # type: ignore[arg-type]
