"""Runs every check. See `run`, which says what this needs."""

import io
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

from dockerd import Dockerd

PATIENCE = 30
failed = 0


def certify(directory):
    """Makes ca.pem, and origin.pem and client.pem with their keys."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True, timeout=PATIENCE)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA")
    for name, extension in [("origin", "subjectAltName=DNS:docker.example\nextendedKeyUsage=serverAuth\n"), ("client", "extendedKeyUsage=clientAuth\n")]:
        (directory / f"{name}.ext").write_text(extension)
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "1", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip


def wait_for(what, look):
    until = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > until:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)
    return found


def start(binary, directory, port):
    """Starts mtlsd, and returns it and the port of its TCP listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
    (directory / "mtlsd.toml").write_text(
        f'[bindings.docker]\nlisten = ["unix:docker.sock", "127.0.0.1:{own}"]\norigin = "https://docker.example:{port}"\n'
        f'connect_to = "127.0.0.1"\ncertificate = "client.pem"\nkey = "client.key"\nca = "ca.pem"\n'
        'upgrades = ["tcp", "h2c"]\nbody_timeout = "1day"\nclient_idle_timeout = "1day"\n'
    )
    log = open(directory / "mtlsd.log", "w")
    daemon = subprocess.Popen([binary, "run"], cwd=directory, stdout=subprocess.DEVNULL, stderr=log)

    def ready():
        text = (directory / "mtlsd.log").read_text()
        assert daemon.poll() is None, text
        return '"ready"' in text

    wait_for("mtlsd", ready)
    return daemon, own


def check(name, body):
    global failed
    try:
        body()
        print(f"PASS  {name}", flush=True)
    except Exception as error:  # noqa: BLE001
        failed += 1
        print(f"FAIL  {name}: {error!r}", flush=True)


def checks(directory, origin, host):
    """Every check, through the listener at `host`."""
    home = directory / "home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "DOCKER_HOST": host, "HOME": str(home), "DOCKER_BUILDKIT": "0"}

    def docker(*words, given=b"", status=0):
        done = subprocess.run(["docker", *words], input=given, env=environment, cwd=directory, capture_output=True, timeout=PATIENCE)
        assert done.returncode == status, f"docker {words} ends with {done.returncode}: {done.stdout!r} {done.stderr!r}"
        return done

    def expect(seen, expected):
        assert seen == expected, f"{seen!r} and not {expected!r}"

    def called(call):
        assert call in origin.calls, f"{call!r} is not in {origin.calls}"

    def version():
        assert b"28.2.2" in docker("version", "--format", "{{.Server.Version}}").stdout
        called("client: GET version")

    def run():
        done = docker("run", "-i", "--name", "it", "image", given=b"words\n" * 1000, status=3)
        expect(done.stdout, b"hello from the container\n" + b"WORDS\n" * 1000)
        assert b"warning\n" in done.stderr, done.stderr
        called("tcp")

    def attach():
        origin.known["started"].set()
        done = docker("attach", "it", given=b"in\n", status=3)
        expect(done.stdout, b"hello from the container\nIN\n")

    def execute():
        done = docker("exec", "-i", "it", "cat", given=b"x" * 300_000, status=5)
        expect(done.stdout, b"executed\n" + b"X" * 300_000)
        upgrades = [call for call in origin.calls if call.startswith("tcp {")]
        assert upgrades and "Detach" in upgrades[0], origin.calls

    def logs():
        # Each line comes as soon as it is written.
        began = time.monotonic()
        following = subprocess.Popen(["docker", "logs", "-f", "it"], env=environment, stdout=subprocess.PIPE)
        expect(following.stdout.readline(), b"line 0\n")
        first = time.monotonic() - began
        expect(following.stdout.read(), b"line 1\nline 2\n")
        expect(following.wait(PATIENCE), 0)
        assert time.monotonic() - began - first > 0.3, "the lines came all at once"

    def copy_out():
        docker("cp", "it:/file", "copied")
        expect((directory / "copied").read_bytes(), b"from the container")

    def copy_in():
        (directory / "large").write_bytes(b"x" * 3_000_000)
        docker("cp", "large", "it:/")
        with tarfile.open(fileobj=io.BytesIO(origin.known["put"])) as tar:
            expect(tar.getmembers()[0].size, 3_000_000)

    def build():
        context = directory / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\n")
        done = docker("build", str(context))
        assert b"Successfully built" in done.stdout, done
        with tarfile.open(fileobj=io.BytesIO(origin.known["built"])) as tar:
            assert "Dockerfile" in tar.getnames()

    def buildkit():
        # What BuildKit's client sends, which is not part of docker's own command line.
        if host.startswith("unix://"):
            stream = socket.socket(socket.AF_UNIX)
            stream.connect(host.removeprefix("unix://"))
        else:
            address, port = host.removeprefix("tcp://").split(":")
            stream = socket.create_connection((address, int(port)))
        stream.settimeout(PATIENCE)
        stream.sendall(
            b"POST /session HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            b"X-Docker-Expose-Session-Uuid: x\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        stream.sendall(b"pri * http/2.0\r\n\r\nsm\r\n\r\n")
        told = b""
        while len(told) < 24:
            told += stream.recv(64)
        expect(told, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        stream.close()

    for body in [version, run, attach, execute, logs, copy_out, copy_in, build, buildkit]:
        origin.forget()
        check(f"{body.__name__.replace('_', ' ')}, {host.split(':')[0]}", body)


def main(binary):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="mtlsd-docker-"))
    daemon = None
    try:
        certify(directory)
        origin = Dockerd(directory)
        daemon, port = start(binary, directory, origin.server_address[1])
        checks(directory, origin, f"unix://{directory}/docker.sock")
        checks(directory, origin, f"tcp://127.0.0.1:{port}")
        if failed:
            print((directory / "mtlsd.log").read_text()[-3000:])
    finally:
        if daemon:
            daemon.kill()
            daemon.wait()
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
