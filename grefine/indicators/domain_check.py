"""Is a picture of the world that a pipeline was trained on? One check for every command, told in the same words."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from grefine.config import build
from grefine.errors import WorldMismatch
from grefine.resources import bundled, pipeline_folder, pipeline_names

if TYPE_CHECKING:
    from grefine.models.domain import DomainNet

INDEX, COMPONENT = "model_index.json", "domain"


@dataclass(frozen=True)
class World:
    """What a pipeline knows, as its `model_index.json` states it."""

    name: str
    instead: str = "sdxl"
    """The pipeline to use for everything else."""
    max_roundtrip: float | None = None
    """What pipelines saved by grefine 0.1 state; it is read and not asked."""


@dataclass(frozen=True)
class DomainCheck:
    """Tells which pictures a pipeline was never taught, and says so."""

    world: World
    net: "DomainNet | None"
    """The pipeline's component `domain`; without one no picture counts as known."""
    folder: Path | None = None
    """Where the network lies, for telling it from another one."""
    known: dict[int, bool] = field(default_factory=dict, compare=False)

    def is_foreign(self, image: Image.Image) -> bool:
        """Say whether a picture is of another world; the same picture is looked at once."""
        if self.net is None:
            return True
        key = hash((image.size, image.mode, image.tobytes()))
        if key not in self.known:
            self.known[key] = self.net.knows(image)
        return not self.known[key]

    @property
    def reason(self) -> str:
        """What is said of one foreign picture."""
        untold = "" if self.net else f" (without its component '{COMPONENT}' it cannot tell, so it refuses all)"
        return f"Not a picture of the {self.world.name} world, the only one that this pipeline knows{untold}."

    @property
    def forced(self) -> str:
        """What stands before every finding about a foreign picture that was asked for all the same."""
        return f"Forced, though not a picture of the {self.world.name} world:"

    def told(self, count: int, total: int, force: bool = False, then: str = "it left them out") -> str:
        """Return what is said once per run of `count` foreign pictures among `total`; nothing of none."""
        if not count:
            return ""
        are = "is" if count == 1 else "are"
        head = f"{count:,} of {total:,} pictures {are} not of the {self.world.name} world, the only one that this"
        if force:
            return f"{head} pipeline knows: what was forced on them means nothing."
        other = self.world.instead
        return (
            f"{head} pipeline knows: {then}. For pictures of any kind there is "
            f"--pipeline {other} (`grefine fetch {other}` gets its weights); without a download there are "
            "`grefine parse`, `grefine score --metrics piqe`, and `grefine evaluate`, `compare` and `rank` with "
            "judges that know them. --force goes on all the same, and every result says so."
        )

    def demand(self, images: Iterable[Image.Image]) -> None:
        """Refuse pictures of another world."""
        if any(self.is_foreign(image) for image in images):
            raise WorldMismatch(
                f"{self.reason} Use the pipeline '{self.world.instead}', or pass force=True (--force) to go on anyway."
            )


def read_world(values: Mapping[str, Any] | None) -> World | None:
    """Read the pipeline's own statement; None: it knows no bounds."""
    return None if values is None else build(World, dict(values), "world")


def domain_of(pipe: Any) -> DomainCheck | None:
    """Return the check of a loaded pipeline; None where it states no world."""
    world = read_world(pipe.config.get("world"))
    if world is None:
        return None
    net, kept = pipe.domain, vars(pipe).get("_domain_check")
    if kept is None or kept.world != world or (net is not None and kept.net is not net):
        if net is None and (inside := _bundled(world)) is not None:
            net = _net(inside)
        kept = pipe._domain_check = DomainCheck(world, net)
    return kept


def domain_at(source: str | Path | None) -> DomainCheck | None:
    """Return the check of a pipeline, or of the one whose folder a component lies in; None without a stated world."""
    folder = None if source is None else pipeline_folder(source)
    for place in () if folder is None else (folder, folder.parent):
        if (place / INDEX).is_file():
            return _domain_in(place)
    return None


def check_pictures(pipeline: str | Path, images: Iterable[Image.Image], force: bool) -> str:
    """Refuse pictures for a measurement on all of them together; with `force` return what is to be said instead."""
    domain = domain_at(pipeline)
    if domain is None:
        return ""
    foreign = [domain.is_foreign(image) for image in images]
    told = domain.told(sum(foreign), len(foreign), force, "nothing was measured")
    if told and not force:
        raise WorldMismatch(told)
    return told


def _stated(folder: Path) -> World | None:
    return read_world(json.loads((folder / INDEX).read_text(encoding="utf-8")).get("world"))


@cache
def _domain_in(folder: Path) -> DomainCheck | None:
    world = _stated(folder)
    if world is None:
        return None
    inside = folder / COMPONENT if (folder / COMPONENT).is_dir() else _bundled(world)
    return DomainCheck(world, None if inside is None else _net(inside), inside)


def _net(folder: Path) -> "DomainNet":
    import torch

    from grefine.models.domain import DomainNet  # merging journals tells of worlds, and needs no networks

    return DomainNet.from_pretrained(folder, torch_dtype=torch.float32).eval()


def _bundled(world: World) -> Path | None:
    """Return where a bundled pipeline of the same world keeps the network, for copies saved before there was one."""
    for name in pipeline_names():
        folder = bundled("pipelines") / name
        if (folder / COMPONENT).is_dir() and (stated := _stated(folder)) and stated.name == world.name:
            return folder / COMPONENT
    return None
