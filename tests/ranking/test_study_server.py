"""The study's server: votes once and for all, and nothing for strangers."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time

import pytest
from study_fixtures import Client, serving

from grefine.errors import ConfigError
from grefine.ranking.server import StudyServer
from grefine.ranking.study import export_votes, load_study, read_ballots, trials_of
from grefine.ranking.votes import read_votes


def whole_session(client, subject, choice="left"):
    count = 0
    while (found := client.trial(subject))["trial"]:
        status, _ = client.vote(subject, found["trial"]["id"], choice)
        assert status == 200
        count += 1
    return count


def test_a_session_ends_with_every_pair_voted_once(client, folder, tmp_path):
    total = client.trial("ann")["total"]
    assert whole_session(client, "ann") == total == 6 + 2
    lines = export_votes(folder, tmp_path / "votes.csv")
    table = read_votes(tmp_path / "votes.csv")
    assert table.total == 6
    assert {v.subject for v in table.votes} == {"ann"}
    assert {v.group for v in table.votes} == {"mad"}
    assert "ann: 6 votes" in lines[0]


def test_a_resent_vote_counts_once_and_a_changed_one_not_at_all(client, folder):
    trial = client.trial("ann")["trial"]["id"]
    assert client.vote("ann", trial, "left")[1]["receipt"] == "new"
    assert client.vote("ann", trial, "left")[1]["receipt"] == "known"
    status, reply = client.vote("ann", trial, "right")
    assert (status, reply["receipt"]) == (409, "conflict")
    assert reply["trial"]["id"] != trial, "the page goes on with the next trial"
    ballots = read_ballots(folder, load_study(folder))
    assert [(b.trial, b.side) for b in ballots] == [(trial, "left")]


def test_a_subject_resumes_after_a_restart(folder):
    with serving(folder) as server:
        client = Client(server)
        first = client.trial("ann")
        client.vote("ann", first["trial"]["id"])
        secret = server.secret
    with serving(folder) as server:
        assert server.secret == secret, "the link stays valid"
        again = Client(server).trial("ann")
    assert again["done"] == 1
    assert again["trial"]["id"] != first["trial"]["id"]


def test_orders_and_sides_differ_between_subjects_and_are_balanced(folder):
    study = load_study(folder)
    each = [trials_of(study, f"s{i}") for i in range(60)]
    assert trials_of(study, "s0") == each[0]
    assert len({tuple(t.id for t in trials) for trials in each}) > 40
    sides = [t.a_is_left for trials in each for t in trials]
    assert 0.42 < sum(sides) / len(sides) < 0.58
    for trials in each:
        assert [t.kind for t in trials].index("training") == 0
        assert sorted(t.id for t in trials) == sorted(t.id for t in each[0])
        assert trials[1].kind == "pair", "no check right after the exercise"


def test_many_subjects_at_once_lose_nothing(client, folder):
    threads = [threading.Thread(target=whole_session, args=(client, f"s{i}", "right")) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ballots = read_ballots(folder, load_study(folder))
    assert len(ballots) == len({(b.subject, b.trial) for b in ballots}) == 6 * 8


def test_training_tells_the_answer_and_attention_looks_like_any_pair(client, folder):
    study = load_study(folder)
    trials = {t.id: t for t in trials_of(study, "ann")}
    training = client.trial("ann")["trial"]
    assert training["training"]
    good = "left" if trials[training["id"]].a_is_left else "right"
    reply = client.vote("ann", training["id"], good)[1]
    assert reply["correct"] is True
    shown = []
    while reply["trial"]:
        shown.append(reply["trial"])
        reply = client.vote("ann", reply["trial"]["id"])[1]
        assert "correct" not in reply
    assert len({frozenset(t) for t in shown}) == 1
    assert not any(t["training"] for t in shown)


def test_inattentive_subjects_can_be_left_out(client, folder, tmp_path):
    study = load_study(folder)
    for subject, right in (("careful", True), ("careless", False)):
        for trial in trials_of(study, subject):
            client.vote(subject, trial.id, "left" if trial.a_is_left == right else "right")
    export_votes(folder, tmp_path / "all.csv")
    lines = export_votes(folder, tmp_path / "some.csv", min_attention=1.0)
    assert read_votes(tmp_path / "all.csv").total == 12
    assert read_votes(tmp_path / "some.csv").total == 6
    assert any("careless: left out, 0 of 1" in line for line in lines)


def test_nothing_names_a_method(client, folder):
    seen = json.dumps([client.trial(s) for s in "abcdef"])
    for path in ("/", "/study.js", "/study.css"):
        seen += client.get(path)[1].decode()
    assert not any(method in seen for method in load_study(folder).methods)
    assert not any(m in name for m in load_study(folder).methods for name in os.listdir(folder / "images"))


def test_the_page_asks_nobody_else(client):
    reply, data = client.send("GET", client.base + "/")
    assert "http" not in data.decode().replace("http-equiv", "")
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert reply.headers["Server"].strip() == "grefine"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", None, "127.0.0.1.evil.example"])
def test_foreign_hosts_are_refused(client, host):
    reply, _ = client.send("GET", client.base + "/", headers={"Host": host})
    assert reply.status in (400, 421)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/s/",
        "/s/wrong/",
        "/s/wrong/api/trial?subject=a",
        "/study.json",
        "/s",
        "//",
        "/s/%00/",
        "/s/%e9/",
        "/s/%ff/",
    ],
)
def test_without_the_secret_there_is_nothing(client, path):
    reply, _ = client.send("GET", path)
    assert reply.status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/study.json",
        "/votes.jsonl",
        "/secret",
        "/images/",
        "/images/../study.json",
        "/images/..%2fstudy.json",
        "/images/%2e%2e/votes.jsonl",
        "/images/..\\secret",
        "/images//etc/passwd",
        "/../../../../etc/passwd",
        "/images/%00.png",
        "/api/vote",
        "/study.js/",
    ],
)
def test_only_the_studys_files_are_served(client, path):
    status, data = client.get(path)
    assert status == 404
    assert b"root:" not in data


def test_images_are_served_as_they_are(client, folder):
    name = next(iter(load_study(folder).images))
    reply, data = client.send("GET", f"{client.base}/images/{name}")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "image/png"
    assert data == (folder / "images" / name).read_bytes()
    (folder / "images" / name).unlink()
    assert client.get(f"/images/{name}")[0] == 410


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Study": None},
        {"X-Study": "0" * 16},
    ],
)
def test_cross_site_posts_are_refused(client, folder, headers):
    trial = client.trial("ann")["trial"]["id"]
    assert client.vote("ann", trial, headers=headers)[0] == 403
    assert not read_ballots(folder, load_study(folder))


def test_a_form_post_is_refused(client):
    trial = client.trial("ann")["trial"]["id"]
    for kind in ("application/x-www-form-urlencoded", "text/plain", None):
        assert client.vote("ann", trial, headers={"Content-Type": kind})[0] == 415


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""},
        {"subject": "../x"},
        {"subject": "a" * 65},
        {"subject": "<b>"},
        {"subject": 3},
        {"trial": "nothing"},
        {"trial": None},
        {"choice": "both"},
        {"choice": 0.5},
        {"seconds": -1},
        {"seconds": "1"},
        {"seconds": True},
        {"seconds": None},
    ],
)
def test_bad_votes_are_refused(client, folder, change):
    message = {"subject": "ann", "trial": client.trial("ann")["trial"]["id"], "choice": "left", "seconds": 1}
    status, reply = client.post(json.dumps(message | change).encode())
    assert status == 400
    assert reply["error"].endswith(".")
    assert not read_ballots(folder, load_study(folder))


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", None, 400),
        (b"[]", None, 400),
        (b"[" * 4000, None, 400),
        (b'{"seconds": Infinity}', None, 400),
        (b"\xff\xfe", None, 400),
        (b"x" * 5000, None, 413),
        (b"{}", {"Content-Length": "-1"}, 413),
        (b"{}", {"Content-Length": "many"}, 411),
    ],
)
def test_bad_bodies_are_refused(client, body, headers, status):
    assert client.post(body, headers)[0] == status


def test_other_methods_are_refused(client):
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert client.send(method, client.base + "/")[0].status == 501


def test_opening_every_interface_needs_a_name(folder):
    with pytest.raises(ConfigError, match="--allow-host"):
        StudyServer(folder, host="0.0.0.0")
    with serving(folder, names=("lab.example",)) as server:
        client = Client(server)
        assert server.link.startswith(f"http://lab.example:{server.port}/s/")
        assert client.send("GET", client.base + "/", headers={"Host": f"lab.example:{server.port}"})[0].status == 200


def test_a_taken_port_is_one_sentence(folder, tmp_path, built):
    import shutil

    other = shutil.copytree(built, tmp_path / "other")
    with serving(folder) as server, pytest.raises(ConfigError, match="another --port"):
        StudyServer(other, port=server.port)


def test_exporting_nothing_is_an_error(folder, tmp_path):
    with pytest.raises(ConfigError, match="no votes"):
        export_votes(folder, tmp_path / "votes.csv")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        export_votes(folder, tmp_path / "votes.csv", min_attention=2)


def raw(server, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))


def test_requests_that_make_no_sense_are_answered_and_harm_nothing(folder, capfd):
    with serving(folder) as server:
        client = Client(server)
        trial = client.trial("ann")["trial"]["id"]
        for seconds in (10**400, -1, 10**10):
            assert client.vote("ann", trial, seconds=seconds)[0] == 400
        host = f"Host: 127.0.0.1:{server.port}\r\n\r\n".encode()
        for target in (b"http://[", b"//[", b"http://[::1"):
            status = raw(server, b"GET " + target + b" HTTP/1.1\r\n" + host).split(b" ")[1]
            assert status in (b"400", b"404")
        assert client.vote("ann", trial)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_requests_on_one_connection_do_not_wait_for_receipts(folder):
    with serving(folder) as server:
        line = http.client.HTTPConnection("127.0.0.1", server.port)
        start = time.perf_counter()
        for _ in range(40):
            line.request("GET", f"/s/{server.secret}/api/trial?subject=ann")
            assert line.getresponse().read()
        line.close()
    assert time.perf_counter() - start < 1.2, "40 ms a request is the receipt of the head being waited for"
