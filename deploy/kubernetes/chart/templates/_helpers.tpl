{{/* What both shapes say of a pod: its rights. */}}
{{- define "emperor.podSecurity" -}}
{{- if eq .Values.rights "restricted" }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.runAsUser }}
  runAsGroup: {{ .Values.runAsUser }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}
{{- end }}

{{/* The same of its container. */}}
{{- define "emperor.containerSecurity" -}}
securityContext:
{{- if eq .Values.rights "restricted" }}
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- else if eq .Values.rights "fuse-device" }}
  capabilities:
    add: [SYS_ADMIN]
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
  appArmorProfile:
    type: Unconfined
{{- end }}
{{- else }}
  privileged: true
{{- end }}
{{- end }}

{{/* What is said of AppArmor before Kubernetes 1.30. Called with a dict of root and container. */}}
{{- define "emperor.appArmor" -}}
{{- if and (eq .root.Values.rights "fuse-device") (semverCompare "<1.30.0-0" .root.Capabilities.KubeVersion.Version) }}
container.apparmor.security.beta.kubernetes.io/{{ .container }}: unconfined
{{- end }}
{{- end }}

{{/* What can be written to where the root filesystem is read-only. */}}
{{- define "emperor.scratchMounts" -}}
{{- if eq .Values.rights "restricted" }}
- name: run
  mountPath: /run
- name: tmp
  mountPath: /tmp
{{- end }}
{{- end }}

{{- define "emperor.scratchVolumes" -}}
{{- if eq .Values.rights "restricted" }}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- end }}
{{- end }}

{{/* Called with a dict of root and resources. */}}
{{- define "emperor.resources" -}}
{{- $resources := deepCopy (default dict .resources) }}
{{- if eq .root.Values.rights "fuse-device" }}
{{- $limits := merge (dict .root.Values.fuseDevice 1) (default dict $resources.limits) }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- if $resources }}
resources:
  {{- toYaml $resources | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where pods may run. */}}
{{- define "emperor.nodes" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Services forget a pod before it stops to accept. */}}
{{- define "emperor.preStop" -}}
lifecycle:
  preStop:
    exec:
      command: [sleep, "5"]
{{- end }}

{{/* What the kubelet asks a vassal for; called with a dict of port and path. */}}
{{- define "emperor.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port }}
{{- end }}
