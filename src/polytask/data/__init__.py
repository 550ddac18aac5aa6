"""From files to batches: readers, rows in Arrow, token ids, the resumable stream, and the mixed batch."""
