"""Vote tables: what is read, what is refused, and how it is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from grefine.errors import ConfigError
from grefine.ranking.votes import Vote, in_group, read_votes, votes_csv

HEADER = "method_a,method_b,group,lr_image,votes_a,votes_b"


def write(path, *rows, header=HEADER):
    file = path / "votes.csv"
    file.write_text("\n".join((header, *rows)) + "\n")
    return file


def test_counts_and_leading_zeros(tmp_path):
    table = read_votes(write(tmp_path, "A,B,mad,007,3,1", "B,A,mad,7,2,0", "C,A,mid,1,0,5"))
    assert table.methods == ("A", "B", "C")
    assert table.counts().tolist() == [[0, 3, 5], [3, 0, 0], [0, 0, 0]]
    assert table.votes[0].image == "007"
    assert not table.has_subjects
    assert in_group(table, "mid").total == 5
    assert in_group(table, None) is table


def test_a_table_survives_writing(tmp_path):
    votes = [Vote("A", 'B "x", y', "ü 1", 1, 0, "ann", "mad", 3), Vote("A", 'B "x", y', "2", 0, 1, "ann", "mad", None)]
    (tmp_path / "votes.csv").write_bytes(votes_csv(votes))
    assert list(read_votes(tmp_path / "votes.csv").votes) == votes


def test_extra_columns_and_empty_rows_are_ignored(tmp_path):
    table = read_votes(write(tmp_path, "A,B,mad,1,3,1,9", "A,B,mad,2,0,0,9", header=HEADER + ",clipiqa"))
    assert table.total == 4
    assert len(table.votes) == 1


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("A,B,mad,1,-3,1", "line 3: votes_a is '-3': votes are whole numbers from 0"),
        ("A,B,mad,1,0.5,0.5", "line 3: votes_a is '0.5': votes are whole numbers"),
        ("A,B,mad,1,3,", "line 3: votes_b is '': votes are whole numbers"),
        ("A,B,mad,1,many,1", "whole numbers"),
        ("A,B,mad,1,nan,1", "whole numbers"),
        ("A,B,mad,1,inf,1", "whole numbers"),
        ("A,A,mad,1,3,1", "line 3: two methods are compared, but it names 'A' and 'A'"),
        (",B,mad,1,3,1", "names '' and 'B'"),
    ],
)
def test_bad_rows_are_named_by_line(tmp_path, row, says):
    with pytest.raises(ConfigError, match=says):
        read_votes(write(tmp_path, "A,B,mad,0,1,1", row))


def test_other_bad_tables(tmp_path):
    with pytest.raises(ConfigError, match="no column 'method_b'"):
        read_votes(write(tmp_path, "A,1,2", header="method_a,votes_a,votes_b"))
    with pytest.raises(ConfigError, match="'C', which is not among A, B"):
        read_votes(write(tmp_path, "A,C,mad,1,1,1"), methods=["A", "B"])
    with pytest.raises(ConfigError, match="at least two methods"):
        read_votes(write(tmp_path))
    with pytest.raises(ConfigError, match="Cannot read"):
        read_votes(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_votes(tmp_path / "binary.csv")
    with pytest.raises(ConfigError, match="there are mad"):
        in_group(read_votes(write(tmp_path, "A,B,mad,1,1,1")), "mid")


def test_a_doubled_vote_is_refused(tmp_path):
    header = "method_a,method_b,image,votes_a,votes_b,subject"
    with pytest.raises(ConfigError, match="'ann' votes twice on image '1'"):
        read_votes(write(tmp_path, "A,B,1,1,0,ann", "B,A,1,1,0,ann", header=header))


def test_shares_become_counts(tmp_path):
    header = "sr_pair_names,group,name1_column,name2_column,score1_column,score2_column,some_metric"
    rows = [
        f"A_B,mad,Canon_007_A.png,Canon_007_B.png,{5 / 23},{18 / 23},1",
        f"A_C-2,mid,x_A.png,x_C-2.png,{22 / 23},{1 / 23},0",
        ",,,,,,0.5",
    ]
    table = read_votes(write(tmp_path, *rows, header=header))
    assert table.methods == ("A", "B", "C-2")
    assert [(v.votes_a, v.votes_b, v.image) for v in table.votes] == [(5, 18, "Canon_007"), (22, 1, "x")]
    with pytest.raises(ConfigError, match="add up to 1"):
        read_votes(write(tmp_path, "A_B,mad,x_A.png,x_B.png,0.5,0.6,1", header=header))


@pytest.mark.weights
def test_the_real_votes_can_be_read():
    if "GREFINE_DATA" not in os.environ:
        pytest.skip("GREFINE_DATA is not set: the real votes were not read")
    table = read_votes(Path(os.environ["GREFINE_DATA"]) / "sr_iqa_votes.csv")
    assert (len(table.votes), table.total, len(table.methods)) == (1056, 24288, 12)
