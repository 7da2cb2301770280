"""One threads setting per session, no lock across processes, no network: a test that opens a socket fails by name."""

from __future__ import annotations

import os
import socket
import threading

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from tqdm.std import tqdm

# tqdm's own lock is shared with forked children: one that a test kills while it draws a bar would hold it for ever.
tqdm.set_lock(threading.RLock())


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def refuse(self, address):
        host = address[0] if isinstance(address, tuple) else address
        if host in ("127.0.0.1", "::1", "localhost") or self.family == socket.AF_UNIX:
            return connect(self, address)
        raise RuntimeError(f"{request.node.nodeid} tried to reach {address!r}: tests run offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)
