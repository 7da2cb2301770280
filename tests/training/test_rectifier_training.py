"""Calibration from a ranking: what it learns, what it keeps, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import reference_image
from PIL import Image
from typer.testing import CliRunner

from grefine.config import load_config
from grefine.errors import ConfigError, MetricUnavailable, WeightsMissing
from grefine.models.five_level import FiveLevelCLIP
from grefine.models.rectifier import Rectifier
from grefine.ranking.frozen import CalibratedJudge, FiveLevelJudge, JudgeSource, ScorerJudge, load_judge
from grefine.resources import bundled
from grefine.training.datasets.published import read_ranking
from grefine.training.rectifier import (
    RankedPool,
    RatedSeen,
    RectifierConfig,
    Seen,
    fit_rectifier,
    measure,
    read_pool,
    split_inputs,
    train_rectifier,
)

GEOMETRY = {
    "embed_dim": 32,
    "patch_size": 32,
    "vision_width": 64,
    "vision_layers": 1,
    "vision_heads": 1,
    "text_width": 64,
    "text_layers": 1,
    "text_heads": 1,
}
METHODS = ("good", "middling", "poor")


def blind_judge(inputs=48, seed=0):
    """A judge that sees a flaw in its features but scores the wrong way round, on methods of known order."""
    generator = torch.Generator().manual_seed(seed)
    flaw = torch.tensor([0.0, 1.0, 2.0])[:, None] + 0.7 * torch.rand(3, inputs, generator=generator)
    q = 3 + 0.4 * flaw + 0.2 * torch.randn(3, inputs, generator=generator)
    features = 0.3 * torch.randn(3 * inputs, 4, 8, generator=generator)
    features[:, :, 0] = flaw.flatten()[:, None]
    names = tuple(f"x{i}" for i in range(inputs))
    return RankedPool(METHODS, names, torch.tensor([1.0, 0.0, -1.0]), Seen(q.flatten(), features.half())), flaw


def rated_pictures(n=256, seed=1):
    """Rated pictures without that flaw, on which the judge is right."""
    generator = torch.Generator().manual_seed(seed)
    q = 3 + torch.randn(n, generator=generator)
    features = 0.3 * torch.randn(n, 4, 8, generator=generator)
    features[:, :, 0] = 0
    return RatedSeen("rated", q + 0.4 * torch.randn(n, generator=generator), Seen(q, features.half()))


CONFIG = RectifierConfig(epochs=4, steps_per_epoch=60, group=16, learning_rate=3e-3, held_out=0.25, rated_batch=48)


def test_a_ranking_turns_a_wrong_judge_round_and_costs_no_rated_knowledge():
    pool, _ = blind_judge()
    rated = rated_pictures()
    _, held = split_inputs(48, 0.25, 0)
    before = measure(Rectifier(8, start=1e-6), pool, [rated], held, JudgeSource())
    trained = fit_rectifier(8, pool, [rated], CONFIG)
    after = trained.history[-1]
    assert before["pair_accuracy"] < 0.3
    assert before["ranking_srcc"] == -1
    assert after["pair_accuracy"] > 0.8
    assert after["ranking_srcc"] == 1
    assert after["rated_srcc"] > before["rated_srcc"] - 0.02


def test_without_rated_pictures_their_order_is_lost():
    """The mixture of Eq. 6 is what keeps it: without it a rectifier may give up everything else."""
    pool, _ = blind_judge()
    rated = rated_pictures()
    both = fit_rectifier(8, pool, [rated], CONFIG)
    alone = fit_rectifier(8, pool, [], CONFIG)
    source = JudgeSource()
    kept = measure(both.rectifier, pool, [rated], torch.arange(48), source)["rated_srcc"]
    lost = measure(alone.rectifier, pool, [rated], torch.arange(48), source)["rated_srcc"]
    assert kept > lost


def test_scale_alone_cannot_turn_an_order_round():
    pool, _ = blind_judge()
    constant = dataclasses.replace(pool, seen=Seen(pool.seen.q, torch.zeros_like(pool.seen.features)))
    trained = fit_rectifier(8, constant, [], dataclasses.replace(CONFIG, use_beta=False, epochs=1))
    assert trained.history[-1]["ranking_srcc"] == -1


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_source_alone():
    pool, _ = blind_judge()
    short = dataclasses.replace(CONFIG, epochs=1, steps_per_epoch=5, dropout=0.1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fit_rectifier(8, pool, [], short)
    assert torch.rand(1) == expected
    second = fit_rectifier(8, pool, [], short)
    for a, b in zip(first.rectifier.parameters(), second.rectifier.parameters(), strict=True):
        assert torch.equal(a, b)


def test_other_metrics_are_brought_to_unit_spread():
    pool, _ = blind_judge()
    wide = dataclasses.replace(pool, seen=Seen(1000 * pool.seen.q, pool.seen.features))
    config = dataclasses.replace(CONFIG, epochs=1, steps_per_epoch=2, judge=JudgeSource(metric="mdiqa", features="x"))
    source = fit_rectifier(8, wide, [], config).source
    assert source.scale == pytest.approx(1000 * pool.seen.q.std().item())
    flat = dataclasses.replace(pool, seen=Seen(torch.ones_like(pool.seen.q), pool.seen.features))
    with pytest.raises(ConfigError, match="nothing to calibrate"):
        fit_rectifier(8, flat, [], config)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders as a user has them: a pool of three methods, rated pictures, a tiny judge."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for noise, method in zip((0, 15, 60), METHODS, strict=True):
        (root / "pool" / method).mkdir(parents=True)
        for i in range(4):
            values = reference_image(f"p{i}", 224, 224) + noise * generator.standard_normal((224, 224, 3))
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(root / "pool" / method / f"x{i}.png")
    (root / "rated").mkdir()
    lines = ["image,mos"]
    for i in range(6):
        Image.fromarray(reference_image(f"r{i}", 224, 256)).save(root / "rated" / f"r{i}.png")
        lines.append(f"r{i}.png,{i}")
    (root / "rated" / "rated.csv").write_text("\n".join(lines))
    (root / "ranking.json").write_text(json.dumps({"scores": {"good": 1, "middling": 0.0, "poor": -1.0}}))
    torch.manual_seed(0)
    FiveLevelCLIP(**GEOMETRY, windows=2).save_pretrained(root / "judge")
    return root


def config_of(data, **changes):
    return RectifierConfig(
        judge=JudgeSource(weights=str(data / "judge"), features="embedding"),
        pool=str(data / "pool"),
        ranking=str(data / "ranking.json"),
        rated=(str(data / "rated" / "rated.csv"),),
        epochs=2,
        steps_per_epoch=2,
        group=2,
        held_out=0.25,
        **changes,
    )


def test_from_folders_to_a_calibrated_judge(data, tmp_path):
    trained = train_rectifier(config_of(data), tmp_path / "out")
    judge = CalibratedJudge.load(tmp_path / "out")
    images = [Image.open(data / "pool" / m / "x0.png").convert("RGB") for m in METHODS]
    scores = judge.both(images)[1]
    assert scores.shape == (3,)
    frozen = FiveLevelJudge(FiveLevelCLIP.from_pretrained(data / "judge"), "embedding")
    q, features = frozen.read(images)
    with torch.no_grad():
        torch.testing.assert_close(scores, trained.rectifier.eval()(features, q).score)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert len(record["history"]) == 2
    assert {"ranking_srcc", "rated_srcc"} <= record["history"][-1].keys()
    assert record["config"]["pool"].endswith("pool")


def test_the_command_line_trains_and_the_judge_scores_votes(data, tmp_path):
    from grefine.cli.main import app

    yaml = tmp_path / "c.yaml"
    yaml.write_text("epochs: 1\nsteps_per_epoch: 1\ngroup: 2\njudge: {features: embedding}\n")
    arguments = ["train", "rectifier", "--config", str(yaml), "-o", str(tmp_path / "out"), "--json"]
    arguments += ["--pool", str(data / "pool"), "--ranking", str(data / "ranking.json"), "--weights"]
    done = CliRunner().invoke(app, [*arguments, str(data / "judge")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "ranking_srcc" in done.stdout
    votes = tmp_path / "votes.csv"
    votes.write_text("method_a,method_b,image,votes_a,votes_b\ngood,poor,x0,5,1\npoor,middling,x1,1,4\n")
    arguments = ["rank", "score", str(votes), "--images", str(data / "pool"), "--calibrated", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[-1]["baseline"] is False


def test_any_open_network_can_be_the_judge():
    from grefine.scorers.brisque import SPEC
    from grefine.types import Scores

    class Scorer:
        spec = SPEC

        def __init__(self):
            torch.manual_seed(0)
            self.model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, stride=4), torch.nn.ReLU())

        @torch.inference_mode()
        def __call__(self, images, prompts=None):
            pixels = [torch.from_numpy(np.array(i)).permute(2, 0, 1)[None] / 255 for i in images]
            return [Scores({"brisque": float(self.model(p).mean())}) for p in pixels]

    judge = ScorerJudge(Scorer(), "0")
    images = [Image.fromarray(reference_image("a", 96, 128)), Image.fromarray(reference_image("b", 160, 64))]
    q, features = judge.read(images)
    assert features.shape == (2, 49, 5)
    assert judge.width == 5
    assert (q < 0).all(), "lower is better, so the score is turned round"
    assert not features.is_inference()
    with pytest.raises(ConfigError, match="no layer '9'"):
        ScorerJudge(Scorer(), "9")
    with pytest.raises(ConfigError, match="no value 'x'"):
        ScorerJudge(Scorer(), "0", "x")
    closed = Scorer()
    closed.model = None
    with pytest.raises(MetricUnavailable, match="exposes no features"):
        ScorerJudge(closed, "0")


def test_a_registry_metric_can_be_the_judge():
    from grefine.models.mdiqa import MDIQA
    from grefine.scorers.mdiqa import MDIQAScorer

    model = MDIQA("resnet10t", width=16, heads=2, hidden=16, gate_width=8, with_overall=False)
    judge = ScorerJudge(MDIQAScorer(model), "technology.reduce.3", "mdiqa.sharpness")
    q, features = judge.read([Image.fromarray(reference_image("a", 96, 128))])
    assert features.shape[0] == q.shape[0] == 1
    assert features.shape[-1] == judge.width


def test_bad_data_is_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="needs `pool`"):
        train_rectifier(RectifierConfig(), tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        train_rectifier(dataclasses.replace(config_of(data), pool=str(data / "none")), tmp_path)
    with pytest.raises(WeightsMissing, match="five-level judge needs"):
        load_judge(JudgeSource())
    with pytest.raises(ConfigError, match="patches"):
        load_judge(JudgeSource(weights=str(data / "judge"), features="fc"))
    judge = load_judge(JudgeSource(weights=str(data / "judge")))
    folders = sorted((data / "pool").iterdir())
    with pytest.raises(ConfigError, match="no score for the method 'good'"):
        read_pool(judge, folders, {"poor": 1.0, "middling": 2.0}, print)
    with pytest.raises(ConfigError, match="'other' has no folder"):
        read_pool(judge, folders, {"good": 3.0, "poor": 1.0, "middling": 2.0, "other": 0.0}, print)
    (tmp_path / "r.json").write_text('{"scores": {"a": "x", "b": 1}}')
    with pytest.raises(ConfigError, match="not a number"):
        read_ranking(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(ConfigError, match="scores by method"):
        read_ranking(tmp_path / "r.json")
    with pytest.raises(ConfigError, match="no calibrated judge"):
        CalibratedJudge.load(tmp_path)
    with pytest.raises(ConfigError, match="held_out"):
        split_inputs(4, 1.0, 0)


@pytest.mark.parametrize("path", sorted((bundled("configs") / "train").glob("rectifier*.yaml")), ids=lambda p: p.stem)
def test_every_bundled_configuration_is_valid(path):
    config = load_config(path, RectifierConfig)
    assert config.phi in ("paper", "released")
    assert config.epochs == 8


@pytest.mark.slow
def test_calibration_on_the_toy_world():
    """Refiners of known order, a judge that ranks them wrongly, told the ranking alone."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from ranking_toy import calibrate

    outcome, _ = calibrate(seed=0)
    assert outcome.gain_interval[0] > 0, "2AFC rises beyond its interval on held-out scenes"
    assert outcome.after.score > outcome.before.interval[1]
    assert outcome.ranking_srcc_before < 0.5 < outcome.ranking_srcc_after
    assert outcome.rated_change_interval[1] > 0, "no fall beyond chance on held-out rated pictures"
    assert outcome.rated_srcc_after > outcome.rated_srcc_before - 0.02


def test_a_calibrated_judge_of_another_world_refuses_pictures_unless_forced(tmp_path):
    """The network of tiny knows toy scenes, and so does what corrects it."""
    from grefine.errors import WorldMismatch
    from grefine.ranking.judges import calibrated_values
    from grefine.scorers.resolve import load_scorer

    network = load_scorer("lar_iqa", "tiny").scorer.model
    layer = next(name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear))
    source = JudgeSource(metric="lar_iqa", weights="tiny", features=layer)
    frozen = load_judge(source)
    CalibratedJudge(frozen, Rectifier(width=frozen.width), source).save(tmp_path / "judge")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    paths = {("m", "a.png"): tmp_path / "a.png"}
    with pytest.raises(WorldMismatch, match="Not a picture of the toy"):
        calibrated_values([tmp_path / "judge"], paths)
    said: list[str] = []
    assert len(calibrated_values([tmp_path / "judge"], paths, progress=said.append, force=True)) == 2
    assert any("what was forced on them means nothing" in line for line in said)
