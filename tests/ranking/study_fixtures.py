"""A small study on real files, and a plain HTTP client for its page."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager

import numpy as np
from golden_weights import reference_image
from PIL import Image, ImageFilter

from grefine.ranking.select import PairsConfig, build_study
from grefine.ranking.server import StudyServer

METHODS = {"alpha": (0, 0), "beta": (1.5, 0), "gamma": (0, 25)}


def write_methods(root, images=6, size=(48, 64)):
    """Write folders of outputs: one clean, one blurred, one noisy."""
    generator = np.random.default_rng(0)
    for method, (blur, noise) in METHODS.items():
        (root / method).mkdir(parents=True)
        for i in range(images):
            clean = Image.fromarray(reference_image(f"scene {i}", *size)).filter(ImageFilter.GaussianBlur(blur))
            values = np.asarray(clean) + noise * generator.standard_normal((*size, 3))
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(root / method / f"im{i}.png")
    return [root / m for m in METHODS]


def make_study(root, **settings):
    """Make a study folder of three methods with two pairs each."""
    folders = write_methods(root / "methods")
    config = PairsConfig(**({"k": 2, "training": 1, "attention": 1, "distance": "offline"} | settings))
    build_study(folders, root / "study", config)
    return root / "study"


@contextmanager
def serving(folder, **options):
    """Serve a study folder in a thread."""
    server = StudyServer(folder, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.journal.close()
        thread.join()


class Client:
    """Sends what it is told, also what a browser never would."""

    def __init__(self, server):
        self.port = server.port
        self.base = f"/s/{server.secret}"
        self.study = server.study.digest

    def send(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        sent = {"Host": f"127.0.0.1:{self.port}"} | (headers or {})
        if body is not None:
            sent.setdefault("Content-Length", str(len(body)))
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply, data

    def get(self, path, **headers):
        reply, data = self.send("GET", self.base + path, headers=headers)
        return reply.status, data

    def trial(self, subject):
        status, data = self.get(f"/api/trial?subject={subject}")
        assert status == 200, data
        return json.loads(data)

    def vote(self, subject, trial, choice="left", seconds=1.0, headers=None, **extra):
        message = {"subject": subject, "trial": trial, "choice": choice, "seconds": seconds} | extra
        return self.post(json.dumps(message).encode(), headers)

    def post(self, body, headers=None, path="/api/vote"):
        sent = {"Content-Type": "application/json", "X-Study": self.study} | (headers or {})
        reply, data = self.send("POST", self.base + path, body, sent)
        return reply.status, json.loads(data)
