"""Serve the window to this machine alone."""

from __future__ import annotations

from typing import Any

from grefine.app.desk import Desk
from grefine.errors import ConfigError

HOSTS = ("127.0.0.1", "localhost")
"""What a browser on this machine calls it; a page elsewhere that leads a name of its own here is refused."""


def serve(desk: Desk, port: int = 7860, open_browser: bool = False, wait: bool = True) -> Any:
    """Show a desk in the browser until interrupted; `wait=False` returns the running window.

    Raises:
        ConfigError: Gradio is not installed, or the port is taken.
    """
    try:
        from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]
        from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]

        from grefine.app.window import LOOKS, make_window
    except ModuleNotFoundError as error:
        raise ConfigError(f"The window needs '{error.name}': `pip install 'grefine[app]'`.") from error
    window = make_window(desk)
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)
    named = {
        "server_name": HOSTS[0],
        "server_port": port or None,
        "share": False,
        "app_kwargs": {"middleware": [guard]},
    }
    more = {"inbrowser": open_browser, "prevent_thread_lock": not wait, "mcp_server": False, "quiet": True}
    try:
        window.launch(**named, **more, **LOOKS)
    except OSError as error:
        raise ConfigError(f"Cannot serve on port {port}: {error}; give another --port.") from error
    return window
