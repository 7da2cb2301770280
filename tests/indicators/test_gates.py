"""Gates that share one budget of false alarms: exact on what was measured, right on what was not."""

from __future__ import annotations

import numpy as np
import pytest

from grefine.indicators.calibration import enough_for, set_gates


def past(signs, gates):
    return np.any([signs[name] < limit for name, limit in gates.limits.items()], axis=0).mean()


@pytest.mark.parametrize("total", [0.02, 0.03, 0.1])
def test_the_total_holds_for_images_that_were_not_measured(total):
    rng = np.random.default_rng(7)
    shares, held_out = [], []
    for _ in range(40):
        together = rng.normal(size=400)
        signs = {f"gate {i}": rng.normal(size=400) + i * together for i in range(4)}
        gates = set_gates({name: values[:200] for name, values in signs.items()}, total)
        assert gates.share <= gates.expected <= total
        shares.append(past({name: values[200:] for name, values in signs.items()}, gates))
        held_out.append(gates.held_out)
    assert np.mean(shares) == pytest.approx(total, rel=0.35)
    assert np.mean(shares) <= 1.15 * total
    assert np.mean(held_out) <= 1.3 * total


def test_gates_that_see_the_same_share_their_room():
    values = np.random.default_rng(1).normal(size=300)
    alone = set_gates({"a": values}, 0.1)
    twins = set_gates({"a": values, "b": values.copy()}, 0.1)
    assert twins.limits["a"] == pytest.approx(alone.limits["a"], abs=0.05)
    apart = set_gates({"a": values, "b": -values}, 0.1)
    assert apart.limits["a"] < alone.limits["a"] - 0.1


def test_more_room_never_closes_a_gate():
    rng = np.random.default_rng(2)
    signs = {name: rng.normal(size=150) for name in "abc"}
    limits = [set_gates(signs, total).limits for total in (0.02, 0.05, 0.1, 0.2)]
    for tight, wide in zip(limits, limits[1:], strict=False):
        assert all(tight[name] <= wide[name] for name in "abc")


def test_a_gate_without_anything_to_judge_stays_shut():
    rng = np.random.default_rng(3)
    phrases = np.full(100, np.inf)
    phrases[:2] = 0.5
    gates = set_gates({"phrases": phrases, "p": rng.normal(size=100)}, 0.2)
    assert gates.limits["phrases"] <= 0.5
    nothing = set_gates({"phrases": np.full(100, np.inf), "p": rng.normal(size=100)}, 0.2)
    assert nothing.share <= 0.2
    assert set(nothing.limits) == {"p"}


def test_how_many_images_a_total_needs():
    least = enough_for(0.03, 4)
    rng = np.random.default_rng(4)
    for count, holds in ((least, True), (least - 2, False)):
        gates = set_gates({name: rng.normal(size=count) for name in "abcd"}, 0.03)
        assert (gates.expected <= 0.03) == holds
