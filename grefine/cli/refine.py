"""`grefine refine`: refine files and folders, each image with its own prompt; nothing lost, whatever happens."""

import json
from pathlib import Path

from typer import Argument, Exit, Option, echo

from grefine.cli.passing import pick


def refine(
    src: list[str] = Argument(
        help="Images, folders (recursive), addresses (s3://...), .parquet, .tar, '@list.txt' of paths, '-' for stdin."
    ),
    out: str = Option(
        ..., "--out", "-o", help="Folder or address of results, with the tree of SRC, or a file for one image."
    ),
    pipeline: str = Option(None, help="sdxl, z-image, ..., tiny (toy scenes only), a folder or Hub id; no default."),
    painter: str = Option(
        None, metavar="NAME|FOLDER|ID", help="Who redraws in place of SDXL, e.g. qwen-image or a folder of diffusers."
    ),
    painter_class: str = Option(None, help="The class of diffusers that a painter's folder is loaded as."),
    restorer: str = Option(
        None, metavar="NAME|FOLDER|ID", help="Stage 2: none, inpaint (who did stage 1), or another painter."
    ),
    config: str = Option("default", help="Settings: a bundled name (default, paper, fast, ...) or a YAML file."),
    set_: list[str] = Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
    preserve: str = Option(None, help="paper: stage 2 sees all and keeps good places; exact: only what is bad."),
    candidates: str = Option(
        None, metavar="K[ by JUDGE]", help="Tries at what is drawn anew, of which a judge takes one: 4, '4 by mdiqa'."
    ),
    prompt: str = Option(None, help="Prompt of every image for which nothing else gives one."),
    prompts: str = Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    name_column: str = Option(None, help="The table's column of file names; guessed, and said, without it."),
    prompt_column: str = Option(None, help="The table's column of prompts."),
    prompt_order: str = Option("table,sidecar,metadata", help="First answer wins; 'prompt' means --prompt."),
    lora_dir: Path = Option(None, help="Folder of the LoRAs that prompts name; ignored without it."),
    gate: str = Option(
        None, metavar="NAME:VALUE", help="A cheap first judge, e.g. lar_iqa:0.8: what reaches the value is left alone."
    ),
    weights: list[str] = Option([], metavar="METRIC=PATH", help="Weights of the gate's metric."),
    allow_noncommercial: bool = Option(False, help="Accept a gate whose terms are non-commercial."),
    suffix: str = Option("", help="Put between the name and the ending of every result."),
    format_: str = Option("same", "--format", help="same, png, jpeg or webp."),
    overwrite: str = Option("never", help="never, older (when the input changed since) or always."),
    pattern: list[str] = Option([], help="Only files whose name or path matches, e.g. '*_final.png'."),
    recursive: bool = Option(True, help="Go into folders of folders."),
    follow_links: bool = Option(False, help="Read what symbolic links point to outside SRC."),
    panels: bool = Option(True, help="Write before/map/after pictures of what changed into OUT/panels."),
    report: bool = Option(True, help="Write OUT/report.html at the end."),
    dataset: str = Option("", help="Write OUT/dataset, too: parquet, webdataset, imagefolder, or same as SRC."),
    batch_size: int = Option(8, help="Images per unit of work."),
    max_pixels: int = Option(32 * 2**20, help="Larger images are refused."),
    again: bool = Option(False, help="Refine images once more that carry the record of an equal run."),
    force: bool = Option(False, help="Refine images that the pipeline does not know; every result says so."),
    seed: int = Option(0, help="Of the noise; another one gives other repaints."),
    limit: int = Option(None, help="Only so many images from the beginning of the list."),
    dry_run: bool = Option(False, help="Write nothing: print a table of what would be repainted."),
    device: str = Option(None, help="cpu, cuda, ..."),
    dtype: str = Option("auto", help="auto (fp32 on a CPU, bf16 or fp16 on a GPU), fp32, fp16 or bf16."),
    offload: str = Option("none", help="none, model, group or sequential: spare the GPU's memory, ever slower."),
    judge: list[str] = Option([], metavar="NAME[=DIR]", help="A judge for the guard; may be repeated."),
    guidance: list[str] = Option([], metavar="NAME:VALUE", help="Experimental: steer by gradient, e.g. sharpness:1."),
    engine: str = Option(
        None,
        metavar="shard [I/N]|ray",
        help="One of N parts that share OUT (without I/N, SLURM or torchrun say which), or actors of a Ray cluster.",
    ),
    workers: int = Option(0, help="Start so many shards on this machine, one per GPU, and merge them."),
    ray_address: str = Option(None, help="The cluster; without it one of this machine is started."),
    gpus_per_worker: float = Option(1.0, help="GPUs of every actor of a cluster; 0 to work on CPUs."),
    actors: int = Option(0, help="Actors on a cluster; 0 for as many as its GPUs serve."),
    quality_map: str = Option(None, metavar="NAME|DIR", help="A provider, or maps, in place of PQ-Map."),
    alignment_map: str = Option(None, metavar="NAME|DIR", help="The same in place of AQ-Map."),
    plans: str = Option(None, help="Folder or address that `grefine plan` wrote: follow its plans, as edited."),
    masks: str = Option(
        None, help="Folder or address of masks by the pictures' names, white = repaint, in place of ours."
    ),
    add_masks: bool = Option(False, help="With --masks: repaint also what our maps find."),
    as_json: bool = Option(False, "--json", help="Print events as JSON lines, the summary last."),
) -> None:
    """Refine images; started again with the same line, a run goes on where it ended."""
    given = dict(locals())
    from grefine.cluster import Cluster
    from grefine.config import build
    from grefine.folder.options import FolderOptions
    from grefine.folder.progress import choose_reporter
    from grefine.refine.settings import changed_settings
    from grefine.resources import chosen_pipeline

    named = chosen_pipeline(pipeline or (painter and "clip"))  # refused before torch and diffusers are loaded
    from grefine.folder.ledger import split_engine
    from grefine.folder.runner import refine_folder
    from grefine.opening import read_preferences

    options = pick(given, "suffix overwrite recursive follow_links panels report batch_size max_pixels dataset")
    options |= pick(given, "again force seed limit") | {"format": format_.lower(), "pattern": tuple(pattern)}
    passed = pick(given, "prompts prompt name_column prompt_column lora_dir gate allow_noncommercial device dtype")
    passed |= pick(given, "offload painter painter_class restorer workers quality_map alignment_map dry_run")
    passed |= pick(given, "plans masks add_masks")
    shard, sources = split_engine(engine, src)
    summary = refine_folder(
        sources,
        out,
        named,
        config=changed_settings(config, set_, preserve, candidates),
        options=build(FolderOptions, options, where="options"),
        prompt_order=tuple(part.strip() for part in prompt_order.split(",") if part.strip()),
        gate_weights=weights,
        judges=judge,
        guidance=read_preferences(guidance),
        engine=shard,
        cluster=Cluster(ray_address, gpus_per_worker, actors),
        report=choose_reporter(as_json),
        **passed,
    )
    if as_json and dry_run:
        echo(json.dumps(summary.to_dict()))
    if not as_json:
        echo("\n".join(summary.lines()))
    raise Exit(summary.exit_code)
