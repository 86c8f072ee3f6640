"""The audit over HTTP, for an administrator: the report, and exports to import, one a request, as they are.

curl -H "Authorization: Bearer $KEY" --data-binary @spend.json.gz "$URL/api/v1/audit/import?name=spend.json.gz"
"""

import asyncio
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, BinaryIO, cast

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.requests import ClientDisconnect

from llmwise.api.frame import Call
from llmwise.api.http import ClientGone
from llmwise.domain.errors import BodyTimeout, InvalidRequest, PayloadTooLarge
from llmwise.insights.audit.files import Input, Unreadable
from llmwise.insights.audit.importer import Imported, Reading, basename, digest_of
from llmwise.insights.audit.openai_batch import Pairing
from llmwise.insights.audit.prices import Prices
from llmwise.insights.audit.whatif import MOST_SAMPLED
from llmwise.insights.control import settings_of
from llmwise.insights.report import Report
from llmwise.insights.report import report as make_report
from llmwise.storage.audit import DAY_MS, END_OF_TIME_MS, ImportedFile

MOST_UPLOADED_BYTES = 1024**3
MOST_UNPACKED_BYTES = 16 * MOST_UPLOADED_BYTES
"""What a compressed upload may unpack to. Larger ones: `llmwise audit import`."""
IN_MEMORY_BYTES = 8 * 1024**2


class ReportQuery(Struct, forbid_unknown_fields=True):
    """`days` counts back from today (UTC); absent: everything. `source`: only this one."""

    days: Annotated[int, Meta(ge=1, le=3660)] | None = None
    source: Annotated[str, Meta(max_length=40)] | None = None


class ImportQuery(Struct, forbid_unknown_fields=True):
    """`name` is the file's, for messages. `again` reads a file that was imported before."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] = "upload"
    again: bool = False


async def report(call: Call) -> Report:
    """GET /api/v1/audit/report. Reads its own writes: what was answered before is in it."""
    query: ReportQuery = call.query
    services = call.services
    await services.writer.flush()
    now_ms = services.clock.unix_ms()
    since_ms = 0 if query.days is None else (now_ms // DAY_MS - query.days + 1) * DAY_MS
    known = await services.store.audited(since_ms, END_OF_TIME_MS, MOST_SAMPLED)
    await services.steering.refresh(services.planner.settings)
    settings = settings_of(services.steering.control, services.planner.settings)
    policy = services.steering.in_force(settings.goal)

    def made() -> Report:
        return make_report(known, Prices(services.catalog, now_ms), settings, query.source, policy)

    return await asyncio.to_thread(made)


async def import_(call: Call) -> Imported:
    """POST /api/v1/audit/import: the body is the file, of any format that is understood, gzip or not. Rows are written
    as they are read: what was read before a file turns out to be cut off stays, and comes again without harm."""
    query: ImportQuery = call.query
    with SpooledTemporaryFile(IN_MEMORY_BYTES) as upload:
        await _receive(call, upload)
        file = cast(BinaryIO, upload)
        try:
            return await _import(call, Input(basename(query.name), file, MOST_UNPACKED_BYTES), query.again)
        except Unreadable as error:
            raise InvalidRequest(str(error), code="unreadable_export") from error


async def _import(call: Call, file: Input, again: bool) -> Imported:
    services = call.services
    now_ms = services.clock.unix_ms()
    prices = await asyncio.to_thread(Prices, services.catalog, now_ms)
    pairing = Pairing()
    reading = await asyncio.to_thread(Reading, file, prices, pairing, now_ms)
    digest = await asyncio.to_thread(digest_of, file.raw)
    if reading.remembered and not again and await services.store.imported_file(digest) is not None:
        return Imported(file.name, reading.format.name, reading.format.title, known=True)
    batches = reading.batches()
    while (rows := await asyncio.to_thread(next, batches, None)) is not None:
        reading.added(await services.store.add_imported(rows))
    result = replace(reading.result, unanswered=pairing.end())
    if reading.remembered:
        said = ImportedFile(digest, file.name, result.format, now_ms, result.records, result.rejected)
        await services.store.add_imported_file(said)
    return result


async def _receive(call: Call, upload: IO[bytes]) -> None:
    size = 0
    chunks = aiter(call.request.stream())
    while (chunk := await _next(chunks, call.services.edge.body_read_s)) is not None:
        size += len(chunk)
        if size > MOST_UPLOADED_BYTES:
            text = f"the file is over {MOST_UPLOADED_BYTES} bytes: use `llmwise audit import`, or split it"
            raise PayloadTooLarge(text, limit_bytes=MOST_UPLOADED_BYTES)
        await asyncio.to_thread(upload.write, chunk) if size > IN_MEMORY_BYTES else upload.write(chunk)


async def _next(chunks: AsyncIterator[bytes], within_s: float) -> bytes | None:
    try:
        async with asyncio.timeout(within_s):
            return await anext(chunks, None)
    except TimeoutError:
        raise BodyTimeout(f"nothing of the file came for {within_s:g} s ([server] body_read_s)") from None
    except ClientDisconnect:
        raise ClientGone from None
