"""Serve the window to this machine alone."""

from collections.abc import Callable
from typing import Any

from grefine.app.desk import Desk, open_desk
from grefine.errors import ConfigError
from grefine.resources import bundled

HOSTS = ("127.0.0.1", "localhost")
"""What a browser on this machine calls it; a page elsewhere that leads a name of its own here is refused."""


def serve(
    desk: Desk,
    port: int = 7860,
    open_browser: bool = False,
    wait: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Any:
    """Show a desk in the browser until interrupted; `wait=False` returns the running window."""
    try:
        from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]
        from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]

        from grefine.app.window import LOOKS, make_window
    except ModuleNotFoundError as error:
        raise ConfigError(f"The window needs '{error.name}': `pip install 'grefine[app]'`.") from error
    window = make_window(desk)
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)
    # Every one of these is said, because variables of the environment decide what is left open.
    here = {"server_name": HOSTS[0], "server_port": port or None, "share": False, "mcp_server": False}
    more = {"app_kwargs": {"middleware": [guard]}, "prevent_thread_lock": True, "quiet": True}
    try:
        window.launch(**here, **more, inbrowser=open_browser, **LOOKS)
    except OSError as error:
        raise ConfigError(f"Cannot serve on port {port}: it is taken; give another --port.") from error
    say(f"The window: {window.local_url} (Ctrl-C closes it)")
    if wait:
        window.block_thread()
    return window


def open_space(pipeline: str = "tiny") -> None:
    """Show the example pictures to many people at once, as a Hugging Face Space; its own proxy decides who comes."""
    from grefine.app.window import LOOKS, make_window

    examples = bundled("examples") / "images"
    desk = open_desk(examples, pipeline, "results", "plans", prompts=examples / "prompts.csv")
    make_window(desk, private=True).launch(**LOOKS)
