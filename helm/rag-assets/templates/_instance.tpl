{{- /*
dagster.yaml: the one at the top of the repository, overlaid with what differs in a cluster. Mappings
are merged; the tag limits are the repository's, with numbers from the values if given.
*/ -}}
{{- define "rag-assets.dagster" -}}
{{- $local := .Files.Get "files/dagster.yaml" | fromYaml }}
{{- $overlay := include "rag-assets.dagster.overlay" . | fromYaml }}
{{- $queue := dict }}
{{- with .Values.queue.maxConcurrentRuns }}{{ $_ := set $queue "max_concurrent_runs" (int .) }}{{ end }}
{{- if or .Values.queue.streamLimit .Values.queue.bulkLimit .Values.queue.gpuLimit }}
{{- $_ := set $queue "tag_concurrency_limits" (include "rag-assets.limits" (dict "local" $local "queue" .Values.queue) | fromYamlArray) }}
{{- end }}
{{- $_ := set $overlay "run_coordinator" (dict "config" $queue) }}
{{- mergeOverwrite $local $overlay | toYaml }}
{{- end }}

{{- define "rag-assets.limits" -}}
{{- $limits := list }}
{{- range $limit := .local.run_coordinator.config.tag_concurrency_limits }}
{{- $ours := "" }}
{{- if eq $limit.key "rag_assets/lane" }}{{ $ours = index $.queue (printf "%sLimit" $limit.value) }}{{ end }}
{{- $limits = append $limits (ternary (mergeOverwrite (deepCopy $limit) (dict "limit" (int $ours))) $limit (not (empty $ours))) }}
{{- end }}
{{- with .queue.gpuLimit }}
{{- $limits = append $limits (dict "key" "rag_assets/model" "limit" (int .)) }}
{{- end }}
{{- toYaml $limits }}
{{- end }}

{{- define "rag-assets.storage" -}}
storage:
  postgres:
    postgres_db:
      hostname: {{ .Values.postgres.host | quote }}
      port: {{ int .Values.postgres.port }}
      db_name: {{ .Values.postgres.database | quote }}
      username: {{ .Values.postgres.user | quote }}
      password: {env: DAGSTER_PG_PASSWORD}
      {{- with .Values.postgres.parameters }}
      params: {{ toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{- define "rag-assets.dagster.overlay" -}}
{{- $full := include "rag-assets.fullname" . }}
{{ include "rag-assets.storage" . }}
local_artifact_storage: # the root is read-only, and pods exchange no files
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {base_dir: /tmp/dagster}
compute_logs: # a pod's output goes to the cluster's log collection
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
run_monitoring: # a pod may wait for a node
  start_timeout_seconds: {{ int .Values.runs.startTimeoutSeconds }}
  cancel_timeout_seconds: {{ int .Values.runs.cancelTimeoutSeconds }}
run_launcher:
  module: rag_assets.instance.launchers.kubernetes
  class: PodRunLauncher
  config:
    load_incluster_config: true
    job_namespace: {{ .Release.Namespace }}
    service_account_name: {{ include "rag-assets.account" (dict "root" . "account" "run") }}
    job_image: {{ include "rag-assets.image" . }}
    image_pull_policy: {{ .Values.image.pullPolicy }}
    {{- with .Values.imagePullSecrets }}
    image_pull_secrets: {{ toYaml . | nindent 6 }}
    {{- end }}
    dagster_home: {{ include "rag-assets.home" . }}
    instance_config_map: {{ $full }}-instance
    pods: {{ include "rag-assets.pods" . }}
    max_silent_seconds: {{ toJson .Values.runs.maxSilentSeconds }}
    postgres_password_secret: {{ .Values.postgres.existingSecret }}
    env_config_maps: [{{ $full }}-settings]
    {{- with .Values.credentials.existingSecret }}
    env_secrets: [{{ . }}]
    {{- end }}
    labels:
      {{- include "rag-assets.labels" . | nindent 6 }}
      app.kubernetes.io/component: run
    volumes: {{ include "rag-assets.dataVolumes" . | nindent 6 }}
    volume_mounts: {{ include "rag-assets.dataMounts" . | nindent 6 }}
    run_k8s_config: {{ include "rag-assets.everyRun" . | fromYaml | mergeOverwrite (include "rag-assets.podConfig" .Values.podDefaults | fromYaml) | toYaml | nindent 6 }}
{{- end }}

{{- /* What the pods of all runs have, besides podDefaults. */ -}}
{{- define "rag-assets.everyRun" -}}
container_config:
  securityContext: {{ include "rag-assets.containerSecurity" . | nindent 4 }}
pod_spec_config:
  automountServiceAccountToken: {{ .Values.runs.mayEndRuns }}
  enableServiceLinks: false
  shareProcessNamespace: true # as in "rag-assets.podFrame"
  terminationGracePeriodSeconds: {{ int .Values.runs.terminationGracePeriodSeconds }}
  securityContext: {{ include "rag-assets.podSecurity" . | nindent 4 }}
  {{- if .Values.modelCache.image }}
  initContainers: {{ include "rag-assets.weightsInit" . | nindent 4 }}
  {{- end }}
job_spec_config:
  backoffLimit: 0 # the sensors retry, including what has changed since
  ttlSecondsAfterFinished: {{ int .Values.runs.ttlSecondsAfterFinished }}
{{- end }}

{{- /*
The pods by work and lane, as the launcher takes them: each in the form of `dagster-k8s/config`.
*/ -}}
{{- define "rag-assets.pods" -}}
{{- $pods := dict }}
{{- range $name, $pod := .Values.runs.pods }}
{{- $_ := set $pods $name (include "rag-assets.podConfig" $pod | fromYaml) }}
{{- end }}
{{- toJson $pods }}
{{- end }}

{{- /* Values of a pod, in the form of `dagster-k8s/config`. */ -}}
{{- define "rag-assets.podConfig" -}}
{{- $sections := dict
      "container_config" (pick . "resources" "image" "env" "envFrom" "volumeMounts")
      "pod_spec_config" (pick . "nodeSelector" "tolerations" "affinity" "runtimeClassName" "priorityClassName" "volumes")
      "pod_template_spec_metadata" (pick . "annotations" "labels")
      "job_spec_config" (pick . "activeDeadlineSeconds") }}
{{- range $name, $fields := $sections }}
{{- range $field, $value := $fields }}
{{- if not $value }}{{ $_ := unset $fields $field }}{{ end }}
{{- end }}
{{- if $fields }}
{{ $name }}: {{ toYaml $fields | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
