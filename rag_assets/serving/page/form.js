/**
 * The state of the page: a fragment of its address, which no server gets to see, and the form that
 * shows it. So a question can be shared as a link, and Back works.
 */

import { el, plain } from "./dom.js";

const form = document.getElementById("search");
const controls = [...form.elements].filter(({ name }) => name);
const SWITCH = { on: true, off: false };

/** Returns the state. */
export const state = () => new URLSearchParams(location.hash.slice(1));

/** Returns the address of this state with a document explained, or none. */
export function explaining(documentId) {
  const changed = state();
  changed.delete("explain");
  if (documentId) changed.set("explain", documentId);
  return `#${changed}`;
}

/** Returns the state that the form has; what is as by default is left out. */
export function entered() {
  const set = controls.filter(({ type, checked, value, defaultValue }) =>
    type === "checkbox" ? checked : value && value !== defaultValue,
  );
  return new URLSearchParams(set.map(({ name, value }) => [name, value]));
}

/** Shows a state in the form. */
export function fillForm(from) {
  form.reset();
  controls.filter(({ name }) => from.has(name)).forEach((one) => fill(one, from.get(one.name)));
  countOptions();
}

function fill(control, value) {
  if (control.options && ![...control.options].some((one) => one.value === value)) {
    control.append(el("option", { value }, plain(value))); // it was there when the link was made
  }
  if (control.type === "checkbox") control.checked = true;
  else control.value = value;
}

/** Shows what this index has a use for, and the collections; keeps what has been typed so far. */
export function offer(index) {
  const choice = index.collections.length > 1;
  for (const one of form.querySelectorAll("[data-if]")) {
    one.hidden = !{ ...index, choice }[one.dataset.if];
  }
  for (const [name, first] of [["collection", "the live one"], ["versus", "none"]]) {
    const options = index.collections.map(({ collection, model }) =>
      el("option", { value: collection }, `${model}: ${collection}`),
    );
    form.elements[name].replaceChildren(el("option", { value: "" }, first), ...options);
    fill(form.elements[name], state().get(name) ?? "");
  }
}

function countOptions() {
  const count = [...entered().keys()].filter((name) => name !== "q").length;
  document.getElementById("options-set").textContent = count ? `(${count} set)` : "";
}

/** Returns a state's question, filter, askers and collection, as the service takes them. */
export function asked(from, collection = from.get("collection")) {
  const principals = from.get("principals")?.split(",").map((one) => one.trim()).filter(Boolean);
  const body = { question: from.get("q"), where: from.get("where"), principals, collection };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value)); // [] is true
}

/** Returns a state's search of a collection, or of the live one, as the service takes it. */
export function searchOf(from, collection) {
  return {
    ...asked(from, collection),
    limit: Number(from.get("limit") ?? 10),
    document_prefix: from.get("prefix"),
    hybrid: SWITCH[from.get("hybrid")],
    rerank: SWITCH[from.get("rerank")],
    collapse: !from.has("separate"),
  };
}

form.oninput = countOptions;
