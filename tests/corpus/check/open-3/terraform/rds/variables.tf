variable "grafana_admin_password" {
  type        = string
  sensitive   = true
  description = "Password of the admin, at least 12 characters"
}

variable "vpn_psk" {
  type    = string
  default = "eeyvwaseSnF5PTkXRyFa6fTy"
}

variable "smtp_password" {
  type    = string
  default = ""
}

variable "password_length" {
  default = 24
}
