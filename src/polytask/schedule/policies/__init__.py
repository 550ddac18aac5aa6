"""Policies: from feedback to the tasks' shares. A new policy is one file and one row here."""

from __future__ import annotations

from polytask.schedule.policies.bandit import Bandit
from polytask.schedule.policies.dev_gap import DevGap
from polytask.schedule.policies.loss_rate import LossRate
from polytask.schedule.policies.policy import LEAST, POLICIES, Policy, PolicyOptions
from polytask.schedule.policies.stop_and_go import StopAndGo
from polytask.schedule.policies.training_error import TrainingErrorPolicy

POLICIES.base = Policy
POLICIES.update(
    {
        "training_error": TrainingErrorPolicy,
        "loss_rate": LossRate,
        "dev_gap": DevGap,
        "bandit": Bandit,
        "stop_and_go": StopAndGo,
    }
)

__all__ = ["LEAST", "POLICIES", "Policy", "PolicyOptions"]
