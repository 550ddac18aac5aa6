"""What single models get of a budget, and what is said of it."""

from __future__ import annotations

from polytask.comparison.preparation import short_notes
from polytask.training.options import TrainOptions


def test_single_models_with_clearly_fewer_epochs_are_named() -> None:
    (note,) = short_notes({"slots": 0.37, "intent": 0.84, "small": 4.0}, TrainOptions(epochs=1))
    assert note.endswith("less than train.epochs = 1: slots 0.37 epochs")
    assert short_notes({"slots": 0.8, "intent": 1.0}, TrainOptions(epochs=1)) == []
    assert short_notes({"slots": 0.37}, TrainOptions(epochs=1, max_steps=2)) == []
