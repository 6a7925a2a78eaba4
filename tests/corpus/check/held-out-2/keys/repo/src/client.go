package client

// Keys look like this:
//   -----BEGIN RSA PRIVATE KEY-----
//   ...
//   -----END RSA PRIVATE KEY-----
const password = "Sumpfmeise12"

var devKey = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJXfdwbw/Hr+vl9Lkc2OifxvbxFDkI9U2VfYGrmTr7UM\n-----END PRIVATE KEY-----\n"
