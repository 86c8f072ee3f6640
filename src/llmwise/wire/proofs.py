"""What has to go back with a model's thinking, inside the `encrypted_content` of a reasoning item that we render.

Clients of the Responses API return reasoning items as they came, and look into encrypted content as little as anybody.
So thinking of any family finds its way back, its signature with it, without the gateway keeping the conversation. It is
no secret from the caller, who has the text beside it; what somebody changed, its provider refuses.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

MARK: Final = "llmwise.proof."
"""How ours begins. No provider is shown it."""


class Proof(Struct, frozen=True, array_like=True):
    """`family` is the wire format that the thinking came in, the other two as in `domain.messages.Reasoning`."""

    family: str
    signature: str | None = None
    redacted: str | None = None


_decode = Decoder(Proof).decode


def wrap(proof: Proof) -> str:
    """`encrypted_content` for `proof`, also for an empty one: the family itself is worth knowing."""
    return MARK + urlsafe_b64encode(encode(proof)).decode()


def unwrap(encrypted_content: str | None) -> Proof | None:
    """What `wrap` was given; `None` for anything else. What was damaged on its way is a proof of nobody's."""
    if encrypted_content is None or not encrypted_content.startswith(MARK):
        return None
    try:
        return _decode(urlsafe_b64decode(encrypted_content[len(MARK) :].encode()))
    except (DecodeError, ValueError):  # also binascii's and Unicode's errors
        return Proof("")
