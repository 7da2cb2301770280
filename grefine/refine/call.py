"""One call of the pipeline, step by step: every method is a box of the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError, PromptError
from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibration import Calibration, check_belongs
from grefine.indicators.domain_check import domain_of
from grefine.indicators.pq_map import PQMap
from grefine.refine.composite import changed_share, rounded
from grefine.refine.denoise import Watch, latent_multiple
from grefine.refine.emphasis import Weights
from grefine.refine.encode import Embeddings
from grefine.refine.guard import Panel, decide, reject_regions
from grefine.refine.guidance import Guidance, Steering
from grefine.refine.inputs import read_masks, read_pictures, read_prompts, resize_picture
from grefine.refine.job import Job, timed
from grefine.refine.maps import AlignmentProvider, MapDrawer, QualityProvider, own_scores
from grefine.refine.plan import Findings, plan_repair, with_overrides
from grefine.refine.repaint import Piece, SDXLRepainter, batches, composite_regions, region_pieces, to_tensor
from grefine.refine.restore import (
    Restore,
    choose_restorer,
    expected_batches,
    keep_good_places,
    restore_pictures,
    restore_room,
)
from grefine.refine.seeds import derive, image_seeds, pixel_digest
from grefine.refine.settings import STRENGTH_CAP, RefineConfig, read_settings, resolve
from grefine.refine.vae import encode_images
from grefine.scorers.component import component_tokenizer
from grefine.scorers.protocol import AnyJudge, as_scorer
from grefine.scorers.resolve import resolve as resolve_judge
from grefine.text.parse import parse
from grefine.types import Decision, Kept, RefineResult, Scores

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass(frozen=True)
class Options:
    """What a call says beyond its settings."""

    strength: float | None = None
    negative_prompt: str | Sequence[str] | None = None
    embeds: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None] = (None, None, None, None)
    """Prompt, negative, pooled, negative pooled: what `encode_prompt` returns."""
    latents: Tensor | None = None
    output_type: str = "pil"
    clip_skip: int | None = None
    callback: Callable[..., dict[str, Any]] | None = None
    callback_names: Sequence[str] = ("latents",)
    restorer: Restore | None = None
    guidance: Mapping[str, float] | None = None
    scorers: Sequence[str | AnyJudge] | None = None
    quality_map: QualityProvider | None = None
    alignment_map: AlignmentProvider | None = None
    force: bool = False


@dataclass
class Call:
    """The state that one call shares among its steps."""

    pipe: Any
    config: RefineConfig
    options: Options
    calibration: Calibration
    maps: MapDrawer
    watch: Watch
    painter: SDXLRepainter
    panel: Panel
    words: dict[tuple[int, str, Weights], Embeddings] = field(default_factory=dict)

    @classmethod
    def open(cls, pipe: Any, config: Any, overrides: Mapping[str, Any], options: Options) -> Call:
        """Check what was asked for and prepare the tools."""
        settings = resolve(read_settings(config), pipe.config.refine_defaults or {}, overrides)
        _check_options(pipe, options)
        pq, aq = maps_of(pipe)
        maps = MapDrawer.of(pq, aq, options.quality_map, options.alignment_map)
        watch = Watch(options.callback, tuple(options.callback_names))
        first, _ = settings.steps
        painter = SDXLRepainter(
            pipe,
            settings,
            watch,
            first,
            noise=options.latents,
            room=settings.batch_size * pipe.working_side**2,
            latents={} if options.output_type == "latent" else None,
        )
        guidance = read_guidance(pipe, options.guidance)
        if guidance is not None:
            painter.steer = partial(Steering, guidance)
        asked = [resolve_judge(judge, pipeline=pipe, device=str(pipe.device)) for judge in options.scorers or ()]
        scorers = [as_scorer(judge.load()) for judge in asked]
        if settings.guard and options.scorers is None:
            scorers = pipe.judges(steered=guidance.steers if guidance is not None else ())
        panel = Panel(lambda images, text: maps.scores(images, parse(text) if text else None), scorers)
        panel = panel.without(maps.drawn_by)
        return cls(pipe, settings, options, maps.calibration, maps, watch, painter, panel)

    def jobs(
        self, prompt: Any, image: Any, mask: Any, height: int | None, width: int | None, samples: int, generator: Any
    ) -> list[Job]:
        """Read the inputs: one job per image and sample."""
        pictures = [resize_picture(picture, height, width) for picture in read_pictures(image)]
        domain = domain_of(self.pipe)
        if domain is not None and not self.options.force:
            domain.demand(Image.fromarray(picture.pixels) for picture in pictures)
        _check_embeds(prompt, self.options, len(pictures))
        if samples < 1:
            raise ConfigError(f"num_images_per_prompt must be at least 1, not {samples}.")
        prompts, masks = read_prompts(prompt, len(pictures)), read_masks(mask, pictures)
        read_prompts(self.options.negative_prompt, len(pictures), "negative prompts")
        parsed = {text: parse(text) if text.strip() else None for text in dict.fromkeys(prompts)}
        count = len(pictures) * samples
        if isinstance(generator, (list, tuple)) and len(generator) == len(pictures):
            seeds = [seed for seed in image_seeds(generator, len(pictures)) for _ in range(samples)]
        else:
            seeds = image_seeds(generator, count)
        jobs = []
        for index in range(count):
            row, sample = divmod(index, samples)
            picture, (drawn, given) = pictures[row], seeds[index]
            seed = derive(drawn, pixel_digest(picture.pixels).hex(), sample)
            jobs.append(Job(picture, prompts[row], parsed[prompts[row]], seed, given, masks[row], row))
            jobs[-1].candidates["original"] = picture.pixels
            if domain is not None and domain.is_foreign(Image.fromarray(picture.pixels)):
                jobs[-1].forced = domain.forced
        return jobs

    def look(self, jobs: Sequence[Job]) -> None:
        """Draw both maps of every image. (Eq. 1-8)"""
        with timed(jobs, "maps"):
            first = list({job.row: job for job in jobs}.values())  # samples of a picture share its maps
            found = self.maps([job.picture.image for job in first], [job.parsed for job in first])
        by_row = dict(zip([job.row for job in first], found, strict=True))
        for job in jobs:
            job.quality, job.alignment = by_row[job.row]
            if job.alignment.note:
                job.warnings.append(job.alignment.note)

    def plan(self, jobs: Sequence[Job]) -> None:
        """Decide what is repainted, how strongly and as what."""
        with timed(jobs, "plan"):
            for job in jobs:
                found = Findings(job.quality, job.alignment, job.parsed, job.user_mask)
                job.plan = plan_repair(found, self.config, self.calibration, self.pipe.working_side)
                if self.options.strength is not None:
                    strength, drawn = self.options.strength, job.plan.regions
                    # Who marks a place and says how strongly wants something else there.
                    regions = [replace(r, strength=strength, restores=r.restores and r.kind != "user") for r in drawn]
                    job.plan = replace(job.plan, regions=tuple(regions))

    def repaint(self, jobs: Sequence[Job]) -> None:
        """Stage 1: redraw the regions and put them back, those that the guard does not reject."""
        todo = [job for job in jobs if job.plan.regions and self.config.stage1]
        with timed(todo, "repaint"):
            side = self.pipe.working_side
            pieces = [p for job in todo for p in region_pieces(self.pipe, job, self.config, side, self.encode)]
            self._expect_steps(jobs, pieces)
            crops = self.painter(pieces, "repaint")
        for job in todo:
            own = [crop for piece, crop in zip(pieces, crops, strict=True) if piece.job is job]
            with timed([job], "guard"):
                accepted = self._accept_regions(job, own)
                painted = composite_regions(job.pixels, job.plan, own, accepted, self.config)
                job.candidates["repainted"] = painted
                job.base = "repainted" if accepted and self._worth_restoring(job) else "original"

    def restore(self, jobs: Sequence[Job]) -> None:
        """Stage 2: restore mildly what stage 1 left, or the original where stage 1 was skipped or rejected."""
        todo = [job for job in jobs if self._is_restored(job) and (job.base == "repainted" or self._looks_bad(job))]
        _, second = self.config.steps
        painter = replace(
            self.painter,
            steps=second,
            guidance=self.config.restore_guidance_scale,
            room=restore_room(self.config, self.pipe.working_side),
            latents={} if self.painter.latents is not None else None,
        )
        restorer = choose_restorer(
            self.options.restorer or self.config.restorer or "none", painter, self.pipe.refiner(second)
        )
        if restorer is None or not todo:
            return
        with timed(todo, "restore"):
            side = self.pipe.working_side
            done = restore_pictures(todo, restorer, self.pipe, self.config, side, self.encode, self.spare)
        for position, pixels in done.items():
            job = todo[position]
            job.candidates["both" if job.base == "repainted" else "restored"] = pixels
        if painter.latents and self.painter.latents is not None:
            restored = {id(todo[position]) for position in done}
            kept = {key: value for key, value in self.painter.latents.items() if key[0] not in restored}
            self.painter.latents = kept | {k: v for k, v in painter.latents.items() if k[0] in restored}

    def spare(self, jobs: Sequence[Job], restored: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give restored pictures their old pixels back where they were good and were not made better."""
        pictures = [Image.fromarray(rounded(pixels)) for pixels in restored]
        qualities = self.maps.qualities(pictures) or [None] * len(jobs)
        threshold = with_overrides(self.calibration, self.config).mask_threshold
        return [
            keep_good_places(job, pixels, after, ~job.plan.mask & (1.0 - job.quality.values <= threshold), self.config)
            for job, pixels, after in zip(jobs, restored, qualities, strict=True)
        ]

    def decide(self, jobs: Sequence[Job], plan_only: bool) -> list[np.ndarray]:
        """Keep the best candidate of every image and return it."""
        outputs = []
        for job in jobs:
            before = Scores(own_scores(job.quality, job.alignment))
            if len(job.candidates) == 1:
                reason = "Only planned, as asked." if plan_only else job.plan.note or "Nothing was to be repaired."
                job.decision = Decision("original", reason, guarded=False)
                job.before = job.after = before
            elif not self.config.guard:
                kept: Kept = list(job.candidates)[-1]  # type: ignore[assignment]
                if job.base == "original" and "repainted" in job.candidates and kept == "repainted":
                    kept = "original"
                job.decision = Decision(kept, "The guard is off: the last candidate was kept unjudged.", False)
                job.before = before
                job.after = Scores(self.panel.own([Image.fromarray(rounded(job.candidates[kept]))], job.text)[0])
            else:
                with timed([job], "guard"):
                    job.decision, job.before, job.after = decide(self.panel, job.candidates, job.text, self.config)
            if job.forced:
                job.decision = replace(job.decision, reason=f"{job.forced} {job.decision.reason}")
            outputs.append(job.candidates[job.decision.kept])
        return outputs

    def latents(self, jobs: Sequence[Job]) -> Tensor | list[Tensor]:
        """Return the latents of the last stage that ran, before anything was composited.

        An image that needed no repair gives its encoded self. Unequal shapes come as a list.
        """
        found = []
        for job in jobs:
            known = self.painter.latents or {}
            own = [known[key] for key in sorted(known) if key[0] == id(job)]
            if not own:
                picture = to_tensor(job.pixels)[None] * 2 - 1
                own = [encode_images(self.pipe.vae, picture, self.pipe._execution_device)]
            found += own
        return torch.cat(found) if len({v.shape for v in found}) == 1 else found

    def result(self, job: Job) -> RefineResult:
        """Record everything that is known about one image."""
        return RefineResult(
            quality=job.quality,
            alignment=job.alignment,
            plan=job.plan,
            before=job.before,
            after=job.after,
            decision=job.decision,
            seed=job.given_seed,
            timings=dict(job.timings),
            prompt=job.prompt,
            warnings=tuple(job.warnings),
            forced=bool(job.forced),
            moved=changed_share(job.pixels, job.candidates[job.decision.kept]),
        )

    def encode(self, job: Job, prompt: str, weights: Weights) -> Embeddings:
        """Turn one crop's words into embeddings; equal words are encoded once per call."""
        given = tuple(None if e is None else e[job.row : job.row + 1] for e in self.options.embeds)
        negative = self.options.negative_prompt
        if negative is not None and not isinstance(negative, str):
            negative = negative[job.row]
        guided = max(self.pipe.guidance_scale, self.config.restore_guidance_scale) > 1.0
        key = (job.row, prompt, weights)
        if key in self.words:
            return self.words[key]
        rows = self.pipe.encode_prompt(
            None if given[0] is not None else prompt,
            do_classifier_free_guidance=guided,
            negative_prompt=negative,
            prompt_embeds=given[0],
            negative_prompt_embeds=given[1],
            pooled_prompt_embeds=given[2],
            negative_pooled_prompt_embeds=given[3],
            lora_scale=(self.pipe.cross_attention_kwargs or {}).get("scale"),
            clip_skip=self.options.clip_skip,
            weights=[weights],
        )
        self.words[key] = Embeddings(rows[0], rows[2], rows[1], rows[3])
        return self.words[key]

    def _accept_regions(self, job: Job, crops: Sequence[np.ndarray]) -> list[int]:
        everyone = list(range(len(crops)))
        if not (self.config.guard and self.config.guard_regions) or len(crops) < 2:
            return everyone
        singles = (composite_regions(job.pixels, job.plan, crops, [index], self.config) for index in everyone)
        accepted, notes = reject_regions(self.panel, job.pixels, singles, job.text, self.config)
        job.warnings += notes
        return accepted

    def _worth_restoring(self, job: Job) -> bool:
        """Whether stage 2 should build on the repaint, or on the original because the guard turns the repaint down."""
        if not self.config.guard or not self._has_stage2():
            return True
        pair = {name: job.candidates[name] for name in ("original", "repainted")}
        decision, _, _ = decide(self.panel, pair, job.text, self.config)
        return decision.kept == "repainted"

    def _has_stage2(self) -> bool:
        return self.options.restorer is not None or self.config.restorer != "none"

    def _is_restored(self, job: Job) -> bool:
        return self._has_stage2() and (job.plan.restore or not self.config.gate)

    def _looks_bad(self, job: Job) -> bool:
        """Whether stage 2 alone has something to mend: a restoration does not draw what a phrase asks for."""
        regions = job.plan.regions
        asked = bool(regions) and not any(region.restores or region.kind == "user" for region in regions)
        return not (asked and self.config.stage1 and self.config.gate)

    def _expect_steps(self, jobs: Sequence[Job], pieces: Sequence[Piece]) -> None:
        """Tell `num_timesteps` how many steps are ahead, as far as can be known before anything ran."""
        _, second = self.config.steps
        groups = batches(pieces, self.config.batch_size, self.painter.room)
        ahead = sum(self.painter.steps_for(pieces[group[0]].mended) for group in groups)
        if self._has_stage2() and self.options.restorer is None:
            side = self.pipe.working_side
            todo = [job for job in jobs if self._is_restored(job)]
            second = self.config.steps_for(second, bool(self.config.show_damage) and self.painter.steer is None)
            ahead += second * expected_batches(todo, self.config, side, latent_multiple(self.pipe))
        self.pipe._num_timesteps = ahead


def maps_of(pipe: Any) -> tuple[PQMap, AQMap | None]:
    """Return the views of both maps over the pipeline's CLIP; they keep their encoded texts between calls."""
    parts = (pipe.clip, pipe.pq_prompts, pipe.clip_tokenizer, pipe.config.calibration)
    known = vars(pipe).get("_maps")
    if known is None or any(one is not other for one, other in zip(known[0], parts, strict=True)):
        calibration = Calibration.of(pipe.config.calibration)
        pq = PQMap(pipe.clip, pipe.pq_prompts, calibration=calibration)
        aq = None
        if pipe.clip_tokenizer is not None:
            aq = AQMap(pipe.clip, pipe.clip_tokenizer, calibration=calibration)
        pipe._maps = known = (parts, (pq, aq))
    check_belongs(known[1][0].calibration, pipe.clip)  # a pipeline may be brought to another precision at any time
    return known[1]


def read_guidance(pipe: Any, weights: Mapping[str, float] | None) -> Guidance | None:
    """Return the preferences that steer denoising; None for none."""
    if not weights:
        return None
    wants_words = any(name.replace("_", "-").lower() == "moe-agiqa" for name in weights)
    tokenizer = component_tokenizer(pipe, "moe_agiqa") if wants_words and pipe.moe_agiqa is not None else None
    return Guidance(weights, pipe.mdiqa, pipe.moe_agiqa, tokenizer)


def _check_options(pipe: Any, options: Options) -> None:
    unknown = [name for name in options.callback_names if name not in pipe._callback_tensor_inputs]
    if unknown:
        accepted = ", ".join(pipe._callback_tensor_inputs)
        raise ConfigError(f"callback_on_step_end_tensor_inputs: {unknown} cannot be seen; choose among {accepted}.")
    if options.output_type not in OUTPUT_TYPES:
        raise ConfigError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {options.output_type!r}.")
    if options.strength is not None and not 0.0 < options.strength <= STRENGTH_CAP:
        raise ConfigError(
            f"strength must lie above 0 and up to {STRENGTH_CAP} (full strength washes colours out), not "
            f"{options.strength}."
        )


def _check_embeds(prompt: Any, options: Options, count: int) -> None:
    embeds = options.embeds[0]
    if embeds is None:
        return
    if prompt is not None:
        raise PromptError("Give either `prompt` or `prompt_embeds`, not both.")
    if embeds.shape[0] != count:
        raise PromptError(f"`prompt_embeds` has {embeds.shape[0]} rows for {count} images: give one row for each.")
