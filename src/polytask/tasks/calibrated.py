"""The base class of tasks whose probabilities one temperature calibrates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from polytask.tasks.arrays import Outputs, rounded
from polytask.tasks.task import Task
from polytask.terms import Label


class Calibrated(Task):
    """A task whose outputs are divided by a temperature, fitted on dev if `calibrate` is set."""

    options: Any  # a subclass of CalibratedOptions
    temperature: float

    @abstractmethod
    def temperature_for(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None
    ) -> tuple[float, list[str]]:
        """Return the temperature that fits the dev rows best, and notes for the user.

        Args:
            outputs, labels, words: as for `tuned`.
        """

    @property
    def calibrates(self) -> bool:
        return self.options.calibrate

    @property
    def fits_on_dev(self) -> bool:
        return self.options.calibrate

    def tuned(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Self, list[str]]:
        if not self.options.calibrate:
            return self.uncalibrated(), []
        temperature, notes = self.temperature_for(outputs, labels, words)
        return replace(self, temperature=temperature), notes  # type: ignore[type-var]

    def describe_tuned(self) -> dict[str, Any]:
        return {"temperature": rounded(self.temperature)}

    def uncalibrated(self) -> Self:
        return replace(self, temperature=1.0)  # type: ignore[type-var]
