"""The gallery page: pictures before and after, maps, and the record of each; no statistics."""
