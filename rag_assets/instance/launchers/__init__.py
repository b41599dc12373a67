"""Run launchers: for one machine, and for pods on Kubernetes."""
