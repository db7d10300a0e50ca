// How far the followers of a room are, and who is in its MLS group: tables, for operators and for members.

import { make } from "/web/entries.js";

const PROTOCOLS = { mimi: "MIMI", linearized: "Linearized Matrix" };

function table(caption, heads, rows) {
  return make("table", {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows));
}

// The first cell names the row, so that a screen reader says it with each of the others.
function row([name, ...cells], attributes = {}) {
  return make("tr", attributes, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, String(cell))));
}

export function lagOf({ lag, followers }) {
  if (!followers) return "no followers";
  return lag ? `${lag} ${lag === 1 ? "entry" : "entries"} behind` : "up to date";
}

function stateOf(follower) {
  if (follower.lag) {
    const since = follower.waiting_since_ts;
    return since === undefined ? "behind" : `behind since ${new Date(since).toLocaleString()}`;
  }
  return follower.ends ? "ended" : "up to date";
}

export function followersTable(found) {
  const rows = found.followers.map((follower) => row(
    [follower.provider, PROTOCOLS[follower.protocol] ?? follower.protocol, follower.cursor, follower.lag, stateOf(follower)],
    { "data-state": follower.lag ? "behind" : "current" },
  ));
  if (!rows.length) return make("p", { class: "hint" }, "Nobody follows this room.");
  return table(`Followers, to ${found.head_seq}`, ["Provider", "Protocol", "Has taken", "Lacks", "State"], rows);
}

// The clients of a group, page by page; a group that this server does not keep is said to be none.
export async function clientsTable(api, roomId) {
  let page = await api.clients(roomId, 0);
  if (page.epoch === undefined) return make("p", { class: "hint" }, "This server keeps no MLS group of this room.");
  const rows = ({ members }) => members.map((member) => row(
    [String(member.leaf_index), member.user_id ?? "unknown", member.device_id ?? "–"]));
  const clients = table(`MLS clients in epoch ${page.epoch}: ${page.total}`, ["Leaf", "User", "Client"], rows(page));
  if (page.next === undefined) return clients;
  const more = make("button", { type: "button", class: "quiet" }, "Show more clients");
  more.addEventListener("click", async () => {
    more.disabled = true;
    page = await api.clients(roomId, page.next).catch(() => page);
    clients.tBodies[0].append(...rows(page));
    if (page.next === undefined) more.remove();
    else more.disabled = false;
  });
  return make("div", {}, clients, more);
}
