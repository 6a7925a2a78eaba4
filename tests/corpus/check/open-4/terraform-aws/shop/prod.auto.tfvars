region         = "eu-central-1"
db_password    = "Pr0d-Zug-Spitze"
mail_password  = "CHANGE_ME"
monitoring = {
  enabled        = true
  pagerduty_key  = "shop-oncall"
  datadog_api_key = "5d0e7c9b1a2f4e68"
}
