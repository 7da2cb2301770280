"""The fits: the real votes, an independent maximum likelihood, and where scores would be infinite."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit, log_ndtr

from grefine.errors import ConfigError
from grefine.ranking.result import rank_methods
from grefine.ranking.thurstone import PSEUDO_COUNT, fit_scores, group_correlations, stability
from grefine.ranking.votes import read_votes

COUNTS = Path(__file__).parent.parent / "golden" / "sr_iqa_counts.json"


@pytest.fixture(scope="module")
def real():
    return json.loads(COUNTS.read_text())


def independent(C, link=log_ndtr):
    """Maximise the likelihood by a general optimiser, without our derivatives."""
    n = len(C)

    def loss(free):
        mu = np.append(free, -free.sum())
        return -(C * link(mu[:, None] - mu[None, :])).sum()

    found = minimize(loss, np.zeros(n - 1), method="BFGS", options={"gtol": 1e-7, "maxiter": 2000})
    return np.append(found.x, -found.x.sum()), -found.fun


def names(n):
    return [f"m{i}" for i in range(n)]


def test_the_real_votes_give_the_known_scores(real):
    C = np.array(real["counts"])
    fit = fit_scores(C, real["methods"])
    expected = [real["scores"][m] for m in real["methods"]]
    np.testing.assert_allclose(fit.mu, expected, atol=1e-6)
    assert fit.log_likelihood == pytest.approx(real["log_likelihood"], abs=1e-3)
    assert fit.pseudo_count == 0
    assert abs(fit.mu.sum()) < 1e-9
    best = [real["methods"][i] for i in np.argsort(-fit.mu)]
    assert best[0] == "SeeSR"
    assert best[-1] == "RGT"


def test_standard_errors_are_those_of_independent_votes(real):
    fit = fit_scores(np.array(real["counts"]), real["methods"])
    found = dict(zip(real["methods"], fit.standard_errors.round(3).tolist(), strict=True))
    assert (found["SeeSR"], found["USRGAN"], found["RGT"]) == (0.021, 0.019, 0.022)


@pytest.mark.parametrize(("link", "function"), [("thurstone", log_ndtr), ("bradley-terry", log_expit)])
@pytest.mark.parametrize("seed", range(4))
def test_thinned_votes_agree_with_an_independent_fit(real, seed, link, function):
    generator = np.random.default_rng(seed)
    C = generator.binomial(np.array(real["counts"]), (0.02, 0.1, 0.3, 0.7)[seed]).astype(float)
    fit = fit_scores(C, real["methods"], link)
    assert fit.pseudo_count == 0
    mu, value = independent(C, function)
    np.testing.assert_allclose(fit.mu, mu, atol=1e-4)
    assert fit.log_likelihood == pytest.approx(value, abs=1e-6)


def test_an_extreme_but_finite_case_converges():
    C = np.array([[0, 10**6, 0], [1, 0, 10**6], [0, 1, 0]], dtype=float)
    fit = fit_scores(C, names(3))
    assert fit.mu[0] - fit.mu[1] == pytest.approx(4.75, abs=0.01)
    assert fit.mu[0] > 0 > fit.mu[2]
    assert fit.pseudo_count == 0


def test_nothing_is_added_while_the_win_graph_is_strongly_connected():
    C = np.array([[0, 3, 0], [0, 0, 2], [1, 0, 0]], dtype=float)
    fit = fit_scores(C, names(3))
    assert fit.pseudo_count == 0
    np.testing.assert_allclose(fit.mu, independent(C)[0], atol=1e-4)


def test_a_method_that_never_lost_gets_a_stated_pseudo_count():
    C = np.array([[0, 5, 5], [0, 0, 3], [0, 2, 0]], dtype=float)
    fit = fit_scores(C, names(3))
    assert fit.pseudo_count == PSEUDO_COUNT
    np.testing.assert_allclose(fit.mu, independent(C + 0.5 * (C + C.T > 0))[0], atol=1e-4)
    assert fit.log_likelihood == pytest.approx((C * log_ndtr(fit.mu[:, None] - fit.mu)).sum())


def test_groups_that_never_meet_cannot_be_ranked():
    C = np.zeros((4, 4))
    C[0, 1] = C[1, 0] = C[2, 3] = C[3, 2] = 1
    with pytest.raises(ConfigError, match="No vote connects m0 and m1 with m2 and m3"):
        fit_scores(C, names(4))


def test_two_methods_in_closed_form():
    from scipy.special import ndtri

    fit = fit_scores(np.array([[0, 30], [10, 0]]), names(2))
    assert fit.mu[0] - fit.mu[1] == pytest.approx(ndtri(0.75))
    logistic = fit_scores(np.array([[0, 30], [10, 0]]), names(2), "bradley-terry")
    assert logistic.mu[0] - logistic.mu[1] == pytest.approx(np.log(3))


@pytest.fixture(scope="module")
def table():
    if "GREFINE_DATA" not in os.environ:
        pytest.skip("GREFINE_DATA is not set: nothing was checked against the real votes, image by image")
    return read_votes(Path(os.environ["GREFINE_DATA"]) / "sr_iqa_votes.csv")


@pytest.mark.weights
def test_real_subsets_agree_with_an_independent_fit(table):
    generator = np.random.default_rng(0)
    for rows in (generator.permutation(1056)[:200], range(0, 1056, 3), range(528)):
        part = table.subset(int(i) for i in rows)
        C = part.counts()
        fit = fit_scores(C, part.methods)
        assert fit.pseudo_count == 0
        np.testing.assert_allclose(fit.mu, independent(C)[0], atol=1e-3)


@pytest.mark.weights
def test_the_real_votes_in_full(table, real):
    assert table.counts().tolist() == real["counts"]
    found = rank_methods(table, resamples=100, draws=0)
    assert (found.intervals.by, found.intervals.clusters) == ("image", 570)
    assert found.two_subjects == pytest.approx(0.6885, abs=5e-5)
    assert found.human_oracle == pytest.approx(0.776680, abs=5e-7)


@pytest.mark.weights
def test_the_real_votes_hold_with_fewer_images(table):
    assert group_correlations(table)["mad"] == pytest.approx(0.965, abs=5e-4)
    points = {p.K: p for p in stability(table, draws=40, seed=0, largest=8)}
    assert points[1].mean == pytest.approx(0.910, abs=0.02)
    assert points[4].mean == pytest.approx(0.982, abs=0.006)
    assert points[8].mean == pytest.approx(0.993, abs=0.004)
