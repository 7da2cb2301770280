"""The recipe of the embedded pipeline: reproducible, resumable, and better than chance within a minute and a half."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from grefine.config import load_config
from grefine.errors import ConfigError
from grefine.resources import bundled
from grefine.training.loop import Budget, Record, schedule
from lab import CONFIGS, table
from lab.fit import Muon, geometry, orthogonalise
from lab.tiny.clip import ClipSettings
from lab.tiny.finisher import FinisherSettings, Studio, train_finisher
from lab.tiny.recipe import CONTROLS, PARTS, train_again, train_tiny
from lab.tiny.tasks import CELL, SHARES, draw_task
from lab.tiny.unet import noised, scheduler
from lab.tiny.vae import VaeSettings, train_vae


@pytest.mark.parametrize("given", [{}, {"minutes": 1.0, "steps": 2}, {"minutes": 0.0}, {"steps": -1}])
def test_budget_is_minutes_or_steps(given):
    with pytest.raises(ConfigError, match="budget"):
        Budget(**given)


def test_schedule_warms_up_holds_and_falls():
    assert schedule(0.0) < 0.1
    assert schedule(0.3) == 1.0
    assert schedule(1.0) == pytest.approx(0.02)


def test_orthogonalise_levels_singular_values():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))))
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_muon_learns_a_linear_map():
    generator = torch.Generator().manual_seed(1)
    target, weight = torch.randn(8, 8, generator=generator), torch.nn.Parameter(torch.zeros(8, 8))
    optimiser = Muon([weight], lr=0.05)
    for _ in range(200):
        inputs = torch.randn(32, 8, generator=generator)
        (inputs @ (weight - target).T).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert (weight - target).norm() < 0.2 * target.norm()


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_restoration_target_leads_from_the_defect_to_the_clean_latents(strength):
    """Running the deterministic sampler with the velocities that are trained ends at the clean latents."""
    plan = scheduler()
    plan.set_timesteps(50)
    generator = torch.Generator().manual_seed(2)
    clean, source = torch.randn(2, 1, 4, 8, 8, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    alphas = plan.alphas_cumprod.sqrt()
    steps = [t for t in plan.timesteps.tolist() if t < 1000 * strength]
    start = alphas[steps[0]].view(1)
    latents = start * source + (1 - start**2).sqrt() * noise
    for t in steps:
        expected, velocity = noised(clean, source, noise, alphas[t].view(1), start)
        assert torch.allclose(latents, expected, atol=1e-4)
        latents = plan.step(velocity, t, latents).prev_sample
    assert torch.allclose(latents, clean, atol=0.08)


def test_tasks_leave_everything_outside_the_mask():
    for kind in SHARES:
        task = draw_task(5, 3, 8, kinds=(kind,))
        outside = ~task.mask[:, None].expand_as(task.clean)
        assert torch.equal(task.clean[outside], task.source[outside]), kind
        cells = torch.nn.functional.max_pool2d(task.mask[:, None].float(), CELL)
        assert torch.equal(torch.nn.functional.interpolate(cells, scale_factor=CELL)[:, 0] > 0.5, task.mask)
        assert len(task.prompts) == 8
        assert 0 < float(task.strength.min()) <= float(task.strength.max()) <= 1


def test_same_steps_and_seed_give_the_same_weights_and_a_resume_goes_on(tmp_path):
    settings = VaeSettings(batch=4)
    for name in ("a", "b"):
        train_vae(tmp_path / name, settings, Budget(steps=2), Accelerator(cpu=True))
    file = "vae/diffusion_pytorch_model.safetensors"
    first = (tmp_path / "a" / file).read_bytes()
    assert first == (tmp_path / "b" / file).read_bytes()
    train_vae(tmp_path / "a", settings, Budget(steps=1), Accelerator(cpu=True))
    assert (tmp_path / "a" / file).read_bytes() != first
    record = Record.load(tmp_path / "a" / "training", "vae")
    assert record.samples == 3 * 4
    assert len(record.runs) == 2


@pytest.mark.parametrize("name", table("configs/tiny/networks.yaml"))
def test_the_networks_of_the_recipes_are_those_that_ship(name):
    folder = bundled("pipelines") / "tiny" / name
    file = folder / ("scheduler_config.json" if name == "scheduler" else "config.json")
    shipped = json.loads(file.read_text(encoding="utf-8"))
    assert {key: shipped.get(key) for key in geometry(name)} == geometry(name)


def test_unknown_part_and_missing_autoencoder(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        train_tiny(tmp_path, steps=1, parts=["unett"], cpu=True)
    with pytest.raises(ConfigError, match="train the part 'vae' first"):
        train_tiny(tmp_path, steps=1, parts=["unet"], cpu=True)


def test_a_minute_of_training_beats_chance(tmp_path):
    """The smoke run, counted in steps so that a busy machine changes nothing: every part learns."""
    vae = train_tiny(tmp_path, steps=20, parts=["vae"], cpu=True)["vae"]
    assert vae["psnr"] > 14, "no better than one flat colour"
    clip = train_tiny(tmp_path, steps=20, parts=["clip"], cpu=True)["clip"]
    assert clip["pointing"] > 0.15, "objects fill less than a tenth of the picture"
    unet = train_tiny(tmp_path, steps=6, parts=["unet"], cpu=True)["unet"]
    rows = Record.load(tmp_path / "training", "unet").rows
    assert unet["val_loss"] < rows[0]["val_loss"]
    for name in ("vae", "clip", "unet"):
        assert (tmp_path / "training" / f"{name}.png").stat().st_size > 1000
        assert (tmp_path / "training" / f"{name}_samples.png").stat().st_size > 10_000


def test_again_trains_what_the_records_say(tmp_path):
    settings = VaeSettings(batch=4)
    train_vae(tmp_path / "first", settings, Budget(steps=2), Accelerator(cpu=True))
    record = Record.load(tmp_path / "first" / "training", "vae")
    record.runs[-1]["settings"]["channels"] = [16, 32, 64]  # as records had it before networks.yaml
    record.save()
    assert set(train_again(tmp_path / "second", tmp_path / "first" / "training", cpu=True)) == {"vae"}
    stored = Record.load(tmp_path / "second" / "training", "vae").runs[0]["settings"]
    assert VaeSettings(**stored) == settings
    for name, recipe in PARTS.items():
        recipe.recorded(Record.load(bundled("pipelines") / "tiny" / "training", name).runs[-1])
    with pytest.raises(ConfigError, match="no records"):
        train_again(tmp_path / "third", tmp_path / "second" / "vae", cpu=True)


def test_the_decoder_learns_from_what_the_unet_makes(tmp_path):
    from diffusers import AutoencoderKL

    for name in ("vae", "unet", "text_encoder", "text_encoder_2"):
        shutil.copytree(bundled("pipelines") / "tiny" / name, tmp_path / name)
    before = AutoencoderKL.from_pretrained(tmp_path / "vae").state_dict()
    settings = replace(load_config(CONFIGS / "tiny" / "decoder.yaml", VaeSettings), batch=4)
    train_vae(tmp_path, settings, Budget(steps=2), Accelerator(cpu=True))
    after = AutoencoderKL.from_pretrained(tmp_path / "vae").state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"decoder"}
    shutil.rmtree(tmp_path / "unet")
    with pytest.raises(ConfigError, match="holds no UNet"):
        train_vae(tmp_path, settings, Budget(steps=2), Accelerator(cpu=True))


def test_the_finisher_learns_from_what_the_unet_paints_as_the_refiner_asks_it_to(tmp_path):
    for name in ("vae", "unet", "text_encoder", "text_encoder_2"):
        shutil.copytree(bundled("pipelines") / "tiny" / name, tmp_path / name)
    settings = FinisherSettings(batch=8, painted=32, kept=4, reuse=20)
    found = train_finisher(tmp_path, settings, Budget(steps=60), Accelerator(cpu=True))
    assert found["val_finished"] < found["val_painted"]
    task = draw_task(3, 1, 16, kinds=("restore",))
    painted = Studio(tmp_path, torch.device("cpu"))(task, 0.2, 0)
    inside = painted.mask.expand_as(task.clean) > 0.5
    error = [(picture - task.clean)[inside].abs().mean() for picture in (painted.painted, task.source)]
    assert error[0] < 0.8 * error[1]
    shutil.rmtree(tmp_path / "unet")
    with pytest.raises(ConfigError, match="train the part 'unet' first"):
        train_finisher(tmp_path, settings, Budget(steps=1), Accelerator(cpu=True))


def test_a_missing_thing_is_asked_for_in_a_place_that_holds_it():
    task = draw_task(1, 2, 64, kinds=("edit",))
    changed = (task.clean != task.source).any(1)
    assert not (changed & ~task.mask).any()
    cells = task.mask.view(64, 16, CELL, 16, CELL)
    assert (cells.any((2, 4)) == cells.all(4).all(2)).all()


def test_controls_are_made_only_when_named_and_lie_apart(tmp_path):
    contrastive = load_config(CONFIGS / "tiny" / "contrastive.yaml", ClipSettings)
    assert contrastive.contrastive > 0
    assert {contrastive.dense, contrastive.peak, contrastive.quality, contrastive.quality_image} == {0.0}
    with pytest.raises(ConfigError, match="train the part 'vae' first"):
        train_tiny(tmp_path, steps=1, parts=["early"], cpu=True)
    assert set(CONTROLS).isdisjoint(PARTS)
