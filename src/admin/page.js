"use strict";
// Replaces the content by a newer one every two seconds, and leaves alone what the reader has opened.
async function update() {
  const before = document.getElementById("content");
  try {
    if (document.hidden || String(getSelection())) return;
    const url = new URL(location.href);
    url.searchParams.set("part", "content");
    const response = await fetch(url, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const after = page.getElementById("content");
    if (!response.ok || !after) throw new Error(String(response.status));
    const focused = before.contains(document.activeElement) && document.activeElement.closest("[id]");
    for (const open of before.querySelectorAll("details[open]")) {
      const same = after.querySelector("#" + CSS.escape(open.id));
      if (same) same.open = true;
    }
    before.replaceWith(document.adoptNode(after));
    document.title = page.title;
    if (focused && focused.id !== "content") {
      const same = document.getElementById(focused.id);
      const target = same && (same.matches("details") ? same.querySelector("summary") : same);
      if (target) target.focus();
    }
  } catch (error) {
    let note = document.getElementById("stale");
    if (!note) {
      note = document.createElement("p");
      note.id = "stale";
      note.className = "banner";
      note.setAttribute("role", "alert");
      before.prepend(note);
    }
    note.textContent = "mtlsd does not answer; this is what it last said.";
  } finally {
    setTimeout(update, 2000);
  }
}
setTimeout(update, 2000);
