"""`grefine plan`: what `grefine refine` would repaint, as files to look at and to change, and one page of all."""

import typer


def plan(
    src: list[str] = typer.Argument(help="Images, folders (recursive), addresses (s3://...), '@list.txt' of paths."),
    out: str = typer.Option(
        ..., "--out", "-o", help="Folder or address of plans, in the tree of SRC, and report.html."
    ),
    pipeline: str = typer.Option(None, help="sdxl, tiny (toy scenes only), a folder or a Hub id; no default."),
    config: str = typer.Option("default", help="Settings: a bundled name (default, paper, fast, ...) or a YAML file."),
    set_: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
    prompt: str = typer.Option(None, help="Prompt of every image for which nothing else gives one."),
    prompts: str = typer.Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    quality_map: str = typer.Option(None, metavar="NAME|DIR", help="A provider, or maps, in place of PQ-Map."),
    alignment_map: str = typer.Option(None, metavar="NAME|DIR", help="The same in place of AQ-Map."),
    allow_noncommercial: bool = typer.Option(False, help="Accept a provider whose terms are non-commercial."),
    pattern: list[str] = typer.Option([], help="Only files whose name or path matches, e.g. '*_final.png'."),
    recursive: bool = typer.Option(True, help="Go into folders of folders."),
    overwrite: bool = typer.Option(False, help="Plan anew what has a plan; otherwise plans stay as they are."),
    force: bool = typer.Option(False, help="Plan also pictures that the pipeline does not know."),
    batch_size: int = typer.Option(8, help="Images per unit of work; the same as for `refine`."),
    seed: int = typer.Option(0, help="The seed that every plan begins with; the same as for `refine`."),
    device: str = typer.Option(None, help="cpu, cuda, ..."),
    painter: str = typer.Option(None, help="Who is to redraw; the same as for `refine`."),
    painter_class: str = typer.Option(None, help="The class of diffusers that it is loaded as."),
    dtype: str = typer.Option("auto", help="auto, fp32, fp16 or bf16; the same as for `refine`."),
) -> None:
    """Plan without changing anything; look, change, then `grefine refine SRC -o OUT --plans DIR`."""
    from grefine.config import build
    from grefine.folder.options import FolderOptions
    from grefine.folder.planning import plan_folder
    from grefine.refine.settings import changed_settings
    from grefine.resources import chosen_pipeline

    values = {
        "pattern": tuple(pattern),
        "recursive": recursive,
        "force": force,
        "batch_size": batch_size,
        "seed": seed,
    }
    values |= {"overwrite": "always" if overwrite else "never"}
    summary = plan_folder(
        src,
        out,
        chosen_pipeline(pipeline or (painter and "clip")),
        config=changed_settings(config, set_),
        options=build(FolderOptions, values, where="options"),
        prompts=prompts,
        prompt=prompt,
        quality_map=quality_map,
        alignment_map=alignment_map,
        allow_noncommercial=allow_noncommercial,
        device=device,
        dtype=dtype,
        painter=painter,
        painter_class=painter_class,
        say=lambda text: typer.echo(text, err=True),
    )
    typer.echo("\n".join(summary.lines()))
    raise typer.Exit(1 if summary.failed else 0)
