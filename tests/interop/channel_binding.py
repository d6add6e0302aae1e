"""SCRAM with channel binding (RFC 5802, RFC 5929, RFC 9266) by the libraries of other clients: SCRAM by scramp, which
PostgreSQL's Python drivers use, the binding of the TLS stream by OpenSSL and by Python's own `ssl`.

Each mechanism, each type of binding and each version of TLS that has it lets in whoever is bound to this very stream,
and nobody else.
"""

import base64
import re
import socket
import ssl

import scramp
from OpenSSL import SSL
from scramp.core import CbName

import arguments

STEP_SECS_MAX = 30
# scramp refuses this type, since Python's `ssl` cannot give its data; OpenSSL can.
CbName.SUPPORTED_TYPES |= CbName.UNSUPPORTED_TYPES
CbName.UNSUPPORTED_TYPES = frozenset()
MECHANISMS = ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"]
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


class OpenSsl:
    """TLS 1.3 by OpenSSL, which gives out keying material."""

    binding = "tls-exporter"

    def __init__(self, plain, args):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.load_verify_locations(args.certificate)
        context.set_verify(SSL.VERIFY_PEER)
        plain.settimeout(None)
        self.tls = SSL.Connection(context, plain)
        self.tls.set_tlsext_host_name(args.domain.encode())
        self.tls.set_connect_state()
        self.tls.do_handshake()
        self.send, self.recv = self.tls.sendall, self.tls.recv

    def data(self):
        return self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")


class PythonSsl:
    """TLS of a version by Python; scramp takes the certificate's hash from it."""

    binding = "tls-server-end-point"

    def __init__(self, plain, args, version):
        context = ssl.create_default_context(cafile=args.certificate)
        context.minimum_version = context.maximum_version = version
        self.tls = context.wrap_socket(plain, server_hostname=args.domain)
        self.send, self.recv = self.tls.sendall, self.tls.recv

    def data(self):
        return self.tls


class Stream:
    """A client's stream up to its login."""

    def __init__(self, args, tls):
        plain = socket.create_connection((args.host, args.tls_port), timeout=STEP_SECS_MAX)
        self.tls = tls(plain, args)
        self.read = ""
        self.domain = args.domain
        self.features = self.open()

    def send(self, text):
        self.tls.send(text.encode())

    def until(self, pattern):
        """Reads until the pattern is there, and takes all up to its end."""
        while not (found := re.search(pattern, self.read, re.DOTALL)):
            data = self.tls.recv(4096)
            assert data, f"the stream ended after {self.read!r}"
            self.read += data.decode()
        self.read = self.read[found.end() :]
        return found

    def open(self):
        self.send(
            f"<stream:stream to='{self.domain}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        return self.until("<stream:features>(.*)</stream:features>")[1]

    def log_in(self, mechanism, user, password, binding):
        """`None`, or the condition of the failure."""
        client = scramp.ScramClient([mechanism], user, password, channel_binding=binding)
        self.send(
            f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{encode(client.get_client_first())}</auth>"
        )
        answer = self.until("<challenge[^>]*>([^<]*)</challenge>|<failure[^>]*><([a-z-]*)")
        if answer[2]:
            return answer[2]
        client.set_server_first(decode(answer[1]))
        self.send(f"<response xmlns='{SASL}'>{encode(client.get_client_final())}</response>")
        answer = self.until("<success[^>]*>([^<]*)</success>|<failure[^>]*><([a-z-]*)")
        if answer[2]:
            return answer[2]
        # Fails if the server does not know the keys.
        client.set_server_final(decode(answer[1]))
        assert "urn:ietf:params:xml:ns:xmpp-bind" in self.open()
        return None


def encode(text):
    return base64.b64encode(text.encode()).decode()


def decode(text):
    return base64.b64decode(text).decode()


def offered(features):
    return set(re.findall("<channel-binding type='([a-z-]*)'/>", features))


def tls_1_2(plain, args):
    return PythonSsl(plain, args, ssl.TLSVersion.TLSv1_2)


def tls_1_3(plain, args):
    return PythonSsl(plain, args, ssl.TLSVersion.TLSv1_3)


def main():
    args = arguments.parse()
    login = "romeo", args.password
    for tls, bindings in [
        (OpenSsl, {"tls-exporter", "tls-server-end-point"}),
        (tls_1_3, {"tls-exporter", "tls-server-end-point"}),
        (tls_1_2, {"tls-server-end-point"}),
    ]:
        for mechanism in MECHANISMS:
            stream = Stream(args, tls)
            assert offered(stream.features) == bindings, stream.features
            assert f"<mechanism>{mechanism}</mechanism>" in stream.features
            binding = stream.tls.binding, stream.tls.data()
            failure = stream.log_in(mechanism, *login, binding)
            assert failure is None, f"{mechanism} {binding[0]}: {failure}"

    # Whoever sits in between has another stream: other keying material, another certificate.
    other = Stream(args, OpenSsl).tls.data()
    for tls, data in [(OpenSsl, other), (tls_1_2, b"x" * 32), (tls_1_3, b"x" * 32)]:
        stream = Stream(args, tls)
        failure = stream.log_in(MECHANISMS[1], *login, (stream.tls.binding, data))
        assert failure == "not-authorized", failure
    # TLS 1.2 has no exporter that is safe to bind to: it is not offered, and refused.
    stream = Stream(args, tls_1_2)
    failure = stream.log_in(MECHANISMS[1], *login, ("tls-exporter", other))
    assert failure in ("not-authorized", "malformed-request"), failure


main()
