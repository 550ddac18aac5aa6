"""The same kind of folder, with the tasks that were asked for only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polytask.exports.exporter import Exported, Exporter

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle


class ModelExport(Exporter):
    """A model folder of polytask's own."""

    def write(self, bundle: Bundle, out: Path) -> Exported:
        from polytask.artifact.folder import save_bundle

        save_bundle(out, bundle)
        return Exported({"model": out})
