package tests

// key of the server in the tests
const serverKey = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIO/p065dqnrbonCu5irLZrVmyqQCR0g3LZ5bxJ/+fbd5oAoGCCqGSM49
AwEHoUQDQgAEWYiWTNUT6sno9nPCtGN8pmG+t3yz5cQ+7dGxgZOBqN5AdW9Tt5NP
m07N6sNLW+et2t6EAjejaCpAcc1wYq08TQ==
-----END EC PRIVATE KEY-----
`
