{{- define "kotaemon-grpc.ports" -}}
{{- range $index, $port := . }}
{{- if $index }}{{ "\n" }}{{ end -}}
- {port: {{ int $port }}, protocol: TCP}
{{- end }}
{{- end }}

{{/*
Where a rule leads out to: the peers that are given, or anywhere. Anywhere leaves out what answers
on link-local addresses and the other addresses of the clouds' metadata, which hand out the
credentials of the node. Not every network plugin takes addresses for those of pods, so pods are
named too.
*/}}
{{- define "kotaemon-grpc.peers" -}}
{{- if . -}}
{{- toYaml . -}}
{{- else -}}
- namespaceSelector: {}
- ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16, 100.100.100.200/32]}
- ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]}
{{- end -}}
{{- end }}

{{- define "kotaemon-grpc.dnsRule" -}}
{{- with .Values.networkPolicy.egress.dns -}}
{{- if .ports -}}
- ports:
    {{- range .ports }}
    - {port: {{ int . }}, protocol: UDP}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
  to:
    {{- include "kotaemon-grpc.peers" .to | nindent 4 }}
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
  to:
    {{- include "kotaemon-grpc.peers" $rule.to | nindent 4 }}
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
