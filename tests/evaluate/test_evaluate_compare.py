"""Refiners side by side: filters, tiny real diffusion models, outputs of other tools."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from grefine.errors import ConfigError
from grefine.evaluate.baselines import REFINERS, Run, blur, load_refiner, sharpen
from grefine.evaluate.compare import compare_refiners


def test_filters_are_judged_as_what_they_are(folders, judges, tmp_path):
    before, _, _ = folders(8)
    found = compare_refiners([before], out=tmp_path / "out", metrics=judges)
    assert found.verdicts == {"identity": "no change", "blur": "worse", "sharpen": "better"}
    assert found.negative_optimisations == {"identity": 0, "blur": 2, "sharpen": 0}
    cells = dict(found.table.rows)
    assert [c.worse for c in cells["blur"]] == [True, True]
    assert [c.best for c in cells["sharpen"]] == [True, True]
    assert list(cells) == ["original", "identity", "blur", "sharpen"]
    made = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {"table.md", "table.tex", "table.csv", "scores.csv", "comparison.json"} <= made
    assert {"outputs/blur/03.png", "reports/blur/report.html"} <= made
    assert "blur: worse; worse than the original on 2 of 2 metric means" in (tmp_path / "out" / "table.md").read_text()


def test_twice_makes_and_computes_nothing_and_other_settings_make_again(folders, judges, tmp_path):
    before, _, _ = folders(4)
    calls = []

    def mine(image, prompt, strength, generator):
        calls.append((prompt, strength, torch.rand(1, generator=generator).item()))
        return image.filter(ImageFilter.BoxBlur(1))

    options = {"out": tmp_path / "out", "refiners": {"mine": mine}, "metrics": judges, "report": False}
    first = compare_refiners([before], **options)
    assert len(calls) == 4
    assert len({call[2] for call in calls}) == 4
    scored = sum(judge.calls for judge in judges)
    second = compare_refiners([before], **options)
    assert len(calls) == 4
    assert sum(judge.calls for judge in judges) == scored
    assert second.rows == first.rows
    compare_refiners([before], **options, strength=0.5)
    assert len(calls) == 8
    assert [call[2] for call in calls[:4]] == [call[2] for call in calls[4:]]


def test_metrics_that_are_none_are_refused_before_anything_is_made(folders, tmp_path):
    before, _, _ = folders(1)
    (tmp_path / "own.yaml").write_text("metrics: [piqe]\nnoise_images: 8\n")
    for metrics, said in (("piqq", "no metric and no preset 'piqq'"), (tmp_path / "own.yaml", "give --noise-images")):
        with pytest.raises(ConfigError, match=said):
            compare_refiners([before], out=tmp_path / "out", refiners=("blur",), metrics=metrics)
    assert not (tmp_path / "out").exists()


def test_other_tools_outputs_and_missing_ones(folders, judges, tmp_path):
    before, after, _ = folders(7, lambda image, i: image.filter(ImageFilter.GaussianBlur(2)))
    (after / "05.png").unlink()
    found = compare_refiners([before], out=tmp_path / "out", refiners=(), outputs={"tool": after}, metrics=judges)
    assert found.table.n == 6
    assert any("6 of 7 images" in note for note in found.notes)
    assert found.verdicts["tool"] == "worse"


def test_one_refiner_that_fails_costs_itself(folders, judges, tmp_path):
    before, _, _ = folders(3)

    def broken(image, **_):
        raise RuntimeError("no luck")

    found = compare_refiners(
        [before], out=tmp_path / "out", refiners={"broken": broken, "identity": "identity"}, metrics=judges
    )
    assert found.failed["broken: 00.png"] == "RuntimeError: no luck"
    assert list(found.verdicts) == ["identity"]
    assert "broken gave no output and is left out." in found.notes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"refiners": ("blurr",)}, "did you mean 'blur'"),
        ({"refiners": ()}, "nothing to compare"),
        ({"refiners": ("blur",), "outputs": {"blur": "x"}}, "names two methods"),
        ({"refiners": {"../x": "blur"}}, "cannot name a method"),
        ({"refiners": ("blur",), "strength": 0.0}, "strength"),
        ({"refiners": ("blur",), "models": {"ds": "x"}}, "No refiner 'ds'"),
        ({"refiners": ("sd",), "models": {"sd": "/nowhere"}}, "--model sd=DIR"),
    ],
)
def test_arguments_that_cannot_be_used(folders, judges, tmp_path, arguments, words):
    before, _, _ = folders(2)
    with pytest.raises(ConfigError, match=words):
        compare_refiners([before], out=tmp_path / "out", metrics=judges, **arguments)


def test_filters_do_what_they_say():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    spread = {name: np.asarray(made).std() for name, made in (("", image), ("b", blur(image)), ("s", sharpen(image)))}
    assert spread["b"] < spread[""] < spread["s"]
    assert set(REFINERS) == {
        "identity", "blur", "sharpen", "grefine", "sdxl", "sdxl-refiner", "sd", "instruct-pix2pix", "sd-upscale",
        "swin2sr",
    }  # fmt: skip


def tiny_models(root):
    """Write tiny random models in the layout that each baseline loads; return refiner → folder."""
    import components
    from diffusers import (
        DDIMScheduler,
        DDPMScheduler,
        StableDiffusionImg2ImgPipeline,
        StableDiffusionInstructPix2PixPipeline,
        StableDiffusionUpscalePipeline,
        StableDiffusionXLImg2ImgPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, Swin2SRConfig, Swin2SRForImageSuperResolution

    torch.manual_seed(0)
    words = components.tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=words.model_max_length, bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )  # fmt: skip

    def unet(channels, **more):
        return UNet2DConditionModel(
            sample_size=8, in_channels=channels, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=32, attention_head_dim=2,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=8, **more,
        )  # fmt: skip

    parts = {
        "vae": components.vae(), "text_encoder": CLIPTextModel(text), "tokenizer": words, "scheduler": DDIMScheduler(),
    }  # fmt: skip
    plain = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    large = components.components(channels=4)
    kept = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    large = {name: large[name] for name in kept}
    made = {
        "sdxl": StableDiffusionXLImg2ImgPipeline(**large),
        "sdxl-refiner": StableDiffusionXLImg2ImgPipeline(**large),
        "sd": StableDiffusionImg2ImgPipeline(unet=unet(4), **parts, **plain),
        "instruct-pix2pix": StableDiffusionInstructPix2PixPipeline(unet=unet(8), **parts, **plain),
        "sd-upscale": StableDiffusionUpscalePipeline(
            unet=unet(7, num_class_embeds=1000), low_res_scheduler=DDPMScheduler(), max_noise_level=350, **parts
        ),
        "swin2sr": Swin2SRForImageSuperResolution(
            Swin2SRConfig(
                embed_dim=16, depths=[1], num_heads=[2], window_size=4, upscale=2, upsampler="pixelshuffledirect"
            )
        ),
    }  # fmt: skip
    for name, model in made.items():
        model.save_pretrained(root / name)
    components.save_tiny(root / "grefine")
    return {name: str(root / name) for name in (*made, "grefine")}


def test_models_of_diffusers_and_transformers_run_behind_one_protocol(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 41, 3), dtype=np.uint8))
    run = Run(steps=2, strength=0.5, models=tiny_models(tmp_path))
    for name in run.models:
        restore = load_refiner(name, run)
        results = [
            restore(image, prompt="a red ball", strength=0.5, generator=torch.Generator().manual_seed(0)) for _ in "ab"
        ]
        assert results[0].size == image.size
        assert np.array_equal(*map(np.asarray, results)), name
        assert name == "grefine" or not np.array_equal(np.asarray(results[0]), np.asarray(image)), name


def test_steps_are_counted_as_executed(tmp_path):
    run = Run(steps=3, strength=0.3, models=tiny_models(tmp_path))
    executed = []
    from diffusers import UNet2DConditionModel

    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: executed.append(1) if isinstance(module, UNet2DConditionModel) else None
    )
    try:
        generator = torch.Generator().manual_seed(0)
        load_refiner("sd", run)(Image.new("RGB", (32, 32)), prompt="a", strength=0.3, generator=generator)
    finally:
        hook.remove()
    assert len(executed) == 3


def test_settings_and_strengths_reach_the_refiner_that_they_name(folders, tmp_path):
    before, _, _ = folders(1)
    from grefine.cli.main import app

    models = [part for name, folder in tiny_models(tmp_path).items() for part in ("--model", f"{name}={folder}")]
    out = tmp_path / "out"
    run = ["compare", str(before), "-o", str(out), "--refiners", "grefine,sd,sdxl", *models, "--no-report"]
    run += ["--metrics", "piqe", "--noise-images", "0", "--steps", "2", "--dtype", "fp32"]

    def made(*more):
        done = CliRunner().invoke(app, [*run, *more])
        assert done.exit_code == 0, done.output
        return {name: (out / "outputs" / name / "00.png").read_bytes() for name in ("grefine", "sd", "sdxl")}

    first = made("--strength", "0.5", "--config", "paper")
    again = made("--strength", "0.5", "--strength", "sd:0.9", "--config", "paper", "--set", "stage1=false")
    changed = {name for name in first if first[name] != again[name]}
    assert changed == {"grefine", "sd"}
    row = json.loads((out / "outputs" / "grefine" / ".grefine" / "journal.jsonl").read_text().splitlines()[-1])
    assert row["decision"]["kept"] == "restored", "stage 2 alone"
    assert made("--strength", "sd:0.9", "--strength", "0.5", "--config", "paper", "--set", "stage1=false") == again
    assert CliRunner().invoke(app, [*run, "--strength", "sdd:0.9"]).exit_code != 0


def test_command_line(folders, tmp_path):
    from grefine.cli.main import app

    before, _, _ = folders(3, names="sub/{0}.png")
    run = ["compare", str(before), "-o", str(tmp_path / "out"), "--refiners", "identity,blur", "--metrics", "piqe"]
    done = CliRunner().invoke(app, [*run, "--json", "--no-report"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found["means"]) == {"original", "identity", "blur"}
    assert found["methods"]["identity"]["verdict"] == "no change"
    done = CliRunner().invoke(app, [*run, "--outputs", "nonsense"])
    assert done.exit_code != 0


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_device_that_is_not_there_is_an_error_before_anything_is_made(folders, tmp_path, command):
    from grefine.cli.main import app

    before, after, _ = folders(2)
    sides = [str(before), str(after)] if command == "evaluate" else [str(before)]
    done = CliRunner().invoke(
        app, [command, *sides, "-o", str(tmp_path / "out"), "--device", "cuda:99", "--no-report"]
    )
    assert done.exit_code != 0
    assert "cuda:99" in str(done.exception)
    assert not (tmp_path / "out" / "outputs").exists()
