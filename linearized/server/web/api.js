// The client API: requests with the session's token, and server-sent events over fetch, as EventSource has no
// Authorization header.

const V3 = "/_matrix/client/v3";
const V1 = "/_matrix/client/v1";
const LINEARIZED = "/_matrix/client/unstable/dev.linearized.1";
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 30_000;
// The server beats every thirty seconds; after three that were missed the connection is dead.
const SILENCE_MS = 95_000;

export class Refused extends Error {
  constructor(status, body) {
    super(body.error || `The server answered ${status}`);
    Object.assign(this, { status, errcode: body.errcode || "M_UNKNOWN" });
  }
}

const part = encodeURIComponent;

export class Api {
  constructor(token = null) {
    this.token = token;
  }

  async fetch(path, options = {}) {
    const headers = { ...(this.token ? { authorization: `Bearer ${this.token}` } : {}), ...options.headers };
    const answer = await fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
    if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
    return answer;
  }

  async json(method, path, body) {
    return (await this.fetch(path, { method, body: body && JSON.stringify(body) })).json();
  }

  async login(user, password) {
    const identifier = { type: "m.id.user", user };
    const name = "linearized web page";
    const answer = await this.json("POST", `${V3}/login`,
      { type: "m.login.password", identifier, password, initial_device_display_name: name });
    this.token = answer.access_token;
    return answer;
  }

  logout = () => this.json("POST", `${V3}/logout`, {});
  whoami = () => this.json("GET", `${V3}/account/whoami`);
  rooms = async () => (await this.json("GET", `${V3}/joined_rooms`)).joined_rooms;
  members = async (room) => (await this.json("GET", `${V3}/rooms/${part(room)}/joined_members`)).joined;
  keys = async (server) => (await this.json("GET", `/_matrix/key/v2/query/${part(server)}`)).server_keys;

  async name(room) {
    try {
      return (await this.json("GET", `${V3}/rooms/${part(room)}/state/m.room.name`)).name || null;
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return null;
      throw error;
    }
  }

  log = (room, after, limit) =>
    this.json("GET", `${LINEARIZED}/rooms/${part(room)}/log?after=${after}&limit=${limit}`);

  checkpoint = (room, size) =>
    this.json("GET", `${LINEARIZED}/rooms/${part(room)}/checkpoint?size=${size}`);

  inclusion = (room, id, size) =>
    this.json("GET", `${LINEARIZED}/rooms/${part(room)}/proof/inclusion?event_id=${part(id)}&size=${size}`);

  isOperator = async () =>
    Boolean((await this.json("GET", `${V3}/capabilities`)).capabilities["dev.linearized.operator"]?.enabled);

  operated = () => this.json("GET", `${LINEARIZED}/operator/rooms`);
  followers = (room) => this.json("GET", `${LINEARIZED}/operator/rooms/${part(room)}`);
  clients = (room, from) => this.json("GET", `${LINEARIZED}/rooms/${part(room)}/mls/members?from=${from}`);

  async media(uri) {
    const found = /^mxc:\/\/([^/]+)\/([^/]+)$/.exec(uri);
    if (!found) throw new Error("that is no address of a file");
    return (await this.fetch(`${V1}/media/download/${part(found[1])}/${part(found[2])}`)).blob();
  }

  // Calls `entry(seq, pdu)` for each entry behind `after`, until the signal aborts or the server says that it
  // is over; `state` hears "live", "waiting" and "over".
  async tail(room, after, { entry, state, signal }) {
    let pause = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const silence = new AbortController();
      let watch = 0;
      const alive = () => {
        clearTimeout(watch);
        watch = setTimeout(() => silence.abort(), SILENCE_MS);
      };
      try {
        alive();
        const both = AbortSignal.any([signal, silence.signal]);
        const answer = await this.fetch(`${LINEARIZED}/rooms/${part(room)}/live?from=${after + 1}`, { signal: both });
        for await (const event of events(answer.body, alive)) {
          if (event.name === "open") state("live");
          else if (event.name === "end") return state("over");
          else if (event.name === "message") {
            await entry(Number(event.id), JSON.parse(event.data));
            after = Number(event.id);
            pause = FIRST_PAUSE_MS;
          }
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused && [400, 401, 403, 404].includes(error.status)) return state("over");
      } finally {
        clearTimeout(watch);
      }
      if (signal.aborted) return;
      state("waiting");
      await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random() / 2)));
      pause = Math.min(2 * pause, MAX_PAUSE_MS);
    }
  }
}

// The events of a stream (WHATWG HTML, section 9.2.6); the server ends lines with LF alone. First comes "open".
async function* events(body, alive) {
  yield { name: "open" };
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const blocks = (kept + value).split("\n\n");
      kept = blocks.pop();
      for (const block of blocks) {
        const fields = { event: "message", id: "", data: null };
        for (const line of block.split("\n")) {
          const found = /^(event|id|data): ?(.*)$/.exec(line);
          if (found) fields[found[1]] = found[2];
        }
        if (fields.data !== null) yield { name: fields.event, id: fields.id, data: fields.data };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
