"""The graph of tasks and the tasks that they need: waves in topological order, and errors that name a cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from polytask.errors import ConfigError, nearest


def waves(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the tasks in waves: each wave needs only tasks of earlier ones; ties keep the given order.

    Raises ConfigError for an unknown name, and for a cycle, which it names.

    >>> waves({"slots": ["intent"], "intent": [], "topic": []})
    [['intent', 'topic'], ['slots']]
    """
    for task, needed in needs.items():
        for name in needed:
            if name not in needs:
                raise ConfigError(f"tasks.{task}.needs: found {name!r}; {nearest(name, needs)}")
    sorter = TopologicalSorter({task: list(needed) for task, needed in needs.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise ConfigError(
            f"tasks: needs form a cycle: {cycle} (each task needs the next one); leave out one of these needs"
        ) from None
    place = {task: index for index, task in enumerate(needs)}
    found: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        found.append(ready)
        sorter.done(*ready)
    return found


def in_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the tasks in topological order: each after those that it needs, otherwise in the given order.

    >>> in_order({"slots": ["intent"], "intent": [], "topic": []})
    ['intent', 'slots', 'topic']
    """
    ordered: list[str] = []
    waiting = [task for wave in waves(needs) for task in wave]
    place = {task: index for index, task in enumerate(needs)}
    while waiting:
        ready = [task for task in waiting if all(need in ordered for need in needs[task])]
        ordered.append(min(ready, key=place.__getitem__))
        waiting.remove(ordered[-1])
    return ordered
