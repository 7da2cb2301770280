"""`grefine plan`: what `grefine refine` would repaint, as files to look at and to change, and one page of all."""

from typer import Argument, Exit, Option, echo

from grefine.cli.passing import pick, tell


def plan(
    src: list[str] = Argument(help="Images, folders (recursive), addresses (s3://...), '@list.txt' of paths."),
    out: str = Option(..., "--out", "-o", help="Folder or address of plans, in the tree of SRC, and report.html."),
    pipeline: str = Option(None, help="sdxl, tiny (toy scenes only), a folder or a Hub id; no default."),
    config: str = Option("default", help="Settings: a bundled name (default, paper, fast, ...) or a YAML file."),
    set_: list[str] = Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
    prompt: str = Option(None, help="Prompt of every image for which nothing else gives one."),
    prompts: str = Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    quality_map: str = Option(None, metavar="NAME|DIR", help="A provider, or maps, in place of PQ-Map."),
    alignment_map: str = Option(None, metavar="NAME|DIR", help="The same in place of AQ-Map."),
    allow_noncommercial: bool = Option(False, help="Accept a provider whose terms are non-commercial."),
    pattern: list[str] = Option([], help="Only files whose name or path matches, e.g. '*_final.png'."),
    recursive: bool = Option(True, help="Go into folders of folders."),
    overwrite: bool = Option(False, help="Plan anew what has a plan; otherwise plans stay as they are."),
    force: bool = Option(False, help="Plan also pictures that the pipeline does not know."),
    batch_size: int = Option(8, help="Images per unit of work; the same as for `refine`."),
    seed: int = Option(0, help="The seed that every plan begins with; the same as for `refine`."),
    device: str = Option(None, help="cpu, cuda, ..."),
    painter: str = Option(None, help="Who is to redraw; the same as for `refine`."),
    painter_class: str = Option(None, help="The class of diffusers that it is loaded as."),
    dtype: str = Option("auto", help="auto, fp32, fp16 or bf16; the same as for `refine`."),
) -> None:
    """Plan without changing anything; look, change, then `grefine refine SRC -o OUT --plans DIR`."""
    given = dict(locals())
    from grefine.config import build
    from grefine.folder.options import FolderOptions
    from grefine.refine.settings import changed_settings
    from grefine.resources import chosen_pipeline

    named = chosen_pipeline(pipeline or (painter and "clip"))  # refused before torch and diffusers are loaded
    from grefine.folder.planning import plan_folder

    options = pick(given, "recursive force batch_size seed") | {"pattern": tuple(pattern)}
    options |= {"overwrite": "always" if overwrite else "never"}
    passed = "prompts prompt quality_map alignment_map allow_noncommercial device dtype painter painter_class"
    summary = plan_folder(
        src,
        out,
        named,
        config=changed_settings(config, set_),
        options=build(FolderOptions, options, where="options"),
        say=tell,
        **pick(given, passed),
    )
    echo("\n".join(summary.lines()))
    raise Exit(1 if summary.failed else 0)
