"""Which runs are requested when, in which lane, and on which pods."""
