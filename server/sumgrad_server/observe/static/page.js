// Keeps the page fresh: asks once a second for its live part, and puts in what changed. Without this script the page is whole, and reloads itself.
"use strict";

const LIVE = document.getElementById("live");
const CONNECTION = document.getElementById("connection");
const PAUSE = 1000;

// A section stays as it is while somebody has marked text in it or goes through it by keyboard.
function inUse(section) {
  const selection = document.getSelection();
  const marked = selection && !selection.isCollapsed && selection.containsNode(section, true);
  return marked || section.contains(document.activeElement);
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const section of fresh.querySelectorAll("section[id]")) {
    const old = document.getElementById(section.id);
    if (!old) {
      LIVE.append(section);
    } else if (old.outerHTML !== section.outerHTML && !inUse(old)) {
      old.replaceWith(section);
    }
  }
}

async function refresh() {
  const answer = await fetch("/live", { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!answer.ok) {
    throw new Error(answer.statusText);
  }
  show(await answer.text());
}

function say(text) {
  if (CONNECTION.textContent !== text) {
    CONNECTION.textContent = text;
  }
}

async function loop() {
  if (!document.hidden) {
    try {
      await refresh();
      say("live");
      CONNECTION.classList.remove("lost");
    } catch {
      say("no answer from the server: this is how it was");
      CONNECTION.classList.add("lost");
    }
  }
  setTimeout(loop, PAUSE);
}

loop();
