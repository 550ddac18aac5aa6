"""The model folder: what is shipped. Reading it needs no training code."""

from __future__ import annotations

from polytask.artifact.folder import Bundle, load_bundle, save_bundle

__all__ = ["Bundle", "load_bundle", "save_bundle"]
