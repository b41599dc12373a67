"""The files of a lake: bytes to tables and back."""
