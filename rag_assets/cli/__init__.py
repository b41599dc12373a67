"""The command line, one file for each group of commands; `main.py` is where it starts."""
