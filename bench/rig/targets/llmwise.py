"""This gateway: SQLite with the usual records, a key checked on each request, prices known.

llmwise          the OpenAI dialect on both sides, as the peers are measured; limits off, as theirs are
llmwise_limits   the same with rate limits on, but out of reach: what keeping count costs
llmwise_native   /api/v1/chat
llmwise_cross    Anthropic's dialect in front, OpenAI's behind: what translating costs, both ways
llmwise_auto     model "auto": classified and planned
"""

from dataclasses import replace

from target import Target

QUESTION = "Hello! Please introduce yourself in one short sentence."

LLMWISE = Target(
    name="llmwise",
    port=9400,
    needs=["{LLMWISE}"],
    config="llmwise.toml",
    prepare=[
        "rm -rf {RUN}/{NAME}.db*",
        "key=$({LLMWISE} keys create --config {CONFIG} --name bench) && "
        'printf "Authorization: Bearer %s\\n" "$key" > {RUN}/{NAME}.headers',
    ],
    start=["{LLMWISE}", "serve", "--config", "{CONFIG}", "--port", "{PORT}"],
    env={"MOCK_KEY": "sk-mock"},
    headers_file="{RUN}/{NAME}.headers",
    health="/healthz",
    settle_s=0.5,  # its records go to the database behind the answers
    module="llmwise",
    python="{LLMWISE_PYTHON}",
    version="{LLMWISE} --version",
)

TARGETS = [
    LLMWISE,
    replace(LLMWISE, name="llmwise_limits", port=9401, config="llmwise_limits.toml"),
    replace(
        LLMWISE,
        name="llmwise_native",
        port=9402,
        path="/api/v1/chat",
        body={"stream": False},
        body_stream={"stream": True, "stream_options": None},  # not a native field, and those are refused
        answer=b'"content"',
    ),
    replace(
        LLMWISE,
        name="llmwise_cross",
        port=9404,
        path="/v1/messages",
        body={"messages": [{"role": "user", "content": QUESTION}], "system": "You are a helpful assistant."},
        body_stream={"stream": True, "stream_options": None},
        answer=b'"content"',
        end=' {"type":"message_stop"}',
    ),
    replace(LLMWISE, name="llmwise_auto", port=9403, body={"model": "auto"}),
]
