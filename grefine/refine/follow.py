"""Follow a plan that was made before and perhaps changed by a person, in place of planning anew."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from grefine.errors import ConfigError, PlanError
from grefine.io.content import content_hash
from grefine.refine.inputs import pixel_digest
from grefine.refine.job import Job
from grefine.refine.maps import MapDrawer
from grefine.refine.painters.protocol import Painter
from grefine.refine.plan import Planner
from grefine.refine.regions import connected_parts
from grefine.refine.settings import STRENGTH_CAP, RefineConfig
from grefine.types import RepairPlan

DECIDING = ("reading", "use_pq", "use_aq", "gate", "mask_threshold", "dilate", "context")
DECIDING += ("min_region_area", "max_regions", "max_area", "max_upscale", "emphasis")
"""The settings that a plan depends on."""
MOST_PIECES = 200
"""A mask of more pieces was not painted by a person, and would take for ever."""


def read_plans(given: Any, count: int, mask: Any, strength: float | None) -> list[RepairPlan | None]:
    """Return one plan per image of a call, or none at all where the call plans by itself."""
    if given is None:
        return []
    plans = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(plans) != count or not all(one is None or isinstance(one, RepairPlan) for one in plans):
        raise ConfigError(f"plan must be a RepairPlan (`pipe.plan(...)`, `RepairPlan.load(path)`) for {count} images.")
    if mask is not None or strength is not None:
        raise ConfigError("A plan holds its own mask and strengths: leave out mask_image and strength, or the plan.")
    return plans


def seeds_of(plans: Sequence[RepairPlan | None]) -> list[torch.Generator] | None:
    """Return the generators of a call's plans; None where one leaves its seed open."""
    seeds = [plan.seed for plan in plans if plan is not None and plan.seed is not None]
    known = [torch.Generator().manual_seed(seed) for seed in seeds]
    return known if plans and len(known) == len(plans) else None


def stamped(jobs: Sequence[Job], config: RefineConfig, made_by: Mapping[str, str]) -> list[Job]:
    """Write into every plan what it was made for, so that it is refused for anything else."""
    done = []
    for job in jobs:
        wrong = np.clip(1.0 - job.quality.values + job.alignment.edit, 0.0, 1.0)
        plan = replace(job.plan, seed=job.seed)
        found = {
            **_made_of(job, made_by),
            "seed": job.seed,
            "settings": {name: getattr(config, name) for name in DECIDING},
            "p": float(job.quality.score),
            "a": None if job.alignment.score is None else float(job.alignment.score),
            "wrong": float(wrong.mean()),
            "plan": plan.digest,
        }
        done.append(replace(job, plan=replace(plan, made_for=found)))
    return done


def _made_of(job: Job, made_by: Mapping[str, str]) -> dict[str, str]:
    """Return what tells apart what a plan is made from."""
    return {"picture": pixel_digest(job.pixels).hex(), "prompt": content_hash(job.prompt), **made_by}


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return a hash over the first numbers of every weight: equal for equal networks, cheap for large ones."""
    state = hashlib.sha256()
    for name, part in sorted(parts.items()):
        if not isinstance(part, torch.nn.Module):
            continue
        for key, tensor in sorted(part.state_dict().items()):
            few = tensor.detach().reshape(-1)[:8].to("cpu", torch.float32)
            state.update(f"{name}.{key}{tuple(tensor.shape)}".encode() + few.numpy().tobytes())
    return state.hexdigest()[:12]


def made_for(pipe: Any, maps: MapDrawer, painter: Painter) -> dict[str, str]:
    """Return what tells apart pipelines that plan differently, and who draws the maps, by name or as "given"."""
    networks = fingerprint({"clip": pipe.clip, "pq_prompts": pipe.pq_prompts})
    told = (networks, asdict(maps.calibration), painter.side, asdict(painter.traits), painter.phrasing)
    named = [f"{spec.name} {spec.version}" for spec in maps.drawn_by]
    given = [drawer for drawer in (maps.quality, maps.alignment) if drawer is not None]
    drawers = ", ".join(named) if len(named) == len(given) else "given"
    return {"pipeline": content_hash(repr(told))[:16], "maps": drawers}


def follow_plans(
    jobs: Sequence[Job], plans: Sequence[RepairPlan | None], planner: Planner, made_by: Mapping[str, str]
) -> list[Job]:
    """Give every job its plan; those without one are planned now."""
    followed = []
    for job in jobs:
        given = plans[job.row]
        if given is None:
            followed += planner([job])
        else:
            check_plan(job, given, planner, made_by)
            followed.append(replace(job, plan=_follow(job, given, planner)))
    return followed


def check_plan(job: Job, plan: RepairPlan, planner: Planner, made_by: Mapping[str, str]) -> None:
    """Refuse a plan that is not for this picture, prompt, pipeline and settings, or that nobody could follow."""
    name, made_for = f"The plan '{plan.file}'" if plan.file else f"Plan {job.row}", plan.made_for
    height, width = job.picture.size
    if plan.mask.shape != (height, width):
        size = f"{plan.mask.shape[1]}x{plan.mask.shape[0]}"
        raise PlanError(f"{name} has a mask of {size} and its picture is {width}x{height}: give the mask that size.")
    others = {"pipeline": "another pipeline, or with other thresholds", "maps": "maps of another provider"}
    for what, value in _made_of(job, made_by).items():
        if what in made_for and made_for[what] != value:
            raise PlanError(f"{name} was made for {others.get(what, f'another {what}')}: plan again.")
    then = made_for.get("settings", {})
    for setting in DECIDING if "settings" in made_for else ():
        now, before = getattr(planner.config, setting), then.get(setting) if isinstance(then, dict) else None
        if now != before:
            raise PlanError(f"{name} was made with {setting} {before}, and this is {now}: plan again, or set it so.")
    most = max(STRENGTH_CAP, planner.traits.strengths.noun)
    for number, region in enumerate(plan.regions, 1):
        left, top, right, bottom = region.box
        inside = 0 <= left < right <= width and 0 <= top < bottom <= height
        if not inside or region.mask.shape != (bottom - top, right - left):
            raise PlanError(f"{name}: region {number} is no part of the picture.")
        if not 0 < region.strength <= most:
            raise PlanError(f"{name}: region {number} has strength {region.strength}; it goes up to {most}.")
        if not all(0 <= index < len(job.alignment.phrases) for index in region.phrases):
            raise PlanError(f"{name}: region {number} names a phrase that the prompt does not have.")


def _follow(job: Job, plan: RepairPlan, planner: Planner) -> RepairPlan:
    """Return the plan without what was switched off or wiped from its mask, with what was painted in."""
    known, regions = np.zeros(plan.mask.shape, bool), []
    for region in plan.regions:
        known[region.place] |= region.mask
        mask = region.mask & plan.mask[region.place]
        if region.on and mask.any():
            regions.append(replace(region, mask=mask))
    painted = plan.mask & ~known
    if painted.any():
        if len(connected_parts(painted)) > MOST_PIECES:
            name = plan.file or f"plan {job.row}"
            raise PlanError(f"The mask of '{name}' has more than {MOST_PIECES} new pieces: paint fewer, larger ones.")
        regions += planner([replace(job, user_mask=painted)])[0].plan.regions
    mask = np.zeros(plan.mask.shape, bool)
    for region in regions:
        mask[region.place] |= region.mask
    emptied = "Nothing is left of the plan: its regions are switched off or wiped from the mask."
    return replace(
        plan,
        mask=mask,
        regions=tuple(regions),
        note=emptied if plan.regions and not regions else plan.note,
        restore=bool(regions) or (plan.restore and not plan.regions),
        beyond_repair=plan.beyond_repair and not regions,
    )
