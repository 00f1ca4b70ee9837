{{- define "moescope.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: a StatefulSet's pods and claims append to it. */}}
{{- define "moescope.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "moescope.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "moescope.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "moescope.selectorLabels" -}}
app.kubernetes.io/name: {{ include "moescope.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "moescope.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "moescope.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "moescope.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- define "moescope.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "moescope.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "moescope.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "moescope.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.runAsUser }}
runAsGroup: {{ .Values.securityContext.runAsGroup }}
fsGroup: {{ .Values.securityContext.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "moescope.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The server's arguments: each of .Values.server that is not empty. */}}
{{- define "moescope.args" -}}
- --model_root=/models
- --data_dir=/data
- --listen=0.0.0.0:50051
- --metrics_listen=0.0.0.0:9464
- --device={{ .Values.server.device }}
- --log_level={{ .Values.server.logLevel }}
- --drain_grace={{ .Values.server.drainGraceSeconds }}s
{{- if .Values.server.allowInsecureRemote }}
- --allow_insecure_remote
{{- end }}
{{- with .Values.server.memoryBudget }}
- {{ printf "--memory_budget=%s" . | quote }}
{{- end }}
{{- with .Values.server.cacheBytes }}
- {{ printf "--cache_bytes=%s" . | quote }}
{{- end }}
{{- with .Values.server.threads }}
- --threads={{ . }}
{{- end }}
{{- with .Values.server.preload }}
- {{ printf "--preload=%s" (join "," .) | quote }}
{{- end }}
{{- range .Values.server.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Requests and limits with the devices in both, as Kubernetes wants them. */}}
{{- define "moescope.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if gt (int .Values.gpu.count) 0 -}}
{{- $devices := dict .Values.gpu.resourceName (int .Values.gpu.count) -}}
{{- $_ := set $resources "requests" (merge (dict) $devices (default (dict) $resources.requests)) -}}
{{- $_ := set $resources "limits" (merge (dict) $devices (default (dict) $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "moescope.probe" -}}
grpc:
  port: 50051
  service: {{ .service }}
periodSeconds: {{ .probe.periodSeconds }}
failureThreshold: {{ .probe.failureThreshold }}
timeoutSeconds: {{ .probe.timeoutSeconds }}
{{- end -}}
