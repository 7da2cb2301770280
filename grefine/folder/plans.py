"""Plans and masks that people give for the pictures of a run, found by name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from grefine.config import digest
from grefine.errors import ConfigError, ImageError, PlanError
from grefine.folder.mirror import at_hand
from grefine.io.content import content_hash
from grefine.io.images import SUFFIXES, read_image
from grefine.io.picture import printable
from grefine.io.places import is_address, walk_address
from grefine.plan_file import MASK, PLAN
from grefine.types import RepairPlan

_AT_ONCE = 64
"""Plans or masks at an address that are asked for together."""


@dataclass(frozen=True)
class PlanFolder:
    """A folder that `grefine plan` wrote."""

    folder: str | Path
    """Its path or address."""
    edits: dict[str, str] = field(default_factory=dict)
    """Name of a plan below the folder to what was made of it; none for one that is as it was planned."""

    @classmethod
    def open(cls, folder: str | Path, only: str = "") -> "PlanFolder":
        """Look which plans were changed; `only` names the one picture, by its path below SRC, that is to come."""
        folder = folder if is_address(folder) else Path(folder)
        names = [f"{only}{PLAN}"] if only else _names(folder, (PLAN,))
        if not names:
            raise ConfigError(f"--plans: '{printable(folder)}' has no plans: `grefine plan SRC -o DIR` makes some.")
        return cls(folder, _looked_at(folder, names, _edit))

    @property
    def digest(self) -> str:
        """Return a hash of all changes; empty without any, for then a run is that of no plans."""
        edits = {name: edit for name, edit in self.edits.items() if edit}
        return digest(edits) if edits else ""

    def find(self, relative: str, seed: int) -> RepairPlan:
        """Return the plan of a picture by its path below SRC."""
        name = printable(f"{self.folder}/{relative}{PLAN}")
        with at_hand(self.folder, (f"{relative}{PLAN}", f"{relative}{MASK}")) as here:
            file = here / f"{relative}{PLAN}"
            if not file.is_file():
                raise PlanError(f"'{printable(self.folder)}' has no plan for '{printable(relative)}': plan again.")
            try:
                plan = replace(RepairPlan.load(file), file=name)
            except PlanError as error:
                raise PlanError(str(error).replace(str(here), str(self.folder))) from error
        if self.edits.get(f"{relative}{PLAN}") != _edit_of(plan):
            raise PlanError(f"The plan '{name}' changed during the run: start again in another OUT.")
        then = plan.made_for.get("seed")
        if then != seed:
            raise PlanError(f"The plan '{name}' was made with seed {then}, the run has {seed}: give --seed {then}.")
        return plan


@dataclass(frozen=True)
class MaskFolder:
    """A folder of masks, white = repaint, in the tree of the pictures or flat."""

    folder: str | Path
    """Its path or address."""
    with_maps: bool = False
    """Our maps plan as well, and alone where a picture has no mask."""

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Name of a mask below the folder to a hash of its content."""
        return _looked_at(self.folder, _names(self.folder, tuple(SUFFIXES)), content_hash)

    @cached_property
    def digest(self) -> str:
        """Return a hash of all masks and of how they are used."""
        return digest([self.hashes, self.with_maps])

    def find(self, relative: str, size: tuple[int, int]) -> np.ndarray | None:
        """Return the mask of a picture in its size; None where our maps plan alone."""
        stem = Path(relative).with_suffix("")
        for place in dict.fromkeys((stem.as_posix(), stem.name)):
            for name in (f"{place}{form}{suffix}" for form in ("", "_mask", ".mask") for suffix in SUFFIXES):
                if name in self.hashes:
                    with at_hand(self.folder, [name]) as here:
                        try:
                            return _read_mask(here / name, size)
                        except ImageError as error:
                            told = str(error).replace(str(here), str(self.folder))
                            raise PlanError(f"The mask {told}") from error
        if self.with_maps:
            return None
        raise PlanError(
            f"'{printable(self.folder)}' has no mask for '{printable(relative)}': add '{printable(stem)}.png', or "
            "give --add-masks to plan it by our maps."
        )


def open_by_hand(
    plans: str | Path | None, masks: str | Path | None, with_maps: bool
) -> tuple[PlanFolder | None, MaskFolder | None]:
    """Return the plans or the masks of a run."""
    if plans is not None and masks is not None:
        raise ConfigError("--plans and --masks exclude each other: paint into the plans' own mask files.")
    if with_maps and masks is None:
        raise ConfigError("--add-masks adds the masks of --masks DIR: give that, too.")
    if masks is not None and not is_address(masks):
        masks = Path(masks)
        if not masks.is_dir():
            raise ConfigError(f"--masks: '{printable(masks)}' is no folder.")
    by_mask = MaskFolder(masks, with_maps) if masks is not None else None
    return PlanFolder.open(plans) if plans is not None else None, by_mask


def _read_mask(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Return a mask file as `(H, W)` bool in a picture's size: its alpha where some of it is clear, else its white."""
    loaded = read_image(file)
    clear = loaded.alpha is not None and int(np.asarray(loaded.alpha).min()) < 255
    grey = loaded.alpha if clear and loaded.alpha is not None else loaded.rgb.convert("L")
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR) if grey.size != size else grey) >= 128


def _names(folder: str | Path, endings: tuple[str, ...]) -> list[str]:
    """Return the files below a folder or an address that end so."""
    if isinstance(folder, Path):
        found = (file.relative_to(folder).as_posix() for file in folder.rglob("*"))
    else:
        found = (
            f"{below}{str(info['name']).rpartition('/')[2]}" for below, files in walk_address(folder) for info in files
        )
    return sorted(name for name in found if name.lower().endswith(endings))


def _looked_at(folder: str | Path, names: list[str], look: Callable[[Path], str]) -> dict[str, str]:
    """Return what `look` says by name; files, and the masks of plans, are fetched some at a time."""
    found: dict[str, str] = {}
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        masks = [name.removesuffix(PLAN) + MASK for name in some if name.endswith(PLAN)]
        with at_hand(folder, [*some, *masks]) as here:
            found |= {name: look(here / name) for name in some}
    return found


def _edit(file: Path) -> str:
    try:
        return _edit_of(RepairPlan.load(file))
    except PlanError:
        mask = Path(str(file).removesuffix(PLAN) + MASK)
        return digest([content_hash(path) if path.is_file() else "" for path in (file, mask)])


def _edit_of(plan: RepairPlan) -> str:
    """Return what an edited plan says; nothing of one that our own maps made and nobody touched."""
    return plan.digest if plan.edited or plan.made_for.get("maps") == "given" else ""
