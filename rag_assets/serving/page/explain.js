/** Explanations: a document's way to the rows that searches find, and where a question finds it. */

import { el, link, plain } from "./dom.js";

const SHOWN_OTHERWISE = ["asset", "partition", "collection", "model"];
const NOTHING = [null, "", "{}"];
const COLUMNS = ["By", "Rank", "Score", "Best chunk", "Directly above it"];

/** Returns an explanation, with links into the Dagster UI and, by `explain`, to others. */
export function explanation(found, webserver, explain) {
  return el("div",
    el("p.verdict", found.verdict),
    el("p.muted", `Shard ${found.shard}`),
    el("ol.steps", found.steps.map((step) => stepView(step, webserver, found.live))),
    found.ranks ? ranksView(found.ranks, explain) : null);
}

function stepView({ name, state, message, facts, run_id: run }, webserver, live) {
  const model = facts.model && `${facts.model}${facts.collection === live ? ", live" : ""}`;
  const shown = Object.entries(facts).filter(
    ([fact, value]) => !SHOWN_OTHERWISE.includes(fact) && !NOTHING.includes(value));
  return el("li.step",
    el(`span.badge.${state.replace(" ", "-")}`, state),
    el("b", name),
    model ? el("span.muted", model) : null,
    el("p", plain(message)),
    el("div.facts",
      el("dl", shown.map(factView)), assetLink(facts, webserver), runLink(run, webserver)));
}

function factView([name, value]) {
  const shown = typeof value === "number" ? value.toLocaleString() : plain(value);
  return el("div", el("dt", name.replace("_", " ")), el("dd", shown));
}

function assetLink({ asset, partition }, webserver) {
  if (!asset || !partition) return null;
  const query = new URLSearchParams({ partition, view: "partitions" });
  return inDagster(webserver, `assets/${asset}?${query}`, `${asset}, ${partition}`);
}

function runLink(run, webserver) {
  return run ? inDagster(webserver, `runs/${run}`, `run ${run.slice(0, 8)}`) : null;
}

/** Returns a link into the Dagster UI, or its text if it is not known where that is. */
function inDagster(webserver, path, text) {
  return link(`${(webserver ?? "").replace(/\/+$/, "")}/${path}`, text) ?? el("span", text);
}

function ranksView({ collection, rankings, problem }, explain) {
  const head = el("tr", COLUMNS.map((name) => el("th", { scope: "col" }, name)));
  const rows = rankings.map((ranking) => rankingView(ranking, explain));
  return el("section",
    el("h3", "Where the question finds it"),
    el("p.muted", `In ${collection}`),
    problem ? el("p", problem) : el("table", el("thead", head), el("tbody", rows)));
}

function rankingView({ by, rank, among, score, heading, above, note }, explain) {
  const others = above.map((one) =>
    el("li", { title: one.heading },
      el("a", { href: explain(one.document_id) }, plain(one.document_id)),
      ` ${one.score.toFixed(4)}`));
  return el("tr",
    el("th", { scope: "row" }, by),
    el("td", `${rank ?? "not"} ${rank ? "of" : "among"} ${among.toLocaleString()}`),
    el("td", score === null ? "" : score.toFixed(4)),
    el("td", { dir: "auto" }, [heading, note].filter(Boolean).join(" · ")),
    el("td", others.length ? el("ol", { start: rank - others.length }, others) : null));
}
