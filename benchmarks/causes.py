"""Why a target is missed, by what was measured and against what; the page shows it beside the miss, and only then."""

CAUSES: dict[tuple[str, str], str] = {}
