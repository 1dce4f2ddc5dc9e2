{{/* The container that puts the model's files into the volume before the server starts. */}}
{{- define "porthole.download" -}}
- name: download
  image: {{ .Values.weights.download.image }}
  imagePullPolicy: IfNotPresent
  command: [/bin/sh, -c]
  args:
    - |
      set -eu
      # A volume that is complete needs no hub: pods must restart when that is away.
      done="$TARGET/.complete-$REVISION"
      if [ -f "$done" ]; then
        echo "$TARGET has $REPOSITORY at $REVISION"
        exit 0
      fi
      if ! command -v hf >/dev/null; then
        python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --target /tmp/hub "huggingface_hub==$HUB_VERSION"
        export PYTHONPATH=/tmp/hub PATH="/tmp/hub/bin:$PATH"
      fi
      # safetensors are what the server reads; many repositories have the weights in other formats too.
      hf download "$REPOSITORY" --revision "$REVISION" --local-dir "$TARGET" \
        --exclude '*.bin' --exclude '*.pth' --exclude '*.pt' --exclude '*.onnx' --exclude 'original/*'
      touch "$done"
  env:
    - {name: REPOSITORY, value: {{ .Values.weights.download.repository | quote }}}
    - {name: REVISION, value: {{ .Values.weights.download.revision | quote }}}
    - {name: TARGET, value: {{ include "porthole.modelFolder" . | quote }}}
    - {name: HUB_VERSION, value: {{ .Values.weights.download.hubVersion | quote }}}
    - {name: HOME, value: /tmp}
    - {name: HF_HOME, value: /tmp/hf}
    - {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
    {{- if .Values.weights.download.tokenSecret.name }}
    - name: HF_TOKEN
      valueFrom:
        secretKeyRef: {name: {{ .Values.weights.download.tokenSecret.name }}, key: {{ .Values.weights.download.tokenSecret.key }}}
    {{- end }}
  resources:
    requests: {cpu: 500m, memory: 512Mi}
    limits: {memory: 4Gi}
  securityContext:
    {{- include "porthole.securityContext" . | nindent 4 }}
  volumeMounts:
    - {name: weights, mountPath: {{ .Values.weights.mountPath }}}
    - {name: tmp, mountPath: /tmp}
{{- end -}}
