// Text of a policy or the web, before it becomes a text node: what would steer the reader is shown, not obeyed.
const { h, html, render, useState, useEffect, useRef, useMemo } = htmPreact;

// Control characters but newline and tab, and marks that hide text or turn its direction
const STEERS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

const shown = (text) =>
  String(text ?? "").replace(STEERS, (sign) => `⟦U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟧`);

const number = (value, digits = 3) => (value === null || value === undefined ? "" : Number(value).toFixed(digits));
const signed = (value) => (value === null || value === undefined ? "" : (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(2));
const percent = (value) => (value === null || value === undefined ? "" : (100 * value).toFixed(1));

const verdict = (each) =>
  each.status === "infra_failure" ? "infra" : each.correct === null || each.correct === undefined ? "open" : each.correct ? "right" : "wrong";
