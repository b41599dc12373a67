/**
 * Elements. Whatever comes from outside becomes text: nothing on this page writes HTML, and the
 * policy that it is served with lets no script do so.
 */

const MAX_WORDS = 50;
const MAX_MARKS = 300;
const COMMON = new Set( // which tell nothing of what is asked for
  ("an and any are as at be by can could did do does for from had has have how if in into is it" +
    " its may must no not of on or our should that the their there they this to was we were what" +
    " when where which who why will with would you your").split(" "),
);
const SPACELESS = // scripts that are written without spaces between words
  /[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Thai}\p{scx=Laoo}\p{scx=Khmr}\p{scx=Mymr}]/u;
const UNSEEN = // or turns the text around it: https://trojansource.codes
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** Returns a new element, `el("p.muted", { title }, …children)`; null children are left out. */
export function el(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  made.classList.add(...classes);
  const properties = children[0]?.constructor === Object ? children.shift() : {};
  for (const [property, value] of Object.entries(properties)) {
    if (property in made) made[property] = value;
    else made.setAttribute(property, value);
  }
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}

/** Returns a name, which may have been chosen to deceive, with every character to be seen. */
export function plain(name) {
  const escaped = (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return String(name).replace(UNSEEN, escaped);
}

/** Returns a link to a page of the web; null if that is not what the address is. */
export function link(address, text) {
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return null;
  return el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text);
}

/** Returns a document's address: as a link, or else as text and a button that copies it. */
export function place(address) {
  const linked = link(address, plain(address));
  if (linked) return [linked];
  const text = el("span", plain(address));
  const copy = el("button.inline", { type: "button" }, "Copy");
  copy.onclick = async () => {
    getSelection().selectAllChildren(text); // where a page may not write to the clipboard
    await navigator.clipboard?.writeText(address);
    copy.textContent = navigator.clipboard ? "Copied" : "Selected";
  };
  return [text, " ", copy];
}

/** Returns what finds a question's words, also with an ending; null if it has none. */
export function wordsOf(question) {
  const text = question.normalize("NFC").toLowerCase();
  const segments = [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)];
  const words = segments.flatMap(({ segment }) => segment.match(/[\p{L}\p{M}\p{N}]+/gu) ?? []);
  const telling = words.filter((word) => SPACELESS.test(word) || (word[1] && !COMMON.has(word)));
  const patterns = [...new Set(telling)].slice(0, MAX_WORDS).map((word) =>
    SPACELESS.test(word) ? word : `(?<![\\p{L}\\p{N}])${word}\\p{L}{0,3}(?![\\p{L}\\p{N}])`,
  );
  return patterns.length ? new RegExp(patterns.join("|"), "giu") : null;
}

/** Returns a text in parts, of which those that a question's words find are marked. */
export function marked(text, words) {
  const parts = [];
  let end = 0;
  for (const found of words ? text.matchAll(words) : []) {
    if (parts.length >= 2 * MAX_MARKS) break;
    parts.push(text.slice(end, found.index), el("mark", found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}
