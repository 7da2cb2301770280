"""`grefine metrics`: every metric, what it means, and whether it can run here."""

import json

from typer import Option, echo


def metrics(
    paper: bool = Option(False, "--paper", help="Only the paper's thirteen."),
    pipeline: str = Option(None, help="Count the judges that this pipeline carries as present."),
    verbose: bool = Option(False, "--verbose", "-v", help="Also say what each is, its terms and what it needs."),
    as_json: bool = Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """List the metrics: direction, range, needs, licence, and what is missing where one cannot run."""
    from grefine.scorers.resolve import list_metrics

    rows = list_metrics("paper" if paper else None, pipeline)
    if as_json:
        echo(json.dumps(rows, indent=1))
        return
    form = "{:<17} {:<9} {:<14} {:<15} {}"
    echo(form.format("name", "better is", "range", "needs", "here"))
    for row in rows:
        prompt = "image + prompt" if row["needs_prompt"] else "image"
        echo(form.format(row["name"], row["direction"], row["range"], prompt, row["next"]))
        if verbose:
            lines = (row["description"], f"licence: {row['licence']}", row["reason"])
            echo("\n".join(f"{'':<18}{line}" for line in lines if line))
    ready = sum(row["runs"] for row in rows)
    echo(f"{ready} of {len(rows)} can run here; -v says what each is, its terms, and what the others need.")
