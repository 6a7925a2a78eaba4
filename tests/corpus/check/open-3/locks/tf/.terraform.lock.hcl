provider "registry.terraform.io/hashicorp/random" {
  version     = "3.6.2"
  constraints = "~> 3.6"
  hashes = [
    "h1:7rkFvnZUl4EKfFVmYY9QdfVAtEXdFtno+4lCVYky6eY=",
    "zh:4b83bf21c6f88965ea1f9116f6a41033f92590905e130da1e09962ccda145063",
  ]
}
