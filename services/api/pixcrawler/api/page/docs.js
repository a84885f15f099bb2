// The API's description, `/openapi.json`, to read. Nothing of it comes from elsewhere.

import { failure, h } from "./dom.js";

const VERBS = ["get", "post", "put", "patch", "delete"];
const main = document.getElementById("main");

async function show() {
  try {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`The description cannot be read (${response.status}).`);
    draw(await response.json());
  } catch (error) {
    main.replaceChildren(failure(error, show));
  }
}

function draw(api) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const verb of VERBS.filter((one) => one in methods)) {
      const operation = methods[verb];
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(article(api, path, verb, operation));
    }
  }
  main.replaceChildren(h("div", {},
    h("h1", {}, `${api.info.title} API`),
    prose(api.info.description),
    [...groups].map(([tag, articles]) => h("section", { "aria-label": tag }, h("h2", {}, tag), articles)),
    h("section", { "aria-label": "Schemas" }, h("h2", {}, "Schemas"), Object.entries(api.components?.schemas ?? {}).map(([name, schema]) =>
      h("article", { id: `schema-${name}` }, h("details", {}, h("summary", {}, h("code", {}, name)), prose(schema.description), schemaTable(schema))))),
  ));
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

function article(api, path, verb, operation) {
  const parameters = operation.parameters ?? [];
  const body = operation.requestBody?.content ?? {};
  return h(
    "article",
    { id: operation.operationId },
    h(
      "details",
      {},
      h("summary", {}, h("span", { class: `verb ${verb}` }, verb.toUpperCase()), h("code", {}, path), h("span", { class: "hint" }, operation.summary ?? "")),
      prose(operation.description),
      parameters.length ? [h("h3", {}, "Parameters"), parameterTable(parameters)] : null,
      Object.entries(body).map(([type, media]) => [h("h3", {}, "Body ", h("code", {}, type)), typeOf(media.schema), examples(media)]),
      h("h3", {}, "Answers"),
      h("ul", {}, Object.entries(operation.responses ?? {}).map(([status, response]) => {
        const [type, media] = Object.entries(response.content ?? {})[0] ?? [];
        const said = h("li", {}, h("b", {}, status), ` ${response.description ?? ""} `, type ? [h("code", {}, type), " ", typeOf(media.schema)] : null);
        if (media && Number(status) < 300) said.append(...examples(media));
        return said;
      })),
      h("h3", {}, "Example"),
      h("pre", { tabindex: 0 }, curl(api, path, verb, body["application/json"])),
    ),
  );
}

/** Paragraphs; code between backticks. */
function prose(text) {
  if (!text) return null;
  return text.trim().split(/\n\s*\n/).map((paragraph) => h("p", {}, paragraph.split(/(`[^`]+`)/).map((part) => (part.startsWith("`") ? h("code", {}, part.slice(1, -1)) : part))));
}

function parameterTable(parameters) {
  return h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, parameters.map((one) => h(
    "tr",
    {},
    h("th", { scope: "row" }, h("code", {}, one.name), one.required ? h("div", { class: "hint" }, "required") : null),
    h("td", {}, one.in),
    h("td", {}, typeOf(one.schema)),
    h("td", {}, prose(one.description)),
  )))));
}

function schemaTable(schema) {
  if (!schema.properties) return h("p", {}, typeOf(schema));
  const required = new Set(schema.required ?? []);
  return h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, Object.entries(schema.properties).map(([name, one]) => h(
    "tr",
    {},
    h("th", { scope: "row" }, h("code", {}, name), required.has(name) ? h("div", { class: "hint" }, "required") : null),
    h("td", {}, typeOf(one)),
    h("td", {}, "default" in one ? h("code", {}, JSON.stringify(one.default)) : null),
    h("td", {}, prose(one.description)),
  )))));
}

/** A type in words; what has a name leads to it. */
function typeOf(schema) {
  if (!schema) return "anything";
  if (schema.$ref) {
    const name = schema.$ref.split("/").at(-1);
    return h("a", { href: `#schema-${name}`, on: { click: () => document.getElementById(`schema-${name}`)?.querySelector("details")?.setAttribute("open", "") } }, name);
  }
  const some = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (some) return some.flatMap((one, index) => (index ? [" or ", typeOf(one)] : [typeOf(one)]));
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return ["list of ", schema.items ? typeOf(schema.items) : "anything"].flat();
  const limits = [["minimum", "≥"], ["maximum", "≤"], ["maxLength", "at most"]].filter(([name]) => name in schema).map(([name, sign]) => `${sign} ${schema[name]}`);
  return [schema.type ?? "anything", schema.format ? ` (${schema.format})` : "", limits.length ? ` ${limits.join(", ")}` : ""].join("");
}

function examples(media) {
  const found = media.example !== undefined ? [media.example] : Object.values(media.examples ?? {}).map((one) => one.value);
  return found.map((one) => h("pre", { tabindex: 0 }, typeof one === "string" ? one : JSON.stringify(one, null, 2)));
}

function curl(api, path, verb, body) {
  const method = verb === "get" ? "" : `-X ${verb.toUpperCase()} `;
  const example = body && (body.example ?? Object.values(body.examples ?? {})[0]?.value);
  const data = example ? ` \\\n  -H 'Content-Type: application/json' -d '${JSON.stringify(example).replaceAll("'", "'\\''")}'` : "";
  return `curl ${method}-H "Authorization: Bearer $KEY" '${location.origin}${path}'${data}`;
}

show();
