"""Many rows: columns in, columns out, for engines that hand out batches; and folders of files, answered by shards."""
