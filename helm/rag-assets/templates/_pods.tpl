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
  resources: {{ toJson .Values.modelCache.resources }}
  command: [cp, -r, /weights/., /models/]
  securityContext: {{ include "rag-assets.containerSecurity" . | nindent 4 }}
  volumeMounts: [{name: weights, mountPath: /models}]
{{- end }}

{{- /* The account of a component, as accounts are named: by the component, but for these. */ -}}
{{- define "rag-assets.account" -}}
{{- $blocks := dict "code" "codeServer" "run" "runs" "search-service" "search" "embeddings" "embeddingServer" }}
{{- $values := index .root.Values (default .account (get $blocks .account)) }}
{{- default (printf "%s-%s" (include "rag-assets.fullname" .root) .account) $values.serviceAccountName }}
{{- end }}

{{- /*
What the values say of a component's pods: podDefaults, and the component's own values over them.
Maps are merged and lists are joined; of other values, the component's wins. Takes root, values.
*/ -}}
{{- define "rag-assets.podFields" -}}
{{- $fields := deepCopy .root.Values.podDefaults }}
{{- $own := pick (default dict .values) "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints"
      "priorityClassName" "runtimeClassName" "annotations" "labels" "env" "envFrom" "volumes" "volumeMounts" }}
{{- range $name, $value := $own }}
{{- if and $value (kindIs "slice" $value) }}
{{- $value = concat (default list (get $fields $name)) $value }}
{{- else if and $value (kindIs "map" $value) }}
{{- $value = mergeOverwrite (default dict (get $fields $name)) (deepCopy $value) }}
{{- end }}
{{- if $value }}{{ $_ := set $fields $name $value }}{{ end }}
{{- end }}
{{- toYaml $fields }}
{{- end }}

{{- /*
Metadata and fields of every pod, without its containers and volumes. Takes root, component,
account, fields; optional: token, checksum, restartPolicy, terminationGracePeriodSeconds.
*/ -}}
{{- define "rag-assets.podFrame" -}}
{{- $labels := merge (include "rag-assets.labels" .root | fromYaml) (dict "app.kubernetes.io/component" .component) (default dict .fields.labels) }}
metadata:
  labels: {{ toYaml $labels | nindent 4 }}
  {{- with merge (default dict .checksum) (default dict .fields.annotations) }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: {{ default false .token }}
  enableServiceLinks: false
  {{- /* The process with id 1 ignores SIGTERM until it handles it: that is to be the pause process. */}}
  shareProcessNamespace: true
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with .terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  securityContext: {{ include "rag-assets.podSecurity" .root | nindent 4 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- range $field, $value := pick .fields "nodeSelector" "tolerations" "affinity" "runtimeClassName" "priorityClassName" }}
  {{- with $value }}
  {{ $field }}: {{ toJson . }}
  {{- end }}
  {{- end }}
  {{- with .fields.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toJson (merge (dict) . (dict "labelSelector" (dict "matchLabels" (include "rag-assets.componentSelector" $ | fromYaml)))) }}
    {{- end }}
  {{- end }}
{{- end }}

{{- /*
Probes, as the values say. One without a handler of its own has that of handlers, or default. Takes
values, default; optional: handlers, by probe.
*/ -}}
{{- define "rag-assets.probes" -}}
{{- range $name := list "startupProbe" "readinessProbe" "livenessProbe" }}
{{- with index $.values $name }}
{{- $own := pick . "exec" "httpGet" "tcpSocket" "grpc" }}
{{ $name }}: {{ toJson (merge (dict) . (ternary (default $.default (get (default dict $.handlers) $name)) dict (empty $own))) }}
{{- end }}
{{- end }}
{{- end }}

{{- /*
A pod of this release from our image. Takes root, component, account, values (of the component),
args; optional: token, env, ports, probes (YAML), data (whether it works with the data), secret
(instead of credentials.existingSecret), tokens (the Secret with tokens of the search service),
restartPolicy, terminationGracePeriodSeconds, config (the ConfigMap with dagster.yaml).
*/ -}}
{{- define "rag-assets.pod" -}}
{{- $root := .root }}
{{- $home := include "rag-assets.home" $root }}
{{- $fields := include "rag-assets.podFields" . | fromYaml }}
{{- $frame := dict "fields" $fields }}
{{- if not .restartPolicy }}
{{- /* A changed configuration starts new pods. */}}
{{- $_ := set $frame "checksum" (dict "checksum/configuration" (include (print $root.Template.BasePath "/configuration.yaml") $root | sha256sum)) }}
{{- end }}
{{- include "rag-assets.podFrame" (merge $frame .) }}
  {{- if and .data $root.Values.modelCache.image }}
  initContainers: {{ include "rag-assets.weightsInit" $root | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ default (include "rag-assets.image" $root) .values.image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{ toYaml .args | nindent 8 }}
      securityContext: {{ include "rag-assets.containerSecurity" $root | nindent 8 }}
      env:
        {{- include "rag-assets.instanceEnv" $root | nindent 8 }}
        {{- with concat (default list .env) (default list $fields.env) }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- $from := ternary (include "rag-assets.settingsFrom" . | fromYamlArray) list (default false .data) }}
      {{- with concat $from (default list $fields.envFrom) }}
      envFrom: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with .ports }}
      ports: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with .probes }}
      {{- . | nindent 6 }}
      {{- end }}
      resources: {{ toYaml .values.resources | nindent 8 }}
      volumeMounts:
        - {name: instance, mountPath: {{ $home }}/dagster.yaml, subPath: dagster.yaml}
        {{- if not .config }}
        - {name: instance, mountPath: {{ $home }}/workspace.yaml, subPath: workspace.yaml}
        {{- end }}
        {{- if .tokens }}
        - {name: tokens, mountPath: /etc/rag-assets/tokens, readOnly: true} # no subPath: it is to change with the Secret
        {{- end }}
        {{- include (ternary "rag-assets.dataMounts" "rag-assets.mounts" (default false .data)) $root | nindent 8 }}
        {{- with $fields.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - {name: instance, configMap: {name: {{ default (printf "%s-instance" (include "rag-assets.fullname" $root)) .config }}}}
    {{- with .tokens }}
    - {name: tokens, secret: {secretName: {{ . }}, items: [{key: tokens.yaml, path: tokens.yaml}]}}
    {{- end }}
    {{- include (ternary "rag-assets.dataVolumes" "rag-assets.volumes" (default false .data)) $root | nindent 4 }}
    {{- with $fields.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
