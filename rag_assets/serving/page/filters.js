/** The builder of filters: it writes comparisons of fields into the filter's text. */

import { el } from "./dom.js";

const EQUAL = ["==", "!="];
const ORDER = ["<", "<=", ">", ">="];
const LISTS = ["in", "not in"];
const OPERATORS = {
  string: [...EQUAL, ...LISTS, "starts_with", ...ORDER],
  strings: [...EQUAL, ...LISTS],
  boolean: EQUAL,
  timestamp: [...ORDER, ...EQUAL],
  integer: [...EQUAL, ...ORDER, ...LISTS],
  float: [...EQUAL, ...ORDER, ...LISTS],
};
const INPUTS = { timestamp: "date", integer: "number", float: "number" };
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?$/;
const [field, operator, value, where, add] = ["field", "operator", "value", "where", "add"].map(
  (id) => document.getElementById(id),
);
let types = {};

/** Offers these fields. */
export function offerFields(fields) {
  types = Object.fromEntries(fields.map(({ name, type }) => [name, type]));
  field.replaceChildren(...fields.map(({ name }) => el("option", name)));
  chooseField();
}

function chooseField() {
  const offered = OPERATORS[types[field.value]] ?? EQUAL;
  operator.replaceChildren(...offered.map((one) => el("option", one)));
  chooseOperator();
}

function chooseOperator() {
  const type = types[field.value];
  const list = LISTS.includes(operator.value);
  const input = { "aria-label": "Value", type: INPUTS[type] ?? "text", step: "any" };
  if (list) Object.assign(input, { type: "text", placeholder: "one, another" });
  const choices = [el("option", "true"), el("option", "false")];
  value.replaceChildren(
    type === "boolean" ? el("select", { "aria-label": "Value" }, choices) : el("input", input),
  );
}

/** Returns the comparison that is chosen as a filter's text. */
function comparison(text) {
  const type = types[field.value];
  const bare = (one) => type === "boolean" || (INPUTS[type] === "number" && NUMBER.test(one));
  const literal = (one) => (bare(one) ? one : JSON.stringify(one));
  const values = text.split(",").map((one) => one.trim()).filter(Boolean).map(literal);
  const operand = LISTS.includes(operator.value) ? `[${values.join(", ")}]` : literal(text);
  return `${field.value} ${operator.value} ${operand}`;
}

function addComparison() {
  const input = value.firstElementChild;
  if (!input.value.trim()) return input.focus();
  const before = where.value.trim();
  const kept = /\bor\b/i.test(before) ? `(${before})` : before;
  where.value = [kept, comparison(input.value)].filter(Boolean).join(" and ");
  where.dispatchEvent(new Event("input", { bubbles: true }));
  return where.focus();
}

field.onchange = chooseField;
operator.onchange = chooseOperator;
add.onclick = addComparison;
value.onkeydown = (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // it adds, and does not search
  addComparison();
};
