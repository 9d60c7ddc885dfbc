{{/* The name of the chart, and the name that all objects begin with. */}}
{{- define "kotaemon-grpc.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* A name that is too long ends in a checksum of it, so that two that begin alike do not meet. */}}
{{- define "kotaemon-grpc.fullname" -}}
{{- $name := include "kotaemon-grpc.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- if gt (len $full) 40 }}{{ $full = printf "%s-%s" (trunc 31 $full | trimSuffix "-") (sha256sum $full | trunc 8) }}{{ end -}}
{{- $full -}}
{{- end }}

{{/* Labels that never change, and all labels. Takes a dict of root and component. */}}
{{- define "kotaemon-grpc.selector" -}}
app.kubernetes.io/name: {{ include "kotaemon-grpc.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "kotaemon-grpc.labels" -}}
{{- $own := include "kotaemon-grpc.selector" . | fromYaml -}}
{{- $version := .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/version" (regexReplaceAll "[^A-Za-z0-9._-]" $version "-" | trunc 63 | trimAll "-._") -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- merge $own (.labels | default dict) (.root.Values.commonLabels | default dict) | toYaml -}}
{{- end }}

{{/*
The metadata of an object. Takes a dict of root and, if need be, suffix, component, labels,
annotations and hook, which are annotations that win.
*/}}
{{- define "kotaemon-grpc.metadata" -}}
{{- $name := include "kotaemon-grpc.fullname" .root -}}
{{- $annotations := merge (dict) (.hook | default dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) -}}
name: {{ .suffix | empty | ternary $name (printf "%s-%s" $name (.suffix | default "")) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "kotaemon-grpc.labels" (dict "root" .root "component" (.component | default "server") "labels" .labels) | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kotaemon-grpc.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry | default (.Values.global | default dict).imageRegistry }}{{ $name = printf "%v/%s" . $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{- define "kotaemon-grpc.pullPolicy" -}}
{{- .Values.image.pullPolicy | default (empty .Values.image.digest | ternary "Always" "IfNotPresent") -}}
{{- end }}

{{/* Pull secrets are names; a parent chart may give them as objects too, or one name alone. */}}
{{- define "kotaemon-grpc.pullSecrets" -}}
{{- $names := list -}}
{{- $global := (.Values.global | default dict).imagePullSecrets | default list -}}
{{- range concat (kindIs "slice" $global | ternary $global (list $global)) (.Values.image.pullSecrets | default list) -}}
{{- $names = append $names (kindIs "map" . | ternary . (dict "name" .)) -}}
{{- end -}}
{{- with $names | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kotaemon-grpc.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "kotaemon-grpc.fullname" .) "default") -}}
{{- end }}

{{- define "kotaemon-grpc.tlsSecret" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "kotaemon-grpc.fullname" .)) -}}
{{- end }}

{{- define "kotaemon-grpc.clientSecret" -}}
{{- .Values.tls.certManager.client.secretName | default (printf "%s-client-tls" (include "kotaemon-grpc.fullname" .)) -}}
{{- end }}

{{/* What the main listener is called with by the test, and in the notes: a certificate if it takes one. */}}
{{- define "kotaemon-grpc.credential" -}}
{{- has "certificate" .Values.credentials | ternary "certificate" (first .Values.credentials) -}}
{{- end }}

{{- define "kotaemon-grpc.testSecret" -}}
{{- .Values.test.secretName | default (include "kotaemon-grpc.clientSecret" .) -}}
{{- end }}

{{/* Whether cert-manager writes all that the test shows: "true" or nothing. */}}
{{- define "kotaemon-grpc.testSecretIsMade" -}}
{{- $certificate := eq (include "kotaemon-grpc.credential" .) "certificate" -}}
{{- if and $certificate .Values.tls.certManager.client.enabled (eq (include "kotaemon-grpc.testSecret" .) (include "kotaemon-grpc.clientSecret" .)) }}true{{ end -}}
{{- end }}

{{- define "kotaemon-grpc.clientId" -}}
{{- $default := printf "spiffe://%s/ns/%s/client/%s" .Values.tls.certManager.clusterDomain .Release.Namespace (include "kotaemon-grpc.fullname" .) -}}
{{- .Values.tls.certManager.client.spiffeId | default $default -}}
{{- end }}

{{/* The name of a Service as others know it. Takes a dict of root and, if need be, suffix. */}}
{{- define "kotaemon-grpc.host" -}}
{{- $name := include "kotaemon-grpc.fullname" .root -}}
{{- with .suffix }}{{ $name = printf "%s-%s" $name . }}{{ end -}}
{{- printf "%s.%s.svc" $name .root.Release.Namespace -}}
{{- end }}

{{/* The port of the Service that a route leads to: that of a named listener, or the main one. */}}
{{- define "kotaemon-grpc.routePort" -}}
{{- $port := .root.Values.service.port -}}
{{- if .listener -}}
{{- $port = 0 -}}
{{- range .root.Values.listeners }}{{ if eq .name $.listener }}{{ $port = .port }}{{ end }}{{ end -}}
{{- end -}}
{{- int $port -}}
{{- end }}

{{/* What a container and a pod must say to meet the restricted Pod Security Standard. */}}
{{- define "kotaemon-grpc.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- if not .Values.podSecurity.assignedByPlatform }}
runAsUser: {{ int .Values.podSecurity.runAsUser }}
runAsGroup: {{ int .Values.podSecurity.runAsGroup }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kotaemon-grpc.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity }}
{{- if not .assignedByPlatform }}
runAsUser: {{ int .runAsUser }}
runAsGroup: {{ int .runAsGroup }}
fsGroup: {{ int .fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- with .supplementalGroups }}
supplementalGroups: {{ toJson . }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The ports of a Service for calls. Takes a dict of root and port, that of the main listener. */}}
{{- define "kotaemon-grpc.servicePorts" -}}
{{- $protocol := .root.Values.service.appProtocol }}
- name: grpc
  port: {{ int .port }}
  targetPort: grpc
  protocol: TCP
  {{- with $protocol }}
  appProtocol: {{ . | quote }}
  {{- end }}
{{- range .root.Values.listeners }}
- name: {{ .name | quote }}
  port: {{ int .port }}
  targetPort: {{ .name | quote }}
  protocol: TCP
  {{- with $protocol }}
  appProtocol: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "kotaemon-grpc.certificateSpec" -}}
{{- with .Values.tls.certManager -}}
duration: {{ .duration | quote }}
renewBefore: {{ .renewBefore | quote }}
privateKey:
  algorithm: {{ .privateKey.algorithm | quote }}
  {{- if ne .privateKey.algorithm "Ed25519" }}
  size: {{ int .privateKey.size }}
  {{- end }}
  rotationPolicy: Always
issuerRef:
  {{- toYaml .issuerRef | nindent 2 }}
{{- end -}}
{{- end }}

{{/*
The newest version that the cluster has of a kind of the Gateway API. Takes a dict of root, kind,
given, which wins, and versions from old to new. Without a cluster it is the newest of all.
*/}}
{{- define "kotaemon-grpc.gatewayVersion" -}}
{{- $version := last .versions -}}
{{- range .versions -}}
{{- if $.root.Capabilities.APIVersions.Has (printf "gateway.networking.k8s.io/%s/%s" . $.kind) }}{{ $version = . }}{{ end -}}
{{- end -}}
{{- .given | default (printf "gateway.networking.k8s.io/%s" $version) -}}
{{- end }}

{{/* A quantity of Kubernetes as a number. */}}
{{- define "kotaemon-grpc.number" -}}
{{- $units := dict "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12
  "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- if kindIs "string" . -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]+$" .) | default 1.0) -}}
{{- else -}}
{{- float64 . -}}
{{- end -}}
{{- end }}
