"""`grefine train pq` and `aq`: the scores that are fitted are the maps' own, fits help, resume, load and refuse."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError
from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibrate import weights_digest
from grefine.indicators.calibration import Calibration
from grefine.indicators.encoding import TextFeatures, normalise_features
from grefine.indicators.load import load_clip, load_maps, load_prompts, load_tokenizer
from grefine.indicators.pq_map import PQMap
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.resources import pipeline_folder
from grefine.text.parse import parse
from grefine.training.loop import Record
from grefine.training.maps.opinions import RatedTable
from grefine.training.maps.train import (
    AQSettings,
    ClassTokens,
    alignment_scores,
    moving,
    quality_scores,
    train_map,
)
from lab import map_sources
from lab.judges.stream import judged
from lab.map_sources import ToyAlignment, ToyQuality
from lab.world.pictures import pictures_with_captions, to_picture

MANY_SEED = 77_000_001


@pytest.fixture
def few(monkeypatch):
    """Measure on a handful of scenes where the measurement is not the point."""
    monkeypatch.setattr(map_sources, "HELD_OUT_SCENES", 16)


@pytest.fixture(scope="module")
def maps():
    return load_maps("tiny")


@pytest.fixture(scope="module")
def rated_pictures():
    """Toy scenes of seeds that no training uses, with their true quality."""
    data = judged(MANY_SEED, 0, 96, distorted_share=0.0)
    return [to_picture(image) for image in data.images], data.quality.numpy()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder of what the maps need, whose quality prompts know nothing."""
    folder = tmp_path_factory.mktemp("start")
    known = pipeline_folder("tiny")
    for name in ("clip", "clip_tokenizer"):
        shutil.copytree(known / name, folder / name)
    prompts = load_prompts("tiny").float()
    # The words alone ("Good photo..") already tell much, so both sides get the same ones.
    prompts.token_suffix[1] = prompts.token_suffix[0]
    prompts.ctx.data = 0.6 * torch.randn(prompts.ctx.shape, generator=torch.Generator().manual_seed(3))
    prompts.save_pretrained(folder / "pq_prompts")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "GRefinePipeline"}))
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Toy pictures as files, with opinions about quality and prompts."""
    folder = tmp_path_factory.mktemp("rated")
    data = judged(MANY_SEED, 1, 40, distorted_share=0.0)
    _, captions = pictures_with_captions(40, 5)
    with (folder / "rated.csv").open("w", newline="") as sink:
        rows = csv.writer(sink)
        rows.writerow(["image", "mos", "prompt", "technical"])
        for number, image in enumerate(data.images):
            to_picture(image).save(folder / f"{number:02d}.png")
            score = float(data.quality[number])
            rows.writerow([f"{number:02d}.png", 5 * score, captions[number], 100 * score])
    return folder / "rated.csv"


@pytest.mark.parametrize("norm", ["channel", "token"])
def test_quality_scores_are_those_of_the_map(maps, rated_pictures, norm):
    pictures, _ = rated_pictures
    pq = PQMap(maps.pq.clip, maps.pq.prompts, readings={"feature_norm": norm}, calibration={"alpha": (0.9, 0.8, 0.95)})
    tokens = normalise_features(pq.encode(pictures[:6]).whole, norm)[:, 0]
    score, chances = quality_scores(tokens, pq.text_features(), torch.tensor(pq.alpha))
    found = pq(pictures[:6])
    assert score.tolist() == pytest.approx([q.score for q in found], abs=1e-6)
    assert chances[:, 2].tolist() == pytest.approx([q.factors["rational"] for q in found], abs=1e-6)


@pytest.mark.parametrize("redundant", ["empty", "none", "compete"])
@pytest.mark.parametrize("where", ["class", "peak"])
def test_alignment_scores_are_those_of_the_map(maps, redundant, where):
    pictures, captions = pictures_with_captions(5, 21)
    captions[2] = captions[2] + ", 4k, highly detailed, without trees"
    stated = maps.calibration.to_dict() | {"redundant": redundant, "phrase_score": where, "beta": 0.8}
    aq = AQMap(maps.aq.clip, load_tokenizer("tiny"), calibration=stated)
    features = aq.encode(pictures).whole
    texts = TextFeatures(maps.aq.clip, load_tokenizer("tiny"))
    with torch.no_grad():
        found = alignment_scores(
            features, torch.arange(5), [parse(text) for text in captions], texts, Calibration.of(stated)
        )
    assert found.tolist() == pytest.approx([a.score for a in aq(pictures, captions)], abs=1e-5)


def test_prompts_learn_from_opinions_and_load_everywhere(start, tmp_path, rated_pictures):
    """From prompts that know nothing, a small budget makes p follow the opinions on scenes never seen."""
    found = train_map(
        "pq",
        tmp_path,
        start,
        source=_quality,
        config=_yaml(tmp_path, "batch: 16\nlearning_rate: 0.01\n"),
        steps=24,
        cpu=True,
    )
    assert found["after"]["srcc"] > found["before"]["srcc"] + 0.2
    assert found["after"]["rmse"] < found["before"]["rmse"]
    assert found["after"]["map_ap"] > 2 * found["before"]["map_ap"], "the image score teaches the map as well"
    pictures, quality = rated_pictures
    learnt = PQPrompts.from_pretrained(tmp_path / "pq_prompts")
    clip = load_clip(start)
    assert weights_digest(clip) == weights_digest(load_clip("tiny"))
    rho = [
        spearmanr([q.score for q in PQMap(clip, prompts)(pictures)], quality).statistic
        for prompts in (load_prompts(start), learnt)
    ]
    assert rho[1] > rho[0] + 0.2
    assert (tmp_path / "training" / "pq.png").stat().st_size > 5000
    assert json.loads((tmp_path / "pq_prompts" / "metrics.json").read_text()) == found
    from grefine import GRefinePipeline

    pipe = GRefinePipeline.from_pretrained("tiny", pq_prompts=learnt)
    assert torch.equal(pipe.pq_prompts.ctx.float(), learnt.ctx.float())
    out = pipe(
        prompt=["a red ball on grass"], image=[pictures[0]], generator=torch.Generator().manual_seed(0), force=True
    )
    expected = PQMap(clip, learnt, calibration=load_maps("tiny").calibration)([pictures[0]])[0].score
    assert out.results[0].quality.score == pytest.approx(expected, abs=1e-4)


def test_a_seed_gives_the_same_prompts_and_a_resume_goes_on(few, tmp_path):
    config = _yaml(tmp_path, "batch: 4\n")
    for name in ("a", "b"):
        train_map("pq", tmp_path / name, "tiny", source=_quality, config=config, steps=2, cpu=True)
    ctx = [PQPrompts.from_pretrained(tmp_path / name / "pq_prompts").ctx for name in ("a", "b")]
    assert torch.equal(*ctx)
    train_map("pq", tmp_path / "b", "tiny", source=_quality, config=config, steps=1, cpu=True)
    assert not torch.equal(PQPrompts.from_pretrained(tmp_path / "b" / "pq_prompts").ctx, ctx[0])
    record = Record.load(tmp_path / "b" / "training", "pq")
    assert (record.samples, len(record.runs)) == (12, 2)
    assert [row["step"] for row in record.rows][0] == 0


def test_going_on_from_another_configuration_is_refused(few, start, table, tmp_path):
    train_map("pq", tmp_path / "o", start, source=_quality, config=_yaml(tmp_path, "batch: 4\n"), steps=1, cpu=True)
    with pytest.raises(ConfigError, match="was trained with batch=4, now it is 8"):
        train_map(
            "pq", tmp_path / "o", start, source=_quality, config=_yaml(tmp_path, "batch: 8\n"), steps=1, cpu=True
        )
    with pytest.raises(ConfigError, match="was trained with opinions=toy world"):
        train_map("pq", tmp_path / "o", start, config=_yaml(tmp_path, "batch: 4\n"), data=table, steps=1, cpu=True)
    train_map(
        "pq",
        tmp_path / "o",
        start,
        source=_quality,
        config=_yaml(tmp_path, "batch: 4\nlearning_rate: 0.1\n"),
        steps=1,
        cpu=True,
    )
    assert Record.load(tmp_path / "o" / "training", "pq").samples == 8


def test_a_copy_of_a_pipeline_can_be_trained_in_place(few, start, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(start, folder)
    before = load_maps(folder)
    config = _yaml(tmp_path, "batch: 6\n")
    for kind, source in (("aq", _alignment), ("pq", _quality)):
        for _ in range(2):
            train_map(kind, folder, folder, source=source, config=config, steps=1, cpu=True)
    after = load_maps(folder)
    assert not torch.equal(after.pq.prompts.ctx, before.pq.prompts.ctx)
    assert weights_digest(after.pq.clip) != weights_digest(before.pq.clip)
    train_map("aq", folder, folder, source=_alignment, config=config, steps=1, cpu=True)
    with pytest.raises(ConfigError, match="was trained with pipeline_clip"):
        train_map("pq", folder, folder, source=_quality, config=config, steps=1, cpu=True)
    assert len(list(folder.rglob("*.safetensors"))) == len(list(Path(start).rglob("*.safetensors")))


def test_alignment_learns_and_leaves_quality_alone(tmp_path):
    """A CLIP whose texts were disturbed finds its way back; PQ-Map's factors stay, and only what may move moves."""
    clip = load_clip("tiny").float()
    generator = torch.Generator().manual_seed(1)
    projection = clip.clip.text_projection.data
    projection += 0.35 * projection.std() * torch.randn(projection.shape, generator=generator)
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    disturbed, out = tmp_path / "disturbed", tmp_path / "out"
    for name in ("clip", "clip_tokenizer", "pq_prompts"):
        shutil.copytree(pipeline_folder("tiny") / name, disturbed / name)
    shutil.copy(pipeline_folder("tiny") / "model_index.json", disturbed)
    clip.save_pretrained(disturbed / "clip")
    config = _yaml(tmp_path, "batch: 36\nlearning_rate: 0.001\n")
    train_map("aq", out, disturbed, source=_alignment, config=config, steps=16, cpu=True)
    rows = Record.load(out / "training", "aq").rows
    first, last = rows[0], rows[-1]
    assert last["rmse"] < 0.8 * first["rmse"]
    assert last["plcc"] > first["plcc"]
    assert last["quality_rms_change"] < 0.05
    learnt = ClipSurgery.from_pretrained(out / "clip")
    moved = {name for name, value in learnt.state_dict().items() if not torch.equal(value.float(), before[name])}
    assert moved
    assert not any(".visual." in name or "token_embedding" in name for name in moved)
    assert [p.relative_to(out).as_posix() for p in out.rglob("*.safetensors")] == [
        "clip/diffusion_pytorch_model.safetensors"
    ]
    from grefine import GRefinePipeline

    pipe = GRefinePipeline.from_pretrained("tiny", clip=learnt)
    assert pipe.clip is learnt


def test_what_moves():
    clip = load_clip("tiny").float()
    names = {id(p): name for name, p in clip.named_parameters()}
    text = {names[id(p)] for p in moving(clip, AQSettings())}
    both = {names[id(p)] for p in moving(clip, AQSettings(image_blocks=2))}
    assert {"clip.text_projection", "clip.logit_scale", "clip.positional_embedding"} <= text
    assert both - text == {n for n in names.values() if n.startswith(("clip.visual.transformer.resblocks.2", "clip.visual.transformer.resblocks.3", "clip.visual.ln_post", "clip.visual.proj"))}  # fmt: skip  # noqa: E501
    with pytest.raises(ConfigError, match=r"image_blocks must lie in 0..4"):
        moving(clip, AQSettings(image_blocks=9))
    with pytest.raises(ConfigError, match="Nothing would move"):
        AQSettings(text=False)


def test_a_table_is_seen_once_and_in_epochs(maps, table):
    source = RatedTable(maps.pq.clip, table)
    assert source.size == 36
    epoch = [key for number in range(5) for key in source.draw(number, 8).keys]
    assert len(epoch) == len(set(epoch)) == 36
    assert source.draw(5, 8).keys != source.draw(0, 8).keys
    assert not set(epoch) & set(source.held_out().keys)
    batch = source.draw(0, 8)
    assert torch.allclose(batch.factors[:, 0], batch.opinions, atol=0.01), "each column is put on its own scale"
    assert batch.factors[:, 1:].isnan().all()
    seen = ClassTokens(maps.pq.clip, "channel")
    first = seen(batch)
    looked = []
    again = source.draw(0, 8)
    assert torch.equal(seen(_watched(again, looked)), first)
    assert not looked, "a frozen encoder needs no second look"


def test_the_command_on_own_pictures(start, table, tmp_path):
    config = _yaml(tmp_path, "start: pipeline\nbatch: 8\nepochs: 4\nlearning_rate: 0.02\n")
    given = ("train", "pq", "--data", table, "--pipeline", start, "--config", config, "-o", tmp_path / "o", "--json")
    done = _run(*given, "--device", "cpu")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["samples"] == 4 * 5 * 8
    assert found["after"]["rmse"] < found["before"]["rmse"]
    assert "grefine calibrate" in done.stderr
    again = _run(*given)
    assert isinstance(again.exception, ConfigError)
    assert "All 20 steps of the recipe are done" in str(again.exception)


def test_alignment_on_own_pictures(start, table, tmp_path):
    config = _yaml(tmp_path, "batch: 12\nimage_blocks: 1\nlearning_rate: 0.0005\n")
    found = train_map("aq", tmp_path / "o", start, data=table, config=config, steps=2, cpu=True)
    assert found["samples"] == 24
    train_map("aq", tmp_path / "o", start, data=table, config=config, steps=1, cpu=True)
    assert Record.load(tmp_path / "o" / "training", "aq").samples == 36


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("pq", "--data", "TABLE", "--config", "papr", "--steps", "1"), "did you mean 'paper'"),
        (("pq", "--data", "absent.csv"), "Cannot read the table 'absent.csv'"),
        (("pq", "--data", "MISSING"), "1 of 21 pictures"),
        (("pq", "--data", "TWICE"), "names 'x0.png' twice with different scores"),
        (("pq", "--data", "FEW"), "leaves 3 pictures to train and 0 to test"),
        (("aq", "--data", "SILENT"), "has no prompt for 'x0.png'"),
    ],
)
def test_refusals(arguments, sentence, table, tmp_path):
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"x{number}.png")
    rows = [f"x{n}.png,{n}" for n in range(20)]
    tables = {
        "MISSING": [*rows, "gone.png,3"],
        "TWICE": [*rows, "x0.png,7"],
        "FEW": rows[:3],
        "SILENT": rows,
    }
    for name, lines in tables.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["image,mos", *lines]))
    known = {name: tmp_path / f"{name}.csv" for name in tables} | {"TABLE": table}
    done = _run("train", *(known.get(a, a) for a in arguments), "-o", tmp_path / "o", "--device", "cpu")
    assert isinstance(done.exception, ConfigError), done.output
    assert sentence in str(done.exception)


def test_an_endless_source_wants_a_budget(start, tmp_path):
    with pytest.raises(ConfigError, match="never ends: give a budget"):
        train_map("pq", tmp_path / "o", start, source=_quality, cpu=True)
    with pytest.raises(ConfigError, match="Give `data`"):
        train_map("pq", tmp_path / "o", start, steps=1, cpu=True)


def _quality(clip, settings):
    return ToyQuality(clip, settings.seed)


def _alignment(clip, settings):
    return ToyAlignment(clip, settings.seed)


def _watched(batch, looked):
    import dataclasses

    return dataclasses.replace(batch, look=lambda rows: looked.append(rows) or batch.look(rows))


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def _run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])
