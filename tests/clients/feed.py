"""A WebSocket server that demands a client certificate, and remembers how clients closed."""

import threading
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from checks import PATIENCE


class Feed:
    def __init__(self, context):
        # How the clients closed, by the key in their URL: code and reason.
        self.closed = {}
        self.server = serve(self.serve_one, "127.0.0.1", 0, ssl=context, max_size=4 << 20)
        self.port = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve_one(self, connection):
        url = urlsplit(connection.request.path)
        try:
            {"/ping": self.ping, "/bye": self.bye}.get(url.path, self.echo)(connection)
        except ConnectionClosed:
            pass
        key = parse_qs(url.query).get("key", [""])[0]
        self.closed[key] = (connection.close_code, connection.close_reason)

    @staticmethod
    def echo(connection):
        for message in connection:
            connection.send(message)

    @staticmethod
    def ping(connection):
        """Says so when the client has answered a ping."""
        if connection.ping(b"are you there").wait(PATIENCE):
            connection.send("it is there")
        connection.recv(PATIENCE)

    @staticmethod
    def bye(connection):
        connection.close(4002, "gone home")
