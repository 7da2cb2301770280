"""`grefine merge`: join what the shards of a run have done."""

import json

from typer import Argument, Exit, Option, echo


def merge(
    out: str = Argument(help="Folder or address of results that the shards share."),
    as_json: bool = Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Join journals, table and page of shards, and name what none has done; may be repeated, and while they run."""
    from grefine.folder.merge import merge as join
    from grefine.folder.progress import PlainReporter

    summary = join(out, PlainReporter())
    echo(json.dumps(summary.to_dict()) if as_json else "\n".join(summary.lines()))
    raise Exit(summary.exit_code)
