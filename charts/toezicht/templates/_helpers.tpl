{{- define "toezicht.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* 40 at most, so that what is hung behind it still fits a name of 63. */}}
{{- define "toezicht.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "toezicht.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "toezicht.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "toezicht.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "toezicht.fullname" .) }}
{{- end }}

{{- define "toezicht.selector" -}}
app.kubernetes.io/name: {{ include "toezicht.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "toezicht.labels" -}}
{{ include "toezicht.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "toezicht.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Only the namespaces that are watched, where not all are. */}}
{{- define "toezicht.namespaceSelector" -}}
{{- with .Values.watchNamespaces }}
namespaceSelector:
  matchExpressions:
    - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}
{{- end }}

{{/* Whether a grant allows workload identity. */}}
{{- define "toezicht.workloadIdentity" -}}
{{- $endpoints := list }}
{{- range .Values.grants }}{{ if .roles }}{{ $endpoints = concat $endpoints .endpoints }}{{ end }}{{ end }}
{{- if gt (len (uniq $endpoints)) 1 }}
{{- fail "grants: grants with roles have more than one endpoint, and one store could use a service account token at another: name roles for one endpoint only" }}
{{- end }}
{{- if $endpoints }}true{{ end }}
{{- end }}
