db_password = "TyoA=bezs5RVnK2Pm=Fv"
region      = "eu-central-1"
token_ttl   = "1h"
