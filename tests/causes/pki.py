"""Certificates of every kind there is something wrong with, made with openssl."""

import subprocess
import sys

NAMES = "DNS:localhost,IP:127.0.0.1"
PAST = ("20200101000000Z", "20210101000000Z")
NOW = ("20200101000000Z", "20900101000000Z")
FUTURE = ("20890101000000Z", "20900101000000Z")


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False)
    if done.returncode != 0:
        sys.exit(f"openssl {' '.join(map(str, arguments))} failed:\n{done.stderr}")


def new_key(path, kind):
    if kind == "rsa":
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path)
    else:
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


class Issued:
    """A certificate with its key, in files."""

    def __init__(self, stem, subject, serial):
        self.certificate, self.key = stem.with_suffix(".crt"), stem.with_suffix(".key")
        self.subject, self.serial = subject, serial

    def with_chain(self, *issuers):
        """The same with the certificates of its issuers behind it."""
        text = "".join(path.read_text() for path in (self.certificate, *issuers))
        self.certificate.write_text(text)
        return self


class Authority:
    """A certificate authority; one without an `issuer` is a root."""

    def __init__(self, directory, name, subject, issuer=None):
        self.directory = directory / name
        self.directory.mkdir()
        self.name, self.subject = name, subject
        self.certificate, self.key = self.directory / "ca.crt", self.directory / "ca.key"
        self.crl = self.directory / "crl.pem"
        self.next = 0x1000
        (self.directory / "index.txt").write_text("")
        (self.directory / "index.txt.attr").write_text("unique_subject = no\n")
        self.configuration = self.directory / "ca.cnf"
        self.configuration.write_text(f"""
[ca]
default_ca = this
[this]
database = {self.directory}/index.txt
serial = {self.directory}/serial
new_certs_dir = {self.directory}
certificate = {self.certificate}
private_key = {self.key}
default_md = sha256
default_crl_days = 30
crlnumber = {self.directory}/crlnumber
crl_extensions = crl
policy = any
unique_subject = no
[any]
commonName = supplied
organizationName = optional
[crl]
authorityKeyIdentifier = keyid
[req]
distinguished_name = none
[none]
""")
        (self.directory / "crlnumber").write_text("01\n")
        new_key(self.key, "ec")
        constraints = "basicConstraints=critical,CA:true"
        if issuer is None:
            openssl("req", "-x509", "-config", self.configuration, "-key", self.key, "-subj",
                    subject, "-addext", constraints, "-days", "3650", "-out", self.certificate)
        else:
            made = issuer.issue(name, subject=subject, extensions=constraints, key=self.key)
            self.certificate.write_text(made.certificate.read_text())

    def issue(self, name, subject=None, dates=NOW, usage=None, extensions=None, kind="ec",
              key=None):
        """A certificate; `usage` is its extended key usage."""
        self.next += 1
        subject = subject or f"/CN={name}"
        issued = Issued(self.directory / name, "CN=" + subject.rpartition("CN=")[2],
                        f"{self.next:X}")
        if key is None:
            new_key(issued.key, kind)
        lines = extensions or f"subjectAltName={NAMES}"
        if usage:
            lines += f"\nextendedKeyUsage={usage}"
        (self.directory / "serial").write_text(f"{self.next:X}\n")
        request, extfile = self.directory / "csr", self.directory / "ext"
        extfile.write_text(lines + "\n")
        openssl("req", "-new", "-config", self.configuration, "-key", key or issued.key, "-subj",
                subject, "-out", request)
        openssl("ca", "-batch", "-notext", "-config", self.configuration, "-in", request, "-out",
                issued.certificate, "-startdate", dates[0], "-enddate", dates[1], "-extfile",
                extfile)
        return issued

    def revoke(self, *revoked):
        """Writes the list of what is revoked."""
        for each in revoked:
            openssl("ca", "-config", self.configuration, "-revoke", each.certificate)
        openssl("ca", "-config", self.configuration, "-gencrl", "-out", self.crl)


def self_signed(directory, name):
    issued = Issued(directory / name, f"CN={name}", "")
    new_key(issued.key, "ec")
    openssl("req", "-x509", "-config", "/dev/null", "-key", issued.key, "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={NAMES}", "-days", "3650", "-out", issued.certificate)
    return issued
