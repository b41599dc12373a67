{{- /*
dagster.yaml: the one at the top of the repository, with what a cluster does otherwise laid over it.
*/ -}}
{{- define "rag-assets.dagster" -}}
{{- $local := .Files.Get "files/dagster.yaml" | fromYaml }}
{{- $limits := list (dict "key" "rag_assets/work" "value" "index" "limit" (int .Values.runs.gpuQuota)) }}
{{- range $limit := $local.run_coordinator.config.tag_concurrency_limits }}
{{- $lane := ternary (index $limit "value") "" (eq $limit.key "rag_assets/lane") }}
{{- $own := dict "stream" (int $.Values.runs.streamLimit) "bulk" (int $.Values.runs.bulkLimit) }}
{{- $limits = append $limits (ternary (merge (dict "limit" (get $own (toString $lane))) $limit) $limit (hasKey $own (toString $lane))) }}
{{- end }}
{{- $overlay := include "rag-assets.dagster.overlay" . | fromYaml }}
{{- $_ := set $overlay "run_coordinator" (dict "config" (dict "tag_concurrency_limits" $limits
      "max_concurrent_runs" (int .Values.runs.maxConcurrent)
      "dequeue_interval_seconds" (int .Values.runs.dequeueIntervalSeconds))) }}
{{- mergeOverwrite $local $overlay | toYaml }}
{{- end }}

{{- define "rag-assets.storage" -}}
storage:
  postgres:
    postgres_db:
      hostname: {{ .Values.postgres.host }}
      port: {{ int .Values.postgres.port }}
      db_name: {{ .Values.postgres.database }}
      username: {{ .Values.postgres.user }}
      password: {env: DAGSTER_PG_PASSWORD}
      {{- with .Values.postgres.parameters }}
      params: {{ toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{- define "rag-assets.dagster.overlay" -}}
{{- $full := include "rag-assets.fullname" . }}
{{ include "rag-assets.storage" . }}
local_artifact_storage: # nothing is passed between pods; what Dagster writes there is scratch
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {base_dir: /tmp/dagster}
compute_logs: # a pod's output goes to the cluster's log collection
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
run_monitoring:
  poll_interval_seconds: {{ int .Values.runs.monitoringIntervalSeconds }}
  start_timeout_seconds: {{ int .Values.runs.startTimeoutSeconds }}
  cancel_timeout_seconds: {{ int .Values.runs.cancelTimeoutSeconds }}
run_retries: {enabled: {{ gt (int .Values.runs.maxRetries) 0 }}, max_retries: {{ int .Values.runs.maxRetries }}, retry_on_asset_or_op_failure: false}
run_launcher:
  module: rag_assets.pod_launcher
  class: PodRunLauncher
  config:
    load_incluster_config: true
    job_namespace: {{ .Release.Namespace }}
    service_account_name: {{ $full }}-run
    job_image: {{ include "rag-assets.image" . }}
    image_pull_policy: {{ .Values.image.pullPolicy }}
    {{- with .Values.imagePullSecrets }}
    image_pull_secrets: {{ toYaml . | nindent 6 }}
    {{- end }}
    dagster_home: {{ include "rag-assets.home" . }}
    instance_config_map: {{ $full }}-instance
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
    run_k8s_config:
      container_config:
        security_context: {{ toYaml .Values.securityContext | nindent 10 }}
      pod_spec_config:
        automount_service_account_token: false
        termination_grace_period_seconds: {{ int .Values.runs.terminationGracePeriodSeconds }}
        security_context: {{ toYaml .Values.podSecurityContext | nindent 10 }}
        {{- if .Values.modelCache.image }}
        init_containers: {{ include "rag-assets.weightsInit" . | nindent 10 }}
        {{- end }}
      job_spec_config:
        backoff_limit: 0
        ttl_seconds_after_finished: {{ int .Values.runs.ttlSecondsAfterFinished }}
    pods:
      {{- range $kind, $pod := .Values.runs.pods }}
      {{ $kind }}: {{ include "rag-assets.podKind" (dict "kind" $kind "pod" $pod "full" $full) | nindent 8 }}
      {{- end }}
{{- end }}

{{- /* One kind of pod, in the form of the tag dagster-k8s/config. */ -}}
{{- define "rag-assets.podKind" -}}
container_config:
  resources: {{ toYaml .pod.resources | nindent 4 }}
  {{- with .pod.image }}
  image: {{ . }}
  {{- end }}
pod_spec_config:
  {{- if eq .kind "models" }} # which end the runs of a model that goes
  service_account_name: {{ .full }}-models
  automount_service_account_token: true
  {{- end }}
  node_selector: {{ default dict .pod.nodeSelector | toYaml | nindent 4 }}
  {{- with .pod.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pod.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pod.runtimeClassName }}
  runtime_class_name: {{ . }}
  {{- end }}
  {{- with .pod.priorityClassName }}
  priority_class_name: {{ . }}
  {{- end }}
pod_template_spec_metadata:
  annotations: {{ default dict .pod.annotations | toYaml | nindent 4 }}
  labels: {{ default dict .pod.labels | toYaml | nindent 4 }}
job_spec_config:
  active_deadline_seconds: {{ int .pod.activeDeadlineSeconds }}
{{- end }}
