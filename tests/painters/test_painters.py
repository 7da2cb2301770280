"""Painters beside the families: words, functions, other second stages, what is lost, bad input, commands, recipes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from components import components, pipeline, save_tiny

from benchmarks.toy_painters import FEW, build, flux_parts
from grefine import GRefinePipeline, parse
from grefine.cli.doctor import examine
from grefine.cli.main import app
from grefine.errors import ConfigError, PlanError
from grefine.fetching import fetch_recipe
from grefine.indicators.recipe import PAINTER, read_recipe
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.refine.painters.choose import open_painter
from grefine.refine.painters.diffusers import diffusers_class, executed, painter_of
from grefine.refine.painters.families import Phrasing, family_named
from grefine.resources import bundled, pipeline_names
from grefine.types import AlignmentMap, PainterSpec, PhraseAlignment, Region, RepairPlan

diffusers.utils.logging.set_verbosity_error()
SIDE = 72
MASK = np.zeros((SIDE, SIDE), bool)
MASK[24:48, 24:48] = True
MAPS = ("clip", "clip_tokenizer", "pq_prompts")
RECIPES = ("sd15", "sd3.5", "flux-fill", "flux2-klein", "qwen-image", "z-image")


def maps() -> dict:
    return {name: part for name, part in components().items() if name in MAPS}


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def call(pipe, **changes):
    given = {"prompt": "a red ball", "image": picture(), "mask_image": Image.fromarray(MASK), "num_inference_steps": 2}
    given |= {"restorer": "none", "preserve": "exact", "guard": False, "generator": torch.Generator().manual_seed(0)}
    return pipe(**given | changes)


def inverted(images, masks, prompts):
    """A painter that needs no network."""
    return [Image.eval(image, lambda value: 255 - value) for image in images]


# What a painter is told


def plan_of(prompt: str, defects: dict[str, str], hosts: dict[str, str] | None = None, kind: str = "noun"):
    """A plan with one region that all the named phrases ask for."""
    parsed, found = parse(prompt), []
    nouns = [phrase.noun for phrase in parsed.phrases]
    for phrase in parsed.phrases:
        host = nouns.index(hosts[phrase.noun]) if hosts and phrase.noun in hosts else None
        found.append(PhraseAlignment(phrase, 0.1, 0.1, defects.get(phrase.noun), np.ones((4, 4)), host=host))
    asked = tuple(index for index, phrase in enumerate(found) if phrase.defect)
    alignment = AlignmentMap(np.ones((4, 4)), 0.5, tuple(found))
    region = Region((0, 0, 4, 4), np.ones((4, 4), bool), f"first , {prompt}", 0.9, kind, "why", asked)
    return RepairPlan(np.ones((4, 4), bool), (region,), parsed.text), alignment


@pytest.mark.parametrize(
    ("prompt", "defects", "hosts", "said"),
    [
        ("a red ball and a blue cone on the grass", {"cone": "noun"}, None, "Add a blue cone on the grass."),
        ("a dotted ball on snow", {"ball": "attribute"}, None, "Make the ball dotted."),
        ("a house with stripes", {"stripes": "noun"}, {"stripes": "house"}, "Add stripes to the house."),
        ("a red ball", {}, None, "Restore this place."),
    ],
)
def test_edit_models_get_an_instruction_made_from_the_defect(prompt, defects, hosts, said):
    plan, alignment = plan_of(prompt, defects, hosts, kind="noun" if defects else "perceptual")
    assert Phrasing("instruction").reword(plan, alignment).regions[0].prompt == said
    assert Phrasing("caption").reword(plan, alignment).regions[0].prompt == plan.prompt
    assert Phrasing().reword(plan, alignment) is plan


def test_templates_can_be_replaced():
    plan, alignment = plan_of("a blue cone on the grass", {"cone": "noun"})
    told = Phrasing.of({"noun": "Zeichne {thing}{place}!"}, "caption").reword(plan, alignment)
    assert told.regions[0].prompt == "Zeichne a blue cone on the grass!"
    for words, sentence in (
        ({"nuon": "x"}, "did you mean 'noun'"),
        ({"noun": "{thin}"}, "may name"),
        ("loud", "words must be one of"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            Phrasing.of(words, "caption")


def test_what_a_painter_has_no_place_for_is_said():
    pipe, arguments = build("flux-fill")
    made = GRefinePipeline.from_pipe(pipe, working_size=64, painter_arguments=arguments, **maps())
    said = " ".join(call(made, prompt="a (red:1.4) ball", negative_prompt="bad").results[0].warnings)
    assert "FluxFillPipeline knows no weights of words" in said
    assert "FluxFillPipeline takes no negative prompt" in said


# Functions, and painters of other packages


def test_a_function_paints_and_nothing_outside_the_mask_changes(tmp_path):
    made = GRefinePipeline.from_pipe(inverted, working_size=64, **maps())
    out = call(made)
    before, after = np.asarray(picture()).astype(int), np.asarray(out.images[0]).astype(int)
    assert (before == after)[~MASK].all()
    assert np.abs(before - after)[MASK].mean() > 20
    assert out.results[0].painter == "inverted"
    made.save_pretrained(tmp_path / "saved")
    again = GRefinePipeline.from_pretrained(tmp_path / "saved")
    with pytest.raises(ConfigError, match="saved with the function 'inverted', which cannot be saved: pass painter="):
        call(again)
    assert np.array_equal(np.asarray(call(again, painter=inverted).images[0]), after)


def test_a_plan_may_be_as_strong_as_its_painter_paints():
    pipe, arguments = build("z-image")
    made = GRefinePipeline.from_pipe(pipe, working_size=64, painter_arguments=arguments, **maps())
    plan = call(made, plan_only=True).results[0].plan
    plan = replace(plan, regions=tuple(replace(region, strength=1.0) for region in plan.regions))
    assert call(made, plan=plan, mask_image=None).results[0].decision.kept != "original"
    with pytest.raises(PlanError, match="has strength 1.0; it goes up to 0.99"):
        call(pipeline(), plan=replace(plan, made_for={}), mask_image=None)


def test_plan_guard_and_explanation_work_with_any_painter():
    pipe, arguments = build("flux2-klein")
    made = GRefinePipeline.from_pipe(pipe, working_size=64, painter_arguments=arguments, **maps())
    whole = {"mask_image": None, "config": {"gate": False, "mask_threshold": "mean", "max_area": 0.9}}
    planned = call(made, **whole, plan_only=True).results[0]
    assert planned.plan.regions
    assert all(region.prompt[0].isupper() for region in planned.plan.regions), "the plan shows the instruction"
    text = made.explain("a red ball", picture(), config=whole["config"])
    assert "Stage 1 runs 4 steps per region." in text
    assert "Memory: weights" in text
    for restorer in ("none", "inpaint"):
        judged = call(made, **whole, guard=True, restorer=restorer).results[0]
        assert judged.decision.candidates, "both were scored"
        assert judged.decision.kept in ("original", "repainted", "both")


def test_progress_is_shown_on_the_bar_of_this_pipeline(capsys):
    pipe, arguments = build("z-image")
    made = GRefinePipeline.from_pipe(pipe, working_size=64, painter_arguments=arguments, **maps())
    call(made)
    assert "repaint" in capsys.readouterr().err
    assert pipe._progress_bar_config == {"disable": True}, "as it was before"
    made.set_progress_bar_config(disable=True)
    call(made)
    assert "repaint" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paint", "said"),
    [
        (lambda images: [image.resize((8, 8)) for image in images], "gave back 8x8 where 64x64 pixels"),
        (lambda images: [np.full((64, 64, 3), np.nan) for _ in images], "no finite numbers"),
        (lambda images: [], "gave back 0 pictures for 1 crops"),
        (lambda images: 3, "gave back int for 1 crops"),
    ],
)
def test_odd_output_costs_its_region_with_a_sentence(paint, said):
    made = GRefinePipeline.from_pipe(paint, working_size=64, **maps())
    for restorer in ("none", "inpaint"):
        out = call(made, restorer=restorer)
        assert np.array_equal(np.asarray(out.images[0]), np.asarray(picture()))
        assert "Region 1 was left as it was" in " ".join(out.results[0].warnings)
        assert said in " ".join(out.results[0].warnings)


def test_of_two_regions_the_odd_one_is_left_as_it_was():
    """Both lie in one picture; the second comes back in another size."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:16, 4:16] = mask[52:64, 52:64] = True

    def paint(images):
        done = inverted(images, None, None)
        return [done[0], *(image.resize((8, 8)) for image in done[1:])]

    made = GRefinePipeline.from_pipe(paint, working_size=64, **maps())
    out = call(made, mask_image=Image.fromarray(mask))
    moved = (np.asarray(out.images[0]) != np.asarray(picture())).any(-1)
    assert len(out.results[0].plan.regions) == 2
    assert sorted((moved[:32, :32].any(), moved[32:, 32:].any())) == [False, True]
    assert "gave back 8x8" in " ".join(out.results[0].warnings)


def test_a_pipeline_that_gives_back_another_size_costs_its_region():
    class HalfImg2ImgPipeline(diffusers.FluxImg2ImgPipeline):
        def __call__(self, prompt, image, strength=0.5, num_inference_steps=2, height=None, width=None, **others):
            asked = {"strength": strength, "num_inference_steps": num_inference_steps, "height": 32, "width": 32}
            return super().__call__(prompt=prompt, image=image, **asked, **FEW, output_type="np")

    half = HalfImg2ImgPipeline(**flux_parts())
    half.set_progress_bar_config(disable=True)
    out = call(GRefinePipeline.from_pipe(half, working_size=64, **maps()))
    assert np.array_equal(np.asarray(out.images[0]), np.asarray(picture()))
    assert "gave back 32x32 where 64x64 pixels were asked for" in " ".join(out.results[0].warnings)


def test_odd_output_of_a_pipeline_costs_only_its_region():
    """The second of two pictures comes back as no numbers; the first keeps its repaint."""
    pipe, arguments = build("z-image")
    made = GRefinePipeline.from_pipe(pipe, working_size=64, painter_arguments=arguments, **maps())

    def spoil(owner, index, time, tensors):
        tensors["latents"][1] = float("nan")
        return {"latents": tensors["latents"]}

    two = {"prompt": ["a red ball"] * 2, "image": [picture()] * 2, "mask_image": [Image.fromarray(MASK)] * 2}
    out = call(made, **two, callback_on_step_end=spoil)
    assert "no finite numbers" in " ".join(out.results[1].warnings)
    assert not any("no finite" in warning for warning in out.results[0].warnings)
    assert np.array_equal(np.asarray(out.images[1]), np.asarray(picture()))
    assert not np.array_equal(np.asarray(out.images[0]), np.asarray(picture()))


def test_a_painter_of_another_package_is_known_by_name(monkeypatch, tmp_path):
    record = tmp_path / "example_painter-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: example_painter\nVersion: 1\n")
    (record / "entry_points.txt").write_text("[grefine.painters]\nx = example_painter:painters\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    made = GRefinePipeline.from_pipe(build("flux")[0], painter="example", **maps())
    assert call(made).results[0].painter == "example"
    assert made.config.painter == {"kind": "package", "from": "example"}
    assert "example" in examine()["painters"]
    with pytest.raises(ConfigError, match="No painter 'exampel'.*did you mean 'example'"):
        made.use_painter("exampel")
    with pytest.raises(ConfigError, match="is non-commercial"):
        made.use_painter("bound")


# Stages, callbacks, other pipelines


def test_stage_2_by_any_other_painter():
    pipe = pipeline()
    stages = []

    def note(images, prompts, strengths):
        stages.append(strengths[0])
        return images

    flux, arguments = build("flux")
    flux_call = painter_of(flux, arguments=arguments, side=64)
    seen = []
    watch = {"callback_on_step_end": lambda p, i, t, k: seen.append(k["stage"]) or {}}
    call(pipe, painter=note, restorer=flux_call, num_inference_steps=4, **watch)
    assert stages == [0.9] or len(stages) == 1
    assert set(seen) == {"restore"}, "a function has no steps to show"
    seen.clear()
    call(pipe, restorer=flux_call, num_inference_steps=4, **watch)
    assert set(seen) == {"repaint", "restore"}
    seen.clear()
    pipe.use_restorer(flux, arguments=arguments)
    call(pipe, restorer=None, num_inference_steps=4, **watch)
    assert seen == ["repaint"] * 2 + ["restore"] * 2, "a restorer that was given for good"
    seen.clear()
    call(pipe, restorer=None, config={"restorer": "none"}, num_inference_steps=4, **watch)
    assert seen == ["repaint"] * 4, "a setting wins over it"
    seen.clear()
    klein, arguments = build("flux2-klein")
    call(
        pipe, painter=painter_of(klein, arguments=arguments, side=64), restorer=None, num_inference_steps=None, **watch
    )
    assert seen == ["repaint"] * 4 + ["restore"] * 4, "also where its own painter would leave stage 2 out"
    seen.clear()
    pipe.use_restorer(None)
    call(pipe, painter=flux_call, restorer=note and (lambda image, prompt, strength, generator: image), **watch)
    assert set(seen) == {"repaint"}


def test_an_interrupt_stops_the_painter_and_what_would_follow():
    pipe, arguments = build("z-image")
    made = GRefinePipeline.from_pipe(pipe, working_size=64, painter_arguments=arguments, **maps())
    seen = []

    def stop(owner, index, time, tensors):
        seen.append(tensors["stage"])
        owner._interrupt = True
        return {}

    out = call(made, restorer="inpaint", num_inference_steps=6, callback_on_step_end=stop)
    assert seen == ["repaint"]
    assert "interrupted" in " ".join(out.results[0].warnings)


def test_a_text_to_image_pipeline_lends_its_parts():
    plain = diffusers.FluxPipeline(**flux_parts())
    painter = painter_of(plain)
    assert painter.name == "FluxInpaintPipeline"
    assert painter.pipe.transformer is plain.transformer


def test_image_to_image_counts_under_the_mask_and_says_what_was_assumed():
    """A class that the table does not have, read by its signature."""

    class HouseImg2ImgPipeline(diffusers.FluxImg2ImgPipeline):
        pass

    house = HouseImg2ImgPipeline(**flux_parts())
    house.set_progress_bar_config(disable=True)
    made = GRefinePipeline.from_pipe(house, working_size=64, painter_arguments=FEW, **maps())
    seen = []
    out = call(made, num_inference_steps=3, callback_on_step_end=lambda p, i, t, k: seen.append(i) or {})
    assert len(seen) == 3
    before, after = np.asarray(picture()), np.asarray(out.images[0])
    assert (before == after).all(-1)[~MASK].all()
    assert "HouseImg2ImgPipeline is not in the table of painters; assumed from its call" in " ".join(
        out.results[0].warnings
    )


def test_sd2_is_read_from_its_parts():
    """Its size stands in the UNet, its v-prediction in the scheduler: it needs no record of its own."""
    pipe, _ = build("sd15")
    pipe.unet.register_to_config(sample_size=384)
    pipe.scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
    painter = painter_of(pipe)
    assert (painter.family.name, painter.side, painter.multiple) == ("sd15", 768, 4)
    made = GRefinePipeline.from_pipe(pipe, working_size=64, **maps())
    seen = []
    out = call(made, num_inference_steps=3, callback_on_step_end=lambda p, i, t, k: seen.append(i) or {})
    assert len(seen) == 3
    pipe.scheduler = diffusers.DDIMScheduler(prediction_type="epsilon")
    assert not np.array_equal(np.asarray(call(made, num_inference_steps=3).images[0]), np.asarray(out.images[0]))


def test_defaults_are_the_painters_own():
    klein, arguments = build("flux2-klein")
    painter = painter_of(klein, arguments=arguments, side=64)
    assert (painter.steps, painter.restorer, painter.guidance) == ((4, 4), "none", 1.0)
    seen = []
    watch = {"callback_on_step_end": lambda p, i, t, k: seen.append(i) or {}}
    call(pipeline(), painter=painter, num_inference_steps=None, restorer=None, **watch)
    assert len(seen) == 4, "a distilled painter takes four steps, and no second stage, where nobody asked"
    assert executed("floor", 10, 0.95) == 9
    assert executed("rest", 10, 0.95) == 10
    flux, _ = build("flux")
    assert painter_of(flux).schedule(1, 0.1) == 10, "one step of one would begin at full noise"
    assert painter_of(flux).schedule(8, 0.1) == 80


# Bad input


def test_bad_input_is_one_sentence():
    z_image, _ = build("z-image")
    flux, few = build("flux")
    for words, make in {
        "cannot inpaint": lambda: painter_of(
            diffusers.DDPMPipeline(diffusers.UNet2DModel(block_out_channels=(32,) * 4), diffusers.DDPMScheduler())
        ),
        "has no class 'FluxPaintPipeline'": lambda: diffusers_class("FluxPaintPipeline"),
        "is filled by grefine": lambda: painter_of(flux, arguments={"mask_image": 1}),
        "is no argument of its call": lambda: painter_of(flux, arguments={"max_length": 1}),
        "working_size 1 is below 2": lambda: painter_of(flux, side=1),
        "breaks in float16": lambda: painter_of(z_image.to(torch.float16)),
        "and so on, not of": lambda: open_painter(lambda a: a),
        "a function or a name, not tuple": lambda: open_painter((flux, few)),
    }.items():
        with pytest.raises(ConfigError, match=words) as caught:
            make()
        assert len(str(caught.value)) < 600
    made = GRefinePipeline.from_pipe(flux, working_size=64, painter_arguments=few | {"true_cfg_scale": 2.0}, **maps())
    with pytest.raises(ConfigError, match="true_cfg_scale=2 of FluxInpaintPipeline needs a negative prompt"):
        call(made)
    assert call(made, negative_prompt=" ").results[0].painter == "FluxInpaintPipeline"
    steered = pipeline()
    steered.use_painter(inverted)
    for given, words in (
        ({"guidance": {"sharpness": 1.0}}, "guidance is for SDXL's own loop"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, "latents is for SDXL's own loop"),
        ({"output_type": "latent"}, "output_type='latent' is for SDXL's own loop"),
        ({"restorer": "controlnet-tile"}, "controlnet-tile"),
    ):
        with pytest.raises(ConfigError, match=words):
            call(steered, **given)


def test_a_class_that_diffusers_lacks_names_the_version(monkeypatch):
    monkeypatch.setattr(diffusers, "Flux2KleinInpaintPipeline", None)
    with pytest.raises(ConfigError, match=r"no class 'Flux2KleinInpaintPipeline', which came with diffusers 0\.38"):
        diffusers_class("Flux2KleinInpaintPipeline")


# Commands and recipes


@pytest.fixture(scope="module")
def painter_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painters") / "sd15"
    build("sd15")[0].save_pretrained(folder)
    return folder


def test_the_command_takes_a_folder_and_records_who_painted(tmp_path, painter_folder):
    host = save_tiny(tmp_path / "host", working_size=64)
    picture().save(tmp_path / "a.png")
    few = ["gate=false", "use_aq=false", "mask_threshold=mean", "max_area=0.9", "max_regions=1", "total_steps=2"]
    line = ["refine", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--pipeline", str(host), "--prompt", "x"]
    line += ["--painter", str(painter_folder), "--painter-class", "StableDiffusionInpaintPipeline", "--no-panels"]
    line += [part for change in [*few, "guard=false"] for part in ("--set", change)]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    record = read_record(read_image(tmp_path / "out" / "a.png").embedded)
    assert record.painter.startswith("StableDiffusionInpaintPipeline")
    rows = [json.loads(text) for text in (tmp_path / "out" / ".grefine" / "journal.jsonl").read_text().splitlines()]
    assert any("StableDiffusionInpaintPipeline" in json.dumps(row.get("header", {})) for row in rows)
    assert "StableDiffusionInpaintPipeline" in (tmp_path / "out" / "report.html").read_text()
    done = CliRunner().invoke(app, [*line[:7], "--prompt", "x", *line[13:]])
    assert done.exit_code != 0, "another painter is another run"
    other = [*line[:3], str(tmp_path / "o3"), *line[4:], "--restorer", str(painter_folder)]
    done = CliRunner().invoke(app, other)
    assert done.exit_code == 0, done.output
    record = read_record(read_image(tmp_path / "o3" / "a.png").embedded)
    assert "; stage 2 by StableDiffusionInpaintPipeline" in record.painter
    done = CliRunner().invoke(app, [*other[:-1], "none"])
    assert done.exit_code != 0, "another stage 2 is another run"
    by = ["--pipeline", str(host), "--prompt", "x", "--painter", str(painter_folder)]
    few = [part for change in few[:-1] for part in ("--set", change)]
    done = CliRunner().invoke(app, ["plan", line[1], "-o", str(tmp_path / "plans"), *by, *few])
    assert done.exit_code == 0, done.output
    followed = ["refine", line[1], "-o", str(tmp_path / "o4"), *by, *line[13:], "--plans", str(tmp_path / "plans")]
    done = CliRunner().invoke(app, followed)
    assert done.exit_code == 0, done.output
    same = [read_image(tmp_path / out / "a.png").rgb.tobytes() for out in ("out", "o4")]
    assert same[0] == same[1] != read_image(tmp_path / "a.png").rgb.tobytes()
    wrong = CliRunner().invoke(app, [*line[:3], str(tmp_path / "o2"), *line[4:8], "--painter", "nobody"])
    assert wrong.exit_code != 0


def test_recipes_beside_sdxl_name_their_licences():
    assert set(RECIPES) <= set(pipeline_names())
    for name in RECIPES:
        recipe = read_recipe(bundled("pipelines") / name)
        fetched = fetch_recipe(recipe.parts[PAINTER].fetch)
        index = json.loads((bundled("pipelines") / name / "model_index.json").read_text())
        family = family_named(index["painter"]["class"])
        assert family.classes[0] == index["painter"]["class"]
        free = fetched.licence == "Apache-2.0" or "RAIL" in fetched.licence
        assert fetched.ask == (not free), name


def test_moving_and_offloading_take_the_painter_along():
    pipe, _ = build("z-image")
    made = GRefinePipeline.from_pipe(pipe, **maps())
    made.to("meta")
    assert pipe.transformer.device.type == "meta"
    pipe, arguments = build("z-image")
    made = GRefinePipeline.from_pipe(pipe, working_size=64, painter_arguments=arguments, **maps())
    whole = call(made).images[0]
    made.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
    assert any("_diffusers_hook" in module.__dict__ for module in pipe.transformer.modules())
    assert np.array_equal(np.asarray(call(made).images[0]), np.asarray(whole))


def test_a_spec_says_how_a_function_works():
    def paint(images, masks, prompts, strengths, seeds, steps):
        assert {image.size for image in images} == {(48, 48)}
        assert prompts == ["a red ball"]
        assert steps == 2
        return images

    paint.spec = PainterSpec("house", side=48, words="caption")
    made = GRefinePipeline.from_pipe(paint, **maps())
    assert call(made).results[0].painter == "house"
