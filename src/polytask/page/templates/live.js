"use strict";
// Asks for the next version of the page and puts it in place: sections stay open, and what was read stays where it is.
const EVERY_MS = 2000;
const at = id => document.getElementById(id);

// A name for what can be opened or hold the focus, by which the next version knows it again.
function keyOf(node) {
  const words = [node.tagName, node.getAttribute("aria-label") || node.getAttribute("href") || ""];
  for (let outer = node; outer; outer = outer.parentElement) {
    if (outer.tagName === "DETAILS") words.push(outer.firstElementChild.firstElementChild?.textContent ?? outer.firstElementChild.textContent);
    if (outer.tagName === "SECTION") words.push(outer.id);
  }
  return words.join("\n");
}

function remembered() {
  const open = new Set([...document.querySelectorAll("details[open]")].map(keyOf));
  const moved = new Map([...document.querySelectorAll(".scroll, pre")].map(node => [keyOf(node), node.scrollLeft]));
  const held = document.activeElement === document.body ? "" : keyOf(document.activeElement);
  const first = [...document.querySelectorAll("section")].find(section => section.getBoundingClientRect().bottom > 0);
  return {open, moved, held, id: scrollY > 0 && first ? first.id : "", top: first ? first.getBoundingClientRect().top : 0};
}

function put(next) {
  const before = remembered();
  for (const name of ["header", "nav", "main"]) document.querySelector(name).replaceWith(next.querySelector(name));
  for (const node of document.querySelectorAll("details")) node.open = before.open.has(keyOf(node));
  for (const node of document.querySelectorAll(".scroll, pre")) node.scrollLeft = before.moved.get(keyOf(node)) ?? 0;
  const section = before.id && at(before.id);
  if (section) scrollBy({top: section.getBoundingClientRect().top - before.top, behavior: "instant"});
  if (before.held) {
    const node = [...document.querySelectorAll("a, summary, [tabindex]")].find(one => keyOf(one) === before.held);
    if (node) node.focus({preventScroll: true});
  }
  document.title = next.title;
  document.body.dataset.version = next.body.dataset.version;
  at("changed").textContent = next.getElementById("changed").textContent;
  say(next.getElementById("state").textContent);
}

// Announced only when it is another sentence.
function say(text) { if (at("state").textContent !== text) at("state").textContent = text; }

async function look() {
  if (!getSelection().isCollapsed) return;  // somebody is copying
  try {
    const answer = await fetch("/", {cache: "no-store", headers: {"If-None-Match": `"${document.body.dataset.version}"`}});
    if (answer.status === 200) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    say("polytask report --watch was stopped; this is the last page that it drew.");
  }
}

async function follow() {
  await look();
  setTimeout(follow, EVERY_MS);
}

setTimeout(follow, EVERY_MS);
