{{/*
Refuses what the schema cannot see: values that are right alone and do not go together. All problems
are told at once.
*/}}
{{- define "kotaemon-grpc.checks" -}}
{{- $v := .Values -}}
{{- $problems := concat (include "kotaemon-grpc.unrestricted" . | fromJsonArray) (include "kotaemon-grpc.unwritable" . | fromJsonArray) -}}

{{- $scaled := or $v.autoscaling.enabled $v.autoscaling.external -}}
{{- if eq $v.storage.kind "volume" -}}
{{- if or (gt (int $v.replicas) 1) $scaled -}}
{{- $problems = append $problems "replicas: one server at a time can use the embedded store; set storage.kind to \"none\" for more than one pod" -}}
{{- end -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) -}}
{{- $problems = append $problems "autoscaling: minReplicas is above maxReplicas" -}}
{{- end -}}
{{- with $v.autoscaling -}}
{{- if not (or .cpuUtilization .callsInFlight .callsWaiting .metrics) -}}
{{- $problems = append $problems "autoscaling: nothing to scale by; give cpuUtilization, callsInFlight, callsWaiting or metrics" -}}
{{- end -}}
{{- if and .cpuUtilization (not (dig "requests" "cpu" "" $v.resources)) -}}
{{- $problems = append $problems "autoscaling.cpuUtilization: it is a part of what is requested; set resources.requests.cpu" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $kind := eq $v.storage.kind "volume" | ternary "StatefulSet" "Deployment" -}}
{{- $strategies := list "RollingUpdate" (eq $v.storage.kind "volume" | ternary "OnDelete" "Recreate") -}}
{{- if not (has (dig "type" "RollingUpdate" ($v.updateStrategy | default dict)) $strategies) -}}
{{- $problems = append $problems (printf "updateStrategy.type: a %s has %s" $kind (join " or " $strategies)) -}}
{{- end -}}

{{- with dig "limits" "ephemeral-storage" "" ($v.resources | default dict) -}}
{{- $data := eq $v.storage.kind "none" | ternary (include "kotaemon-grpc.storageSize" $) "0Gi" -}}
{{- $room := addf (include "kotaemon-grpc.number" $data | float64) (include "kotaemon-grpc.number" $v.tmpSize | float64) -}}
{{- if and (not $v.sidecars) (gt $room (include "kotaemon-grpc.number" . | float64)) -}}
{{- $problems = append $problems (printf "resources.limits.ephemeral-storage: %v is less than the pod may write, which is tmpSize (%s)%s" . $v.tmpSize (eq $data "0Gi" | ternary "" (printf " and storage.size (%s)" $data))) -}}
{{- end -}}
{{- end -}}

{{- $drain := include "kotaemon-grpc.drainSeconds" . | int -}}
{{- with $v.shutdown -}}
{{- if and .terminationGracePeriodSeconds (lt (int .terminationGracePeriodSeconds) (add $drain 10 | int)) -}}
{{- $problems = append $problems (printf "shutdown.terminationGracePeriodSeconds: %d is too short: preStopSeconds, delaySeconds and graceSeconds are %d together, and the server needs 10 more to end calls and to write what it has" (int .terminationGracePeriodSeconds) $drain) -}}
{{- end -}}
{{- if and (not .preStopSeconds) (not .delaySeconds) (or $scaled (gt (int $v.replicas) 1)) -}}
{{- $problems = append $problems "shutdown: delaySeconds and preStopSeconds are both 0, so calls would still be routed to a pod that refuses them" -}}
{{- end -}}
{{- if and .preStopSeconds (not (semverCompare ">=1.30.0-0" $.Capabilities.KubeVersion.Version)) -}}
{{- $problems = append $problems "shutdown.preStopSeconds: the kubelet can sleep from Kubernetes 1.30 on; use delaySeconds" -}}
{{- end -}}
{{- end -}}

{{- $names := list "grpc" "health" "operations" -}}
{{- $ports := list 50051 50052 9464 -}}
{{- $servicePorts := list (int $v.service.port) -}}
{{- range $v.listeners -}}
{{- if has .name $names }}{{ $problems = append $problems (printf "listeners: the name %q is taken" .name) }}{{ end -}}
{{- if or (has (int .port) $ports) (has (int .port) $servicePorts) }}{{ $problems = append $problems (printf "listeners: port %d is taken" (int .port)) }}{{ end -}}
{{- $names = append $names .name -}}
{{- $ports = append $ports (int .port) -}}
{{- end -}}
{{- $all := $v.credentials -}}
{{- $lists := list $v.credentials -}}
{{- range $v.listeners }}{{ $all = concat $all .credentials }}{{ $lists = append $lists .credentials }}{{ end -}}
{{- range $lists -}}
{{- $mixed := dict -}}
{{- range . }}{{ $_ := set $mixed (hasPrefix "certificate" . | toString) true }}{{ end -}}
{{- if gt (len $mixed) 1 -}}
{{- $problems = append $problems "credentials: a listener either asks every client for a certificate or none; give the others an entry of listeners" -}}
{{- end -}}
{{- end -}}
{{- $keys := or $v.apiKeys.existingSecret $v.apiKeys.inline -}}
{{- if not $v.existingConfigMap -}}
{{- if and (or (has "api_key" $all) (has "certificate+api_key" $all)) (not $keys) -}}
{{- $problems = append $problems "credentials: API keys are accepted, and there are none; set apiKeys.existingSecret" -}}
{{- end -}}
{{- if and (or (has "jwt" $all) (has "certificate+jwt" $all)) (not (dig "identity" "issuers" list ($v.config | default dict))) -}}
{{- $problems = append $problems "credentials: tokens are accepted, and nobody issues them; set config.identity.issuers" -}}
{{- end -}}
{{- else if $v.config -}}
{{- $problems = append $problems "config: existingConfigMap takes its place; give one of the two" -}}
{{- end -}}
{{- if contains "PRIVATE KEY" ($v.tls.clientCA.inline | default "") -}}
{{- $problems = append $problems "tls.clientCA.inline: a private key has no place among CAs" -}}
{{- end -}}
{{- if and $v.apiKeys.existingSecret $v.apiKeys.inline -}}
{{- $problems = append $problems "apiKeys: give existingSecret or inline" -}}
{{- end -}}
{{- with $v.tls.clientCA -}}
{{- if gt (list .existingSecret .existingConfigMap .inline | compact | len) 1 -}}
{{- $problems = append $problems "tls.clientCA: give one of existingSecret, existingConfigMap and inline" -}}
{{- end -}}
{{- end -}}
{{- with $v.tls.certManager -}}
{{- if and .enabled (not .issuerRef.name) -}}
{{- $problems = append $problems "tls.certManager.issuerRef.name: name the Issuer" -}}
{{- end -}}
{{- if and .client.enabled (not .enabled) -}}
{{- $problems = append $problems "tls.certManager.client: it needs tls.certManager.enabled" -}}
{{- end -}}
{{- end -}}

{{- $taken := list "tls" "client-ca" "operations" "api-keys" "headless" -}}
{{- range $v.listeners }}{{ $taken = append $taken (printf "tls-%s" .name) }}{{ end -}}
{{- range $name, $file := $v.files -}}
{{- if has $name $taken }}{{ $problems = append $problems (printf "files: the name %q is taken" $name) }}{{ end -}}
{{- if ne (list $file.existingSecret $file.existingConfigMap $file.inline | compact | len) 1 -}}
{{- $problems = append $problems (printf "files.%s: give one of existingSecret, existingConfigMap and inline" $name) -}}
{{- end -}}
{{- range $key, $text := $file.inline -}}
{{- if and (contains "PRIVATE KEY" (toString $text)) (not (include "kotaemon-grpc.inSecret" $file)) -}}
{{- $problems = append $problems (printf "files.%s.inline: %q has a private key; leave out \"secret: false\"" $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $mounted := include "kotaemon-grpc.fileVolumes" . | fromJson -}}
{{- range $v.extraVolumeMounts }}{{ $_ := set $mounted (.mountPath | default "" | trimPrefix "/etc/kotaemon-grpc-files/") .name }}{{ end -}}
{{- range $setting, $path := include "kotaemon-grpc.filePaths" . | fromJson -}}
{{- $parts := splitList "/" $path -}}
{{- if regexMatch "(?i)^https?://[^/?#]*@" $path -}}
{{- $problems = append $problems (printf "config.%s: a URL with a user's name or password in it has no place in a ConfigMap" $setting) -}}
{{- end -}}
{{- if hasPrefix "/etc/kotaemon-grpc-files/" $path -}}
{{- $name := index $parts 3 -}}
{{- $inline := (index ($v.files | default dict) $name | default dict).inline -}}
{{- if not (hasKey $mounted $name) -}}
{{- $problems = append $problems (printf "config.%s: nothing is mounted at /etc/kotaemon-grpc-files/%s; give files.%s" $setting $name $name) -}}
{{- else if and $inline (not (hasKey $inline (last $parts))) -}}
{{- $problems = append $problems (printf "config.%s: files.%s.inline has no %q" $setting $name (last $parts)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $volumes := list "config" "data" "tmp" "documents" -}}
{{- range $name, $_ := include "kotaemon-grpc.fileVolumes" . | fromJson }}{{ $volumes = append $volumes (printf "files-%s" $name) }}{{ end -}}
{{- range $v.extraVolumes -}}
{{- if has .name $volumes }}{{ $problems = append $problems (printf "extraVolumes: the name %q is taken" .name) }}{{ end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- $containers := list "server" -}}
{{- range concat ($v.initContainers | default list) ($v.sidecars | default list) -}}
{{- if has .name $containers }}{{ $problems = append $problems (printf "initContainers and sidecars: the name %q is taken" .name) }}{{ end -}}
{{- $containers = append $containers .name -}}
{{- end -}}

{{- if and $v.operations.tls.clientCertificates (not $v.operations.tls.enabled) -}}
{{- $problems = append $problems "operations.tls.clientCertificates: they are asked for over TLS alone; set operations.tls.enabled" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.operations.tls.enabled $v.operations.tls.clientCertificates (not $v.serviceMonitor.tls.clientSecret) -}}
{{- $problems = append $problems "serviceMonitor.tls.clientSecret: the operations port asks Prometheus for a certificate" -}}
{{- end -}}

{{- if $v.prometheusRule.disabled -}}
{{- $alerts := list -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups }}{{ range .rules }}{{ $alerts = append $alerts .alert }}{{ end }}{{ end -}}
{{- range $v.prometheusRule.disabled -}}
{{- if not (has . $alerts) }}{{ $problems = append $problems (printf "prometheusRule.disabled: there is no alert %q" .) }}{{ end -}}
{{- end -}}
{{- end -}}

{{- range $kind := list "ingress" "grpcRoute" "tlsRoute" -}}
{{- with index $v $kind -}}
{{- if and .enabled .listener (eq (include "kotaemon-grpc.routePort" (dict "root" $ "listener" .listener)) "0") -}}
{{- $problems = append $problems (printf "%s.listener: there is no listener %q" $kind .listener) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}{{ $problems = append $problems "ingress.hosts: name at least one" }}{{ end -}}
{{- if and $v.grpcRoute.enabled (not $v.grpcRoute.parentRefs) }}{{ $problems = append $problems "grpcRoute.parentRefs: name a Gateway" }}{{ end -}}
{{- if and $v.tlsRoute.enabled (not $v.tlsRoute.parentRefs) }}{{ $problems = append $problems "tlsRoute.parentRefs: name a Gateway" }}{{ end -}}
{{- if and $v.tlsRoute.enabled (not $v.tlsRoute.hostnames) }}{{ $problems = append $problems "tlsRoute.hostnames: name at least one" }}{{ end -}}

{{- with $v.podDisruptionBudget -}}
{{- $pods := $v.autoscaling.enabled | ternary (int $v.autoscaling.minReplicas) (int $v.replicas) -}}
{{- $stay := toString (.minAvailable | default 0) -}}
{{- if hasSuffix "%" $stay }}{{ $stay = divf (mulf (trimSuffix "%" $stay | float64) $pods) 100 | ceil }}{{ end -}}
{{- $known := and $pods (not $v.autoscaling.external) -}}
{{- if and .enabled (or (eq (toString .minAvailable) "100%") (and $known (ge (int $stay) $pods))) -}}
{{- $problems = append $problems (printf "podDisruptionBudget.minAvailable: with %d pods it would keep a node from ever being drained" $pods) -}}
{{- end -}}
{{- if and .enabled (has (toString .minAvailable) (list "" "<nil>")) (has (toString .maxUnavailable) (list "0" "0%")) -}}
{{- $problems = append $problems "podDisruptionBudget.maxUnavailable: it would keep a node from ever being drained" -}}
{{- end -}}
{{- end -}}

{{- $fullname := include "kotaemon-grpc.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- $problems = append $problems (printf "fullnameOverride: the names of Services begin with a letter and have no dots, and %q does not fit" $fullname) -}}
{{- end -}}

{{- with $problems }}{{ fail (printf "\n  %s" (join "\n  " .)) }}{{ end -}}
{{- end }}
