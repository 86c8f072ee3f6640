"""Providers: the codecs of three wire formats, and one adapter that puts their bytes on the network.

    request ──codec.encode──▶ Outgoing ──http──▶ transport ──▶ provider
    events ◀──codec.decoder──  bytes  ◀──http──  transport ◀──

`openai`, `anthropic` and `gemini` are pure: a `Codec` each, and they don't know of each other. `profiles` holds what is
particular to a vendor or a family of models, as data; `registry` where vendors live; `failures` what their refusals
mean; `losses` what a request lost on its way. `http` joins a codec and a transport into the `Provider` port. `scripted`
and `local` are providers of our own.
"""
