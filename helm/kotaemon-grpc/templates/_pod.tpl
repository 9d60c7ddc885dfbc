{{/* The pod of the server, without what a StatefulSet adds. */}}
{{- define "kotaemon-grpc.pod" -}}
metadata:
  labels:
    {{- include "kotaemon-grpc.labels" (dict "root" . "component" "server" "labels" .Values.podLabels) | nindent 4 }}
  annotations:
    {{- merge (dict "checksum/config" (include "kotaemon-grpc.restartsFor" . | sha256sum)) (.Values.podAnnotations | default dict) (.Values.commonAnnotations | default dict) | toYaml | nindent 4 }}
spec:
  {{- with include "kotaemon-grpc.pullSecrets" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  serviceAccountName: {{ include "kotaemon-grpc.serviceAccountName" . | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "kotaemon-grpc.podSecurity" . | nindent 4 }}
  terminationGracePeriodSeconds: {{ include "kotaemon-grpc.terminationSeconds" . }}
  {{- include "kotaemon-grpc.spread" . | nindent 2 }}
  {{- include "kotaemon-grpc.placement" . | trim | nindent 2 }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- range . }}
    - {{ include "kotaemon-grpc.hardened" (dict "root" $ "container" .) | indent 6 | trim }}
    {{- end }}
  {{- end }}
  containers:
    - name: server
      {{- include "kotaemon-grpc.server" . | nindent 6 }}
    {{- range .Values.sidecars }}
    - {{ include "kotaemon-grpc.hardened" (dict "root" $ "container" .) | indent 6 | trim }}
    {{- end }}
  volumes:
    {{- include "kotaemon-grpc.volumes" . | trim | nindent 4 }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "kotaemon-grpc.server" -}}
image: {{ include "kotaemon-grpc.image" . | quote }}
imagePullPolicy: {{ include "kotaemon-grpc.pullPolicy" . | quote }}
command: [kotaemon-grpc]
args:
  - serve
  - --config
  - /etc/kotaemon-grpc/config.toml
  {{- range .Values.extraArgs }}
  - {{ . | quote }}
  {{- end }}
{{- $passphrase := .Values.tls.keyPassphrase }}
{{- if or $passphrase.existingSecret .Values.extraEnv }}
env:
  {{- with $passphrase.existingSecret }}
  - name: KOTAEMON_GRPC_TLS__KEY_PASSPHRASE
    valueFrom:
      secretKeyRef: {name: {{ quote . }}, key: {{ quote $passphrase.key }}}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: grpc, containerPort: 50051, protocol: TCP}
  - {name: health, containerPort: 50052, protocol: TCP}
  - {name: operations, containerPort: 9464, protocol: TCP}
  {{- range .Values.listeners }}
  - {name: {{ quote .name }}, containerPort: {{ int .port }}, protocol: TCP}
  {{- end }}
{{- range $kind := list "startup" "readiness" "liveness" }}
{{ $kind }}Probe:
  # Without "service" it is asked for the server as a whole.
  grpc: {port: 50052}
  {{- range $key, $number := index $.Values.probes $kind }}
  {{ quote $key }}: {{ int $number }}
  {{- end }}
{{- end }}
{{- with .Values.shutdown.preStopSeconds }}
lifecycle:
  preStop:
    sleep: {seconds: {{ int . }}}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "kotaemon-grpc.containerSecurity" . | nindent 2 }}
# A server that does not start says why on stderr.
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: config, mountPath: /etc/kotaemon-grpc, readOnly: true}
  - {name: data, mountPath: /var/lib/kotaemon-grpc}
  - {name: tmp, mountPath: /tmp}
  {{- range $name := include "kotaemon-grpc.fileVolumes" . | fromJson | keys | sortAlpha }}
  - {name: {{ printf "files-%s" $name | quote }}, mountPath: {{ printf "/etc/kotaemon-grpc-files/%s" $name | quote }}, readOnly: true}
  {{- end }}
  {{- if .Values.documents }}
  - {name: documents, mountPath: /srv/documents, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "kotaemon-grpc.spread" -}}
topologySpreadConstraints:
  {{- $labels := include "kotaemon-grpc.selector" (dict "root" . "component" "server") | fromYaml }}
  {{- $default := list
    (dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" "ScheduleAnyway")
    (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway") }}
  {{- range .Values.topologySpreadConstraints | default $default }}
  - {{ merge (dict "labelSelector" (dict "matchLabels" $labels)) . | toYaml | indent 4 | trim }}
  {{- end }}
{{- end }}

{{/* Where a pod goes and how it resolves names: that of the server, and that of the test. */}}
{{- define "kotaemon-grpc.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
dnsPolicy: {{ .Values.dnsPolicy | quote }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
A container of the user, with what the restricted standard asks for. What it says itself wins, false
too, which "merge" takes for nothing; what the standard forbids is refused by the checks.
*/}}
{{- define "kotaemon-grpc.hardened" -}}
{{- $container := deepCopy .container -}}
{{- $context := include "kotaemon-grpc.containerSecurity" .root | fromYaml -}}
{{- range $key, $value := $container.securityContext -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $context $key $value }}{{ end -}}
{{- end -}}
{{- $_ := set $container "securityContext" $context -}}
{{- toYaml $container -}}
{{- end }}

{{/* What is mounted below /etc/kotaemon-grpc-files: a volume source by the name of its directory. */}}
{{- define "kotaemon-grpc.fileVolumes" -}}
{{- $fullname := include "kotaemon-grpc.fullname" . -}}
{{- $volumes := dict "tls" (dict "secret" (include "kotaemon-grpc.tlsSecret" .)) -}}
{{- with .Values.tls.clientCA -}}
{{- if include "kotaemon-grpc.anyAsksForCertificates" $ -}}
{{- if .inline }}{{ $_ := set $volumes "client-ca" (dict "configMap" (printf "%s-client-ca" $fullname)) -}}
{{- else if .existingSecret }}{{ $_ := set $volumes "client-ca" (dict "secret" .existingSecret) -}}
{{- else if .existingConfigMap }}{{ $_ := set $volumes "client-ca" (dict "configMap" .existingConfigMap) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range .Values.listeners -}}
{{- if .secretName }}{{ $_ := set $volumes (printf "tls-%s" .name) (dict "secret" .secretName) }}{{ end -}}
{{- end -}}
{{- with .Values.operations.tls -}}
{{- if and .enabled .secretName }}{{ $_ := set $volumes "operations" (dict "secret" .secretName) }}{{ end -}}
{{- end -}}
{{- with .Values.apiKeys -}}
{{- if or .inline .existingSecret -}}
{{- $_ := set $volumes "api-keys" (dict "secret" (.existingSecret | default (printf "%s-api-keys" $fullname))) -}}
{{- end -}}
{{- end -}}
{{- range $name, $file := .Values.files -}}
{{- if $file.existingSecret }}{{ $_ := set $volumes $name (dict "secret" $file.existingSecret) -}}
{{- else if $file.existingConfigMap }}{{ $_ := set $volumes $name (dict "configMap" $file.existingConfigMap) -}}
{{- else }}{{ $_ := set $volumes $name (dict (include "kotaemon-grpc.inSecret" $file | empty | ternary "configMap" "secret") (printf "%s-%s" $fullname $name)) }}{{ end -}}
{{- end -}}
{{- toJson $volumes -}}
{{- end }}

{{/* Whether the chart keeps the inline texts of a file in a Secret: "true" or nothing. */}}
{{- define "kotaemon-grpc.inSecret" -}}
{{- if ne (toString .secret) "false" }}true{{ end -}}
{{- end }}

{{/* The files that `config` names, by setting. */}}
{{- define "kotaemon-grpc.filePaths" -}}
{{- $paths := dict -}}
{{- with .Values.config | default dict -}}
{{- range $key := list "ca" "headers_file" -}}
{{- with dig "traces" $key "" $.Values.config }}{{ $_ := set $paths (printf "traces.%s" $key) . }}{{ end -}}
{{- end -}}
{{- range $index, $issuer := dig "identity" "issuers" list . -}}
{{- $_ := set $paths (printf "identity.issuers[%d].jwks" $index) ($issuer.jwks | default "") -}}
{{- end -}}
{{- end -}}
{{- toJson $paths -}}
{{- end }}

{{- define "kotaemon-grpc.volumes" -}}
- name: config
  configMap:
    name: {{ .Values.existingConfigMap | default (include "kotaemon-grpc.fullname" .) | quote }}
{{- range $name, $source := include "kotaemon-grpc.fileVolumes" . | fromJson }}
- name: {{ printf "files-%s" $name | quote }}
  {{- with $source.secret }}
  # The group of the pod reads it, and nobody else.
  secret: {secretName: {{ quote . }}, defaultMode: 0440, optional: false}
  {{- end }}
  {{- with $source.configMap }}
  configMap: {name: {{ quote . }}, optional: false}
  {{- end }}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.tmpSize | quote }}}
{{- with .Values.documents }}
- name: documents
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if eq .Values.storage.kind "none" }}
- name: data
  emptyDir: {sizeLimit: {{ include "kotaemon-grpc.storageSize" . | quote }}}
{{- else if .Values.storage.existingClaim }}
- name: data
  persistentVolumeClaim: {claimName: {{ quote .Values.storage.existingClaim }}}
{{- end }}
{{- end }}

{{- define "kotaemon-grpc.storageSize" -}}
{{- .Values.storage.size | default (eq .Values.storage.kind "volume" | ternary "10Gi" "512Mi") -}}
{{- end }}

{{- define "kotaemon-grpc.drainSeconds" -}}
{{- with .Values.shutdown }}{{ add .preStopSeconds (ceil .delaySeconds) (ceil .graceSeconds) }}{{ end -}}
{{- end }}

{{- define "kotaemon-grpc.terminationSeconds" -}}
{{- .Values.shutdown.terminationGracePeriodSeconds | int | default (include "kotaemon-grpc.drainSeconds" . | int | add 15) -}}
{{- end }}
