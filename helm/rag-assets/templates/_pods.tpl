{{- /* What all pods have in common: where things are mounted, and what they are told. */ -}}

{{- define "rag-assets.home" -}}/opt/dagster/home{{- end }}

{{- /* Pod Security "restricted", and a root that is read-only. No value takes any of it away. */ -}}
{{- define "rag-assets.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- range $name := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with index $.Values.podSecurity $name }}
{{ $name }}: {{ int . }}
{{- end }}
{{- end }}
{{- if .Values.podSecurity.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}

{{- define "rag-assets.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "rag-assets.instanceEnv" -}}
- {name: DAGSTER_HOME, value: {{ include "rag-assets.home" . }}}
- name: DAGSTER_PG_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.postgres.existingSecret }}, key: postgresql-password}}
{{- end }}

{{- /* Takes root; optional: secret, instead of the credentials of all. */ -}}
{{- define "rag-assets.settingsFrom" -}}
- configMapRef: {name: {{ include "rag-assets.fullname" .root }}-settings}
{{- with default .root.Values.credentials.existingSecret .secret }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- /*
Volumes of every pod. A pod of a pre-install hook has no others: what the release itself brings,
models and weights, is not there before it.
*/ -}}
{{- define "rag-assets.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: {{ .Values.runs.scratchSize }}}}
{{- with .Values.caBundle.configMap }}
- {name: ca-bundle, configMap: {name: {{ . }}}}
{{- end }}
{{- end }}

{{- define "rag-assets.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.caBundle.configMap }}
- {name: ca-bundle, mountPath: /etc/rag-assets/ca, readOnly: true}
{{- end }}
{{- end }}

{{- /* Volumes of what works with source, lake, models and Milvus. */ -}}
{{- define "rag-assets.dataVolumes" -}}
{{- $full := include "rag-assets.fullname" . }}
{{- include "rag-assets.volumes" . }}
{{- if .Values.sources }}
- {name: sources, configMap: {name: {{ $full }}-sources}}
{{- end }}
{{- if .Values.models }}
- {name: model-specs, configMap: {name: {{ $full }}-models}}
{{- end }}
{{- if .Values.metadata }}
- {name: metadata, configMap: {name: {{ $full }}-metadata}}
{{- end }}
{{- if .Values.modelCache.claim.enabled }}
- {name: weights, persistentVolumeClaim: {claimName: {{ default (printf "%s-weights" $full) .Values.modelCache.claim.existingClaim }}}}
{{- else if .Values.modelCache.image }}
- {name: weights, emptyDir: {}}
{{- end }}
{{- end }}

{{- define "rag-assets.dataMounts" -}}
{{- include "rag-assets.mounts" . }}
{{- if .Values.sources }}
- {name: sources, mountPath: /etc/rag-assets/sources, readOnly: true}
{{- end }}
{{- if .Values.models }}
- {name: model-specs, mountPath: /etc/rag-assets/models, readOnly: true}
{{- end }}
{{- if .Values.metadata }}
- {name: metadata, mountPath: /etc/rag-assets/metadata, readOnly: true}
{{- end }}
{{- if or .Values.modelCache.claim.enabled .Values.modelCache.image }}
- {name: weights, mountPath: /models}
{{- end }}
{{- end }}

{{- define "rag-assets.weightsInit" -}}
- name: weights
  image: {{ .Values.modelCache.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 512Mi}}
  command: [cp, -r, /weights/., /models/]
  securityContext: {{ include "rag-assets.containerSecurity" . | nindent 4 }}
  volumeMounts: [{name: weights, mountPath: /models}]
{{- end }}

{{- /*
A pod of this release. Takes root, component, account, args; optional: token, env, ports, probes,
resources, data (whether it works with the data), secret (instead of credentials.existingSecret),
tokens (the Secret with tokens of the search service), restartPolicy, config (the ConfigMap with
dagster.yaml), image, and the fields of a pod that are listed below.
*/ -}}
{{- define "rag-assets.pod" -}}
{{- $root := .root }}
{{- $home := include "rag-assets.home" $root }}
metadata:
  labels:
    {{- include "rag-assets.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- if not .restartPolicy }}
  annotations: # a changed configuration starts new pods
    checksum/configuration: {{ include (print $root.Template.BasePath "/configuration.yaml") $root | sha256sum }}
  {{- end }}
spec:
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: {{ default false .token }}
  enableServiceLinks: false
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  securityContext: {{ include "rag-assets.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- range $field := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "runtimeClassName" "priorityClassName" "terminationGracePeriodSeconds" }}
  {{- with index $ $field }}
  {{ $field }}: {{ toJson . }}
  {{- end }}
  {{- end }}
  {{- if and .data $root.Values.modelCache.image }}
  initContainers: {{ include "rag-assets.weightsInit" $root | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ default (include "rag-assets.image" $root) .image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{ toYaml .args | nindent 8 }}
      securityContext: {{ include "rag-assets.containerSecurity" $root | nindent 8 }}
      env:
        {{- include "rag-assets.instanceEnv" $root | nindent 8 }}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if .data }}
      envFrom: {{ include "rag-assets.settingsFrom" . | nindent 8 }}
      {{- end }}
      {{- with .ports }}
      ports: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with .probes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      resources: {{ toYaml .resources | nindent 8 }}
      volumeMounts:
        - {name: instance, mountPath: {{ $home }}/dagster.yaml, subPath: dagster.yaml}
        {{- if not .config }}
        - {name: instance, mountPath: {{ $home }}/workspace.yaml, subPath: workspace.yaml}
        {{- end }}
        {{- if .tokens }}
        - {name: tokens, mountPath: /etc/rag-assets/tokens, readOnly: true} # no subPath: it is to change with the Secret
        {{- end }}
        {{- include (ternary "rag-assets.dataMounts" "rag-assets.mounts" (default false .data)) $root | nindent 8 }}
  volumes:
    - {name: instance, configMap: {name: {{ default (printf "%s-instance" (include "rag-assets.fullname" $root)) .config }}}}
    {{- with .tokens }}
    - {name: tokens, secret: {secretName: {{ . }}, items: [{key: tokens.yaml, path: tokens.yaml}]}}
    {{- end }}
    {{- include (ternary "rag-assets.dataVolumes" "rag-assets.volumes" (default false .data)) $root | nindent 4 }}
{{- end }}
