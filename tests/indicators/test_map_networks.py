"""Networks of others as maps, several maps as one, and what good pictures say of a map before it is believed."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing
from grefine.indicators.providers import Edge, Provider, open_source
from grefine.io.run_files import run_rows
from grefine.types import MapSpec

sys.path.insert(0, str(Path(__file__).parent.parent))


def picture(seed: int = 0, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def write_detector(kind: str, folder: Path) -> Path:
    """RT-DETR or D-FINE of transformers with random weights, as small as they get."""
    import transformers as t

    hidden = [8, 16, 32, 32]
    stages = {"embedding_size": 8, "hidden_sizes": hidden, "depths": [1] * 4}
    stages["out_features"] = ["stage2", "stage3", "stage4"]
    if kind == "DFine":
        stages |= {"stem_channels": [3, 4, 8], "stage_in_channels": [8, 8, 16, 32], "stage_out_channels": hidden}
        stages |= {"stage_mid_channels": [4, 8, 16, 16], "stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4}
    else:
        stages["layer_type"] = "basic"
    backbone = t.HGNetV2Config(**stages) if kind == "DFine" else t.RTDetrResNetConfig(**stages)
    config = getattr(t, f"{kind}Config")(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[16, 32, 32],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        decoder_layers=2,
        decoder_n_points=2,
        num_queries=8,
        num_denoising=0,
        id2label={0: "hand", 1: "face"},
        label2id={"hand": 0, "face": 1},
    )
    torch.manual_seed(0)
    getattr(t, f"{kind}ForObjectDetection")(config).eval().save_pretrained(folder)
    t.RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)  # D-FINE has none of its own
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_detector("RTDetr", tmp_path_factory.mktemp("detector") / "hands")


class Bright(torch.nn.Module):
    """What PAL4VST's file does: standardised pixels in, one channel in 0..1 out."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.mean(dim=1, keepdim=True) > 0).float()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("script") / "end2end.pt"
    torch.jit.script(Bright()).save(str(file))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from components import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", ["RTDetr", "DFine"])
def test_a_detector_is_bad_where_it_finds_something_and_as_sure_as_it_is(kind, tmp_path):
    """Against transformers: every box that its own pipeline finds, and nothing beside them."""
    detector = write_detector(kind, tmp_path / "hands")
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    assert json.loads((detector / "config.json").read_text())["architectures"] == [f"{kind}ForObjectDetection"]
    model, processor = (kind.from_pretrained(detector) for kind in (AutoModelForObjectDetection, AutoImageProcessor))
    images = [picture(0), picture(1, 48), picture(2)]
    maps = open_source("quality", f"detector:{detector}")(images)
    for image, found in zip(images, maps, strict=True):
        with torch.no_grad():
            seen = model(**processor(images=[image], return_tensors="pt"))
        sizes = [image.size[::-1]]
        (boxes,) = processor.post_process_object_detection(seen, threshold=0.1, target_sizes=sizes)
        expected = np.zeros(sizes[0], np.float32)
        for score, box in zip(boxes["scores"].tolist(), boxes["boxes"].tolist(), strict=True):
            left, top, right, bottom = max(0, int(box[0])), max(0, int(box[1])), *map(int, np.ceil(box[2:]))
            expected[top:bottom, left:right] = np.maximum(expected[top:bottom, left:right], score)
        assert expected.max() > 0.1
        np.testing.assert_allclose(1 - found.values, expected, atol=1e-5)
    (tmp_path / "hands.yaml").write_text(f"detector: {detector}\nlabels: [hand]\nleast: 0.0\nlicence: Apache-2.0\n")
    hands = open_source("quality", tmp_path / "hands.yaml")
    assert hands.spec.licence == "Apache-2.0"
    every = open_source("quality", f"detector:{detector}")
    assert not np.array_equal(hands.values(images[:1])[0], every.values(images[:1])[0])
    (tmp_path / "feet.yaml").write_text(f"detector: {detector}\nlabels: [haand]\n")
    with pytest.raises(ConfigError, match="knows no 'haand'; did you mean 'hand'"):
        open_source("quality", tmp_path / "feet.yaml")
    with pytest.raises(WeightsMissing, match="no network at"):
        open_source("quality", "detector:/nowhere")
    with pytest.raises(WeightsCorrupt, match="no complete folder of an object detector"):
        open_source("quality", f"detector:{tmp_path}")


def test_torchscript_runs_for_those_who_name_its_hash(script):
    file, digest = script
    half = picture(0)
    half.paste((250, 250, 250), (0, 0, 32, 64))
    half.paste((5, 5, 5), (32, 0, 64, 64))
    with pytest.raises(ConfigError, match=f"has the sha256 {digest} and is TorchScript, which runs its author's code"):
        open_source("quality", f"torchscript:{file}")
    with pytest.raises(ConfigError, match="not 0123456789abcdef,"):
        open_source("quality", f"torchscript:{file}#0123456789abcdef")
    with pytest.raises(ConfigError, match="TorchScript"):
        open_source("quality", f"torchscript:{file}#{digest[:4]}")
    found = open_source("quality", f"torchscript:{file}#{digest[:16]}")
    (drawn,) = found([half])
    assert drawn.values[:, :30].max() == 0
    assert drawn.values[:, 34:].min() == 1
    assert found.spec.version == digest[:12]


def fixed(value: float, edge: float | None = None, name: str = "fixed") -> Provider:
    draw = lambda images: [np.full((i.height, i.width), value, np.float32) for i in images]  # noqa: E731
    return Provider("quality", MapSpec(name), draw, None if edge is None else Edge(edge))


def test_half_is_the_edge_of_good_pictures_and_every_hand_is_not_bad():
    """A map that is sure of every hand of good pictures is believed only where it is surer still."""
    hand, worse = fixed(0.1), fixed(0.04)
    assert hand([picture()])[0].values.max() < 0.5
    known = [Provider("quality", one.spec, one.draw, Edge(0.92)) for one in (hand, worse)]
    assert known[0]([picture()])[0].values.min() > 0.5
    assert known[1]([picture()])[0].values.max() < 0.5
    hopeless = Provider("quality", hand.spec, fixed(0.0).draw, Edge(1.0))
    assert hopeless([picture()])[0].values.min() >= 0.5


def test_several_maps_are_one_with_the_pipelines_own_among_them(detector, script):
    from components import pipeline

    from grefine.indicators.calibration import needs_repair
    from grefine.refine.maps import MapDrawer

    file, digest = script
    image, heat = picture(3), f"torchscript:{file}#{digest}"
    worst = open_source("quality", f"detector:{detector},{heat}")
    mean = open_source("quality", f"detector:{detector}*1,{heat}*3e0")
    apart = [part([image])[0].values for part in worst.parts]
    np.testing.assert_allclose(worst([image])[0].values, np.minimum(*apart))
    np.testing.assert_allclose(mean([image])[0].values, (apart[0] + 3 * apart[1]) / 4, atol=1e-6)
    pipe = pipeline()
    pq, aq = pipe.own_maps()
    drawer = MapDrawer.of(pq, aq, f"pq,{heat}", None)
    (own,) = pq([image])
    assert needs_repair(own, None, pq.calibration)[0]
    edge = pq.calibration.mask_threshold
    scaled = 1 - np.interp(1 - own.values, [0, edge, 1], [0, 0.5, 1])
    np.testing.assert_allclose(drawer.qualities([image])[0].values, np.minimum(scaled, apart[1]), atol=1e-4)
    assert drawer.drawn_by[0].name == "worst of pq, end2end"
    assert "p" not in drawer.scores([image], [None])[0]
    for wrong in (f"pq*1,{heat}", f"pq*0,{heat}*1", f"pq*-1,{heat}*1"):
        with pytest.raises(ConfigError, match="every map needs a weight"):
            open_source("quality", wrong)


def test_good_pictures_are_measured_once_and_then_count_everywhere(script, tiny, tmp_path):
    """A folder of which every good picture has a bright corner: the same corner is no fault there any more."""
    file, digest = script
    source, good, heat = tmp_path / "in", tmp_path / "good", f"torchscript:{file}#{digest}"
    good.mkdir()
    source.mkdir()

    def corner(seed: int) -> Image.Image:
        image = Image.new("RGB", (64, 64), (seed, 20, 20))
        image.paste((255, 255, 255), (0, 0, 24, 24))
        return image

    for seed in range(20):
        corner(seed).save(good / f"{seed}.png")
    corner(30).save(source / "a.png")
    run = ["refine", source, "--pipeline", tiny, "--quality-map", heat, "--judge", "piqe", "--set", "total_steps=2"]
    run += ["--set", "use_aq=false", "--set", "restorer=none"]
    invoke = lambda *words: CliRunner().invoke(app, [str(word) for word in words])  # noqa: E731
    before = invoke(*run, "-o", tmp_path / "before")
    assert before.exit_code == 0, before.output
    few = invoke("calibrate", "--quality-map", heat, "--images", good, "--false-alarms", "0.01")
    assert str(few.exception) == "20 pictures are too few to hold false alarms to 1.0%: give at least 49."
    measured = invoke("calibrate", "--quality-map", heat, "--images", good)
    assert measured.exit_code == 0, measured.output
    kept = json.loads(measured.stdout)
    assert kept["badness"] == 1.0
    assert kept["images"] == 20
    assert "it is not believed" in measured.stderr
    after = invoke(*run, "-o", tmp_path / "after")
    assert after.exit_code == 0, after.output
    rows = {
        name: next(row for row in run_rows(tmp_path / name / ".grefine" / "journal.jsonl") if row["kind"] == "image")
        for name in ("before", "after")
    }
    assert rows["before"]["state"] != "untouched"
    assert rows["after"]["state"] == "untouched"
    page = (tmp_path / "after" / "report.html").read_text()
    assert "good pictures reach 1" in page
    assert "not measured on good pictures" in (tmp_path / "before" / "report.html").read_text()
