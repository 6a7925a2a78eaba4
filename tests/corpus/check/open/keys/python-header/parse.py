def looks_like_key(text: str) -> bool:
    return "-----BEGIN PRIVATE KEY-----" in text


BEGIN = "-----BEGIN %s PRIVATE KEY-----\n"
