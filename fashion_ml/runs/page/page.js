"use strict";
// Every text comes from runs, so it is set as text, never as HTML.
const FIRST = 12;
const opened = new Set(); // what a person has unfolded stays so when the page is drawn again
let shown = "";

if (location.hash.startsWith("#/")) location.replace("/?mlflow" + location.hash); // a link into MLflow's own UI

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function fill(form, values) {
  return form.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

function drawn(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const isGain = (metric) => metric.includes("gain");
const digits = (metric) => (metric.endsWith("gain") ? 4 : 3); // as many as the lines beside it have
const signed = (value, metric) => (isGain(metric) && value >= 0 ? "+" : "") + value.toFixed(digits(metric));
const LEAST = 0.01; // a smaller gain is not drawn large because nothing larger is there

function scale(values) {
  const plain = values.length && !isGain(values[0].metric);
  let low = plain ? 0 : -LEAST, high = plain ? 1 : LEAST;
  for (const value of values) {
    low = Math.min(low, value.mean, value.low ?? 0);
    high = Math.max(high, value.mean, value.high ?? 0);
  }
  return plain ? [low, high] : [low - (high - low) * 0.06 - 1e-6, high + (high - low) * 0.06 + 1e-6];
}

function bar(value, [low, high], words, verdict) {
  const at = (number) => 4 + (292 * (number - low)) / (high - low);
  const kind = verdict === "better" || verdict === "worse" ? verdict : "";
  const picture = drawn("svg", { class: "bar " + kind, viewBox: "0 0 300 44", role: "img" });
  const said = signed(value.mean, value.metric) + (value.low === undefined ? "" : ` [${signed(value.low, value.metric)}, ${signed(value.high, value.metric)}]`);
  picture.append(drawn("title", {}, `${value.metric} ${said}. ${isGain(value.metric) ? words.bar_help : words.share_help}`));
  picture.append(drawn("line", { class: "axis", x1: 0, x2: 300, y1: 14, y2: 14 }));
  if (value.low !== undefined)
    picture.append(drawn("rect", { class: "ends", x: at(value.low), y: 8, width: Math.max(at(value.high) - at(value.low), 1), height: 12 }));
  picture.append(drawn("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 28 }));
  if (!Object.values(value.marks ?? {}).some((mark) => Math.abs(at(mark) - at(0)) < 20))
    picture.append(drawn("text", { x: at(0), y: 41, "text-anchor": at(0) < 12 ? "start" : "middle" }, "0"));
  for (const [name, number] of Object.entries(value.marks ?? {})) {
    picture.append(drawn("line", { class: "tick", x1: at(number), x2: at(number), y1: 4, y2: 24 }));
    const place = at(number) > 200 ? "end" : at(number) < 40 ? "start" : "middle";
    picture.append(drawn("text", { x: at(number), y: 41, "text-anchor": place }, `${words[name]} ${number.toFixed(2)}`));
  }
  picture.append(drawn("circle", { class: "mean", cx: at(value.mean), cy: 14, r: 5 }));
  return picture;
}

function number(value) {
  const made = make("p", "number");
  made.append(make("b", "", signed(value.mean, value.metric)));
  if (value.low !== undefined) made.append(` [${signed(value.low, value.metric)}, ${signed(value.high, value.metric)}]`);
  made.append(" ", make("span", "small", value.metric));
  return made;
}

function badge(word, words, count) {
  const made = make("span", "badge " + (word === "better" || word === "worse" ? word : word === "not shown" ? "" : "plain"));
  made.textContent = (count === undefined ? "" : count + " ") + words[word || "no_verdict"];
  made.title = words[word + "_help"] ?? "";
  return made;
}

function link(data, run, part, text) {
  const made = make("a", "", text);
  made.href = `${data.mlflow}#/experiments/${encodeURIComponent(run.experiment)}/runs/${part.map(encodeURIComponent).join("/artifacts/").replaceAll("%2F", "/")}`;
  return made;
}

function picture(run) {
  const made = make("img", "picture");
  made.loading = "lazy";
  made.alt = "";
  made.addEventListener("error", () => {
    made.closest(".row")?.classList.add("bare");
    made.remove();
  });
  made.src = `/page/picture/${encodeURIComponent(run.picture)}.jpg`;
  return made;
}

function row(data, run, place, range) {
  const words = data.words;
  const made = make("article", "row" + (run.picture ? "" : " bare") + (opened.has(run.id) ? " open" : ""));
  if (run.picture) made.append(picture(run));
  const text = make("div", "text");
  const head = make("p", "head");
  if (place) head.append(make("span", "place", place + "."));
  head.append(make("span", "name", run.name));
  if (words[run.kind]) head.append(" ", make("span", "badge kind", words[run.kind]));
  for (const param of run.params) head.append(make("span", "param", param));
  if (run.part_of) head.append(make("span", "param", run.part_of));
  made.append(head);
  if (run.what) text.append(make("p", "what", run.what));
  run.lines.forEach((line, index) => text.append(make("p", index ? "line" : "line first", line)));
  if (run.searched && !run.value)
    text.append(make("p", "line", fill(words.searched, { values: Object.entries(run.searched).map(([name, value]) => `${name} ${value.toFixed(4)}`).join(", ") })));
  if (run.error) text.append(make("p", "line", run.error));
  made.append(text);
  const result = make("div", "result");
  if (run.value) result.append(number(run.value), bar(run.value, range ?? scale([run.value]), words, run.verdict));
  const state = make("p", "");
  if (run.status !== "FINISHED") state.append(make("span", "badge plain", words[run.status] ?? run.status));
  if (run.verdict) state.append(badge(run.verdict, words));
  if (state.childNodes.length) result.append(state);
  const links = make("p", "links");
  if (run.lines.length) {
    const more = make("button", "more", opened.has(run.id) ? words.less : words.more);
    more.addEventListener("click", () => {
      const open = made.classList.toggle("open");
      open ? opened.add(run.id) : opened.delete(run.id);
      more.textContent = open ? words.less : words.more;
      fold();
    });
    links.append(more);
  }
  links.append(link(data, run, [run.id], words.run));
  if (run.report) links.append(link(data, run, run.report, words.report));
  result.append(links);
  made.append(result);
  return made;
}

function fold() { // "more" stands only where a line is cut off, which depends on the width; all are measured before one is changed
  const found = [...document.querySelectorAll("button.more")].map((more) => {
    const own = more.closest(".row");
    return [more, own.classList.contains("open") || [...own.querySelectorAll(".line")].some((line) => line.scrollHeight > line.clientHeight + 1)];
  });
  for (const [more, cut] of found) more.hidden = !cut;
}

function list(data, found, key, ranked) {
  const made = make("div", "");
  const runs = found.runs;
  const range = scale(runs.flatMap((run) => (run.value ? [run.value] : [])));
  const add = (some, first) => some.forEach((run, index) => made.append(row(data, run, ranked && run.value ? first + index + 1 : 0, range)));
  const few = opened.has(key) ? runs.length : FIRST;
  add(runs.slice(0, few), 0);
  if (found.count > Math.min(few, runs.length)) {
    const all = make("button", "", fill(data.words.show_all, { n: found.count }));
    all.addEventListener("click", () => {
      opened.add(key);
      whole = whole || found.count > runs.length;
      load();
    });
    made.append(all);
  }
  return made;
}

function group(data, one, experiment) {
  const words = data.words;
  const made = make(one.part_of.length ? "details" : "section", "group");
  const head = make(one.part_of.length ? "summary" : "h3", "", words[one.algorithm] + " ");
  head.append(make("span", "mark", `${words.measured_as} ${one.fingerprint}`));
  if (one.part_of.length) head.append(` ${one.count}: ${one.part_of.join(", ")}`);
  made.append(head);
  made.append(make("p", "small", words.measured_as_help));
  if (one.said) {
    const best = one.runs[0].verdict;
    const said = make("div", "said " + (best === "better" ? "" : best === "worse" ? "worse" : "unsure"));
    said.append(make("p", "", one.said));
    const verdicts = make("p", "");
    for (const word of ["better", "not shown", "worse"]) if (one.verdicts?.[word]) verdicts.append(badge(word, words, one.verdicts[word]));
    if (one.count > 1 && verdicts.childNodes.length) said.append(verdicts);
    made.append(said);
    if (one.algorithm === "lora") made.append(make("p", "small", words.files_only));
  }
  const key = `${experiment.id}/${one.algorithm}/${one.fingerprint}`;
  const fillIn = () => made.append(list(data, one, key, true));
  if (!one.part_of.length) fillIn();
  else {
    if (opened.has("parts " + key)) (made.open = true), fillIn();
    made.addEventListener("toggle", () => {
      if (made.open && !opened.has("parts " + key)) fillIn();
      if (made.open) opened.add("parts " + key);
    });
  }
  return made;
}

function experimentOf(data, one) {
  const words = data.words;
  const made = make("section", "experiment");
  made.append(make("h2", "", one.name));
  if (one.answers.length) {
    made.append(make("h3", "", words.answers));
    for (const run of one.answers) made.append(row(data, run, 0));
  }
  for (const found of one.groups) made.append(group(data, found, one));
  if (one.rest.count) {
    const rest = make("details", "");
    rest.open = opened.has(`${one.id}/rest`);
    rest.append(make("summary", "", `${words.rest} (${one.rest.count})`), make("p", "small", words.rest_help));
    rest.append(list(data, one.rest, `${one.id}/rest`, false));
    made.append(rest);
  }
  return made;
}

function empty(words) {
  const made = make("section", "empty");
  made.append(make("p", "", words.empty), make("pre", "", "fashion-ml demo"), make("p", "", words.empty_more));
  made.append(make("pre", "", "fashion-ml train lora --config experiments/lora/sd15_fashion.yaml --train-data-dir DIR"));
  return made;
}

function notice(text) {
  const place = document.getElementById("notice");
  place.hidden = !text;
  place.textContent = text;
}

function draw(data) {
  const words = data.words;
  document.title = `fashion-ml: ${words.title}`;
  document.querySelector("h1").textContent = words.title;
  document.getElementById("store").textContent = `${words.store}: ${data.store}`;
  const mlflow = document.getElementById("mlflow");
  mlflow.textContent = words.mlflow;
  mlflow.href = data.mlflow;
  notice(data.problem ? fill(words.away, { why: data.problem }) : data.reading ? fill(words.reading, { n: data.runs }) : "");
  const main = document.getElementById("main");
  const made = data.experiments.map((one) => experimentOf(data, one));
  if (!made.length && !data.reading) made.push(empty(words));
  main.replaceChildren(...made);
  fold();
  main.dataset.runs = data.runs;
  main.dataset.ready = String(!data.reading);
}

let last, whole = false;
async function load() {
  let text;
  try {
    const answer = await fetch("/page/data.json" + (whole ? "?whole" : ""), { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    text = await answer.text();
  } catch (error) {
    notice(last ? last.words.gone : "The server has ended. Start it again: fashion-ml ui");
    return;
  }
  last = JSON.parse(text);
  const now = text + [...opened].join();
  if (now !== shown) draw(last);
  shown = now;
  if (last.reading) setTimeout(load, 1000);
}

window.addEventListener("resize", fold);
document.addEventListener("toggle", () => requestAnimationFrame(fold), true); // what was folded has no size before
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && load());
load();
