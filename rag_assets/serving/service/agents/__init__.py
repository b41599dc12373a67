"""The search as tools of the Model Context Protocol."""
