"""`grefine convert`: published weight files to safe component folders."""

from pathlib import Path

import typer


def convert(
    kind: str = typer.Argument(help="Which network, e.g. lar-iqa; a name that it does not know lists them."),
    files: list[Path] = typer.Argument(help="The published files, in any order."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; new or empty."),
    tokenizer: Path = typer.Option(None, help="Tokenizer folder of a prompt-aware network, copied into the result."),
) -> None:
    """Write published weights as safetensors and a config; pickles that want more than tensors are refused."""
    from grefine.scorers.convert import convert_weights

    typer.echo(convert_weights(kind, files, out, tokenizer=tokenizer))
