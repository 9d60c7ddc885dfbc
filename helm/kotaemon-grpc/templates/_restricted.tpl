{{/*
What the restricted Pod Security Standard forbids, and the service account's token, which no pod
gets, as a list in JSON. The schema says the same; these hold when Helm is told to skip it.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
*/}}
{{- define "kotaemon-grpc.unrestricted" -}}
{{- $v := .Values -}}
{{- $problems := list -}}
{{- with $v.podSecurity -}}
{{- range $key, $id := pick . "runAsUser" "runAsGroup" "fsGroup" -}}
{{- if lt (int64 $id) 1 }}{{ $problems = append $problems (printf "podSecurity.%s: it is root's" $key) }}{{ end -}}
{{- end -}}
{{- range .supplementalGroups -}}
{{- if lt (int64 .) 1 }}{{ $problems = append $problems "podSecurity.supplementalGroups: root's is among them" }}{{ end -}}
{{- end -}}
{{- end -}}

{{- range $where, $volumes := dict "documents" (list $v.documents) "extraVolumes" $v.extraVolumes -}}
{{- range $volume := $volumes -}}
{{- range $kind := keys ($volume | default dict) | sortAlpha -}}
{{- if not (has $kind (list "name" "configMap" "csi" "downwardAPI" "emptyDir" "ephemeral" "persistentVolumeClaim" "projected" "secret")) -}}
{{- $problems = append $problems (printf "%s: the restricted standard has no volumes of the kind %q" $where $kind) -}}
{{- end -}}
{{- end -}}
{{- range dig "projected" "sources" list ($volume | default dict) -}}
{{- if hasKey . "serviceAccountToken" }}{{ $problems = append $problems (printf "%s: serviceAccountToken: pods get no token" $where) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $where, $annotations := dict "commonAnnotations" $v.commonAnnotations "podAnnotations" $v.podAnnotations "test.annotations" $v.test.annotations -}}
{{- range $key, $_ := $annotations -}}
{{- if regexMatch "^(container[.](apparmor|seccomp)|seccomp)[.]security[.](alpha|beta)[.]kubernetes[.]io/" $key -}}
{{- $problems = append $problems (printf "%s: the chart sets what %s would take back" $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range concat ($v.initContainers | default list) ($v.sidecars | default list) -}}
{{- $name := .name -}}
{{- range include "kotaemon-grpc.forbidden" . | fromJsonArray -}}
{{- $problems = append $problems (printf "initContainers and sidecars: %v: the restricted standard forbids %s" $name .) -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{/* What a container says that the standard forbids, as a list in JSON. */}}
{{- define "kotaemon-grpc.forbidden" -}}
{{- $found := list -}}
{{- range $key, $value := .securityContext -}}
{{- $allowed := false -}}
{{- if has $key (list "runAsUser" "runAsGroup") }}{{ $allowed = ge (int64 $value) 1 -}}
{{- else if has $key (list "privileged" "allowPrivilegeEscalation") }}{{ $allowed = eq (toString $value) "false" -}}
{{- else if eq $key "runAsNonRoot" }}{{ $allowed = eq (toString $value) "true" -}}
{{- else if eq $key "readOnlyRootFilesystem" }}{{ $allowed = true -}}
{{- else if eq $key "capabilities" }}{{ $allowed = and (has "ALL" (get $value "drop" | default list)) (empty (without (get $value "add" | default list) "NET_BIND_SERVICE")) -}}
{{- else if eq $key "seccompProfile" }}{{ $allowed = has (get $value "type") (list "RuntimeDefault" "Localhost") }}{{ end -}}
{{- if not (or $allowed (kindIs "invalid" $value)) -}}
{{- $found = append $found (printf "securityContext.%s: %s" $key (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- range .ports -}}
{{- if or .hostPort .hostIP }}{{ $found = append $found "ports of the host" }}{{ end -}}
{{- end -}}
{{- if .volumeDevices }}{{ $found = append $found "volumeDevices" }}{{ end -}}
{{- $lifecycle := .lifecycle | default dict -}}
{{- range list .livenessProbe .readinessProbe .startupProbe $lifecycle.postStart $lifecycle.preStop -}}
{{- if or (dig "httpGet" "host" "" (. | default dict)) (dig "tcpSocket" "host" "" (. | default dict)) -}}
{{- $found = append $found "probes and hooks of another host" -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/*
Values with a character that YAML takes for the end of a line, and "indent" does not, so that the
rest would be read as YAML of its own; or with one that YAML does not take at all, for which
"toYaml" gives nothing, without a word. As a list in JSON. `config`, `files` and `apiKeys` are written with escapes.
*/}}
{{- define "kotaemon-grpc.unwritable" -}}
{{- $problems := list -}}
{{- $global := pick (.Values.global | default dict) "imageRegistry" "imagePullSecrets" -}}
{{- $others := omit .Values "config" "files" "apiKeys" -}}
{{- range $key, $value := set $others "global" $global -}}
{{- if regexMatch `[\x{7f}-\x{9f}\x{2028}\x{2029}\x{fffe}\x{ffff}]` (printf "%v" $value) -}}
{{- $problems = append $problems (printf "%s: a character that YAML takes for the end of a line, or not at all: one of U+007F to U+009F, U+2028, U+2029, U+FFFE and U+FFFF; leave it out" $key) -}}
{{- end -}}
{{- end -}}
{{- $registry := .Values.image.registry | default $global.imageRegistry | default "" | toString -}}
{{- if not (regexMatch "^([a-zA-Z0-9][-a-zA-Z0-9.]*(:[0-9]+)?(/[-a-z0-9._]+)*)?$" $registry) -}}
{{- $problems = append $problems (printf "image.registry and global.imageRegistry: %q is no registry" $registry) -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}
