"""`grefine`: the commands by name. Nothing here imports torch; each command does so only when it runs."""

import io
import os
import sys

import typer

from grefine.cli import app as app_command
from grefine.cli import calibrate, convert, demo, doctor, fetch, merge, metrics, rank, score, selfcheck, settings
from grefine.cli import compare as compare_command
from grefine.cli import evaluate as evaluate_command
from grefine.cli import map as map_command
from grefine.cli import parse as parse_command
from grefine.cli import plan as plan_command
from grefine.cli import refine as refine_command
from grefine.cli import train as train_command
from grefine.cli.help import plain

app = typer.Typer(
    name="grefine",
    help="Find where a generated image is bad and what of its prompt is missing, and repaint only there.",
    epilog="Exit codes: 0 done, 1 some inputs failed, 2 wrong usage or configuration, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from grefine import __version__

        typer.echo(__version__)
        raise typer.Exit


app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("settings")(settings.settings)
app.add_typer(rank.app, name="rank")
app.command("map")(map_command.map_)
app.command("parse")(parse_command.parse)
app.command("plan")(plan_command.plan)
app.command("app")(app_command.app)
app.command("refine")(refine_command.refine)
app.command("merge")(merge.merge)
app.add_typer(train_command.train_app, name="train")
app.command("calibrate")(calibrate.calibrate)
app.command("compare")(compare_command.compare)
app.command("evaluate")(evaluate_command.evaluate)
app.command("selfcheck")(selfcheck.selfcheck)
app.command("fetch")(fetch.fetch)
app.command("metrics")(metrics.metrics)
app.command("score")(score.score)
app.command("convert")(convert.convert)
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
