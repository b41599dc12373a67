"""How runs are launched: on one machine, and as pods on Kubernetes."""
