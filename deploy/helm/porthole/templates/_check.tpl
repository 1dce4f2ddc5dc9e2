{{/* Values that do not fit together are named, all at once, before anything is made of them. */}}
{{- define "porthole.check" -}}
{{- $problems := list -}}
{{- $server := default dict .Values.config.server -}}
{{- $auth := default dict .Values.config.auth -}}
{{- $limits := default dict .Values.config.limits -}}
{{- range list "bind" "admin_bind" "tls_certificate" "tls_key" -}}
{{- if hasKey $server . -}}
{{- $problems = append $problems (printf "config.server.%s: the chart sets it itself" .) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $auth "keys_file" -}}
{{- $problems = append $problems "config.auth.keys_file: the chart sets it itself; see keys" -}}
{{- end -}}
{{- if hasKey $limits "store" -}}
{{- $problems = append $problems "config.limits.store: the chart sets it itself; see usageStore" -}}
{{- end -}}
{{- range $key, $place := dict "key_pepper" "secrets.keyPepper" "token_secret" "secrets.tokenSecret" -}}
{{- if index $auth $key -}}
{{- $problems = append $problems (printf "config.auth.%s: a ConfigMap is no place for a secret; name one in %s" $key $place) -}}
{{- end -}}
{{- end -}}
{{- if contains "@" (default "" $limits.redis_url) -}}
{{- $problems = append $problems "config.limits.redis_url: has a password in it; name a Secret in secrets.redisUrl" -}}
{{- end -}}

{{- $grace := int .Values.terminationGracePeriodSeconds -}}
{{- $needed := include "porthole.drainSeconds" . | int -}}
{{- if and (gt $grace 0) (lt $grace (int (add $needed 5))) -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds: %d is under the %d that preStopSleepSeconds, config.server.drain_delay and config.server.drain_timeout need together, and 5 to end; answers would be cut" $grace (int (add $needed 5))) -}}
{{- end -}}

{{- $open := and (hasKey $auth "enabled") (not $auth.enabled) -}}
{{- if and .Values.keys.file (ne .Values.keys.existingSecret "porthole-keys") .Values.keys.existingSecret -}}
{{- $problems = append $problems "keys.file, keys.existingSecret: both are set" -}}
{{- end -}}
{{- if not (or $open (include "porthole.keysSecret" .) $auth.issuers) -}}
{{- $problems = append $problems "keys: nobody could come in; set keys.existingSecret, keys.file or config.auth.issuers (or, to let everybody in, config.auth.enabled=false)" -}}
{{- end -}}

{{- if and .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled -}}
{{- $problems = append $problems "autoscaling: hpa and keda would both set the number of replicas; enable one" -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- $problems = append $problems "autoscaling.minReplicas: is over maxReplicas" -}}
{{- end -}}
{{- if and (eq (int .Values.strategy.maxSurge) 0) (eq (int .Values.strategy.maxUnavailable) 0) -}}
{{- $problems = append $problems "strategy: maxSurge and maxUnavailable are both 0, so that no pod could ever be replaced" -}}
{{- end -}}
{{- if and .Values.usageStore.persistence.enabled (or (gt (int .Values.replicas) 1) (include "porthole.autoscaled" .)) -}}
{{- $problems = append $problems "usageStore.persistence: one file cannot serve several replicas; let them share their counts with secrets.redisUrl" -}}
{{- end -}}

{{- $weights := .Values.weights -}}
{{- if and (eq $weights.source "claim") (not (include "porthole.weightsClaim" .)) -}}
{{- $problems = append $problems "weights.claim: source is claim, but neither existing nor size is set" -}}
{{- end -}}
{{- if and (eq $weights.source "claim") (not $weights.folder) (not (default dict .Values.config.model).id) -}}
{{- $problems = append $problems "weights.folder: source is claim, so say in which folder of the volume the model is" -}}
{{- end -}}
{{- if and (eq $weights.source "download") (not $weights.download.repository) -}}
{{- $problems = append $problems "weights.download.repository: source is download, so say what to download" -}}
{{- end -}}
{{- if and (eq $weights.source "image") (or $weights.download.repository (include "porthole.weightsClaim" .)) -}}
{{- $problems = append $problems "weights.source: is image, but a claim or a download is described" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- $problems = append $problems "ingress.host: is empty" -}}
{{- end -}}
{{- if and (default dict .Values.config.telemetry).otlp_endpoint .Values.networkPolicy.enabled (not .Values.networkPolicy.otlp.to) -}}
{{- $problems = append $problems "networkPolicy.otlp.to: config.telemetry.otlp_endpoint is set, but the policy lets nothing through to it" -}}
{{- end -}}
{{- if and (or .Values.secrets.redisUrl.name $limits.redis_url) .Values.networkPolicy.enabled (not .Values.networkPolicy.redis.to) -}}
{{- $problems = append $problems "networkPolicy.redis.to: there is a URL of Redis, but the policy lets nothing through to it" -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "%d problem(s) with the values:\n  - %s" (len $problems) (join "\n  - " $problems)) -}}
{{- end -}}
{{- end -}}
