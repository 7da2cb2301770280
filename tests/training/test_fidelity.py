"""The fidelity losses, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_weights import load_golden

from grefine.errors import ConfigError
from grefine.training.losses import (
    fidelity,
    group_fidelity,
    order_labels,
    preference_probability,
    rated_fidelity,
)


@pytest.fixture(scope="module")
def golden():
    found = load_golden("sr_iqa_rectifier.json")
    return found["losses"] | {"tolerance": found["tolerance"]}


def scores(golden):
    return torch.tensor(golden["y_pred"], requires_grad=True)


def check(loss, given, expected, golden):
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected["loss"], atol=golden["tolerance"])
    np.testing.assert_allclose(given.grad.numpy(), expected["grad_y_pred"], atol=golden["tolerance"])


@pytest.mark.parametrize(("section", "phi"), [("upstream_fidelity", "released"), ("paper_fidelity", "paper")])
def test_parity_rated_fidelity(golden, section, phi):
    y = scores(golden)
    check(rated_fidelity(y, torch.tensor(golden["mos"]), phi), y, golden[section], golden)


@pytest.mark.parametrize(("section", "phi"), [("paper", "paper"), ("with_upstream_phi", "released")])
def test_parity_group_fidelity(golden, section, phi):
    group = golden["group"]
    Q, mu = torch.tensor(group["Q"]), torch.tensor(group["mu"])
    i, j = torch.triu_indices(len(mu), len(mu), 1)
    p = preference_probability(Q.mean(1)[i] - Q.mean(1)[j], phi)
    label = order_labels(mu)
    assert label.tolist() == group["label"]
    np.testing.assert_allclose(p, group[section]["p"], atol=golden["tolerance"])
    np.testing.assert_allclose(fidelity(label, p), group[section]["per_pair_loss"], atol=golden["tolerance"])
    np.testing.assert_allclose(group_fidelity(Q, mu, phi), group[section]["mean"], atol=golden["tolerance"])


def test_gradients_stay_finite_at_certainty():
    Q = torch.tensor([[50.0], [-50.0]], requires_grad=True)
    group_fidelity(Q, torch.tensor([0.0, 1.0])).backward()
    assert torch.isfinite(Q.grad).all()


def test_a_pair_needs_two():
    with pytest.raises(ConfigError, match="at least two"):
        rated_fidelity(torch.zeros(1), torch.zeros(1))
