"""DISTS with drawn weights: its formula, its properties, and where its weights are looked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_weights import reference_image
from PIL import Image

from grefine.errors import WeightsCorrupt
from grefine.models.dists import CHANNELS, DISTS


@pytest.fixture(scope="module")
def dists():
    torch.manual_seed(0)
    return DISTS().eval()


def pixels(salt, size=(48, 64)):
    return torch.from_numpy(reference_image(salt, *size)).permute(2, 0, 1)[None].float() / 255


def test_equal_pictures_are_zero_apart_and_order_does_not_matter(dists):
    a, b = pixels("a"), pixels("b")
    with torch.no_grad():
        assert dists(a, a).item() == pytest.approx(0, abs=1e-5)
        assert dists(a, b).item() == pytest.approx(dists(b, a).item(), abs=1e-6)
        assert 0 < dists(a, b).item() < 2


def test_batch_equals_singles(dists):
    a, b = torch.cat([pixels("a"), pixels("b")]), torch.cat([pixels("c"), pixels("a")])
    with torch.no_grad():
        torch.testing.assert_close(dists(a, b), torch.cat([dists(a[i : i + 1], b[i : i + 1]) for i in (0, 1)]))


def test_the_formula_on_maps_by_hand(dists):
    """Weight on the picture's first channel alone, so that the sum has one term of each kind."""
    model = DISTS()
    for name in ("alpha", "beta"):
        getattr(model, name).data.zero_()
    model.alpha.data[0, 0], model.beta.data[0, 0] = 1.0, 3.0
    x, y = np.random.default_rng(0).random((2, 4, 4))
    maps = [[torch.zeros(1, c, 4, 4) for c in CHANNELS] for _ in (x, y)]
    for side, values in zip(maps, (x, y), strict=True):
        side[0][0, 0] = torch.from_numpy(values)
    texture = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
    structure = (2 * np.cov(x.ravel(), y.ravel(), bias=True)[0, 1] + 1e-6) / (x.var() + y.var() + 1e-6)
    assert model.distance(*maps).item() == pytest.approx(1 - (texture + 3 * structure) / 4, abs=1e-5)


def test_wrong_weights():
    with pytest.raises(WeightsCorrupt, match="groups vgg and dists"):
        DISTS.from_reference({"vgg": {}})


@pytest.mark.slow
def test_weights_on_this_machine_are_found_and_used(dists, monkeypatch, tmp_path):
    from torchvision.models import vgg16_bn

    from grefine.ranking.deep import DeepDistances
    from grefine.ranking.features import match_methods
    from grefine.ranking.select import choose_distances

    folder = tmp_path / "ranking"
    folder.mkdir()
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    torch.save({f"features.{k}": v for k, v in dists.vgg.state_dict().items()}, folder / "vgg16-397923af.pth")
    torch.save({"alpha": dists.alpha.data, "beta": dists.beta.data}, folder / "DISTS_weights-f5e65c96.pth")
    features = vgg16_bn(weights=None).features.state_dict()
    torch.save({f"features.{k}": v for k, v in features.items()}, folder / "vgg16_bn-6c64b313.pth")
    distances = choose_distances("auto")
    assert isinstance(distances, DeepDistances)
    for method in ("alpha", "gamma"):
        (tmp_path / method).mkdir()
        for i in range(2):
            Image.fromarray(reference_image(f"{method} {i}", 48, 64)).save(tmp_path / method / f"im{i}.png")
    found = match_methods([tmp_path / "alpha", tmp_path / "gamma"])
    d1 = distances.appearance(found, "alpha", "gamma")
    first, second = (
        torch.from_numpy(np.array(Image.open(found.paths[m][0]))).permute(2, 0, 1)[None] / 255
        for m in ("alpha", "gamma")
    )
    with torch.no_grad():
        assert d1[0] == pytest.approx(dists(first, second).item(), abs=1e-5)
    d2 = distances.semantics(None, found)(0)
    assert d2[0] == 0
    assert d2[1] > 0
