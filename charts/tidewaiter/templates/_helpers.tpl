{{- /* One Tidewaiter a cluster: its objects have the same names in every release, so that each command of the docs can be typed as it is written. */}}

{{- define "tidewaiter.selector" -}}
app.kubernetes.io/name: tidewaiter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidewaiter.labels" -}}
{{ include "tidewaiter.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tidewaiter.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry }}
{{- with $registry }}{{ . | trimSuffix "/" }}/{{ end }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "tidewaiter.selfManaged" -}}
{{- if eq .Values.certificates.mode "selfManaged" }}yes{{ end }}
{{- end }}

{{- /* The stores that anyone may read, unless an entry of `backends` has their name. */}}
{{- define "tidewaiter.backends" -}}
{{- $backends := dict }}
{{- if .Values.publicStores.huggingFace }}
{{- $_ := set $backends "public-huggingface" (dict "type" "huggingface" "serves" (list "hf://") "credentials" (dict "anonymous" dict)) }}
{{- end }}
{{- if .Values.publicStores.kserveExamples }}
{{- $_ := set $backends "public-kserve-examples" (dict "type" "gcs" "serves" (list "gs://kfserving-examples/") "credentials" (dict "anonymous" dict)) }}
{{- end }}
{{- range $name, $spec := .Values.backends }}
{{- $_ := set $backends $name $spec }}
{{- end }}
{{- toYaml $backends }}
{{- end }}

{{- /* A time such as `2s`, `90d` or `720h30m`. */}}
{{- define "tidewaiter.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" . -1 }}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" . | int64) (index $units (regexFind "[a-z]+$" .))) }}
{{- end }}
{{- $sum }}
{{- end }}

{{- /* What `--modules` reads. What is empty is left out: it stands for the server's default. */}}
{{- define "tidewaiter.modules" -}}
{{- $file := dict }}
{{- range $key, $value := .Values.modules }}
{{- if $value }}
{{- $_ := set $file $key $value }}
{{- end }}
{{- end }}
{{- toYaml $file }}
{{- end }}
