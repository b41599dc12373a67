"""A stand-in for a Kubernetes cluster, and what is tested against it.

It serves the part of the API that dagster-k8s and our reaper use (`api.py`; a test asserts that
nothing else was asked for), to whoever has the one account's token, as far as its Role goes. It has
a Job controller and a scheduler that knows taints, selectors and GPU counts (`controllers.py`),
and a kubelet that runs each container as a local process (`kubelet.py`).

It is a model. It was compared with documentation and schemas, never with a real API server. It
enforces the schemas, the Role, the references to ConfigMaps and Secrets, placement and GPU counts;
not users, volumes, limits of CPU and memory, NetworkPolicies, probes or image contents. A run's pod
shares the machine's files. Nothing can be watched: our software polls.
"""
