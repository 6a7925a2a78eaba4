region        = "eu-central"
smtp_password = "Dachgeschoss.Links2"
token_ttl     = "24h"
