"""Rules for requesting runs: which, when, in which lane, and on which pods."""
