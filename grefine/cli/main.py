"""`grefine`: the commands by name, each from the file of its name. None imports torch before it runs."""

import io
import os
import sys
from importlib import import_module

import typer
from typer import Option

from grefine.cli.help import COMMANDS, plain

app = typer.Typer(
    name="grefine",
    help="Find where a generated image is bad and what of its prompt is missing, and repaint only there.",
    epilog="Exit codes: 0 done, 1 some inputs failed, 2 wrong usage or configuration, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(version: bool = Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from grefine import __version__

        typer.echo(__version__)
        raise typer.Exit


for _name in " ".join(COMMANDS.values()).split():
    _command = getattr(import_module(f"grefine.cli.{_name}"), _name)
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name)
    else:
        app.command(_name)(_command)
plain(app)


def main() -> None:
    """Run grefine's command line."""
    run(app)


def run(commands: typer.Typer) -> None:
    """Run a command line; every known failure is one sentence on stderr."""
    from grefine.errors import GRefineError, PackageMissing

    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name or a prompt that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    if not sys.stderr.isatty():  # other packages' progress bars are noise in a log
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        commands()
    except GRefineError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as error:
        _fail(str(PackageMissing.of(error)))
    except Exception as error:  # noqa: BLE001 - the last line before a user would meet a traceback
        if os.environ.get("GREFINE_DEBUG"):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        _fail(f"Unexpected {type(error).__name__}: {first} (GREFINE_DEBUG=1 shows where).")


def _fail(sentence: str) -> None:
    typer.echo(f"grefine: {sentence}", err=True)
    sys.exit(2)
