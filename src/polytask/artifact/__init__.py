"""The model folder: what is shipped. Reading it needs no training code."""
