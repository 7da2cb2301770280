"""The study page's server: standard library only, one secret per study, serves nothing but the study."""

import datetime
import hmac
import json
import os
import re
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from grefine.errors import ConfigError
from grefine.ranking.study import IMAGES, Ballot, VoteJournal, load_study, subject_name, trials_of

PAGE = Path(__file__).resolve().parent / "page"
PAGE_FILES = {"": "study.html", "study.js": "study.js", "study.css": "study.css"}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}
SECRET_FILE = "secret"
LARGEST_BODY = 4096
_LONGEST = 10**9
"""Seconds that a vote may claim to have taken."""
PRELOADED = 2
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Refusal(Exception):  # noqa: N818
    """A request that is answered with a 4xx and one sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class StudyServer(ThreadingHTTPServer):
    """Serves one study until it is shut down."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, folder: str | Path, host: str = "127.0.0.1", port: int = 0, names: tuple[str, ...] = ()
    ) -> None:
        """Bind to `host` and `port` (0: any free one); `names` are further host names that links may use."""
        if host in ("0.0.0.0", "::", "") and not names:
            raise ConfigError(
                f"Binding to '{host}' opens every interface: also say by which name with --allow-host NAME."
            )
        self.folder, self.study = Path(folder), load_study(folder)
        self.journal, self.secret = VoteJournal(folder, self.study), _secret(self.folder)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            self.journal.close()
            raise ConfigError(
                f"Cannot serve on {host}:{port}: {error.strerror or error}; pass another --port or --host."
            ) from error
        hosts = {host or "127.0.0.1", "127.0.0.1", "localhost", "[::1]", *names}
        self.accepted = {name.lower() for h in hosts for name in (h, f"{h}:{self.port}")}
        self.link = f"http://{names[0] if names else host}:{self.port}/s/{self.secret}/"
        """The address to hand to subjects."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def next_trial(self, subject: str) -> dict[str, Any]:
        """Return the first trial that the subject has not decided, and what follows it."""
        trials, answered = trials_of(self.study, subject), self.journal.answered(subject)
        left = [t for t in trials if t.id not in answered]
        shown = None
        if left:
            shown = {
                "id": left[0].id,
                # An attention check must not be told from an ordinary pair.
                "training": left[0].kind == "training",
                "left": f"{IMAGES}/{left[0].left}",
                "right": f"{IMAGES}/{left[0].right}",
                "preload": [f"{IMAGES}/{name}" for t in left[1 : 1 + PRELOADED] for name in (t.left, t.right)],
            }
        known = {"study": self.study.digest, "title": self.study.title, "question": self.study.question}
        return known | {"done": len(trials) - len(left), "total": len(trials), "trial": shown}

    def vote(self, message: dict[str, Any]) -> tuple[HTTPStatus, dict[str, Any]]:
        """Record one vote; the answer holds the subject's next trial."""
        subject = _subject(message.get("subject"))
        choice, seconds = message.get("choice"), message.get("seconds")
        trial = next((t for t in trials_of(self.study, subject) if t.id == message.get("trial")), None)
        if trial is None:
            raise Refusal(HTTPStatus.BAD_REQUEST, "This study has no such trial.")
        if choice not in ("left", "right"):
            raise Refusal(HTTPStatus.BAD_REQUEST, "The choice must be 'left' or 'right'.")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LONGEST:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"The seconds must be a number from 0 to {_LONGEST}.")
        preferred = "a" if (choice == "left") == trial.a_is_left else "b"
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        ballot = Ballot(self.study.digest, subject, trial.id, preferred, choice, round(float(seconds), 3), now)
        receipt = self.journal.record(ballot)
        answer = self.next_trial(subject) | {"receipt": receipt}
        if trial.kind == "training":
            answer["correct"] = preferred == "a"
        return (HTTPStatus.CONFLICT if receipt == "conflict" else HTTPStatus.OK), answer


def _secret(folder: Path) -> str:
    """Return the study's secret, which is made at the first time and stays the same over restarts."""
    path = folder / SECRET_FILE
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    found = path.read_text(encoding="ascii", errors="replace").strip()
    if not re.fullmatch(r"[\w-]{16,}", found, re.ASCII):
        raise ConfigError(f"'{path}' does not hold a secret of at least 16 characters; delete it to get a new link.")
    return found


def _subject(given: object) -> str:
    try:
        return subject_name(given if isinstance(given, str) else "")
    except ConfigError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from error


class _Handler(BaseHTTPRequestHandler):
    server: StudyServer
    protocol_version = "HTTP/1.1"
    server_version = "grefine"
    sys_version = ""
    timeout = 60
    # Head and body leave in one piece: in two, the second waits for the browser's receipt of the first.
    wbufsize = 2**16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay silent: the address holds the secret."""

    def _answer(self, action: Any) -> None:
        try:
            if (self.headers.get("Host") or "").lower() not in self.server.accepted:
                raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "This server does not answer to that host name.")
            action()
            self.wfile.flush()
        except ValueError:
            self.close_connection = True
            self._json(HTTPStatus.BAD_REQUEST, {"error": "That is no request that can be read."})
        except Refusal as refusal:
            # The body was perhaps not read, so the connection cannot carry another request.
            self.close_connection = True
            self._json(refusal.status, {"error": refusal.sentence})
        except OSError as error:
            self.close_connection = True
            if isinstance(error, (ConnectionError, TimeoutError)):
                return
            sentence = "The vote could not be stored; it was not counted."
            self._json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": sentence})

    def _inside(self) -> str:
        path = unquote(urlsplit(self.path).path, errors="replace")
        start, slash, rest = path.removeprefix("/s/").partition("/")
        known = path.startswith("/s/") and hmac.compare_digest(start.encode(), self.server.secret.encode())
        if not known or not slash:
            raise Refusal(HTTPStatus.NOT_FOUND, "There is nothing here: use the link that you were given.")
        return rest

    def _get(self) -> None:
        rest, server = self._inside(), self.server
        if rest in PAGE_FILES:
            file = PAGE / PAGE_FILES[rest]
            self._send(HTTPStatus.OK, file.read_bytes(), TYPES[file.suffix])
        elif rest == "api/trial":
            query = parse_qs(urlsplit(self.path).query)
            self._json(HTTPStatus.OK, server.next_trial(_subject(query.get("subject", [""])[0])))
        elif rest.startswith(f"{IMAGES}/") and rest.removeprefix(f"{IMAGES}/") in server.study.images:
            # Only names that the study lists are opened, so no path can lead elsewhere.
            file = server.folder / rest
            try:
                data = file.read_bytes()
            except OSError:
                raise Refusal(HTTPStatus.GONE, "This image was removed from the study.") from None
            self._send(HTTPStatus.OK, data, TYPES[file.suffix], "private, max-age=86400, immutable")
        else:
            raise Refusal(HTTPStatus.NOT_FOUND, "There is nothing here: use the link that you were given.")

    def _post(self) -> None:
        if self._inside() != "api/vote":
            raise Refusal(HTTPStatus.NOT_FOUND, "Nothing can be sent here.")
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site")
        ours = origin is None or origin.lower() == f"http://{self.headers['Host']}".lower()
        # A foreign page can neither set this header nor send JSON without a preflight, which is never granted.
        ours = ours and site in (None, "same-origin") and self.headers.get("X-Study") == self.server.study.digest
        if not ours:
            raise Refusal(HTTPStatus.FORBIDDEN, "Votes are only accepted from the study's own page; reload it.")
        if (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A vote is sent as application/json.")
        try:
            length = int(self.headers.get("Content-Length") or "")
        except ValueError:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "A vote states its length.") from None
        if not 0 <= length <= LARGEST_BODY:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A vote has at most {LARGEST_BODY} bytes.")
        try:
            message = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            raise Refusal(HTTPStatus.BAD_REQUEST, "The vote is not valid JSON.") from None
        if not isinstance(message, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "The vote is not a JSON object.")
        self._json(*self.server.vote(message))

    def _json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, data: bytes, kind: str, caching: str = "no-store") -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Cache-Control": caching}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
