"""Plans and masks that people give for the pictures of a run, found by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, ImageError, PlanError
from grefine.folder.options import digest_of, file_digest
from grefine.io.images import SUFFIXES, read_image
from grefine.io.picture import printable
from grefine.plan_file import MASK, PLAN
from grefine.types import RepairPlan


@dataclass(frozen=True)
class PlanFolder:
    """A folder that `grefine plan` wrote."""

    folder: Path
    edits: dict[str, str] = field(default_factory=dict)
    """Name of a plan below the folder to what was made of it; none for one that is as it was planned."""

    @classmethod
    def open(cls, folder: Path, only: str = "") -> PlanFolder:
        """Look which plans were changed; those that cannot be read are told when their picture comes.

        With `only`, the path of a picture below SRC, no other plan is looked at.

        Raises:
            ConfigError: no plan is there.
        """
        files = [folder / f"{only}{PLAN}"] if only else sorted(folder.rglob(f"*{PLAN}")) if folder.is_dir() else []
        if not files:
            raise ConfigError(f"--plans: '{printable(folder)}' has no plans: `grefine plan SRC -o DIR` makes some.")
        return cls(folder, {file.relative_to(folder).as_posix(): _edit(file) for file in files})

    @property
    def digest(self) -> str:
        """Return a hash of all changes; empty without any, for then a run is that of no plans."""
        edits = {name: edit for name, edit in self.edits.items() if edit}
        return digest_of(edits) if edits else ""

    def find(self, relative: str, seed: int) -> RepairPlan:
        """Return the plan of a picture by its path below SRC.

        Raises:
            PlanError: there is none, it cannot be followed, or it changed while the run was on.
        """
        file = self.folder / f"{relative}{PLAN}"
        name = printable(file)
        if not file.is_file():
            raise PlanError(f"'{printable(self.folder)}' has no plan for '{printable(relative)}': plan again.")
        plan = RepairPlan.load(file)
        if self.edits.get(f"{relative}{PLAN}") != _edit_of(plan):
            raise PlanError(f"The plan '{name}' changed during the run: start again in another OUT.")
        then = plan.made_for.get("seed")
        if then != seed:
            raise PlanError(f"The plan '{name}' was made with seed {then}, the run has {seed}: give --seed {then}.")
        return plan


@dataclass(frozen=True)
class MaskFolder:
    """A folder of masks, white = repaint, in the tree of the pictures or flat."""

    folder: Path
    with_maps: bool = False
    """Our maps plan as well, and alone where a picture has no mask."""

    @cached_property
    def digest(self) -> str:
        """Return a hash of all masks and of how they are used."""
        files = [file for file in sorted(self.folder.rglob("*")) if file.suffix.lower() in SUFFIXES]
        names = {file.relative_to(self.folder).as_posix(): file_digest(file) for file in files}
        return digest_of([names, self.with_maps])

    def find(self, relative: str, size: tuple[int, int]) -> np.ndarray | None:
        """Return the mask of a picture in its size; None where our maps plan alone.

        Raises:
            PlanError: there is none, or no picture.
        """
        stem = Path(relative).with_suffix("")
        for place in dict.fromkeys((stem, Path(stem.name))):
            for name in (place.as_posix(), f"{place.as_posix()}_mask", f"{place.as_posix()}.mask"):
                for suffix in SUFFIXES:
                    if (file := self.folder / f"{name}{suffix}").is_file():
                        return read_mask(file, size)
        if self.with_maps:
            return None
        raise PlanError(
            f"'{printable(self.folder)}' has no mask for '{printable(relative)}': add '{printable(stem)}.png', or "
            "give --add-masks to plan it by our maps."
        )


def open_by_hand(
    plans: str | Path | None, masks: str | Path | None, with_maps: bool
) -> tuple[PlanFolder | None, MaskFolder | None]:
    """Return the plans or the masks of a run.

    Raises:
        ConfigError: both at once, or a folder without any.
    """
    if plans is not None and masks is not None:
        raise ConfigError("--plans and --masks exclude each other: paint into the plans' own mask files.")
    if with_maps and masks is None:
        raise ConfigError("--add-masks adds the masks of --masks DIR: give that, too.")
    if masks is not None and not Path(masks).is_dir():
        raise ConfigError(f"--masks: '{printable(masks)}' is no folder.")
    return PlanFolder.open(Path(plans)) if plans is not None else None, (
        MaskFolder(Path(masks), with_maps) if masks is not None else None
    )


def read_mask(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Return a mask file as `(H, W)` bool in a picture's size: its alpha where some of it is clear, else its white.

    Raises:
        PlanError: it cannot be read.
    """
    try:
        loaded = read_image(file)
    except ImageError as error:
        raise PlanError(f"The mask {error}") from error
    clear = loaded.alpha is not None and int(np.asarray(loaded.alpha).min()) < 255
    grey = loaded.alpha if clear and loaded.alpha is not None else loaded.rgb.convert("L")
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR) if grey.size != size else grey) >= 128


def with_mask(plan: RepairPlan, mask: np.ndarray | None) -> RepairPlan:
    """Return a plan with what a mask adds to it."""
    return plan if mask is None else replace(plan, mask=plan.mask | mask)


def _edit(file: Path) -> str:
    try:
        return _edit_of(RepairPlan.load(file))
    except PlanError:
        mask = Path(str(file).removesuffix(PLAN) + MASK)
        return digest_of([file_digest(path) if path.is_file() else "" for path in (file, mask)])


def _edit_of(plan: RepairPlan) -> str:
    """Return what an edited plan says; nothing of one that our own maps made and nobody touched."""
    return plan.digest if plan.edited or plan.made_for.get("maps") == "given" else ""
