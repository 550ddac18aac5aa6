"""Balancers: how the losses of a step become one update. A new balancer is one class and one row here."""

from __future__ import annotations

from polytask.balance import by_gradient, by_gram, by_loss, by_rows
from polytask.balance.auto import AutoOptions, resolve_balance
from polytask.balance.balancer import BalanceOptions, Balancer, require_balanceable
from polytask.balance.sum import SumOptions
from polytask.registry import Table

_METHODS: dict[str, type[BalanceOptions]] = {
    "auto": AutoOptions,
    "sum": SumOptions,
    "rows": by_rows.RowsOptions,
    "equal_norms": by_gram.EqualNormsOptions,
    "uncertainty": by_loss.UncertaintyOptions,
    "imtl_l": by_loss.ImtlLOptions,
    "dwa": by_loss.DwaOptions,
    "famo": by_loss.FamoOptions,
    "stch": by_loss.StchOptions,
    "geometric_mean": by_loss.GeometricMeanOptions,
    "random": by_loss.RandomOptions,
    "cosmos": by_loss.CosmosOptions,
    "pbi": by_loss.PbiOptions,
    "gradnorm": by_gram.GradnormOptions,
    "upgrad": by_gram.UpgradOptions,
    "dualproj": by_gram.DualprojOptions,
    "mgda": by_gram.MgdaOptions,
    "pcgrad": by_gram.PcgradOptions,
    "gradvac": by_gram.GradvacOptions,
    "cagrad": by_gram.CagradOptions,
    "nash_mtl": by_gram.NashMtlOptions,
    "aligned_mtl": by_gram.AlignedMtlOptions,
    "imtl_g": by_gram.ImtlGOptions,
    "config": by_gram.ConfigMethodOptions,
    "fairgrad": by_gram.FairgradOptions,
    "pcd": by_gram.PcdOptions,
    "krum": by_gram.KrumOptions,
    "graddrop": by_gradient.GraddropOptions,
    "trimmed_mean": by_gradient.TrimmedMeanOptions,
}
BALANCERS = Table("balancer", _METHODS, base=BalanceOptions, tag="method")

__all__ = [
    "BALANCERS",
    "AutoOptions",
    "BalanceOptions",
    "Balancer",
    "SumOptions",
    "require_balanceable",
    "resolve_balance",
]
