"""What the tasks of a run share, at its start and at its end, and each change between."""

from __future__ import annotations

from collections.abc import Iterator

from polytask.page.block import Block, BulletList, Chart, Code, Details, MissingNote, TableBlock, TextBlock, drawn
from polytask.page.chart import tree
from polytask.page.folder import RunFolder
from polytask.page.wording import count, number

# Events that change what the tasks share.
CHANGES = ("split", "merge", "head_split")


def sharing(run: RunFolder) -> Iterator[Block]:
    """Yield the plan as a tree, how it changed, and what stands beside the tree."""
    start, end = run.record.start_plan, run.sharing.plan if run.sharing is not None else None
    changes = run.events_of("split", "merge")
    if end is None and changes:
        end = changes[-1].plan  # of a run that goes on
    charts: list[Chart | None] = []
    if start is not None and start != end:
        charts.append(tree("At the start", start))
    if end is not None:
        charts.append(tree("At the end" if charts else "All through the run", end))
    strategy = run.option("sharing", "strategy")
    if isinstance(strategy, str):
        yield TextBlock(f"Strategy: {strategy}.{_beside(run)}")
    yield drawn(
        charts,
        "the plan: run.json does not hold it" + (" yet." if not run.finished else "."),
        "From the text on the left to the tasks on the right. A box is one set of weights: filled where tasks share "
        "it, dashed where one task has it to itself.",
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
            "similarity, a layer each",
            "measurements",
            "parameters then",
        ]
        yield TableBlock("How the plan changed", columns, rows, words=2)
    heads = run.events_of("head_split")
    if heads:
        yield BulletList(
            [
                f"Step {event.step}: {' | '.join(', '.join(group) for group in event.groups)} have heads of their own, "
                f"which foretold the labels better than one head: {number(event.evidence, 1)} nats, of which "
                f"{number(event.threshold, 1)} were needed."
                for event in heads
            ]
        )
    elif strategy == "adaptive" and not changes:
        yield TextBlock(
            "The plan has not changed: no conflict between the tasks was strong and lasting enough, or a split was "
            "beyond the budget."
        )
    if not charts and not changes and not run.record.picture and run.config.value is None:
        yield MissingNote("the strategy: config.yaml is not known.")


def _beside(run: RunFolder) -> str:
    """Say what no tree shows."""
    found = run.sharing
    if found is None:
        return ""
    words: list[str] = []
    kind = found.kind.get("name")
    if kind and kind != "copy":
        words.append(f" What a box holds: {kind}.")
    if found.mixing is not None:
        words.append(
            f" From layer {found.mixing.get('from_layer')} up, {found.mixing.get('method')} mixes what the tree gives."
        )
    words.extend(f" One head for {', '.join(group)}." for group in found.heads)
    return "".join(words)
