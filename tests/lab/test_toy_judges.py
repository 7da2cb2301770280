"""The judges are right on clean renders, calm where nothing happened, and unknown to every pipeline."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from grefine.errors import WeightsCorrupt
from lab.bench_judges.networks import NONE, PRESENT, WEIGHTS, Judges, as_jpeg, crop, shifted, tie_bands
from lab.world.defects import damage
from lab.world.render import render
from lab.world.scene import misalign, sample
from lab.world.vocabulary import DEFECT_KINDS

SCENES = sample(96, torch.Generator().manual_seed(31))
CLEAN = render(SCENES)


@pytest.fixture(scope="module")
def judges():
    return Judges.load()


def test_clean_renders_are_read_rightly(judges):
    right = judges.read(CLEAN.images, SCENES).right(SCENES)[SCENES.present].float().mean(0)
    assert bool((right >= 0.97).all()), right


def test_a_pair_that_no_pipeline_was_trained_on_is_read_too(judges):
    scenes = sample(96, torch.Generator().manual_seed(32), "held_out")
    right = judges.read(render(scenes).images, scenes).right(scenes)[:, 0].float().mean(0)
    assert bool((right >= 0.95).all()), right


@pytest.mark.parametrize(("kind", "column"), [("colour", 0), ("object", 1), ("texture", 2)])
def test_a_changed_attribute_is_noticed(judges, kind, column):
    wrong, slot, possible = misalign(SCENES, kind, torch.Generator().manual_seed(33))
    right = judges.read(render(wrong).images, SCENES).right(SCENES)
    assert float(right[torch.arange(96), slot, column][possible].float().mean()) < 0.05


def test_an_empty_place_is_called_empty(judges):
    wrong, slot, _ = misalign(SCENES, "missing", torch.Generator().manual_seed(34))
    noun = judges.read(render(wrong).images, SCENES).noun[torch.arange(96), slot]
    assert float((noun == NONE).float().mean()) > 0.9


def test_the_distance_knows_damage_from_nothing(judges):
    spoilt = damage(CLEAN.images, CLEAN.objects.any(1), torch.Generator().manual_seed(35), DEFECT_KINDS)
    assert float(judges.distance(CLEAN.images, CLEAN.images, spoilt.masks).max()) == 0
    far = judges.distance(spoilt.images, CLEAN.images, spoilt.masks)
    halfway = judges.distance((spoilt.images + CLEAN.images) / 2, CLEAN.images, spoilt.masks)
    assert float((halfway < far).float().mean()) > 0.95
    jpeg = judges.distance(as_jpeg(CLEAN.images), CLEAN.images, spoilt.masks)
    assert float((far > jpeg).float().mean()) > 0.95
    outside = judges.distance(spoilt.images, CLEAN.images, ~spoilt.masks)
    assert float((outside < far).float().mean()) > 0.95
    assert float(judges.distance(CLEAN.images[:2], CLEAN.images[2:4], torch.zeros(2, 64, 64, dtype=bool)).max()) == 0


def test_most_repairs_move_the_distance_beyond_the_tie_band(judges):
    bands = tie_bands(judges, 48)
    spoilt = damage(CLEAN.images, CLEAN.objects.any(1), torch.Generator().manual_seed(36), DEFECT_KINDS)
    far = judges.distance(spoilt.images, CLEAN.images, spoilt.masks)
    assert float((far > bands.distance).float().mean()) > 0.8
    assert bands.visible > 0


def test_a_thing_is_found_wherever_it_stands(judges):
    noun, colour = SCENES.noun[:, 0], SCENES.colour[:, 0]
    there = judges.area_of(CLEAN.images, noun, colour) >= PRESENT
    assert float(there[SCENES.present[:, 0]].float().mean()) > 0.65


def test_a_shift_moves_by_one_pixel():
    moved = shifted(CLEAN.images)
    assert torch.equal(moved[..., 1:, 1:], CLEAN.images[..., :-1, :-1])
    assert torch.equal(moved[..., 0, 1:], CLEAN.images[..., 0, :-1])


def test_a_crop_shows_its_place():
    images = torch.zeros(1, 3, 64, 64)
    images[..., 40:48, 8:16] = 1
    seen = crop(images, torch.tensor([12 / 64]), torch.tensor([44 / 64]), torch.tensor([4 / 64 / 1.2]))
    assert float(seen.mean()) > 0.9
    assert float(crop(images, torch.tensor([0.75]), torch.tensor([0.25]), torch.tensor([0.1])).max()) == 0


def test_missing_and_broken_weights_are_named(tmp_path):
    with pytest.raises(WeightsCorrupt, match="lab train judges"):
        Judges.load(tmp_path)
    for file in WEIGHTS.glob("*.safetensors"):
        shutil.copy(file, tmp_path)
    (tmp_path / "referee.safetensors").write_bytes(b"not weights")
    with pytest.raises(WeightsCorrupt, match="referee"):
        Judges.load(tmp_path)


def test_the_weights_are_small_and_have_a_card():
    sizes = [file.stat().st_size for file in WEIGHTS.glob("*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 2**20
    card = (WEIGHTS / "README.md").read_text()
    assert "lab train judges" in card
    assert "CPU-seconds" in card


def test_the_package_never_imports_the_lab():
    """What makes and measures tiny stays out of what people install."""
    package = Path(__file__).parents[2] / "grefine"
    for path in package.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) lab\b", path.read_text(), re.MULTILINE), path
