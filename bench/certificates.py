"""Throw-away certificates: one authority, a server and a client, all P-256."""

import subprocess

# The name that the origin answers to, and that every proxy verifies.
HOST = "origin.test"


class Certificates:
    """PEM files in a directory. `both` holds the client's chain and key, as HAProxy wants them."""

    def __init__(self, directory):
        self.directory = directory
        self.authority = directory / "authority.crt"
        openssl("req", "-x509", *NEW_KEY, "-days", "2", "-subj", "/CN=authority",
                "-keyout", directory / "authority.key", "-out", self.authority)
        self.server, self.server_key = self.issue("server", "serverAuth")
        self.client, self.client_key = self.issue("client", "clientAuth")
        self.both = directory / "both.pem"
        self.both.write_text(self.client.read_text() + self.client_key.read_text())

    def issue(self, name, usage):
        certificate, key, request, extensions = (
            self.directory / f"{name}.{kind}" for kind in ("crt", "key", "csr", "ext"))
        extensions.write_text(f"extendedKeyUsage = {usage}\nsubjectAltName = DNS:{HOST}\n")
        openssl("req", "-new", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.authority,
                "-CAkey", self.directory / "authority.key", "-CAcreateserial", "-days", "2",
                "-extfile", extensions, "-out", certificate)
        return certificate, key


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True,
                   stdin=subprocess.DEVNULL, timeout=60)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
