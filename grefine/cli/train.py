"""`grefine train RECIPE`: make weights from rated or ranked pictures, from seeds, resumably."""

import typer

from grefine.cli.train_judges import JUDGES, judge_command
from grefine.cli.train_maps import map_command
from grefine.cli.train_rectifier import rectifier

train_app = typer.Typer(no_args_is_help=True, help="Train the maps or a judge on your own rated pictures.")
train_app.command("rectifier")(rectifier)
for _name in JUDGES:
    train_app.command(_name)(judge_command(_name))
for _name in ("pq", "aq"):
    train_app.command(_name)(map_command(_name))
