"""Who holds what, and who sees what."""
