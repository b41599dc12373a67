"""How applications use the query side: a client of the service, and retrievers of frameworks."""
