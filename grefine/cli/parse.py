"""`grefine parse`: a prompt as tree and phrases."""

from typer import Argument, Option, echo

from grefine.cli.passing import tell


def parse(
    prompt: str = Argument(..., help="The prompt, syntax included; '-' reads it from standard input."),
    backend: str = Option("embedded", "--backend", help="Parser: embedded, nltk."),
    marks: str = Option("", "--marks", help="File of further marking words, in the form of the shipped list."),
    any_language: bool = Option(False, "--any-language", help="Keep phrases of other languages than English."),
    as_json: bool = Option(False, "--json", help="Write text, tokens and phrases as JSON."),
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
        tell(f"This looks like {parsed.language}; the parser knows English only, so its phrases mean little.")
    if as_json:
        echo(json.dumps(asdict(parsed), ensure_ascii=False))
        return
    echo(draw_tree(parsed, shutil.get_terminal_size((160, 24)).columns))
    echo(phrase_table(parsed))
    if parsed.truncated:
        tell(f"{parsed.truncated} words beyond the limit were not parsed.")
