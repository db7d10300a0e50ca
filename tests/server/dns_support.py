"""A DNS server on loopback that answers from a table, and counts what it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

from linearized.config import Address


@dataclass
class Zone:
    """Records by name and type, as in a zone file; a list of lists is answered one after the other."""

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    sequences: dict[tuple[str, str], list[list[str]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    silent: bool = False

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        (question,) = query.question
        key = (question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype))
        self.asked.append(key)
        response = dns.message.make_response(query)
        sequence = self.sequences.get(key)
        texts = sequence.pop(0) if sequence else self.records.get(key, [])
        if texts:
            response.answer.append(
                dns.rrset.from_text(question.name, 60, question.rdclass, question.rdtype, *texts)
            )
        elif not any(name == key[0] for name, _ in {*self.records, *self.sequences}):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


@asynccontextmanager
async def dns_server(zone: Zone) -> AsyncIterator[Address]:
    """Serve a zone over UDP; where it is."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))

        async def serve() -> None:
            while True:
                data, sender = await socket.recvfrom(4096)
                if not zone.silent:
                    await socket.sendto(zone.answer(dns.message.from_wire(data)).to_wire(), sender)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield Address(host="127.0.0.1", port=socket.getsockname()[1])
            nursery.cancel_scope.cancel()
