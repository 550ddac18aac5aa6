"""The sharing plan of a run at its start and end, and all changes in between."""

from __future__ import annotations

from collections.abc import Iterator

from polytask.page.block import Block, BulletList, Chart, Code, Details, MissingNote, TableBlock, TextBlock, drawn
from polytask.page.chart import tree
from polytask.page.folder import RunFolder
from polytask.page.wording import count, number

# Events that change the sharing plan.
CHANGES = ("split", "merge", "head_split")


def sharing(run: RunFolder) -> Iterator[Block]:
    """Yield the plan as a tree, its changes, and the parts of the sharing that the tree does not show."""
    start, end = run.record.start_plan, run.sharing.plan if run.sharing is not None else None
    changes = run.events_of("split", "merge")
    if end is None and changes:
        end = changes[-1].plan  # for an unfinished run
    charts: list[Chart | None] = []
    if start is not None and start != end:
        charts.append(tree("At the start", start))
    if end is not None:
        charts.append(tree("At the end" if charts else "Throughout the run", end))
    strategy = run.option("sharing", "strategy")
    if isinstance(strategy, str):
        yield TextBlock(f"Strategy: {strategy}.{_not_in_tree(run)}")
    yield drawn(
        charts,
        "the plan: run.json does not contain it" + (" yet." if not run.finished else "."),
        "From the text on the left to the tasks on the right. A box is one set of weights: filled if several tasks "
        "share it, dashed if only one task uses it.",
    )
    if run.record.picture:
        yield Details("The same as text", [Code("The plan, the top layer first", run.record.picture)])
    if changes:
        rows = [
            [
                event.event,
                " | ".join(", ".join(group) for group in event.groups),
                f"{event.step}",
                f"{event.layer}",
                " ".join(number(value, 2) for value in event.similarity),
                count(event.measurements),
                count(event.parameters),
            ]
            for event in changes
        ]
        columns = [
            "change",
            "groups",
            "step",
            "from layer",
            "similarity by layer",
            "measurements",
            "parameters after it",
        ]
        yield TableBlock("How the plan changed", columns, rows, words=2)
    heads = run.events_of("head_split")
    if heads:
        yield BulletList(
            [
                f"Step {event.step}: {' | '.join(', '.join(group) for group in event.groups)} got separate heads, "
                f"which predicted the labels better than one head: by {number(event.evidence, 1)} nats, with a "
                f"threshold of {number(event.threshold, 1)}."
                for event in heads
            ]
        )
    elif strategy == "adaptive" and not changes:
        yield TextBlock(
            "The plan has not changed: no conflict between the tasks was strong and persistent enough, or a split "
            "exceeded the budget."
        )
    if not charts and not changes and not run.record.picture and run.config.value is None:
        yield MissingNote("the strategy: config.yaml cannot be read.")


def _not_in_tree(run: RunFolder) -> str:
    """Describe the parts of the sharing that the tree does not show."""
    sharing = run.sharing
    if sharing is None:
        return ""
    words: list[str] = []
    kind = sharing.kind.get("name")
    if kind and kind != "copy":
        words.append(f" Kind of parts: {kind}.")
    if sharing.mixing is not None:
        words.append(
            f" From layer {sharing.mixing.get('from_layer')} up, {sharing.mixing.get('method')} "
            "mixes the outputs of the tree."
        )
    words.extend(f" One head for {', '.join(group)}." for group in sharing.heads)
    return "".join(words)
