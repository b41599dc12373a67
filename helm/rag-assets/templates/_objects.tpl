{{- /*
What components have besides their pods. Each takes root and component; its name is that of the
release and the component's.
*/ -}}

{{- /* Also takes labels and annotations, besides those of every object. */ -}}
{{- define "rag-assets.metadata" -}}
name: {{ include "rag-assets.fullname" .root }}-{{ .component }}
labels:
  {{- include "rag-assets.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "rag-assets.componentSelector" -}}
{{ include "rag-assets.selector" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Also takes service (its values), or port and its name, targetPort. */ -}}
{{- define "rag-assets.service" -}}
{{- $port := default "http" .targetPort -}}
apiVersion: v1
kind: Service
metadata: {{ include "rag-assets.metadata" (merge (pick . "root" "component") (pick (default dict .service) "labels" "annotations")) | nindent 2 }}
spec:
  {{- with .service }}
  type: {{ .type }}
  {{- with .loadBalancerSourceRanges }}
  loadBalancerSourceRanges: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector: {{ include "rag-assets.componentSelector" . | nindent 4 }}
  ports: [{name: {{ $port }}, port: {{ int (default .port (default dict .service).port) }}, targetPort: {{ $port }}}]
{{- end }}

{{- define "rag-assets.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{ include "rag-assets.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1 # never holds a node's drain up,
  unhealthyPodEvictionPolicy: AlwaysAllow # not even with a pod that does not get ready
  selector:
    matchLabels: {{ include "rag-assets.componentSelector" . | nindent 6 }}
{{- end }}

{{- /* Also takes autoscaling, its values. */ -}}
{{- define "rag-assets.autoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{ include "rag-assets.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "rag-assets.fullname" .root }}-{{ .component }}}
  minReplicas: {{ int .autoscaling.minReplicas }}
  maxReplicas: {{ int .autoscaling.maxReplicas }}
  {{- with .autoscaling.metrics }}
  metrics: {{ toYaml . | nindent 4 }}
  {{- else }}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ int .autoscaling.cpuPercent }}}}}]
  {{- end }}
{{- end }}

{{- /* Also takes from, the peers that may reach the port, and port, its name. */ -}}
{{- define "rag-assets.allow" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ include "rag-assets.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels: {{ include "rag-assets.componentSelector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    - from: {{ toYaml .from | nindent 8 }}
      ports: [{port: {{ .port }}}]
{{- end }}

{{- /* A peer: the pods of these components of the release; without any, all of its pods. */ -}}
{{- define "rag-assets.peer" -}}
podSelector:
  matchLabels: {{ include "rag-assets.selector" .root | nindent 4 }}
  {{- with .components }}
  matchExpressions: [{key: app.kubernetes.io/component, operator: In, values: {{ toJson . }}}]
  {{- end }}
{{- end }}

{{- /* Also takes monitor (its values), port (its name), path. */ -}}
{{- define "rag-assets.serviceMonitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {{ include "rag-assets.metadata" (merge (pick . "root" "component") (pick .monitor "labels")) | nindent 2 }}
spec:
  selector:
    matchLabels: {{ include "rag-assets.componentSelector" . | nindent 6 }}
  endpoints: [{port: {{ .port }}, path: {{ .path }}, interval: {{ .monitor.interval }}}]
{{- end }}

{{- /* Also takes ingress (its values), path, service; name instead of the component's. */ -}}
{{- define "rag-assets.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .name }}
  labels: {{ include "rag-assets.labels" .root | nindent 4 }}
  {{- with .ingress.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- if .ingress.tlsSecret }}
  tls: [{hosts: [{{ .ingress.host }}], secretName: {{ .ingress.tlsSecret }}}]
  {{- end }}
  rules:
    - host: {{ .ingress.host }}
      http:
        paths:
          - path: {{ .path }}
            pathType: Prefix
            backend: {service: {name: {{ .service }}, port: {name: http}}}
{{- end }}
