"""Results that are in OUT though no journal tells of them: told apart from strangers by the record they carry."""

from typing import Any

from grefine.errors import ImageError
from grefine.folder.worklist import WorkItem
from grefine.io.content import content_hash
from grefine.io.encode import read_embedded
from grefine.io.images import read_bytes
from grefine.io.record import RefineRecord, read_record


def own_record(item: WorkItem, config_hash: str) -> RefineRecord | None:
    """Return the record of a result that an equal run made of this very input; None for any other file."""
    try:
        record = read_record(read_embedded(read_bytes(item.output)))
        if record is None or record.config != config_hash or record.source != content_hash(item.read()):
            return None
    except (ImageError, OSError):
        return None
    return record


def adopted_row(item: WorkItem, record: RefineRecord) -> dict[str, Any]:
    """Return the journal row that the result's own run would have written, but for the time that it took."""
    looked = ("seed", "area", "moved", "regions", "missing") if record.regions is not None else ()
    return {
        "kind": "image",
        "file": item.relative,
        "source": item.where,
        "state": record.state,
        "reason": record.reason,
        "input": {"sha256": record.source} | item.state(),
        "prompt": record.prompt[:2000],
        "prompt_origin": record.prompt_origin,
        "output": item.name,
        "decision": {"kept": record.kept, "guarded": record.guarded},
        "scores": {"before": dict(record.before), "after": dict(record.after)},
        "size": record.size,
        **{name: getattr(record, name) for name in looked},
        "notes": ["found in OUT with its record; the journal did not tell of it."],
    }
