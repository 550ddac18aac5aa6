"""Prediction of many rows: batches of columns, and folders of files in shards."""
