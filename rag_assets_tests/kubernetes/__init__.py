"""A stand-in for a Kubernetes cluster, and what is tested against it.

It serves the part of the API that dagster-k8s and our reaper use (`api.py`; a test asserts that
nothing else was asked for), with service-account tokens over TLS and the chart's own Roles. It has
a Job controller and a scheduler that knows taints, selectors and GPU counts (`cluster.py`), and a
kubelet that runs each container as a process with a root of its own (`kubelet.py`).

It is a model. It was compared with documentation and schemas, never with a real API server. It
enforces user, read-only root, volumes, Roles, Pod Security and GPU counts; not the limits of CPU
and memory, NetworkPolicies, disruption budgets or image contents. Nothing can be watched: our
software polls.
"""
