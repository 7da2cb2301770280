"""Run refiners over images into folders, with the records of `grefine refine`; what is there is not made again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from grefine import __version__
from grefine.config import digest
from grefine.errors import ConfigError, WorldMismatch, in_words
from grefine.evaluate.baselines import GRefine, Restore, Run, load_refiner
from grefine.indicators.draw import png
from grefine.io.atomic import write_atomic
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.io.journal import Journal
from grefine.io.picture import printable
from grefine.io.record import RefineRecord, attach_record
from grefine.io.run_files import JOURNAL, STATE_FOLDER, layer_path
from grefine.refine.guidance import steers_of
from grefine.refine.inputs import derive
from grefine.report.media import layers_of
from grefine.scorers.cache import ScoreCache


def make_outputs(
    originals: Mapping[str, Path],
    refiners: Mapping[str, Restore | str],
    prompts: Mapping[str, str],
    run: Run,
    out: Path,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Refine every image by every refiner into `out/METHOD/`; return method → image → output, and what failed.

    A refiner that cannot be loaded, and an image that it fails on, cost themselves only. Outputs of an earlier run
    with the same settings and inputs are kept.
    """
    made: dict[str, dict[str, Path]] = {}
    failed: dict[str, str] = {}
    for method, refiner in refiners.items():
        if not method or method in (".", "..") or "/" in method or "\\" in method:
            raise ConfigError(f"'{method}' cannot name a method: it becomes a folder, so use a plain word.")
        folder, files = out / method, made.setdefault(method, {})
        restore = None if isinstance(refiner, str) else refiner
        strange: dict[str, str] = {}
        with ScoreCache(folder / "done.jsonl") as done:
            for count, (name, path) in enumerate(originals.items(), start=1):
                target, prompt = folder / Path(name).with_suffix(".png"), prompts.get(name, "")
                key = _key(method, refiner, run, seed, name, path, prompt)
                if done.get(key) is None or not target.is_file():
                    try:
                        restore = restore or load_refiner(str(refiner), run)
                        strength = run.strength_of(refiner if isinstance(refiner, str) else method)
                        _make(restore, path, folder, target, prompt, strength, derive(seed, name))
                    except WorldMismatch as error:
                        strange[name] = str(error)
                        continue
                    except Exception as error:  # noqa: BLE001 - one refiner's failure must not cost the others
                        failed[method if restore is None else f"{method}: {printable(name)}"] = in_words(error)
                        if restore is None:
                            break
                        continue
                    done.put(key, {})
                    if progress:
                        progress(f"{method}: {count} of {len(originals)}")
                files[name] = target
        for name, reason in list(strange.items())[:1]:
            others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            failed[f"{method}: {printable(name)}{others}"] = reason
    return made, failed


def _make(restore: Restore, path: Path, folder: Path, target: Path, prompt: str, strength: float, seed: int) -> None:
    """Refine one image; of grefine keep decision, maps and a row in the folder's journal, too."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    data = png(restore(read_image(path).rgb, prompt=prompt, strength=strength, generator=generator).convert("RGB"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(restore, GRefine) or restore.last is None:
        write_atomic(target, data)
        return
    result, source, name = restore.last, content_hash(path), target.relative_to(folder).as_posix()
    record = RefineRecord(
        version=__version__,
        pipeline=restore.name,
        config="",
        seed=seed,
        state=result.state,
        reason=result.decision.reason,
        kept=result.decision.kept,
        guarded=result.decision.guarded,
        area=round(result.plan.area, 4),
        drew=", ".join(steers_of(result.plan.guidance)),
        prompt=result.prompt,
        before=dict(result.before.values),
        after=dict(result.after.values),
        source=source,
    )
    write_atomic(target, attach_record(data, "PNG", record) or data)
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
        place = layer_path(folder, name, layer)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    with Journal(folder / STATE_FOLDER / JOURNAL) as journal:
        journal.append([row])


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
