"""Parts of a mask: small masks in boxes, joined as a search over all pairs would join them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from grefine.indicators.calibration import Calibration
from grefine.refine.plan import Planner, edit_map
from grefine.refine.regions import connected_parts, joined, split_large
from grefine.refine.settings import RefineConfig
from grefine.types import AlignmentMap, Phrase, PhraseAlignment

SHAPE = (96, 128)
PLANNER = Planner(RefineConfig(max_upscale=2.0, context=0.25), Calibration(), 32)


def speckled(seed, share=0.01):
    return np.random.default_rng(seed).random(SHAPE) < share


@pytest.mark.parametrize("seed", range(3))
def test_parts_make_up_the_mask(seed):
    mask = speckled(seed, 0.1)
    parts = connected_parts(mask)
    assert np.array_equal(sum(part.draw(SHAPE).astype(int) for part in parts), mask.astype(int))
    assert np.array_equal(joined(parts).draw(SHAPE), mask)
    assert sum(part.area for part in parts) == mask.sum()
    values = np.random.default_rng(9).random(SHAPE)
    for part in parts:
        drawn = part.draw(SHAPE)
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        assert part.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert part.total(values) == pytest.approx(values[drawn].sum())


def test_pieces_of_a_ragged_part_are_tight():
    mask = np.zeros(SHAPE, bool)
    mask[10:80, 20] = mask[79, 20:100] = True
    (part,) = connected_parts(mask)
    pieces = split_large(part, 32)
    assert np.array_equal(sum(piece.draw(SHAPE).astype(int) for piece in pieces), mask.astype(int))
    assert all(piece.inside[0].any() and piece.inside[:, 0].any() for piece in pieces)


def by_searching(parts):
    """Join the first pair that is worth it and begin anew, as the rule reads."""
    groups = list(parts)

    def worth(a, b):
        both = joined([a, b])
        left, top, right, bottom = both.box
        cost = [(c[2] - c[0]) * (c[3] - c[1]) for c in (PLANNER.crop(p.box, SHAPE) for p in (a, b, both))]
        return max(right - left, bottom - top) <= 32 and cost[2] <= cost[0] + cost[1]

    while True:
        pair = next(((i, j) for i, j in combinations(range(len(groups)), 2) if worth(groups[i], groups[j])), None)
        if pair is None:
            return groups
        groups[pair[0]] = joined([groups[pair[0]], groups.pop(pair[1])])


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_those_of_the_plain_search(seed):
    parts = connected_parts(speckled(seed, 0.002 + 0.001 * seed))
    assert len(parts) > 10
    ours, plain = PLANNER.groups(parts, SHAPE), by_searching(parts)
    assert len(ours) == len(plain) < len(parts)
    assert all(np.array_equal(a.draw(SHAPE), b.draw(SHAPE)) for a, b in zip(ours, plain, strict=True))


def test_many_specks_weigh_no_more_than_the_picture():
    mask = np.zeros((1024, 1024), bool)
    mask[::16, ::16] = True
    parts = connected_parts(mask)
    assert len(parts) == 4096
    assert sum(part.inside.nbytes for part in parts) <= mask.nbytes


def test_claims_protect_as_the_rule_reads():
    rng = np.random.default_rng(0)

    def phrase(index, defect, host=None):
        values = rng.random((16, 16), dtype=np.float32)
        drawn = {"region": values} if defect else {"claimed": np.where(values > 0.8, values, 0.0)}
        return PhraseAlignment(Phrase(f"p{index}", ("p",), (), index), 0.5, 0.5, defect, **drawn, host=host)

    phrases = tuple(phrase(i, "noun" if i % 2 else None, host=0 if i == 3 else None) for i in range(8))
    values = np.ones((16, 16), np.float32)
    found = edit_map(AlignmentMap(values, 0.5, phrases), 0.5)
    kept = np.ones_like(values)
    for index, asked in enumerate(phrases):
        if asked.region is not None:
            region = asked.region
            for other, met in enumerate(phrases):
                if met.claimed is not None and other not in (index, asked.host):
                    region = np.where(met.claimed > 0.5, 0.0, region)
            kept = kept * (1.0 - region)
    assert np.allclose(found, 1.0 - kept)
    assert 0.0 < found.mean() < 1.0
