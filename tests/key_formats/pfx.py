#!/usr/bin/env python3
"""Rewrites a PKCS#12 file (DER, as OpenSSL writes it) in ways that OpenSSL 3.0 reads or not, and never writes.

    pfx.py ber FROM TO              indefinite lengths, octet strings in segments
    pfx.py pbmac1 FROM TO PASSWORD  the MAC of RFC 9579 in place of its own
    pfx.py iterations FROM TO       a MAC that takes 2^31 - 1 iterations
"""

import hashlib
import hmac
import sys


def read(data, at=0):
    """The tag, the content and the end of the element at this offset."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[at + 2 : start], "big")
    return tag, data[start : start + length], start + length


def elements(content):
    at, found = 0, []
    while at < len(content):
        tag, inner, at = read(content, at)
        found.append((tag, inner))
    return found


def der(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def ber(tag, content):
    """The element with indefinite lengths; octet strings of 20 bytes and more in segments."""
    end = b"\0\0"
    if tag & 0x20:
        return bytes([tag, 0x80]) + b"".join(ber(*inner) for inner in elements(content)) + end
    if tag in (0x04, 0x80) and len(content) >= 20:
        # What is inside an octet string that is itself BER stays in one piece of octets.
        pieces = [content[at : at + 100] for at in range(0, len(content), 100)]
        return bytes([tag | 0x20, 0x80]) + b"".join(der(0x04, piece) for piece in pieces) + end
    return der(tag, content)


def number(value):
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def parts(pfx):
    """The version, the ContentInfo, the octets under the MAC, and the MacData."""
    version, info, mac = elements(read(pfx)[1])
    octets = elements(elements(info[1])[1][1])[0][1]
    return version, info, octets, mac


def main():
    what, source, target, *password = sys.argv[1:]
    with open(source, "rb") as file:
        pfx = file.read()
    version, info, octets, mac = parts(pfx)
    if what == "ber":
        out = ber(*read(pfx)[:2])
    elif what == "pbmac1":
        oid = lambda text: der(0x06, bytes.fromhex(text))
        sha256 = der(0x30, oid("2a864886f70d0209"), b"\x05\0")
        salt = bytes(range(16))
        derivation = der(
            0x30, oid("2a864886f70d01050c"), der(0x30, der(0x04, salt), number(2048), number(32), sha256)
        )
        scheme = der(0x30, oid("2a864886f70d01050e"), der(0x30, derivation, sha256))
        key = hashlib.pbkdf2_hmac("sha256", password[0].encode(), salt, 2048, 32)
        digest = der(0x04, hmac.digest(key, octets, "sha256"))
        mac = der(0x30, der(0x30, scheme, digest), der(0x04, b"NOT USED"), number(1))
        out = der(0x30, der(*version), der(*info), mac)
    elif what == "iterations":
        digest, salt, _ = elements(mac[1])
        mac = der(0x30, der(*digest), der(*salt), number(2**31 - 1))
        out = der(0x30, der(*version), der(*info), mac)
    else:
        sys.exit(__doc__)
    with open(target, "wb") as file:
        file.write(out)


main()
