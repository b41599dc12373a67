"""Rules of sources: their declaration, their states, and what a listing of one is to do next."""
