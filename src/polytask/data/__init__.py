"""From files to batches: readers, rows in Arrow, token ids, the resumable stream, and multi-task batches."""
