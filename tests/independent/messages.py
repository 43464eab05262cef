"""Verifies what nodes signed, and signs what nodes have to verify, with a package that
shares nothing with them: `http-message-signatures`, an implementation of RFC 9421.

Reads a JSON text from standard input and writes one to standard output:

    in   keys       lines of key files
         exchanges  requests and their answers, as they were on the wire
         sign       requests to be signed: start, fields, keyid, nonce
    out  requests, answers   how many signatures were verified
         refused             how many altered messages were refused
         signed              for each of `sign`, the two fields

Whatever is wrong ends it with a sentence and status 1.
"""

import base64
import datetime
import json
import sys

from cryptography.hazmat.primitives.asymmetric import ed25519
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    InvalidSignature,
    algorithms,
)
from http_message_signatures.resolvers import MappingKeyResolver

LABEL = "tier"
REQUEST_TAG = "headwater-request"
RESPONSE_TAG = "headwater-response"

# What the connection owns, from the text of docs/decisions/0006 and not from the code:
# all else that alters the answer has to be covered.
OF_THE_CONNECTION = {
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "upgrade",
    "expect",
    "te",
    "trailer",
    "signature",
    "signature-input",
}
OF_AN_ANSWER = OF_THE_CONNECTION | {"date"}
OF_EVERY_REQUEST = {"@method", "@authority", "@path", "@query", "tier-control"}
OF_EVERY_ANSWER = {"@status", "tier-result", '"signature";req;key="tier"'}

# RFC 8410 §7: what stands before the 32 bytes of a private key.
BEFORE_A_SEED = bytes.fromhex("04220420")


class Headers:
    """Field lines in their order, and as much of a mapping as signing asks for."""

    def __init__(self, lines):
        self.lines = [tuple(line) for line in lines]

    def items(self):
        return list(self.lines)

    def __iter__(self):
        return iter(name for name, _ in self.lines)

    def __contains__(self, name):
        return any(line.lower() == name.lower() for line in self)

    def __getitem__(self, name):
        found = [value for line, value in self.lines if line.lower() == name.lower()]
        if not found:
            raise KeyError(name)
        return ", ".join(found)

    def __setitem__(self, name, value):
        if name in self:
            del self[name]
        self.lines.append((name, value))

    def __delitem__(self, name):
        self.lines = [line for line in self.lines if line[0].lower() != name.lower()]

    def names(self):
        return {name.lower() for name in self}


class Request:
    def __init__(self, start, fields):
        self.method, target, _ = start.split(" ")
        self.headers = Headers(fields)
        scheme = "https" if "scheme=https" in self.headers["tier-control"] else "http"
        self.url = f"{scheme}://{self.headers['host']}{target}"


class Response:
    def __init__(self, start, fields, request):
        self.status_code = int(start.split(" ")[1])
        self.headers = Headers(fields)
        self.request = request


def keys_of(lines):
    """The keys in the lines of key files, by their ids."""
    algorithm_of, public, private = {}, {}, {}
    for line in lines:
        kind, _node, keyid, encoded = line.split()
        material = base64.b64decode(encoded)
        if kind == "hmac-sha256":
            algorithm_of[keyid] = algorithms.HMAC_SHA256
            public[keyid] = private[keyid] = material
            continue
        algorithm_of[keyid] = algorithms.ED25519
        if kind == "ed25519-public":
            public[keyid] = ed25519.Ed25519PublicKey.from_public_bytes(material)
        else:
            seed = material.split(BEFORE_A_SEED, 1)[1][:32]
            private[keyid] = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
            public[keyid] = private[keyid].public_key()
    return algorithm_of, MappingKeyResolver(public_keys=public, private_keys=private)


def keyid_of(message):
    return message.headers["signature-input"].split('keyid="')[1].split('"')[0]


def verify(message, tag, keys):
    algorithm_of, resolver = keys
    keyid = keyid_of(message)
    if keyid not in algorithm_of:
        raise InvalidSignature(f"nobody holds the key {keyid}")
    verifier = HTTPMessageVerifier(
        signature_algorithm=algorithm_of[keyid], key_resolver=resolver
    )
    (result,) = verifier.verify(message, expect_tag=tag, expect_label=LABEL)
    return set(result.covered_components)


def plain(components):
    """Names of components without quotes, and without `bs`, which only tells how."""
    return {one.removesuffix(";bs").strip('"') if ";req" not in one else one for one in components}


def complete(message, covered, always, exempt):
    names = plain(covered)
    missing = (always | (message.headers.names() - exempt)) - names
    if missing:
        raise InvalidSignature(f"not covered: {', '.join(sorted(missing))}")


def altered(message, covered):
    """Copies of a message, each with one thing changed that is covered."""
    for name in sorted(plain(covered)):
        if name not in message.headers:
            continue
        lines = [
            (line, value + "x" if line.lower() == name else value)
            for line, value in message.headers.items()
        ]
        yield name, lines


def refuse_altered(kind, message, covered, again, tag, keys):
    count = 0
    for name, lines in altered(message, covered):
        try:
            verify(again(lines), tag, keys)
        except InvalidSignature:
            count += 1
        else:
            sys.exit(f"a {kind} with another {name} is believed")
    return count


def sign(wanted, keys):
    algorithm_of, resolver = keys
    request = Request(wanted["start"], wanted["fields"])
    names = request.headers.names() - OF_THE_CONNECTION - {"tier-control"}
    created = datetime.datetime.now(datetime.timezone.utc)
    signer = HTTPMessageSigner(
        signature_algorithm=algorithm_of[wanted["keyid"]], key_resolver=resolver
    )
    signer.sign(
        request,
        key_id=wanted["keyid"],
        created=created,
        expires=created + datetime.timedelta(seconds=20),
        nonce=wanted["nonce"],
        label=LABEL,
        tag=REQUEST_TAG,
        covered_component_ids=(*sorted(OF_EVERY_REQUEST), *sorted(names)),
    )
    return [(name, request.headers[name]) for name in ("Signature-Input", "Signature")]


def main():
    told = json.load(sys.stdin)
    keys = keys_of(told["keys"])
    requests, answers, refused = 0, 0, 0
    before = None
    for number, exchange in enumerate(told["exchanges"]):
        request = Request(exchange["request"]["start"], exchange["request"]["fields"])
        start, fields = exchange["response"]["start"], exchange["response"]["fields"]
        answer = Response(start, fields, request)
        try:
            covered = verify(request, REQUEST_TAG, keys)
            complete(request, covered, OF_EVERY_REQUEST, OF_THE_CONNECTION)
            requests += 1
            refused += refuse_altered(
                "request",
                request,
                covered,
                lambda lines, exchange=exchange: Request(exchange["request"]["start"], lines),
                REQUEST_TAG,
                keys,
            )
            covered = verify(answer, RESPONSE_TAG, keys)
            complete(answer, covered, OF_EVERY_ANSWER, OF_AN_ANSWER)
            answers += 1
            refused += refuse_altered(
                "answer",
                answer,
                covered,
                lambda lines, start=start, request=request: Response(start, lines, request),
                RESPONSE_TAG,
                keys,
            )
        except InvalidSignature as why:
            sys.exit(f"exchange {number}, {exchange['request']['start']}: {why}")
        if before is not None:
            try:
                verify(Response(start, fields, before), RESPONSE_TAG, keys)
            except InvalidSignature:
                refused += 1
            else:
                sys.exit(f"exchange {number}: the answer is believed for another request")
        before = request
    signed = [sign(wanted, keys) for wanted in told["sign"]]
    json.dump(
        {"requests": requests, "answers": answers, "refused": refused, "signed": signed},
        sys.stdout,
    )


main()
