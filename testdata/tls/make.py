#!/usr/bin/env python3
"""Write a certificate authority of the tests, and a certificate for localhost that it signed.

    python3 testdata/tls/make.py

Needs the openssl program. authority.pem is what clients trust, server.pem and server-key.pem are what a server shows,
other-key.pem is a key that does not belong to it. All are valid for a hundred years; the authority's own key is thrown
away, so that nothing else can be signed with it. Keys in a repository protect nothing: these are for tests alone.
"""

import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DAYS = "36500"
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


def openssl(*words):
    subprocess.run(["openssl", *[str(word) for word in words]], check=True, capture_output=True)


def key(path):
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        authority_key, request = folder / "authority-key.pem", folder / "request.pem"
        extensions = folder / "extensions"
        extensions.write_text(f"{NAMES}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n")
        key(authority_key)
        authority = ["req", "-x509", "-new", "-key", authority_key, "-subj", "/CN=llmos tests", "-days", DAYS]
        openssl(*authority, "-addext", "keyUsage=critical,keyCertSign", "-out", HERE / "authority.pem")
        key(HERE / "server-key.pem")
        openssl("req", "-new", "-key", HERE / "server-key.pem", "-subj", "/CN=localhost", "-out", request)
        sign = ["x509", "-req", "-in", request, "-CA", HERE / "authority.pem", "-CAkey", authority_key]
        openssl(*sign, "-CAcreateserial", "-days", DAYS, "-extfile", extensions, "-out", HERE / "server.pem")
        (HERE / "authority.srl").unlink(missing_ok=True)
    key(HERE / "other-key.pem")


if __name__ == "__main__":
    main()
