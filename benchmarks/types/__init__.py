"""Benchmarks of task types: one file a type."""  # noqa: A005
