"""Many rows: batches of columns, and folders of files that are answered by shards."""
