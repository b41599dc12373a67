"""A stand-in for a Kubernetes cluster, and what is tested against it.

It serves the part of the API that dagster-k8s and our reaper use (`api.py`; a test asserts that
nothing else was asked for), as far as a Role goes. It has a Job controller and a scheduler that
knows taints, selectors and GPU counts (`controllers.py`). It comes in two strengths:

| | `Cluster`, for `test_faults` | `Namespace`, for `test_installation` |
| --- | --- | --- |
| what runs in it | the scenarios' runs | the rendered chart: deployments, hooks, runs |
| containers | processes (`kubelet.py`) | processes with a root of their own (`containers.py`) |
| the pods' user, read-only root, volumes, claims | no | yes; takes root |
| API | one token, one Role | TLS; service accounts, their tokens and the chart's Roles |
| admission | schemas, GPU counts | also the Pod Security Standard `restricted` |
| probes, rollouts of deployments, the one pod of a StatefulSet, names of services | no | yes |
| SIGTERM spares process 1 without a handler, if the pod shares no process namespace | yes | yes |
| a Service's connections, each to one of the pods that are ready | no | where a test asks for one |

It is a model. It was compared with documentation and schemas, never with a real API server. It
enforces no limits of CPU and memory, no NetworkPolicies or disruption budgets, scales nothing, and
does not know what is in an image or what a preStop hook is. Pods share the loopback interface:
`deployments.py` says what follows from that. Nothing can be watched: our software polls.
"""
