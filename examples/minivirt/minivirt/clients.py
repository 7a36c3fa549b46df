"""The daemon's side of its shells' connections. Everything here runs in the event loop's thread.

libvirt: ``virNetServerAddClient`` (accept), ``virNetServerClientDispatchRead`` (a request comes in),
``virNetServerDispatchNewMessage`` (it goes to the workers), ``virNetServerClientDispatchWrite``.
"""

from __future__ import annotations

import json
import socket

from minivirt import journal, wire
from minivirt.event_loop import READ, WRITE, EventLoop
from minivirt.workers import Job, JobQueue

# Above it nobody is accepted until somebody has left; newcomers wait in the socket's backlog.
MAX_CLIENTS = 256


class Clients:
    """The listening socket and everybody connected to it."""

    def __init__(self, loop: EventLoop, listener: socket.socket, queue: JobQueue) -> None:
        self._loop = loop
        self._listener = listener
        self._queue = queue
        self._connected: set[Client] = set()
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self.accept)

    def __len__(self) -> int:
        return len(self._connected)

    def accept(self) -> None:
        """Take one newcomer, if one waits."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection.setblocking(False)
        self._connected.add(Client(self, self._loop, connection, self._queue))
        if len(self._connected) >= MAX_CLIENTS:
            self._loop.unwatch(self._listener.fileno())

    def forget(self, client: Client) -> None:
        self._connected.discard(client)
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener.fileno(), READ, self.accept)

    def close(self) -> None:
        """Accept nobody any more and hang up on everybody."""
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        for client in list(self._connected):
            client.close()


class Client:
    """One connection. While a worker has its request nothing more is read from it, so that replies come
    in order and a client that does not listen cannot fill the daemon's memory."""

    def __init__(self, clients: Clients, loop: EventLoop, connection: socket.socket, queue: JobQueue) -> None:
        self._clients = clients
        self._loop = loop
        self._connection = connection
        self._queue = queue
        self._received = bytearray()
        self._to_send = bytearray()
        self._last_reply = False
        self._watch(READ)

    def close(self) -> None:
        if self._connection.fileno() >= 0:
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()
            self._clients.forget(self)

    def _watch(self, events: int) -> None:
        call = self._readable if events == READ else self._writable
        self._loop.watch(self._connection.fileno(), events, call)

    def _readable(self) -> None:
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        self._next_request()

    def _next_request(self) -> None:
        try:
            request = wire.cut(self._received)
        except wire.TooLong as error:
            self._last_reply = True  # where the next message begins cannot be known any more
            self._send(json.dumps({"error": str(error)}).encode())
            return
        if request is None:
            self._watch(READ)
            return
        journal.note("read request")
        self._loop.unwatch(self._connection.fileno())
        self._queue.put(Job(request, self._reply))

    def _reply(self, reply: bytes) -> None:
        """In a worker's thread."""
        self._loop.call_soon(lambda: self._send(reply))

    def _send(self, reply: bytes) -> None:
        if self._connection.fileno() < 0:
            return  # it has not waited for the reply
        message = wire.pack(reply)
        journal.note("send reply", bytes=len(message))
        self._to_send += message
        self._writable()

    def _writable(self) -> None:
        try:
            sent = self._connection.send(self._to_send, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._to_send[:sent]
        if self._to_send:
            self._watch(WRITE)
        elif self._last_reply:
            self.close()
        else:
            self._next_request()
