{{/*
config.toml from values. Helm's toToml writes every number as a float (104857600.0), which the
server does not take for a whole number.
*/}}
{{- define "porthole.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end -}}

{{- define "porthole.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $pairs = append $pairs (printf "%s = %s" (include "porthole.toml.key" $key) (include "porthole.toml.value" $value)) -}}
{{- end -}}
{{- end -}}
{{- printf "{ %s }" (join ", " $pairs) -}}
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (include "porthole.toml.value" .) -}}
{{- end -}}
{{- printf "[%s]" (join ", " $items) -}}
{{- else if kindIs "string" . -}}
{{- toRawJson . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* The whole file: the list of further models first, as what belongs to no section has to be. */}}
{{- define "porthole.toml" -}}
{{- range $name, $value := . }}
{{- if kindIs "slice" $value }}
{{ $name }} = {{ include "porthole.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $name, $keys := . }}
{{- if and (kindIs "map" $keys) $keys }}

[{{ $name }}]
{{- range $key, $value := $keys }}
{{- if not (kindIs "invalid" $value) }}
{{ include "porthole.toml.key" $key }} = {{ include "porthole.toml.value" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
