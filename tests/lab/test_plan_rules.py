"""Plans from true maps of two worlds: the phrases are the caption's, and what is judged can fail."""

from dataclasses import replace

import numpy as np
import pytest

from lab.plan_rules import KINDS, TrueMaps, first_world, judge, plan_rows, second_world


@pytest.fixture(scope="module", params=[first_world, second_world])
def world(request):
    return request.param(30)


def test_most_plans_from_true_maps_are_right(world):
    rows = plan_rows(world)
    assert {case.kind for case in world.cases} == set(KINDS)
    assert rows["right"].value >= 0.8


def test_the_true_phrases_stand_where_they_say(world):
    for case in world.cases:
        for phrase in case.prompt().phrases:
            assert [case.caption[start:end] for start, end in phrase.spans] == list(phrase.words)


def test_a_plan_for_another_place_another_thing_or_none_is_wrong(world):
    case = next(
        c for c in world.cases if c.kind == "colour" and all(judge(world, c, TrueMaps(world, c).plan()).values())
    )
    plan = TrueMaps(world, case).plan()
    elsewhere = replace(plan, mask=~plan.mask)
    other = [replace(r, prompt=f"another , {plan.prompt}", strength=0.2) for r in plan.regions]
    nothing = replace(plan, regions=(), mask=np.zeros_like(plan.mask))
    assert judge(world, case, elsewhere) == {"place": False, "words": True, "strength": True}
    assert judge(world, case, replace(plan, regions=tuple(other))) == {
        "place": True,
        "words": False,
        "strength": False,
    }
    assert not any(judge(world, case, nothing).values())
