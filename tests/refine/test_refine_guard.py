"""The guard: gains beyond a scorer's own noise, no losses, ties for the original, and words for every decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grefine.errors import ConfigError
from grefine.refine import guard
from grefine.refine.guard import AT_ONCE, NEAR, Panel, compare, decide, reject_regions, surroundings
from grefine.refine.settings import RefineConfig, resolve
from grefine.scorers.noise import disturbed
from grefine.types import MetricSpec, Scores


class Channel:
    """A real judge: the mean of one colour channel."""

    def __init__(self, name, channel, axis="perceptual", direction="higher", used_in_loop=False):
        self.spec = MetricSpec(name, direction=direction, axis=axis, used_in_loop=used_in_loop)
        self.channel = channel
        self.calls = 0

    def __call__(self, images, prompts=None):
        self.calls += len(images)
        means = [float(np.asarray(image)[..., self.channel].mean() / 255) for image in images]
        return [Scores({self.spec.name: mean}) for mean in means]


def own(images, prompts):
    record = {"p": 0.5, "a": 0.5} if prompts[0] else {"p": 0.5}
    return [dict(record) for _ in images]


def own_bright(images, prompt):
    return [{"p": float(np.asarray(image).mean() / 255)} for image in images]


def colour(red, green=100, blue=100):
    return np.broadcast_to(np.array([red, green, blue], np.uint8), (16, 16, 3)).copy()


CONFIG = RefineConfig()
WHOLE = (0, 0, 16, 16)
RED, GREEN = Channel("red", 0), Channel("green", 1, axis="alignment")


def choose(candidates, scorers=(RED, GREEN), prompt="a ball", panel_own=own, config=CONFIG):
    return decide(Panel(panel_own, scorers), candidates, prompt, config)


def test_a_gain_without_loss_is_kept_and_says_why():
    decision, before, after = choose({"original": colour(50), "repainted": colour(200)})
    assert decision.kept == "repainted"
    assert decision.guarded
    assert "red rose by 0.588" in decision.reason
    assert before["red"] < after["red"]
    assert set(decision.candidates) == {"original", "repainted"}


def test_any_guarded_loss_keeps_the_original():
    decision, _, _ = choose({"original": colour(50, 100), "repainted": colour(200, 50)})
    assert decision.kept == "original"
    assert "green fell by 0.196" in decision.reason


def test_a_loss_may_be_outweighed_by_a_gain_on_the_other_axis():
    candidates = {"original": colour(50, 100), "repainted": colour(200, 50)}
    decision, _, _ = choose(candidates, config=RefineConfig(guard_trade=0.5))
    assert decision.kept == "repainted"
    assert "which outweighs that green fell by 0.196" in decision.reason
    strict, _, _ = choose(candidates, config=RefineConfig(guard_trade=0.3))
    assert strict.kept == "original"


def test_a_gain_never_pays_for_a_loss_on_its_own_axis():
    judges = (RED, Channel("green", 1))
    candidates = {"original": colour(50, 100), "repainted": colour(250, 60)}
    decision, _, _ = choose(candidates, scorers=judges, prompt="", config=RefineConfig(guard_trade=5.0))
    assert decision.kept == "original"


def test_ties_keep_the_original():
    decision, _, _ = choose({"original": colour(50), "repainted": colour(50)})
    assert decision.kept == "original"
    assert "more than its own noise" in decision.reason


def test_moves_within_the_noise_count_as_nothing():
    ramp = colour(50)
    ramp[..., 0] = 50 + 2 * np.arange(16)  # moved by one pixel, which nobody sees, its mean changes by two levels
    slightly = ramp.copy()
    slightly[..., 0] += 1
    decision, _, _ = choose({"original": ramp, "repainted": slightly})
    assert decision.kept == "original"
    clearly = ramp.copy()
    clearly[..., 0] += 9
    decision, _, _ = choose({"original": ramp, "repainted": clearly})
    assert decision.kept == "repainted"


class Parity(Channel):
    """A judge that nobody can believe: it looks at the last bit of the pixels."""

    def __call__(self, images, prompts=None):
        return [Scores({self.spec.name: float((np.asarray(image)[0, 0, 0] % 2) ^ 1)}) for image in images]


def test_a_judge_whose_noise_is_too_wide_is_unfit_and_named():
    parity = Parity("parity", 0, axis="both")
    candidates = {"original": colour(50), "repainted": colour(201, 201)}
    seen = Panel(own, [parity]).noise(colour(50), "a ball")
    assert seen["parity"] == 1.0, "a level of rounding flips it"
    decision, _, _ = choose(candidates, [RED, GREEN, parity])
    assert decision.kept == "repainted"
    assert decision.guarded
    assert "move it too far on this picture: parity (1)" in decision.reason
    assert "Did not decide: parity fell by 1 " in decision.reason
    alone, _, _ = choose(candidates, [parity])
    assert not alone.guarded, "who is unfit covers no axis"


def test_what_fell_is_named_even_within_its_noise():
    ramp = colour(50, 100)
    ramp[..., 1] = 100 + 2 * np.arange(16)
    fallen = ramp.copy()
    fallen[..., 0] = 200
    fallen[..., 1] -= 18
    config = RefineConfig(guard_resolution=0.1)
    decision, _, _ = choose({"original": ramp, "repainted": fallen}, config=config)
    assert decision.kept == "repainted"
    assert "what fell stayed within its noise: green fell by 0.0706 (noise 0.1)" in decision.reason
    decision, _, _ = choose({"original": colour(50), "repainted": colour(200)}, config=config)
    assert decision.reason.endswith("and nothing fell beyond its noise.")


def test_the_better_of_two_is_kept():
    decision, _, _ = choose({"original": colour(50), "repainted": colour(120), "both": colour(200)})
    assert decision.kept == "both"
    decision, _, _ = choose({"original": colour(50), "repainted": colour(120), "both": colour(40)})
    assert decision.kept == "repainted"


def test_lower_is_better_where_the_metric_says_so():
    artefacts = Channel("artefacts", 0, axis="both", direction="lower")
    decision, _, _ = choose({"original": colour(200), "repainted": colour(50)}, [artefacts])
    assert decision.kept == "repainted"


def test_without_independent_scorers_it_decides_on_p_and_says_so():
    decision, _, _ = choose({"original": colour(50), "repainted": colour(200)}, (), "", own_bright)
    assert decision.kept == "repainted"
    assert not decision.guarded
    assert "No independent scorer covers every axis" in decision.reason


def test_an_uncovered_axis_is_not_guarded():
    decision, _, _ = choose({"original": colour(50), "repainted": colour(200)}, [RED])
    assert not decision.guarded
    alone, _, _ = choose({"original": colour(50), "repainted": colour(200)}, [RED], prompt="")
    assert alone.guarded, "without a prompt there is no alignment to guard"


def test_scorers_that_made_the_mask_do_not_judge():
    steered = Channel("red", 0, used_in_loop=True)
    decision, before, _ = choose({"original": colour(50), "repainted": colour(200)}, [steered, GREEN])
    assert "red" not in before
    assert decision.kept == "original"


def test_regions_are_judged_one_by_one():
    panel = Panel(own, [RED, GREEN])
    better, worse = colour(50), colour(50)
    better[:4] = (255, 100, 100)
    worse[8:] = (50, 0, 100)
    accepted, notes = reject_regions(panel, colour(50), [better, worse], [WHOLE] * 2, "a ball", CONFIG)
    assert accepted == [0]
    assert notes[0].startswith("Region 2 was left as it was: green fell")


def test_many_regions_are_held_a_few_at_a_time():
    alive, most = [], []

    def singles():
        for index in range(10):
            picture = colour(50)
            picture[index] = (255, 100, 100)
            alive.append(index)
            most.append(len(alive))
            yield picture

    def judged(images, prompt):
        alive.clear()
        return own(images, prompt)

    panel = Panel(judged, [])
    accepted, _ = reject_regions(panel, colour(50), singles(), [WHOLE] * 10, "a ball", CONFIG)
    assert accepted == list(range(10))
    assert max(most) == AT_ONCE


class Sized(Channel):
    """Remembers the sizes that it saw."""

    def __call__(self, images, prompts=None):
        self.seen = [*getattr(self, "seen", []), *(image.size for image in images)]
        return super().__call__(images, prompts)


def test_judges_that_can_see_a_region_in_its_surroundings_and_the_others_the_whole():
    near, far, unasked = Sized("near", 0), Sized("far", 1, axis="alignment"), Sized("off", 2, axis="none")
    near.spec = replace(near.spec, parts=True)
    maps = []

    def counted(images, prompt):
        maps.extend(images)
        return own(images, prompt)

    picture = np.full((1000, 1000, 3), 100, np.uint8)
    picture[..., 1] += np.arange(1000, dtype=np.uint8) // 2
    boxes = [(x, y, x + 64, y + 64) for x in (50, 450, 850) for y in (50, 850)]
    singles = []
    for index, (left, top, right, bottom) in enumerate(boxes):
        single = picture.copy()
        single[top:bottom, left:right, 0] = 0 if index == 1 else 255
        singles.append(single)
    accepted, notes = reject_regions(Panel(counted, [near, far, unasked]), picture, singles, boxes, "a ball", CONFIG)
    assert accepted == [0, 2, 3, 4, 5]
    assert "Region 2 was left as it was: near fell by 0.032" in notes[0], (
        "a share of the surroundings, not of the whole"
    )
    wholes, crops = near.seen.count((1000, 1000)), near.seen.count((NEAR, NEAR))
    probes = len({probe.tobytes() for probe in disturbed(picture)} - {picture.tobytes()})
    assert wholes == 1 + probes
    assert crops <= probes + 1 + 2 * len(boxes), "each candidate once, the noise probe once a picture"
    assert wholes + crops == len(near.seen)
    assert far.seen == [(1000, 1000)] * (1 + probes + len(boxes))
    assert len(maps) == 1 + probes, "who decides nothing is not asked about regions"
    assert not hasattr(unasked, "seen")


def test_surroundings_stay_in_the_picture_and_are_the_picture_where_that_is_hardly_more():
    assert surroundings((0, 0, 64, 64), (1000, 1000)) == (slice(0, NEAR), slice(0, NEAR))
    assert surroundings((936, 500, 1000, 564), (1000, 1000)) == (slice(420, 644), slice(1000 - NEAR, 1000))
    assert surroundings((100, 100, 500, 500), (1000, 1000)) == (slice(100, 500), slice(100, 500))
    assert surroundings((0, 0, 800, 800), (1000, 1000)) == (slice(0, 1000), slice(0, 1000))
    assert surroundings((0, 0, 64, 64), (64, 300)) == (slice(0, 64), slice(0, 300))


def test_nothing_is_scored_twice():
    judge = Channel("red", 0, axis="both")
    panel = Panel(own, [judge])
    candidates = {"original": colour(50), "repainted": colour(200)}
    decide(panel, candidates, "a ball", CONFIG)
    first = judge.calls
    decide(panel, candidates | {"both": colour(220)}, "a ball", CONFIG)
    assert judge.calls == first + 1


def test_the_noise_of_a_picture_is_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr(guard, "disturbed", lambda picture: measured.append(picture) or disturbed(picture))
    panel = Panel(own, [RED, GREEN])
    reject_regions(panel, colour(50), [colour(60), colour(70)], [WHOLE] * 2, "a ball", CONFIG)
    decide(panel, {"original": colour(50), "repainted": colour(200)}, "a ball", CONFIG)
    decide(panel, {"original": colour(50), "both": colour(220)}, "a ball", CONFIG)
    assert len(measured) == 2, "of all judges, and of those that see a region in its surroundings"


def test_tolerance_widens_the_band():
    panel = Panel(own, [RED])
    panel.specs, panel.axes = {"red": RED.spec}, {"red": "perceptual"}
    assert compare(panel, {"red": 0.5}, {"red": 0.6}, {"red": 0.05}, ["red"]).accepted
    assert not compare(panel, {"red": 0.5}, {"red": 0.6}, {"red": 0.15}, ["red"]).accepted


def test_a_pipeline_may_ask_for_a_trade_but_not_for_what_is_never_open():
    assert resolve(RefineConfig(), {}, {}).guard_trade == 0.0
    assert resolve(RefineConfig(), {"guard_trade": 1.0}, {}).guard_trade == 1.0
    assert resolve(RefineConfig(guard_trade=0.5), {"guard_trade": 1.0}, {}).guard_trade == 0.5
    with pytest.raises(ConfigError, match="refine_defaults may set .*, not delta"):
        resolve(RefineConfig(), {"delta": 0.2}, {})
