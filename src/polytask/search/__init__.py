"""The search of `polytask auto` for the best plan within a budget (`polytask.search.search`)."""
