"""What files do to a toy picture is small, repeatable, and nothing like the defect of the same name."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from lab.bench.cases import clean_cases, damaged_cases
from lab.bench.verdicts import WAYS, as_saved, outside_rows
from lab.bench_judges.networks import Judges, tie_bands
from lab.world.pictures import as_files, saved


@pytest.fixture(scope="module")
def good():
    return clean_cases(32, 940)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def apart(first, second):
    return (first - second).square().flatten(1).mean(1).sqrt()


def test_the_same_seed_gives_the_same_files(good):
    first, again, other = (as_files(good.images, drawn(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_a_share_goes_through_files(good):
    images = clean_cases(200, 941).images
    touched = (as_files(images, drawn(3), 0.3) != images).flatten(1).any(1)
    assert 0.2 < float(touched.float().mean()) < 0.4
    assert torch.equal(as_files(images, drawn(3), 0.0), images)


def test_files_are_far_from_the_defect_of_the_same_name(good):
    """Inside the visible damage the mildest JPEG defect is further off than most files are anywhere."""
    files = apart(as_files(good.images, drawn(4)), good.images)
    bad = damaged_cases(32, 942, kinds=("jpeg",))
    inside = bad.masks[:, None]
    defect = (((bad.images - bad.clean).square() * inside).sum((1, 2, 3)) / (3 * inside.sum((1, 2, 3)))).sqrt()
    assert float(files.max()) < 0.06
    assert float(defect.median()) > 2 * float(files.median())


@pytest.mark.parametrize("way", ["jpeg", "webp", "resized", "noise"])
def test_every_way_changes_a_little_and_keeps_the_size(good, way):
    picture = good.pictures[0]
    after = saved(picture, way, drawn(5))
    assert after.size == picture.size
    assert after.tobytes() != picture.tobytes()


def test_one_level_of_noise_is_one_level(good):
    picture = Image.new("RGB", (64, 64), (0, 128, 255))
    low, high = zip(*saved(picture, "noise", drawn(6)).getextrema(), strict=True)
    assert (low, high) == ((0, 127, 254), (1, 129, 255))


@pytest.mark.parametrize("way", WAYS)
def test_the_benchmark_saves_its_pictures_the_same_way_every_time(good, way):
    first, again = as_saved(good.pictures, way), as_saved(good.pictures, way)
    assert [p.tobytes() for p in first] == [p.tobytes() for p in again]
    changed = [a.tobytes() != b.tobytes() for a, b in zip(first, good.pictures, strict=True)]
    assert sum(changed) > 0.8 * len(changed), "but for sizes that round to the same"
    sizes = {p.size for p in first}
    assert (len(sizes) > 1) == (way == "resized"), "some resized pictures keep their new size"


def test_training_meets_files_and_what_is_measured_does_not():
    from lab.judges.stream import judged
    from lab.tiny.clip import draw_step
    from lab.tiny.tasks import draw_task

    plain, filed = (judged(1, 2, 16, files=share) for share in (0.0, 1.0))
    assert torch.equal(plain.quality, filed.quality)
    assert 0 < float(apart(plain.images, filed.images).median()) < 0.05
    cpu = torch.device("cpu")
    before, after = (draw_step(1, 2, 8, 8, cpu, share) for share in (0.0, 1.0))
    assert torch.equal(before.damage, after.damage)
    assert bool((before.images != after.images).flatten(1).any(1).all())
    task, spoilt = (draw_task(1, 2, 16, files=share) for share in (0.0, 1.0))
    assert torch.equal(task.mask, spoilt.mask)
    inside = task.mask[:, None].expand_as(task.clean)
    assert torch.equal(task.clean[inside], spoilt.clean[inside]), "what is wanted is not what a file made of it"


def test_harm_outside_the_damage_is_seen_and_repairs_inside_are_not():
    judges = Judges.load()
    bands, bad = tie_bands(judges, 48), damaged_cases(24, 943)
    mended = torch.where(bad.masks[:, None], bad.clean, bad.images)
    rows = outside_rows(judges, bands, bad, mended, "")
    assert (rows["outside.worse"].value, rows["outside.moved"].value) == (0, 0)
    broken = torch.where(bad.masks[:, None], bad.clean, 1 - bad.images)
    rows = outside_rows(judges, bands, bad, broken, "noguard.")
    assert rows["noguard.outside.worse"].value == 1
    assert rows["noguard.outside.moved"].value > 0.95
