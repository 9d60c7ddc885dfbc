{{- define "kotaemon-grpc.ports" -}}
{{- range $index, $port := . }}
{{- if $index }}{{ "\n" }}{{ end -}}
- {port: {{ int $port }}, protocol: TCP}
{{- end }}
{{- end }}

{{- define "kotaemon-grpc.dnsRule" -}}
{{- with .Values.networkPolicy.egress.dns -}}
{{- if .ports -}}
- ports:
    {{- range .ports }}
    - {port: {{ int . }}, protocol: UDP}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* All that the server is let out to. */}}
{{- define "kotaemon-grpc.egress" -}}
{{- include "kotaemon-grpc.dnsRule" . }}
{{- range $name := list "otlp" "jwks" "llm" "database" }}
{{- $rule := index $.Values.networkPolicy.egress $name | default dict }}
{{- $configured := include "kotaemon-grpc.configuredPorts" (dict "root" $ "name" $name) | fromJsonArray }}
{{- with $rule.ports | default $configured }}
# {{ $name }}
- ports:
    {{- include "kotaemon-grpc.ports" . | nindent 4 }}
  {{- with $rule.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The ports that the settings need out, as JSON: that of the traces' receiver, those of key sets. */}}
{{- define "kotaemon-grpc.configuredPorts" -}}
{{- $ports := list -}}
{{- if eq .name "otlp" -}}
{{- with dig "traces" "endpoint" "" (.root.Values.config | default dict) -}}
{{- $ports = append $ports (regexFind "[0-9]+$" . | int) -}}
{{- end -}}
{{- else if eq .name "jwks" -}}
{{- range dig "identity" "issuers" list (.root.Values.config | default dict) -}}
{{- if regexMatch "^https?://" (.jwks | default "") -}}
{{- $host := regexReplaceAll "^https?://([^/?#]*).*$" .jwks "${1}" -}}
{{- $ports = append $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host) | default (hasPrefix "https:" .jwks | ternary 443 80) | int) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end }}
