"""From tasks to the best plan under a budget: what `polytask auto` calls (`polytask.search.search`)."""
