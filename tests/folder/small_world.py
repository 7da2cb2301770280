"""A folder of small pictures and a random pipeline that finds something to do in some of them."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.io.journal import read_journal
from grefine.refine.settings import RefineConfig

sys.path.insert(0, str(Path(__file__).parent.parent))

PROMPTS = ("a red ball on green grass", "a blue box", "the house in snow", "a green tree")
STRANGE = "a\nb \udcff=x.png"


def config(**changes) -> RefineConfig:
    """Settings under which random maps call some places bad, in few steps, with no judge."""
    plan = {"gate": False, "use_aq": False, "mask_threshold": "mean", "max_area": 0.6, "max_regions": 1}
    return RefineConfig(**(plan | {"total_steps": 2, "guard": False, "restorer": "none"} | changes))


def random_pipeline():
    from components import pipeline

    return pipeline(calibration=None)


def scene(index: int, size: int = 32) -> Image.Image:
    rng = np.random.default_rng(index)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def make_folder(folder: Path, count: int, size: int = 32) -> Path:
    """Write pictures in two folders and three formats, with prompts inside and beside them."""
    for index in range(count):
        place = folder / ("sub" if index % 3 == 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        form = ("PNG", "PNG", "JPEG", "WEBP")[index % 4]
        path = place / f"{index:04}.{form.lower()}"
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", f"{PROMPTS[index % 4]}\nSteps: 20, Sampler: Euler, Seed: {index}, Size: 32x32")
        info.add_text("workflow", "{}")
        options = {"pnginfo": info} if form == "PNG" else {"quality": 95}
        scene(index, size).save(path, form, **options)
        if form != "PNG":
            path.with_suffix(".txt").write_text(PROMPTS[index % 4])
    return folder


def run(source, out, pipe, *, settings=None, report=None, prompt=None, prompts=None, **options):
    options = {"batch_size": 4, "report": False} | options
    extra = {} if report is None else {"report": report}
    return refine_folder(
        source,
        out,
        pipe,
        config=settings or config(),
        options=FolderOptions(**options),
        prompt=prompt,
        prompts=prompts,
        **extra,
    )


def journal_of(out: Path) -> Path:
    return out / ".grefine" / "journal.jsonl"


def rows(out: Path) -> list[dict]:
    return [row for row in read_journal(journal_of(out)) if row["kind"] == "image"]


def by_file(out: Path) -> dict[str, dict]:
    return {row["file"]: row for row in rows(out)}


def tree(out: Path) -> dict[str, str]:
    """Every file below OUT but the run's own state, by hash."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".grefine/" not in f"{path.relative_to(out)}/":
            data = path.read_bytes()
            # Its lines come in the order in which images were done.
            data = b"".join(sorted(without_seconds(data).splitlines())) if path.name == "results.csv" else data
            found[str(path.relative_to(out))] = hashlib.sha256(data).hexdigest()
    return found


def without_seconds(table: bytes) -> bytes:
    """The bytes of results.csv without its last column, which is never the same twice."""
    return b"\n".join(line.rpartition(b",")[0] for line in table.splitlines())


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Every input by time of change and hash."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest())
        for p in folder.rglob("*")
        if p.is_file() and p.stat().st_size < 10**7
    }


def in_child(work) -> int:
    """Run `work` in a forked child and return how it ended, as `os.waitstatus_to_exitcode` tells."""
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent only sees the exit code
            import traceback

            traceback.print_exc()
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Deadly:
    """Kills its own process at the n-th time that it touches the disk."""

    NAMES = ("write", "fsync", "replace", "open")

    def __init__(self, at: int) -> None:
        self.left = at
        for name in self.NAMES:
            setattr(os, name, self.wrap(getattr(os, name)))

    def wrap(self, real):
        def call(*arguments, **options):
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call
