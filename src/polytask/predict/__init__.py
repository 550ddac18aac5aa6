"""Prediction: all tasks from one pass through the encoder."""
