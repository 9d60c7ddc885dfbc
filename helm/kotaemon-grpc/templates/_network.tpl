{{- define "kotaemon-grpc.ports" -}}
{{- range . }}
- {port: {{ int . }}, protocol: TCP}
{{- end }}
{{- end }}

{{- define "kotaemon-grpc.dnsRule" -}}
{{- with .Values.networkPolicy.egress.dns -}}
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
{{- end }}

{{/* The ports that the settings need out, as JSON: that of the traces' receiver, those of key sets. */}}
{{- define "kotaemon-grpc.configuredPorts" -}}
{{- $ports := list -}}
{{- if eq .name "otlp" -}}
{{- with dig "traces" "endpoint" "" .root.Values.config -}}
{{- $ports = append $ports (regexFind "[0-9]+$" . | int) -}}
{{- end -}}
{{- else if eq .name "jwks" -}}
{{- range dig "identity" "issuers" list .root.Values.config -}}
{{- if regexMatch "^https?://" (.jwks | default "") -}}
{{- $host := regexReplaceAll "^https?://([^/?#]*).*$" .jwks "${1}" -}}
{{- $ports = append $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host) | default (hasPrefix "https:" .jwks | ternary 443 80) | int) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end }}

{{/* Whether there is a test: "true" or nothing. It calls the main listener with a certificate. */}}
{{- define "kotaemon-grpc.hasTest" -}}
{{- if and .Values.test.enabled (has "certificate" .Values.credentials) }}true{{ end -}}
{{- end }}
