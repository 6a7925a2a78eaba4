#!/usr/bin/env python3
"""Open a bulla.dev/v1alpha1 SealedSecret without Bulla: bulla-open.py IDENTITY_FILE < sealed.json

Prints {key: base64 of the value}, the `data` of a Secret. Needs Python 3.8, `age` and `age-keygen` (or other commands for
them in the environment variables AGE and AGE_KEYGEN). Reads YAML if PyYAML is installed. docs/format.md explains the steps.
"""
import base64, hashlib, hmac, json, os, re, shlex, subprocess, sys


def fail(error_class, message):
    sys.exit(f"error: {error_class}: {message}")


def run(variable, *args, stdin=None):
    command = shlex.split(os.environ.get(variable) or variable.lower().replace("_", "-"))
    return subprocess.run([*command, *args], input=stdin, stdout=subprocess.PIPE, check=True).stdout


def b64(text):
    raw = base64.b64decode(text, validate=True) if len(text) % 4 == 0 else b""
    return raw if raw and base64.b64encode(raw).decode() == text else fail("malformed", "the base64 is not canonical")


def b32(raw):
    return base64.b32encode(raw).decode().lower().rstrip("=")


def lp(text):
    return len(text.encode()).to_bytes(4, "big") + text.encode()


def expand(prk, info, length):  # HKDF-Expand for up to 32 bytes
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:length]


def extract(dek):  # HKDF-Extract
    return hmac.new(b"bulla/v1/dek", dek, hashlib.sha256).digest()


def data_key_id(dek):
    return "k" + b32(expand(extract(dek), b"bulla/v1/id", 20))


def padme(length):
    e = length.bit_length() - 1
    m = (1 << (e - e.bit_length())) - 1
    return (length + m) & ~m


def unwrap(lines, wanted, fingerprints, identity_file):
    """The data key, from the line for the first of the fingerprints that has one."""
    mine = {}
    for name, line in lines.items():
        parts = re.fullmatch(r"(k[a-z2-7]{32}):(r[a-z2-7]{16}):([A-Za-z0-9+/]+={0,2})", str(line))
        if not parts or parts[2] in mine:
            fail("malformed", f"envelope {name!r}")
        mine[parts[2]] = parts
    parts = next((mine[fp] for fp in fingerprints if fp in mine), None)
    if not parts or parts[1] != wanted:
        fail("missing-envelope", f"none of {wanted} for " + ", ".join(fingerprints))
    file = b64(parts[3])
    header, _, _ = file.partition(b"\n---")
    kinds = [k for k in re.findall(rb"^-> ([!-~]+)", header, re.M) if not re.fullmatch(rb"(.*-)?grease", k)]
    if not file.startswith(b"age-encryption.org/v1\n") or len(file) > 4096 or kinds not in ([b"mlkem768x25519"], [b"X25519"]):
        fail("malformed", f"the envelope for {parts[2]} is not an age file as it should be")
    try:
        payload = run("AGE", "-d", "-i", identity_file, stdin=file)
    except subprocess.CalledProcessError:
        fail("decryption-failed", "age does not open the envelope")
    dek = payload[16:]
    if len(payload) != 48 or payload[:16] != b"bulla/v1/dek".ljust(16, b"\0") or not hmac.compare_digest(data_key_id(dek), wanted):
        fail("decryption-failed", "the envelope does not hold the data key")
    return dek


def open_item(key, item, place, common, fingerprints, identity_file):
    if not re.fullmatch(r"(?!\.$|\.\.)[-._a-zA-Z0-9]{1,253}", key) or not isinstance(item, dict):
        fail("malformed", f"item {key!r}")
    parts = re.fullmatch(r"(k[a-z2-7]{32}):([A-Za-z0-9+/]+={0,2})", str(item.get("sealed")))
    if not parts:
        fail("malformed", f"the text of {key!r}")
    sealed = b64(parts[2])  # version, tag (8), nonce (12), ciphertext, GCM tag (16)
    if sealed[0] != 1:
        fail("unsupported-version", f"{key!r} has version {sealed[0]}")
    if len(sealed) < 101 or padme(len(sealed) - 37) != len(sealed) - 37:
        fail("malformed", f"the length of {key!r}")
    ctx = lp("bulla/v1/item") + b"".join(map(lp, place)) + lp(key)
    if sealed[1:9] != hashlib.sha256(b"bulla/v1/tag" + ctx).digest()[:8]:
        fail("misplaced", f"{key!r} was sealed for another place than {place}")
    lines = item["envelopes"] if "envelopes" in item else common
    if not isinstance(lines, dict) or ("envelopes" in item and not lines):
        fail("malformed", f"the envelopes of {key!r}")
    dek = unwrap(lines, parts[1], fingerprints, identity_file)
    body = gcm_open(expand(extract(dek), ctx, 32), sealed[9:21], sealed[21:], ctx)
    n = int.from_bytes(body[:4], "big") if body else 0
    if body is None or n > len(body) - 4 or len(body) != max(64, padme(4 + n)) or any(body[4 + n:]):
        fail("decryption-failed", f"{key!r}")
    return body[4:4 + n]


def gcm_open(key, nonce, sealed, aad):
    """AES-256-GCM: the plaintext, or None. By the `cryptography` package, or slowly by the code at the end."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.exceptions import InvalidTag
    except ImportError:
        return slow_gcm_open(key, nonce, sealed, aad)
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        return None


def read(text):
    def once(pairs):  # duplicate keys are refused
        return dict(pairs) if len(dict(pairs)) == len(pairs) else fail("malformed", "a key occurs twice")
    if text.lstrip().startswith("{"):
        return json.loads(text, object_pairs_hook=once)
    try:
        import yaml
    except ImportError:
        sys.exit("error: reading YAML needs PyYAML; convert to JSON instead")

    class Loader(yaml.BaseLoader):  # in which every scalar stays a text
        def construct_mapping(self, node, deep=False):
            return once([(self.construct_object(k, True), self.construct_object(v, True)) for k, v in node.value])
    try:
        if any(isinstance(t, (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken)) for t in yaml.scan(text)):
            fail("malformed", "anchors, aliases and tags are refused")
        return yaml.load(text, Loader)
    except yaml.YAMLError as e:
        fail("malformed", str(e))


def main(identity_file):
    try:
        document = read(sys.stdin.buffer.read().decode())
        spec, metadata = document["spec"], document["metadata"]
        scope, items, common = spec.get("scope", "strict"), dict(spec["items"]), spec.get("envelopes", {})
        if (document["apiVersion"], document["kind"]) != ("bulla.dev/v1alpha1", "SealedSecret"):
            fail("malformed", "not a SealedSecret of bulla.dev/v1alpha1")
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        fail("malformed", repr(e))
    namespace = "" if scope == "cluster-wide" else metadata.get("namespace") or ""
    name = metadata.get("name") or "" if scope == "strict" else ""
    label = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    if scope not in ("strict", "namespace-wide", "cluster-wide") \
            or scope != "cluster-wide" and not (re.fullmatch(label, namespace) and len(namespace) < 64) \
            or scope == "strict" and not (re.fullmatch(rf"{label}(\.{label})*", name) and len(name) < 254):
        fail("malformed", f"scope {scope!r}, namespace {namespace!r}, name {name!r}")
    recipients = run("AGE_KEYGEN", "-y", identity_file).decode().split()
    fingerprints = ["r" + b32(hashlib.sha256(r.encode()).digest()[:10]) for r in recipients]
    place = (scope, namespace, name)
    values = {key: open_item(key, item, place, common, fingerprints, identity_file) for key, item in items.items()}
    print(json.dumps({key: base64.b64encode(value).decode() for key, value in values.items()}, indent=2, sort_keys=True))


# AES-256-GCM by the book (FIPS 197, NIST SP 800-38D), for a machine where nothing can be installed: neither fast nor
# constant in time, so for use by hand on a machine of one's own.

def aes_tables():
    double = [x << 1 ^ (0x11B if x & 0x80 else 0) for x in range(256)]  # times 2 in the field of AES
    sbox, p, q = [0x63] * 256, 1, 1
    for _ in range(255):  # p runs through the field in powers of 3, q is its inverse
        p ^= double[p]
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q = q & 0xFF ^ (0x09 if q & 0x80 else 0)
        r = q * 0x101
        sbox[p] = (q ^ r >> 7 ^ r >> 6 ^ r >> 5 ^ r >> 4) & 0xFF ^ 0x63
    return sbox, [double[b] << 24 | b << 16 | b << 8 | double[b] ^ b for b in sbox]  # and SubBytes with MixColumns


def aes(key):
    """The function that encrypts one block of 16 bytes."""
    sbox, mix = aes_tables()
    turn = lambda w, n: (w >> n | w << 32 - n) & 0xFFFFFFFF
    mixes = [[turn(w, n) for w in mix] for n in (0, 8, 16, 24)]
    sub = lambda w: sbox[w >> 24] << 24 | sbox[w >> 16 & 255] << 16 | sbox[w >> 8 & 255] << 8 | sbox[w & 255]
    words, rcon = [int.from_bytes(key[i:i + 4], "big") for i in range(0, 32, 4)], 1
    while len(words) < 60:
        w = words[-1]
        if len(words) % 8 == 0:
            w, rcon = sub(turn(w, 24)) ^ rcon << 24, rcon << 1
        elif len(words) % 8 == 4:
            w = sub(w)
        words.append(words[-8] ^ w)

    def encrypt(block):
        s = [int.from_bytes(block[4 * i:4 * i + 4], "big") ^ words[i] for i in range(4)]
        for r in range(4, 56, 4):
            s = [mixes[0][s[i] >> 24] ^ mixes[1][s[i - 3] >> 16 & 255] ^ mixes[2][s[i - 2] >> 8 & 255]
                 ^ mixes[3][s[i - 1] & 255] ^ words[r + i] for i in range(4)]
        return b"".join((sub(s[i] & 0xFF000000 | s[i - 3] & 0xFF0000 | s[i - 2] & 0xFF00 | s[i - 1] & 0xFF)
                         ^ words[56 + i]).to_bytes(4, "big") for i in range(4))
    return encrypt


def slow_gcm_open(key, nonce, sealed, aad):
    encrypt, (text, mac) = aes(key), (sealed[:-16], sealed[-16:])
    powers = [int.from_bytes(encrypt(bytes(16)), "big")]  # H, and H times x, x squared, ...
    for _ in range(127):
        powers.append(powers[-1] >> 1 ^ (0xE1 << 120 if powers[-1] & 1 else 0))
    pad, total = lambda b: b + bytes(-len(b) % 16), 0
    hashed = pad(aad) + pad(text) + (8 * len(aad)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    for i in range(0, len(hashed), 16):
        x, total = total ^ int.from_bytes(hashed[i:i + 16], "big"), 0
        for power in reversed(powers):  # the lowest bit stands for the highest power of x
            if x & 1:
                total ^= power
            x >>= 1
    count = lambda n: encrypt(nonce + n.to_bytes(4, "big"))
    if not hmac.compare_digest(mac, bytes(a ^ b for a, b in zip(total.to_bytes(16, "big"), count(1)))):
        return None
    stream = b"".join(count(2 + i) for i in range(-(-len(text) // 16)))
    return bytes(a ^ b for a, b in zip(text, stream))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
