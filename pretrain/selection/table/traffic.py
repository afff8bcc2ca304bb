"""Bytes that the sharded table sends, by formula and as the operating system counts them.

R ranks with n tokens in d documents each, w bytes per token (2 for a vocabulary of up to 65,536,
else 4), c candidates that are scored (n where each token is scored by the rest of its document):

    counting a chunk     (R - 1) (40 + w n + 4 d)         bytes sent by each rank
    scoring a batch      (R - 1) (40 + w n + 4 d + 8 c)

and as many received. On top come gloo's message headers: 288 bytes per peer and all-gather (there
are two in each line), 144 per peer and all-to-all. No term has pairs, rows or cells in it.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from pretrain.selection.table.collectives import HEADER, packed_size

GATHER_HEADER = 288
SCATTER_HEADER = 144
"""Bytes of gloo's own per peer and collective (measured, torch 2.13)."""


@dataclass(frozen=True)
class Work:
    """What each rank brings along.

    Attributes:
        tokens, documents: of one chunk or micro-batch.
        vocabulary: token ids are below it.
        ranks: ranks that share the table.
    """

    tokens: int
    documents: int
    vocabulary: int
    ranks: int


def _gather_bytes(payload: int, peers: int) -> int:
    return peers * (payload + GATHER_HEADER)


def count_bytes(work: Work) -> int:
    """Bytes that a rank sends while a chunk is gathered, to be counted or scored."""
    peers = work.ranks - 1
    packed = packed_size(work.tokens, work.documents, work.vocabulary)
    return _gather_bytes(8 * HEADER, peers) + _gather_bytes(packed, peers)


def query_bytes(work: Work) -> int:
    """Bytes that a rank sends while each token of a micro-batch is scored by the others of its
    document."""
    return count_bytes(work) + (work.ranks - 1) * (8 * work.tokens + SCATTER_HEADER)


def sent_bytes() -> int:
    """Bytes that this process has sent over all of its open TCP connections (Linux).

    The kernel's own count of the payload, from the structure tcp_info in linux/tcp.h: bytes sent
    (offset 200) without those sent again (208), and bytes that wait to be sent (144).
    """
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # closed since
        with copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if copy.type != socket.SOCK_STREAM:
                continue
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
            if len(info) >= 216:
                sent, again = struct.unpack_from("=QQ", info, 200)
                (waiting,) = struct.unpack_from("=I", info, 144)
                total += sent - again + waiting
    return total
