env           = "prod"
db_password   = "Kirsch#Kern2"
region        = "eu-central-1"
session_token = null
proxy_url     = "http://tf:Wacholder.Heide@proxy.acme.internal:3128"
