{{- define "porthole.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "porthole.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "porthole.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "porthole.selectorLabels" -}}
app.kubernetes.io/name: {{ include "porthole.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "porthole.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "porthole.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "porthole.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "porthole.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "porthole.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- $tag := default (printf "%s%s" .Chart.AppVersion (ternary "-cuda" "" .Values.gpu.enabled)) .Values.image.tag -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* Name of the Secret with keys.toml; empty where there is none. */}}
{{- define "porthole.keysSecret" -}}
{{- if .Values.keys.file -}}
{{- printf "%s-keys" (include "porthole.fullname" .) -}}
{{- else -}}
{{- .Values.keys.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* Seconds that a pod needs to end without breaking an answer, but for the ten of slack. */}}
{{- define "porthole.drainSeconds" -}}
{{- $server := default dict .Values.config.server -}}
{{- $delay := 5 -}}{{- if hasKey $server "drain_delay" -}}{{- $delay = $server.drain_delay -}}{{- end -}}
{{- $timeout := 120 -}}{{- if hasKey $server "drain_timeout" -}}{{- $timeout = $server.drain_timeout -}}{{- end -}}
{{- add (int .Values.preStopSleepSeconds) (int $delay) (int $timeout) -}}
{{- end -}}

{{- define "porthole.gracePeriod" -}}
{{- if .Values.terminationGracePeriodSeconds -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- else -}}
{{- add (include "porthole.drainSeconds" . | int) 10 -}}
{{- end -}}
{{- end -}}

{{/* config.toml: what the values say, and the device. */}}
{{- define "porthole.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $model := default dict $config.model -}}
{{- if and .Values.gpu.enabled (not $model.device) -}}
{{- $model = set $model "device" "cuda" -}}
{{- end -}}
{{- $_ := set $config "model" (omit $model "id") -}}
{{- include "porthole.toml" $config | trim -}}
{{- end -}}

{{/* The part of it that a running server does not take on. */}}
{{- define "porthole.coldConfig" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "limits" (pick (default dict $config.limits) "redis_url") -}}
{{- $_ := set $config "log" (omit (default dict $config.log) "filter") -}}
{{- include "porthole.toml" $config -}}
{{- end -}}

{{/*
Where the model is in the volume. Each revision that is downloaded has a folder of its own: pods that run
still read theirs.
*/}}
{{- define "porthole.modelFolder" -}}
{{- $folder := default (base .Values.weights.download.repository) .Values.weights.folder -}}
{{- if eq .Values.weights.source "download" -}}
{{- $folder = printf "%s/%s" $folder .Values.weights.download.revision -}}
{{- end -}}
{{- printf "%s/%s" .Values.weights.mountPath $folder -}}
{{- end -}}

{{/* What the server loads; empty: what the image names. */}}
{{- define "porthole.modelId" -}}
{{- $model := default dict .Values.config.model -}}
{{- if $model.id -}}
{{- $model.id -}}
{{- else if ne .Values.weights.source "image" -}}
{{- include "porthole.modelFolder" . -}}
{{- end -}}
{{- end -}}

{{- define "porthole.weightsClaim" -}}
{{- if .Values.weights.claim.existing -}}
{{- .Values.weights.claim.existing -}}
{{- else if .Values.weights.claim.size -}}
{{- printf "%s-weights" (include "porthole.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "porthole.autoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}true{{ end -}}
{{- end -}}

{{/* What every container may do: as little as the restricted profile allows. */}}
{{- define "porthole.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
