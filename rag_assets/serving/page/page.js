/** The page: does what its fragment says, and what its keys and buttons ask for. */

import { askPatiently, token } from "./api.js";
import { el, wordsOf } from "./dom.js";
import { explanation } from "./explain.js";
import { offerFields } from "./filters.js";
import { asked, entered, explaining, fillForm, offer, searchOf, state } from "./form.js";
import { hitList } from "./hits.js";

const on = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
let index = null; // what can be searched, once that is known
let answered = null; // the state whose answer is shown
let current = new AbortController(); // of the requests whose answers are waited for

/** Does what the fragment says. */
async function follow(again = false) {
  current.abort(new DOMException("Something else is asked for.", "AbortError"));
  current = new AbortController();
  on.problem.hidden = true;
  const now = state();
  const question = new URLSearchParams(now);
  question.delete("explain");
  fillForm(question);
  document.title = question.has("q") ? `${question.get("q")} · Search` : "Search";
  if (!now.has("explain")) on.explain.close();
  try {
    if (!index) await learn();
    if (again || String(question) !== answered) {
      if (question.has("q")) await search(question);
      else show();
      answered = String(question);
    }
    if (now.has("explain")) await explain(now);
  } catch (failure) {
    fail(failure);
  }
}

/** Learns what can be searched, as soon as anything can. */
async function learn() {
  index = await askPatiently("index", null, current.signal, waiting);
  on.login.hidden = true;
  on.forget.hidden = !token.get();
  on.release.replaceChildren(...named(index.release));
  offerFields(index.fields);
  offer(index);
  on.status.textContent = "";
}

async function search(from) {
  const collections = [from.get("collection")];
  if (from.has("versus")) collections.push(from.get("versus"));
  on.status.textContent = "Searching …";
  on.answer.ariaBusy = "true";
  const began = performance.now();
  const answers = await Promise.all(
    collections.map((one) => askPatiently("search", searchOf(from, one), current.signal, waiting)),
  );
  const seconds = ((performance.now() - began) / 1000).toFixed(2);
  if (!from.has("collection") && answers[0].release.collection !== index.release.collection) {
    await learn(); // another collection is live by now
  }
  show(answers, wordsOf(from.get("q")));
  const counts = answers.map(({ hits }) => hits.length).join(" and ");
  const found = { 0: "Nothing was found", 1: "1 hit" }[counts] ?? `${counts} hits`;
  on.status.textContent =
    `${found} in ${seconds} s${answers.some((one) => one.reranked) ? ", reranked" : ""}.`;
}

/** Shows the answers of one collection, of two, or none. */
function show(answers = [], words = null) {
  const links = { explain: explaining, chunks };
  const columns = answers.map(({ hits, release }, number) => {
    const other = answers[1 - number]?.hits;
    const list = hitList(hits, words, { other, isSecond: number === 1, links });
    const title = other ? el("h2", named(release)) : null;
    return el("section", { ariaLabel: release.model }, title, list);
  });
  on.answer.replaceChildren(...columns);
  on.answer.className = answers.length > 1 ? "two" : "";
  on.answer.ariaBusy = null;
  on.status.textContent = "";
}

/** Returns a release's role, model and collection. */
function named({ model, collection, live_since: since }) {
  const isLive = collection === index.release.collection;
  const role = isLive ? "live" : since ? "was live" : "candidate";
  const badge = el(isLive ? "span.badge.in-sync" : "span.badge.waiting", role);
  return [badge, ` ${model} `, el("span.muted", collection)];
}

/** Returns chunks of a document; none if that fails. */
async function chunks(documentId, first, limit) {
  const { principals } = asked(state());
  const body = { document_id: documentId, first, limit, principals };
  const answer = await askPatiently("chunks", body, current.signal, waiting).catch(fail);
  return answer?.chunks ?? [];
}

async function explain(from) {
  const told = (text) => on.explanation.replaceChildren(el("p", text));
  on.document.value = from.get("explain");
  told("Looking …");
  if (!on.explain.open) on.explain.showModal();
  const body = { ...asked(from), document_id: from.get("explain") };
  try {
    const found = await askPatiently("explain", body, current.signal, (why) => told(why.message));
    on.explanation.replaceChildren(explanation(found, index.webserver_url, explaining));
  } catch (failure) {
    if (!failure.status || failure.status === 401) throw failure;
    told(inWords(failure));
  }
}

const inWords = ({ message, requestId: id }) => (id ? `${message} (Request ${id})` : message);

function waiting({ message }, seconds) {
  on.status.textContent = `${message} Trying again in ${seconds} s.`;
}

/** Shows an error; asks for a token if that is what is missing. */
function fail(failure) {
  if (failure.name === "AbortError") return;
  answered = null;
  show();
  on.problem.textContent = inWords(failure);
  on.problem.hidden = failure.status === 401 && !token.get(); // to have none yet is no error
  if (failure.status !== 401) return;
  index = null;
  on.login.hidden = false;
  on.explain.close();
  on.token.focus();
}

function go(address) {
  if (address === (location.hash || "#")) follow(true);
  else location.hash = address;
}

/** Moves the focus among the hits; from anywhere else, to the first one. */
function move(step) {
  const hits = [...document.querySelectorAll(".hit")];
  const to = hits.indexOf(document.activeElement.closest(".hit")) + step;
  hits[Math.max(0, Math.min(to, hits.length - 1))]?.focus();
}

/** Does what a key stands for; returns whether it stands for anything. */
function pressed({ key, target }) {
  const onHit = target.closest(".hit");
  if (key === "Escape" && on.options.contains(target)) {
    on.options.open = false;
    on.question.focus();
  } else if (key === "Escape" && target === on.question) {
    target.blur(); // and keep the question
  } else if (key === "ArrowDown" && target === on.question) {
    move(1);
  } else if (target.matches("input, select")) {
    return false;
  } else if (key === "/") {
    on.question.select();
  } else if (key in STEPS && (onHit || key.length === 1)) {
    move(STEPS[key]);
  } else if (key === "w" && onHit) {
    go(onHit.querySelector(".why").hash);
  } else {
    return false;
  }
  return true;
}

document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || on.explain.open) return;
  if (pressed(event)) event.preventDefault();
};
on.search.onsubmit = () => {
  go(`#${entered()}`);
  return false;
};
on.login.onsubmit = () => {
  token.set(on.token.value.trim());
  on.login.reset();
  follow(true);
  return false;
};
on.forget.onclick = () => {
  token.forget();
  location.reload();
};
on["explain-other"].onclick = () => {
  on.document.value = "";
  on.explanation.replaceChildren();
  on.explain.showModal();
};
on["explain-form"].onsubmit = () => {
  go(explaining(on.document.value));
  return false;
};
on["explain-close"].onclick = () => on.explain.close();
on.explain.onclose = () => {
  if (on.login.hidden && state().has("explain")) location.hash = explaining("");
};
window.onhashchange = () => follow();
follow();
