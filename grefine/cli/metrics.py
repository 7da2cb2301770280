"""`grefine metrics`: every metric, what it means, and whether it can run here."""

import json

import typer


def metrics(
    paper: bool = typer.Option(False, "--paper", help="Only the paper's thirteen."),
    pipeline: str = typer.Option(None, help="Count the judges that this pipeline carries as present."),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """List the metrics: direction, range, needs, licence, and what is missing where one cannot run."""
    from grefine.scorers.listing import list_metrics

    rows = list_metrics("paper" if paper else None, pipeline)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        prompt = "image + prompt" if row["needs_prompt"] else "image"
        runs = "yes" if row["runs"] else "no"
        typer.echo(f"{row['name']:<16} {row['direction']:<7} {row['range']:<12} {prompt:<15} {runs}")
        typer.echo(f"{'':<17}{row['description']}")
        typer.echo(f"{'':<17}licence: {row['licence']}")
        if row["reason"]:
            typer.echo(f"{'':<17}{row['reason']}")
