"""How the requests of a caller are handled: what is kept of their texts, and by whose keys providers are asked.

It comes from the account's settings and the configuration, and travels with the request's ledger; nothing of it is ever
recorded.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from llmwise.domain.access import ProviderKey
from llmwise.domain.errors import UpstreamRejected
from llmwise.domain.events import Warned
from llmwise.domain.ports import Keyed, Provider


class Handling(Struct, frozen=True):
    """What is kept, and whose keys are shown.

    keep_text        the history keeps the question and the answer
    zero_retention   no text stays anywhere: not in the history, nor what continues a conversation, nor what a
                     provider's message may quote
    redact           what the history keeps is passed through it
    own_keys         the account's keys by the provider's name
    """

    keep_text: bool = True
    zero_retention: bool = False
    redact: Callable[[str], str] | None = None
    own_keys: Mapping[str, ProviderKey] = {}

    def kept(self, text: str | None) -> str | None:
        """What the history keeps of a text."""
        if text is None or not self.keep_text:
            return None
        return self.redacted(text)

    def redacted(self, text: str) -> str:
        """A text that is kept because its caller asks for just that (a title)."""
        return text if self.redact is None else self.redact(text)


PLAIN = Handling()


class Recall(Struct, frozen=True):
    """The part of the semantic memory in a request: how many memories went into it, whether its turn comes into the
    memory, and why something of this did not happen."""

    hits: int = 0
    remember: bool = False
    warnings: tuple[Warned, ...] = ()


NOTHING_RECALLED = Recall()


def with_own_key(provider: Provider, own: ProviderKey | None) -> Provider:
    """The provider as the account asks it. Raises `UpstreamRejected` when the account's key can't be used: it is never
    sent anywhere but to its own origin, and the operator's doesn't step in."""
    if own is None:
        return provider
    advice = "save it again by PUT /api/v1/settings/keys, or delete it there"
    if not isinstance(provider, Keyed):
        raise _unusable(own, f"{own.provider} takes no key now; {advice}")
    if provider.origin != own.origin:
        where = f"your key for {own.provider} is for {own.origin}, and {own.provider} is at {provider.origin} now"
        raise _unusable(own, f"{where}; {advice}")
    if own.secret is None:
        raise _unusable(own, f"your key for {own.provider} can't be read any more; {advice}")
    return provider.keyed(own.secret)


def _unusable(own: ProviderKey, message: str) -> UpstreamRejected:
    return UpstreamRejected(message, provider=own.provider, code="provider_key_unusable")
