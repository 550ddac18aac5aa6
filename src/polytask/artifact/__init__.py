"""The model folder: what is shipped. Reading it needs no training code."""

from __future__ import annotations

from polytask.artifact.folder import Bundle, Contents, load_bundle, read_contents, save_bundle

__all__ = ["Bundle", "Contents", "load_bundle", "read_contents", "save_bundle"]
