// The program behind the origin's nginx. It says whose certificate nginx saw, and what came with
// the request; to a POST it says back what it was sent, and over a WebSocket what it is told.
//
//   node app.mjs app.sock
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

// Who is waiting for the second half of an answer.
const waiting = [];

const server = createServer(async (request, response) => {
  const { method, url, headers } = request;
  if (method === "POST") {
    const pieces = [];
    for await (const piece of request) {
      pieces.push(piece);
      console.log(`a piece of ${piece.length} bytes`);
    }
    response.end(Buffer.concat(pieces));
  } else if (url === "/first-half") {
    response.write("first");
    waiting.push(response);
  } else if (url === "/second-half") {
    for (const other of waiting.splice(0)) other.end(", second");
    response.end("told\n");
  } else {
    const subject = headers["x-client-subject"];
    const serial = headers["x-client-serial"];
    response.setHeader("content-type", "application/json");
    response.end(`${JSON.stringify({ subject, serial, method, url, headers })}\n`);
  }
});
const sockets = new WebSocketServer({ server });
sockets.on("connection", (socket, request) => {
  socket.send(`hello, ${request.headers["x-client-subject"]}`);
  socket.on("message", (message) => socket.send(message.toString()));
});
server.listen(process.argv[2]);
