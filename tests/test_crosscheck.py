"""Our numbers against packages that nobody here wrote (extra `crosscheck`); skipped by name without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grefine.evaluate.statistics import holm
from grefine.models.dists import DISTS
from grefine.models.lar_iqa import LARIQA, bspline_bases, convert
from grefine.ranking.thurstone import fit_scores
from grefine.scorers.fidelity import psnr, ssim

METHODS = ("a", "b", "c", "d", "e")


def counts(seed):
    """Votes of five methods of different strength, some pairs never met."""
    rng = np.random.default_rng(seed)
    mu = np.array([0.8, 0.3, 0.0, -0.4, -0.7])
    C = np.zeros((5, 5))
    for i in range(5):
        for j in range(i + 1, 5):
            n = 0 if (i, j) == (0, 4) else int(rng.integers(20, 60))
            C[i, j] = rng.binomial(n, 1 / (1 + np.exp(mu[j] - mu[i])))
            C[j, i] = n - C[i, j]
    return C


@pytest.mark.parametrize("seed", range(3))
def test_thurstone_is_a_probit_regression(seed):
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is not here: pip install -e '.[crosscheck]'")
    C = counts(seed)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5) if C[i, j] + C[j, i]]
    X = np.array([np.eye(5)[i] - np.eye(5)[j] for i, j in pairs])[:, :4]
    family = api.families.Binomial(api.families.links.Probit())
    found = api.GLM(np.array([[C[i, j], C[j, i]] for i, j in pairs]), X, family=family).fit(tol=1e-12, maxiter=200)
    mu = np.append(found.params, 0.0)
    np.testing.assert_allclose(fit_scores(C, METHODS).mu, mu - mu.mean(), atol=1e-6)


def test_standard_errors_are_those_of_a_probit_regression():
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is not here: pip install -e '.[crosscheck]'")
    C = counts(0).astype(int)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    won = np.concatenate([np.repeat([1, 0], [C[i, j], C[j, i]]) for i, j in pairs])
    X = np.concatenate([np.tile(np.eye(5)[i] - np.eye(5)[j], (C[i, j] + C[j, i], 1)) for i, j in pairs])[:, :4]
    free = api.Probit(won, X).fit(disp=0, tol=1e-12).cov_params()
    centred = (np.eye(5) - 1 / 5)[:, :4]  # from the last method at zero to a sum of zero
    wanted = np.sqrt(np.diag(centred @ free @ centred.T))
    np.testing.assert_allclose(fit_scores(C, METHODS).standard_errors, wanted, rtol=1e-5)


def test_holm_is_statsmodels():
    multitest = pytest.importorskip(
        "statsmodels.stats.multitest", reason="statsmodels is not here: pip install -e '.[crosscheck]'"
    )
    p = np.random.default_rng(0).random(13) ** 4
    wanted = multitest.multipletests(p, method="holm")[1]
    assert list(holm({str(i): value for i, value in enumerate(p)}).values()) == pytest.approx(
        wanted.tolist(), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(3))
def test_bradley_terry_is_choix(seed):
    choix = pytest.importorskip("choix", reason="choix is not here: pip install -e '.[crosscheck]'")
    C = counts(seed)
    votes = [(i, j) for i in range(5) for j in range(5) for _ in range(int(C[i, j]))]
    np.testing.assert_allclose(fit_scores(C, METHODS, "bradley-terry").mu, choix.opt_pairwise(5, votes), atol=1e-4)


def pictures():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (61, 83, 3), dtype=np.uint8)
    return one, np.clip(one + rng.normal(0, 12, one.shape), 0, 255).astype(np.uint8)


def test_psnr_and_ssim_are_scikit_images():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not here: pip install -e '.[crosscheck]'")
    from grefine.scorers.fidelity import _luminance

    one, other = pictures()
    assert psnr(other, one) == pytest.approx(metrics.peak_signal_noise_ratio(one, other), abs=1e-6)
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    wanted = metrics.structural_similarity(_luminance(one), _luminance(other), **how)
    assert ssim(other, one) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("space", "off"), [("HSV", 0), ("YUV", 0), ("LAB", 200)])
def test_colour_spaces_are_opencvs(space, off):
    """LAB differs by one level in a few of two million values, which docs/method_judges.md states."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not here: pip install -e '.[crosscheck]'")
    rgb = np.random.default_rng(1).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    wanted = cv2.cvtColor(rgb, getattr(cv2, f"COLOR_RGB2{space}"))
    difference = np.abs(convert(rgb, space).astype(int) - wanted.astype(int))
    print(f"{space}: {(difference > 0).sum()} of {difference.size} values differ, by {difference.max()} at most")
    assert difference.max() <= (1 if off else 0)
    assert (difference > 0).sum() <= off


def test_kan_bases_are_scipys():
    from scipy.interpolate import BSpline

    knots = torch.arange(-3, 9, dtype=torch.float64) * 0.4 - 1.0
    x = torch.linspace(-0.99, 0.99, 41, dtype=torch.float64)
    found = bspline_bases(x[:, None], knots[None], 3)[:, 0]
    np.testing.assert_allclose(found, BSpline.design_matrix(x.numpy(), knots.numpy(), 3).toarray(), atol=1e-12)


def test_dists_is_its_authors(monkeypatch):
    """The weights of VGG, alpha and beta are drawn, since theirs would be fetched."""
    theirs = pytest.importorskip("DISTS_pytorch.DISTS_pt", reason="DISTS is not here: pip install -e '.[crosscheck]'")
    from torchvision.models import vgg16

    torch.manual_seed(0)
    vgg = vgg16(weights=None)
    monkeypatch.setattr(theirs.models, "vgg16", lambda pretrained: vgg)
    wanted = theirs.DISTS(load_weights=False).eval()
    groups = {"vgg": vgg.state_dict(), "dists": {"alpha": wanted.alpha.data, "beta": wanted.beta.data}}
    one, other = (torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255 for p in pictures())
    found = float(DISTS.from_reference(groups)(one, other))
    assert found == pytest.approx(wanted(one, other).item(), rel=1e-4)
    assert found > 1e-3


def test_macs_are_fvcores():
    """LAR-IQA's cost on a photograph, which docs/benchmarks.md states, by a counter that traces the network."""
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not here: pip install -e '.[crosscheck]'")
    from benchmarks.scorers import gmacs

    model = LARIQA().eval()
    views = (torch.zeros(1, 3, 384, 384), torch.zeros(1, 3, 1280, 1280))
    with torch.inference_mode():
        count = fvcore.FlopCountAnalysis(model, views).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        wanted = sum(count.by_operator()[name] for name in ("conv", "linear")) / 1e9
        assert gmacs(lambda: model(*views)) == pytest.approx(wanted, rel=1e-6)
    assert wanted == pytest.approx(7.583, abs=0.001)
