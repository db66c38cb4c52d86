// Node's ws as the peer of examples/interop.rs, which describes the programs and the paths.

const assert = require("node:assert");
const { once } = require("node:events");
const { randomBytes } = require("node:crypto");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocket, WebSocketServer } = require("ws");

const REASON = "ends here ✓";
const PROTOCOLS = ["v2.chat", "v1.chat"];
const [role, ...rest] = process.argv.slice(2);
const perMessageDeflate = rest.includes("--no-deflate") ? false : { threshold: 64 };
const certificate = readFileSync(process.env.CERTIFICATE);
const patience = () => AbortSignal.timeout(10_000);

/// Returns a function that returns what arrives, one at a time: { data, isBinary } or, at the end, { closed }.
function inbox(ws) {
  const waiting = [];
  let wake = () => {};
  const put = (item) => { waiting.push(item); wake(); };
  ws.on("message", (data, isBinary) => put({ data, isBinary }));
  ws.on("close", (code, reason) => put({ closed: `${code} ${reason}` }));
  ws.on("error", (error) => put({ closed: String(error) }));
  return async () => {
    const signal = patience();
    while (waiting.length === 0) {
      await new Promise((resolve, reject) => {
        wake = resolve;
        signal.onabort = () => reject(new Error("nothing came in 10 s"));
      });
    }
    return waiting.shift();
  };
}

function fragments(ws, data, binary) {
  const third = Math.floor(data.length / 3); // cuts characters too
  ws.send(data.subarray(0, third), { fin: false, binary });
  ws.send(data.subarray(third, 2 * third), { fin: false, binary });
  ws.send(data.subarray(2 * third), { fin: true, binary });
}

function server() {
  const listener = rest.includes("--tls")
    ? https.createServer({ cert: certificate, key: readFileSync(process.env.KEY) })
    : http.createServer();
  const handleProtocols = (offered) => PROTOCOLS.find((name) => offered.has(name)) ?? false;
  const sockets = new WebSocketServer({ server: listener, perMessageDeflate, handleProtocols });
  const closes = [];
  const paths = {
    "/echo": (ws) => ws.on("message", (data, binary) => ws.send(data, { binary })),
    "/fragments": (ws) => ws.on("message", (data, binary) => fragments(ws, data, binary)),
    "/ping": (ws) => {
      let pong = "no pong";
      ws.on("pong", () => { pong = "pong seen"; });
      ws.on("message", () => ws.send(pong));
      ws.ping("from the server");
      ws.send("go");
    },
    "/server-closes": (ws) => ws.close(4002, REASON),
    "/client-closes": (ws) => closes.push(inbox(ws)().then(({ closed }) => closed)),
    "/client-closed": async (ws) => ws.send(await closes.shift()),
  };
  sockets.on("connection", (ws, request) => {
    ws.on("error", (error) => console.error(String(error)));
    paths[request.url](ws);
  });
  listener.listen(0, "127.0.0.1", () => console.log(listener.address().port));
}

async function client(url) {
  const connect = async (path) => {
    const ws = new WebSocket(url + path, ["v0.chat", "v1.chat", "v2.chat"], { perMessageDeflate, ca: certificate });
    ws.next = inbox(ws);
    await once(ws, "open", { signal: patience() });
    return ws;
  };
  const close = async (ws, code, reason) => {
    ws.close(code, reason);
    return (await ws.next()).closed;
  };
  const opens = async (property, expected) => {
    const ws = await connect("/echo");
    assert.equal(ws[property].split(";")[0], expected);
    await close(ws, 1000, "");
  };
  const echo = async (messages, send = (ws, data, binary) => ws.send(data, { binary })) => {
    const ws = await connect("/echo");
    for (const message of messages) {
      const binary = typeof message !== "string";
      const data = Buffer.from(message);
      send(ws, data, binary);
      const answer = await ws.next();
      assert(answer.isBinary === binary && data.equals(answer.data), `another message came back: ${answer.closed}`);
    }
    assert.equal(await close(ws, 1000, ""), "1000 ");
  };
  const checks = {
    "subprotocol": () => opens("protocol", "v2.chat"),
    "extension": () => opens("extensions", perMessageDeflate ? "permessage-deflate" : ""),
    "text": () => echo(["grüße, 世界 🎈", "twice", "twice"]),
    "binary": () => echo([Buffer.from([...Array(256).keys()])]),
    "empty": () => echo(["", Buffer.alloc(0), ""]),
    "1 MiB": () => echo(["ä".repeat(2 ** 19), randomBytes(2 ** 20)]),
    "fragmented": () => echo(["grüße, 世界 🎈", randomBytes(2 ** 20)], fragments),
    "ping": async () => {
      const ws = await connect("/ping");
      let pong;
      ws.on("pong", (data) => { pong = String(data); });
      assert.equal(String((await ws.next()).data), "go");
      ws.ping("from the client");
      ws.send("went");
      assert.equal(String((await ws.next()).data), "pong seen");
      assert.equal(pong, "from the client");
      await close(ws, 1000, "");
    },
    "closed by the server": async () => assert.equal((await (await connect("/server-closes")).next()).closed, `4002 ${REASON}`),
    "closed by the client": async () => {
      assert.equal((await close(await connect("/client-closes"), 4001, REASON)).split(" ")[0], "4001");
      const ws = await connect("/client-closed");
      assert.equal(String((await ws.next()).data), `4001 ${REASON}`);
      await close(ws, 1000, "");
    },
    "closed without a code": async () => assert.equal(await close(await connect("/echo")), "1005 "),
  };
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error.message}`);
    }
  }
  process.exit(failed > 0 ? 1 : 0);
}

if (role === "server") server();
else client(rest[0]);
