"""`grefine convert`: published weight files to safe component folders."""

from pathlib import Path

from typer import Argument, Option, echo


def convert(
    kind: str = Argument(help="Which network, e.g. lar-iqa; a name that it does not know lists them."),
    files: list[Path] = Argument(help="The published files, in any order."),
    out: Path = Option(..., "--out", "-o", help="Folder to write; new or empty."),
    tokenizer: Path = Option(None, help="Tokenizer folder of a prompt-aware network, copied into the result."),
) -> None:
    """Write published weights as safetensors and a config; pickles that want more than tensors are refused."""
    from grefine.scorers.convert import convert_weights

    echo(convert_weights(kind, files, out, tokenizer=tokenizer))
