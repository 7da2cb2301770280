"""Run refiners over images into folders, with the records of `grefine refine`; what is there is not made again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from grefine import __version__
from grefine.config import digest
from grefine.errors import ConfigError, WorldMismatch, in_words
from grefine.evaluate.baselines import Restore, Run, load_refiner
from grefine.indicators.draw import png
from grefine.io.atomic import write_atomic, write_text
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.io.journal import Journal
from grefine.io.picture import printable
from grefine.io.record import RefineRecord, attach_record
from grefine.io.run_files import JOURNAL, STATE_FOLDER, layer_path
from grefine.refine.seeds import derive
from grefine.report.media import layers_of
from grefine.scorers.cache import ScoreCache
from grefine.types import RefineResult


@dataclass(slots=True)
class Made:
    """What refiners left behind."""

    files: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Method → image → output."""
    failed: dict[str, str] = field(default_factory=dict)
    """"method: image" or method → reason."""
    steered: set[str] = field(default_factory=set)
    """Metrics that guarded or guided one of them."""


def make_outputs(
    originals: Mapping[str, Path],
    refiners: Mapping[str, Restore | str],
    prompts: Mapping[str, str],
    run: Run,
    out: Path,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> Made:
    """Refine every image by every refiner into `out/METHOD/`.

    A refiner that cannot be loaded, and an image that it fails on, cost themselves only. Outputs of an earlier run
    with the same settings and inputs are kept.
    """
    made = Made()
    for method, refiner in refiners.items():
        if not method or method in (".", "..") or "/" in method or "\\" in method:
            raise ConfigError(f"'{method}' cannot name a method: it becomes a folder, so use a plain word.")
        folder, named = out / method, refiner if isinstance(refiner, str) else method
        files: dict[str, Path] = {}
        strange: dict[str, str] = {}
        with ScoreCache(folder / "done.jsonl") as done:
            restore: Restore | None = None
            for count, (name, path) in enumerate(originals.items(), start=1):
                target = folder / Path(name).with_suffix(".png")
                key = _key(method, refiner, run, seed, name, path, prompts.get(name, ""))
                if done.get(key) is None or not target.is_file():
                    try:
                        restore = restore or (load_refiner(refiner, run) if isinstance(refiner, str) else refiner)
                        _make(restore, path, target, prompts.get(name, ""), run.strength_of(named), derive(seed, name))
                        _keep_what_it_said(restore, path, folder, target, derive(seed, name))
                    except WorldMismatch as error:
                        strange[name] = str(error)
                        continue
                    except Exception as error:  # noqa: BLE001 - one refiner's failure must not cost the others
                        made.failed[method if restore is None else f"{method}: {printable(name)}"] = in_words(error)
                        if restore is None:
                            break
                        continue
                    done.put(key, {})
                    if progress:
                        progress(f"{method}: {count} of {len(originals)}")
                files[name] = target
        for name, reason in list(strange.items())[:1]:
            others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            made.failed[f"{method}: {printable(name)}{others}"] = reason
        made.files[method] = files
        made.steered |= _steered(folder, restore)
    return made


def _make(restore: Restore, path: Path, target: Path, prompt: str, strength: float, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    image = restore(read_image(path).rgb, prompt=prompt, strength=strength, generator=generator)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, png(image.convert("RGB")))


def _keep_what_it_said(restore: Restore, path: Path, folder: Path, target: Path, seed: int) -> None:
    """Keep decision and maps of a refiner that knows them."""
    last = getattr(restore, "last", None)
    if last is None:
        return

    pipeline, result = last
    source = content_hash(path)
    write_atomic(target, tag_output(target.read_bytes(), source, pipeline, seed, result))
    keep_row(folder, target.relative_to(folder).as_posix(), path, source, result)


def _key(method: str, refiner: Restore | str, run: Run, seed: int, name: str, path: Path, prompt: str) -> str:
    what = refiner if isinstance(refiner, str) else f"{refiner.__module__}.{getattr(refiner, '__qualname__', method)}"
    facts = {k: v for k, v in asdict(run).items() if v is not False and k not in ("strengths", "config")}
    facts |= {"strength": run.strength_of(what if isinstance(refiner, str) else method)}
    if what == "grefine":  # with these facts only where they are given, as outputs of earlier versions were made
        facts |= {"strengths": "own"} if "grefine" in (run.strengths or {}) else {}
        facts |= {} if run.config is None else {"config": digest(run.config)}
    facts |= {"models": None, "source": run.source(what), "refiner": what, "seed": seed}
    facts |= {"image": name, "content": content_hash(path), "prompt": prompt}
    return content_hash(json.dumps(facts, sort_keys=True))[:32]


def _steered(folder: Path, restore: Restore | None) -> set[str]:
    """Return the metrics that steered a refiner, now or when its kept outputs were made."""
    path = folder / "steered.json"
    known = set(json.loads(path.read_text())) if path.is_file() else set()
    new = known | set(getattr(restore, "steered", ()))
    if new != known:
        write_text(path, json.dumps(sorted(new)) + "\n")
    return new


def tag_output(png: bytes, source: str, pipeline: str, seed: int, result: RefineResult) -> bytes:
    """Return the coded picture with the record of how it came to be; `source` is the hash of the input file."""
    record = RefineRecord(
        version=__version__,
        pipeline=Path(pipeline).name,
        config="",
        seed=seed,
        state=result.state,
        reason=result.decision.reason,
        kept=result.decision.kept,
        guarded=result.decision.guarded,
        area=round(result.plan.area, 4),
        prompt=result.prompt,
        before=dict(result.before.values),
        after=dict(result.after.values),
        source=source,
    )
    return attach_record(png, "PNG", record) or png


def keep_row(folder: Path, name: str, path: Path, source: str, result: RefineResult) -> None:
    """Append the output's row to the folder's journal and write its maps; `source` is the hash of the file `path`."""
    (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    row = {
        "kind": "image",
        "file": name,
        "output": name,
        "source": str(path),
        "state": result.state,
        "reason": result.decision.reason,
        "input": {"sha256": source},
        "decision": {"kept": result.decision.kept, "guarded": result.decision.guarded},
    }
    if result.plan.token_weights:
        row["asked"] = {"text": result.plan.prompt, "weights": [list(part) for part in result.plan.token_weights]}
    for layer, data in layers_of(result).items():
        target = layer_path(folder, name, layer)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    with Journal(folder / STATE_FOLDER / JOURNAL) as journal:
        journal.append([row])
