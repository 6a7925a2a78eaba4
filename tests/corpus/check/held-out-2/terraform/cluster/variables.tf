variable "db_password" {
  type        = string
  sensitive   = true
  description = "Password of the shop's user"
}

variable "grafana_admin_password" {
  type    = string
  default = "iloveyou"
}

variable "slack_token" {
  default = ""
}

variable "token_ttl" { default = "24h" }

locals {
  secret_name = "db"
  api_key     = sensitive(var.api_key)
  webhook_secret = "vX4-qrT9.bNm"
  # old_password = "nicht-mehr-88"
}
