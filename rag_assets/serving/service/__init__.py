"""The search service: `Searcher` over HTTP."""
