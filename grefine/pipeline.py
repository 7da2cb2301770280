"""GRefinePipeline: maps, plan, stage 1, stage 2, guard. The paper's Figure 2 as one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import FromSingleFileMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, StableDiffusionMixin
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from grefine.errors import ConfigError
from grefine.indicators.aq_map import AQMap, parsed_prompt
from grefine.indicators.calibration import Calibration, check_belongs
from grefine.indicators.domain_check import domain_of, read_world
from grefine.indicators.pq_map import PQMap
from grefine.indicators.readings import Readings
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.domain import DomainNet
from grefine.models.finisher import Finisher
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.models.pq_prompts import PQPrompts
from grefine.models.reward import RewardModel
from grefine.refine import inputs
from grefine.refine.candidates import open_chooser
from grefine.refine.denoise import TENSORS, Watch, latent_multiple
from grefine.refine.follow import follow_plans, made_for, read_plans, seeds_of, stamped
from grefine.refine.guard import Panel
from grefine.refine.guidance import Guidance, Steering, taken_axes
from grefine.refine.inputs import ImageInput
from grefine.refine.inspector import explain_result, memory_estimate
from grefine.refine.job import keep_best, latents_of, open_jobs
from grefine.refine.loading import Loading
from grefine.refine.maps import AlignmentProvider, MapDrawer, QualityProvider, draw_maps, guesses
from grefine.refine.painters import choose
from grefine.refine.painters.choose import Chosen, open_painter
from grefine.refine.painters.protocol import Painter, Painting
from grefine.refine.painters.sdxl import PromptEncoding, SDXLPainter, check_family
from grefine.refine.plan import Planner
from grefine.refine.regions import working_side
from grefine.refine.settings import (
    STRENGTH_CAP,
    RefineConfig,
    UNetTraits,
    check_stated,
    read_settings,
    traits_of_call,
    unet_traits,
)
from grefine.refine.stages import Restore, choose_restorer, repaint_regions, restore_pictures
from grefine.refine.turns import in_turn
from grefine.scorers.component import component_tokenizer
from grefine.scorers.protocol import AnyJudge, Scorer, as_scorer
from grefine.scorers.resolve import resolve as resolve_judge
from grefine.types import RefineResult, RepairPlan


@dataclass
class GRefineOutput(BaseOutput):
    """What a refinement gives back."""

    images: Any
    """As `output_type` asks: a list of PIL images, an array, a tensor, or latents."""
    results: list[RefineResult]
    """One record per image: maps, plan, scores before and after, decision, seed, timings."""


EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
FOR_SDXL = (*EMBEDDINGS, "latents", "cross_attention_kwargs", "clip_skip")
"""Arguments of a call that only SDXL's own loop understands."""


STATED = ("force_zeros_for_empty_prompt", "requires_aesthetics_score", "working_size", "calibration", "world")
STATED += ("refine_defaults", "unet_traits", "painter")
"""What a pipeline states of itself beside its parts."""

GUESSED = (
    "The thresholds of this pipeline are not measured, and no mask is cut from guesses: run `grefine calibrate "
    "--pipeline NAME --images GOOD_PICTURES` once and load it again, mark the bad places yourself (mask_image=), or "
    "give force=True (`--force`) to go on with guesses."
)


class GRefinePipeline(
    Loading,
    PromptEncoding,
    DiffusionPipeline,
    StableDiffusionMixin,
    StableDiffusionXLLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Finds where an image is bad and what of its prompt is missing, and repaints only there.

    Args:
        vae: SDXL's autoencoder.
        text_encoder: the first text encoder.
        text_encoder_2: the second, with projection.
        tokenizer: of the first encoder.
        tokenizer_2: of the second.
        unet: SDXL's UNet, for inpainting (9 channels) or ordinary (4).
        scheduler: any of diffusers' schedulers.
        clip: the CLIP of both maps.
        clip_tokenizer: its tokenizer.
        pq_prompts: the learned prompts of PQ-Map.
        controlnet: an SDXL tile ControlNet for `restorer="controlnet-tile"`.
        reward: a judge of prompt and picture for the guard.
        moe_agiqa: another, by mixture of experts.
        mdiqa: a judge of nine quality dimensions.
        lar_iqa: a light judge of quality.
        clipiqa: a CLIP, another than the maps', that judges quality as CLIPIQA.
        domain: tells pictures of the world that `world` states from all others.
        finisher: gives a place that is mended in sight back what the autoencoder lost of it.
        force_zeros_for_empty_prompt: the negative half of guidance is zeros when no negative prompt is given.
        requires_aesthetics_score: the UNet is conditioned on an aesthetic score (SDXL refiner).
        working_size: side of the square that the UNet was trained on; None takes it from the UNet.
        calibration: thresholds of the maps as `grefine calibrate` measured them.
        world: the statement of what pictures this pipeline knows; None: any.
        refine_defaults: settings that this pipeline prefers where a call leaves them open.
        unet_traits: what the UNet was trained to see of its source, as `UNetTraits` has it; None: nothing.
        painter: what another painter than SDXL is made of, as `save_pretrained` wrote it; SDXL's parts may be None.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->unet->vae"
    _exclude_from_cpu_offload = ["clip", "pq_prompts", "clipiqa", "domain", "finisher"]
    _optional_components = ["controlnet", "reward", "moe_agiqa", "mdiqa", "lar_iqa", "clipiqa", "domain", "finisher"]
    _callback_tensor_inputs = [*TENSORS, "stage"]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        clip: ClipSurgery,
        clip_tokenizer: CLIPTokenizer,
        pq_prompts: PQPrompts,
        controlnet: ControlNetModel | None = None,
        reward: RewardModel | None = None,
        moe_agiqa: MoEAGIQA | None = None,
        mdiqa: MDIQA | None = None,
        lar_iqa: LARIQA | None = None,
        clipiqa: CLIPModel | None = None,
        domain: DomainNet | None = None,
        finisher: Finisher | None = None,
        force_zeros_for_empty_prompt: bool = True,
        requires_aesthetics_score: bool = False,
        working_size: int | None = None,
        calibration: dict | None = None,
        world: dict | None = None,
        refine_defaults: dict | None = None,
        unet_traits: dict | None = None,
        painter: dict | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        check_family(unet, vae, (text_encoder, text_encoder_2), controlnet)
        read_world(world)
        check_stated(working_size, refine_defaults=refine_defaults, unet_traits=given["unet_traits"])
        self.register_modules(**{name: part for name, part in given.items() if name not in STATED})
        self.register_to_config(**{name: given[name] for name in STATED})
        self._painter: Chosen | None = None
        self._restorer: Chosen | None = None
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1) if vae is not None else 8
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._guidance_scale, self._interrupt, self._watch = 1.0, False, Watch()
        self._maps: tuple[tuple[Any, ...], tuple[PQMap, AQMap | None]] | None = None
        self._cross_attention_kwargs: dict[str, Any] | None = None
        self._refiner: Any = None

    @torch.no_grad()
    @in_turn
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        image: ImageInput | None = None,
        mask_image: Any = None,
        config: RefineConfig | str | Path | Mapping[str, Any] | None = None,
        height: int | None = None,
        width: int | None = None,
        strength: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        restorer: str | Restore | None = None,
        preserve: str | None = None,
        guard: bool | None = None,
        guidance: Mapping[str, float] | None = None,
        scorers: Sequence[str | AnyJudge] | None = None,
        quality_map: QualityProvider | None = None,
        alignment_map: AlignmentProvider | None = None,
        plan: RepairPlan | Sequence[RepairPlan | None] | None = None,
        painter: Any = None,
        candidates: int | str | None = None,
        plan_only: bool = False,
        force: bool = False,
    ) -> GRefineOutput | tuple[Any, list[RefineResult]]:
        """Refine one or more images; what needs no repair comes back untouched.

        Calls from several threads take turns, also those of pipelines that share their UNet.

        Args:
            prompt: what each image should show; without one only perceptual quality counts.
            image: one image or a list: paths, PIL, arrays or tensors with values in 0..1. Results have
                the image's own size.
            mask_image: your own masks in place of the planned ones, white = repaint.
            config: settings: a `RefineConfig`, the name of a bundled file (default, paper, fast, ...) or a path.
            height: resize the images to this height first.
            width: resize the images to this width first.
            strength: one strength for all regions, in place of the planned ones.
            num_inference_steps: executed steps of both stages together.
            guidance_scale: classifier-free guidance of stage 1.
            negative_prompt: what to move away from.
            num_images_per_prompt: samples per image.
            generator: one for all images or one for each.
            latents: noise to start from, in place of seeded noise.
            prompt_embeds: what `encode_prompt` returns, in place of `prompt`; AQ-Map then has nothing to judge.
            negative_prompt_embeds: see `prompt_embeds`.
            pooled_prompt_embeds: see `prompt_embeds`.
            negative_pooled_prompt_embeds: see `prompt_embeds`.
            output_type: "pil", "np", "pt", or "latent" for the latents of the last stage that ran.
            return_dict: False gives a plain tuple.
            cross_attention_kwargs: passed to the UNet, e.g. {"scale": 0.5} for a LoRA.
            clip_skip: how many more text encoder layers to skip.
            callback_on_step_end: called after every step of both stages; the stage's name is in its last argument.
            callback_on_step_end_tensor_inputs: what it wants to see and may change.
            restorer: stage 2: a name, a loaded pipeline of diffusers as another painter, or your own
                `restore(image, prompt=, strength=, generator=)`.
            preserve: "paper" or "exact"; see `RefineConfig`.
            guard: compare before and after and keep the original unless it was beaten.
            guidance: experimental: preferences that steer denoising, e.g. {"sharpness": 1.0, "moe-agiqa": 0.5}, in
                place of the settings' and the plans' own.
            scorers: judges for the guard in place of the pipeline's own: names of metrics, and any function of images
                and prompts that returns a number, or numbers by name, for each.
            quality_map: your own heatmaps in place of PQ-Map: an array in 0..1 (high = good), one per image, a folder
                of files, or a function of the list of images that returns one per image.
            alignment_map: your own in place of AQ-Map: the same; a function also gets the parsed prompts.
            plan: follow this plan (of `plan()` or `RepairPlan.load`) in place of planning, with its seed where no
                generator is given; a list for several images, None in it plans one now.
            painter: who redraws in place of the pipeline's own: a loaded inpainting or image-to-image pipeline of
                diffusers, a function (see `OwnPainter`), or what `use_painter` takes.
            candidates: tries at a region where they pay, of which a judge takes one: 4, or "4 by mdiqa".
            plan_only: stop after the plan; images come back untouched.
            force: refine pictures of a world that this pipeline does not know (their reasons say so), and cut masks at
                thresholds that nobody measured.

        Raises:
            ConfigError: thresholds that nobody measured would cut the mask.
        """
        given = locals()
        inputs.check_types({name: given[name] for name in inputs.KINDS})
        other, wanted = self._painter_of_call(painter), read_settings(config)
        shown = self._callback_tensor_inputs if other is None else tuple(callback_on_step_end_tensor_inputs)
        most = STRENGTH_CAP if other is None else 1.0
        inputs.check_call(output_type, strength, callback_on_step_end_tensor_inputs, shown, most)
        mending: Any = self._restorer if restorer is None and wanted.restorer is None else restorer
        mending = open_painter(mending) if isinstance(mending, DiffusionPipeline) else mending
        # A call's arguments win over its configuration, and that over what the pipeline prefers.
        overrides = {name: given[name] for name in ("guidance_scale", "preserve", "guard", "candidates")}
        overrides |= {"total_steps": num_inference_steps, "guidance": None if guidance is None else dict(guidance)}
        overrides["restorer"] = mending if mending is None or isinstance(mending, str) else "inpaint"  # it has steps
        preferred = self.config.refine_defaults or {}
        settings = choose.painter_settings(wanted, preferred, overrides, other, painter is None)
        pictures = [inputs.resize_picture(picture, height, width) for picture in inputs.read_pictures(image)]
        plans = read_plans(plan, len(pictures), mask_image, strength)
        steered = [one for one in [settings.guidance, *(each.guidance for each in plans if each)] if one]
        steered = steered[:1] if settings.guidance else steered
        foreign = {name: given[name] for name in FOR_SDXL} | {"guidance": steered or None}
        choose.refuse_foreign(other, foreign | {"output_type='latent'": True if output_type == "latent" else None})
        self._cross_attention_kwargs, self._interrupt = cross_attention_kwargs, False
        self._guidance_scale = settings.guidance_scale or 1.0
        self._watch = Watch(callback_on_step_end, tuple(callback_on_step_end_tensor_inputs))
        maps = MapDrawer.of(*self.own_maps(settings.readings), quality_map, alignment_map, settings.phrase_judge)
        guides = [self.read_guidance(one) for one in steered]
        judges = self._judges(scorers, guides) if settings.guard or settings.tries[0] > 1 else []
        if latents is not None and settings.tries[0] > 1:
            raise ConfigError("latents would give every try the same noise: leave out latents, or candidates.")
        chooser = open_chooser(settings, judges, self)
        read = lru_cache(partial(parsed_prompt, readings=settings.readings))
        panel = Panel(lambda images, texts: maps.scores(images, [read(t) if t else None for t in texts]), judges)
        panel = replace(panel.without(maps.drawn_by), choosing=chooser.names)
        stage1, stage2 = self._stages(settings, other, mending, given)

        generator = seeds_of(plans) if generator is None else generator
        inputs.check_words(prompt, prompt_embeds, negative_prompt, len(pictures))
        domain = domain_of(self)
        if domain is not None and not force:
            domain.demand(Image.fromarray(picture.pixels) for picture in pictures)
        prompts = inputs.read_prompts(prompt, len(pictures))
        masks = inputs.read_masks(mask_image, pictures)
        jobs = open_jobs(pictures, prompts, masks, num_images_per_prompt, generator, domain, settings.readings)
        automatic = [job for job in jobs if job.user_mask is None and not (plans and plans[job.row])]
        if automatic and not force and guesses(self.config.calibration, settings, quality_map, alignment_map):
            raise ConfigError(GUESSED)
        chooser.need_prompts(jobs)
        planner = Planner(settings, maps.calibration, stage1.side, stage1.traits, stage1.phrasing, strength)
        made_by = made_for(self, maps, stage1) if plans or plan_only else {}

        # Figure 2: the maps, the plan, both stages, the guard.
        jobs = draw_maps(jobs, maps)
        jobs = follow_plans(jobs, plans, planner, made_by) if plans else planner(jobs)
        jobs = [replace(job, plan=replace(job.plan, guidance=settings.guidance or job.plan.guidance)) for job in jobs]
        jobs = choose.with_dropped(jobs, other and stage1)
        if plan_only:
            jobs = jobs if plans else stamped(jobs, settings, made_by)
        else:
            jobs = repaint_regions(jobs, stage1, panel, settings, chooser)
            jobs = restore_pictures(jobs, stage2, maps, panel, settings)
        jobs = keep_best(jobs, panel, settings, plan_only)

        self.maybe_free_model_hooks()
        if output_type == "latent":
            images = latents_of(jobs, self)
        else:
            images = inputs.write_images([job.picture for job in jobs], [job.output for job in jobs], output_type)
        results = [replace(job.result, painter=stage1.name) for job in jobs]
        return GRefineOutput(images=images, results=results) if return_dict else (images, results)

    def _stages(
        self, settings: RefineConfig, other: Chosen | None, mending: Any, given: Mapping[str, Any]
    ) -> tuple[Painter, Painter | None]:
        """Return the painters of both stages, ready for a call; the second is None where there is no stage 2."""
        asked, negative = given["num_inference_steps"] is not None, given["negative_prompt"]
        traits = traits_of_call(self.unet_traits, settings, asked)
        by_another = mending is not None and not isinstance(mending, str)
        first, second = settings.steps(other and other.steps, asked or by_another)
        scale = None if other is None else settings.guidance_scale
        told: dict[str, Any] = {"batch_size": settings.batch_size, "guidance": scale, "negative": negative}
        painting = Painting(self, self._watch, steps=first, **told)
        sdxl = None
        if self.unet is not None:
            sdxl = SDXLPainter(
                side=self.own_side,
                multiple=latent_multiple(self),
                traits=traits,
                painting=painting,
                pipe=self,
                guided=self._guidance_scale > 1.0,
                given={name: given[name] for name in EMBEDDINGS},
                lora_scale=(given["cross_attention_kwargs"] or {}).get("scale"),
                clip_skip=given["clip_skip"],
                steer=lambda weights, prompts: Steering(self.read_guidance(weights), prompts),
                noise=given["latents"],
            )
        stage1 = other or sdxl
        assert stage1 is not None  # a pipeline without either was refused before
        room = settings.batch_size * stage1.side**2
        stage1 = stage1.at(replace(painting, max_batch_pixels=room))
        named = mending if by_another else settings.restorer or "none"
        stage2 = choose_restorer(named, stage1, sdxl, self._refiner, second)
        if stage2 is not None:
            # A guided step sees every crop twice, so stage 2, which is not guided, has room for twice the area.
            stage2 = stage2.at(
                replace(painting, stage="restore", steps=second, guidance=stage2.unguided, max_batch_pixels=2 * room)
            )
        return stage1, stage2

    def explain(
        self,
        prompt: str | Sequence[str] | None = None,
        image: ImageInput | None = None,
        mask_image: Any = None,
        config: RefineConfig | str | Path | Mapping[str, Any] | None = None,
        quality_map: QualityProvider | None = None,
        alignment_map: AlignmentProvider | None = None,
        force: bool = False,
    ) -> str:
        """Say in words what a call with these arguments would do, why, and how much memory it takes."""
        other, preferred = self._painter, self.config.refine_defaults or {}
        settings = choose.painter_settings(read_settings(config), preferred, {}, other, own=True)
        maps: dict[str, Any] = {"quality_map": quality_map, "alignment_map": alignment_map}
        found = self(prompt, image, mask_image, settings, plan_only=True, force=force, **maps)
        calibrated = Calibration.of(self.config.calibration).calibrated
        traits = traits_of_call(self.unet_traits, settings, asked_steps=False)
        steps = settings.steps(other and other.steps)
        parts = [explain_result(result, settings, calibrated, traits, steps) for result in found.results]
        cut = (self.working_side, latent_multiple(self) if other is None else other.multiple)
        networks = self.components | (getattr(getattr(other, "pipe", None), "components", None) or {})
        return "\n\n".join([*parts, memory_estimate(networks, found.results, settings, *cut)])

    @property
    def painter(self) -> Chosen | None:
        """Who redraws where no call names another; None for the pipeline's own UNet."""
        return self._painter

    def use_painter(
        self,
        painter: Any,
        painter_class: str | None = None,
        words: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **load: Any,
    ) -> None:
        """Let this one redraw from now on; None gives the work back to the pipeline's own UNet.

        Args:
            painter: a loaded pipeline of diffusers, a function, the name of a recipe or of an installed painter, a
                folder, or a Hub id.
            painter_class: the class of diffusers that a folder or Hub id is loaded as.
            words: how it is told: "phrase first", "caption", "instruction", or templates of instructions by name.
            arguments: for every call of a pipeline of diffusers, e.g. {"max_sequence_length": 256}.
            load: passed on to diffusers where it is loaded here (dtype, quantization_config, ...).
        """
        side = self.config.working_size if self.unet is None else None
        told: dict[str, Any] = {"painter_class": painter_class, "words": words, "arguments": arguments, "side": side}
        self._painter = None if painter is None else open_painter(painter, **told, **load)
        self.register_to_config(painter=choose.describe_painter(self._painter))

    def use_restorer(self, painter: Any, **told: Any) -> None:
        """Let another painter, told as by `use_painter`, do stage 2 where nobody names a `restorer`; never saved."""
        self._restorer = None if painter is None else open_painter(painter, **told)

    def _painter_of_call(self, painter: Any) -> Chosen | None:
        """Return a call's painter; None for the pipeline's own UNet."""
        side = self.config.working_size if self.unet is None else None
        found = self._painter if painter is None else open_painter(painter, side=side)
        if found is None and self.unet is None:
            known = (self.config.painter or {}).get("from")
            lost = f"; it was saved with the function '{known}', which cannot be saved" if known else ""
            raise ConfigError(f"This pipeline has no painter{lost}: pass painter=..., or call use_painter first.")
        return found

    def plan(
        self,
        prompt: str | Sequence[str] | None = None,
        image: Any = None,
        mask_image: Any = None,
        config: RefineConfig | str | Path | Mapping[str, Any] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        quality_map: QualityProvider | None = None,
        alignment_map: AlignmentProvider | None = None,
        force: bool = False,
    ) -> Any:
        """Return what a call with these arguments would repaint: a `RepairPlan` for one image, a list for a list.

        Look at it, change it, `save` it, and pass it on as `pipe(plan=...)`; unchanged it gives what a direct call
        gives. The seed is in it.
        """
        maps: dict[str, Any] = {"quality_map": quality_map, "alignment_map": alignment_map}
        out = self(prompt, image, mask_image, config, generator=generator, plan_only=True, force=force, **maps)
        plans = [result.plan for result in out.results]
        return plans[0] if len(plans) == 1 and not isinstance(image, (list, tuple)) else plans

    def use_refiner(self, img2img: Any) -> None:
        """Give `restorer="refiner"` its model: a loaded StableDiffusionXLImg2ImgPipeline, shared and never saved."""
        self._refiner = img2img

    def own_maps(self, readings: Readings = Readings.of("grefine")) -> tuple[PQMap, AQMap | None]:
        """Return the views of both maps over this pipeline's CLIP; they keep their encoded texts between calls."""
        parts = (self.clip, self.pq_prompts, self.clip_tokenizer, self.config.calibration, readings)
        if self._maps is None or any(one is not other for one, other in zip(self._maps[0], parts, strict=True)):
            known: dict[str, Any] = {"calibration": Calibration.of(self.config.calibration), "readings": readings}
            pq = PQMap(self.clip, self.pq_prompts, **known)
            aq = None if self.clip_tokenizer is None else AQMap(self.clip, self.clip_tokenizer, **known)
            self._maps = parts, (pq, aq)
        check_belongs(self._maps[1][0].calibration, self.clip)  # a pipeline may be brought to another precision
        return self._maps[1]

    def read_guidance(self, weights: Mapping[str, float]) -> Guidance:
        """Return the preferences that steer denoising."""
        wants_words = any(name.replace("_", "-").lower() == "moe-agiqa" for name in weights)
        tokenizer = component_tokenizer(self, "moe_agiqa") if wants_words and self.moe_agiqa is not None else None
        return Guidance(weights, self.mdiqa, self.moe_agiqa, tokenizer)

    def _judges(self, scorers: Sequence[str | AnyJudge] | None, guides: Sequence[Guidance]) -> list[Scorer]:
        """Return a caller's judges, or those of this pipeline that did not steer; say which axis loses its last."""
        if scorers is not None:
            asked = [resolve_judge(judge, pipeline=self, device=str(self.device)) for judge in scorers]
            return [as_scorer(judge.load()) for judge in asked]
        steers = {name for guide in guides for name in guide.steers}
        left = self.judges(steered=steers)
        lost = taken_axes(self.judges(), left, steers)
        if lost:
            warnings.warn(lost, stacklevel=4)
        return left

    @property
    def unet_traits(self) -> UNetTraits:
        """What the UNet was trained to see of its source."""
        return unet_traits(self.config.unet_traits)

    @property
    def working_side(self) -> int:
        """Side of the square that crops are brought to."""
        return self.own_side if self._painter is None else self._painter.side

    @property
    def own_side(self) -> int:
        """The same for the pipeline's own UNet."""
        return self.config.working_size or working_side(self.unet.config, self.vae.config)

    @property
    def guidance_scale(self) -> float:
        """Guidance of stage 1; a callback may change `_guidance_scale` between steps."""
        return self._guidance_scale

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        """What the UNet's attention gets."""
        return self._cross_attention_kwargs

    @property
    def num_timesteps(self) -> int:
        """Denoiser steps of the batches that were begun; after a call those of both its stages."""
        return self._watch.total

    @property
    def interrupt(self) -> bool:
        """True stops denoising after the current step; set `_interrupt` from a callback."""
        return self._interrupt
