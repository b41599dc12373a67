/** Hits, the text around them, and how those of two collections compare. */

import { el, marked, place, plain } from "./dom.js";

const LONG = 1500; // characters; more are shown on request
const AROUND = 2; // chunks before and after a hit
const SECTION = 50; // chunks that are looked through for its section
const NOWHERE = /(?!)/;
const FRACTION = /(T\d\d:\d\d:\d\d)\.\d+/; // of a second

/**
 * Returns hits as a list, compared with the hits of an `other` collection if there are any.
 * `links.explain` leads to the explanation of a document, `links.chunks` reads its chunks.
 */
export function hitList(hits, words, { other, isSecond, links }) {
  const found = other?.flatMap((hit, rank) => idsOf(hit).map((id) => [id, rank]));
  const ranks = new Map(found?.reverse()); // of equal ones, the best
  const items = hits.map((hit, rank) => {
    const elsewhere = idsOf(hit).map((id) => ranks.get(id)).find((one) => one !== undefined);
    const mark = other ? change(rank, elsewhere, isSecond) : null;
    return el("li", hitView(hit, rank + 1, words, mark, links));
  });
  return el("ol.hits", items);
}

/** Returns the chunks of a hit: its own, and those of other documents with the same text. */
const idsOf = (hit) => [hit, ...hit.also_in].map((one) => one.chunk_id);

/** Returns how a hit moves from the first collection to the second, the same in both columns. */
function change(rank, elsewhere, isSecond) {
  const there = elsewhere === undefined ? "Not a hit of" : `Rank ${elsewhere + 1} in`;
  const badge = (kind, text) =>
    el(`span.badge.${kind}`, { title: `${there} the other collection` }, text,
      el("span.unseen", `: ${there} the other collection.`));
  if (elsewhere === undefined) return isSecond ? badge("new", "new") : badge("gone", "gone");
  const risen = isSecond ? elsewhere - rank : rank - elsewhere;
  if (!risen) return badge("same", "=");
  return risen > 0 ? badge("higher", `↑${risen}`) : badge("lower", `↓${-risen}`);
}

function hitView(hit, rank, words, mark, links) {
  const title = plain(hit.title || hit.document_id);
  const score = `score ${hit.score.toFixed(4)}`;
  const rerank = hit.rerank_score === null ? "" : ` · rerank ${hit.rerank_score.toFixed(4)}`;
  return el("article.hit", { tabIndex: 0, "aria-label": `Hit ${rank}: ${title}` },
    el("div.head",
      el("span.rank", String(rank)), el("h3", el("bdi", title)), mark,
      el("span.score", score, rerank)),
    hit.heading ? el("p.path", { dir: "auto" }, hit.heading) : null,
    textView(hit.text, words),
    el("p.source",
      el("span.id", plain(hit.document_id)), ` · ${pages(hit)}chunk ${hit.ordinal}`,
      el("br"), place(hit.source_uri)),
    el("ul.tags", { "aria-label": "Metadata" }, Object.entries(hit.metadata).map(tag)),
    alsoIn(hit.also_in),
    el("div.actions",
      el("a.why", { href: links.explain(hit.document_id) }, "Why?"),
      context("Neighbours", hit, words, links, AROUND, () => true),
      context("Section", hit, words, links, SECTION, ({ heading }) => heading === hit.heading)));
}

function pages({ page, last_page: last }) {
  if (!page) return "";
  return last > page ? `pages ${page} to ${last}, ` : `page ${page}, `;
}

/** Returns a text; of a long one, what is around the first of the question's words. */
function textView(text, words) {
  if (text.length <= LONG) return [el("div.text", { dir: "auto" }, marked(text, words))];
  const start = Math.max(0, text.search(words ?? NOWHERE) - 200);
  const part = marked(text.slice(start, start + LONG), words);
  const body = el("div.text", { dir: "auto" }, start ? "…" : null, part, "…");
  const all = `Show all ${text.length.toLocaleString()} characters`;
  const more = el("button.quiet", { type: "button" }, all);
  more.onclick = () => {
    body.replaceChildren(...marked(text, words));
    more.remove();
  };
  return [body, more];
}

function tag([name, value]) {
  const shown = [value].flat().join(", ").replace(FRACTION, "$1");
  return el("li", el("b", name), " ", el("bdi", plain(shown)));
}

function alsoIn(places) {
  if (!places.length) return null;
  const documents = new Set(places.map((one) => one.document_id)).size;
  const items = places.map((one) =>
    el("li", el("span.id", plain(one.document_id)), ` · ${pages(one)}chunk ${one.ordinal}`));
  const title = `Also in ${documents} ${documents === 1 ? "document" : "documents"}`;
  return el("details.also", el("summary", title), el("ul", items));
}

/** Returns chunks around a hit, or those of them that belong to it; they are read when opened. */
function context(title, hit, words, links, reach, belongs) {
  const made = el("details", el("summary", title));
  const read = async () => {
    const first = Math.max(0, hit.ordinal - reach);
    const chunks = await links.chunks(hit.document_id, first, hit.ordinal + reach - first + 1);
    const items = chunks.filter(belongs).map((chunk) =>
      el(chunk.ordinal === hit.ordinal ? "li.own" : "li",
        el("p.path", { dir: "auto" }, chunk.heading), textView(chunk.text, words)));
    made.append(el("ol.context", { "aria-label": title }, items));
  };
  made.addEventListener("toggle", read, { once: true });
  return made;
}
