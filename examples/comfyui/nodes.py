"""The nodes: each reads its inputs, asks grefine, and hands on what it said."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from grefine import Inspector, __version__, choose, load_scorer
from grefine.errors import ConfigError, GRefineError, PackageMissing, PromptError
from grefine.indicators.draw import table
from grefine.io.atomic import write_atomic
from grefine.io.record import RefineRecord, attach_record
from grefine.scorers.prefilter import read_gate
from grefine.scorers.registry import split_names

from . import tensors

PlanType, RecordType, Segs = io.Custom("GREFINE_PLAN"), io.Custom("GREFINE_RECORD"), io.Custom("SEGS")


class NodeError(Exception):
    """What a person reads who gave a node something that it cannot use."""


def spoken(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Turn every known failure into one sentence of the node's own."""

    name = execute.__qualname__.partition(".")[0]

    @functools.wraps(execute)
    def said(cls: Any, **inputs: Any) -> Any:
        try:
            return execute(cls, **inputs)
        except ModuleNotFoundError as error:
            raise NodeError(f"{name}: {PackageMissing.of(error)}") from None
        except GRefineError as error:
            raise NodeError(f"{name}: {error}") from None

    return said


def device_of(name: str) -> str:
    """Return where networks run: what is named, or for "auto" where everything else runs."""
    if name != "auto":
        return name
    from comfy.model_management import get_torch_device

    return str(get_torch_device())


@functools.lru_cache(maxsize=2)
def inspector(pipeline: str, device: str) -> Inspector:
    """Load the maps of a pipeline, once."""
    if not pipeline.strip():
        raise ConfigError(
            "pipeline is empty: name one (sdxl), a folder, or 'released' for PQ-Map's published weights."
        )
    return Inspector(pipeline.strip(), device=device)


@functools.lru_cache(maxsize=8)
def judge(name: str, pipeline: str, device: str) -> Any:
    """Load a judge, once; a pipeline may carry it."""
    return load_scorer(name, pipeline or None, device)


@functools.lru_cache(maxsize=1)
def pipe_of(pipeline: str, device: str) -> Any:
    """Load a whole pipeline, once."""
    from grefine.opening import Opening, open_pipeline

    return open_pipeline(pipeline.strip(), Opening(device))


def carried(names: Sequence[str], pipeline: str, device: str) -> list[Any]:
    """Return the judges: those that the pipeline carries from there, all others from where they lie."""
    if not names:
        raise ConfigError(
            "judges is empty: name at least one, with commas between them (`grefine metrics` lists them)."
        )
    from grefine.scorers.registry import judge_file
    from grefine.scorers.resolve import carried as place_of
    from grefine.scorers.resolve import known_pipeline

    home = known_pipeline(pipeline) if pipeline else None
    inside = [home is not None and place_of(home, judge_file(name).SPEC) is not None for name in names]
    return [judge(name, pipeline if here else "", device) for name, here in zip(names, inside, strict=True)]


def text_input(name: str, tip: str, default: str = "", **more: Any) -> Any:
    """Return the input of a text."""
    return io.String.Input(name, default=default, tooltip=tip, **more)


def output(kind: Any, name: str, tooltip: str = "", is_output_list: bool = False) -> Any:
    """Return an output that is shown under its own name, not its type's."""
    return kind.Output(name, display_name=name, tooltip=tooltip or None, is_output_list=is_output_list)


def shared_inputs() -> list[Any]:
    """Return what most nodes ask after everything else."""
    return [
        io.Combo.Input("device", options=["auto", "cpu"], default="auto", tooltip="Where the networks run."),
        io.Boolean.Input("looks_only", default=False, tooltip="Judge looks alone; the prompt is not read."),
    ]


def prompt_input() -> Any:
    """Return the input of the prompt."""
    return text_input("prompt", "What the picture should show.", multiline=True)


def as_text(values: Any) -> str:
    """Return plain values as JSON."""
    return json.dumps(values, ensure_ascii=False)


class Inspect(io.ComfyNode):
    """Where is it bad, and what of its prompt is missing?"""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefineInspect",
            display_name="Inspect (grefine)",
            category="grefine",
            description="Finds where a picture is bad and which phrases of its prompt it misses; changes nothing.",
            inputs=[
                io.Image.Input("image"),
                prompt_input(),
                text_input("pipeline", "Whose maps: sdxl, a folder, released, or tiny (toy scenes).", "sdxl"),
                *shared_inputs(),
                io.Boolean.Input("force", default=False, tooltip="Also judge pictures that the maps do not know."),
            ],
            outputs=[
                output(io.Mask, "mask", tooltip="What would be repainted."),
                output(Segs, "segs", tooltip="The same as places for Impact's detailers.", is_output_list=True),
                output(io.Image, "heat_map"),
                output(io.String, "phrases", tooltip="A line for each phrase.", is_output_list=True),
                output(io.String, "scores", tooltip="JSON: p, a and everything else.", is_output_list=True),
                output(io.Boolean, "needs_repair", is_output_list=True),
                output(PlanType, "plan", is_output_list=True),
            ],
        )

    @classmethod
    @spoken
    def execute(
        cls, image: torch.Tensor, prompt: str, pipeline: str, device: str, looks_only: bool, force: bool
    ) -> io.NodeOutput:
        pictures = tensors.read_batch(image, "image")
        text = tensors.check_prompt(prompt, looks_only)
        found = inspector(pipeline, device_of(device))(pictures, [text] * len(pictures), force=force)
        known = [one.to_dict() for one in found]
        return io.NodeOutput(
            tensors.to_masks([one.plan.mask for one in found]),
            [tensors.to_segs(image[i], one.plan, one.badness) for i, one in enumerate(found)],
            tensors.to_heat(pictures, [one.badness for one in found]),
            ["\n".join(table(one)) for one in known],
            [as_text(one) for one in known],
            [one.needs_repair for one in found],
            [one.plan for one in found],
        )


class Guard(io.ComfyNode):
    """Is the new one better? Otherwise the old one comes back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefineGuard",
            display_name="Guard (grefine)",
            category="grefine",
            description="Judges compare before and after; a tie, or a loss on any of them, gives the original back.",
            inputs=[
                io.Image.Input("before"),
                io.Image.Input("after"),
                prompt_input(),
                text_input("judges", "Names with commas; `grefine metrics` lists them.", "piqe, imagereward"),
                text_input("pipeline", "A pipeline that carries judges; may be empty."),
                *shared_inputs(),
            ],
            outputs=[
                output(io.Image, "better", tooltip="Bit for bit the one that was chosen."),
                output(io.Boolean, "is_new", is_output_list=True),
                output(io.String, "reason", is_output_list=True),
                output(io.String, "scores", tooltip="JSON, with what counts as equal.", is_output_list=True),
                output(RecordType, "record", tooltip="For Save with record."),
            ],
        )

    @classmethod
    @spoken
    def execute(
        cls,
        before: torch.Tensor,
        after: torch.Tensor,
        prompt: str,
        judges: str,
        pipeline: str,
        device: str,
        looks_only: bool,
    ) -> io.NodeOutput:
        old, new = tensors.read_batch(before, "before"), tensors.read_batch(after, "after")
        tensors.check_pair(before, after)
        text = tensors.check_prompt(prompt, looks_only)
        sitting = carried(split_names(judges), pipeline.strip(), device_of(device))
        made = [choose(*pair, text, sitting) for pair in zip(old, new, strict=True)]
        is_new = [decision.kept != "original" for decision, _, _ in made]
        changed = (before[..., :3] != after[..., :3].to(before)).any(-1).float().mean((1, 2)).tolist()
        records = [
            RefineRecord(
                version=__version__,
                pipeline=pipeline.strip(),
                config="",
                seed=None,
                state="refined" if taken else "kept",
                reason=decision.reason,
                kept=decision.kept,
                guarded=decision.guarded,
                moved=round(share * taken, 4),
                prompt=text,
                prompt_origin="Guard node",
                before=dict(first),
                after=dict(last),
            )
            for (decision, first, last), taken, share in zip(made, is_new, changed, strict=True)
        ]
        scores = [
            {
                "before": dict(d.candidates["original"]),
                "after": dict(d.candidates["repainted"]),
                "noise": dict(d.noise),
            }
            for d, _, _ in made
        ]
        return io.NodeOutput(
            tensors.pick(before, after, is_new),
            is_new,
            [decision.reason for decision, _, _ in made],
            [as_text(one) for one in scores],
            records,
        )


class Gate(io.ComfyNode):
    """Sort a batch by one judge."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefineGate",
            display_name="Gate (grefine)",
            category="grefine",
            description="Sorts a batch into what a judge finds good and the rest; an empty side does not run on.",
            inputs=[
                io.Image.Input("images"),
                prompt_input(),
                text_input("gate", "JUDGE:BOUND, as `grefine refine --gate` takes it.", "piqe:35"),
                text_input("pipeline", "A pipeline that carries the judge; may be empty."),
                io.Combo.Input("device", options=["auto", "cpu"], default="auto", tooltip="Where the judge runs."),
            ],
            outputs=[
                output(io.Image, "good"),
                output(io.Image, "bad"),
                output(io.String, "good_indices", tooltip="Places in the batch, from 0, with commas."),
                output(io.String, "bad_indices"),
                output(io.String, "scores", tooltip="A line for each picture."),
            ],
        )

    @classmethod
    @spoken
    def execute(cls, images: torch.Tensor, prompt: str, gate: str, pipeline: str, device: str) -> io.NodeOutput:
        pictures = tensors.read_batch(images, "images")
        asked = read_gate(gate, pipeline=pipeline.strip() or None, device=device_of(device))
        if asked.scorer.spec.needs_prompt and not prompt.strip():
            raise PromptError(f"prompt is empty, and {asked.name} compares a picture with its prompt: write one.")
        verdicts = asked.look(pictures, [prompt] * len(pictures))
        sides = [[i for i, one in enumerate(verdicts) if one.passed == passed] for passed in (True, False)]
        lines = [
            f"{i}: {'good' if one.passed else 'bad'}, {one.value} {one.note or format(one.score, '.4g')}"
            for i, one in enumerate(verdicts)
        ]
        indices = [",".join(map(str, side)) for side in sides]
        return io.NodeOutput(*(images[side] if side else nothing() for side in sides), *indices, "\n".join(lines))


def nothing() -> Any:
    """Return what stops only the nodes behind an output that has nothing to give."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(None)


class PlanToConditioning(io.ComfyNode):
    """What to paint where, region by region."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefinePlan",
            display_name="Plan to conditioning (grefine)",
            category="grefine",
            description="Gives words, mask and strength of every planned region, for CLIP Text Encode and a sampler.",
            inputs=[
                PlanType.Input("plan"),
                io.Boolean.Input("joined", default=False, tooltip="All regions as one, for a single pass."),
            ],
            outputs=[
                output(io.String, "words", tooltip="For CLIP Text Encode.", is_output_list=True),
                output(io.Mask, "mask", is_output_list=True),
                output(io.Float, "denoise", tooltip="How strongly to repaint.", is_output_list=True),
                output(io.String, "wildcard", tooltip="All of them, for the wildcard input of Impact's detailers."),
            ],
        )

    @classmethod
    @spoken
    def execute(cls, plan: Any, joined: bool) -> io.NodeOutput:
        if not plan.regions:
            return io.NodeOutput([nothing()], [nothing()], [nothing()], nothing())
        masks = []
        for region in plan.regions:
            left, top, right, bottom = region.box
            whole = torch.zeros(1, *plan.mask.shape)
            whole[0, top:bottom, left:right] = torch.from_numpy(region.mask).float()
            masks.append(whole)
        labels = [
            f"[{one.kind}{number}] {one.prompt.replace('[', '(').replace(']', ')')}"
            for number, one in enumerate(plan.regions, 1)
        ]
        words, denoise = [one.prompt for one in plan.regions], [float(one.strength) for one in plan.regions]
        if joined:
            words, masks, denoise = [", ".join(dict.fromkeys(words))], [sum(masks).clamp(max=1.0)], [max(denoise)]
        return io.NodeOutput(words, masks, denoise, "\n".join(["[LAB]", *labels]))


class Refine(io.ComfyNode):
    """The whole way in one node; it needs the full install."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefineRefine",
            display_name="Refine (grefine)",
            category="grefine",
            description="Finds, repaints and guards with grefine's pipeline; what needs no repair stays untouched.",
            inputs=[
                io.Image.Input("image"),
                prompt_input(),
                text_input("pipeline", "sdxl, a folder, a Hub id, or tiny (toy scenes).", "sdxl"),
                text_input("config", "Settings: default, paper, fast, ... or a YAML file.", "default"),
                io.Int.Input("seed", default=0, min=0, max=2**32 - 1),
                *shared_inputs(),
                io.Boolean.Input(
                    "force", default=False, tooltip="Also refine pictures that the pipeline does not know."
                ),
                io.Mask.Input("mask", optional=True, tooltip="Your own place in place of the planned ones."),
            ],
            outputs=[
                output(io.Image, "refined", tooltip="Pixels that were not repaired stay bit for bit."),
                output(RecordType, "record", tooltip="For Save with record."),
                output(io.String, "reason", is_output_list=True),
                output(io.String, "scores", tooltip="JSON: everything that was found.", is_output_list=True),
            ],
        )

    @classmethod
    @spoken
    def execute(
        cls,
        image: torch.Tensor,
        prompt: str,
        pipeline: str,
        config: str,
        seed: int,
        device: str,
        looks_only: bool,
        force: bool,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from grefine.folder.options import FolderOptions
        from grefine.folder.task import Task, weights_fingerprint
        from grefine.refine.settings import read_settings

        pictures, masks = tensors.read_batch(image, "image"), tensors.read_masks(mask, image)
        text, settings = tensors.check_prompt(prompt, looks_only), read_settings(config)
        pipe = pipe_of(pipeline, device_of(device))
        random = torch.Generator().manual_seed(seed)
        out = pipe(text or None, pictures, masks, settings, generator=random, force=force)
        task = Task(pipeline.strip(), weights_fingerprint(pipe), settings, FolderOptions(seed=seed, force=force))
        records = [
            RefineRecord(
                version=__version__,
                pipeline=pipeline.strip(),
                config="" if mask is not None else task.hash_of(),
                seed=seed,
                state=one.state,
                reason=one.decision.reason,
                kept=one.decision.kept,
                guarded=one.decision.guarded,
                area=round(one.plan.area, 4),
                moved=round(one.moved, 4),
                prompt=text,
                prompt_origin="Refine node",
                before=dict(one.before),
                after=dict(one.after),
                forced=one.forced,
            )
            for one in out.results
        ]
        return io.NodeOutput(
            tensors.put_back(image, pictures, out.images),
            records,
            [one.decision.reason for one in out.results],
            [as_text(one.to_dict()) for one in out.results],
        )


class Save(io.ComfyNode):
    """Save pictures, each with the record of what was done to it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefineSave",
            display_name="Save with record (grefine)",
            category="grefine",
            description="Saves as Save Image does, and writes into each file what grefine did to it.",
            is_output_node=True,
            inputs=[
                io.Image.Input("images"),
                RecordType.Input("record"),
                text_input("filename_prefix", "As in Save Image.", "grefine"),
            ],
            outputs=[],
        )

    @classmethod
    @spoken
    def execute(cls, images: torch.Tensor, record: Sequence[RefineRecord], filename_prefix: str) -> io.NodeOutput:
        tensors.read_batch(images, "images")
        if len(images) != len(record):
            raise ConfigError(
                f"images holds {len(images)} pictures and record tells of {len(record)}: save what it is of."
            )
        import folder_paths

        saved = ui.ImageSaveHelper.get_save_images_ui(images, filename_prefix, cls=cls)
        for place, one in zip(saved.results, record, strict=True):
            path = Path(folder_paths.get_output_directory(), place["subfolder"], place["filename"])
            signed = attach_record(path.read_bytes(), "PNG", one)
            if signed is not None:
                write_atomic(path, signed)
        return io.NodeOutput(ui=saved)


NODES = (Inspect, Guard, Gate, PlanToConditioning, Refine, Save)
