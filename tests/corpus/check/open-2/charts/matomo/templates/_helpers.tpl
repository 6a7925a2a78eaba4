{{/*
The admin password: taken over from the Secret that is there, else random
*/}}
{{- define "matomo.adminPassword" -}}
{{- $old := lookup "v1" "Secret" .Release.Namespace (include "matomo.fullname" .) -}}
{{- if and $old $old.data -}}
{{- index $old.data "admin-password" -}}
{{- else -}}
{{- randAlphaNum 24 | b64enc -}}
{{- end -}}
{{- end -}}
