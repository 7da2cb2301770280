"""A study and its journal after a crash, a full disk, or a hand that edited them."""

from __future__ import annotations

import json
import os

import pytest
from study_fixtures import Client, serving

from grefine.errors import ConfigError
from grefine.ranking.server import StudyServer
from grefine.ranking.study import JOURNAL, Ballot, VoteJournal, load_study, read_ballots, trials_of


def test_a_torn_last_line_is_cut_and_nothing_else(folder):
    study = load_study(folder)
    ids = [t.id for t in trials_of(study, "ann")]
    with VoteJournal(folder, study) as journal:
        for trial in ids[:3]:
            journal.record(Ballot(study.digest, "ann", trial, "a", "left", 1.0, "now"))
    path = folder / JOURNAL
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        assert len(read_ballots(folder, study)) == 2
        with VoteJournal(folder, study) as journal:
            assert len(journal) == 2
            assert journal.record(Ballot(study.digest, "ann", ids[2], "a", "left", 1.0, "now")) == "new"
        assert path.read_bytes() == whole


def test_a_full_disk_loses_no_vote_and_keeps_the_journal_whole(folder, monkeypatch):
    from grefine.io import journal as module

    study = load_study(folder)
    ids = [t.id for t in trials_of(study, "ann")]

    def half(descriptor, data):
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with serving(folder) as server:
        client = Client(server)
        assert client.vote("ann", ids[0])[0] == 200
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_all", half)
            status, reply = client.vote("ann", ids[1])
            assert status == 503
            assert "not counted" in reply["error"]
        assert client.vote("ann", ids[1])[1]["receipt"] == "new"
    assert [b.trial for b in read_ballots(folder, study)] == ids[:2]


def test_two_servers_do_not_share_a_journal(folder):
    with serving(folder), pytest.raises(ConfigError, match="Another server"):
        StudyServer(folder)


@pytest.mark.parametrize("damage", ["junk\n", "{}\n", '["a"]\n'])
def test_an_edited_journal_is_refused(folder, damage):
    (folder / JOURNAL).write_text(damage)
    with pytest.raises(ConfigError, match="line 1"):
        StudyServer(folder)


def test_a_doubled_journal_line_is_refused(folder):
    study = load_study(folder)
    with VoteJournal(folder, study) as journal:
        journal.record(Ballot(study.digest, "ann", study.pairs[0].id, "a", "left", 1.0, "now"))
    line = (folder / JOURNAL).read_text()
    (folder / JOURNAL).write_text(line * 2)
    with pytest.raises(ConfigError, match="line 2 repeats the vote of line 1"):
        StudyServer(folder)
    (folder / JOURNAL).write_text(line.replace(study.digest, "0" * 16))
    with pytest.raises(ConfigError, match="another study"):
        StudyServer(folder)


def edit(folder, change):
    record = json.loads((folder / "study.json").read_text())
    change(record)
    (folder / "study.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(question="?"), "changed after"),
        (lambda r: r["pairs"][0].update(method_a="gamma"), "changed after"),
        (lambda r: r["pairs"][0].update(file_a="../../secret"), "changed after"),
        (lambda r: r["pairs"][0].pop("id"), "missing"),
        (lambda r: r.update(version=9), "version 9"),
        (lambda r: r.update(extra=1), "unknown key 'extra'"),
        (lambda r: r.update(pairs="none"), "must be a list"),
    ],
)
def test_an_edited_study_is_refused(folder, change, says):
    edit(folder, change)
    with pytest.raises(ConfigError, match=says):
        load_study(folder)


def test_changed_or_missing_images_are_refused(folder):
    name = next(iter(load_study(folder).images))
    (folder / "images" / name).write_bytes(b"other")
    with pytest.raises(ConfigError, match="was changed"):
        load_study(folder)
    (folder / "images" / name).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_study(folder)
    with pytest.raises(ConfigError, match="not a study folder"):
        load_study(folder / "images")
