resource "kubernetes_manifest" "s" {
  manifest = yamldecode(<<-YAML
    apiVersion: v1
    kind: Secret
    metadata:
      name: from-yaml
      namespace: web
    stringData:
      token: iXTWTuRH29HHH4kLowYUm9fvT2kJD3Wo
  YAML
  )
}
