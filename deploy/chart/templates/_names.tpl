{{- define "kvpool.labels" -}}
app.kubernetes.io/name: kvpool-operator
app.kubernetes.io/part-of: kvpool
{{- end -}}

{{- /* An image of ours: (list . "router") */ -}}
{{- define "kvpool.image" -}}
{{- $top := index . 0 -}}
{{- $top.Values.image.registry }}/kvpool/{{ index . 1 }}:{{ $top.Values.image.tag | default $top.Chart.AppVersion }}
{{- end -}}

{{- define "kvpool.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kvpool.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}
