{{/* The container that puts the model's files into the volume before the server starts. */}}
{{- define "porthole.download" -}}
- name: download
  image: {{ .Values.weights.download.image }}
  imagePullPolicy: IfNotPresent
  command: [/bin/sh, -c]
  args:
    - |
      set -eu
      # What is complete needs no hub: pods must restart when that is away.
      if [ -d "$TARGET" ]; then
        echo "$TARGET is there"
        exit 0
      fi
      if ! python3 -c 'import huggingface_hub' 2>/dev/null; then
        export PYTHONPATH="$HOME/hub"
        python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --target "$PYTHONPATH" "huggingface_hub==$HUB_VERSION"
      fi
      exec python3 - <<'PYTHON'
      import os, pathlib, shutil
      from huggingface_hub import snapshot_download

      target = pathlib.Path(os.environ["TARGET"])
      part = target.with_name(target.name + ".part")
      # safetensors are what the server reads; many repositories have the weights in other formats too.
      wanted = dict(
          repo_id=os.environ["REPOSITORY"], revision=os.environ["REVISION"], local_dir=part,
          ignore_patterns=["*.bin", "*.pth", "*.pt", "*.onnx", "original/*"],
      )
      snapshot_download(**wanted)
      # Where the hub cannot be reached that returns what is there, complete or not; a dry run does not.
      left = [file.filename for file in snapshot_download(dry_run=True, **wanted) if file.will_download]
      if left:
          raise SystemExit(f"not complete: {left}")
      shutil.rmtree(part / ".cache", ignore_errors=True)
      try:
          part.rename(target)
      except OSError:
          # Another pod was first.
          if not target.is_dir():
              raise
      print(f"{target} is complete")
      PYTHON
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
