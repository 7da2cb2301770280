"""`config="paper"` is the print: its plan by hand, its maps recomputed from the equations, and a whole run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grefine import GRefinePipeline
from grefine.errors import ConfigError
from grefine.indicators.calibration import Calibration
from grefine.indicators.readings import Readings
from grefine.models.clip_surgery import ClipSurgery
from grefine.refine.plan import Findings, Planner
from grefine.refine.settings import changed_settings, read_settings
from grefine.types import AlignmentMap, ParsedPrompt, Phrase, PhraseAlignment, QualityMap

ROOT = Path(__file__).parents[2]
P = np.array([[0.8, 0.3], [0.9, 0.6]], np.float32)
HAIR = np.array([[0.9, 0.2], [0.1, 0.0]], np.float32)
WIND = Phrase("wind", ("in", "the", "wind"), ((6, 8), (9, 12), (13, 17)), 0)


def plan(edit, p, a, phrases=()):
    alignment = AlignmentMap(1 - edit, a, tuple(phrases))
    found = Findings(QualityMap(P, p), alignment, ParsedPrompt("a girl in the wind", (), ()))
    planner = Planner(read_settings("paper"), Calibration(p_gate=0.5, mask_threshold=0.99), 64)
    return planner.plan(found)


def test_the_plan_of_the_worked_example():
    """1 - P + A = [[1.1, .9], [.2, .4]], mean .65; (p + a) / 2 = (.6 + .4) / 2."""
    missing = PhraseAlignment(WIND, 0.25, 0.3, "noun", HAIR)
    found = plan(HAIR, 0.6, 0.4, [missing])
    (region,) = found.regions
    assert found.mask.tolist() == [[True, True], [False, False]]
    assert region.box == (0, 0, 2, 2)
    assert region.mask.tolist() == found.mask.tolist()
    assert region.strength == pytest.approx(0.5)
    assert region.prompt == "a girl in the wind"
    assert found.restore


def test_without_a_defect_a_is_one_and_the_better_picture_is_drawn_harder():
    """1 - P + 1 = [[1.2, 1.7], [1.1, 1.4]], mean 1.35."""
    found = plan(np.ones_like(P), 0.9, 0.9)
    assert found.mask.tolist() == [[False, True], [False, True]]
    assert [region.strength for region in found.regions] == [pytest.approx(0.9)]


@pytest.fixture(scope="module")
def pipe():
    return GRefinePipeline.from_pretrained("tiny")


def example(name):
    return Image.open(ROOT / "examples" / "images" / f"{name}.png").convert("RGB")


def test_the_whole_chain_runs_both_stages_on_a_good_picture_and_asks_nobody(pipe):
    stages = []

    def watch(_, step, timestep, values):
        stages.append(values["stage"])
        return {}

    prompt = "on green grass in the evening, a blue tree and a pink dotted ball"
    told = {"prompt": prompt, "image": example("02_clean"), "generator": torch.Generator().manual_seed(0)}
    shown = {"callback_on_step_end": watch, "callback_on_step_end_tensor_inputs": ["latents", "stage"]}
    result = pipe(**told, **shown, config="paper").results[0]
    (region,) = result.plan.regions
    p, a = result.quality.score, result.alignment.score
    wrong = 1 - result.quality.values + result.alignment.edit
    assert region.box == (0, 0, 64, 64)
    assert np.array_equal(result.plan.mask, wrong > wrong.mean())
    assert region.strength == pytest.approx(min(max((p + a) / 2, 0.05), 0.99))
    assert stages == ["repaint"] * 10 + ["restore"] * 10
    assert result.decision.kept == "both"
    (literal,) = pipe.own_maps(Readings.of("paper"))[1]([example("02_clean")], [prompt])
    assert a == pytest.approx(literal.score)
    plain = pipe(**told).results[0]
    assert len(plain.plan.regions) == 0, "by default it is left alone"
    assert plain.alignment.score > a + 0.5


def test_the_maps_are_the_printed_equations(pipe):
    pq, aq = pipe.own_maps(Readings.of("paper"))
    image, prompt = example("09_colour"), "on the grass, a white cone, an orange spotted star"
    with torch.no_grad():
        encoding = pq.encode([image])
        pairs = pq.text_features()
        features = encoding.whole[0]
        L = (_normed(features, pq.feature_norm) @ (pairs[:, 0] - pairs[:, 1]).T)[0]  # Eq. 3
        staves = [min(float(L[i]) / alpha, 1.0) for i, alpha in zip((1, 2, 3), pq.alpha, strict=True)]
        (found,) = pq([image], encoding=encoding)
        assert found.score == pytest.approx(min(max(float(L[0]) * math.prod(staves), 0.0), 1.0), abs=1e-5)
        (aligned,) = aq([image], [prompt], encoding=encoding)
        tau = float(pipe.clip.logit_scale.exp())
        unit = torch.nn.functional.normalize(features, dim=-1)

        def against_empty(text):
            phrase, empty = torch.nn.functional.normalize(aq.text_features([text, ""]), dim=-1)
            return torch.stack([tau * unit @ phrase, tau * unit @ empty], -1).softmax(-1)[:, 0]  # Eq. 5

        phrases = [one for one in aligned.phrases if one.phrase.drawable]
        for one in phrases:
            assert one.a_phs == pytest.approx(float(against_empty(one.phrase.text)[0]), abs=1e-4)
            assert one.a_pns == pytest.approx(float(against_empty(one.phrase.noun)[0]), abs=1e-4)
            wanted = "noun" if one.a_pns < 0.5 else "attribute" if one.a_phs < one.a_pns else None
            assert one.defect == wanted
        A = np.ones_like(aligned.values)
        for one in phrases:  # Eq. 6 as printed: a missing noun on itself, wrong attributes on the ancestor
            if one.defect is not None:
                shown = one.phrase if one.defect == "noun" else aligned.phrases[one.phrase.ancestor].phrase
                A = A * aq.aligned_map(encoding, 0, shown.noun).draw()
        np.testing.assert_allclose(aligned.edit, A, atol=1e-5)
        whole = torch.nn.functional.normalize(aq.text_features([prompt])[0], dim=-1)
        a = float((unit[0] @ whole).clamp(0, 1)) * math.prod(min(one.a_phs / 0.5, 1.0) for one in phrases)  # Eq. 8
        assert aligned.score == pytest.approx(a, abs=1e-4)


def _normed(features, how):
    return features / features.norm(dim=0 if how == "token" else -1, keepdim=True)


def test_the_printed_attention_divides_by_each_values_length():
    """Eq. 1 with one block, by hand."""
    torch.manual_seed(0)
    clip = ClipSurgery(32, 16, 8, 32, 1, 2, 32, 1, 2, 8, 20, surgery_layers=1, eos_token_id=19).eval()
    pixels = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        visual, block = clip.clip.visual, clip.clip.visual.transformer.resblocks[0]
        x = clip._embed_patches(pixels)
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
        v = (block.ln_1(x) @ weight[64:].T + bias[64:]).reshape(1, 5, 2, 16).transpose(1, 2)
        seen = ((v @ v.transpose(-1, -2)) / v.norm(dim=-1, keepdim=True)).softmax(-1) @ v
        y = x + block.attn.out_proj(seen.transpose(1, 2).reshape(1, 5, 32))
        wanted = (visual.ln_post(y) @ visual.proj)[:, 1:]
        torch.testing.assert_close(clip(pixels, attention="printed")[:, 1:], wanted)
        assert not torch.allclose(clip(pixels)[:, 1:], wanted, atol=1e-4)


def test_every_reading_of_the_page_is_a_setting(tmp_path):
    named = re.findall(r"`(\w+)=\"?([\w./]+)\"?`", (ROOT / "docs" / "method_maps.md").read_text())
    assert len(named) > 20
    for name, value in named:
        text = f"grefine, {name}={value}"
        (tmp_path / "own.yaml").write_text(f"reading: {text}\n")
        given = changed_settings("default", [f"reading={text}"])
        assert read_settings(tmp_path / "own.yaml").readings == given.readings == Readings.of(text)
        assert Readings.of(text) != Readings(), "the word is our default"
    unnamed = set(Readings.__dataclass_fields__) - {name for name, _ in named}
    assert not unnamed, "the page does not name them"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("paper, a_combin=max", "unknown key 'a_combin'"),
        ("paper, a_combine=maxx", "must be one of noisy_or, max, product|must be noisy_or"),
        ("paper, alpha=high", "three numbers"),
        ("paper, whole", "NAME=VALUE"),
    ],
)
def test_a_wrong_reading_is_told(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        changed_settings("default", [f"reading={text}"])


def test_another_parser_reads_the_prompt(pipe):
    from grefine.text.backend import Analysis, register_backend
    from grefine.text.nltk_backend import NltkBackend

    class One:
        name = "nltk"

        def analyse(self, words):
            return Analysis(["NOUN"] * len(words), [-1] * len(words), ["root"] * len(words))

    register_backend("nltk", One)
    try:
        out = pipe("red ball", example("02_clean"), config={"reading": "grefine, parser=nltk"}, plan_only=True)
    finally:
        register_backend("nltk", NltkBackend)
    assert [one.phrase.noun for one in out.results[0].alignment.phrases] == ["red", "ball"]
