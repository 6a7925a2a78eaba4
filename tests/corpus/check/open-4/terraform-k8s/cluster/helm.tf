provider "helm" {
  kubernetes {
    host  = var.host
    token = data.aws_eks_cluster_auth.this.token
  }
}

resource "helm_release" "grafana" {
  name       = "grafana"
  repository = "https://grafana.github.io/helm-charts"
  chart      = "grafana"

  set {
    name  = "adminPassword"
    value = "tf-Gr4f-Wand"
  }
  set {
    name  = "admin.existingSecret"
    value = ""
  }
  set_sensitive {
    name  = "grafana\\.ini.smtp.password"
    value = var.smtp_password
  }
  set_sensitive {
    name  = "grafana\\.ini.auth\\.github.client_secret"
    value = "9e41c7a0b2d85f63"
  }
  values = [
    yamlencode({
      persistence = { enabled = true }
      ldap        = { enabled = true, bindPassword = "L-d4p-Leine" }
      secretMounts = [{ name = "tls", secretName = "grafana-tls", mountPath = "/tls" }]
    }),
    file("${path.module}/values/grafana.yaml"),
  ]
}

resource "helm_release" "minio" {
  name  = "minio"
  chart = "minio"
  values = [<<-YAML
    auth:
      rootUser: ops
      rootPassword: m1n-Speicher
    tls: {enabled: true, existingSecret: minio-tls}
  YAML
  ]
}

resource "kubernetes_secret_v1" "app" {
  metadata {
    name      = "app"
    namespace = "shop"
  }
  data = {
    colour = "mauve"
    password = var.db_password
  }
}

resource "kubernetes_secret" "ca" {
  metadata { name = "ca" }
  data = {
    "ca.crt" = file("${path.module}/ca.crt")
    token    = random_password.app.result
  }
}

resource "kubernetes_config_map" "app" {
  metadata { name = "app" }
  data = {
    LOG_LEVEL     = "info"
    SMTP_PASSWORD = "p0st-Kutsche"
    SMTP_PASSWORD_FILE = "/run/secrets/smtp"
  }
}

resource "kubectl_manifest" "pull" {
  yaml_body = <<-EOF
    apiVersion: v1
    kind: Secret
    metadata:
      name: bot
      namespace: shop
    stringData:
      user: bot
      password: k-b0t-99
  EOF
}
