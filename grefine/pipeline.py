"""GRefinePipeline: maps, plan, stage 1, stage 2, guard. The paper's Figure 2 as one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import FromSingleFileMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, StableDiffusionMixin
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from grefine.indicators.calibration import Calibration
from grefine.indicators.domain_check import read_world
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.domain import DomainNet
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.models.pq_prompts import PQPrompts
from grefine.models.reward import RewardModel
from grefine.refine.call import Call, Options
from grefine.refine.device import OneDevice, on_one_device
from grefine.refine.explain import explain_result, memory_estimate
from grefine.refine.family import check_family
from grefine.refine.inputs import KINDS, check_types, write_images
from grefine.refine.loading import Loading
from grefine.refine.maps import AlignmentProvider, QualityProvider
from grefine.refine.prompting import PromptEncoding
from grefine.refine.restore import Restore, refiner_of
from grefine.refine.settings import RefineConfig, read_settings, resolve
from grefine.refine.stored import working_side
from grefine.refine.turns import in_turn
from grefine.scorers.protocol import AnyJudge
from grefine.types import RefineResult


@dataclass
class GRefineOutput(BaseOutput):
    """What a refinement gives back."""

    images: Any
    """As `output_type` asks: a list of PIL images, an array, a tensor, or latents."""
    results: list[RefineResult]
    """One record per image: maps, plan, scores before and after, decision, seed, timings."""


class GRefinePipeline(
    OneDevice,
    Loading,
    PromptEncoding,
    DiffusionPipeline,
    StableDiffusionMixin,
    StableDiffusionXLLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Finds where an image is bad and what of its prompt is missing, repaints only there, and proves that it helped.

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
        force_zeros_for_empty_prompt: the negative half of guidance is zeros when no negative prompt is given.
        requires_aesthetics_score: the UNet is conditioned on an aesthetic score (SDXL refiner).
        working_size: side of the square that the UNet was trained on; None takes it from the UNet.
        calibration: thresholds of the maps as `grefine calibrate` measured them.
        world: the statement of what pictures this pipeline knows; None: any.
        refine_defaults: settings that this pipeline prefers where a call leaves them open.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->unet->vae"
    _exclude_from_cpu_offload = ["clip", "pq_prompts", "clipiqa", "domain"]
    _optional_components = ["controlnet", "reward", "moe_agiqa", "mdiqa", "lar_iqa", "clipiqa", "domain"]
    _callback_tensor_inputs = [
        "latents",
        "prompt_embeds",
        "add_text_embeds",
        "add_time_ids",
        "mask",
        "masked_image_latents",
        "stage",
    ]

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
        force_zeros_for_empty_prompt: bool = True,
        requires_aesthetics_score: bool = False,
        working_size: int | None = None,
        calibration: dict | None = None,
        world: dict | None = None,
        refine_defaults: dict | None = None,
    ) -> None:
        super().__init__()
        check_family(unet, vae, (text_encoder, text_encoder_2), controlnet)
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=unet,
            scheduler=scheduler,
            clip=clip,
            clip_tokenizer=clip_tokenizer,
            pq_prompts=pq_prompts,
            controlnet=controlnet,
            reward=reward,
            moe_agiqa=moe_agiqa,
            mdiqa=mdiqa,
            lar_iqa=lar_iqa,
            clipiqa=clipiqa,
            domain=domain,
        )
        read_world(world)
        self.register_to_config(
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            requires_aesthetics_score=requires_aesthetics_score,
            working_size=working_size,
            calibration=calibration,
            world=world,
            refine_defaults=refine_defaults,
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1) if vae is not None else 8
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._guidance_scale, self._num_timesteps, self._interrupt = 1.0, 0, False
        self._cross_attention_kwargs: dict[str, Any] | None = None
        self._refiner: Any = None

    @torch.no_grad()
    @in_turn
    @on_one_device
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        image: Any = None,
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
        plan_only: bool = False,
        force: bool = False,
    ) -> GRefineOutput | tuple[Any, list[RefineResult]]:
        """Refine one or more images; what needs no repair comes back untouched.

        Calls from several threads take turns, also those of pipelines that share their UNet.

        Args:
            prompt: what each image should show; without one only perceptual quality counts.
            image: one image or a list: PIL, arrays or tensors with values in 0..1. Results have the image's own size.
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
            restorer: stage 2: a name, or your own `restore(image, prompt=, strength=, generator=)`.
            preserve: "paper" or "exact"; see `RefineConfig`.
            guard: compare before and after and keep the original unless it was beaten.
            guidance: preferences that steer denoising, e.g. {"sharpness": 1.0, "moe-agiqa": 0.5}.
            scorers: judges for the guard in place of the pipeline's own: names of metrics, and any function of images
                and prompts that returns a number, or numbers by name, for each.
            quality_map: your own heatmaps in place of PQ-Map: an array in 0..1 (high = good), one per image, a folder
                of files, or a function of the list of images that returns one per image.
            alignment_map: your own in place of AQ-Map: the same; a function also gets the parsed prompts.
            plan_only: stop after the plan; images come back untouched.
            force: refine pictures of a world that this pipeline does not know; their reasons say so.
        """
        given = locals()
        check_types({name: given[name] for name in KINDS})
        overrides = {
            "total_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "restorer": restorer if isinstance(restorer, str) else None,
            "preserve": preserve,
            "guard": guard,
        }
        options = Options(
            strength=strength,
            negative_prompt=negative_prompt,
            embeds=(prompt_embeds, negative_prompt_embeds, pooled_prompt_embeds, negative_pooled_prompt_embeds),
            latents=latents,
            output_type=output_type,
            clip_skip=clip_skip,
            callback=callback_on_step_end,
            callback_names=callback_on_step_end_tensor_inputs,
            restorer=None if isinstance(restorer, str) else restorer,
            guidance=guidance,
            scorers=scorers,
            quality_map=quality_map,
            alignment_map=alignment_map,
            force=force,
        )
        self._cross_attention_kwargs, self._interrupt = cross_attention_kwargs, False
        call = Call.open(self, config, overrides, options)
        self._guidance_scale = call.config.guidance_scale or 1.0
        jobs = call.jobs(prompt, image, mask_image, height, width, num_images_per_prompt, generator)
        call.look(jobs)
        call.plan(jobs)
        if not plan_only:
            call.repaint(jobs)
            call.restore(jobs)
        outputs = call.decide(jobs, plan_only)
        self.maybe_free_model_hooks()
        if output_type == "latent":
            images = call.latents(jobs)
        else:
            images = write_images([job.picture for job in jobs], outputs, output_type)
        results = [call.result(job) for job in jobs]
        return GRefineOutput(images=images, results=results) if return_dict else (images, results)

    def explain(
        self,
        prompt: str | Sequence[str] | None = None,
        image: Any = None,
        mask_image: Any = None,
        config: RefineConfig | str | Path | Mapping[str, Any] | None = None,
        quality_map: QualityProvider | None = None,
        alignment_map: AlignmentProvider | None = None,
        force: bool = False,
    ) -> str:
        """Say in words what a call with these arguments would do, why, and how much memory it takes."""
        settings = resolve(read_settings(config), self.config.refine_defaults or {}, {})
        maps: dict[str, Any] = {"quality_map": quality_map, "alignment_map": alignment_map}
        found = self(prompt, image, mask_image, settings, plan_only=True, force=force, **maps)
        calibrated = Calibration.of(self.config.calibration).calibrated
        parts = [explain_result(result, settings, calibrated) for result in found.results]
        return "\n\n".join([*parts, memory_estimate(self, found.results, settings, self.working_side)])

    def use_refiner(self, img2img: Any) -> None:
        """Give `restorer="refiner"` its model: a loaded StableDiffusionXLImg2ImgPipeline, shared and never saved."""
        self._refiner = img2img

    def refiner(self, steps: int) -> Restore | None:
        """Return the refiner as a restorer that runs so many steps; None when none was given."""
        return None if self._refiner is None else refiner_of(self._refiner, steps)

    @property
    def working_side(self) -> int:
        """Side of the square that crops are brought to."""
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
        """Denoiser steps of the whole call, both stages."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """True stops denoising after the current step; set `_interrupt` from a callback."""
        return self._interrupt
