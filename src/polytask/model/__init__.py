"""The model: encoder, heads, and their composition along the sharing plan."""
