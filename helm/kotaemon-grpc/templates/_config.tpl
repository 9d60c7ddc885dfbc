{{/*
A value as TOML. Helm's own toToml makes 60.0 of 60, which is no whole number any more; JSON's
strings, numbers and truth values are TOML's as well, but for the character DEL. The text goes into
YAML, which takes some characters for the end of a line and does not take others at all: they are
written as escapes.
*/}}
{{- define "kotaemon-grpc.toml" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha -}}
{{- if $index }},{{ end }} {{ include "kotaemon-grpc.toml" $key }} = {{ include "kotaemon-grpc.toml" (index $ $key) }}
{{- end }} }
{{- else if kindIs "slice" . -}}
[{{- range $index, $item := . -}}{{- if $index }}, {{ end }}{{ include "kotaemon-grpc.toml" $item }}{{- end -}}]
{{- else -}}
{{- $text := toRawJson . | replace "\u007f" "\\u007f" -}}
{{- range regexFindAll `[\x{80}-\x{9f}\x{2028}\x{2029}\x{feff}\x{fffe}\x{ffff}]` $text -1 | uniq -}}
{{- $text = replace . (printf "%+q" . | trimAll "\"") $text -}}
{{- end -}}
{{ $text }}
{{- end -}}
{{- end }}

{{/* A key as TOML: as it is, or in quotes. */}}
{{- define "kotaemon-grpc.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ include "kotaemon-grpc.toml" . }}{{ end -}}
{{- end }}

{{/* Whether a list of credentials asks clients for certificates: "true" or nothing. */}}
{{- define "kotaemon-grpc.asksForCertificates" -}}
{{- range . }}{{ if hasPrefix "certificate" . }}true{{ break }}{{ end }}{{ end -}}
{{- end }}

{{- define "kotaemon-grpc.anyAsksForCertificates" -}}
{{- include "kotaemon-grpc.asksForCertificates" .Values.credentials -}}
{{- range .Values.listeners }}{{ include "kotaemon-grpc.asksForCertificates" .credentials }}{{ end -}}
{{- end }}

{{/* Where the bundle of the clients' CAs is. */}}
{{- define "kotaemon-grpc.clientCA" -}}
{{- $ca := .Values.tls.clientCA -}}
{{- if or $ca.existingSecret $ca.existingConfigMap $ca.inline -}}
/etc/kotaemon-grpc-files/client-ca/{{ $ca.key }}
{{- else -}}
/etc/kotaemon-grpc-files/tls/ca.crt
{{- end -}}
{{- end }}

{{/* All settings by section, as JSON: those of `config`, and those that the chart has to give. */}}
{{- define "kotaemon-grpc.settings" -}}
{{- $files := "/etc/kotaemon-grpc-files" -}}
{{- $address := .Values.bindAddress -}}
{{- $listeners := list -}}
{{- range .Values.listeners -}}
{{- $listener := dict "listen" (printf "%s:%d" $address (int .port)) "credentials" .credentials -}}
{{- with .minVersion }}{{ $_ := set $listener "min_version" . }}{{ end -}}
{{- if .secretName -}}
{{- $_ := set $listener "certificate" (printf "%s/tls-%s/tls.crt" $files .name) -}}
{{- $_ := set $listener "key" (printf "%s/tls-%s/tls.key" $files .name) -}}
{{- end -}}
{{- $listeners = append $listeners $listener -}}
{{- end -}}
{{- $server := dict
  "listen" (printf "%s:50051" $address)
  "health_listen" (printf "%s:50052" $address)
  "credentials" .Values.credentials
  "shutdown_delay_s" .Values.shutdown.delaySeconds
  "shutdown_grace_s" .Values.shutdown.graceSeconds -}}
{{- with $listeners }}{{ $_ := set $server "listeners" . }}{{ end -}}
{{- $tls := dict
  "certificate" (printf "%s/tls/tls.crt" $files)
  "key" (printf "%s/tls/tls.key" $files)
  "min_version" .Values.tls.minVersion -}}
{{- if include "kotaemon-grpc.anyAsksForCertificates" . }}{{ $_ := set $tls "client_ca" (include "kotaemon-grpc.clientCA" .) }}{{ end -}}
{{- $operations := dict "listen" (printf "%s:9464" $address) -}}
{{- with .Values.operations.tls -}}
{{- if .enabled -}}
{{- $directory := printf "%s/%s" $files (empty .secretName | ternary "tls" "operations") -}}
{{- $_ := set $operations "certificate" (printf "%s/tls.crt" $directory) -}}
{{- $_ := set $operations "key" (printf "%s/tls.key" $directory) -}}
{{- if .clientCertificates }}{{ $_ := set $operations "client_ca" (printf "%s/ca.crt" $directory) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $own := dict "server" $server "tls" $tls "operations" $operations
  "storage" (dict "data_dir" "/var/lib/kotaemon-grpc") -}}
{{- if or .Values.apiKeys.existingSecret .Values.apiKeys.inline -}}
{{- $_ := set $own "identity" (dict "api_keys_file" (printf "%s/api-keys/%s" $files .Values.apiKeys.key)) -}}
{{- end -}}
{{- $given := deepCopy (.Values.config | default dict) -}}
{{- if .Values.documents -}}
{{- $paths := dig "documents" "import_paths" list $given -}}
{{- $_ := set $own "documents" (dict "import_paths" (prepend $paths "/srv/documents")) -}}
{{- end -}}
{{- with .Values.tls.certManager -}}
{{- if and .enabled .client.enabled .client.roles -}}
{{- $binding := dict "principals" (list (include "kotaemon-grpc.clientId" $)) "roles" .client.roles -}}
{{- $_ := set $own "policy" (dict "bindings" (append (dig "policy" "bindings" list $given) $binding)) -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite $given $own | toJson -}}
{{- end }}

{{/* Sections as TOML. */}}
{{- define "kotaemon-grpc.sections" -}}
{{- range $section := keys . | sortAlpha }}
{{- $keys := index $ $section }}
[{{ include "kotaemon-grpc.tomlKey" $section }}]
{{- range $key := keys $keys | sortAlpha }}
{{- $value := index $keys $key }}
{{- if and (kindIs "slice" $value) $value }}
{{ include "kotaemon-grpc.tomlKey" $key }} = [
{{- range $value }}
  {{ include "kotaemon-grpc.toml" . }},
{{- end }}
]
{{- else }}
{{ include "kotaemon-grpc.tomlKey" $key }} = {{ include "kotaemon-grpc.toml" $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}

{{- define "kotaemon-grpc.configToml" -}}
{{- include "kotaemon-grpc.sections" (include "kotaemon-grpc.settings" . | fromJson) | trim }}
{{- end }}

{{/* What a running server does not take up by itself: a change of it has to restart the pods. */}}
{{- define "kotaemon-grpc.restartsFor" -}}
{{- if not .Values.existingConfigMap -}}
{{- $all := include "kotaemon-grpc.settings" . | fromJson -}}
{{- $settings := omit $all "policy" "limits" -}}
{{- /* How long a connection that has to go waits for its calls is set once, by the longest call; the
numbers are the server's own. */ -}}
{{- $longest := maxf (dig "limits" "max_stream_s" 3600 $all) (dig "limits" "max_deadline_s" 300 $all) -}}
longest call {{ $longest }}
{{- range $section, $taken := dict "identity" (list "certificates") "log" (list "level" "sample_ok" "slow_s") -}}
{{- range $key := $taken }}{{ $_ := unset (index $settings $section | default dict) $key }}{{ end -}}
{{- if not (index $settings $section) }}{{ $_ := unset $settings $section }}{{ end -}}
{{- end -}}
{{- include "kotaemon-grpc.sections" $settings -}}
{{- end -}}
{{- range $name, $file := .Values.files -}}
{{- if and $file.inline (not $file.reloaded) }}{{ $name }} {{ toJson $file.inline }}{{ end -}}
{{- end -}}
{{- end }}
