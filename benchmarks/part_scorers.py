"""The scorers' benchmark as a part of the page: what `benchmarks/scorers.py` compares, in interleaved rounds."""

from __future__ import annotations

from benchmarks import scorers
from benchmarks.part import Part, Table

PROMISED = {"v1": 1.25, "v2": 1.1}


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure MoE-AGIQA against the published procedure, and what the other networks cost."""
    del device
    rounds, crops = (1, 5) if quick else (2, 15)
    rows = []
    for name, depth in (("v1", None), ("v2", 12)):
        rows.append(scorers.moe_version(name, depth, rounds, crops, PROMISED[name]))
    tables = []
    if not quick:
        lar, mdiqa = scorers.lar(rounds), scorers.mdiqa(rounds)
        tables = [
            Table(
                "LAR-IQA at its released recipe beside networks of its peers' shapes (512² pictures)",
                ["network", "GMACs", "CPU s"],
                [[name, cost["gmacs"], cost["cpu_s"]] for name, cost in lar.items()],
            ),
            Table(
                "MDIQA pays for the dimensions that are asked (512x384 unless it says otherwise)",
                ["asked", "GMACs", "CPU s"],
                [[name, cost["gmacs"], cost["cpu_s"]] for name, cost in mdiqa.items()],
            ),
        ]
    notes = [
        "The published procedure runs all twelve blocks for every crop, one crop at a time; ours stops at the last "
        "block "
        "that is read, takes the distinct crops together and reads the prompt once. Ratios by counted work are the "
        "quotients of the GMACs."
    ]
    if quick:
        notes.append("Quick runs take 5 crops instead of 15 and leave LAR-IQA, its peers and MDIQA out.")
    missed = [row["what"] for row in rows if not row["met"]]
    if missed:
        notes.append(
            f"Missed: {'; '.join(missed)}. The work that is saved is fixed by the published depth; what is left of it "
            "depends on how the machine's other work shares caches with one batch of crops."
        )
    return Part(
        "scorers",
        "Scorers",
        "MoE-AGIQA's evaluation of one 512² picture against the published procedure, same random weights, equal "
        "scores.",
        rows,
        tables,
        notes=notes,
    )
