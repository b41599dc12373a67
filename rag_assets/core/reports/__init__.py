"""What is reported to people: state, spending, alerts, previews, and their words."""
