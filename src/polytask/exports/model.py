"""Export to a model folder with the requested tasks only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polytask.exports.exporter import Exported, Exporter

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle


class ModelExport(Exporter):
    """Writes a polytask model folder."""

    def write(self, bundle: Bundle, out: Path) -> Exported:
        from polytask.artifact.folder import save_bundle

        save_bundle(out, bundle)
        return Exported({"model": out})
