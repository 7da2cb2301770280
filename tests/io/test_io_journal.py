"""The journal is whole after any end: cut anywhere, damaged anywhere, full disk."""

from __future__ import annotations

import json
import os

import pytest

from grefine.io import atomic
from grefine.io.journal import Journal, read_journal

UNITS = [[{"kind": "a", "n": i, "name": "x\udcff\n"} for _ in range(1 + i % 3)] for i in range(6)]


def fill(path, units=UNITS):
    with Journal(path) as journal:
        for unit in units:
            journal.append(unit)


def numbers(path):
    return [row["n"] for row in read_journal(path)]


def test_rows_come_back(tmp_path):
    fill(tmp_path / "j")
    rows = list(read_journal(tmp_path / "j"))
    assert [row["n"] for row in rows] == [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5]
    assert rows[0]["name"] == "x\udcff\n"
    assert list(read_journal(tmp_path / "missing")) == []


def test_a_journal_cut_anywhere_keeps_exactly_its_whole_units(tmp_path):
    fill(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    ends, place = [], 0
    for unit in UNITS:
        for _ in unit:
            place = data.index(b"\n", place) + 1
        ends.append(place)
    for cut in range(0, len(data) + 1, 7):
        path = tmp_path / "cut"
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        expected = [row["n"] for unit in UNITS[:whole] for row in unit]
        assert numbers(path) == expected
        with Journal(path) as journal:
            assert bool(journal.repaired) == (cut not in (0, *ends))
            journal.append([{"n": 99}])
        assert numbers(path) == [*expected, 99]
        for line in path.read_bytes().splitlines():
            json.loads(line)


@pytest.mark.parametrize("garbage", [b"\x00" * 500, b'{"unit": 3', b"}\n{}\n\n", b'{"unit":9,"at":1,"of":2}\n', b"\n"])
def test_garbage_at_the_end_is_cut_off(tmp_path, garbage):
    path = tmp_path / "j"
    fill(path)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(garbage)
    with Journal(path) as journal:
        assert journal.repaired
    assert path.stat().st_size == size


def test_damage_in_the_middle_costs_only_its_unit(tmp_path):
    path = tmp_path / "j"
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"@@@" + lines[4][3:]
    path.write_bytes(b"".join(lines))
    with Journal(path) as journal:
        assert "copy" in journal.repaired
        journal.append([{"n": 7}])
    assert numbers(path) == [0, 1, 1, 3, 4, 4, 5, 5, 5, 7]
    assert (tmp_path / "j.damaged").read_bytes() == b"".join(lines)
    units = [row["unit"] for row in read_journal(path)]
    assert units == sorted(units)


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append([{"n": 1}])
        before = path.read_bytes()
        real = os.write

        def full(descriptor, data):
            if len(data) > 40:
                return real(descriptor, data[:40])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            journal.append([{"n": 2, "text": "x" * 100}])
        assert path.read_bytes() == before
        monkeypatch.setattr(os, "write", real)
        journal.append([{"n": 3}])
    assert numbers(path) == [1, 3]


def test_staged_files_get_their_names_together_or_not_at_all(tmp_path, monkeypatch):
    staged = [(atomic.stage(tmp_path / n, n.encode()), tmp_path / n) for n in ("a", "b", "c")]
    assert not (tmp_path / "a").exists()
    real, calls = os.replace, []

    def fail_third(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail_third)
    with pytest.raises(OSError, match="Input"):
        atomic.publish(staged)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_leftovers_are_found_by_their_name(tmp_path):
    atomic.stage(tmp_path / "a.png", b"half")
    (tmp_path / "a.png").write_bytes(b"mine")
    atomic.remove_partials(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
