"""Every way in which presenting a certificate fails, and what has to be said about it."""

from dataclasses import dataclass

from peers import (Nginx, alerting, answer, answer_and, close_unanswered, closing, deaf, free_port,
                   never_answer, once_then_close, page, renegotiating, reset, reset_unanswered,
                   resetting, s_server, says, serve, silent, tls)
from pki import FUTURE, PAST, Authority, self_signed

TLS = "tls_protocol_error"
ALERT = "tls_alert_received"
CERTIFICATE = "tls_certificate_error"
ENDED = "connection_terminated"


@dataclass
class Row:
    """One cause. `words` are those that no other cause's text has."""

    name: str
    port: int
    cause: str
    words: str
    error: str = ""  # of Proxy-Status; none where the origin's own answer is passed on
    status: int = 502
    client: object = None  # the certificate, where not the usual one
    lines: str = ""  # further keys of the binding
    request: str = "GET"
    host: str = "localhost"
    connect_to: str = "127.0.0.1"
    before: int = 0  # requests that are to go well first
    probe: str = ""  # the cause that `probe` names, where it can see more or less


def certificates(directory):
    """Everything that is presented to anybody."""
    class Certificates:
        servers = Authority(directory, "servers", "/O=Origin/CN=Origin Root")
        stranger = Authority(directory, "stranger", "/O=Elsewhere/CN=Strange Root")
        clients = Authority(directory, "clients", "/O=Partner/CN=Partner Root")
        old = Authority(directory, "old", "/O=Before/CN=Old Root")
    its = Certificates()
    its.issuing = Authority(directory, "issuing", "/O=Origin/CN=Origin Issuing", its.servers)
    its.strange = Authority(directory, "strange", "/O=Elsewhere/CN=Strange Issuing", its.stranger)
    its.middle = Authority(directory, "middle", "/O=Partner/CN=Partner Issuing", its.clients)
    its.origin = its.servers.issue("origin")
    its.client = its.clients.issue("client", usage="clientAuth")
    return its


def rows(directory, running):
    its = certificates(directory)
    origin, root = its.origin, its.clients.certificate

    def verifying(*arguments):
        return s_server(running, origin, "-CAfile", root, "-Verify", "2", "-verify_return_error",
                        *arguments)

    def presenting(served, *arguments):
        return s_server(running, served, *arguments)

    wrong = its.servers
    revoked_origin = wrong.issue("revoked-origin")
    wrong.revoke(revoked_origin)
    its.stranger.revoke()
    revoked = its.clients.issue("revoked", usage="clientAuth")
    its.clients.revoke(revoked)
    foreign = its.old.issue("foreign", usage="clientAuth")
    below = its.middle.issue("below", usage="clientAuth")
    tls12 = verifying("-tls1_2")
    secured = f"""ssl; ssl_certificate {origin.certificate}; ssl_certificate_key {origin.key};
        ssl_client_certificate {root};"""
    nginx = Nginx(running, directory / "nginx", {
        "plain": "; return 200;",
        "unasking": f"{secured} location /401 {{ return 401; }} location / {{ return 403; }}",
        "asking": f"{secured} ssl_verify_client on; return 200 good;",
        "revoking": f"{secured} ssl_verify_client on; ssl_crl {its.clients.crl}; return 200 good;",
        "ecdsa": f"{secured} ssl_verify_client on; return 200 good; "
                 "ssl_conf_command ClientSignatureAlgorithms ECDSA+SHA256;",
        "misdirecting": f"{secured} ssl_verify_client on; return 421;",
        "error495": f"{secured} ssl_verify_client on; error_page 418 =495 /x; location / {{ return 418; }} location /x {{ return 495; }}",
        "error496": f"{secured} ssl_verify_client on; location / {{ return 496; }}",
        "good": f"{secured} ssl_verify_client on; return 200 good;",
    }).ports
    tls_peer = lambda handle, **more: tls(origin, root, handle, **more)

    network = [
        Row("no such name", 443, "dns", "cannot find the address of", "dns_error",
            host="nowhere.test", connect_to=""),
        Row("a resolver that is silent", 443, "dns_timeout", "the origin's name was not found",
            "dns_timeout", 504, host="slow.test", connect_to=""),
        Row("nobody listens", free_port(), "connection_refused", "nothing listens there",
            "connection_refused"),
        Row("packets are dropped", deaf(), "tcp_timeout", "the origin took no connection",
            "connection_timeout", 504),
        Row("no way there", 443, "unreachable", "there is no way to", "destination_ip_unroutable",
            connect_to="255.255.255.255"),
        Row("TLS is never answered", silent(), "tls_timeout", "the TLS handshake was not finished",
            "connection_timeout", 504),
        Row("no response", tls_peer(never_answer), "response_timeout",
            "the origin sent no response within", "http_response_timeout", 504),
        Row("silence in the body",
            tls_peer(answer_and(page(200, "0123456789")[:-5], never_answer)),
            "connection_read_timeout", "the origin sent nothing of the response body",
            request="CUT", probe="well"),
        Row("the end in the body",
            tls_peer(answer_and(page(200, "0123456789")[:-5], lambda secured: secured.unwrap())),
            "http_response_incomplete", "the response broke off", request="CUT", probe="well"),
        Row("not HTTP", tls_peer(answer(b"\0\1\2 hello\r\n\r\n")), "malformed_response",
            "the origin's response is malformed", "http_protocol_error", probe="not_http"),
    ]
    not_tls = [
        Row("plain HTTP", nginx["plain"], "plain_http", "speaks plain HTTP, not TLS", TLS),
        Row("SSH", says(b"SSH-2.0-OpenSSH_9.2\r\n"), "not_tls", "speaks neither TLS nor HTTP", TLS),
        Row("closed at once", closing(), "handshake_cut", "without an answer in TLS", ENDED),
        Row("reset at once", resetting(), "handshake_cut", "without an answer in TLS", ENDED),
        Row("TLS 1.1", s_server(running, origin, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
            "tls_version", "none of the TLS versions", ALERT),
        Row("TLS 1.2 where 1.3 is demanded", tls12, "tls_version", "none of the TLS versions",
            ALERT, lines='tls_min = "1.3"'),
        Row("no common cipher", s_server(running, origin, "-tls1_2", "-cipher",
                                         "ECDHE-ECDSA-AES128-SHA"),
            "tls_parameters", "accepts no cipher suite", ALERT),
        Row("a name it does not know",
            s_server(running, origin, "-servername", "other.test", "-servername_fatal", "-cert2",
                     origin.certificate, "-key2", origin.key),
            "unrecognized_name", "does not know the name it was called by", ALERT),
        Row("no common HTTP", nginx["good"], "no_application_protocol",
            "none of the HTTP versions", ALERT, lines='protocol = "http2"'),
        Row("another HTTP all the same", tls_peer(answer(page(200, "good"))), "no_http2",
            "does not speak HTTP/2", "http_protocol_error", lines='protocol = "http2"'),
    ]
    server = [
        Row("its certificate is over", presenting(wrong.issue("over", dates=PAST)),
            "origin_certificate_expired", "failed verification: it expired", CERTIFICATE),
        Row("its certificate is of the future", presenting(wrong.issue("early", dates=FUTURE)),
            "origin_certificate_not_yet_valid", "it is not valid before", CERTIFICATE),
        Row("both are of the future", presenting(wrong.issue("tomorrow", dates=FUTURE)), "clock",
            "probably the clock is wrong", CERTIFICATE,
            client=its.clients.issue("early", usage="clientAuth", dates=FUTURE)),
        Row("a default certificate, for another name",
            presenting(wrong.issue("other", extensions="subjectAltName=DNS:other.test")),
            "origin_certificate_name", "it is valid for other.test, not for localhost", CERTIFICATE),
        Row("self-signed", presenting(self_signed(directory, "localhost")),
            "origin_certificate_self_signed", "it is self-signed", CERTIFICATE),
        Row("by somebody unknown",
            presenting(its.strange.issue("strange").with_chain(its.strange.certificate)),
            "origin_certificate_unknown_issuer", "its chain ends at", CERTIFICATE),
        Row("without its intermediate", presenting(its.issuing.issue("incomplete")),
            "origin_certificate_incomplete", "sends no intermediate certificates", CERTIFICATE),
        Row("revoked", presenting(revoked_origin), "origin_certificate_revoked",
            "failed verification: it has been revoked", CERTIFICATE, lines=f'crl = "{its.servers.crl}"'),
        Row("covered by no list", presenting(origin), "origin_certificate_not_covered",
            "none is from its issuer", CERTIFICATE,
            lines=f'crl = "{its.stranger.crl}"'),
        Row("for clients", presenting(wrong.issue("usage", usage="clientAuth")),
            "origin_certificate_usage", "lacks serverAuth", CERTIFICATE),
        Row("another key", presenting(origin), "origin_certificate_pin",
            "is not listed in `pins`", CERTIFICATE,
            lines=f'pins = ["{"ab" * 32}"]'),
    ]
    ours = [
        Row("ours is over", verifying(), "client_certificate_expired",
            "our certificate (alert certificate_expired): it expired", ALERT,
            client=its.clients.issue("over", usage="clientAuth", dates=PAST)),
        Row("ours is of the future", verifying(), "client_certificate_not_yet_valid",
            "it is valid only from 2089", ALERT,
            client=its.clients.issue("future", usage="clientAuth", dates=FUTURE)),
        Row("ours is over by the origin's clock", alerting(tls12, 45),
            "client_certificate_expired_there", "by the origin's clock it is expired", ALERT),
        Row("ours is revoked", verifying("-CRL", its.clients.crl, "-crl_check"),
            "client_certificate_revoked", "it was revoked", ALERT, client=revoked),
        Row("ours is by an authority it does not list", verifying(),
            "client_authority_not_listed", "it accepts certificates that were issued by", ALERT,
            client=foreign),
        Row("ours lacks the intermediate", verifying(), "client_chain_incomplete",
            "seems to be an intermediate authority below", ALERT, client=below),
        Row("unknown_ca though listed", alerting(tls12, 48), "client_authority_unknown",
            "it does not know the authority that issued it", ALERT),
        Row("bad_certificate", alerting(tls12, 42), "client_certificate_bad",
            "it calls the certificate bad", ALERT),
        Row("unsupported_certificate", alerting(tls12, 43), "client_certificate_unsupported",
            "does not support this kind of certificate", ALERT),
        Row("certificate_unknown", alerting(tls12, 46), "client_certificate_unknown",
            "does not say which", ALERT),
        Row("access_denied", alerting(tls12, 49), "client_certificate_denied",
            "its owner may not use this origin", ALERT),
        Row("certificate_required", alerting(tls12, 116), "client_certificate_required",
            "it says that no certificate came", ALERT),
        Row("decrypt_error", alerting(tls12, 51), "client_signature",
            "could not verify the signature that was made with our key", ALERT),
        Row("another alert", alerting(tls12, 80), "tls_alert",
            "ended TLS with the alert internal_error", ALERT),
        Row("ours is for servers", verifying(), "client_certificate_usage",
            "it is not for clients", ALERT,
            client=its.clients.issue("server", usage="serverAuth")),
        Row("ours cannot make the signature",
            verifying("-client_sigalgs", "ECDSA+SHA256"), "signature_scheme",
            "which our key cannot make", ALERT,
            client=its.clients.issue("rsa", usage="clientAuth", kind="rsa")),
        Row("closed without a word", tls_peer(close_unanswered),
            "client_certificate_silently_refused",
            "our certificate (it closed the connection without an alert", ENDED),
        Row("reset without a word", tls_peer(reset_unanswered),
            "client_certificate_silently_refused", "it reset the connection without an alert",
            ENDED),
        Row("closed without a word, the session resumed", tls_peer(once_then_close()),
            "connection_ended", "no response came: it closed", ENDED, before=1,
            probe="client_certificate_silently_refused"),
        Row("an alert behind an upload", verifying(), "client_authority_not_listed",
            "it accepts certificates that were issued by", ALERT, client=foreign,
            request="UPLOAD"),
        Row("an alert before HTTP/2", tls_peer(answer(b""), alpn=["h2"]),
            "client_authority_unknown", "it does not know the authority that issued it", ALERT,
            client=foreign, lines='protocol = "http2"'),
    ]
    unasked = [
        Row("it asks by renegotiation", renegotiating(running, origin, root), "renegotiation",
            "asks only by renegotiation", ALERT),
        Row("it closes, and never asked", tls_peer(close_unanswered, asks=False), "closed_unasked",
            "did not ask for a certificate, and closed the connection", ENDED),
        Row("it must ask", nginx["unasking"], "not_asked",
            "did not ask for a certificate (`require_request`)", TLS,
            lines="require_request = true"),
        Row("403, and never asked", nginx["unasking"], "never_asked",
            "and did not ask for a certificate on this connection", status=403),
        Row("401, and never asked", nginx["unasking"], "never_asked",
            "and did not ask for a certificate on this connection", status=401,
            request="GET /401"),
    ]
    answers = [
        Row("nginx: no certificate", nginx["ecdsa"], "signature_scheme",
            "which our key cannot make", status=400,
            client=its.clients.issue("rsa2", usage="clientAuth", kind="rsa")),
        Row("a page: no certificate",
            tls_peer(answer(page(400, "<center>No required SSL certificate was sent</center>")),
                     asks=False),
            "answered_no_certificate", "the origin did not ask for one in the handshake",
            status=400),
        Row("nginx: by another authority", nginx["asking"], "client_authority_not_listed",
            "it accepts certificates that were issued by", status=400, client=foreign),
        Row("nginx: revoked", nginx["revoking"], "answered_bad_certificate",
            "nothing here tells why", status=400, client=revoked),
        Row("421", nginx["misdirecting"], "misdirected_by_origin", "the origin answered 421",
            status=421),
        Row("495", tls_peer(answer(page(495, "x"))), "answered_bad_certificate",
            "nothing here tells why", status=495),
        Row("496", tls_peer(answer(page(496, "x"))), "answered_no_certificate", "answered 496",
            status=496),
    ]
    every = network + not_tls + server + ours + unasked + answers
    for number, row in enumerate(every):
        row.client = row.client or its.client
        row.binding = f"row-{number}"
    return its, every, nginx["good"]
