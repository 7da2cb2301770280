"""`grefine parse`: a prompt as tree and phrases."""

import typer


def parse(
    prompt: str = typer.Argument(..., help="The prompt, syntax included; '-' reads it from standard input."),
    backend: str = typer.Option("embedded", "--backend", help="Parser: embedded, nltk."),
    marks: str = typer.Option("", "--marks", help="File of further marking words, in the form of the shipped list."),
    any_language: bool = typer.Option(False, "--any-language", help="Keep phrases of other languages than English."),
    as_json: bool = typer.Option(False, "--json", help="Write text, tokens and phrases as JSON."),
) -> None:
    """Show the syntax tree of a prompt, its phrases, and what each phrase hangs on."""
    import json
    import shutil
    import sys
    from dataclasses import asdict

    from grefine.text.parse import parse as parse_text
    from grefine.text.show import draw_tree, phrase_table

    text = sys.stdin.read() if prompt == "-" else prompt
    parsed = parse_text(text, backend, marks=marks or None, any_language=any_language)
    if parsed.language:
        typer.echo(
            f"This looks like {parsed.language}; the parser knows English only, so its phrases mean little.", err=True
        )
    if as_json:
        typer.echo(json.dumps(asdict(parsed), ensure_ascii=False))
        return
    typer.echo(draw_tree(parsed, shutil.get_terminal_size((160, 24)).columns))
    typer.echo(phrase_table(parsed))
    if parsed.truncated:
        typer.echo(f"{parsed.truncated} words beyond the limit were not parsed.", err=True)
