// The page: signing in, the list of rooms, and one open room.

import { Api, Refused } from "/web/api.js";
import { make } from "/web/entries.js";
import { clientsTable, followersTable, lagOf } from "/web/operator.js";
import { Room } from "/web/room.js";

const TOKEN = "linearized.token"; // in the tab's own storage: closing the tab forgets it
const NEAR_END_PX = 120;
const $ = (id) => document.getElementById(id);

let api = new Api(sessionStorage.getItem(TOKEN));
let room = null;
const TITLE = document.title;
let operated = null; // the room whose followers are shown

function show(view) {
  document.body.dataset.view = view;
  $("app").hidden = view === "signin";
  for (const id of ["who", "signout"]) $(id).hidden = view === "signin";
}

function say(text) {
  $("announce").textContent = text;
}

function forget() {
  room?.close();
  room = null;
  sessionStorage.removeItem(TOKEN);
  api = new Api();
  $("rooms").replaceChildren();
  $("operated").hidden = true;
  $("operated-rooms").replaceChildren();
  closeRoom();
  show("signin");
  $("user").focus();
}

// A session is kept while the server cannot be asked: only a server that refuses it ends it.
async function begin() {
  try {
    await enter();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return forget();
    const retry = make("button", { type: "button", id: "retry" }, "Try again");
    retry.addEventListener("click", begin);
    show("rooms");
    $("rooms").replaceChildren(
      make("li", { class: "error", role: "alert" }, `The rooms cannot be shown: ${error.message}`), make("li", {}, retry));
  }
}

// On narrow screens the members, the group and the numbers come over the timeline when they are asked for.
function details(open) {
  $("people").classList.toggle("open", open);
  $("details").setAttribute("aria-expanded", String(open));
}

function closeDetails() {
  if (!$("people").classList.contains("open")) return;
  details(false);
  $("details").focus();
}

// What goes wrong is shown where it happened; a session that is over leads back to the beginning.
function failed(error, place) {
  if (error instanceof Refused && error.status === 401 && api.token) return forget();
  place.textContent = error.message;
}

async function enter() {
  const { user_id: user } = await api.whoami();
  $("who").textContent = user;
  show("rooms");
  const ids = await api.rooms();
  const named = await Promise.all(ids.map(async (id) => [await api.name(id).catch(() => null), id]));
  named.sort(([one, first], [other, second]) => (one || first).localeCompare(other || second));
  $("rooms").replaceChildren(...named.map(([name, id]) => {
    const button = make("button", { type: "button", "data-room": id }, name || "Room without a name", make("small", {}, id));
    button.addEventListener("click", () => openRoom(id, name));
    return make("li", {}, button);
  }));
  if (!named.length) $("rooms").append(make("li", { class: "hint" }, "You have joined no room."));
  if (await api.isOperator()) await showOperated(new Map(named.map(([name, id]) => [id, name])));
  say(`${named.length} rooms`);
}

// Every room of this server, the one whose followers are furthest behind first.
async function showOperated(names) {
  const { rooms, total } = await api.operated();
  $("operated-rooms").replaceChildren(...rooms.map((found) => {
    const id = found.room_id;
    const button = make("button", { type: "button", "data-operated": id }, names.get(id) || id, make("small", {}, lagOf(found)));
    button.addEventListener("click", () => openOperated(id, names.get(id)));
    return make("li", {}, button);
  }));
  if (total > rooms.length) {
    $("operated-rooms").append(make("li", { class: "hint" }, `${total - rooms.length} more are less behind.`));
  }
  $("operated").hidden = false;
}

async function openOperated(id, name) {
  closeRoom();
  show("room");
  operated = id;
  choose("operated", id);
  $("placeholder").hidden = true;
  $("operator").hidden = false;
  $("room-title").textContent = name || id;
  document.title = `Followers of ${name || id} · linearized`;
  $("main").focus();
  await refresh();
}

async function refresh() {
  const id = operated;
  $("operator-error").textContent = "";
  try {
    const [found, clients] = await Promise.all([api.followers(id), clientsTable(api, id)]);
    if (operated !== id) return;
    $("room-facts").textContent = `${id} · ${found.role} · hub ${found.hub}`;
    $("followers").replaceChildren(followersTable(found));
    $("clients").replaceChildren(clients);
    const count = found.followers.length;
    say(`${count} ${count === 1 ? "follower" : "followers"}, to entry ${found.head_seq}`);
  } catch (error) {
    if (operated === id) failed(error, $("operator-error"));
  }
}

function choose(kind, id) {
  for (const button of $("app").querySelectorAll(".rooms button")) {
    button.setAttribute("aria-current", String(button.dataset[kind] === id));
  }
}

function firstRoom() {
  return $("app").querySelector(".rooms button");
}

function closeRoom() {
  room?.close();
  room = operated = null;
  for (const id of ["tools", "scroll", "people", "details", "live", "operator"]) $(id).hidden = true;
  details(false);
  document.title = TITLE;
  for (const id of ["followers", "clients", "group"]) $(id).replaceChildren();
  $("placeholder").hidden = false;
  $("room-title").textContent = "Choose a room";
  $("room-facts").textContent = "";
  for (const button of $("app").querySelectorAll(".rooms button")) button.removeAttribute("aria-current");
}

async function openRoom(id, name) {
  closeRoom();
  show("room");
  choose("room", id);
  $("placeholder").hidden = true;
  for (const place of ["tools", "scroll", "people", "details"]) $(place).hidden = false;
  $("room-title").textContent = name || "Room without a name";
  $("room-facts").textContent = id;
  $("timeline").replaceChildren();
  $("search").value = "";
  $("proof").textContent = "Checking…";
  $("proof").dataset.state = "";
  document.title = `${name || id} · linearized`;
  $("main").focus();
  const opened = room = new Room(api, id, {
    added: (entries, front, fresh) => opened === room && added(entries, front, fresh),
    removed: (entries) => {
      entries.forEach((entry) => entry.view.element.remove());
      if (opened === room) $("earlier").hidden = room.first <= 1;
    },
    proved: (problem) => opened === room && proved(problem),
    live: (state) => opened === room && live(state),
  });
  try {
    await Promise.all([opened.open(), showMembers(id), showGroup(opened)]);
  } catch (error) {
    if (opened === room) failed(error, $("proof"));
  }
}

function added(entries, front, fresh = false) {
  const scroll = $("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END_PX;
  const height = scroll.scrollHeight;
  const elements = entries.map((entry) => entry.view.element);
  if (front) $("timeline").prepend(...elements);
  else $("timeline").append(...elements);
  search();
  if (front) scroll.scrollTop += scroll.scrollHeight - height;
  else if (atEnd || !fresh) scroll.scrollTop = scroll.scrollHeight;
  if (fresh) {
    for (const { seq, pdu, view } of entries) {
      view.element.classList.add("fresh");
      say(`Entry ${seq}, ${pdu.sender}: ${view.text}`);
    }
  }
  $("earlier").hidden = room.first <= 1;
}

function proved(problem) {
  const counts = Object.groupBy(room.entries, (entry) => entry.view.state);
  const [failedCount, all] = [counts.failed?.length ?? 0, room.entries.length];
  const verified = counts.verified?.length ?? 0;
  const proof = $("proof");
  if (failedCount) {
    proof.dataset.state = "failed";
    proof.textContent = `${failedCount} of ${all} entries are not verified${problem ? `: ${problem}` : ""}.`;
  } else if (verified === all && all) {
    proof.dataset.state = "verified";
    proof.textContent = `All ${all} entries verified, under the hub's signature for ${room.proof.seq}.`;
  } else {
    proof.dataset.state = "";
    proof.textContent = problem ? `Not proved: ${problem}.` : `${verified} of ${all} entries verified.`;
  }
  const rows = [["First loaded", room.first], ["Last entry", room.last], ["Hub signed for", room.proof?.seq ?? "–"],
    ["Behind its signature", room.proof ? room.last - room.proof.seq : "–"], ["Room version", room.version ?? "unknown"]];
  $("numbers").replaceChildren(...rows.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, String(value))]));
}

function live(state) {
  const words = { live: "● live", waiting: "connecting again", over: "ended" };
  $("live").hidden = false;
  $("live").dataset.state = state;
  $("live").textContent = words[state];
}

async function showMembers(id) {
  const providers = new Map();
  for (const user of Object.keys(await api.members(id)).sort()) {
    const server = user.slice(user.indexOf(":") + 1);
    providers.set(server, [...(providers.get(server) || []), user]);
  }
  $("members").replaceChildren(...[...providers].map(([server, users]) => make("section", { class: "provider" },
    make("h3", {}, server), make("ul", {}, ...users.map((user) => make("li", {}, user))))));
}

async function showGroup(opened) {
  const clients = await clientsTable(api, opened.roomId);
  if (opened === room) $("group").replaceChildren(clients);
}

function search() {
  const words = $("search").value.trim().toLowerCase();
  const found = room.entries.filter((entry) => entry.view.match(words)).length;
  $("empty").hidden = found > 0 || !room.entries.length;
  return words ? found : null;
}

$("signin-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  $("signin-error").textContent = "";
  try {
    await api.login($("user").value.trim(), $("password").value);
    sessionStorage.setItem(TOKEN, api.token);
    $("password").value = "";
    await enter();
    (firstRoom() ?? $("main")).focus();
  } catch (error) {
    failed(error, $("signin-error"));
  } finally {
    button.disabled = false;
  }
});

$("signout").addEventListener("click", async () => {
  await api.logout().catch(() => {}); // gone already, or out of reach: this tab forgets it anyway
  forget();
});
$("back").addEventListener("click", () => {
  closeRoom();
  show("rooms");
  firstRoom()?.focus();
});
$("details").addEventListener("click", () => {
  details(true);
  $("close").focus();
});
$("close").addEventListener("click", closeDetails);
document.addEventListener("keydown", ({ key }) => key === "Escape" && closeDetails());
$("refresh").addEventListener("click", refresh);
$("earlier").addEventListener("click", async ({ target }) => {
  target.disabled = true;
  await room.earlier().catch((error) => failed(error, $("proof")));
  target.disabled = false;
});
$("search-form").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => {
  const found = search();
  if (found !== null) say(`${found} entries match`);
});

if (api.token) begin();
else show("signin");
