"""`grefine train parser`: the embedded parser, from a treebank."""

from __future__ import annotations

from pathlib import Path

import typer


def parser(
    ud: Path = typer.Option(..., "--ud", help="Folder of UD English-EWT: en_ewt-ud-train.conllu or .conllu.gz."),
    out: Path = typer.Option(Path("parser.bin"), "--out", "-o", help="The file to write."),
    seed: int = typer.Option(0, "--seed", help="Of every random choice; the same seed gives the same file."),
    config: Path | None = typer.Option(None, "--config", help="YAML of ParserRecipe; without it the shipped recipe."),
    as_json: bool = typer.Option(False, "--json", help="Write path, size and seconds as JSON."),
) -> None:
    """Train tagger, parser and labeller of the embedded parser (one core, some minutes)."""
    import json

    from grefine.config import load_config
    from grefine.training.parser import ParserRecipe, train_parser

    recipe = load_config(config, ParserRecipe) if config else ParserRecipe()
    made = train_parser(ud, out, seed, recipe, progress=lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(json.dumps({"path": str(made.path), "bytes": made.size, "seconds": round(made.seconds, 1)}))
    else:
        typer.echo(f"{made.path}  {made.size:,} bytes  {made.seconds:.0f} s")
