"""Commands that show the state of the platform."""
