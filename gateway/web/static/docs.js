// The API reference, drawn from /openapi.json. Everything comes from that document; nothing from other servers.

import { byId, make } from "./dom.js";

const HIDDEN = ["HTTPValidationError", "ValidationError"];
const ORDER = ["get", "post", "put", "patch", "delete"];

async function begin() {
  const api = await (await fetch("/openapi.json")).json();
  byId("introduction").replaceChildren(...prose(api.info.description));
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    ORDER.filter((method) => item[method]).map((method) => ({ path, method: method.toUpperCase(), ...item[method] })),
  );
  for (const tag of api.tags) {
    const ofTag = operations.filter((one) => one.tags?.includes(tag.name));
    byId("contents").append(make("h2", { text: tag.name }), make("ul", {}, ...ofTag.map(entry)));
    byId("operations").append(...ofTag.map((one) => operation(one, api)));
  }
  const shared = Object.entries(api.components.schemas).filter(([name, one]) => one.properties && !HIDDEN.includes(name));
  byId("contents").append(make("h2", { text: "objects" }), make("ul", {}, ...shared.map(([name]) => make("li", {}, typeLink(name)))));
  byId("operations").append(...shared.map(([name, one]) => object(name, one, api)));
  if (location.hash) document.querySelector(location.hash)?.scrollIntoView();
}

function entry(one) {
  return make("li", {}, make("a", { href: `#${one.operationId}` }, method(one.method), make("span", { text: one.summary })));
}

const method = (name) => make("span", { class: "method", "data-method": name, text: name });

function operation(one, api) {
  const body = one.requestBody?.content?.["application/json"];
  const [success] = Object.entries(one.responses).filter(([status]) => status.startsWith("2"));
  return make(
    "article",
    { class: "card operation", id: one.operationId, "aria-labelledby": `${one.operationId}-title` },
    make("h3", { id: `${one.operationId}-title`, text: one.summary }),
    make("p", { class: "route" }, method(one.method), make("code", { text: one.path })),
    ...prose(one.description ?? ""),
    ...section("Parameters", parameters(one.parameters)),
    ...section("Request body", body && fields(body.schema, api)),
    ...section("Example", body && sample(example(body.schema, api))),
    ...section(`Answer ${success?.[0] ?? ""}`, success && answer(success[1], api)),
    ...section("Problems", problems(one.responses)),
  );
}

function object(name, schema, api) {
  return make(
    "article",
    { class: "card operation", id: `object-${name}`, "aria-labelledby": `object-${name}-title` },
    make("h3", { id: `object-${name}-title`, text: name }),
    ...prose(schema.description ?? ""),
    fields(schema, api),
  );
}

const typeLink = (name) => make("a", { href: `#object-${name}`, text: name });

function section(title, content) {
  return content ? [make("h4", { text: title }), content] : [];
}

/** Paragraphs, numbered lists and `code` of the little Markdown that the descriptions use. */
function prose(text) {
  return text
    .trim()
    .split(/\n\s*\n/)
    .filter(Boolean)
    .map((block) => {
      const lines = block.split("\n").map((line) => line.trim());
      if (lines.every((line) => /^\d+\. /.test(line))) {
        return make("ol", { class: "steps" }, ...lines.map((line) => make("li", {}, ...inline(line.replace(/^\d+\. /, "")))));
      }
      return make("p", {}, ...inline(lines.join(" ")));
    });
}

function inline(text) {
  return text.split("`").map((piece, index) => (index % 2 ? make("code", { text: piece }) : piece));
}

function table(head, rows) {
  if (!rows.length) return null;
  return make(
    "div",
    { class: "scroll" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col", text })))),
      make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, ...[cell].flat()))))),
    ),
  );
}

function parameters(list = []) {
  return table(
    ["Name", "In", "Type", "Meaning"],
    list.map((one) => [
      make("code", { text: one.name }),
      one.in,
      typeName(one.schema),
      inline((one.required ? "Required. " : "") + (one.description ?? "")),
    ]),
  );
}

function resolve(schema, api) {
  return schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function fields(schema, api) {
  const { properties, required = [] } = resolve(schema, api) ?? {};
  if (!properties) return null;
  return table(
    ["Member", "Type", "Meaning"],
    Object.entries(properties).map(([name, one]) => [
      make("code", { text: name }),
      typeName(one),
      inline((required.includes(name) ? "" : "Optional. ") + (one.description ?? resolve(one, api)?.description ?? "")),
    ]),
  );
}

/** A type as nodes, since named ones are links. */
function typeName(schema = {}) {
  if (schema.$ref) return [typeLink(schema.$ref.split("/").pop())];
  if (schema.anyOf) return schema.anyOf.flatMap((one, index) => (index ? [" or ", ...typeName(one)] : typeName(one)));
  if (schema.enum) return [schema.enum.join(" | ")];
  if (schema.type === "array") return ["list of ", ...typeName(schema.items)];
  return [schema.format ? `${schema.type} (${schema.format})` : (schema.type ?? "any")];
}

function example(schema, api) {
  const resolved = resolve(schema, api) ?? {};
  if (resolved.examples?.length) return resolved.examples[0];
  if (resolved.anyOf) return example(resolved.anyOf[0], api);
  if (resolved.properties) {
    return Object.fromEntries(Object.entries(resolved.properties).map(([name, one]) => [name, example(one, api)]));
  }
  if (resolved.type === "array") return [example(resolved.items, api)];
  if (resolved.enum) return resolved.enum[0];
  if (resolved.format === "date-time") return "2026-01-31T12:00:00Z";
  return { integer: 1, number: 1, boolean: true, object: {} }[resolved.type] ?? "…";
}

function answer(response, api) {
  const [content] = Object.entries(response.content ?? {});
  if (!content) return make("p", { text: response.description });
  const [contentType, { schema, example: given }] = content;
  if (contentType === "application/json") return fields(schema, api) ?? make("p", { text: response.description });
  return make("div", { class: "operations" }, make("p", { text: response.description }), given ? sample(given) : null);
}

function sample(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return make("pre", { tabindex: 0, "aria-label": "Example", text });
}

function problems(responses) {
  const rows = Object.entries(responses).filter(([status, one]) => one.content?.["application/problem+json"] && Number(status) >= 400);
  return table(["Status", "When"], rows.map(([status, one]) => [make("code", { text: status }), inline(one.description)]));
}

begin();
