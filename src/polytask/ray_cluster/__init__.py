"""Ray: workers and runs on the machines of a cluster, or of this one. Nothing else imports it."""
