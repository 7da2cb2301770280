"""`grefine fetch`: get published weights once, and hold them to their hashes ever after."""

import json

from typer import Argument, Option, echo

from grefine.cli.passing import tell


def fetch(
    names: list[str] = Argument(None, metavar="[NAME]...", help="What to get; without one the list is printed."),
    controlnet: bool = Option(True, "--controlnet/--no-controlnet", help="Also the ControlNet of stage 2."),
    judges: bool = Option(True, "--judges/--no-judges", help="Also the judges of the guard."),
    accept_terms: bool = Option(False, "--accept-terms", help="Your yes to terms that are unknown or not free."),
    as_json: bool = Option(False, "--json", help="Print JSON."),
) -> None:
    """Get weights into the cache folder (GREFINE_CACHE) and record their hashes; print where they lie."""
    from grefine import fetching
    from grefine.errors import ConfigError

    if not names:
        rows = {known: fetching.fetch_recipe(known) for known in fetching.fetch_names()}
        if as_json:
            listed = {
                n: {"description": r.description, "licence": r.licence, "source": r.source} for n, r in rows.items()
            }
            echo(json.dumps(listed, indent=1))
            return
        for known, recipe in rows.items():
            echo(f"{known:14} {recipe.description} [{recipe.licence}]")
        return
    without = {part for part, wanted in (("controlnet", controlnet), ("judges", judges)) if not wanted}
    done = []
    for name in names:
        if asked := _terms_asked(name):
            if not accept_terms:
                raise ConfigError(f"'{name}' runs under: {asked}. Say --accept-terms if yours is such a use.")
            fetching.accept_terms_of(name, asked)
            tell(f"{name}: its terms are accepted on this machine; its package gets its weights")
            continue
        own = without if len(names) == 1 else without & set(fetching.fetch_recipe(name).parts())
        done += fetching.fetch(name, without=own, accept_terms=accept_terms, report=tell)
    if as_json:
        echo(json.dumps([str(path) for path in done], indent=1))
    else:
        echo("\n".join(map(str, done)))


def _terms_asked(name: str) -> str:
    """Return the non-commercial terms of a judge or map whose weights its own package gets; else nothing."""
    from grefine.plugins import MAP_GROUPS, plugged_in
    from grefine.scorers.registry import judge_files

    files = [*(plugged_in(group, "map").get(name) for group in MAP_GROUPS.values()), judge_files().get(name)]
    return next((file.SPEC.licence for file in files if file is not None and file.SPEC.noncommercial), "")
