"""Several tries at a region: where they pay, who takes one, and who is left to decide."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from components import pipeline
from PIL import Image

from grefine.errors import ConfigError, GRefineError, PromptError
from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.refine.candidates import Chooser, Part
from grefine.refine.settings import RefineConfig
from grefine.scorers.protocol import as_scorer
from grefine.types import MetricSpec, PainterSpec

GREY = Image.new("RGB", (64, 64), (90, 90, 90))
MASK = Image.fromarray(np.pad(np.full((32, 32), 255, np.uint8), 16))


def mean(image: Image.Image, channel: int) -> float:
    return float(np.asarray(image)[16:48, 16:48, channel].mean()) / 255


def judge(name: str, channel: int, **spec):
    def rate(images, prompts=None):
        return [mean(image, channel) for image in images]

    rate.spec = MetricSpec(name, range=(0.0, 1.0), **spec)
    return rate


RED, GREEN = judge("red", 0), judge("green", 1)
ASKS = judge("asks", 0, needs_prompt=True, axis="alignment")


class Painter:
    """Paints inside the mask a red that follows from the seed, over green that is better than what was there."""

    def __init__(self, sees_source: bool = False, least: int = 0, green: int = 200) -> None:
        self.spec = PainterSpec("shades", side=64, sees_source=sees_source)
        self.least, self.green, self.calls = least, green, []

    def __call__(self, images, masks, prompts, strengths, seeds):
        self.calls.append(list(seeds))
        flat = [
            Image.new("RGB", image.size, (self.red(s), self.green, 90)) for image, s in zip(images, seeds, strict=True)
        ]
        return [Image.composite(*three) for three in zip(flat, images, masks, strict=True)]

    def red(self, seed: int) -> int:
        return self.least + seed % (256 - self.least)

    @property
    def seeds(self) -> list[int]:
        return [seed for call in self.calls for seed in call]


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def call(pipe, painter, **options):
    given = {"scorers": [RED, GREEN], "restorer": "none", "mask_image": MASK} | options
    out = pipe("a red ball", GREY, painter=painter, generator=torch.Generator().manual_seed(3), **given)
    return out.images[0], out.results[0]


def test_one_try_is_what_it_was(pipe):
    plain, once, four = Painter(), Painter(), Painter()
    (first, result), (second, _) = call(pipe, plain), call(pipe, once, candidates=1)
    call(pipe, four, candidates="4 by red")
    assert first.tobytes() == second.tobytes()
    assert plain.seeds == once.seeds == four.seeds[:1], "the first try is the one that is drawn without more"
    assert (result.drawn, result.choosing) == ((1,), ())
    assert "chose" not in result.decision.reason


def test_own_unet_gives_the_same_bytes_at_one_and_encodes_equal_pictures_once(pipe, monkeypatch):
    rows, encode = [], pipe.vae.encode
    monkeypatch.setattr(pipe.vae, "encode", lambda x, *a, **k: rows.append(len(x)) or encode(x, *a, **k))
    plain, _ = call(pipe, None, guard=False)
    alone = list(rows)
    assert call(pipe, None, guard=False, candidates=1)[0].tobytes() == plain.tobytes()
    rows.clear()
    _, result = call(pipe, None, guard=False, candidates="4 by red")
    assert result.drawn == (4,)
    assert rows == alone, "four tries at one crop are encoded like one"


def test_the_judge_takes_the_best_and_does_not_decide(pipe):
    painter = Painter()
    image, result = call(pipe, painter, candidates="4 by red")
    assert len(painter.calls) == 1, "drawn in one go"
    assert len(set(painter.seeds)) == 4, "with seeds apart"
    reds = [painter.red(seed) for seed in painter.seeds]
    assert mean(image, 0) == pytest.approx(max(reds) / 255, abs=0.1), "it fades in"
    assert mean(image, 0) > mean(call(pipe, Painter(), candidates=1)[0], 0) or reds[0] == max(reds)
    assert (result.drawn, result.choosing) == ((4,), ("red",))
    assert "red chose among the repaints (regions x tries: 1 x 4); green" in result.decision.reason
    assert "red rose" not in result.decision.reason
    assert "red" not in result.decision.candidates["original"]
    assert (result.to_dict()["drawn"], result.to_dict()["choosing"]) == ([4], ["red"])


def test_of_tries_that_are_as_good_the_one_that_keeps_most_of_the_picture_is_taken(pipe):
    painter = Painter()
    image, result = call(pipe, painter, candidates="4 by green", guard=False)
    assert result.choosing == ("green",), "it rates all four alike"
    reds = [painter.red(seed) for seed in painter.seeds]
    assert mean(image, 0) == pytest.approx(min(reds) / 255, abs=0.1), "all are too bright, the darkest least"
    assert max(reds) - min(reds) > 80


def test_a_try_that_cannot_be_rated_is_taken_last():
    pictures = [np.full((16, 16, 3), value, np.uint8) for value in (0, 1, 200)]
    chooser = Chooser(2, wordless=(Part(as_scorer(GREEN), "green"),))
    assert chooser.take(pictures, np.array([0.5, np.nan, 0.9]), "") == 1
    assert chooser.take(pictures, np.array([0.5, np.nan, np.nan]), "") == 0


def test_with_too_few_judges_the_guard_says_what_it_rests_on(pipe):
    _, result = call(pipe, Painter(), candidates="3 by red", scorers=[RED])
    assert not result.decision.guarded
    assert "the maps' own scores helped to decide" in result.decision.reason
    assert "red chose among the repaints (regions x tries: 1 x 3); the quality map (p)" in result.decision.reason


def test_what_is_mended_in_sight_is_drawn_again_only_where_the_first_try_is_no_better(pipe):
    good, bad = Painter(sees_source=True, least=100), Painter(sees_source=True, least=100)
    assert call(pipe, good, candidates="4 by red")[1].drawn == (1,)
    worse = judge("dark", 0, direction="lower")
    assert call(pipe, bad, candidates="4 by dark", scorers=[worse, GREEN])[1].drawn == (4,)
    assert [len(one) for one in bad.calls] == [1, 3]


def test_a_lost_try_is_never_taken(pipe):
    class Loses(Painter):
        def __call__(self, images, masks, prompts, strengths, seeds):
            done = super().__call__(images, masks, prompts, strengths, seeds)
            return [one if number else Image.new("RGB", (8, 8)) for number, one in enumerate(done)]

    _, result = call(pipe, Loses(least=200), candidates="2 by red")
    assert result.decision.kept == "repainted"
    assert not any("left as it was" in text for text in result.warnings)


def test_without_a_name_a_judge_that_needs_no_prompt_chooses_where_there_is_none(pipe):
    given = {"candidates": 2, "scorers": [ASKS, GREEN], "mask_image": MASK, "painter": Painter(), "restorer": "none"}
    assert pipe("a red ball", GREY, **given).results[0].choosing == ("asks",)
    assert pipe(None, GREY, **given).results[0].choosing == ("green",)


def test_a_value_and_weights(pipe):
    def both(images, prompts=None):
        return [{"both.red": mean(image, 0), "both.green": mean(image, 1)} for image in images]

    both.spec, both.values = MetricSpec("both", range=(0.0, 1.0)), ("both.red", "both.green")
    painter = Painter()
    image, result = call(pipe, painter, candidates="4 by both.green*0.1,red*2", scorers=[both, RED, GREEN])
    assert result.choosing == ("both", "red")
    assert mean(image, 0) == pytest.approx(max(map(painter.red, painter.seeds)) / 255, abs=0.1)


BAD = {
    "none": ({"candidates": 0}, ConfigError, "candidates must be 1 to 64, or as"),
    "many": ({"candidates": 1000}, ConfigError, "must be 1 to 64"),
    "words": ({"candidates": "some"}, ConfigError, "must be 1 to 64"),
    "nobody": ({"candidates": "4 by"}, ConfigError, "must be 1 to 64"),
    "type": ({"candidates": 2.5}, ConfigError, "candidates must be a number, or a text"),
    "no judge": ({"candidates": 4, "scorers": []}, ConfigError, "candidates=4 needs a judge to choose"),
    "unknown": ({"candidates": "4 by mdiqua"}, ConfigError, "No metric 'mdiqua'"),
    "value": ({"candidates": "4 by niqe.red"}, ConfigError, "niqe gives niqe, not 'niqe.red'"),
    "absent": ({"candidates": "4 by hpsv2"}, GRefineError, "hpsv2"),
    "noise": ({"candidates": "4 by red", "latents": torch.zeros(1, 4, 16, 16)}, ConfigError, "latents would give"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(pipe, name, monkeypatch, tmp_path):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    options, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        call(pipe, None, **options)


def test_a_judge_that_needs_a_prompt_is_refused_where_there_is_none(pipe):
    with pytest.raises(PromptError, match="asks chooses by the prompt: give image 0 one"):
        pipe(None, GREY, mask_image=MASK, candidates="2 by asks", scorers=[ASKS], painter=Painter())


def test_folders_and_plans_follow_the_setting(pipe, tmp_path):
    (tmp_path / "in").mkdir()
    GREY.save(tmp_path / "in" / "a.png")
    given = {"mask_threshold": "mean", "gate": False, "max_area": 1.0, "use_aq": False, "restorer": "none"}
    config = RefineConfig(**given, candidates="3 by piqe", total_steps=2)
    refine_folder(tmp_path / "in", tmp_path / "out", pipe, config=config, options=FolderOptions(), prompt="a ball")
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert "piqe chose among the repaints" in row["reason"]
    assert "3 by piqe" in (tmp_path / "out" / "report.html").read_text()
    plan = pipe.plan("a ball", GREY, mask_image=MASK, config=config)
    plan.save(tmp_path / "plan")
    loaded = type(plan).load(tmp_path / "plan")
    assert pipe("a ball", GREY, plan=loaded, config=config).results[0].drawn == (3,)
    assert "candidates" not in json.loads((tmp_path / "plan.plan.json").read_text())["made_for"]["settings"]
