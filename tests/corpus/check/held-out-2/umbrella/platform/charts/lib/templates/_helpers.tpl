{{- define "lib.password" -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace .name -}}
{{- if $secret -}}{{ index $secret.data "password" | b64dec }}{{- else -}}{{ randAlphaNum 24 }}{{- end -}}
{{- end -}}
